//! A UART: raw, eight bits, 38,400 baud, nothing interpreted and nothing echoed.

use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{ControlModes, OptionalActions, QueueSelector, SpecialCodeIndex, tcflush, tcgetattr, tcsetattr};

/// The speed the C agent sets; emulated ports do not care.
const SPEED: u32 = 38_400;

/// Opens the port at `path` and makes it raw.
pub fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let mut settings = tcgetattr(&fd)?;
    settings.make_raw();
    settings.control_modes |= ControlModes::CREAD | ControlModes::CLOCAL;
    settings.set_speed(SPEED)?;
    settings.special_codes[SpecialCodeIndex::VMIN] = 1;
    settings.special_codes[SpecialCodeIndex::VTIME] = 0;
    // What was received before is part of no conversation.
    tcflush(&fd, QueueSelector::IFlush)?;
    tcsetattr(&fd, OptionalActions::Now, &settings)?;
    Ok(fd)
}
