//! Agents of machines that libvirt runs, here or on another host, through its own program `virsh`.
//!
//! One `virsh` serves all commands of a conversation: it is started with the first one and reads the others from its
//! standard input. So a command costs no new connection, and nothing of it, such as a password, can be seen in the
//! host's list of processes or stays in `virsh`'s history.

mod virsh;

use std::collections::VecDeque;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::Error;
use crate::printable::printable;
use crate::reply::Reply;
use crate::transport::{Answer, Chunks, Transport};
use crate::wire::{HANDSHAKE_TIMEOUT, REPLY_ITEMS_MAX};
use virsh::{Said, Virsh, quoted};

/// What libvirt puts before an error that the agent answered with.
const AGENT_SAID: &str = "unable to execute QEMU agent command '";

/// More than a command has from its side: the agent's answer, which names the reason, should come first.
const GRACE: Duration = Duration::from_secs(2);

/// The agent of one machine, as libvirt reaches it.
#[derive(Debug)]
pub struct Libvirt {
    virsh: Virsh,
    domain: String,
    /// Whether an agent has answered since something went wrong.
    in_step: bool,
    /// The answers to requests that were sent ahead: `virsh` has one at a time under way.
    answers: VecDeque<Answer>,
}

impl Libvirt {
    /// The machine of this name on the host that `virsh` prefers, or the one at `uri`, such as
    /// `qemu+ssh://root@host/system`. Nothing is started before the first question.
    ///
    /// # Errors
    /// [`Error::Arguments`] for a name or URI that cannot be one.
    pub fn new(uri: Option<&str>, domain: &str) -> Result<Self, Error> {
        if domain.is_empty() || domain.chars().any(char::is_control) {
            return Err(Error::Arguments("this is no name of a machine".into()));
        }
        Ok(Libvirt { virsh: Virsh::new(uri)?, domain: domain.to_owned(), in_step: false, answers: VecDeque::new() })
    }

    /// The names of the running machines.
    ///
    /// # Errors
    /// [`Error::NoVirsh`] or [`Error::Libvirt`].
    pub fn running(uri: Option<&str>, timeout: Duration) -> Result<Vec<String>, Error> {
        let said = Virsh::new(uri)?.run("list --name --state-running", Deadline::after(timeout))?;
        match said {
            Some(said) if said.err.is_empty() => {
                Ok(said.out.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect())
            }
            Some(said) => Err(Error::Libvirt(printable(&said.err))),
            None => Err(Error::Libvirt("nothing, for too long".into())),
        }
    }

    /// The machine's definition in XML as it is now, with the state of its ports.
    ///
    /// # Errors
    /// [`Error::NoVirsh`], [`Error::NoDomain`] or [`Error::Libvirt`].
    pub fn definition(&mut self, timeout: Duration) -> Result<String, Error> {
        let deadline = Deadline::after(timeout);
        match self.virsh.run(&format!("dumpxml --domain {}", quoted(&self.domain)), deadline)? {
            Some(said) if said.err.is_empty() => Ok(said.out),
            Some(said) => {
                self.explain(&said, deadline)?;
                Err(Error::Libvirt(printable(&said.err)))
            }
            None => Err(Error::Libvirt("nothing, for too long".into())),
        }
    }

    /// One question and its answer.
    fn ask(&mut self, request: &[u8], deadline: Deadline) -> Result<Answer, Error> {
        let seconds = deadline.left().as_secs_f64().ceil().clamp(1.0, 1e9) as u32;
        let command = format!(
            "qemu-agent-command --timeout {seconds} --domain {} {}",
            quoted(&self.domain),
            quoted(&ascii(request))
        );
        let Some(said) = self.virsh.run(&command, deadline.extended(GRACE))? else {
            return Ok(Answer::Nothing);
        };
        if let Some(reply) = said.out.lines().find(|line| line.starts_with('{')) {
            return Reply::new(reply.as_bytes().to_vec(), REPLY_ITEMS_MAX).map(Answer::Reply);
        }
        self.explain(&said, deadline)
    }

    /// As [`ask`](Self::ask), once an agent has shown that it is there.
    fn ask_in_step(&mut self, request: &[u8], deadline: Deadline) -> Result<Answer, Error> {
        // libvirt brings itself into step with the agent. But of the commands that answer only when they fail one
        // could not tell success from an agent that is not there.
        if !self.in_step {
            let limit = deadline.at_most(HANDSHAKE_TIMEOUT);
            match self.ask(br#"{"execute":"guest-ping"}"#, limit)? {
                Answer::Reply(_) => self.in_step = true,
                Answer::Closed => return Err(Error::Closed),
                Answer::Nothing => return Err(Error::Silent(limit.limit())),
            }
        }
        self.in_step = false;
        let answer = self.ask(request, deadline)?;
        self.in_step = matches!(answer, Answer::Reply(_));
        Ok(answer)
    }

    /// Understands libvirt's errors, of which the number does not come through `virsh`.
    fn explain(&self, said: &Said, deadline: Deadline) -> Result<Answer, Error> {
        let text = said.err.as_str();
        let domain = || self.domain.clone();
        if let Some((name, desc)) = text.split_once(AGENT_SAID).and_then(|(_, rest)| rest.split_once("': ")) {
            return Reply::new(agent_error(name, desc), REPLY_ITEMS_MAX).map(Answer::Reply);
        }
        Err(if text.contains("QEMU guest agent is not connected") {
            Error::PortClosed(domain())
        } else if text.contains("QEMU guest agent is not configured") {
            Error::NoPort(domain())
        } else if text.contains("domain is not running") {
            Error::NotRunning(domain())
        } else if text.contains("failed to get domain") || text.contains("no domain with matching") {
            Error::NoDomain(domain())
        } else if text.contains("Guest agent disappeared") {
            return Ok(Answer::Closed);
        } else if text.contains("Guest agent is not responding") || text.contains("Guest agent not available") {
            if deadline.left() < Duration::from_secs(1) {
                return Ok(Answer::Nothing);
            }
            Error::Silent(deadline.limit() - deadline.left())
        } else if text.is_empty() {
            Error::Malformed("virsh printed no reply".into())
        } else {
            Error::Libvirt(printable(text))
        })
    }
}

impl Transport for Libvirt {
    fn exchange(&mut self, request: &[u8], deadline: Deadline) -> Result<Answer, Error> {
        self.answers.clear();
        self.ask_in_step(request, deadline)
    }

    fn ahead(&mut self, request: &[u8], deadline: Deadline) -> Result<(), Error> {
        let answer = self.ask_in_step(request, deadline).inspect_err(|_| self.answers.clear())?;
        self.answers.push_back(answer);
        Ok(())
    }

    fn take(&mut self, _deadline: Deadline) -> Result<Answer, Error> {
        let answer = self.answers.pop_front().ok_or_else(|| Error::Malformed("nothing was asked".into()))?;
        if !matches!(answer, Answer::Reply(_)) {
            self.answers.clear();
        }
        Ok(answer)
    }

    fn lose_step(&mut self) {
        self.in_step = false;
        self.answers.clear();
    }

    fn chunks(&self) -> Chunks {
        // A text that libvirt carries may have 4 MiB. And virsh reads a line byte by byte: a second for 200 kB.
        Chunks { read: 2 << 20, write: 48 << 10, ahead: 1 }
    }
}

/// The reply that libvirt made this error of.
fn agent_error(name: &str, desc: &str) -> Vec<u8> {
    let is_absent = desc.contains(name) && (desc.contains("has not been found") || desc.contains("has been disabled"));
    let class = if is_absent { "CommandNotFound" } else { "GenericError" };
    serde_json::json!({ "error": { "class": class, "desc": desc } }).to_string().into_bytes()
}

/// The request in printable ASCII, without its line end: `virsh` takes other bytes for keys that were pressed.
fn ascii(request: &[u8]) -> String {
    let text = String::from_utf8_lossy(request);
    let mut out = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        if matches!(c, ' '..='~') {
            out.push(c);
        } else {
            // Outside of strings there are none.
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

#[cfg(test)]
mod tests;
