//! Disk images on the host: raw and sparse, so that what a guest gives back is seen in the blocks they take.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::agent::libraries;
use crate::process;

const MIB: u64 = 1 << 20;

/// A raw disk image.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The file on the host.
    pub path: PathBuf,
}

impl Disk {
    /// An ext4 file system of 64 MiB.
    ///
    /// # Panics
    /// When it cannot be made, as for the others.
    pub fn ext4(directory: &Path) -> Self {
        let disk = Self::empty(directory, "ext4.img", 64);
        process::run("mke2fs", &["-q", "-F", "-t", "ext4", &disk.text()]);
        disk
    }

    /// An xfs file system of 512 MiB: mkfs.xfs makes none below 300.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn xfs(directory: &Path) -> Self {
        let disk = Self::empty(directory, "xfs.img", 512);
        process::run("mkfs.xfs", &["-q", "-f", &disk.text()]);
        disk
    }

    /// Swap space of 768 MiB: room for the image of a guest that hibernates.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn swap(directory: &Path) -> Self {
        let disk = Self::empty(directory, "swap.img", 768);
        process::run("mkswap", &["-q", &disk.text()]);
        disk
    }

    /// An ext4 file system with the host's own Python, its library and the shared ones it needs, each at its place.
    ///
    /// # Panics
    /// When the host has none, or it cannot be made.
    pub fn python(directory: &Path) -> Self {
        let disk = Self::empty(directory, "python.img", 256);
        let tree = directory.join("python");
        let python = process::find("python3").unwrap_or_else(|| panic!("python3 is not installed on this host"));
        let library = process::run("python3", &["-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"]);
        let mut files = vec![PathBuf::from(library.trim())];
        files.extend(libraries(&python));
        for file in files {
            let place = tree.join(file.strip_prefix("/").unwrap_or(&file));
            fs::create_dir_all(place.parent().unwrap_or(&tree)).expect("a directory for Python");
            // The library with its links; of all else what a link leads to.
            let option = if file.is_dir() { "--archive" } else { "--dereference" };
            process::run("cp", &[Path::new(option), &file, &place]);
        }
        fs::create_dir_all(tree.join("usr/bin")).expect("a directory for Python");
        process::run("cp", &[Path::new("--dereference"), &python, &tree.join("usr/bin/python3")]);
        process::run("mke2fs", &[Path::new("-qFtext4"), Path::new("-d"), &tree, &disk.path]);
        let _ = fs::remove_dir_all(&tree);
        disk
    }

    /// Nothing but zeros, this many MiB of them.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn empty(directory: &Path, name: &str, size: u64) -> Self {
        let path = directory.join(name);
        let made = File::create(&path).and_then(|file| file.set_len(size * MIB));
        made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path }
    }

    /// The bytes it takes on the host now.
    ///
    /// # Panics
    /// When the image is gone.
    pub fn allocated(&self) -> u64 {
        // In units of 512 bytes, whatever the file system's own block size.
        self.metadata().blocks() * 512
    }

    /// A copy of the image as it is now, holes kept.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn copy(&self, name: &str) -> Self {
        let path = self.path.with_file_name(name);
        process::run("cp", &[Path::new("--sparse=always"), &self.path, &path]);
        Self { path }
    }

    /// Whether e2fsck finds nothing wrong with the ext4 file system, and what it says.
    pub fn check_ext4(&self) -> (bool, String) {
        let output = process::output(process::command("e2fsck").args(["-f", "-n"]).arg(&self.path));
        (output.status.success(), process::text(&output))
    }

    /// A file in the root directory of the ext4 file system, read without mounting.
    ///
    /// # Panics
    /// When debugfs cannot read the image.
    pub fn ext4_file(&self, name: &str) -> Vec<u8> {
        let output = process::output(process::command("debugfs").arg("-R").arg(format!("cat /{name}")).arg(&self.path));
        assert!(output.status.success(), "debugfs: {}", process::text(&output));
        output.stdout
    }

    fn metadata(&self) -> fs::Metadata {
        fs::metadata(&self.path).unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    fn text(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }
}
