//! A `virsh` that reads its commands from a pipe.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, write};

use crate::deadline::Deadline;
use crate::error::Error;
use crate::random;
use crate::wire::REPLY_MAX;

/// What `virsh` prints when it is ready for a command.
const PROMPT: &str = "virsh # ";

/// A `virsh`, started when it is needed.
#[derive(Debug)]
pub(super) struct Virsh {
    uri: Option<String>,
    running: Option<Running>,
}

/// What one command made `virsh` print.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// On standard output, without prompts and the commands it repeats.
    pub(super) out: String,
    /// On standard error, in one line, without the word "error" in front.
    pub(super) err: String,
}

#[derive(Debug)]
struct Running {
    child: Child,
    input: OwnedFd,
    output: [Output; 2],
}

#[derive(Debug)]
struct Output {
    pipe: OwnedFd,
    text: Vec<u8>,
    /// How much of the text has been searched for the end mark.
    searched: usize,
    has_ended: bool,
}

impl Virsh {
    /// One that asks the host at this URI.
    pub(super) fn new(uri: Option<&str>) -> Result<Self, Error> {
        if uri.is_some_and(|uri| uri.is_empty() || uri.starts_with('-') || uri.contains(char::is_control)) {
            return Err(Error::Arguments("this is no URI of libvirt".into()));
        }
        Ok(Virsh { uri: uri.map(str::to_owned), running: None })
    }

    /// Runs one command; `None` when it did not end in time. After that, and after any error, the next one gets a new
    /// `virsh`.
    pub(super) fn run(&mut self, command: &str, deadline: Deadline) -> Result<Option<Said>, Error> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Running::start(self.uri.as_deref())?,
        };
        let said = running.run(command, deadline)?;
        if said.is_some() && !running.output.iter().any(|output| output.has_ended) {
            self.running = Some(running);
        }
        Ok(said)
    }
}

impl Running {
    fn start(uri: Option<&str>) -> Result<Self, Error> {
        let mut command = Command::new("virsh");
        command.arg("--quiet");
        if let Some(uri) = uri {
            command.args(["--connect", uri]);
        }
        // Its own words, no colours, no keys of the user's, and no memory of what it was told.
        command.env("LC_ALL", "C").env("TERM", "dumb").env("INPUTRC", "/dev/null").env("VIRSH_HISTSIZE", "0");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::NoVirsh,
            _ => Error::Broken(error),
        })?;
        let (Some(input), Some(out), Some(err)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(Error::Broken(ErrorKind::BrokenPipe.into()));
        };
        let pipes = [OwnedFd::from(input), out.into(), err.into()];
        for pipe in &pipes {
            fcntl_getfl(pipe).and_then(|flags| fcntl_setfl(pipe, flags | OFlags::NONBLOCK)).map_err(broken)?;
        }
        let [input, out, err] = pipes;
        let output = [out, err].map(|pipe| Output { pipe, text: Vec::new(), searched: 0, has_ended: false });
        Ok(Running { child, input, output })
    }

    fn run(&mut self, command: &str, deadline: Deadline) -> Result<Option<Said>, Error> {
        // In two halves, so that the mark is not found in the command that virsh repeats.
        let (left, right) = (format!("{:016x}", random::bits()?), format!("{:016x}", random::bits()?));
        let mark = format!("{left}{right}");
        let script = format!("{command}\necho --err '{left}''{right}'\necho '{left}''{right}'\n");
        let mut rest = script.as_bytes();
        for output in &mut self.output {
            output.text.clear();
            output.searched = 0;
        }
        loop {
            let found = self.output.iter_mut().all(|output| output.has_ended || output.has(mark.as_bytes()));
            if found {
                break;
            }
            if !self.wait(!rest.is_empty(), deadline)? {
                return Ok(None);
            }
            match write(&self.input, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::AGAIN | Errno::INTR) => {}
                // It has ended, and its standard error says why.
                Err(Errno::PIPE) => rest = &[],
                Err(error) => return Err(broken(error)),
            }
            for output in &mut self.output {
                output.take()?;
            }
        }
        let [out, err] = &self.output;
        Ok(Some(Said { out: plain_output(&out.text, &mark), err: plain_error(&err.text, &mark) }))
    }

    /// Waits until something can be done; whether it can.
    fn wait(&self, is_sending: bool, deadline: Deadline) -> Result<bool, Error> {
        let mut waiting: Vec<PollFd<'_>> = self
            .output
            .iter()
            .filter(|output| !output.has_ended)
            .map(|output| PollFd::new(&output.pipe, PollFlags::IN))
            .collect();
        if is_sending {
            waiting.push(PollFd::new(&self.input, PollFlags::OUT));
        }
        loop {
            if deadline.is_over() {
                return Ok(false);
            }
            match poll(&mut waiting, Some(&deadline.timespec())) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An end of its input would do, unless it waits for something; and it has nothing to tidy up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    /// Takes what is there.
    fn take(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 64 << 10];
        while !self.has_ended {
            match read(&self.pipe, &mut buffer) {
                Ok(0) => self.has_ended = true,
                Ok(count) => self.text.extend_from_slice(&buffer[..count]),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(broken(error)),
            }
            // A request is repeated before the reply.
            if self.text.len() > 2 * REPLY_MAX {
                return Err(Error::TooBig(REPLY_MAX));
            }
        }
        Ok(())
    }

    /// Whether the mark is in the text.
    fn has(&mut self, mark: &[u8]) -> bool {
        let from = self.searched.saturating_sub(mark.len());
        let found = memchr::memmem::find(&self.text[from..], mark).is_some();
        if !found {
            self.searched = self.text.len();
        }
        found
    }
}

fn broken(error: Errno) -> Error {
    Error::Broken(io::Error::from(error))
}

/// A word for `virsh`, whatever characters it has.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What the command printed, without the prompts, the repeated commands and the mark.
fn plain_output(text: &[u8], mark: &str) -> String {
    let text = String::from_utf8_lossy(text);
    let text = text.split(mark).next().unwrap_or_default();
    let mut out = String::new();
    for line in text.lines() {
        // With readline virsh repeats what it reads behind the prompt, without it does not.
        let mut rest = line;
        let mut is_prompt = false;
        while let Some(behind) = rest.strip_prefix(PROMPT) {
            rest = behind;
            is_prompt = true;
        }
        if !is_prompt || rest.starts_with('{') {
            out.push_str(rest);
            out.push('\n');
        }
    }
    out
}

/// What went wrong, in one line.
fn plain_error(text: &[u8], mark: &str) -> String {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(|line| line.trim().strip_prefix("error: ").unwrap_or(line.trim()));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.contains(mark)).collect();
    lines.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_found_with_and_without_repeated_commands() {
        let with = "virsh # qemu-agent-command '{}'\n{\"return\":1}\n\nvirsh # echo --err 'a''b'\nvirsh # echo 'a''b'\nabvirsh # ";
        assert_eq!(plain_output(with.as_bytes(), "ab"), "{\"return\":1}\n\n");
        let without = "virsh # {\"return\":1}\n\nvirsh # virsh # ab\n";
        assert_eq!(plain_output(without.as_bytes(), "ab").lines().next(), Some("{\"return\":1}"));
    }

    #[test]
    fn an_error_of_two_lines_becomes_one() {
        let text = b"error: failed to get domain 'x'\nerror: Domain not found\n\nerror: ab\n";
        assert_eq!(plain_error(text, "ab"), "failed to get domain 'x': Domain not found");
    }

    #[test]
    fn quotes_stay_quotes() {
        assert_eq!(quoted("it's {\"a\"}"), "'it'\\''s {\"a\"}'");
    }
}
