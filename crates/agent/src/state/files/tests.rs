use std::sync::mpsc;
use std::thread;

use super::*;
use crate::platform::linux::file::OpenMode;

fn open() -> OpenFile {
    OpenFile::open("/dev/null", OpenMode::parse("r").unwrap(), "r").unwrap()
}

fn nothing(_: &mut OpenFile) -> Result<()> {
    Ok(())
}

fn desc<T>(result: Result<T>) -> String {
    result.err().expect("it should have failed").desc.into_owned()
}

/// Calls `meanwhile` while another thread is inside of a read of handle 1000.
fn while_hung<T>(table: &FileTable, meanwhile: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let (entered, is_in) = mpsc::channel();
        let (release, wait) = mpsc::channel::<()>();
        scope.spawn(move || {
            table.with(1000, "guest-file-read", |_| {
                entered.send(()).unwrap();
                let _ = wait.recv();
                Ok(())
            })
        });
        is_in.recv().unwrap();
        let result = meanwhile();
        drop(release);
        result
    })
}

#[test]
fn a_handle_is_known_from_its_opening_to_its_closing() {
    let table = FileTable::default();
    let gone = "handle '1000' has not been found";
    assert_eq!(desc(table.with(1000, "guest-file-read", nothing)), gone);
    assert_eq!(desc(table.close(1000)), gone);
    table.insert(1000, open());
    assert_eq!(table.with(1000, "guest-file-read", nothing), Ok(()));
    assert_eq!(desc(table.with(-1, "guest-file-read", nothing)), "handle '-1' has not been found");
    assert_eq!(table.close(1000), Ok(()));
    assert_eq!(desc(table.close(1000)), gone);
}

#[test]
fn a_handle_survives_a_failing_and_even_a_panicking_command() {
    let table = FileTable::default();
    table.insert(1000, open());
    let failed: Result<()> = table.with(1000, "guest-file-read", |_| Err(Error::generic("no")));
    assert_eq!(desc(failed), "no");
    let panicked = thread::scope(|scope| {
        scope.spawn(|| table.with(1000, "guest-file-read", |_| -> Result<()> { panic!("on purpose") })).join()
    });
    assert!(panicked.is_err());
    assert_eq!(table.with(1000, "guest-file-read", nothing), Ok(()));
}

#[test]
fn a_handle_that_hangs_holds_up_nothing_but_itself() {
    let table = FileTable::default();
    table.insert(1000, open());
    table.insert(1001, open());
    while_hung(&table, || {
        assert_eq!(table.with(1001, "guest-file-read", nothing), Ok(()));
        assert_eq!(table.check_room(), Ok(()));
        table.insert(1002, open());
        let result = table.with_patience(1000, "guest-file-write", Duration::from_millis(50), nothing);
        let desc = desc(result);
        assert!(desc.starts_with("handle '1000' is busy with guest-file-read for "), "{desc}");
    });
    assert_eq!(table.with(1000, "guest-file-read", nothing), Ok(()));
}

#[test]
fn a_handle_that_is_free_soon_is_waited_for() {
    let table = FileTable::default();
    table.insert(1000, open());
    thread::scope(|scope| {
        let (waiting, is_waiting) = mpsc::channel();
        let waiter = while_hung(&table, || {
            let table = &table;
            let waiter = scope.spawn(move || {
                waiting.send(()).unwrap();
                table.with_patience(1000, "guest-file-read", Duration::from_secs(60), nothing)
            });
            is_waiting.recv().unwrap();
            waiter
        });
        assert_eq!(waiter.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_hung_handle_can_be_given_up_and_is_closed_when_it_comes_back() {
    let table = FileTable::default();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let file = OpenFile::open(path.to_str().unwrap(), OpenMode::parse("w").unwrap(), "w").unwrap();
    table.insert(1000, file);
    while_hung(&table, || {
        let desc = desc(table.close_with_patience(1000, Duration::from_millis(50)));
        assert!(desc.starts_with("handle '1000' is busy with guest-file-read for "), "{desc}");
        assert_eq!(self::desc(table.with(1000, "guest-file-read", nothing)), "handle '1000' has not been found");
        assert_eq!(open_descriptors_of(&path), 1);
    });
    assert_eq!(open_descriptors_of(&path), 0);
}

fn open_descriptors_of(path: &std::path::Path) -> usize {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap();
    fds.filter(|fd| std::fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|to| to == path)).count()
}

#[test]
fn there_is_a_limit_that_says_what_to_do() {
    let table = FileTable::default();
    for handle in 0..MOST_HANDLES as i64 {
        assert_eq!(table.check_room(), Ok(()));
        table.insert(handle, open());
    }
    let full = "512 file handles are open, which is the limit: close some with guest-file-close";
    assert_eq!(desc(table.check_room()), full);
    table.close(7).unwrap();
    assert_eq!(table.check_room(), Ok(()));
}
