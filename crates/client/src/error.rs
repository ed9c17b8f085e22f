//! What can go wrong between a host and an agent, layer by layer.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qga_proto::ErrorClass;

/// No such device: what vsock says of an address that no guest has.
const ENODEV: i32 = rustix::io::Errno::NODEV.raw_os_error();

/// The part of the way at which something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// There is no channel: no socket, no right to open it, nobody listening.
    Channel,
    /// There is a channel, and nobody in the guest has opened its other end.
    Port,
    /// There is a channel, and no agent answers at its other end.
    Agent,
    /// An agent is there and did not answer in time, or answered what it must not.
    Reply,
    /// The command is not to be had: unknown, or switched off.
    Policy,
    /// The command was carried out, or tried, and failed.
    Command,
    /// The caller asked wrongly, or something on this host is in the way.
    Caller,
}

impl Layer {
    /// A word for it, stable, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Layer::Channel => "channel",
            Layer::Port => "port",
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

/// A way to an agent, as it is named in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// A unix socket on this host.
    Unix(PathBuf),
    /// A port of a guest's vsock.
    Vsock {
        /// The guest's context identifier.
        cid: u32,
        /// The port that its agent listens on.
        port: u32,
    },
    /// A serial line or pty on this host.
    Serial(PathBuf),
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Channel::Unix(path) | Channel::Serial(path) => path.display().fmt(f),
            Channel::Vsock { cid, port } => write!(f, "vsock {cid}:{port}"),
        }
    }
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
        channel: Channel,
        /// Why not.
        source: io::Error,
    },
    /// Another program has the channel, which serves one at a time.
    Held(Channel),
    /// libvirt is to be asked, and its program `virsh` is not installed here.
    NoVirsh,
    /// libvirt knows no machine of this name.
    NoDomain(String),
    /// The machine of this name is not running.
    NotRunning(String),
    /// libvirt could not be asked, or refused: its own words, ready to be shown.
    Libvirt(String),
    /// The machine of this name has no port for an agent.
    NoPort(String),
    /// Nobody in the machine of this name has opened the port: no agent is running.
    PortClosed(String),
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
            Error::Open { .. } | Error::Held(_) | Error::Broken(_) | Error::Closed | Error::NotTaken(_) => {
                Layer::Channel
            }
            Error::NoVirsh | Error::NoDomain(_) | Error::NotRunning(_) | Error::Libvirt(_) | Error::NoPort(_) => {
                Layer::Channel
            }
            Error::PortClosed(_) => Layer::Port,
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
            Error::Open { channel, source } => return open_hint(channel, source),
            Error::Held(Channel::Unix(path)) if is_libvirts(path) => {
                "libvirt has it, and would lose the agent: ask through libvirt, with -t libvirt:DOMAIN."
            }
            Error::Held(_) => {
                "It serves one program at a time. Is libvirt, or another qga, using it? With libvirt, use \
                 -t libvirt:DOMAIN."
            }
            Error::NoVirsh => "Install it: libvirt-clients in Debian and Ubuntu, libvirt-client in Fedora.",
            Error::NoDomain(_) => "'virsh list --all' shows the names; which host is asked is up to the URI.",
            Error::NotRunning(_) => "Start it first: 'virsh start NAME'.",
            Error::Libvirt(_) => return None,
            Error::NoPort(_) => {
                "Its definition needs <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>."
            }
            Error::PortClosed(_) => {
                "Is the agent installed in the guest and running: 'systemctl status qemu-guest-agent'? It may also \
                 still be booting."
            }
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
                "Look in the guest for block-rpcs and allow-rpcs (blacklist before QEMU 8.1) in \
                 /etc/qemu/qemu-ga.conf, for --block-rpcs, --allow-rpcs or --blacklist in the unit of \
                 qemu-guest-agent, and for BLOCK_RPCS, BLACKLIST_RPC or FILTER_RPC_ARGS in /etc/sysconfig/qemu-ga."
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
            Error::Open { channel, source } => write_open(f, channel, source),
            Error::Held(channel) => write!(f, "{channel} is in use by another program"),
            Error::NoVirsh => f.write_str("virsh, the program to ask libvirt with, is not installed"),
            Error::NoDomain(domain) => write!(f, "libvirt knows no machine named {domain}"),
            Error::NotRunning(domain) => write!(f, "the machine {domain} is not running"),
            Error::Libvirt(what) => write!(f, "libvirt says: {what}"),
            Error::NoPort(domain) => write!(f, "the machine {domain} has no port for a guest agent"),
            Error::PortClosed(domain) => write!(f, "no agent is connected in the machine {domain}"),
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

fn write_open(f: &mut fmt::Formatter<'_>, channel: &Channel, source: &io::Error) -> fmt::Result {
    match (channel, source.kind()) {
        (Channel::Unix(path), io::ErrorKind::NotFound) => write!(f, "no such socket: {}", path.display()),
        (Channel::Serial(path), io::ErrorKind::NotFound) => write!(f, "no such serial line: {}", path.display()),
        (Channel::Vsock { cid, .. }, io::ErrorKind::NotFound) if source.raw_os_error() == Some(ENODEV) => {
            write!(f, "no guest has the vsock address {cid}")
        }
        (_, io::ErrorKind::ConnectionRefused) => write!(f, "nobody listens on {channel}"),
        (_, io::ErrorKind::PermissionDenied) => write!(f, "not allowed to open {channel}"),
        (Channel::Vsock { .. }, io::ErrorKind::ConnectionReset) => write!(f, "nobody listens on {channel}"),
        (Channel::Vsock { cid, .. }, io::ErrorKind::TimedOut) => {
            write!(f, "no guest answers at the vsock address {cid}")
        }
        (_, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => write!(f, "{channel} is busy"),
        _ => write!(f, "cannot open {channel}: {}", Reason(source)),
    }
}

/// What to do when a channel cannot be opened.
fn open_hint(channel: &Channel, source: &io::Error) -> Option<&'static str> {
    Some(match (channel, source.kind()) {
        (Channel::Unix(_), io::ErrorKind::NotFound) => {
            "Is the machine running, and does its QEMU command line have \
             '-chardev socket,id=qga0,path=...,server=on,wait=off' for the port org.qemu.guest_agent.0?"
        }
        (Channel::Unix(_), io::ErrorKind::ConnectionRefused) => {
            "The socket file is there and nobody listens: it was left behind by a program that has ended."
        }
        (Channel::Unix(_) | Channel::Serial(_), io::ErrorKind::PermissionDenied) => {
            "Run this as the user QEMU runs as, or as root. Under SELinux or AppArmor the label counts too."
        }
        (Channel::Unix(_), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
            "Other programs are waiting for this socket already: it serves one at a time. Is libvirt using it?"
        }
        (Channel::Vsock { .. }, _) => {
            "The machine needs '-device vhost-vsock-pci,guest-cid=CID', its agent '-m vsock-listen -p 4294967295:PORT', \
             and this host the module vhost_vsock."
        }
        _ => return None,
    })
}

/// Whether a socket lies where libvirt puts those of its machines.
pub(crate) fn is_libvirts(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "libvirt")
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
