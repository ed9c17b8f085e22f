//! Attributes in sysfs: small files that the kernel gives whole in one call.

use std::path::Path;

use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, read, retry_on_intr};

/// The longest attribute.
const PAGE: usize = 4096;

/// Reads one attribute after the other. Three calls of the kernel for each, where reading a file of unknown size takes
/// five, and no memory of its own; of the time that a list of disks or of memory blocks takes, nearly all is in these.
#[derive(Debug)]
pub struct Reader {
    page: Vec<u8>,
}

/// What did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// To open the file.
    Open(Errno),
    /// To read it.
    Read(Errno),
}

impl Default for Reader {
    fn default() -> Self {
        Reader { page: vec![0; PAGE] }
    }
}

impl Reader {
    /// The text of `file`, which is relative to `dir` if it is not absolute.
    ///
    /// # Errors
    /// Which of the two steps failed, and why.
    pub fn read(&mut self, dir: impl AsFd, file: &Path) -> Result<&[u8], Failure> {
        let fd = retry_on_intr(|| openat(&dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()));
        let fd = fd.map_err(Failure::Open)?;
        let length = retry_on_intr(|| read(&fd, &mut *self.page)).map_err(Failure::Read)?;
        Ok(self.page.get(..length).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn an_attribute_is_read_whole_and_what_failed_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("attribute");
        let mut reader = Reader::default();
        assert_eq!(reader.read(CWD, &file), Err(Failure::Open(Errno::NOENT)));
        for text in ["", "online\n", "x"] {
            fs::write(&file, text).unwrap();
            assert_eq!(reader.read(CWD, &file), Ok(text.as_bytes()));
            let base = fs::File::open(dir.path()).unwrap();
            assert_eq!(reader.read(&base, Path::new("attribute")), Ok(text.as_bytes()));
        }
        assert_eq!(reader.read(CWD, dir.path()), Err(Failure::Read(Errno::ISDIR)));
    }
}
