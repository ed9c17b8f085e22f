//! The key-file dialect of the configuration and state files, as GLib reads it.
//!
//! `#` starts a comment line, `;` does not. White space before a key, around the first `=` and after a group header
//! does not count; white space at the end of a value belongs to it. A later value replaces an earlier one, and a
//! group may come in several pieces.

/// The pairs of a file, in order; values are as they stand in the file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct KeyFile {
    groups: Vec<Group>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    pairs: Vec<(String, Vec<u8>)>,
}

impl KeyFile {
    /// Reads a whole file. The error is a text for people.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut file = KeyFile::default();
        let mut current: Option<usize> = None;
        for line in text.split_inclusive(|b| *b == b'\n') {
            let line = match line.strip_suffix(b"\n") {
                Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
                None => line,
            };
            let line = line.trim_ascii_start();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            if let Some(name) = group_header(line) {
                current = Some(file.enter(name)?);
            } else if let Some((key, value)) = pair(line) {
                let group = current.and_then(|i| file.groups.get_mut(i));
                let Some(group) = group else { return Err("Key file does not start with a group".into()) };
                let key = lossy(key);
                if !is_key(&key) {
                    return Err(format!("Invalid key name: {key}"));
                }
                group.pairs.push((key, value.to_vec()));
            } else {
                return Err(format!(
                    "Key file contains line “{}” which is not a key-value pair, group, or comment",
                    lossy(line)
                ));
            }
        }
        Ok(file)
    }

    fn enter(&mut self, name: &[u8]) -> Result<usize, String> {
        let shown = lossy(name);
        if name.is_empty() || shown.contains(['[', ']']) || name.iter().any(u8::is_ascii_control) {
            return Err(format!("Invalid group name: {shown}"));
        }
        let name = shown;
        if let Some(at) = self.groups.iter().position(|g| g.name == name) {
            return Ok(at);
        }
        self.groups.push(Group { name, pairs: Vec::new() });
        Ok(self.groups.len() - 1)
    }

    /// The names of the groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|g| g.name.as_str())
    }

    /// The keys of a group, repeated ones as often as they stand there.
    pub fn keys(&self, group: &str) -> impl Iterator<Item = &str> {
        let group = self.groups.iter().find(|g| g.name == group);
        group.into_iter().flat_map(|g| g.pairs.iter().map(|(key, _)| key.as_str()))
    }

    /// The value as UTF-8 text, escapes left alone.
    fn raw(&self, group: &str, key: &str) -> Result<Option<&str>, String> {
        let group = self.groups.iter().find(|g| g.name == group);
        let Some((_, value)) = group.and_then(|g| g.pairs.iter().rev().find(|(k, _)| k == key)) else {
            return Ok(None);
        };
        match std::str::from_utf8(value) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(format!("Key file contains key “{key}” with value “{}” which is not UTF-8", lossy(value))),
        }
    }

    /// A string value with its escapes resolved; None if the key is not there.
    pub fn string(&self, group: &str, key: &str) -> Result<Option<String>, String> {
        self.raw(group, key)?.map(|value| unescape(value).ok_or_else(|| uninterpretable(key))).transpose()
    }

    /// A boolean value: exactly `true`, `false`, `1` or `0`; white space after it is allowed here.
    pub fn boolean(&self, group: &str, key: &str) -> Result<Option<bool>, String> {
        match self.raw(group, key)?.map(str::trim_ascii_end) {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(uninterpretable(key)),
        }
    }

    /// A decimal number; white space after it is allowed.
    pub fn integer(&self, group: &str, key: &str) -> Result<Option<i64>, String> {
        self.raw(group, key)?.map(|v| v.trim_end().parse().map_err(|_| uninterpretable(key))).transpose()
    }
}

pub(super) fn uninterpretable(key: &str) -> String {
    format!("Key file contains key “{key}” which has a value that cannot be interpreted.")
}

/// `[name]`, with nothing but white space after it.
fn group_header(line: &[u8]) -> Option<&[u8]> {
    line.trim_ascii_end().strip_prefix(b"[")?.strip_suffix(b"]")
}

fn pair(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|b| *b == b'=').filter(|at| *at > 0)?;
    let (key, value) = line.split_at_checked(at)?;
    Some((key.trim_ascii_end(), value.get(1..)?.trim_ascii_start()))
}

/// Brackets may only enclose a locale at the end, as in `name[de]`.
fn is_key(key: &str) -> bool {
    let name = match key.strip_suffix(']') {
        Some(rest) => rest.split_once('[').map(|(name, _)| name),
        None => Some(key),
    };
    name.is_some_and(|name| !name.is_empty() && !name.contains(['[', ']']))
}

/// Text for an error message: no control characters, whatever the file holds.
fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace(char::is_control, "\u{fffd}")
}

fn unescape(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                's' => ' ',
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            // No path or name can hold it.
            '\0' => return None,
            c => c,
        });
    }
    Some(out)
}

/// A string as it is written into a file: the reverse of what [`KeyFile::string`] resolves.
pub fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut leading = true;
    for c in value.chars() {
        // White space is only skipped, and so has to be protected, at the beginning.
        match c {
            ' ' if leading => out.push_str("\\s"),
            '\t' if leading => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\\' => out.push_str("\\\\"),
            c => out.push(c),
        }
        leading &= matches!(c, ' ' | '\t');
    }
    out
}

#[cfg(test)]
mod tests;
