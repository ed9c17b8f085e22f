//! What the C agent was seen to answer, byte by byte, and what we answer: `vectors/*.txt`.
//!
//! A file holds conversations, separated by empty lines. `>>` is sent in one piece; `<<` is what the C agent of
//! QEMU 11.1.3 answers to it. Where our answer is not that, a line `<<our` follows, and before it a line `#` with the
//! reason. Lines `#` before the first step of a conversation are headings. Bytes that are no printable ASCII are
//! written `\n`, `\r`, `\t`, `\xHH`, and `\\` is one backslash.

use std::fs;
use std::path::Path;

use qga_proto::command::{Command, Empty};
use qga_proto::envelope::{self, Rejected};
use qga_proto::frame::{Frame, Framer, Limits};
use qga_proto::types::core::{GuestPing, SyncArgs};
use qga_proto::{Error, bind, json};

/// One write and what is answered to it.
struct Step {
    line: usize,
    sent: Vec<u8>,
    recorded: Vec<u8>,
    ours: Option<Vec<u8>>,
    reason: bool,
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(b) = bytes.next() {
        out.push(match (b, ()) {
            (b'\\', ()) => match bytes.next().expect("an escape is complete") {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'\\' => b'\\',
                b'x' => {
                    let digits = [bytes.next().expect("two digits"), bytes.next().expect("two digits")];
                    u8::from_str_radix(std::str::from_utf8(&digits).expect("ASCII"), 16).expect("hexadecimal")
                }
                other => panic!("unknown escape \\{}", char::from(other)),
            },
            (b, ()) => b,
        });
    }
    out
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for &b in bytes {
        match b {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\\' => out.push_str("\\\\"),
            0x20..=0x7e => out.push(char::from(b)),
            _ => out.push_str(&format!("\\x{b:02x}")),
        }
    }
    out
}

fn conversations(name: &str) -> Vec<Vec<Step>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    let text = fs::read_to_string(&path).expect("the vectors are there");
    let mut all = vec![Vec::new()];
    let mut reason = false;
    for (index, line) in text.lines().enumerate() {
        let conversation: &mut Vec<Step> = all.last_mut().expect("there is one");
        let after = |mark: &str| line.strip_prefix(mark).map(|rest| unescape(rest.strip_prefix(' ').unwrap_or(rest)));
        if line.is_empty() {
            if !conversation.is_empty() {
                all.push(Vec::new());
            }
        } else if line.starts_with('#') {
            reason = true;
        } else if let Some(sent) = after(">>") {
            conversation.push(Step { line: index + 1, sent, recorded: Vec::new(), ours: None, reason: false });
            reason = false;
        } else {
            let step = conversation.last_mut().expect("an answer follows a request");
            if let Some(ours) = after("<<our") {
                (step.ours, step.reason) = (Some(ours), reason);
            } else if line.starts_with("<<10") {
                // The answer of the older release is for readers.
            } else if let Some(recorded) = after("<<") {
                step.recorded = recorded;
            } else {
                panic!("{name}:{}: neither >> nor << nor #", index + 1);
            }
        }
    }
    all.retain(|conversation| !conversation.is_empty());
    all
}

/// Takes the `line:column: ` out of the texts, as we do not send it.
fn without_positions(recorded: &[u8]) -> Vec<u8> {
    let text: String = recorded.iter().map(|&b| char::from(b)).collect();
    let mut out = String::new();
    for (index, part) in text.split("\"desc\": \"").enumerate() {
        if index > 0 {
            out.push_str("\"desc\": \"");
        }
        let position = part.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(0);
        out.push_str(if position > 0 { part[position..].trim_start() } else { part });
    }
    out.chars().map(|c| c as u8).collect()
}

/// An agent of three commands. The rest of the commands' arguments are bound and then refused as unknown.
struct Agent {
    framer: Framer,
}

impl Agent {
    fn new() -> Self {
        Agent { framer: Framer::new(Limits::default()) }
    }

    fn exchange(&mut self, sent: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.framer.push(sent);
        while let Some(frame) = self.framer.next() {
            match frame {
                Frame::Document(document) => answer(&mut out, document.as_bytes()),
                Frame::Resync => {}
                Frame::Broken(error) => envelope::failure(&mut out, &error, None),
            }
        }
        out
    }
}

fn answer(out: &mut Vec<u8>, document: &[u8]) {
    let request = match json::read(document).map(envelope::parse) {
        Ok(Ok(request)) => request,
        Ok(Err(Rejected { id, error })) => return envelope::failure(out, &error, id.as_ref()),
        Err(error) => return envelope::failure(out, &error, None),
    };
    let before = out.len();
    if request.execute == "guest-sync-delimited" {
        out.push(0xff);
    }
    let result = envelope::success(out, request.id.as_ref(), |out| match request.execute.as_ref() {
        GuestPing::NAME => bind::from_node::<Empty>(request.arguments).map(|ret| json::write(out, &ret)),
        "guest-sync" | "guest-sync-delimited" => {
            bind::from_node::<SyncArgs>(request.arguments).map(|args| json::write(out, &args.id))
        }
        name => Err(Error::not_found(format!("The command {name} has not been found"))),
    });
    if let Err(error) = result {
        out.truncate(before);
        envelope::failure(out, &error, request.id.as_ref());
    }
}

fn run(name: &str, applies: impl Fn(&Step) -> bool) {
    let mut failures = Vec::new();
    let mut count = 0;
    for conversation in conversations(name) {
        if !conversation.iter().all(&applies) {
            continue;
        }
        let mut agent = Agent::new();
        for step in conversation {
            count += 1;
            let recorded = without_positions(&step.recorded);
            let expected = step.ours.as_ref().unwrap_or(&recorded);
            let got = agent.exchange(&step.sent);
            if got != *expected {
                failures.push(format!(
                    "{name}:{}: >> {}\n  expected {}\n  got      {}",
                    step.line,
                    escape(&step.sent),
                    escape(expected),
                    escape(&got)
                ));
            }
            if step.ours.as_ref() == Some(&recorded) {
                failures.push(format!("{name}:{}: <<our is no difference", step.line));
            }
            if step.ours.is_some() && !step.reason {
                failures.push(format!("{name}:{}: no reason is given for a difference", step.line));
            }
        }
    }
    assert!(count > 0, "{name} has steps");
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn v1_framing_is_answered_as_recorded() {
    run("v1-framing.txt", |_| true);
}

#[test]
fn v2_broken_grammar_is_answered_as_recorded() {
    run("v2-grammar.txt", |_| true);
}

#[test]
fn v3_faults_at_any_place_are_answered_as_recorded() {
    run("v3-positions.txt", |_| true);
}

#[test]
fn v4_strings_are_echoed_and_refused_as_recorded() {
    run("v4-strings.txt", |_| true);
}

#[test]
fn v5_numbers_are_echoed_and_refused_as_recorded() {
    run("v5-numbers.txt", |_| true);
}

#[test]
fn v6_envelopes_are_answered_as_recorded() {
    run("v6-envelope.txt", |_| true);
}

#[test]
fn v7_parameters_of_the_core_commands_are_answered_as_recorded() {
    let core = ["guest-ping", "guest-sync", "guest-sync-delimited"];
    run("v7-parameters.txt", |step| {
        let sent = String::from_utf8_lossy(&step.sent).into_owned();
        core.iter().any(|name| sent.contains(&format!("\"{name}\"")))
    });
}
