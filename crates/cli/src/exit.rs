//! Failures and the exit codes they end in.

use std::fmt;
use std::io;

use qga_client::Error;
use serde_json::{Value, json};

/// Why `qga` did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was asked wrongly.
    Usage(String),
    /// The agent, or the way to it, failed.
    Agent(Error),
    /// Something on this host is in the way.
    Host(String),
    /// Something in the guest is in the way.
    Guest(String),
    /// The user has had enough of it.
    Interrupted(String),
    /// The result could not be printed.
    Output(io::Error),
    /// Something that has an exit code of its own.
    Special(Special),
}

/// A failure with an exit code of its own.
#[derive(Debug)]
pub(crate) struct Special {
    /// The exit code.
    pub(crate) code: u8,
    /// A word for it, for programs.
    pub(crate) layer: &'static str,
    /// What happened.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<&'static str>,
}

impl Failure {
    /// The exit code for what has none of its own.
    pub(crate) const GENERAL: u8 = 1;

    /// A guest may still be frozen.
    pub(crate) const MAYBE_FROZEN: u8 = 120;

    /// The guest is still starting, or is not yet as it is waited for.
    pub(crate) const STARTING: u8 = 121;

    /// The guest is frozen.
    pub(crate) const FROZEN: u8 = 122;

    /// The guest was thawed earlier than it should have been.
    pub(crate) const THAWED_EARLY: u8 = 123;

    /// Time is over.
    pub(crate) const TIME: u8 = 124;

    /// No agent is to be reached.
    pub(crate) const ABSENT: u8 = 125;

    /// The agent's lists do not allow it.
    pub(crate) const FORBIDDEN: u8 = 126;

    /// The exit code, as `--help` lists them.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) | Failure::Agent(Error::Arguments(_)) => 2,
            Failure::Agent(error) => match error {
                Error::Timeout { .. } | Error::NotTaken(_) => Failure::TIME,
                Error::Open { .. }
                | Error::Held(_)
                | Error::NoVirsh
                | Error::NoDomain(_)
                | Error::NotRunning(_)
                | Error::Libvirt(_)
                | Error::NoPort(_)
                | Error::PortClosed(_)
                | Error::Broken(_)
                | Error::Closed
                | Error::Monitor(_)
                | Error::Foreign(_)
                | Error::Silent(_) => Failure::ABSENT,
                Error::Blocked { .. } => Failure::FORBIDDEN,
                Error::NotFound { .. } => 127,
                _ => Failure::GENERAL,
            },
            Failure::Special(special) => special.code,
            Failure::Interrupted(_) => 130,
            Failure::Host(_) | Failure::Guest(_) | Failure::Output(_) => Failure::GENERAL,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Failure::Agent(error) => error.hint(),
            Failure::Usage(_) => Some("'qga --help' has examples."),
            Failure::Special(special) => special.hint,
            Failure::Host(_) | Failure::Guest(_) | Failure::Interrupted(_) | Failure::Output(_) => None,
        }
    }

    /// The failure for programs.
    pub(crate) fn to_json(&self) -> Value {
        let (layer, class) = match self {
            Failure::Usage(_) | Failure::Interrupted(_) => ("caller", None),
            Failure::Agent(error) => (error.layer().name(), error.class()),
            Failure::Host(_) => ("host", None),
            Failure::Guest(_) => ("command", None),
            Failure::Output(_) => ("output", None),
            Failure::Special(special) => (special.layer, None),
        };
        json!({"error": {
            "layer": layer, "class": class, "message": self.to_string(), "hint": self.hint(), "exit": self.code(),
        }})
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Agent(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(what) | Failure::Host(what) | Failure::Guest(what) | Failure::Interrupted(what) => {
                f.write_str(what)
            }
            Failure::Agent(error) => error.fmt(f),
            Failure::Special(special) => f.write_str(&special.message),
            Failure::Output(error) => write!(f, "cannot write to standard output: {}", error.kind()),
        }
    }
}
