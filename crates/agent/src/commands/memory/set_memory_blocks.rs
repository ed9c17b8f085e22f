//! `guest-set-memory-blocks`

use qga_proto::error::Result;
use qga_proto::types::memory::{
    GuestMemoryBlock, GuestMemoryBlockResponse, GuestMemoryBlockResponseType as Outcome, GuestSetMemoryBlocks,
    SetMemoryBlocksArgs,
};
use rustix::io::Errno;

use crate::commands::{Context, Handler};
use crate::platform::linux::errno::ErrnoText;
use crate::platform::linux::memory::{self, SwitchError};
use crate::platform::linux::root::Root;

impl Handler for GuestSetMemoryBlocks {
    const NEEDS: &'static str = "root; a kernel with memory hotplug";

    fn run(cx: Context<'_>, args: SetMemoryBlocksArgs) -> Result<Vec<GuestMemoryBlockResponse>> {
        Ok(args.mem_blks.iter().map(|block| set(&cx.state.root, block)).collect())
    }
}

fn set(root: &Root, block: &GuestMemoryBlock) -> GuestMemoryBlockResponse {
    let missing = i64::from(Errno::NOENT.raw_os_error());
    let (response, error_code) = match memory::set(root, block.phys_index, block.online) {
        Ok(()) => (Outcome::Success, None),
        Err(SwitchError::NotFound) => (Outcome::NotFound, Some(missing)),
        Err(SwitchError::NotSupported) => (Outcome::OperationNotSupported, Some(missing)),
        Err(SwitchError::Failed(e)) => {
            log::warn!("memory block {}: {}", block.phys_index, e.errno_text());
            let errno = e.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
            (Outcome::OperationFailed, Some(errno.into()))
        }
    };
    GuestMemoryBlockResponse { response, error_code, phys_index: block.phys_index }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_block_has_its_outcome_and_an_error_number_exactly_when_it_failed() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("sys/devices/system/memory");
        let root = Root::new(dir.path());
        let ask = |phys_index, online| {
            let answer = set(&root, &GuestMemoryBlock { phys_index, online, can_offline: None });
            assert_eq!(answer.phys_index, phys_index);
            (answer.response, answer.error_code)
        };
        assert_eq!(ask(0, true), (Outcome::OperationNotSupported, Some(2)), "no directory at all");

        for index in 1..5 {
            fs::create_dir_all(base.join(format!("memory{index}"))).unwrap();
        }
        fs::write(base.join("memory1/state"), "online\n").unwrap();
        fs::write(base.join("memory2/state"), "offline\n").unwrap();
        fs::create_dir(base.join("memory4/state")).unwrap();
        assert_eq!(ask(50, true), (Outcome::NotFound, Some(2)));
        assert_eq!(ask(3, false), (Outcome::OperationNotSupported, Some(2)), "no state");
        assert_eq!(ask(3, true), (Outcome::Success, None), "no state, and on for good");
        assert_eq!(ask(4, true), (Outcome::OperationFailed, Some(21)), "a directory");
        assert_eq!(ask(1, true), (Outcome::Success, None));
        assert_eq!(ask(2, false), (Outcome::Success, None));
        let state = |index| fs::read_to_string(base.join(format!("memory{index}/state"))).unwrap();
        assert_eq!((state(1), state(2)), ("online\n".into(), "offline\n".into()), "nothing was written");
        assert_eq!(ask(1, false), (Outcome::Success, None));
        assert_eq!(ask(2, true), (Outcome::Success, None));
        // A file keeps what stood there before; the kernel takes just the word.
        assert_eq!((state(1), state(2)), ("online\noffline".into(), "offline\nonline".into()));
    }
}
