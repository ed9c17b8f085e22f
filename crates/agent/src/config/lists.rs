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

/// The value that [`extend`] makes this list of.
pub fn join(list: &[String]) -> String {
    match list {
        // An empty name alone is a list that has an entry, and must not come back as the list that has none.
        [name] if name.is_empty() => " ".to_owned(),
        list => list.join(","),
    }
}

/// Commands of QEMU 11.1's agent on Linux. A list may name one that this agent does not have, or not yet: blocking it
/// changes nothing, and it is no slip of the pen.
const ELSEWHERE: [&str; 43] = [
    "guest-exec",
    "guest-exec-status",
    "guest-file-close",
    "guest-file-flush",
    "guest-file-open",
    "guest-file-read",
    "guest-file-seek",
    "guest-file-write",
    "guest-fsfreeze-freeze",
    "guest-fsfreeze-freeze-list",
    "guest-fsfreeze-status",
    "guest-fsfreeze-thaw",
    "guest-fstrim",
    "guest-get-cpustats",
    "guest-get-disks",
    "guest-get-diskstats",
    "guest-get-fsinfo",
    "guest-get-host-name",
    "guest-get-load",
    "guest-get-memory-block-info",
    "guest-get-memory-blocks",
    "guest-get-osinfo",
    "guest-get-time",
    "guest-get-timezone",
    "guest-get-users",
    "guest-get-vcpus",
    "guest-info",
    "guest-network-get-interfaces",
    "guest-network-get-route",
    "guest-ping",
    "guest-set-memory-blocks",
    "guest-set-time",
    "guest-set-user-password",
    "guest-set-vcpus",
    "guest-shutdown",
    "guest-ssh-add-authorized-keys",
    "guest-ssh-get-authorized-keys",
    "guest-ssh-remove-authorized-keys",
    "guest-suspend-disk",
    "guest-suspend-hybrid",
    "guest-suspend-ram",
    "guest-sync",
    "guest-sync-delimited",
];

/// One line for each name in `list` that is no command: a misspelt block list must not fail silently.
pub fn complaints(list: &[String], which: &str, known: &[&str]) -> Vec<String> {
    let is_known = |name: &str| known.contains(&name) || ELSEWHERE.contains(&name);
    let unknown = list.iter().filter(|name| !is_known(name));
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
    fn what_is_joined_is_the_same_list_again() {
        for value in ["", " ", ",", "a", "a,b", "a,,b,", ",a"] {
            assert_eq!(names(&join(&names(value))), names(value), "{value:?}");
        }
    }

    #[test]
    fn sources_accumulate() {
        let mut list = names("a,b");
        extend(&mut list, "c");
        assert_eq!(list, ["a", "b", "c"]);
    }

    #[test]
    fn each_unknown_name_is_named() {
        let known = ["guest-ping", "guest-info", "guest-ours"];
        assert!(complaints(&names("guest-info,guest-ping,guest-ours,guest-set-time"), "block", &known).is_empty());
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
