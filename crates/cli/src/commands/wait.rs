//! `qga wait`

use std::str::FromStr;
use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use qga_client::{Blocker, Client, Deadline, Error, GuestFile, printable};
use qga_proto::command::Empty;
use qga_proto::types::core::GuestPing;
use qga_proto::types::network::GuestNetworkGetInterfaces;
use serde_json::{Value, json};

use super::PerTarget;
use crate::address;
use crate::boot::{self, Boot};
use crate::exit::{Failure, Special};
use crate::output::Output;
use crate::session::Session;

/// Time to wait if nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Time for one question: an agent that is started again meanwhile has lost it.
const QUESTION: Duration = Duration::from_secs(10);

/// The pause after the first question; each further one is a half longer.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// The longest pause between two questions.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Wait until a guest has come so far
///
/// Waits for what is not there yet, too: a socket, a machine of libvirt's that is not running, an agent. How long, says
/// --timeout: 60 seconds unless given.
///
/// Exit status:
///     0  it is there
///   121  starting: an agent answers, and what was waited for has not come
///   122  frozen: the agent may not tell before its file systems are thawed
///   124  the last question was not answered in time
///   125  absent: nobody answers
///   126  forbidden: the agent's lists do not allow to ask; told at once
///   127  the agent does not know how to tell; told at once
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Wait {
    /// agent: it answers. ip: the guest has an address to be reached by, which is printed. boot: its system has finished
    /// starting, cloud-init included. An absolute path: this file exists in the guest
    #[arg(long = "for", value_name = "agent|ip|boot|FILE")]
    what: What,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Agent,
    Ip,
    Boot,
    File(String),
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "agent" => Ok(What::Agent),
            "ip" => Ok(What::Ip),
            "boot" => Ok(What::Boot),
            // A path of Windows begins with a drive.
            path if path.starts_with('/') || path.get(1..3) == Some(":\\") => Ok(What::File(path.to_owned())),
            _ => Err("none of agent, ip, boot, nor an absolute path".into()),
        }
    }
}

/// What an agent said.
enum Seen {
    /// It is there: for people and for programs.
    There(String, Value),
    /// Not yet, and what is missing.
    NotYet(String),
}

impl PerTarget for Wait {
    const NAME: &'static str = "wait";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        let deadline = Deadline::after(session.options.timeout_or(TIMEOUT));
        let mut agent = None;
        let mut pause = PAUSE_FIRST;
        loop {
            let failure = match self.ask(session, &mut agent, deadline) {
                Ok(Seen::There(text, value)) => {
                    return Ok(if session.is_json() { Output::json(value) } else { Output::text(text) });
                }
                Ok(Seen::NotYet(missing)) => not_yet(missing),
                Err(error) => {
                    // The connection may be of an agent that is gone.
                    if !matches!(error, Error::Blocked { .. } | Error::Failed { .. }) {
                        agent = None;
                    }
                    if is_final(&error) {
                        return Err(error.into());
                    }
                    frozen_or(error)
                }
            };
            if deadline.is_over() {
                return Err(failure);
            }
            sleep(pause.min(deadline.left()));
            pause = (pause * 3 / 2).min(PAUSE_MAX);
        }
    }
}

impl Wait {
    fn ask(&self, session: &Session<'_>, agent: &mut Option<Client>, deadline: Deadline) -> Result<Seen, Error> {
        // The last question gets a fair chance although time is nearly over.
        let limit = deadline.left().clamp(Duration::from_secs(1), QUESTION);
        let agent = match agent {
            Some(agent) => agent,
            slot => slot.insert(session.target.connect(limit)?),
        };
        agent.set_timeout(limit);
        match &self.what {
            What::Agent => match agent.call::<GuestPing>(Empty {}) {
                // Whoever refuses is there.
                Ok(_) | Err(Error::Blocked { .. }) => {
                    Ok(Seen::There("the agent is there".into(), json!({ "agent": true })))
                }
                Err(error) => Err(error),
            },
            What::Ip => {
                let interfaces = agent.call::<GuestNetworkGetInterfaces>(Empty {})?;
                let first = address::all(&interfaces).into_iter().find(address::Address::is_reachable);
                Ok(match first {
                    Some(address) => Seen::There(address.ip.to_string(), address.to_json()),
                    None => Seen::NotYet("the guest has no address to be reached by yet".into()),
                })
            }
            What::Boot => Ok(match boot::state(agent)? {
                Boot::Finished(how) => {
                    Seen::There(format!("the guest has started: {how}"), json!({ "boot": true, "state": how }))
                }
                Boot::Going(how) => Seen::NotYet(format!("the guest is still starting: {how}")),
            }),
            What::File(path) => exists(agent, path),
        }
    }
}

fn exists(agent: &mut Client, path: &str) -> Result<Seen, Error> {
    let there = || Seen::There(format!("{} is there", printable(path)), json!({ "file": path, "exists": true }));
    match GuestFile::open(agent, path, "r") {
        Ok(file) => {
            file.close(agent)?;
            Ok(there())
        }
        Err(Error::Failed { desc, .. }) if desc.contains("Is a directory") => Ok(there()),
        Err(Error::Failed { desc, .. }) => Ok(Seen::NotYet(printable(&desc))),
        Err(error) => Err(error),
    }
}

/// Whether waiting is of no use.
fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::Blocked { by: Blocker::List, .. }
            | Error::NotFound { .. }
            | Error::Monitor(_)
            | Error::NoVirsh
            | Error::NoPort(_)
            | Error::Arguments(_)
    )
}

fn not_yet(message: String) -> Failure {
    let hint = Some("Give it more time with --timeout, or look what it waits for.");
    Failure::Special(Special { code: Failure::STARTING, layer: "starting", message, hint })
}

/// The failure for an error; a frozen guest is told apart from a forbidden command.
fn frozen_or(error: Error) -> Failure {
    match error {
        Error::Blocked { by: Blocker::Frozen, .. } => Failure::Special(Special {
            code: Failure::FROZEN,
            layer: "frozen",
            message: "the file systems of the guest are frozen, and its agent does not tell before they are thawed"
                .into(),
            hint: Some("Is a backup going on? If not, 'qga thaw' ends it."),
        }),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_or_an_absolute_path_is_waited_for() {
        assert_eq!("ip".parse(), Ok(What::Ip));
        assert_eq!("/run/x".parse(), Ok(What::File("/run/x".into())));
        assert_eq!("C:\\x".parse(), Ok(What::File("C:\\x".into())));
        assert!("relative/x".parse::<What>().is_err());
    }
}
