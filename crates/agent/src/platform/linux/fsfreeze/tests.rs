//! Opening only. Nothing is frozen here: the temporary directory lies on a file system of this machine.

use std::os::unix::net::UnixListener;

use super::*;

/// A directory that passes for a mount point of a file system, with the real number of its mount or another one.
struct Guest {
    dir: tempfile::TempDir,
    id: u64,
}

impl Guest {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_directory(dir.path()).unwrap();
        let id = mount_id(&Root::default(), &fd).unwrap();
        Guest { dir, id }
    }

    fn open(&self, points: &[&str], id: u64) -> Result<PathBuf, OpenError> {
        let lines = points.iter().map(|point| format!("{id} 0 8:1 / {point} rw - ext4 /dev/sda1 rw\n"));
        let table = Table::parse(lines.collect::<String>().as_bytes());
        let root = Root::new(self.dir.path());
        open(&root, &table, &table.file_systems(&root)[0]).map(|handle| handle.point().to_owned())
    }
}

#[test]
fn what_belongs_to_another_mount_is_not_taken_for_the_file_system() {
    let guest = Guest::new();
    fs::create_dir(guest.dir.path().join("a")).unwrap();
    assert_eq!(guest.open(&["/a"], guest.id), Ok("/a".into()));
    assert_eq!(guest.open(&["/a"], guest.id + 100_000), Err(OpenError::Unreachable));
}

#[test]
fn a_directory_is_preferred_to_a_file_and_other_things_are_never_opened() {
    let guest = Guest::new();
    let path = |name: &str| guest.dir.path().join(name);
    fs::create_dir(path("dir")).unwrap();
    fs::write(path("file"), "").unwrap();
    let _socket = UnixListener::bind(path("socket")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    std::os::unix::fs::symlink("file", path("link")).unwrap();
    assert_eq!(guest.open(&["/fifo", "/file", "/dir"], guest.id), Ok("/dir".into()));
    assert_eq!(guest.open(&["/fifo", "/socket", "/file"], guest.id), Ok("/file".into()));
    // Opening the FIFO for reading would wait for a writer.
    assert_eq!(guest.open(&["/fifo", "/socket", "/link"], guest.id), Err(OpenError::Unreachable));
}

#[test]
fn the_first_failure_is_told_when_nothing_can_be_opened() {
    let guest = Guest::new();
    fs::create_dir(guest.dir.path().join("a")).unwrap();
    let failed = OpenError::Failed { point: "/gone".into(), errno: Errno::NOENT };
    assert_eq!(guest.open(&["/gone", "/lost"], guest.id), Err(failed));
    assert_eq!(guest.open(&["/gone", "/a"], guest.id), Ok("/a".into()));
}
