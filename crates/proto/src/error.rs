//! Errors as they go over the wire: a class that programs match on and a text for people.

use std::borrow::Cow;
use std::fmt;

/// The two classes the agent uses; clients tell "cannot be asked here" from "went wrong" by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Anything that went wrong.
    Generic,
    /// The command does not exist here, or is switched off.
    CommandNotFound,
}

impl ErrorClass {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            ErrorClass::Generic => "GenericError",
            ErrorClass::CommandNotFound => "CommandNotFound",
        }
    }
}

/// What a failed request is answered with. The wording of `desc` is part of the interface: scripts search for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The class.
    pub class: ErrorClass,
    /// The text, one sentence without a full stop, ready to be shown.
    pub desc: Cow<'static, str>,
}

/// A result with a wire error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A `GenericError` with this text.
    pub fn generic(desc: impl Into<Cow<'static, str>>) -> Self {
        Error { class: ErrorClass::Generic, desc: desc.into() }
    }

    /// A `CommandNotFound` with this text.
    pub fn not_found(desc: impl Into<Cow<'static, str>>) -> Self {
        Error { class: ErrorClass::CommandNotFound, desc: desc.into() }
    }

    /// `GenericError` for input that is no JSON: `JSON parse error, <what>`. The part after the comma is cut at
    /// 1,023 bytes, as the C agent does.
    pub fn parse(what: &str) -> Self {
        let mut end = what.len().min(1023);
        while !what.is_char_boundary(end) {
            end -= 1;
        }
        Error::generic(format!("JSON parse error, {}", &what[..end]))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.desc)
    }
}

impl std::error::Error for Error {}
