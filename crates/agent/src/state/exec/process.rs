//! One program and what is captured of it.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::platform::linux::spawn::Child;

/// How a program has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// What is told of a program that has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How.
    pub end: End,
    /// Its standard output, or both; `None` if that was not captured.
    pub out: Option<Captured>,
    /// Its standard error; `None` if that was not captured.
    pub err: Option<Captured>,
}

/// What was captured of a stream.
#[derive(Default, PartialEq, Eq)]
pub struct Captured {
    /// The first bytes.
    pub bytes: Vec<u8>,
    /// Whether there were more.
    pub truncated: bool,
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Captured").field("bytes", &self.bytes.len()).field("truncated", &self.truncated).finish()
    }
}

/// One program.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: i64,
    pub(super) life: Life,
    pub(super) descriptors: usize,
    /// What its standard input has not taken yet.
    pub(super) input: Vec<u8>,
    pub(super) written: usize,
    pub(super) out: Option<Captured>,
    pub(super) err: Option<Captured>,
}

#[derive(Debug)]
pub(super) enum Life {
    Running(Child, Option<OwnedFd>),
    /// The process has ended, and others hold its output: when something came last, and when that does not matter.
    Closing(End, Instant, Instant),
    Ended(End),
}

/// Which descriptor of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Process,
    Input,
    Out,
    Err,
}

/// A descriptor of a program. Programs are numbered here by themselves: process ids come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(pub(super) u64, pub(super) Role);

impl Key {
    pub(super) fn to_number(self) -> u64 {
        self.0 << 2 | self.1 as u64
    }

    pub(super) fn from_number(number: u64) -> Self {
        let role = match number & 3 {
            0 => Role::Process,
            1 => Role::Input,
            2 => Role::Out,
            _ => Role::Err,
        };
        Key(number >> 2, role)
    }
}

impl Process {
    pub(super) fn stream(&mut self, role: Role) -> Option<&mut Captured> {
        match role {
            Role::Out => self.out.as_mut(),
            Role::Err => self.err.as_mut(),
            Role::Process | Role::Input => None,
        }
    }

    /// Memory that its output takes.
    pub(super) fn kept(&self) -> usize {
        [&self.out, &self.err].into_iter().flatten().map(|stream| stream.bytes.capacity()).sum()
    }
}
