//! The byte vectors: what is sent, piece by piece, and every byte that comes back.
//!
//! The files are those of `crates/proto/tests/vectors`. A line is a byte string in which `\n`, `\r`, `\t`, `\xHH` and
//! `\\` are escapes. `>>` is sent in one write; `<<` is the whole answer of release 11.1; `<<10` that of 10.0 where
//! it differs, `<<our` ours where it differs on purpose; the comment above that gives the reason, in the words of
//! `docs/differences.md`. Steps without an empty line between them are one group and share a fresh agent.
//! `release-7.txt` has the few answers of release 7.2 that differ again.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::thread::{scope, sleep};
use std::time::Duration;

use qga_testkit::host::PATIENCE;
use qga_testkit::{Host, Kind};

use crate::differences::has_reason;
use crate::{PROGRAM, ask, readable, setup};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/tests/vectors");

/// How long an agent is watched that is expected to say nothing. What it says later is found by the next step.
const SILENCE: Duration = Duration::from_millis(15);

#[derive(Debug, Default, Clone)]
struct Step {
    send: Vec<u8>,
    release_11: Vec<u8>,
    release_10: Option<Vec<u8>>,
    ours: Option<Vec<u8>>,
    reasons: Vec<String>,
}

impl Step {
    fn expected(&self) -> Vec<u8> {
        let ten = || self.release_10.clone().unwrap_or_else(|| without_positions(&self.release_11));
        match PROGRAM.kind() {
            Kind::Ours => self.ours.clone().unwrap_or_else(|| without_positions(&self.release_11)),
            Kind::C(11..) => self.release_11.clone(),
            Kind::C(8..) => ten(),
            Kind::C(_) => RELEASE_7.get(&self.send).cloned().unwrap_or_else(ten),
        }
    }
}

/// What was sent, and the answer of release 7.2.
static RELEASE_7: LazyLock<HashMap<Vec<u8>, Vec<u8>>> = LazyLock::new(|| {
    let groups = parse(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/release-7.txt")));
    groups.into_iter().flat_map(|group| group.steps).map(|step| (step.send, step.release_11)).collect()
});

#[derive(Debug)]
struct Group {
    place: String,
    steps: Vec<Step>,
}

#[test]
fn every_vector_is_answered_byte_for_byte() {
    let groups = groups();
    assert!(groups.len() > 250, "only {} groups of vectors were found", groups.len());
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let passed_over = AtomicUsize::new(0);
    scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(name) = missing_command(group) {
                        passed_over.fetch_add(1, Ordering::Relaxed);
                        eprintln!("SKIPPED {}: {name} is not there yet", group.place);
                    } else if let Err(failure) = run(group) {
                        failures.lock().unwrap().push(format!("{}: {failure}", group.place));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    let total = groups.len() - passed_over.into_inner();
    assert!(failures.is_empty(), "{} of {total} groups failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_answer_of_ours_that_differs_has_a_reason_that_is_written_down() {
    for group in groups() {
        for step in group.steps.iter().filter(|step| step.ours.is_some()) {
            assert!(!step.reasons.is_empty(), "{}: no reason above '<<our'", group.place);
            for reason in &step.reasons {
                assert!(has_reason(reason), "{}: not in docs/differences.md: {reason}", group.place);
            }
        }
    }
}

/// Runs a group; says what went wrong.
fn run(group: &Group) -> Result<(), String> {
    let agent = setup().allow_all().start();
    let mut host = agent.host();
    for (number, step) in group.steps.iter().enumerate() {
        let expected = step.expected();
        host.send_raw(&step.send).map_err(|error| format!("step {}: {error}", number + 1))?;
        let seen = answer(&mut host, &expected);
        if seen != expected {
            return Err(format!(
                "step {}\n  sent     {}\n  expected {}\n  got      {}",
                number + 1,
                readable(&step.send),
                readable(&expected),
                readable(&seen)
            ));
        }
    }
    nothing_is_left(&mut host)
}

/// As many lines as are expected, or what else came in their place.
fn answer(host: &mut Host, expected: &[u8]) -> Vec<u8> {
    if expected.is_empty() {
        sleep(SILENCE);
        return host.read_until_silence(Duration::from_millis(1)).unwrap_or_default();
    }
    let mut seen = Vec::new();
    for _ in 0..expected.iter().filter(|byte| **byte == b'\n').count() {
        match host.read_line(PATIENCE) {
            Ok(line) => seen.extend([line, b"\n".to_vec()].concat()),
            Err(_) => break,
        }
    }
    // What the C library says of an unknown user depends on the name services of the machine.
    let text = readable(&seen);
    if !PROGRAM.is_ours() && text.contains("failed to lookup user 'nosuch': ") {
        return expected.to_vec();
    }
    seen
}

/// Resynchronises, and looks whether there was anything more before the answer to that.
fn nothing_is_left(host: &mut Host) -> Result<(), String> {
    let sync = b"\xff\n{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":4711}}\n";
    host.send_raw(sync).map_err(|error| error.to_string())?;
    let mut before = Vec::new();
    loop {
        let line = host.read_line(PATIENCE).map_err(|error| format!("no answer to the resynchronisation: {error}"))?;
        if line == b"\xff{\"return\": 4711}" {
            break;
        }
        before.push(line);
    }
    if !PROGRAM.is_ours() {
        // The C agent complains of the 0xFF itself, and of what it ends.
        before.retain(|line| !line.windows(6).any(|part| part == b"stray "));
    }
    match before.first() {
        None => Ok(()),
        Some(line) => Err(format!("after the last step came {}", readable(line))),
    }
}

/// The name of a command of 11.1 in the group that our agent does not have yet.
fn missing_command(group: &Group) -> Option<&'static str> {
    static MISSING: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        let agent = setup().start();
        let info = ask(&mut agent.host(), "{\"execute\":\"guest-info\"}");
        let missing = |name: &&str| !info.contains(&format!("\"{name}\""));
        crate::info::COMMANDS.iter().copied().filter(missing).collect()
    });
    let asks = |name: &&&str| {
        let quoted = format!("\"{name}\"");
        group.steps.iter().any(|step| step.send.windows(quoted.len()).any(|part| part == quoted.as_bytes()))
    };
    if !PROGRAM.is_ours() {
        return None;
    }
    MISSING.iter().find(asks).copied()
}

fn groups() -> Vec<Group> {
    let mut paths: Vec<_> = fs::read_dir(DIRECTORY)
        .unwrap_or_else(|error| panic!("{DIRECTORY}: {error}"))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    paths.iter().flat_map(|path| parse(path)).collect()
}

fn parse(path: &Path) -> Vec<Group> {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = fs::read_to_string(path).unwrap();
    let mut groups: Vec<Group> = Vec::new();
    let mut fresh = true;
    let mut comments = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let bytes = |from: usize| unescape(line.get(from..).unwrap_or_default());
        if let Some(words) = line.strip_prefix('#') {
            comments.push(words.trim().to_owned());
            continue;
        }
        let comments = std::mem::take(&mut comments);
        if line.is_empty() {
            fresh = true;
        } else if line.starts_with(">> ") {
            if fresh {
                let place = format!("{file}:{}", number + 1);
                groups.push(Group { place, steps: Vec::new() });
                fresh = false;
            }
            let group = groups.last_mut().unwrap();
            group.steps.push(Step { send: bytes(3), ..Step::default() });
        } else {
            let step = groups.last_mut().and_then(|group| group.steps.last_mut());
            let step = step.unwrap_or_else(|| panic!("{file}:{}: an answer to nothing", number + 1));
            match line.split(' ').next() {
                Some("<<") => step.release_11 = bytes(3),
                Some("<<10") => step.release_10 = Some(bytes(5)),
                Some("<<our") => (step.ours, step.reasons) = (Some(bytes(6)), comments),
                _ => panic!("{file}:{}: not understood", number + 1),
            }
        }
    }
    groups
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&escape, after) = rest.split_first().expect("something after a backslash");
        rest = after;
        match escape {
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                let digits = std::str::from_utf8(&rest[..2]).expect("two digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
                rest = &rest[2..];
            }
            other => panic!("the escape \\{} is unknown", char::from(other)),
        }
    }
    bytes
}

/// The errors of 11.1 without the `line:column: ` that its parser puts in front.
fn without_positions(answer: &[u8]) -> Vec<u8> {
    let text = answer.iter().map(|byte| char::from(*byte)).collect::<String>();
    let mut pieces = text.split("\"desc\": \"");
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        kept.push_str("\"desc\": \"");
        let position = piece.find(": JSON parse error, ").map_or("", |end| &piece[..end + 2]);
        let is_position = position.bytes().all(|byte| byte.is_ascii_digit() || byte == b':' || byte == b' ');
        kept.push_str(if is_position { &piece[position.len()..] } else { piece });
    }
    kept.chars().map(|letter| u8::try_from(u32::from(letter)).expect("a byte")).collect()
}

#[test]
fn positions_are_taken_out_of_every_error_and_nothing_else() {
    let two = b"{\"error\": {\"desc\": \"1:12: JSON parse error, a 1:1: b\"}}\n{\"desc\": \"QMP input\"}\n\xff";
    assert_eq!(
        without_positions(two),
        b"{\"error\": {\"desc\": \"JSON parse error, a 1:1: b\"}}\n{\"desc\": \"QMP input\"}\n\xff"
    );
}
