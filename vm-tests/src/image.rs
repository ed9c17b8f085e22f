//! The guest's root file system: busybox, the kernel modules the tests need, and the agent, in one initramfs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::agent::{self, Agent};
use crate::cpio::Archive;
use crate::hardware;
use crate::kernel::{Flavour, Kernel};
use crate::process;

const MODULES: &[&str] = &[
    "ata_piix",
    "crc32c_generic",
    "dm_mod",
    "ext4",
    "loop",
    "overlay",
    "raid1",
    "scsi_debug",
    "sd_mod",
    "virtio_blk",
    "virtio_console",
    "virtio_net",
    "virtio_pci",
    "virtio_scsi",
    "vsock_loopback",
    "xfs",
];

/// Programs of the host that busybox has no version of, or no full one. Its shell prefers its own: call them by their
/// full path.
const PROGRAMS: &[&str] = &["chpasswd", "dmsetup", "mke2fs", "socat"];

/// What `chpasswd` of the shadow package asks to hash and store a password.
const PAM_MODULE: &str = "security/pam_unix.so";

/// Answers as sysvinit's shutdown does, for the C agent, which knows no other way.
const SHUTDOWN: &str = r#"#!/bin/sh
case "$*" in
*-P*) exec poweroff ;;
*-H*) exec halt ;;
*-r*) exec reboot ;;
esac
echo "shutdown: unknown: $*" >&2
exit 1
"#;

/// What a machine boots.
#[derive(Debug)]
pub struct Image {
    /// The kernel.
    pub kernel: PathBuf,
    /// The archive with the root file system.
    pub initrd: PathBuf,
    /// The agent inside.
    pub agent: Agent,
    /// The disk with the root file system, when that is not in the archive. Each machine gets a copy.
    pub root: Option<PathBuf>,
    // The archive goes with it.
    pub(crate) _directory: TempDir,
}

impl Image {
    /// Makes the root file system with the agent under test in it.
    ///
    /// # Panics
    /// When something it needs is missing, saying what.
    pub fn build() -> Self {
        if let Err(missing) = crate::check_packages() {
            panic!("{missing}");
        }
        Self::with_agent(Agent::under_test())
    }

    /// Like [`Image::build`] with the kernel and what else a machine with all [`hardware`] needs.
    ///
    /// # Panics
    /// When something it needs is missing, saying what.
    pub fn build_for_hardware() -> Self {
        Self::make(Agent::under_test(), Flavour::Full, hardware::MODULES, hardware::PROGRAMS)
    }

    /// Makes the root file system with this agent in it.
    ///
    /// # Panics
    /// When something it needs is missing, saying what.
    pub fn with_agent(agent: Agent) -> Self {
        Self::make(agent, Flavour::Cloud, &[], &[])
    }

    fn make(agent: Agent, flavour: Flavour, modules: &[&str], programs: &[&str]) -> Self {
        let kernel = Kernel::find_or_fetch(&agent::target_directory().join("vm-cache"), flavour);
        let directory = tempfile::Builder::new().prefix("vm-image-").tempdir().expect("a temporary directory");
        let initrd = directory.path().join("initrd");
        let (modules, programs) = ([MODULES, modules].concat(), [PROGRAMS, programs].concat());
        write(&initrd, &kernel, &agent, &modules, &programs)
            .unwrap_or_else(|error| panic!("{}: {error}", initrd.display()));
        Self { kernel: kernel.image, initrd, agent, root: None, _directory: directory }
    }
}

fn write(initrd: &Path, kernel: &Kernel, agent: &Agent, modules: &[&str], programs: &[&str]) -> io::Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(initrd)?));
    for directory in ["dev", "mnt/ext4", "mnt/xfs", "mnt/other", "proc", "run", "sys", "tmp", "root"] {
        archive.directory(directory)?;
    }
    archive.symlink("var/run", "/run")?;
    // The kernel gives init its standard streams before anything is mounted.
    archive.device("dev/console", 5, 1)?;

    let busybox = process::find("busybox").ok_or(io::ErrorKind::NotFound)?;
    archive.file("bin/busybox", 0o755, &fs::read(&busybox)?)?;
    for path in process::run("busybox", &["--list-full"]).lines() {
        // Debian's usrmerge makes the directories one; here each applet is where its own build puts it.
        if !path.ends_with("/busybox") && !programs.iter().any(|program| path.ends_with(&format!("/{program}"))) {
            archive.symlink(path, "/bin/busybox")?;
        }
    }
    archive.symlink("init", "/bin/busybox")?;

    archive.file("etc/inittab", 0o644, include_bytes!("../guest/inittab"))?;
    archive.file("etc/rcS", 0o755, include_bytes!("../guest/rcS"))?;
    archive.file("etc/shell", 0o755, include_bytes!("../guest/shell"))?;
    archive.file("usr/bin/start-agent", 0o755, include_bytes!("../guest/start-agent"))?;
    archive.file("usr/bin/link-ports", 0o755, include_bytes!("../guest/link-ports"))?;
    archive.file("etc/mke2fs.conf", 0o644, &fs::read("/etc/mke2fs.conf")?)?;
    archive.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
    archive.file("etc/group", 0o644, b"root:x:0:\n")?;
    archive.file("etc/shadow", 0o600, b"root:*:19000:0:99999:7:::\n")?;
    archive.file("etc/pam.d/chpasswd", 0o644, b"password required pam_unix.so sha512\n")?;

    let base = format!("lib/modules/{}", kernel.release);
    for file in kernel.module_files(modules) {
        archive.file(&format!("{base}/{file}"), 0o644, &fs::read(kernel.modules.join(&file))?)?;
    }
    for index in ["modules.dep", "modules.alias", "modules.symbols", "modules.builtin"] {
        archive.file(&format!("{base}/{index}"), 0o644, &fs::read(kernel.modules.join(index))?)?;
    }

    let mut libraries = Vec::new();
    for program in programs {
        let path = process::find(program).ok_or(io::ErrorKind::NotFound)?;
        archive.file(&format!("usr/sbin/{program}"), 0o755, &fs::read(&path)?)?;
        libraries.extend(agent::libraries(&path));
    }
    // PAM looks for its modules where it was built for: next to its own library.
    for library in
        libraries.iter().filter(|library| library.ends_with("libpam.so.0")).take(1).cloned().collect::<Vec<_>>()
    {
        let module = library.with_file_name(PAM_MODULE);
        archive.file(&module.to_string_lossy()[1..], 0o644, &fs::read(&module)?)?;
        libraries.extend(agent::libraries(&module));
    }
    archive.file("usr/sbin/qemu-ga", 0o755, &fs::read(&agent.path)?)?;
    libraries.extend(agent::libraries(&agent.path));
    // Those of the agent come last and win: it may be of a newer system, whose libraries serve older programs.
    let places: BTreeMap<_, _> =
        libraries.iter().map(|library| (agent::place(&agent.path, library), library)).collect();
    for (place, library) in places {
        archive.file(&place.to_string_lossy(), 0o755, &fs::read(library)?)?;
    }
    if agent.is_c {
        archive.file("etc/needs-port-links", 0o644, b"")?;
        archive.file("sbin/shutdown", 0o755, SHUTDOWN.as_bytes())?;
    }
    archive.finish()?;
    Ok(())
}
