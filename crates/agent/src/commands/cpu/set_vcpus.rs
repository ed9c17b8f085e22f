//! `guest-set-vcpus`

use qga_proto::error::Result;
use qga_proto::types::cpu::{GuestSetVcpus, SetVcpusArgs};

use crate::commands::{Context, Handler};
use crate::platform::linux::cpu;

impl Handler for GuestSetVcpus {
    const NEEDS: &'static str = "root; a kernel with CPU hotplug";

    /// The first failure ends it; it is an error only where nothing was done before. The host asks again for the rest
    /// and gets the error then.
    fn run(cx: Context<'_>, args: SetVcpusArgs) -> Result<i64> {
        let mut done = 0;
        for vcpu in args.vcpus {
            match cpu::set(&cx.state.root, vcpu.logical_id, vcpu.online) {
                Ok(()) => done += 1,
                Err(e) if done == 0 => return Err(e),
                Err(e) => {
                    log::warn!("{e}");
                    break;
                }
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use qga_proto::types::cpu::GuestLogicalProcessor;

    use super::*;
    use crate::platform::linux::root::Root;
    use crate::state::State;

    /// Processor 0 cannot be switched, 1 is on, 2 is off.
    fn system(dir: &Path) -> State {
        for id in 0..3 {
            fs::create_dir_all(dir.join(format!("sys/devices/system/cpu/cpu{id}"))).unwrap();
        }
        fs::write(dir.join("sys/devices/system/cpu/cpu1/online"), "1\n").unwrap();
        fs::write(dir.join("sys/devices/system/cpu/cpu2/online"), "0\n").unwrap();
        State { root: Root::new(dir), ..State::for_tests(dir) }
    }

    fn set(state: &State, vcpus: &[(i64, bool)]) -> Result<i64> {
        let one = |(logical_id, online): &(i64, bool)| GuestLogicalProcessor {
            logical_id: *logical_id,
            online: *online,
            can_offline: None,
        };
        let vcpus = vcpus.iter().map(one).collect();
        GuestSetVcpus::run(Context { state, reply_limit: None }, SetVcpusArgs { vcpus })
    }

    fn online(dir: &Path, id: i64) -> String {
        fs::read_to_string(dir.join(format!("sys/devices/system/cpu/cpu{id}/online"))).unwrap()
    }

    #[test]
    fn the_count_says_how_many_were_done_before_the_first_failure() {
        let dir = tempfile::tempdir().unwrap();
        let state = system(dir.path());
        assert_eq!(set(&state, &[]), Ok(0));
        assert_eq!(set(&state, &[(0, true)]), Ok(1));
        assert_eq!(set(&state, &[(2, true), (0, false), (1, false)]), Ok(1));
        assert_eq!(online(dir.path(), 2), "1\n");
        assert_eq!(online(dir.path(), 1), "1\n", "what comes after a failure is not tried");
        assert_eq!(set(&state, &[(1, false), (2, false)]), Ok(2));
        assert_eq!((online(dir.path(), 1), online(dir.path(), 2)), ("0\n".into(), "0\n".into()));
    }

    #[test]
    fn a_failure_of_the_first_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let state = system(dir.path());
        let text = |vcpus| set(&state, vcpus).unwrap_err().desc;
        assert_eq!(text(&[(0, false), (1, false)]), "logical processor #0 can't be offlined");
        assert_eq!(online(dir.path(), 1), "1\n");
        let missing = "Could not open '/sys/devices/system/cpu/cpu99/': No such file or directory";
        assert_eq!(text(&[(99, true)]), missing);
        assert_eq!(text(&[(-1, false)]), missing.replace("99", "-1"));
    }
}
