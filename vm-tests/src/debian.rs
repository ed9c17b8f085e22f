//! A minimal Debian with systemd, as Debian's own packages make it: a root file system on a disk.
//!
//! The disk is made once and kept; every machine gets a copy. What changes with the tests (the agent, the files of
//! `packaging/`, the kernel's modules) is in the initramfs, which puts it there before it starts systemd.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::agent::{self, Agent};
use crate::cpio::Archive;
use crate::disks::Disk;
use crate::image::Image;
use crate::kernel::{Flavour, Kernel};
use crate::process;

/// What is installed beside Debian's essential packages.
const PACKAGES: &str = "dbus,iproute2,kmod,libpam-systemd,systemd-sysv,tzdata,udev";

/// For hosts that are no Debian.
const DEFAULT_SUITE: &str = "bookworm";

/// For hosts whose apt does not tell.
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

/// Settings of the host's apt that reach the mirror, or make up for a clock that is not right.
const APT_SETTINGS: &[&str] = &[
    "Acquire::Check-Date ",
    "Acquire::Check-Valid-Until ",
    "Acquire::Retries ",
    "Acquire::http::Proxy ",
    "Acquire::https::Proxy ",
];

/// Run on the host when everything is installed, with the root directory as `$1`. A user, and a journal on the disk.
/// Nothing happens by itself later, and what no test looks at is not started: under emulation each program takes its
/// time.
const CUSTOMIZE: &str = r#"set -e
chroot "$1" useradd --create-home --shell /bin/bash alice
mkdir -p "$1/var/log/journal" "$1/mnt/ext4" "$1/mnt/xfs"
echo debian >"$1/etc/hostname"
systemctl --quiet --root="$1" mask dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-tmpfiles-clean.timer modprobe@.service dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount getty@tty1.service
"#;

/// MiB of the disk; the packages take 175.
const SIZE: u64 = 768;

/// What the initramfs loads.
const EARLY_MODULES: &[&str] = &["virtio_blk", "virtio_pci"];

/// What udev and systemd load.
const MODULES: &[&str] =
    &["ata_piix", "autofs4", "sd_mod", "virtio_console", "virtio_net", "virtio_rng", "virtio_scsi", "xfs"];

/// Programs of the initramfs, all busybox.
const APPLETS: &[&str] = &["cp", "modprobe", "mount", "sh", "switch_root"];

/// Libraries that Debian's essential packages bring.
const ESSENTIAL_LIBRARIES: &[&str] = &["ld-linux", "libc.so", "libm.so", "libpcre2"];

/// What the README tells administrators to install, and where: the place, the permissions, the contents.
const PACKAGING: &[(&str, &str)] = &[
    ("etc/systemd/system/qemu-guest-agent.service", include_str!("../../packaging/systemd/qemu-guest-agent.service")),
    ("etc/udev/rules.d/60-qemu-guest-agent.rules", include_str!("../../packaging/udev/60-qemu-guest-agent.rules")),
];

/// The number of the machine, after which its journal is named.
pub const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef";

/// The tests' own. mmdebstrap leaves the number empty.
const FILES: &[(&str, &str)] = &[
    ("etc/machine-id", MACHINE_ID),
    ("etc/fstab", include_str!("../guest/debian/fstab")),
    ("etc/systemd/system/vm-shell.service", include_str!("../guest/debian/vm-shell.service")),
    ("etc/systemd/system/serial-getty@ttyS2.service.d/autologin.conf", include_str!("../guest/debian/autologin.conf")),
];

/// Whether [`image`] can be made here: making the root file system the first time takes root.
pub fn can_be_made() -> bool {
    cached(&recipe()).is_file() || process::run("id", &["-u"]).trim() == "0"
}

/// What a machine with Debian boots, with the agent under test in it.
///
/// # Panics
/// When something it needs is missing, saying what.
pub fn image() -> Image {
    if let Err(missing) = crate::check_packages() {
        panic!("{missing}");
    }
    let agent = Agent::under_test();
    let root = find_or_make();
    let kernel = Kernel::find_or_fetch(&agent::target_directory().join("vm-cache"), Flavour::Cloud);
    let directory = tempfile::Builder::new().prefix("vm-debian-").tempdir().expect("a temporary directory");
    let initrd = directory.path().join("initrd");
    write_initrd(&initrd, &kernel, &agent).unwrap_or_else(|error| panic!("{}: {error}", initrd.display()));
    Image { kernel: kernel.image, initrd, agent, root: Some(root), _directory: directory }
}

/// How the root file system is made: everything it depends on.
fn recipe() -> Vec<String> {
    let mut arguments: Vec<String> = ["--mode=root", "--variant=essential", "--format=directory", "--quiet"]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("--include={PACKAGES}"), format!("--customize-hook={CUSTOMIZE}")])
        .collect();
    for kind in ["doc", "i18n", "locale", "man"] {
        arguments.push(format!("--dpkgopt=path-exclude=/usr/share/{kind}/*"));
    }
    arguments.push("--dpkgopt=force-unsafe-io".to_owned());
    arguments.push(suite());
    arguments
}

/// Where the disk made by this recipe is kept.
fn cached(recipe: &[String]) -> PathBuf {
    let digest = Sha256::digest(format!("{recipe:?}{SIZE}"));
    let name = digest.iter().take(6).fold(String::from("debian-"), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    });
    agent::target_directory().join("vm-cache").join(name + ".img")
}

/// The disk with the root file system, made when it is not there yet, in one step that is either done or not.
fn find_or_make() -> PathBuf {
    let recipe = recipe();
    let image = cached(&recipe);
    if image.is_file() {
        return image;
    }
    let cache = image.parent().expect("a directory around the image");
    fs::create_dir_all(cache).unwrap_or_else(|error| panic!("{}: {error}", cache.display()));
    // In the temporary directory of the cache's file system: packages want device nodes and owners.
    let work = tempfile::Builder::new().prefix("debian-").tempdir_in(cache).expect("a temporary directory");
    let tree = work.path().join("tree");
    eprintln!("making the root file system of a Debian guest");
    let (suite, options) = recipe.split_last().expect("a suite");
    let mut command = process::command("mmdebstrap");
    command.args(options).args(apt_settings()).arg(suite).arg(&tree).arg(mirror());
    let output = process::output(&mut command);
    assert!(output.status.success(), "mmdebstrap cannot make a Debian {suite}: {}", process::text(&output));
    let disk = Disk::empty(work.path(), "root.img", SIZE);
    let options = ["-q", "-F", "-t", "ext4", "-L", "root", "-d"].map(Path::new);
    process::run("mke2fs", &[&options[..], &[&tree, &disk.path]].concat());
    fs::rename(&disk.path, &image).unwrap_or_else(|error| panic!("{}: {error}", image.display()));
    image
}

/// The release of the host, whose mirror is sure to have it.
fn suite() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |name: &str| release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    match (value("ID"), value("VERSION_CODENAME")) {
        (Some("debian"), Some(suite)) => suite.to_owned(),
        _ => DEFAULT_SUITE.to_owned(),
    }
}

/// The mirror that the host's apt uses.
fn mirror() -> String {
    let files = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
    let text: String = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let uri = text
        .lines()
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .find_map(|line| line.split_whitespace().find(|word| word.starts_with("http")).map(str::to_owned));
    uri.unwrap_or_else(|| DEFAULT_MIRROR.to_owned())
}

fn apt_settings() -> Vec<String> {
    let dump = process::run("apt-config", &["dump"]);
    let wanted = |line: &&str| APT_SETTINGS.iter().any(|setting| line.starts_with(setting));
    dump.lines().filter(wanted).map(|line| format!("--aptopt={line}")).collect()
}

fn write_initrd(initrd: &Path, kernel: &Kernel, agent: &Agent) -> io::Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(initrd)?));
    for directory in ["dev", "proc", "root", "sys"] {
        archive.directory(directory)?;
    }
    archive.device("dev/console", 5, 1)?;
    let busybox = process::find("busybox").ok_or(io::ErrorKind::NotFound)?;
    archive.file("bin/busybox", 0o755, &fs::read(&busybox)?)?;
    for applet in APPLETS {
        archive.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    archive.file("init", 0o755, include_bytes!("../guest/debian/init"))?;
    add_modules(&mut archive, "lib/modules", kernel, EARLY_MODULES)?;

    add_modules(&mut archive, "overlay/usr/lib/modules", kernel, &[EARLY_MODULES, MODULES].concat())?;
    for (path, contents) in PACKAGING.iter().chain(FILES) {
        archive.file(&format!("overlay/{path}"), 0o644, contents.as_bytes())?;
    }
    archive.symlink("overlay/etc/systemd/system/sysinit.target.wants/vm-shell.service", "../vm-shell.service")?;
    archive.file("overlay/usr/local/sbin/vm-shell", 0o755, include_bytes!("../guest/shell"))?;
    archive.file("overlay/usr/sbin/qemu-ga", 0o755, &fs::read(&agent.path)?)?;
    for library in agent::libraries(&agent.path) {
        let name = library.file_name().unwrap_or_default().to_string_lossy();
        if !ESSENTIAL_LIBRARIES.iter().any(|essential| name.starts_with(essential)) {
            archive.file(&format!("overlay/usr/lib/x86_64-linux-gnu/{name}"), 0o644, &fs::read(&library)?)?;
        }
    }
    archive.finish()?;
    Ok(())
}

/// Puts the kernel's modules of these names, and all they need, below `base`.
fn add_modules<W: io::Write>(
    archive: &mut Archive<W>,
    base: &str,
    kernel: &Kernel,
    modules: &[&str],
) -> io::Result<()> {
    let base = format!("{base}/{}", kernel.release);
    for file in kernel.module_files(modules) {
        archive.file(&format!("{base}/{file}"), 0o644, &fs::read(kernel.modules.join(&file))?)?;
    }
    // Whatever depmod made of it, in the forms for busybox and for kmod.
    for entry in fs::read_dir(&kernel.modules)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("modules.") {
            archive.file(&format!("{base}/{name}"), 0o644, &fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
