//! QEMU's own control socket (QMP): commands, and the events that show from outside what a guest did.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use qga_testkit::Host;
use qga_testkit::host::{self, AgentError};
use serde_json::{Value, json};

/// The limit for a command: QEMU answers at once, the host may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A QMP conversation that is ready for commands.
#[derive(Debug)]
pub struct Qmp {
    // The framing is the agent's: one JSON document a line.
    connection: Host,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Connects as soon as QEMU listens, and leaves the negotiation mode.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn connect(path: &Path, within: Duration) -> io::Result<Self> {
        let mut connection = Host::connect_retry(path, within)?;
        let greeting = connection.read_json(within)?;
        if greeting.get("QMP").is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("no greeting: {greeting}")));
        }
        let mut qmp = Self { connection, events: VecDeque::new() };
        qmp.execute("qmp_capabilities", json!({}));
        Ok(qmp)
    }

    /// Runs a command.
    ///
    /// # Panics
    /// When QEMU refuses it or does not answer.
    #[track_caller]
    pub fn execute(&mut self, command: &str, arguments: Value) -> Value {
        match self.try_execute(command, arguments) {
            Ok(Ok(value)) => value,
            Ok(Err(refusal)) => panic!("QEMU refuses {command}: {refusal}"),
            Err(error) => panic!("QEMU does not answer {command}: {error}"),
        }
    }

    /// Runs a command that may be refused. Events that come before its answer are kept.
    ///
    /// # Errors
    /// Outside: the connection's; inside: QEMU's answer.
    pub fn try_execute(&mut self, command: &str, arguments: Value) -> io::Result<Result<Value, AgentError>> {
        self.connection.send(command, &arguments)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let message = self.connection.read_json(end.saturating_duration_since(Instant::now()))?;
            match message.get("event") {
                Some(_) => self.events.push_back(message),
                None => return host::outcome(message),
            }
        }
    }

    /// Waits for an event of this name, also one that came earlier and was not taken yet. Gives its `data`.
    ///
    /// # Panics
    /// When it does not come, with the events that came instead.
    #[track_caller]
    pub fn wait_event(&mut self, name: &str, within: Duration) -> Value {
        match self.event(name, within) {
            Some(data) => data,
            None => {
                let others: Vec<_> = self.events.iter().filter_map(|event| event["event"].as_str()).collect();
                panic!("no event {name} within {} s; came instead: {others:?}", within.as_secs())
            }
        }
    }

    /// Like [`Qmp::wait_event`], `None` when it does not come.
    pub fn event(&mut self, name: &str, within: Duration) -> Option<Value> {
        let end = Instant::now() + within;
        loop {
            let is_it = |event: &Value| event["event"] == name;
            if let Some(at) = self.events.iter().position(is_it) {
                return self.events.remove(at).map(|mut event| event["data"].take());
            }
            match self.connection.read_json(end.saturating_duration_since(Instant::now())) {
                Ok(message) if message.get("event").is_some() => self.events.push_back(message),
                Ok(_) => (),
                Err(_) => return None,
            }
        }
    }

    /// Forgets the events of before, so that the next one waited for is new.
    pub fn drop_events(&mut self) {
        self.execute("query-status", json!({}));
        self.events.clear();
    }

    /// Runs a command of the human monitor, for what QMP has no command of its own for.
    ///
    /// # Panics
    /// When QEMU does not answer.
    #[track_caller]
    pub fn human(&mut self, line: &str) -> String {
        let answer = self.execute("human-monitor-command", json!({ "command-line": line }));
        answer.as_str().unwrap_or_default().to_owned()
    }
}
