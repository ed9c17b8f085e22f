//! Writes the archive that the kernel unpacks as its first root file system (cpio, "newc" form).

use std::collections::BTreeSet;
use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_755;
const SYMLINK: u32 = 0o120_777;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive in the making. Parent directories come by themselves.
#[derive(Debug)]
pub struct Archive<W: Write> {
    out: W,
    inode: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self { out, inode: 0, directories: BTreeSet::new() }
    }

    /// Adds a directory (`path` without the leading slash) and its parents.
    ///
    /// # Errors
    /// Those of the writer, as for all the others.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        if path.is_empty() || self.directories.contains(path) {
            return Ok(());
        }
        self.parent(path)?;
        self.directories.insert(path.to_owned());
        self.entry(path, DIRECTORY, 0, (0, 0), &[])
    }

    /// Adds a file with these contents and permission bits.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn file(&mut self, path: &str, permissions: u32, contents: &[u8]) -> io::Result<()> {
        self.parent(path)?;
        self.entry(path, REGULAR | permissions, 1, (0, 0), contents)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.parent(path)?;
        self.entry(path, SYMLINK, 1, (0, 0), target.as_bytes())
    }

    /// Adds a character device that only root may use.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.parent(path)?;
        self.entry(path, CHARACTER_DEVICE, 1, (major, minor), &[])
    }

    /// Ends the archive and gives the writer back.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, 1, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parent(&mut self, path: &str) -> io::Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) => self.directory(parent),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, links: u32, device: (u32, u32), contents: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(contents.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let name = path.len() + 1;
        write!(self.out, "070701{:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}", self.inode, 0, 0, 0)?;
        write!(self.out, "{:08x}{:08x}{:08x}{:08x}{name:08x}{:08x}{path}\0", 0, 0, device.0, device.1, 0)?;
        const HEADER: usize = 110;
        self.pad(HEADER + name)?;
        self.out.write_all(contents)?;
        self.pad(contents.len())
    }

    /// Fills up to a multiple of four.
    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..length.wrapping_neg() % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_start_at_multiples_of_four_and_parents_come_first() {
        let mut archive = Archive::new(Vec::new());
        archive.file("etc/deep/a", 0o755, b"hello").unwrap();
        archive.symlink("etc/deep/b", "a").unwrap();
        archive.device("dev/console", 5, 1).unwrap();
        let bytes = archive.finish().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let starts: Vec<_> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
        let names: Vec<_> = starts.iter().map(|at| text[at + 110..].split('\0').next().unwrap()).collect();
        assert_eq!(names, ["etc", "etc/deep", "etc/deep/a", "etc/deep/b", "dev", "dev/console", "TRAILER!!!"]);
        assert_eq!(&text[starts[2] + 14..starts[2] + 22], "000081ed");
        assert_eq!(bytes.len() % 4, 0);
    }
}
