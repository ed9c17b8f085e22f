//! The utmp file: who is logged in, as login programs note it. Distributions are giving it up.

use super::root::Root;

/// Where it is. The second is a link to the first on all but very old systems.
const FILES: [&str; 2] = ["/run/utmp", "/var/run/utmp"];

/// `USER_PROCESS`.
const USER: u64 = 7;

/// The highest type there is.
const TYPE_MAX: u64 = 9;

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Name of the account.
    pub user: String,
    /// Seconds since 1970.
    pub seconds: i64,
    /// Millionths of a second.
    pub microseconds: i64,
}

/// How a record is laid out; who writes the file need not have been built with the C library that we were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    size: usize,
    /// Where the two halves of the time are, and their size.
    time: [usize; 2],
    word: usize,
}

/// glibc where programs of 32 and of 64 bits share the file: 32-bit times, unsigned.
const SHORT: Layout = Layout { size: 384, time: [340, 344], word: 4 };

/// glibc on 64-bit ARM and others without such a past, and musl.
const LONG: Layout = Layout { size: 400, time: [344, 352], word: 8 };

const LAYOUTS: [Layout; 2] = if cfg!(any(target_arch = "aarch64", target_arch = "s390x", target_arch = "loongarch64")) {
    [LONG, SHORT]
} else {
    [SHORT, LONG]
};

/// The sessions of users whose login process still lives, in the order of the file; none when there is no file.
pub fn sessions(root: &Root) -> Vec<Session> {
    // A file of its own kind only: nothing that a read could wait for.
    let file = FILES.into_iter().find(|file| root.path(file).is_file());
    let content = file.and_then(|file| root.read(file).ok()).unwrap_or_default();
    let mut found = parse(&content);
    found.retain(|(pid, _)| is_alive(root, u64::from(*pid)));
    found.into_iter().map(|(_, session)| session).collect()
}

/// The sessions of a file, each with the number of its login process; 0 where none is noted.
pub fn parse(content: &[u8]) -> Vec<(u32, Session)> {
    let fits = |layout: &&Layout| {
        let mut records = content.chunks_exact(layout.size);
        records.all(|record| number(record, 0, 2).is_some_and(|kind| kind <= TYPE_MAX))
            && records.remainder().is_empty()
    };
    let layout = LAYOUTS.iter().find(fits).unwrap_or(&LAYOUTS[0]);
    content.chunks_exact(layout.size).filter_map(|record| session(record, layout)).collect()
}

fn session(record: &[u8], layout: &Layout) -> Option<(u32, Session)> {
    if number(record, 0, 2)? != USER {
        return None;
    }
    let pid = u32::try_from(number(record, 4, 4)?).ok()?;
    // The name fills its 32 bytes or ends with a NUL.
    let user = record.get(44..76)?.split(|&b| b == 0).next()?;
    let [seconds, microseconds] = layout.time;
    let session = Session {
        user: String::from_utf8_lossy(user).into_owned(),
        seconds: i64::try_from(number(record, seconds, layout.word)?).ok()?,
        microseconds: i64::try_from(number(record, microseconds, layout.word)?).ok()?,
    };
    Some((pid, session))
}

/// The number of so many bytes at this place.
fn number(record: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = record.get(at..at + size)?;
    let mut all = [0; 8];
    let part = if cfg!(target_endian = "big") { all.get_mut(8 - size..)? } else { all.get_mut(..size)? };
    part.copy_from_slice(bytes);
    Some(u64::from_ne_bytes(all))
}

/// Whether there is a process of this number. Who has none is taken for alive, and so is everybody where `/proc` is
/// not there to tell.
pub(super) fn is_alive(root: &Root, pid: u64) -> bool {
    pid == 0 || root.path(format!("/proc/{pid}")).exists() || root.path("/proc/self").symlink_metadata().is_err()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// type, pid, user, seconds, microseconds
    type Entry<'a> = (u16, u32, &'a str, u64, u64);

    fn file(layout: Layout, entries: &[Entry<'_>]) -> Vec<u8> {
        let mut content = Vec::new();
        for (kind, pid, user, seconds, microseconds) in entries {
            let mut record = vec![0; layout.size];
            let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
            put(0, &kind.to_ne_bytes());
            put(4, &pid.to_ne_bytes());
            put(8, b"pts/0");
            put(44, user.as_bytes());
            for (at, value) in layout.time.into_iter().zip([seconds, microseconds]) {
                match layout.word {
                    4 => put(at, &u32::try_from(*value).unwrap().to_ne_bytes()),
                    _ => put(at, &value.to_ne_bytes()),
                }
            }
            content.extend(record);
        }
        content
    }

    fn system(content: &[u8], alive: &[u32]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("run")).unwrap();
        fs::write(dir.path().join("run/utmp"), content).unwrap();
        fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        for pid in alive {
            fs::create_dir(dir.path().join(format!("proc/{pid}"))).unwrap();
        }
        let root = Root::new(dir.path());
        (dir, root)
    }

    fn session(user: &str, seconds: i64, microseconds: i64) -> Session {
        Session { user: user.to_owned(), seconds, microseconds }
    }

    #[test]
    fn only_users_whose_process_lives_count() {
        for layout in LAYOUTS {
            let entries = [
                (2, 0, "reboot", 1_699_000_000, 0),
                (7, 100, "alice", 1_700_000_100, 500_000),
                (7, 101, "bob", 1_700_000_200, 1),
                (7, 999, "ghost", 1_700_000_000, 0),
                (8, 100, "carol", 1_700_000_000, 0),
                (6, 100, "LOGIN", 1_700_000_000, 0),
                (7, 0, "nobody", 4_294_967_295, 0),
            ];
            let (_dir, root) = system(&file(layout, &entries), &[100, 101]);
            let expected = [
                session("alice", 1_700_000_100, 500_000),
                session("bob", 1_700_000_200, 1),
                session("nobody", 4_294_967_295, 0),
            ];
            assert_eq!(sessions(&root), expected, "{layout:?}");
        }
    }

    #[test]
    fn a_name_may_fill_its_field() {
        let long = "a123456789b123456789c123456789dd";
        let mut content = file(SHORT, &[(7, 0, long, 1, 2)]);
        // What follows the name is not part of it.
        content[76] = b'X';
        let (_dir, root) = system(&content, &[]);
        assert_eq!(sessions(&root), [session(long, 1, 2)]);
    }

    #[test]
    fn a_file_that_is_cut_off_or_not_there_is_no_error() {
        let mut content = file(SHORT, &[(7, 0, "alice", 1, 2), (7, 0, "bob", 1, 2)]);
        content.truncate(500);
        let (dir, root) = system(&content, &[]);
        let found = sessions(&root);
        assert!(found.len() <= 1 && (cfg!(not(target_arch = "x86_64")) || found == [session("alice", 1, 2)]));
        fs::remove_file(dir.path().join("run/utmp")).unwrap();
        assert_eq!(sessions(&root), []);
    }

    #[test]
    fn without_a_process_table_nobody_is_taken_for_dead() {
        let (dir, root) = system(&file(SHORT, &[(7, 999, "alice", 1, 2)]), &[]);
        assert_eq!(sessions(&root), []);
        fs::remove_dir(dir.path().join("proc/self")).unwrap();
        assert_eq!(sessions(&root).len(), 1);
    }
}
