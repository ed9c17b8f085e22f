//! Requests that need nothing from before: the core, everything that is only asked for, errors, and broken lines.

use qga_testkit::Host;
use qga_testkit::host::AgentError;
use qga_testkit::numbers::Numbers;
use serde_json::{Value, json};

use crate::driver::{Asked, Expect};

/// Numbers of syncs are not below this, so that they are like no other reply.
const SYNC_FIRST: u64 = 1 << 40;

/// What can be asked for without an argument, and whether the answer is always the same here.
const ASKED_FOR: &[(&str, bool)] = &[
    ("guest-info", true),
    ("guest-get-host-name", true),
    ("guest-get-osinfo", true),
    ("guest-get-timezone", true),
    ("guest-get-vcpus", true),
    ("guest-get-memory-block-info", true),
    ("guest-get-memory-blocks", true),
    ("guest-get-time", false),
    ("guest-get-users", false),
    ("guest-get-load", false),
    ("guest-get-cpustats", false),
    ("guest-get-diskstats", false),
    ("guest-get-disks", false),
    ("guest-get-fsinfo", false),
    ("guest-network-get-interfaces", false),
    ("guest-network-get-route", false),
    ("guest-ssh-get-authorized-keys", true),
];

/// Commands that the test's agent is told to refuse.
const REFUSED: &[&str] = &["guest-set-time", "guest-fstrim", "guest-fsfreeze-freeze", "guest-set-vcpus"];

/// Each is one error, and the next line is understood.
const BROKEN: &[&[u8]] = &[b"{\"a\":[1,}", b"[}", b"{\"a\" 1}", b"]", b"{\"x\":\"abc", b"{\"execute\" \"guest-ping\"}"];

const HALVES: &[&[u8]] = &[
    b"{",
    b"{\"execute\":\"guest-ping\"",
    b"{\"execute\":\"guest-file-write\",\"arguments\":{\"handle\":1000,\"buf-b64\":\"QUFB",
    b"[[[[[[[[",
    b"\"",
    b"{\"a\":tr",
    b"{\"execute\":\"guest-sync\",\"arguments\":{\"id\":1",
];

/// What a command answered at first.
#[derive(Debug)]
pub(crate) struct Known {
    name: &'static str,
    arguments: Value,
    first: Result<Value, AgentError>,
    same: bool,
}

impl Known {
    /// Asks for everything once.
    pub(crate) fn ask(host: &mut Host) -> Vec<Self> {
        let ask = |&(name, same): &(&'static str, bool)| {
            let with_name = name == "guest-ssh-get-authorized-keys";
            let arguments = if with_name { json!({ "username": "root" }) } else { json!({}) };
            let first = host.call(name, arguments.clone());
            Known { name, arguments, first, same }
        };
        ASKED_FOR.iter().map(ask).collect()
    }

    /// Whether an answer is like the first one.
    pub(crate) fn is_like(&self, result: Result<&Value, (&str, &str)>) -> bool {
        match (&self.first, result) {
            (Ok(first), Ok(value)) if self.same => first == value,
            (Ok(Value::Object(first)), Ok(Value::Object(value))) => first.keys().eq(value.keys()),
            // Disks come and go on the machine of the tests.
            (Ok(Value::Array(_)), Ok(Value::Array(value))) => value.iter().all(Value::is_object),
            (Ok(Value::Number(_)), Ok(Value::Number(_))) => true,
            (Err(first), Err((class, desc))) => first.class == class && first.desc == desc,
            _ => false,
        }
    }
}

/// Any of them; a plain `guest-sync` only where what it overtakes may get lost.
pub(crate) fn ask(numbers: &mut Numbers, known: &[Known], with_sync: bool) -> Asked {
    match numbers.below(100) {
        0..=24 => {
            let id = SYNC_FIRST + numbers.below(1 << 40) as u64;
            if with_sync && numbers.once_in(2) {
                Asked::new("guest-sync", json!({ "id": id }), Expect::Overtakes(id.into()))
            } else {
                Asked::new("guest-sync-delimited", json!({ "id": id }), Expect::Delimited(id.into()))
            }
        }
        25..=44 => Asked::new("guest-ping", json!({}), Expect::Value(json!({}))),
        45..=79 => {
            let index = numbers.below(known.len());
            Asked::new(known[index].name, known[index].arguments.clone(), Expect::Known(index))
        }
        80..=83 => Asked::new("guest-fsfreeze-status", json!({}), Expect::Value("thawed".into())),
        84..=85 => Asked::new("guest-fsfreeze-thaw", json!({}), Expect::Value(0.into())),
        _ => wrong(numbers),
    }
}

/// A request that cannot be carried out, or a line that is no request.
fn wrong(numbers: &mut Numbers) -> Asked {
    let generic = |desc: &str| Expect::Error("GenericError", desc.to_owned());
    let not_found = |desc: String| Expect::Error("CommandNotFound", desc);
    match numbers.below(10) {
        0 => Asked::new("guest-nope", json!({}), not_found("The command guest-nope has not been found".into())),
        1 => {
            let name = numbers.one_of(REFUSED);
            let desc = format!("Command {name} has been disabled: the command is not allowed");
            Asked::new(REFUSED.iter().find(|known| **known == name).expect("a name"), json!({}), not_found(desc))
        }
        2 => Asked::new("guest-sync", json!({}), generic("Parameter 'id' is missing")),
        3 => Asked::new("guest-ping", json!({ "x": [1.5e3] }), generic("Parameter 'x' is unexpected")),
        4 => Asked::new("guest-file-read", json!({ "handle": 1 }), generic("handle '1' has not been found")),
        5 => Asked::new("guest-exec-status", json!({ "pid": -1 }), generic("PID -1 does not exist")),
        6 => {
            let path = "/nonexistent/file";
            let desc = format!("failed to open file '{path}' (mode: 'r'): No such file or directory");
            Asked::new("guest-file-open", json!({ "path": path }), generic(&desc))
        }
        7 => Asked::line("(no request)", b"[1, {}, \"x\"]", generic("QMP input must be a JSON object")),
        _ => Asked::line("(broken)", numbers.one_of(BROKEN), Expect::Broken),
    }
}

/// The beginning of a request, whose end does not come.
pub(crate) fn half(numbers: &mut Numbers) -> Vec<u8> {
    numbers.one_of(HALVES).to_vec()
}
