//! Any bytes are a mount table: nothing is made up, what is found is found again when it is written as the kernel
//! writes it, and every path leads to a mount above it or to none.
#![no_main]

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use qemu_ga::platform::linux::mountinfo::{Device, Mount, Table, unescape};
use qemu_ga::platform::linux::root::Root;

/// Lookups take time in proportion to the table; more of them would only be slow.
const LOOKUPS: usize = 16;

/// As the kernel does it.
fn escape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for &byte in text {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => out.extend(format!("\\{byte:03o}").bytes()),
            byte => out.push(byte),
        }
    }
    out
}

fn line(mount: &Mount) -> Vec<u8> {
    // A parent outside of the table is as good as none.
    let parent = mount.parent.map_or("-".to_owned(), |parent| parent.to_string());
    let mut line = format!("{} {parent} {} / ", mount.id, mount.device).into_bytes();
    line.extend(escape(mount.point.as_os_str().as_bytes()));
    line.extend(b" rw shared:1 - ");
    line.extend(escape(mount.what.fs_type.as_bytes()));
    line.push(b' ');
    line.extend(escape(mount.what.source.as_bytes()));
    line.push(b' ');
    line.extend(&mount.what.options);
    line.push(b'\n');
    line
}

fuzz_target!(|data: &[u8]| {
    let plain = unescape(data);
    assert!(plain.len() <= data.len());
    assert!(data.contains(&b'\\') || plain == data);
    assert_eq!(unescape(&escape(data)), data);

    let table = Table::parse(data);
    let mounts = table.mounts();
    assert!(mounts.len() <= data.split(|byte| *byte == b'\n').count());
    let size = |mount: &Mount| mount.point.as_os_str().len() + mount.what.source.len() + mount.what.fs_type.len();
    assert!(mounts.iter().map(|mount| size(mount) + mount.what.options.len()).sum::<usize>() <= data.len());
    for mount in mounts {
        assert!(!mount.point.as_os_str().is_empty() && !mount.what.source.is_empty());
        assert_eq!(Device::parse(mount.device.to_string().as_bytes()), Some(mount.device));
        assert!(mount.parent.is_none_or(|parent| parent != mount.id && mounts.iter().any(|m| m.id == parent)));
    }

    let written: Vec<u8> = mounts.iter().flat_map(line).collect();
    assert_eq!(Table::parse(&written).mounts(), mounts);

    for mount in mounts.iter().take(LOOKUPS) {
        let found = table.lookup(&mount.point);
        assert!(found.is_none_or(|found| mount.point.starts_with(&found.point) && mounts.contains(found)));
        assert_eq!(table.is_reachable(mount), found.is_some_and(|found| found.id == mount.id));
    }

    let systems = table.file_systems(&Root::new("/nonexistent"));
    let devices: HashSet<Device> = systems.iter().map(|system| system.device).collect();
    assert_eq!(devices.len(), systems.len());
    for system in &systems {
        assert!(!system.mounts.is_empty() && system.mounts.iter().all(|mount| mount.device == system.device));
        assert_eq!(system.point(), system.mounts[0].point);
    }
    let held: usize = systems.iter().map(|system| system.mounts.len()).sum();
    assert!(held <= mounts.iter().filter(|mount| devices.contains(&mount.device)).count());
    assert!(mounts.iter().all(|mount| mount.device.major == 0 || devices.contains(&mount.device)));
});
