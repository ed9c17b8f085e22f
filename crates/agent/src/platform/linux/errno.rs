//! Error numbers as text. Rust's own text ends in "(os error 2)"; what hosts match on does not.

use std::io;

use qga_proto::Error;
use rustix::io::Errno;

mod texts;

/// An error that can be told as the C library tells it.
pub trait ErrnoText {
    /// `No such file or directory`, without any number.
    fn errno_text(&self) -> String;
}

impl ErrnoText for Errno {
    fn errno_text(&self) -> String {
        strerror(self.raw_os_error())
    }
}

impl ErrnoText for io::Error {
    fn errno_text(&self) -> String {
        match self.raw_os_error() {
            Some(errno) => strerror(errno),
            None => self.to_string(),
        }
    }
}

fn strerror(errno: i32) -> String {
    texts::text(errno).map_or_else(|| format!("Unknown error {errno}"), str::to_owned)
}

/// Whether a failure to write is the disk's, which may be mended while we run: it is read-only or full, or fails. (A path
/// that is wrong, or not ours to write to, is somebody's mistake.)
pub fn is_fault_of_disk(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ROFS | Errno::NOSPC | Errno::DQUOT | Errno::IO))
}

/// Turns a failed system call into a wire error.
pub trait Context<T> {
    /// `<text>: <strerror>`, class `GenericError`.
    fn context(self, text: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: ErrnoText> Context<T> for Result<T, E> {
    fn context(self, text: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|e| Error::generic(format!("{}: {}", text(), e.errno_text())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_c_librarys_without_a_number() {
        assert_eq!(Errno::NOENT.errno_text(), "No such file or directory");
        assert_eq!(io::Error::from_raw_os_error(13).errno_text(), "Permission denied");
        let failed: Result<(), Errno> = Err(Errno::IO);
        assert_eq!(
            failed.context(|| "failed to freeze /a".into()).unwrap_err().desc,
            "failed to freeze /a: Input/output error"
        );
    }

    #[test]
    fn a_disk_that_may_be_mended_is_told_from_a_path_that_is_wrong() {
        for (errno, is_fault) in [
            (libc::EROFS, true),
            (libc::ENOSPC, true),
            (libc::EDQUOT, true),
            (libc::EIO, true),
            (libc::ENOENT, false),
            (libc::ENOTDIR, false),
            (libc::EACCES, false),
        ] {
            assert_eq!(is_fault_of_disk(&io::Error::from_raw_os_error(errno)), is_fault, "{errno}");
        }
        assert!(!is_fault_of_disk(&io::Error::other("no number")));
    }
}
