//! Lists of command names.

/// Appends the names of `value`, which are separated by commas; blanks around a name do not belong to it.
///
/// An empty value holds no name. Otherwise empty names are kept: an allow list of `,` allows nothing, and must not
/// turn into one that allows everything.
pub fn extend(list: &mut Vec<String>, value: &str) {
    if !value.is_empty() {
        list.extend(value.split(',').map(|name| name.trim().to_owned()));
    }
}

/// One line for each name in `list` that is no command: a misspelt block list must not fail silently.
pub fn complaints(list: &[String], which: &str, known: &[&str]) -> Vec<String> {
    let unknown = list.iter().filter(|name| !known.contains(&name.as_str()));
    unknown
        .map(|name| {
            let hint = if name.is_empty() {
                " (an empty name)"
            } else if name.contains(';') {
                " (names are separated by ',')"
            } else {
                ""
            };
            format!("unknown command '{name}' in the {which} list{hint}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(value: &str) -> Vec<String> {
        let mut list = Vec::new();
        extend(&mut list, value);
        list
    }

    #[test]
    fn names_are_split_at_commas_and_lose_blanks_around_them() {
        assert_eq!(names("a,b"), ["a", "b"]);
        assert_eq!(names(" a ,\tb "), ["a", "b"]);
        assert_eq!(names("a;b;c"), ["a;b;c"]);
        assert_eq!(names(""), [""; 0]);
    }

    #[test]
    fn an_allow_list_of_nothing_but_separators_does_not_become_an_empty_list() {
        assert_eq!(names(" "), [""]);
        assert_eq!(names(","), ["", ""]);
    }

    #[test]
    fn sources_accumulate() {
        let mut list = names("a,b");
        extend(&mut list, "c");
        assert_eq!(list, ["a", "b", "c"]);
    }

    #[test]
    fn each_unknown_name_is_named() {
        let known = ["guest-ping", "guest-info"];
        assert!(complaints(&names("guest-info,guest-ping"), "block", &known).is_empty());
        assert_eq!(
            complaints(&names("guest-info,guest-pnig,a;b,"), "block", &known),
            [
                "unknown command 'guest-pnig' in the block list",
                "unknown command 'a;b' in the block list (names are separated by ',')",
                "unknown command '' in the block list (an empty name)",
            ]
        );
    }
}
