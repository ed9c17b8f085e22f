//! What a command in the guest prints, on its way to the terminal.

use std::io::{self, IsTerminal};

use qga_client::printable;
use qga_proto::base64;
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::json;
use crate::output::Printer;

/// Longest line that is waited for where lines are kept together, in bytes.
const LINE_MAX: usize = 64 << 10;

/// Shows the two streams of one target.
#[derive(Debug)]
pub(crate) struct Show<'a> {
    printer: &'a Printer,
    target: &'a str,
    out: Stream,
    err: Stream,
}

/// One of the streams.
#[derive(Debug)]
struct Stream {
    name: &'static str,
    /// Whether control characters are made harmless.
    is_filtered: bool,
    /// What waits for its other half.
    rest: Vec<u8>,
}

impl<'a> Show<'a> {
    /// Shows what this target's command prints; a terminal gets no control characters unless `is_raw`.
    pub(crate) fn new(printer: &'a Printer, target: &'a str, is_raw: bool) -> Self {
        let stream = |name, is_terminal| Stream { name, is_filtered: is_terminal && !is_raw, rest: Vec::new() };
        let (out, err) = (stream("stdout", io::stdout().is_terminal()), stream("stderr", io::stderr().is_terminal()));
        Show { printer, target, out, err }
    }

    /// Whether the output is for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.printer.is_json()
    }

    /// Whether targets are told apart.
    pub(crate) fn is_many(&self) -> bool {
        self.printer.is_many()
    }

    /// Whether nobody reads what is printed any more.
    pub(crate) fn is_unread(&self) -> bool {
        self.printer.is_closed()
    }

    /// A word of qga's own.
    pub(crate) fn note(&self, text: &str) {
        if !self.is_json() {
            self.printer.note(Some(self.target).filter(|_| self.is_many()), text);
        }
    }

    /// Shows more of both streams.
    pub(crate) fn more(&mut self, out: &[u8], err: &[u8]) -> Result<(), Failure> {
        self.show(false, out, false)?;
        self.show(true, err, false)
    }

    /// Shows what still waits for its other half.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        self.show(false, &[], true)?;
        self.show(true, &[], true)
    }

    fn show(&mut self, is_err: bool, bytes: &[u8], is_end: bool) -> Result<(), Failure> {
        let stream = if is_err { &mut self.err } else { &mut self.out };
        let is_whole = !self.printer.is_json() && !self.printer.is_many() && !stream.is_filtered;
        if is_whole {
            return if is_err { pass_error(self.printer, bytes) } else { self.printer.pass(bytes) };
        }
        stream.rest.extend(bytes);
        let ready = if is_end {
            stream.rest.len()
        } else if self.printer.is_many() && !self.printer.is_json() {
            lines(&stream.rest)
        } else {
            characters(&stream.rest)
        };
        if ready == 0 {
            return Ok(());
        }
        let bytes: Vec<u8> = stream.rest.drain(..ready).collect();
        if self.printer.is_json() {
            return self.printer.print(None, &json::compact(&self.event(is_err, &bytes)));
        }
        let text = harmless(&String::from_utf8_lossy(&bytes));
        match (self.printer.is_many(), is_err) {
            (true, false) => self.printer.print(Some(self.target), &text),
            (true, true) => {
                let target = printable(self.target);
                let lines: String = text.lines().map(|line| format!("{target}: {line}\n")).collect();
                pass_error(self.printer, lines.as_bytes())
            }
            (false, false) => self.printer.pass(text.as_bytes()),
            (false, true) => pass_error(self.printer, text.as_bytes()),
        }
    }

    fn event(&self, is_err: bool, bytes: &[u8]) -> Value {
        let stream = if is_err { &self.err } else { &self.out };
        let mut event = match std::str::from_utf8(bytes) {
            Ok(text) => json!({ "stream": stream.name, "text": text }),
            Err(_) => {
                let mut encoded = Vec::new();
                base64::encode_into(&mut encoded, bytes);
                json!({ "stream": stream.name, "base64": String::from_utf8_lossy(&encoded) })
            }
        };
        if self.printer.is_many() {
            event["target"] = self.target.into();
        }
        event
    }
}

fn pass_error(printer: &Printer, bytes: &[u8]) -> Result<(), Failure> {
    if !bytes.is_empty() {
        printer.pass_error(bytes);
    }
    Ok(())
}

/// How much of this is whole lines, or all of it when a line is too long to be waited for.
fn lines(bytes: &[u8]) -> usize {
    match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => end + 1,
        None if bytes.len() > LINE_MAX => bytes.len(),
        None => 0,
    }
}

/// How much of this does not end in the middle of a character.
fn characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => {
            // Something else may be wrong before a character that is cut.
            let start = bytes.len() - bytes.iter().rev().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
            let cut = start
                .checked_sub(1)
                .filter(|at| std::str::from_utf8(&bytes[*at..]).is_err_and(|e| e.error_len().is_none()));
            cut.unwrap_or(bytes.len())
        }
    }
}

/// Text that moves nothing but to the next line or the start of this one.
fn harmless(text: &str) -> String {
    text.split_inclusive(['\n', '\r'])
        .map(|line| {
            let end = line.len() - usize::from(line.ends_with(['\n', '\r']));
            printable(&line[..end]) + &line[end..]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_lines_and_no_control_characters() {
        assert_eq!(harmless("a\x1b[2J\r\nb\tc\r10%\n"), "a\\x1b[2J\r\nb\tc\r10%\n");
    }

    #[test]
    fn a_character_that_is_cut_waits_for_its_other_half() {
        let text = "a€".as_bytes();
        for (bytes, ready) in [(text, 4), (&text[..3], 1), (&text[..2], 1), (&text[..1], 1), (b"", 0), (b"\xFF", 1)] {
            assert_eq!(characters(bytes), ready, "{bytes:?}");
        }
        assert_eq!(characters(b"\xFFa\xE2\x82"), 2);
        assert_eq!(characters(b"\x80\x80\x80\x80"), 4);
    }

    #[test]
    fn lines_are_kept_together_unless_they_are_endless() {
        assert_eq!(lines(b"a\nb"), 2);
        assert_eq!(lines(b"ab"), 0);
        assert_eq!(lines(&vec![b'a'; LINE_MAX + 1]), LINE_MAX + 1);
    }
}
