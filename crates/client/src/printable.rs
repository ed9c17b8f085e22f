//! Text from a guest, made harmless for a terminal.

use std::fmt::Write;

/// The text with everything escaped that could move a cursor, set a colour or turn the direction of writing: a
/// guest must not be able to fake what its host's operator reads. Line ends are escaped too; a tab stays.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let direction = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c != '\t' && (c.is_control() || direction || matches!(c, '\u{2028}' | '\u{2029}')) {
            // Writing to a string cannot fail.
            let _ = if c.is_ascii() { write!(out, "\\x{:02x}", c as u32) } else { write!(out, "\\u{:04x}", c as u32) };
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn no_escape_sequence_gets_through() {
        assert_eq!(printable("\x1b[2Jgone\r\n\u{9b}31m\u{202e}\u{7f}"), "\\x1b[2Jgone\\x0d\\x0a\\u009b31m\\u202e\\x7f");
    }

    #[test]
    fn ordinary_text_of_any_language_stays() {
        assert_eq!(printable("Größe\t→ 大きさ"), "Größe\t→ 大きさ");
    }
}
