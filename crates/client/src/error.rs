//! What can go wrong between a host and an agent, layer by layer.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use qga_proto::ErrorClass;

/// The part of the way at which something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// There is no channel: no socket, no right to open it, nobody listening.
    Channel,
    /// There is a channel, and no agent answers at its other end.
    Agent,
    /// An agent is there and did not answer in time, or answered what it must not.
    Reply,
    /// The command is not to be had: unknown, or switched off.
    Policy,
    /// The command was carried out, or tried, and failed.
    Command,
    /// The caller asked wrongly; nothing was sent.
    Caller,
}

impl Layer {
    /// A word for it, stable, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Layer::Channel => "channel",
            Layer::Agent => "agent",
            Layer::Reply => "reply",
            Layer::Policy => "policy",
            Layer::Command => "command",
            Layer::Caller => "caller",
        }
    }
}

/// What keeps a command that exists from being called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocker {
    /// The agent's allow or block list.
    List,
    /// The agent has frozen the file systems; nearly everything waits for the thaw.
    Frozen,
}

/// The two monitors of QEMU, whose sockets are easily mistaken for the agent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Monitor {
    /// The one for programs, QMP.
    Qmp,
    /// The one for people.
    Human,
}

/// Why a question to an agent was not answered as hoped.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The channel cannot be opened.
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The channel broke.
    Broken(io::Error),
    /// The other end closed the channel.
    Closed,
    /// The request could not be sent in time: the other end does not read.
    NotTaken(Duration),
    /// A QEMU monitor answers, not a guest agent.
    Monitor(Monitor),
    /// Something answers, and it is no guest agent; the start of what it said, ready to be shown.
    Foreign(String),
    /// Nothing answered the first question within this time.
    Silent(Duration),
    /// The command did not answer within this time.
    Timeout {
        /// Its name.
        command: String,
        /// The time it was given.
        after: Duration,
    },
    /// A reply is larger than a reply may be; the limit in bytes or, for the second, in values.
    TooBig(usize),
    /// A reply is no reply, or not the one that this command gives: what is wrong with it.
    Malformed(String),
    /// The command exists and is switched off.
    Blocked {
        /// Its name.
        command: String,
        /// By what, as far as can be told.
        by: Blocker,
    },
    /// The agent does not know the command.
    NotFound {
        /// Its name.
        command: String,
    },
    /// The command failed.
    Failed {
        /// Its name.
        command: String,
        /// The class the agent gave, `GenericError` nearly always.
        class: String,
        /// The agent's own words.
        desc: String,
    },
    /// The arguments cannot be written as JSON.
    Arguments(String),
}

impl Error {
    /// Which part of the way failed.
    pub fn layer(&self) -> Layer {
        match self {
            Error::Open { .. } | Error::Broken(_) | Error::Closed | Error::NotTaken(_) => Layer::Channel,
            Error::Monitor(_) | Error::Foreign(_) | Error::Silent(_) => Layer::Agent,
            Error::Timeout { .. } | Error::TooBig(_) | Error::Malformed(_) => Layer::Reply,
            Error::Blocked { .. } | Error::NotFound { .. } => Layer::Policy,
            Error::Failed { .. } => Layer::Command,
            Error::Arguments(_) => Layer::Caller,
        }
    }

    /// What to do about it, one or two sentences, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Error::Open { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => {
                    "Is the machine running, and does its QEMU command line have \
                     '-chardev socket,id=qga0,path=...,server=on,wait=off' for the port org.qemu.guest_agent.0?"
                }
                io::ErrorKind::ConnectionRefused => {
                    "The socket file is there and nobody listens: it was left behind by a program that has ended."
                }
                io::ErrorKind::PermissionDenied => {
                    "Run this as the user QEMU runs as, or as root. Under SELinux or AppArmor the label counts too."
                }
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                    "Other programs are waiting for this socket already: it serves one at a time. Is libvirt using it?"
                }
                _ => return None,
            },
            Error::Closed => {
                "Has the machine, or the agent, just ended? A socket of QEMU also closes when another client resets it."
            }
            Error::NotTaken(_) => {
                "The agent is not reading: it may not be running, or it may still be busy with an earlier command."
            }
            Error::Monitor(Monitor::Qmp) => {
                "Use the socket of the chardev behind the port org.qemu.guest_agent.0, not the one of -qmp or -mon."
            }
            Error::Monitor(Monitor::Human) => {
                "Use the socket of the chardev behind the port org.qemu.guest_agent.0, not the one of -monitor."
            }
            Error::Foreign(_) => "Is this the socket of the agent's port, and not a console or another service?",
            Error::Silent(_) => {
                "Is the agent installed and running in the guest? Is another program, such as libvirt, holding this \
                 socket? An agent of another make may also be busy with an earlier command."
            }
            Error::Timeout { .. } => {
                "The command may still be running in the guest. Give it more time if it is a long one."
            }
            Error::Blocked { by: Blocker::List, .. } => {
                "Look in the guest for block-rpcs and allow-rpcs in /etc/qemu/qemu-ga.conf, for --block-rpcs and \
                 --allow-rpcs in the unit of qemu-guest-agent, and for BLOCK_RPCS or FILTER_RPC_ARGS in /etc/sysconfig/qemu-ga."
            }
            Error::Blocked { by: Blocker::Frozen, .. } => {
                "The file systems of the guest are frozen, probably by a backup. guest-fsfreeze-thaw ends it."
            }
            Error::NotFound { .. } => {
                "Check the spelling; guest-info lists what this agent knows. An older agent knows less."
            }
            Error::Broken(_) | Error::TooBig(_) | Error::Malformed(_) | Error::Failed { .. } | Error::Arguments(_) => {
                return None;
            }
        })
    }

    /// The class and text the agent gave for a failed command, or would have given: for programs that pass them on.
    pub fn class(&self) -> Option<&str> {
        match self {
            Error::Failed { class, .. } => Some(class),
            Error::Blocked { .. } | Error::NotFound { .. } => Some(ErrorClass::CommandNotFound.name()),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Open { path, source } => match source.kind() {
                io::ErrorKind::NotFound => write!(f, "no such socket: {}", path.display()),
                io::ErrorKind::ConnectionRefused => write!(f, "nobody listens on {}", path.display()),
                io::ErrorKind::PermissionDenied => write!(f, "not allowed to open {}", path.display()),
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => write!(f, "{} is busy", path.display()),
                _ => write!(f, "cannot open {}: {}", path.display(), Reason(source)),
            },
            Error::Broken(source) => write!(f, "the connection broke: {}", Reason(source)),
            Error::Closed => f.write_str("the other end closed the connection"),
            Error::NotTaken(limit) => write!(f, "the request was not taken within {}", Seconds(*limit)),
            Error::Monitor(Monitor::Qmp) => f.write_str("this is a QMP monitor, not a guest agent"),
            Error::Monitor(Monitor::Human) => f.write_str("this is a monitor of QEMU, not a guest agent"),
            Error::Foreign(said) => write!(f, "something other than a guest agent answers: {said}"),
            Error::Silent(limit) => write!(f, "no agent answered within {}", Seconds(*limit)),
            Error::Timeout { command, after } => write!(f, "{command} has not answered within {}", Seconds(*after)),
            Error::TooBig(limit) => write!(f, "the reply is larger than the limit of {limit}"),
            Error::Malformed(what) => write!(f, "the agent sent a reply that is none: {what}"),
            Error::Blocked { command, by: Blocker::List } => write!(f, "{command} is switched off in the agent"),
            Error::Blocked { command, by: Blocker::Frozen } => {
                write!(f, "{command} is not allowed while the file systems are frozen")
            }
            Error::NotFound { command } => write!(f, "the agent does not know {command}"),
            Error::Failed { command, desc, .. } => write!(f, "{command} failed: {desc}"),
            Error::Arguments(what) => write!(f, "the arguments cannot be sent: {what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Open { source, .. } | Error::Broken(source) => Some(source),
            _ => None,
        }
    }
}

/// The system's words for an error, without the number the standard library adds.
struct Reason<'a>(&'a io::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.find(" (os error ").map_or(text.as_str(), |end| &text[..end]))
    }
}

/// A time in seconds, with as many decimals as it needs.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_millis() as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_no_error_number() {
        let error = Error::Broken(io::Error::from_raw_os_error(5));
        assert_eq!(error.to_string(), "the connection broke: Input/output error");
    }

    #[test]
    fn times_are_shown_short() {
        assert_eq!(Error::Silent(Duration::from_secs(5)).to_string(), "no agent answered within 5 s");
        assert_eq!(Error::Silent(Duration::from_millis(250)).to_string(), "no agent answered within 0.25 s");
    }
}
