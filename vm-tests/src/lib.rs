//! Real QEMU machines with the agent inside.
//!
//! A machine boots Debian's kernel with a small root file system made here ([`image`]), under software emulation, and is
//! watched from outside the agent: a root shell on its second serial line ([`shell`]), QEMU's own events ([`qmp`]), the
//! disk images on the host. `/dev/kvm` is never used: where it exists it may hang.

pub mod agent;
pub mod cpio;
pub mod debian;
pub mod disks;
pub mod hardware;
pub mod harness;
pub mod image;
pub mod kernel;
pub mod libvirt;
pub mod machine;
pub mod process;
pub mod qga;
pub mod qmp;
pub mod rounds;
pub mod shell;
pub mod snapshots;

pub use image::Image;
pub use machine::{Machine, Spec};

/// The Debian packages these tests need (`apt-get install --no-install-recommends`). The guest's kernel is not among
/// them: it is downloaded and unpacked, because installing it would build an initramfs for the host.
pub const PACKAGES: &[&str] = &[
    "btrfs-progs",
    "busybox-static",
    "dmsetup",
    "e2fsprogs",
    "kmod",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "mmdebstrap",
    "python3-libvirt",
    "python3-venv",
    "qemu-system-x86",
    "socat",
    "util-linux",
    "xfsprogs",
];

/// The programs of [`PACKAGES`] by which a missing package is found out.
const PROGRAMS: &[(&str, &str)] = &[
    ("mkfs.btrfs", "btrfs-progs"),
    ("busybox", "busybox-static"),
    ("dmsetup", "dmsetup"),
    ("mke2fs", "e2fsprogs"),
    ("depmod", "kmod"),
    ("virsh", "libvirt-clients"),
    ("libvirtd", "libvirt-daemon"),
    ("mmdebstrap", "mmdebstrap"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("socat", "socat"),
    ("setpriv", "util-linux"),
    ("mkfs.xfs", "xfsprogs"),
];

/// Says which packages of [`PACKAGES`] are missing on this host.
///
/// # Errors
/// One sentence with the command that installs them.
pub fn check_packages() -> Result<(), String> {
    let missing: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| process::find(program).is_none()).map(|&(_, package)| package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the machine tests need packages that are not installed; as root:\n    \
         apt-get install --no-install-recommends {}",
        missing.join(" ")
    ))
}
