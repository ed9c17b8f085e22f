//! What a line looks like.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::SystemTime;

use ::log::Level;

/// The most that is written for one line, its end included. A pipe takes that much at once or not at all.
pub(super) const MAX_LINE: usize = 4096;

/// The C agent's name of a level; its `message` has no counterpart.
pub(super) fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "critical",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    }
}

/// The severity of syslog and of the journal.
pub(super) fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// `<seconds>.<microseconds>: <level>: <text>`, seconds since 1970 in UTC, with the line end.
pub(super) fn stamped(now: SystemTime, level: Level, text: &str) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let head = format!("{}.{:06}: {}: ", since.as_secs(), since.subsec_micros(), level_name(level));
    finish(head, text)
}

/// `<N><text>`, which the journal takes as a line of severity N; it keeps the time itself.
pub(super) fn for_journal(level: Level, text: &str) -> String {
    finish(format!("<{}>", severity(level)), text)
}

fn finish(head: String, text: &str) -> String {
    let mut line = finish_datagram(head, text);
    line.push('\n');
    line
}

/// The text after its head, without a line end, cut if too long.
pub(super) fn finish_datagram(mut line: String, text: &str) -> String {
    const CUT: &str = " [cut]";
    if line.len() + text.len() < MAX_LINE {
        line.push_str(text);
    } else {
        let room = MAX_LINE.saturating_sub(line.len() + CUT.len() + 1);
        let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        line.push_str(text.get(..end).unwrap_or_default());
        line.push_str(CUT);
    }
    line
}

/// The text with everything escaped that could end the line, steer a terminal, or make it read otherwise than it is:
/// a host chooses file names and arguments, and must not be able to forge lines.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(unsafe_to_show) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii() && unsafe_to_show(c) => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if unsafe_to_show(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Control characters (C0, DEL, C1), the Unicode line ends, and the marks that turn the writing direction around.
fn unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_has_the_c_agents_form() {
        let now = SystemTime::UNIX_EPOCH + Duration::new(1_795_351_441, 1_002_003);
        assert_eq!(stamped(now, Level::Error, "no way"), "1795351441.001002: critical: no way\n");
        assert_eq!(stamped(now, Level::Warn, "x"), "1795351441.001002: warning: x\n");
        assert_eq!(stamped(now, Level::Info, "x"), "1795351441.001002: info: x\n");
        assert_eq!(stamped(now, Level::Trace, "x"), "1795351441.001002: debug: x\n");
        assert_eq!(for_journal(Level::Warn, "x"), "<4>x\n");
    }

    #[test]
    fn no_text_can_forge_a_second_line_or_steer_a_terminal() {
        let table = [
            ("plain text, ünïcode, C:\\path", "plain text, ünïcode, C:\\path"),
            ("/tmp/a\n1.000000: critical: forged", "/tmp/a\\n1.000000: critical: forged"),
            ("a\r\tb", "a\\r\\tb"),
            ("\u{1b}[2J\u{7}\0\u{7f}", "\\x1b[2J\\x07\\x00\\x7f"),
            ("\u{9b}31m\u{85}\u{2028}", "\\u{9b}31m\\u{85}\\u{2028}"),
            ("a\u{202e}txt.exe", "a\\u{202e}txt.exe"),
        ];
        for (text, shown) in table {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn a_long_line_is_cut_between_two_characters_and_says_so() {
        let now = SystemTime::UNIX_EPOCH;
        for text in ["é".repeat(MAX_LINE), format!("x{}", "é".repeat(MAX_LINE))] {
            let line = stamped(now, Level::Info, &text);
            assert!(line.len() <= MAX_LINE && line.len() > MAX_LINE - 4);
            assert!(line.ends_with("é [cut]\n"));
        }
        let fits = "x".repeat(MAX_LINE - for_journal(Level::Info, "").len());
        assert_eq!(for_journal(Level::Info, &fits), format!("<6>{fits}\n"));
    }
}
