//! A listening unix socket.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use qga_proto::error::{Error, Result};
use rustix::fd::OwnedFd;
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::platform::linux::errno::Context;

/// Clients that may wait to be accepted.
pub(super) const BACKLOG: i32 = 64;

/// Longest path, in bytes: the kernel takes one more, but most clients cannot connect without a NUL at its end.
const PATH_MAX: usize = 107;

/// The socket's file, removed when the agent ends, unless another agent has put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Option<Identity>,
}

/// Tells one file of a name from the next. Device and inode do not: the number is used again at once.
type Identity = (u64, u64, i64, i64);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Listens at `path`. A socket that nobody listens at any more is replaced; one that is in use is left alone.
pub fn listen(path: &Path) -> Result<(OwnedFd, SocketFile)> {
    if path.as_os_str().is_empty() {
        // The kernel would take it, under a name that nobody is told.
        return Err(Error::generic("must specify a path for this channel"));
    }
    if path.as_os_str().len() > PATH_MAX {
        return Err(Error::generic(format!("UNIX socket path '{}' is too long", path.display())));
    }
    let failed = || format!("Failed to bind socket to {}", path.display());
    let address = SocketAddrUnix::new(path).context(failed)?;
    make_room(path)?;
    let fd = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .context(|| "Failed to create socket".to_owned())?;
    // The mode of a socket's file is that of the socket: set before it has a name, it is never open to others.
    rustix::fs::fchmod(&fd, Mode::RUSR | Mode::WUSR).context(failed)?;
    rustix::net::bind(&fd, &address).context(failed)?;
    rustix::net::listen(&fd, BACKLOG).context(|| format!("Failed to listen on {}", path.display()))?;
    Ok((fd, SocketFile { path: path.to_owned(), identity: identity(path) }))
}

fn make_room(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        let kind = if metadata.is_dir() { "Is a directory" } else { "Not a socket" };
        return Err(Error::generic(format!("Failed to unlink socket {}: {kind}", path.display())));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(Error::generic(format!(
            "Failed to bind socket to {}: Address already in use (another agent listens there)",
            path.display()
        )));
    }
    fs::remove_file(path).context(|| format!("Failed to unlink socket {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_socket_is_the_owners_alone_and_goes_with_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (fd, file) = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
        drop(fd);
    }

    #[test]
    fn a_socket_in_use_is_left_alone_and_a_dead_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = listen(&path).unwrap();
        assert!(listen(&path).unwrap_err().desc.contains("another agent listens there"));
        assert!(path.exists());
        drop(first.0);
        let second = listen(&path).unwrap();
        // The file of the first is not there any more; dropping its guard must not remove that of the second.
        drop(first.1);
        assert!(path.exists());
        drop(second);
    }

    #[test]
    fn a_path_that_no_client_could_connect_to_is_refused() {
        assert_eq!(listen(Path::new("")).unwrap_err().desc, "must specify a path for this channel");
        let dir = tempfile::tempdir().unwrap();
        let of_length = |length: usize| {
            let room = length - dir.path().as_os_str().len() - 1;
            dir.path().join("x".repeat(room))
        };
        let too_long = of_length(108);
        let complaint = format!("UNIX socket path '{}' is too long", too_long.display());
        assert_eq!(listen(&too_long).unwrap_err().desc, complaint);
        let longest = of_length(107);
        let _listening = listen(&longest).unwrap();
        UnixStream::connect(&longest).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(listen(&path).unwrap_err().desc.contains("Not a socket"));
        assert!(listen(dir.path()).unwrap_err().desc.ends_with("Is a directory"));
        assert_eq!(fs::read(&path).unwrap(), b"data");
    }
}
