use super::message::{Message, Reason, SIZE};
use crate::platform::linux::mountinfo::Device;

#[test]
fn every_message_is_read_as_it_was_written() {
    let device = Device { major: 254, minor: 1_048_575 };
    let long = [0xFF; 4096];
    let messages = [
        Message::Setup { hook_limit: 60, hooks_limit: u64::MAX, name: b"name", statedir: b"/run" },
        Message::Setup { hook_limit: 0, hooks_limit: 0, name: b"", statedir: b"" },
        Message::Ready,
        Message::Hook(b"/etc/qemu/fsfreeze-hook"),
        Message::HookDone(b"/etc/qemu/fsfreeze-hook"),
        Message::Hold { device, frozen: true, point: b"/mnt/with space" },
        Message::Hold { device, frozen: false, point: &long },
        Message::Arm(600),
        Message::Armed,
        Message::Freezing(device),
        Message::Frozen(device),
        Message::NotFrozen(device),
        Message::Done,
        Message::Thawed { reason: Reason::Deadline, count: 3, failed: 0 },
        Message::Thawed { reason: Reason::AgentGone, count: 0, failed: u32::MAX },
        Message::Thawed { reason: Reason::Told, count: 1, failed: 1 },
        Message::Busy,
        Message::Over,
    ];
    let mut bytes = Vec::with_capacity(SIZE);
    let place = bytes.as_ptr();
    for message in messages {
        message.write(&mut bytes);
        assert!(bytes.len() <= SIZE);
        assert_eq!(Message::read(&bytes), Some(message));
    }
    assert_eq!(bytes.as_ptr(), place, "nothing is allocated");
}

#[test]
fn what_is_cut_short_is_no_message() {
    let mut bytes = Vec::new();
    let device = Device { major: 8, minor: 1 };
    for message in [
        Message::Setup { hook_limit: 1, hooks_limit: 1, name: b"name", statedir: b"" },
        Message::Hold { device, frozen: true, point: b"" },
        Message::Arm(1),
        Message::Frozen(device),
        Message::Thawed { reason: Reason::Told, count: 1, failed: 1 },
    ] {
        message.write(&mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(Message::read(&bytes[..end]), None);
        }
    }
    assert_eq!(Message::read(b"?"), None);
}
