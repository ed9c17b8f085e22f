//! Programs that the host starts, with what must become of them.

use qga_testkit::numbers::Numbers;
use serde_json::{Value, json};

use crate::driver::{Asked, Expect};
use crate::files::b64;

/// Most that one driver has running, or not asked after, at a time.
const MOST: usize = 6;

const MODES: &[&str] = &["false", "true", "\"none\"", "\"stdout\"", "\"stderr\"", "\"separated\"", "\"merged\""];

/// The programs of one driver: process id and what `guest-exec-status` must answer in the end.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    running: Vec<Running>,
    asked: usize,
}

#[derive(Debug)]
struct Running {
    pid: i64,
    result: Value,
    /// A reply that tells of it is to come.
    asked: bool,
}

impl Programs {
    /// Starts one, or asks after one.
    pub(crate) fn ask(&mut self, numbers: &mut Numbers) -> Asked {
        if self.running.len() + self.asked >= MOST || numbers.once_in(2) {
            if let Some(asked) = self.ask_after(numbers) {
                return asked;
            }
        }
        let (arguments, result) = program(numbers);
        match result {
            Ok(result) => {
                self.asked += 1;
                // Now and then the host does not care what becomes of it. The agent keeps that for a long time, so only
                // where it is little: what is kept on purpose must not look like what is lost.
                let followed = result.to_string().len() > 200 || !numbers.once_in(20);
                Asked::new("guest-exec", arguments, Expect::Started(followed.then_some(result)))
            }
            Err(desc) => Asked::new("guest-exec", arguments, Expect::Error("GenericError", desc)),
        }
    }

    fn ask_after(&mut self, numbers: &mut Numbers) -> Option<Asked> {
        let mut free: Vec<_> = self.running.iter_mut().filter(|running| !running.asked).collect();
        if free.is_empty() {
            return None;
        }
        let index = numbers.below(free.len());
        free[index].asked = true;
        Some(status(free[index].pid))
    }

    /// A program has been started.
    pub(crate) fn started(&mut self, pid: i64, result: Option<Value>) {
        self.asked -= 1;
        if let Some(result) = result {
            self.running.push(Running { pid, result, asked: false });
        }
    }

    /// What the agent tells of a program.
    pub(crate) fn told(&mut self, pid: i64, status: &Value) {
        let index = self.running.iter().position(|running| running.pid == pid).expect("a program that was asked after");
        if *status == json!({ "exited": false }) {
            self.running[index].asked = false;
            return;
        }
        let running = self.running.swap_remove(index);
        assert_eq!(*status, running.result, "process {pid}");
    }

    /// Requests for all that is not known yet.
    pub(crate) fn ask_after_all(&mut self) -> Vec<Asked> {
        let ask = |running: &mut Running| {
            running.asked = true;
            status(running.pid)
        };
        self.running.iter_mut().map(ask).collect()
    }
}

fn status(pid: i64) -> Asked {
    Asked::new("guest-exec-status", json!({ "pid": pid }), Expect::Told(pid))
}

/// Arguments for `guest-exec`, and what comes of it in the end, or the error.
fn program(numbers: &mut Numbers) -> (Value, Result<Value, String>) {
    let mode = numbers.one_of(MODES);
    let shell = |script: String| json!({ "path": "/bin/sh", "arg": ["-c", script] });
    let (mut arguments, end, out, err) = match numbers.below(100) {
        0..=39 => {
            let code = numbers.below(256);
            let (out, err) = (numbers.below(1000).to_string(), numbers.below(1000).to_string());
            let script = format!("printf {out}; printf {err} >&2; exit {code}");
            (shell(script), json!({ "exitcode": code }), out.into_bytes(), err.into_bytes())
        }
        40..=54 => (json!({ "path": "true" }), json!({ "exitcode": 0 }), Vec::new(), Vec::new()),
        55..=64 => (shell("kill -9 $$".into()), json!({ "signal": 9 }), Vec::new(), Vec::new()),
        65..=79 => {
            let most = if numbers.once_in(8) { 200_000 } else { 2_000 };
            let input = numbers.bytes(most);
            (json!({ "path": "cat", "input-data": b64(&input) }), json!({ "exitcode": 0 }), input, Vec::new())
        }
        80..=84 => {
            // Not read to its end, or at all.
            let input = numbers.bytes(100_000);
            (json!({ "path": "true", "input-data": b64(&input) }), json!({ "exitcode": 0 }), Vec::new(), Vec::new())
        }
        85..=88 => {
            let count = numbers.below(100_000);
            let arguments = json!({ "path": "head", "arg": ["-c", count.to_string(), "/dev/zero"], "env": ["A=b"] });
            (arguments, json!({ "exitcode": 0 }), vec![0; count], Vec::new())
        }
        // Something in the background keeps the output open.
        89 => (shell("sleep 2 & exit 3".into()), json!({ "exitcode": 3 }), Vec::new(), Vec::new()),
        90..=94 => {
            let refused = "Base64 data contains invalid characters";
            return (json!({ "path": "cat", "input-data": "!" }), Err(refused.into()));
        }
        _ => {
            let path = "/nonexistent/program";
            let refused = format!("Failed to execute child process “{path}” (No such file or directory)");
            return (json!({ "path": path, "capture-output": true }), Err(refused));
        }
    };
    arguments["capture-output"] = serde_json::from_str(mode).expect("a mode");
    let mut result = end;
    result["exited"] = true.into();
    let mut keep = |name: &str, bytes: Vec<u8>| {
        if !bytes.is_empty() {
            result[format!("{name}-data")] = b64(&bytes).into();
            result[format!("{name}-truncated")] = false.into();
        }
    };
    match mode {
        "true" | "\"separated\"" => {
            keep("out", out);
            keep("err", err);
        }
        "\"merged\"" => keep("out", [out, err].concat()),
        "\"stdout\"" => keep("out", out),
        "\"stderr\"" => keep("err", err),
        _ => (),
    }
    (arguments, Ok(result))
}
