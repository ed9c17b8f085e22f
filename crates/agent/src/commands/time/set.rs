//! `guest-set-time`: sets the system clock, and the hardware clock with it; or the system clock from the hardware
//! clock.
//!
//! An error means that the clock is as it was. So a hardware clock that is missing or cannot be set is only logged:
//! what the host asked for has been done, and the guest loses nothing until it is switched off.

use qga_proto::command::Empty;
use qga_proto::error::{Error, Result};
use qga_proto::types::time::{GuestSetTime, SetTimeArgs};

use crate::commands::{Context, Handler};
use crate::platform::linux::clock::{self, SECOND};
use crate::platform::linux::errno::{Context as _, ErrnoText};
use crate::platform::linux::root::Root;
use crate::platform::linux::rtc::Rtc;

/// The first second that is refused: 2070-01-01, UTC. Hardware clocks that keep two digits of the year take it for
/// 1970.
const END: i64 = 3_155_760_000;

impl Handler for GuestSetTime {
    const NEEDS: &'static str = "CAP_SYS_TIME; a hardware clock where no time is given";

    fn run(cx: Context<'_>, args: SetTimeArgs) -> Result<Empty> {
        let root = &cx.state.root;
        match args.time {
            Some(time) => {
                log::info!(target: "audit", "guest-set-time called, time: {time}");
                check(time)?;
                set_clock(time)?;
                if let Err(errno) = set_rtc(root) {
                    log::warn!("the hardware clock is not set: {}", errno.errno_text());
                }
            }
            None => {
                log::info!(target: "audit", "guest-set-time called, from the hardware clock");
                let rtc = Rtc::open(root).and_then(|rtc| rtc.read());
                set_clock(rtc.context(|| "failed to read the hardware clock".to_owned())?.saturating_mul(SECOND))?;
            }
        }
        Ok(Empty {})
    }
}

fn check(time: i64) -> Result<()> {
    if (0..END.saturating_mul(SECOND)).contains(&time) { Ok(()) } else { Err(Error::generic("Invalid time")) }
}

fn set_clock(time: i64) -> Result<()> {
    clock::set(time).context(|| "Failed to set time to guest".to_owned())
}

/// Sets the hardware clock, which knows whole seconds only, to the nearest one.
fn set_rtc(root: &Root) -> std::result::Result<(), rustix::io::Errno> {
    let rtc = Rtc::open(root)?;
    rtc.set(clock::now().saturating_add(SECOND / 2).div_euclid(SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    #[test]
    fn times_from_1970_to_2069_are_taken() {
        for good in [0, 1, 999, 1_795_350_119_864_086_272, 3_155_759_999_999_999_999] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [-1, -1000, -1_000_000_001, i64::MIN, 3_155_760_000_000_000_000, i64::MAX] {
            assert_eq!(check(bad), Err(Error::generic("Invalid time")), "{bad}");
        }
    }

    #[test]
    fn without_a_hardware_clock_there_is_nothing_to_set_the_clock_from() {
        let dir = tempfile::tempdir().unwrap();
        let state = State { root: Root::new(dir.path()), ..State::for_tests(dir.path()) };
        let asked = GuestSetTime::run(Context { state: &state, reply_limit: None }, SetTimeArgs { time: None });
        let desc = "failed to read the hardware clock: No such file or directory";
        assert_eq!(asked, Err(Error::generic(desc)));
    }
}
