//! Who is connected to a unix socket, from the kernel's table.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The connections to one listening socket.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Occupancy {
    /// Those that the listener has taken.
    pub(crate) served: usize,
    /// Those that wait to be taken.
    pub(crate) waiting: usize,
}

impl Occupancy {
    /// Counts the connections to the socket at `path`; none when the kernel does not tell.
    pub(crate) fn of(path: &Path) -> Self {
        let Ok(table) = fs::read("/proc/net/unix") else {
            return Occupancy::default();
        };
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Occupancy::count(&table, |bound| {
            let bound = Path::new(OsStr::from_bytes(bound));
            // Whoever made the socket may have named it in another way, such as /var/run for /run.
            bound == path
                || bound == real
                || bound.file_name() == real.file_name() && fs::canonicalize(bound).is_ok_and(|bound| bound == real)
        })
    }

    /// Counts in the text of `/proc/net/unix`. A connection carries the path of the socket it came to.
    fn count(table: &[u8], is_ours: impl Fn(&[u8]) -> bool) -> Self {
        let mut occupancy = Occupancy::default();
        for line in table.split(|&byte| byte == b'\n') {
            let mut rest = line;
            // Num RefCount Protocol Flags Type St Inode, aligned with spaces.
            let [_, _, _, flags, _, state, _] = std::array::from_fn(|_| {
                let text = rest.trim_ascii_start();
                let (field, behind) = text.split_at(text.iter().position(|&byte| byte == b' ').unwrap_or(text.len()));
                rest = behind;
                field
            });
            let Some(path) = rest.strip_prefix(b" ") else { continue };
            if flags == b"00010000" || !is_ours(path) {
                continue;
            }
            match state {
                b"03" => occupancy.served += 1,
                b"02" => occupancy.waiting += 1,
                _ => {}
            }
        }
        occupancy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let table = b"Num       RefCount Protocol Flags    Type St Inode Path
00000000fdb5a6f5: 00000003 00000000 00000000 0001 02     0 /run/a b
0000000050f4dbd5: 00000003 00000000 00000000 0001 03 12592843 /run/a b
00000000c651612a: 00000002 00000000 00010000 0001 01 12592841 /run/a b
00000000c651612b: 00000003 00000000 00000000 0001 03 12592842 /run/other
00000000c651612c: 00000003 00000000 00000000 0001 03 12592844
";
        assert_eq!(Occupancy::count(table, |path| path == b"/run/a b"), Occupancy { served: 1, waiting: 1 });
        assert_eq!(Occupancy::count(b"\n \n  x", |_| true), Occupancy::default());
    }

    #[test]
    fn a_client_that_is_served_and_one_that_waits_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(Occupancy::of(&path), Occupancy::default());
        let _first = UnixStream::connect(&path).unwrap();
        let _served = listener.accept().unwrap();
        let _second = UnixStream::connect(&path).unwrap();
        assert_eq!(Occupancy::of(&path), Occupancy { served: 1, waiting: 1 });
    }
}
