//! A small `/sys` for tests: directories of devices with the links and files that the kernel would have there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::platform::linux::root::Root;

/// A system in a temporary directory.
#[derive(Debug)]
pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    pub(crate) fn new() -> Self {
        // In memory where possible: some tests make tens of thousands of files.
        let tree = Tree(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap());
        for dir in ["sys/block", "sys/dev/block", "run/udev/data"] {
            fs::create_dir_all(tree.0.path().join(dir)).unwrap();
        }
        tree
    }

    pub(crate) fn root(&self) -> Root {
        Root::new(self.0.path())
    }

    /// Where a path of the guest is.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    pub(crate) fn file(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn dir(&self, path: &str) {
        fs::create_dir_all(self.path(path)).unwrap();
    }

    /// A link to another path of the guest; relative, as the kernel's are.
    pub(crate) fn link(&self, path: &str, target: &str) {
        let up = "../".repeat(path.trim_start_matches('/').matches('/').count());
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(format!("{up}{}", target.trim_start_matches('/')), path).unwrap();
    }

    /// A disk at `/sys/PATH` with this number, a list of members and a size. Gives its whole path.
    pub(crate) fn disk(&self, path: &str, number: &str) -> String {
        let path = self.block(path, number, "disk");
        let name = path.rsplit('/').next().unwrap().to_owned();
        self.link(&format!("/sys/block/{name}"), &path);
        self.dir(&format!("{path}/slaves"));
        self.file(&format!("{path}/size"), "2048\n");
        path
    }

    /// A partition at `/sys/PATH`.
    pub(crate) fn partition(&self, path: &str, number: &str) -> String {
        let path = self.block(path, number, "partition");
        self.file(&format!("{path}/partition"), "1\n");
        path
    }

    fn block(&self, path: &str, number: &str, kind: &str) -> String {
        let path = format!("/sys/{path}");
        let (major, minor) = number.split_once(':').unwrap();
        let node = path.rsplit('/').next().unwrap().replace('!', "/");
        let uevent = format!("MAJOR={major}\nMINOR={minor}\nDEVNAME={node}\nDEVTYPE={kind}\n");
        self.file(&format!("{path}/uevent"), uevent);
        self.file(&format!("{path}/dev"), format!("{number}\n"));
        self.link(&format!("/sys/dev/block/{number}"), &path);
        path
    }

    /// Makes one device, by its whole path, lie on others.
    pub(crate) fn slaves(&self, device: &str, members: &[&str]) {
        for member in members {
            self.link(&format!("{device}/slaves/{}", member.rsplit('/').next().unwrap()), member);
        }
    }

    pub(crate) fn driver(&self, device: &str, name: &str) {
        self.dir(&format!("/sys/bus/pci/drivers/{name}"));
        self.link(&format!("{device}/driver"), &format!("/sys/bus/pci/drivers/{name}"));
    }

    pub(crate) fn udev(&self, number: &str, properties: &str) {
        self.file(&format!("/run/udev/data/b{number}"), properties);
    }
}
