//! The prefix under which `/proc`, `/sys`, `/etc` and `/run` are read. It is `/` in a guest; in tests it is a
//! directory with files copied from another machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the system's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Root(PathBuf::from("/"))
    }
}

impl Root {
    /// The system under `prefix`.
    pub fn new(prefix: impl Into<PathBuf>) -> Self {
        Root(prefix.into())
    }

    /// Where the absolute path `path` of the guest is found.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Reads a whole file.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        fs::read(self.path(path))
    }
}
