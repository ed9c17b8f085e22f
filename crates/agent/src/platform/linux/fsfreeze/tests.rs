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

#[test]
fn what_ends_in_time_is_answered_and_what_does_not_is_given_up_and_heard_of_later() {
    let (tell, heard) = std::sync::mpsc::channel();
    let never = |_: &str| panic!("it was in time");
    assert_eq!(within(None, &|| false, || "done", never), Ok("done"));
    assert_eq!(within(Some(Duration::from_secs(60)), &|| false, || "done", never), Ok("done"));

    for (limit, give_up) in [(Some(Duration::from_millis(20)), false), (None, true)] {
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let tell = tell.clone();
        let work = move || wait.recv().is_ok();
        let given_up = within(limit, &move || give_up, work, move |result| tell.send(result).unwrap());
        assert_eq!(given_up, Err(FreezeError::TooLate));
        assert!(heard.try_recv().is_err(), "it has not ended");
        end.send(()).unwrap();
        assert_eq!(heard.recv_timeout(Duration::from_secs(30)), Ok(true));
    }
}

#[test]
fn what_hangs_is_not_tried_again_until_it_has_come_to_an_end() {
    let hanging = Hanging::default();
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let device = |minor| Some(Device { major: 8, minor });
    let soon = Some(Duration::from_millis(20));
    let long = Some(Duration::from_secs(60));
    assert_eq!(hanging.within(device(1), soon, &|| false, move || wait.recv().is_ok()), Err(FreezeError::TooLate));
    for _ in 0..100 {
        // Nothing is started: it would say so.
        let again = hanging.within(device(1), long, &|| false, || panic!("it was tried again"));
        assert_eq!(again, Err(FreezeError::TooLate));
    }
    assert_eq!(hanging.within(device(2), long, &|| false, || "another"), Ok("another"));
    assert_eq!(hanging.within(None, long, &|| false, || "all"), Ok("all"));
    end.send(()).unwrap();
    let works = || hanging.within(device(1), long, &|| false, || ()).ok();
    for _ in 0..1000 {
        if works().is_some() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it is still taken for something that hangs");
}
