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
}

impl Failure {
    /// The exit code for what has none of its own.
    pub(crate) const GENERAL: u8 = 1;

    /// The exit code, as `--help` lists them.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) | Failure::Agent(Error::Arguments(_)) => 2,
            Failure::Agent(error) => match error {
                Error::Timeout { .. } | Error::NotTaken(_) => 124,
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
                | Error::Silent(_) => 125,
                Error::Blocked { .. } => 126,
                Error::NotFound { .. } => 127,
                _ => Failure::GENERAL,
            },
            Failure::Interrupted(_) => 130,
            Failure::Host(_) | Failure::Guest(_) | Failure::Output(_) => Failure::GENERAL,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Failure::Agent(error) => error.hint(),
            Failure::Usage(_) => Some("'qga --help' has examples."),
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
            Failure::Output(error) => write!(f, "cannot write to standard output: {}", error.kind()),
        }
    }
}
