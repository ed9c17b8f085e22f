//! os-release(5): which distribution this is.

use std::path::Path;

use super::root::Root;

/// Where it is; the first that can be read counts.
const FILES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// The assignments of a file, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OsRelease(Vec<(String, String)>);

impl OsRelease {
    /// Reads it; from `instead` and nowhere else when that is given. Empty when there is no file.
    pub fn read(root: &Root, instead: Option<&Path>) -> Self {
        let content = match instead {
            Some(file) => std::fs::read(file).ok(),
            None => FILES.into_iter().find_map(|file| root.read(file).ok()),
        };
        Self::parse(&String::from_utf8_lossy(&content.unwrap_or_default()))
    }

    /// Takes every line of the text that is an assignment, whatever the others are.
    pub fn parse(text: &str) -> Self {
        let assignment = |line: &str| {
            let line = line.trim();
            let (key, rest) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
            Some((key.trim_end().to_owned(), value(rest.trim_start())))
        };
        OsRelease(text.lines().filter_map(assignment).collect())
    }

    /// Keys and values as they stand there, without the quotes.
    pub fn assignments(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The value of a key; of the last one if there are several.
    pub fn get(&self, key: &str) -> Option<String> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }
}

/// A value without its quotes. The format is a shell's, but one quoted string is all that it allows.
fn value(text: &str) -> String {
    if let Some(rest) = text.strip_prefix('\'') {
        return rest.split('\'').next().unwrap_or_default().to_owned();
    }
    let Some(rest) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ';']).unwrap_or(text.len());
        return text.get(..end).unwrap_or_default().to_owned();
    };
    let mut value = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some(escaped @ ('$' | '\'' | '"' | '\\' | '`')) => value.push(escaped),
                Some(other) => value.extend(['\\', other]),
                None => value.push('\\'),
            },
            other => value.push(other),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn values_are_quoted_as_the_specification_says() {
        for (text, expected) in [
            ("debian", "debian"),
            ("\"Debian GNU/Linux 12 (bookworm)\"", "Debian GNU/Linux 12 (bookworm)"),
            ("'Foo Bar'", "Foo Bar"),
            ("'a\\\"b$c'", "a\\\"b$c"),
            ("\"Foo \\\"Bar\\\" \\$5 \\`x\\` \\\\ \\n end\" # comment", "Foo \"Bar\" $5 `x` \\ \\n end"),
            ("\"unterminated", "unterminated"),
            ("'unterminated", "unterminated"),
            ("\"ends in \\", "ends in \\"),
            ("12 ; x", "12"),
            ("server;junk", "server"),
            ("", ""),
            ("\"\"", ""),
            ("\"a\"b\"c\"", "a"),
            ("\"Grüße\"", "Grüße"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn a_line_that_is_none_spoils_no_other() {
        let release = OsRelease::parse(
            "# ID=comment\n\n  NAME = \"A\"\r\nno assignment\nVERSION_ID = 12 ; x\nID=a\nID=b\nVARIANT_ID=\nexport X=y",
        );
        let get = |key| release.get(key);
        assert_eq!(get("NAME").as_deref(), Some("A"));
        assert_eq!(get("VERSION_ID").as_deref(), Some("12"));
        assert_eq!(get("ID").as_deref(), Some("b"));
        assert_eq!(get("VARIANT_ID").as_deref(), Some(""));
        assert_eq!(get("VARIANT"), None);
        assert_eq!(get("# ID"), None);
    }

    #[test]
    fn the_file_in_etc_comes_first_and_need_not_be_utf_8() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        let id = |instead: Option<&Path>| OsRelease::read(&root, instead).get("ID");
        assert_eq!(id(None), None);
        fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        fs::write(dir.path().join("usr/lib/os-release"), "ID=vendor\n").unwrap();
        assert_eq!(id(None).as_deref(), Some("vendor"));
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/os-release"), b"NAME=\"\xff\"\nID=admin\n").unwrap();
        assert_eq!(id(None).as_deref(), Some("admin"));
        let other = dir.path().join("other");
        fs::write(&other, "ID=other\n").unwrap();
        assert_eq!(id(Some(&other)).as_deref(), Some("other"));
        assert_eq!(id(Some(Path::new("/nonexistent"))), None);
    }
}
