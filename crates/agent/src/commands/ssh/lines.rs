//! The lines of an `authorized_keys` file. They are bytes: what others have written there is nobody's to repair.

use std::borrow::Cow;

/// The lines with keys, the last one first: clients know them in the C agent's order.
pub(super) fn keys(content: &[u8]) -> Vec<String> {
    let lines = content.split(|&b| b == b'\n').rev().map(<[u8]>::trim_ascii);
    let keys = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    keys.map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

/// The content with those keys appended that are no whole line of it yet; none when there is nothing to append.
///
/// An empty key is none, here and in [`removed`]: virsh takes what follows the last newline of its file for a key.
pub(super) fn added(content: &[u8], keys: &[Cow<'_, str>]) -> Option<Vec<u8>> {
    let mut lines: Vec<&[u8]> = content.split(|&b| b == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        // The end of the last line, and no line itself.
        lines.pop();
    }
    let mut new = content.to_vec();
    let before = lines.len();
    for key in keys.iter().map(|key| key.as_bytes()) {
        if key.is_empty() || lines.contains(&key) {
            continue;
        }
        lines.push(key);
        if !new.is_empty() && !new.ends_with(b"\n") {
            new.push(b'\n');
        }
        new.extend_from_slice(key);
        new.push(b'\n');
    }
    (lines.len() > before).then_some(new)
}

/// The content without the lines that are one of the keys; none when there is no such line.
pub(super) fn removed(content: &[u8], keys: &[Cow<'_, str>]) -> Option<Vec<u8>> {
    let is_kept = |line: &&[u8]| {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        text.is_empty() || !keys.iter().any(|key| key.as_bytes() == text)
    };
    let mut kept: Vec<u8> = content.split_inclusive(|&b| b == b'\n').filter(is_kept).flatten().copied().collect();
    if kept.len() == content.len() {
        return None;
    }
    if !kept.is_empty() && !kept.ends_with(b"\n") {
        kept.push(b'\n');
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(keys: &[&'a str]) -> Vec<Cow<'a, str>> {
        keys.iter().map(|key| Cow::Borrowed(*key)).collect()
    }

    #[track_caller]
    fn adds(before: &str, keys: &[&str], after: Option<&str>) {
        let new = added(before.as_bytes(), &of(keys));
        assert_eq!(new.as_deref().map(String::from_utf8_lossy).as_deref(), after);
    }

    #[track_caller]
    fn removes(before: &str, keys: &[&str], after: Option<&str>) {
        let new = removed(before.as_bytes(), &of(keys));
        assert_eq!(new.as_deref().map(String::from_utf8_lossy).as_deref(), after);
    }

    #[test]
    fn keys_are_told_last_first_without_comments_and_blanks() {
        assert_eq!(keys(b"# c\nssh-rsa A a\n\n  ssh-rsa B b  \n"), ["ssh-rsa B b", "ssh-rsa A a"]);
        assert_eq!(keys(b"ssh-rsa A a\r\n  # c\r\n\t\r\nssh-rsa B b"), ["ssh-rsa B b", "ssh-rsa A a"]);
        assert_eq!(keys(b"x\0y\nz\xff\n"), ["z\u{fffd}", "x\0y"]);
        assert!(keys(b"").is_empty() && keys(b"\n\n").is_empty());
    }

    #[test]
    fn keys_are_added_behind_what_is_there_and_the_file_ends_in_a_newline() {
        adds("", &["A", "B"], Some("A\nB\n"));
        adds("A\nB", &["B", "C", "C"], Some("A\nB\nC\n"));
        adds("# c\nA\n\n  B  \n", &["N"], Some("# c\nA\n\n  B  \nN\n"));
        adds("A\r\nB\r\n", &["A"], Some("A\r\nB\r\nA\n"));
        adds("A\n\n", &["B"], Some("A\n\nB\n"));
        adds("x\0y\nz", &["q"], Some("x\0y\nz\nq\n"));
    }

    #[test]
    fn nothing_is_changed_when_all_keys_are_there() {
        adds("A\nB\n", &["B", "A"], None);
        adds("A\nB", &["B"], None);
        adds("A", &[], None);
        adds("", &[], None);
    }

    #[test]
    fn an_empty_key_is_none() {
        adds("A\n", &["B", ""], Some("A\nB\n"));
        adds("A", &[""], None);
        removes("A\n\nB\n", &["A", ""], Some("\nB\n"));
        removes("A\n\nB", &[""], None);
    }

    #[test]
    fn all_lines_that_are_the_key_are_removed_and_no_others() {
        removes("A\nB\nA\n# A\n A\nAA\n", &["A"], Some("B\n# A\n A\nAA\n"));
        removes("A\nB\nC", &["B"], Some("A\nC\n"));
        removes("A\nB", &["B"], Some("A\n"));
        removes("A\n", &["A"], Some(""));
        removes("# c\nA\n\n  B  \n", &["B"], None);
        removes("A\r\n", &["A"], None);
        removes("A", &[], None);
    }
}
