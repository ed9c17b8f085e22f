//! A root shell in the guest over its second serial line: how a test sees and does things without the agent.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use qga_testkit::Host;

/// The limit for a script that names none.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the emulated serial line may be silent before it gets something that wakes it up: it stalls now and then.
/// As long as the script has not begun that is the script again, for a line can get lost when a background job of the
/// shell ends while it is being read.
const NUDGE: Duration = Duration::from_secs(1);

/// What a script in the guest came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Exit status of its last command.
    pub status: i32,
    /// Standard output and standard error.
    pub text: String,
}

/// The conversation with the guest's `/etc/shell`. One shell runs all scripts: variables stay.
#[derive(Debug)]
pub struct Shell {
    line: Host,
    number: u64,
}

impl Shell {
    /// Connects to the serial line's socket. The shell behind it may come much later.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn connect(path: &Path, within: Duration) -> io::Result<Self> {
        Ok(Self { line: Host::connect_retry(path, within)?, number: 0 })
    }

    /// Waits until the shell answers.
    ///
    /// # Errors
    /// `TimedOut` when it does not.
    pub fn wait_ready(&mut self, within: Duration) -> io::Result<()> {
        let end = Instant::now() + within;
        loop {
            // Before the shell is there the terminal may swallow the line or send it back.
            match self.try_run("echo ready", Duration::from_secs(2)) {
                Ok(outcome) if outcome.text == "ready" => return Ok(()),
                Ok(_) => (),
                Err(error) if error.kind() == ErrorKind::TimedOut && Instant::now() < end => (),
                Err(error) => return Err(error),
            }
        }
    }

    /// Runs a script that must succeed and gives its output without surrounding white space.
    ///
    /// # Panics
    /// When it fails or does not end in time.
    #[track_caller]
    pub fn run(&mut self, script: &str) -> String {
        self.run_within(script, PATIENCE)
    }

    /// Like [`Shell::run`] with its own limit.
    ///
    /// # Panics
    /// When it fails or does not end in time.
    #[track_caller]
    pub fn run_within(&mut self, script: &str, within: Duration) -> String {
        match self.try_run(script, within) {
            Ok(Outcome { status: 0, text }) => text,
            Ok(Outcome { status, text }) => panic!("exit status {status} in the guest of: {script}\n{text}"),
            Err(error) => panic!("no end in the guest of: {script}\n{error}"),
        }
    }

    /// Whether a script succeeds.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn succeeds(&mut self, script: &str) -> bool {
        match self.try_run(script, PATIENCE) {
            Ok(outcome) => outcome.status == 0,
            Err(error) => panic!("no end in the guest of: {script}\n{error}"),
        }
    }

    /// Runs a script and gives the number that it prints.
    ///
    /// # Panics
    /// When it fails or prints anything else.
    #[track_caller]
    pub fn number(&mut self, script: &str) -> u64 {
        let text = self.run(script);
        text.parse().unwrap_or_else(|_| panic!("no number in the guest from: {script}\n{text}"))
    }

    /// Runs a script, in the one shell that runs them all.
    ///
    /// # Errors
    /// `TimedOut` when it does not end in time; those of the connection.
    pub fn try_run(&mut self, script: &str, within: Duration) -> io::Result<Outcome> {
        let end = Instant::now() + within;
        self.number += 1;
        let encoded = script.trim().replace('\\', "\\\\").replace('\n', "\\n");
        let request = format!("{} {encoded}\n", self.number);
        self.line.send_raw_within(request.as_bytes(), within)?;
        let (begin, finish) = (format!("@begin {}", self.number), format!("@end {} ", self.number));
        let mut text: Option<String> = None;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = match self.line.read_line(left.min(NUDGE)) {
                Ok(line) => String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned(),
                Err(error) if error.kind() == ErrorKind::TimedOut && left > NUDGE => {
                    let nudge = if text.is_some() { "\n" } else { &request };
                    self.line.send_raw_within(nudge.as_bytes(), left)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if line == begin {
                text = Some(String::new());
            } else if let (Some(status), Some(text)) = (line.strip_prefix(&finish), &mut text) {
                let status = status.trim().parse().unwrap_or(-1);
                return Ok(Outcome { status, text: text.trim().to_owned() });
            } else if let Some(text) = &mut text {
                text.push_str(&line);
                text.push('\n');
            }
        }
    }
}
