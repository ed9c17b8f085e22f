use super::*;

#[test]
fn a_child_started_afresh_has_no_signal_blocked_or_ignored() {
    // SAFETY: plain calls on values of this thread's stack; nothing else in the tests uses these two signals.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigaddset(&mut set, libc::SIGHUP);
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()), 0);
        libc::signal(libc::SIGUSR2, libc::SIG_IGN);
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
    let masks = |status: &str| -> Vec<u64> {
        ["SigBlk:", "SigIgn:"]
            .iter()
            .map(|name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim())
            .map(|mask| u64::from_str_radix(mask, 16).unwrap())
            .collect()
    };
    let ours = masks(&std::fs::read_to_string("/proc/thread-self/status").unwrap());
    assert_eq!(ours[0] & 0x4001, 0x4001);
    assert_eq!(ours[1] & 0x1800, 0x1800);

    let mut command = process::Command::new("/bin/cat");
    command.arg("/proc/self/status");
    start_afresh(&mut command);
    let status = command.output().unwrap().stdout;
    let childs = masks(&String::from_utf8(status).unwrap());
    // (32 and 33 belong to the C library, which leaves them ignored in what its posix_spawn starts.)
    let foreign = 3_u64 << 31;
    assert_eq!([childs[0], childs[1] & !foreign], [0, 0]);
}

#[test]
fn a_child_is_not_spared_as_we_are_when_memory_runs_out() {
    let file = "/proc/self/oom_score_adj";
    let before = std::fs::read_to_string(file).unwrap();
    for (ours, theirs) in [("-10", "0\n"), ("10", "10\n")] {
        if std::fs::write(file, ours).is_err() {
            eprintln!("SKIPPED {ours}: it takes root");
            continue;
        }
        let mut command = process::Command::new("/bin/cat");
        command.arg(file);
        start_afresh(&mut command);
        let output = command.output();
        let _ = std::fs::write(file, &before);
        assert_eq!(String::from_utf8_lossy(&output.unwrap().stdout), theirs, "{ours}");
    }
}

#[test]
fn a_block_keeps_its_bytes_however_it_grows_and_shrinks() {
    let sizes = [1, 100, 5000, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE, 40 * LARGE, LARGE, 7, LARGE * 2, LARGE - 1, 16];
    for align in [1, 8, 64, 4096, 65536] {
        let first = Layout::from_size_align(sizes[0], align).unwrap();
        // SAFETY: the layouts are those that the block has at that time; only bytes of the block are touched.
        unsafe {
            let mut block = Heap.alloc(first);
            *block = 1;
            for pair in sizes.windows(2) {
                let layout = Layout::from_size_align(pair[0], align).unwrap();
                block = Heap.realloc(block, layout, pair[1]);
                assert!(!block.is_null() && block.addr() % align == 0, "{pair:?} {align}");
                let bytes = std::slice::from_raw_parts_mut(block, pair[1]);
                let kept = pair[0].min(pair[1]);
                assert!(bytes[..kept].iter().enumerate().all(|(i, &byte)| byte == pattern(i)), "{pair:?} {align}");
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = pattern(i);
                }
            }
            Heap.dealloc(block, Layout::from_size_align(16, align).unwrap());
        }
    }
}

#[test]
fn what_is_asked_for_as_zero_is_zero_also_where_something_was_before() {
    for size in [24, 3000, 100_000, LARGE, 5 * LARGE] {
        let layout = Layout::from_size_align(size, 8).unwrap();
        for _ in 0..3 {
            // SAFETY: the block has this layout, and is not used after it is freed.
            unsafe {
                let block = Heap.alloc_zeroed(layout);
                let bytes = std::slice::from_raw_parts_mut(block, size);
                assert!(bytes.iter().all(|&byte| byte == 0), "{size}");
                bytes.fill(0xa5);
                Heap.dealloc(block, layout);
            }
        }
    }
}

/// Never zero, and the same again only after 251 bytes.
fn pattern(i: usize) -> u8 {
    u8::try_from(i % 251).unwrap() + 1
}

#[test]
#[cfg(target_arch = "x86_64")]
fn bytes_are_copied_and_nothing_else_however_the_two_places_overlap() {
    unsafe extern "C" {
        fn qga_memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8;
        fn qga_memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8;
    }
    const ROOM: usize = 5120;
    let before: Vec<u8> = (0..ROOM).map(pattern).collect();
    let counts = (0..70).chain([127, 128, 129, 255, 256, 257, 1000, 1023, 1024, 1025, 1500]);
    for count in counts {
        for from in [1000_usize, 1001, 1007] {
            let distances = (-40_isize..=40).chain([-900, -100, -64, 64, 100, 900, 1600]);
            for to in distances.map(|distance| from.checked_add_signed(distance).unwrap()) {
                let mut expected = before.clone();
                expected.copy_within(from..from + count, to);
                let mut moved = before.clone();
                let base = moved.as_mut_ptr();
                // SAFETY: both ranges lie in the vector; memcpy is called where they do not overlap.
                unsafe {
                    assert_eq!(qga_memmove(base.add(to), base.add(from), count), base.add(to));
                    assert!(moved == expected, "{count} bytes from {from} to {to}");
                    if from.abs_diff(to) >= count {
                        moved.copy_from_slice(&before);
                        let base = moved.as_mut_ptr();
                        assert_eq!(qga_memcpy(base.add(to), base.add(from), count), base.add(to));
                        assert!(moved == expected, "{count} bytes from {from} to {to}");
                    }
                }
            }
        }
    }
}
