//! The virtio-serial port. Where udev runs it has a link with its name under `/dev/virtio-ports`; everywhere else it
//! is found by the name in `/sys/class/virtio-ports`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::platform::linux::root::Root;

const CLASS: &str = "/sys/class/virtio-ports";

/// Opens the port at `path`, or the one whose name is the last component of `path`.
pub fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => match find(&Root::default(), path) {
            Some(device) => rustix::fs::open(device, flags, Mode::empty()),
            None => Err(Errno::NOENT),
        },
        result => result,
    }
}

fn find(root: &Root, path: &Path) -> Option<PathBuf> {
    let wanted = path.file_name()?;
    fs::read_dir(root.path(CLASS)).ok()?.flatten().find_map(|entry| {
        let name = fs::read(entry.path().join("name")).ok()?;
        let name = name.strip_suffix(b"\n").unwrap_or(&name);
        (OsStr::from_bytes(name) == wanted).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_udev_the_port_is_found_by_its_name_in_sysfs() {
        let dir = tempfile::tempdir().unwrap();
        for (device, name) in [("vport1p1", "com.redhat.spice.0\n"), ("vport1p2", "org.qemu.guest_agent.0\n")] {
            let class = dir.path().join("sys/class/virtio-ports").join(device);
            fs::create_dir_all(&class).unwrap();
            fs::write(class.join("name"), name).unwrap();
        }
        let root = Root::new(dir.path());
        let found = find(&root, Path::new("/dev/virtio-ports/org.qemu.guest_agent.0"));
        assert_eq!(found, Some(PathBuf::from("/dev/vport1p2")));
        assert_eq!(find(&root, Path::new("/dev/virtio-ports/org.qemu.guest_agent.1")), None);
    }
}
