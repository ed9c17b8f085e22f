//! What the agent and its guardian say to each other, one message a packet: a letter, then numbers in the machine's
//! own order, then a name.

use crate::platform::linux::mountinfo::Device;

/// Room for the longest message: a path and some numbers.
pub const SIZE: usize = 4096 + 64;

/// Why the guardian thawed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The freeze lasted longer than allowed.
    Deadline,
    /// The agent was gone.
    AgentGone,
    /// The guardian was told to end.
    Told,
}

/// One message. Paths are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// First word to a guardian.
    Setup {
        /// Seconds that one hook may run.
        hook_limit: u64,
        /// Seconds that all hooks may run.
        hooks_limit: u64,
        /// Where later agents find the guardian.
        name: &'a [u8],
        /// The state directory, which has the mark "frozen".
        statedir: &'a [u8],
    },
    /// Answer to [`Message::Setup`].
    Ready,
    /// This hook is about to be run with `freeze`; from a guardian: it was.
    Hook(&'a [u8]),
    /// This hook was run with `thaw`.
    HookDone(&'a [u8]),
    /// A file system that may be frozen; its descriptor comes along.
    Hold {
        /// Its number.
        device: Device,
        /// Whether it is frozen, or was about to be.
        frozen: bool,
        /// Its mount point.
        point: &'a [u8],
    },
    /// Freezing begins: the time runs, in seconds; 0 is for ever. From a guardian: what is left of it.
    Arm(u64),
    /// Answer to [`Message::Arm`].
    Armed,
    /// About to be frozen.
    Freezing(Device),
    /// It is frozen now.
    Frozen(Device),
    /// It is not frozen, or not by us.
    NotFrozen(Device),
    /// All is undone; the guardian is not needed any more.
    Done,
    /// The guardian has thawed so many file systems; so many could not be.
    Thawed {
        /// Why.
        reason: Reason,
        /// File systems that were frozen.
        count: u32,
        /// Those that still are.
        failed: u32,
    },
    /// To an agent that wants to take over: there is one already.
    Busy,
    /// To an agent that takes over: that was all.
    Over,
}

impl<'a> Message<'a> {
    /// Puts it into `out` in place of what is there. Allocates nothing where there is room for [`SIZE`] bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        let device = |out: &mut Vec<u8>, letter: u8, device: &Device| {
            out.push(letter);
            out.extend_from_slice(&device.major.to_ne_bytes());
            out.extend_from_slice(&device.minor.to_ne_bytes());
        };
        match self {
            Message::Setup { hook_limit, hooks_limit, name, statedir } => {
                out.push(b'S');
                out.extend_from_slice(&hook_limit.to_ne_bytes());
                out.extend_from_slice(&hooks_limit.to_ne_bytes());
                out.push(u8::try_from(name.len()).unwrap_or(0));
                out.extend_from_slice(name);
                out.extend_from_slice(statedir);
            }
            Message::Ready => out.push(b'R'),
            Message::Hook(path) => {
                out.push(b'H');
                out.extend_from_slice(path);
            }
            Message::HookDone(path) => {
                out.push(b'h');
                out.extend_from_slice(path);
            }
            Message::Hold { device: number, frozen, point } => {
                device(out, b'F', number);
                out.push(u8::from(*frozen));
                out.extend_from_slice(point);
            }
            Message::Arm(seconds) => {
                out.push(b'A');
                out.extend_from_slice(&seconds.to_ne_bytes());
            }
            Message::Armed => out.push(b'a'),
            Message::Freezing(number) => device(out, b'<', number),
            Message::Frozen(number) => device(out, b'=', number),
            Message::NotFrozen(number) => device(out, b'>', number),
            Message::Done => out.push(b'D'),
            Message::Thawed { reason, count, failed } => {
                out.push(b'T');
                out.push(match reason {
                    Reason::Deadline => b'd',
                    Reason::AgentGone => b'g',
                    Reason::Told => b't',
                });
                out.extend_from_slice(&count.to_ne_bytes());
                out.extend_from_slice(&failed.to_ne_bytes());
            }
            Message::Busy => out.push(b'B'),
            Message::Over => out.push(b'O'),
        }
    }

    /// Reads one; `None` if it is none.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (letter, rest) = bytes.split_first()?;
        Some(match letter {
            b'S' => {
                let (hook_limit, rest) = number(rest)?;
                let (hooks_limit, rest) = number(rest)?;
                let (length, rest) = rest.split_first()?;
                let (name, statedir) = rest.split_at_checked(usize::from(*length))?;
                Message::Setup { hook_limit, hooks_limit, name, statedir }
            }
            b'R' => Message::Ready,
            b'H' => Message::Hook(rest),
            b'h' => Message::HookDone(rest),
            b'F' => {
                let (device, rest) = device(rest)?;
                let (frozen, point) = rest.split_first()?;
                Message::Hold { device, frozen: *frozen != 0, point }
            }
            b'A' => Message::Arm(number(rest)?.0),
            b'a' => Message::Armed,
            b'<' => Message::Freezing(device(rest)?.0),
            b'=' => Message::Frozen(device(rest)?.0),
            b'>' => Message::NotFrozen(device(rest)?.0),
            b'D' => Message::Done,
            b'T' => {
                let (reason, rest) = rest.split_first()?;
                let reason = match reason {
                    b'd' => Reason::Deadline,
                    b'g' => Reason::AgentGone,
                    b't' => Reason::Told,
                    _ => return None,
                };
                let (count, rest) = rest.split_first_chunk()?;
                let (failed, _) = rest.split_first_chunk()?;
                Message::Thawed { reason, count: u32::from_ne_bytes(*count), failed: u32::from_ne_bytes(*failed) }
            }
            b'B' => Message::Busy,
            b'O' => Message::Over,
            _ => return None,
        })
    }
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_ne_bytes(*number), rest))
}

fn device(bytes: &[u8]) -> Option<(Device, &[u8])> {
    let (major, rest) = bytes.split_first_chunk()?;
    let (minor, rest) = rest.split_first_chunk()?;
    Some((Device { major: u32::from_ne_bytes(*major), minor: u32::from_ne_bytes(*minor) }, rest))
}
