use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, mknodat};

use super::*;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn open(&self, name: &str, mode: &str) -> Result<OpenFile> {
        OpenFile::open(&self.text(name), OpenMode::parse(mode).unwrap(), mode)
    }

    fn fifo(&self, name: &str) {
        mknodat(CWD, self.path(name), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    }
}

/// An end of a FIFO that is always open, so that the other end has somebody there.
fn other_end(path: PathBuf) -> File {
    let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits() as i32;
    fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).unwrap()
}

fn b64(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    base64::encode_into(&mut text, bytes);
    String::from_utf8(text).unwrap()
}

/// What a read passes on, put together.
fn read_all(file: &mut OpenFile, count: usize) -> Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    let (total, eof) = file.read(count, |piece| bytes.extend_from_slice(piece))?;
    assert_eq!(total, bytes.len());
    Ok((bytes, eof))
}

fn read(file: &mut OpenFile, count: usize) -> (String, bool) {
    let (bytes, eof) = read_all(file, count).unwrap();
    (String::from_utf8(bytes).unwrap(), eof)
}

fn put(file: &mut OpenFile, bytes: &str) -> u64 {
    file.write(&b64(bytes.as_bytes()), None).unwrap()
}

fn desc<T>(result: Result<T>) -> String {
    result.err().expect("it should have failed").desc.into_owned()
}

#[test]
fn exactly_the_modes_of_fopen_are_known() {
    for (names, flags) in [
        (vec!["r", "rb"], OFlags::RDONLY),
        (vec!["w", "wb"], OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC),
        (vec!["a", "ab"], OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND),
        (vec!["r+", "rb+", "r+b"], OFlags::RDWR),
        (vec!["w+", "wb+", "w+b"], OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC),
        (vec!["a+", "ab+", "a+b"], OFlags::RDWR | OFlags::CREATE | OFlags::APPEND),
    ] {
        for name in names {
            assert_eq!(OpenMode::parse(name), Some(OpenMode { flags }), "{name}");
        }
    }
    for name in ["", "rw", "re", "wx", "rt", "r,ccs=UTF-8", "R", "r ", " r", "br", "+r", "rbb", "r++", "\0", "r\0"] {
        assert_eq!(OpenMode::parse(name), None, "{name}");
    }
}

#[test]
fn opening_never_waits_and_never_leaks_into_a_child() {
    let dir = Dir::new();
    dir.write("f", "x");
    let file = dir.open("f", "r+").unwrap();
    assert!(rustix::io::fcntl_getfd(&file.file).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    assert!(rustix::fs::fcntl_getfl(&file.file).unwrap().contains(OFlags::NONBLOCK));
}

#[test]
fn a_new_file_is_for_its_owner_to_write_whatever_the_umask() {
    let dir = Dir::new();
    for mode in ["w", "a", "w+", "a+"] {
        dir.open(mode, mode).unwrap();
        assert_eq!(fs::metadata(dir.path(mode)).unwrap().permissions().mode() & 0o7777, 0o644, "{mode}");
    }
    // One that is there keeps what it has.
    dir.write("old", "content");
    fs::set_permissions(dir.path("old"), fs::Permissions::from_mode(0o604)).unwrap();
    dir.open("old", "a").unwrap();
    assert_eq!(dir.read("old"), "content");
    dir.open("old", "w").unwrap();
    assert_eq!(dir.read("old"), "");
    assert_eq!(fs::metadata(dir.path("old")).unwrap().permissions().mode() & 0o7777, 0o604);
}

#[test]
fn what_cannot_be_opened_is_told_with_its_path_its_mode_and_the_reason() {
    let dir = Dir::new();
    fs::create_dir(dir.path("dir")).unwrap();
    dir.fifo("fifo");
    symlink("nowhere", dir.path("dangling")).unwrap();
    for (name, mode, why) in [
        ("nope", "r", "No such file or directory"),
        ("nope", "r+b", "No such file or directory"),
        ("no/where", "w", "No such file or directory"),
        ("dir", "w", "Is a directory"),
        ("fifo", "w", "No such device or address"),
        ("dangling", "w", "No such file or directory"),
        ("dangling", "a+", "No such file or directory"),
        ("a\0b", "w", "No such file or directory"),
    ] {
        let path = dir.text(name);
        assert_eq!(desc(dir.open(name, mode)), format!("failed to open file '{path}' (mode: '{mode}'): {why}"));
    }
    let empty = OpenFile::open("", OpenMode::parse("r").unwrap(), "r");
    assert_eq!(desc(empty), "failed to open file '' (mode: 'r'): No such file or directory");
    assert!(fs::symlink_metadata(dir.path("nowhere")).is_err());
}

#[test]
fn only_a_file_that_opening_created_is_removed_again() {
    let dir = Dir::new();
    dir.write("old", "content");
    dir.open("old", "a").unwrap().undo(&dir.text("old"));
    assert_eq!(dir.read("old"), "content");

    dir.open("new", "w").unwrap().undo(&dir.text("new"));
    assert!(!dir.path("new").exists());

    let file = dir.open("replaced", "w").unwrap();
    fs::remove_file(dir.path("replaced")).unwrap();
    dir.write("replaced", "by another");
    file.undo(&dir.text("replaced"));
    assert_eq!(dir.read("replaced"), "by another");
}

#[test]
fn the_end_is_met_only_by_reading_past_it() {
    let dir = Dir::new();
    dir.write("f", "0123456789");
    let mut file = dir.open("f", "r").unwrap();
    assert_eq!(read(&mut file, 0), (String::new(), false));
    assert_eq!(read(&mut file, 4), ("0123".to_owned(), false));
    assert_eq!(read(&mut file, 6), ("456789".to_owned(), false));
    assert_eq!(read(&mut file, 1), (String::new(), true));
    // A growing file can be followed.
    fs::OpenOptions::new().append(true).open(dir.path("f")).unwrap().write_all(b"ab").unwrap();
    assert_eq!(read(&mut file, 4096), ("ab".to_owned(), true));
    assert_eq!(read(&mut file, 0), (String::new(), false));
}

#[test]
fn what_others_write_is_seen_at_once() {
    let dir = Dir::new();
    dir.write("f", "0123456789");
    let mut file = dir.open("f", "r").unwrap();
    assert_eq!(read(&mut file, 2).0, "01");
    dir.write("f", "ABCDEFGHIJ");
    assert_eq!(read(&mut file, 8).0, "CDEFGHIJ");
    let mut writer = dir.open("f", "w").unwrap();
    assert_eq!(put(&mut writer, "now"), 3);
    assert_eq!(dir.read("f"), "now", "nothing is held back");
}

#[test]
fn reading_and_writing_share_one_position() {
    let dir = Dir::new();
    dir.write("f", "abcdefghij");
    let mut file = dir.open("f", "r+").unwrap();
    assert_eq!(read(&mut file, 3), ("abc".to_owned(), false));
    assert_eq!(put(&mut file, "XYZ"), 3);
    assert_eq!(read(&mut file, 3), ("ghi".to_owned(), false));
    assert_eq!(file.seek(Seek::Start(0)).unwrap(), 0);
    assert_eq!(read(&mut file, 4096), ("abcXYZghij".to_owned(), true));
}

#[test]
fn appending_reads_from_the_start_and_writes_at_the_end() {
    let dir = Dir::new();
    dir.write("f", "0123456789");
    let mut file = dir.open("f", "a+").unwrap();
    assert_eq!(file.seek(Seek::Current(0)).unwrap(), 0);
    assert_eq!(read(&mut file, 2).0, "01");
    assert_eq!(put(&mut file, "ab"), 2);
    assert_eq!(file.seek(Seek::Current(0)).unwrap(), 12);
    file.seek(Seek::Start(0)).unwrap();
    assert_eq!(put(&mut file, "cd"), 2);
    assert_eq!(dir.read("f"), "0123456789abcd");
    // Before anything is written the position is the start, also where nothing can be read.
    assert_eq!(dir.open("f", "a").unwrap().seek(Seek::Current(0)).unwrap(), 0);
}

#[test]
fn seeking_goes_anywhere_but_before_the_start() {
    let dir = Dir::new();
    dir.write("f", "0123456789");
    dir.fifo("fifo");
    let mut file = dir.open("f", "r").unwrap();
    for (to, position) in [
        (Seek::End(-2), 8),
        (Seek::Current(1), 9),
        (Seek::Current(-4), 5),
        (Seek::Start(1000), 1000),
        (Seek::End(0), 10),
        (Seek::Start(0), 0),
    ] {
        assert_eq!(file.seek(to), Ok(position), "{to:?}");
    }
    for to in [Seek::Start(-1), Seek::Start(i64::MIN), Seek::Current(-1), Seek::End(-11), Seek::End(i64::MIN)] {
        assert_eq!(desc(file.seek(to)), "failed to seek file: Invalid argument", "{to:?}");
    }
    let _writer = other_end(dir.path("fifo"));
    let mut fifo = dir.open("fifo", "r").unwrap();
    for to in [Seek::Start(0), Seek::Start(-1), Seek::Current(0), Seek::End(0)] {
        assert_eq!(desc(fifo.seek(to)), "failed to seek file: Illegal seek", "{to:?}");
    }
}

#[test]
fn a_fifo_gives_what_it_has_and_loses_nothing() {
    let dir = Dir::new();
    dir.fifo("fifo");
    let mut file = dir.open("fifo", "r").unwrap();
    assert_eq!(read(&mut file, 4096), (String::new(), true), "nobody writes");
    let mut writer = other_end(dir.path("fifo"));
    assert_eq!(desc(read_all(&mut file, 4096)), "failed to read file: Resource temporarily unavailable");
    writer.write_all(b"data").unwrap();
    assert_eq!(read(&mut file, 4096), ("data".to_owned(), false));
    assert_eq!(desc(read_all(&mut file, 2)), "failed to read file: Resource temporarily unavailable");
    writer.write_all(b"more").unwrap();
    assert_eq!(read(&mut file, 2), ("mo".to_owned(), false));
    assert_eq!(read(&mut file, 2), ("re".to_owned(), false));
    writer.write_all(b"last").unwrap();
    drop(writer);
    assert_eq!(read(&mut file, 4096), ("last".to_owned(), true));
}

#[test]
fn a_fifo_that_is_full_takes_a_part_and_says_how_much() {
    let dir = Dir::new();
    dir.fifo("fifo");
    let mut reader = other_end(dir.path("fifo"));
    let mut file = dir.open("fifo", "w").unwrap();
    let bytes: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    let written = file.write(&b64(&bytes), None).unwrap() as usize;
    assert!(written > 0 && written < bytes.len(), "{written}");
    assert_eq!(desc(file.write("AAAA", None)), "failed to write to file: Resource temporarily unavailable");
    let mut got = vec![0; written];
    reader.read_exact(&mut got).unwrap();
    assert_eq!(got, bytes[..written]);
    drop(reader);
    // A child that another test starts has the reader until it is another program.
    let refused = std::iter::repeat_with(|| {
        std::thread::yield_now();
        file.write("AAAA", None)
    });
    let refused = refused.take(10_000).find(Result::is_err).unwrap();
    assert_eq!(desc(refused), "failed to write to file: Broken pipe");
}

#[test]
fn a_fifo_opened_both_ways_can_be_written_after_reading() {
    let dir = Dir::new();
    dir.fifo("fifo");
    let mut file = dir.open("fifo", "r+").unwrap();
    for round in ["one", "two"] {
        assert_eq!(put(&mut file, round), 3);
        assert_eq!(read(&mut file, 4096), (round.to_owned(), false));
    }
}

#[test]
fn an_error_comes_with_the_call_that_caused_it() {
    let dir = Dir::new();
    fs::create_dir(dir.path("dir")).unwrap();
    dir.write("f", "x");
    let full = || OpenFile::open("/dev/full", OpenMode::parse("w").unwrap(), "w").unwrap();
    assert_eq!(desc(full().write("aGk=", None)), "failed to write to file: No space left on device");
    assert_eq!(full().close(), Ok(()));
    assert_eq!(desc(dir.open("f", "r").unwrap().write("aGk=", None)), "failed to write to file: Bad file descriptor");
    assert_eq!(desc(read_all(&mut dir.open("f", "w").unwrap(), 1)), "failed to read file: Bad file descriptor");
    assert_eq!(desc(read_all(&mut dir.open("dir", "r").unwrap(), 1)), "failed to read file: Is a directory");
}

#[test]
fn a_write_that_ended_early_is_told_once_more_to_who_did_not_count() {
    let dir = Dir::new();
    dir.fifo("fifo");
    let mut reader = other_end(dir.path("fifo"));
    let big = b64(&[7; 200_000]);
    let drain = |reader: &mut File| {
        let mut sink = vec![0; 1 << 20];
        assert!(reader.read(&mut sink).unwrap() > 0);
    };

    let mut file = dir.open("fifo", "w").unwrap();
    assert!(file.write(&big, None).unwrap() < 200_000);
    // An empty write, as some clients end with, does not make it good.
    assert_eq!(file.write("", None), Ok(0));
    assert_eq!(desc(file.flush()), "failed to flush file: Resource temporarily unavailable");
    assert_eq!(file.flush(), Ok(()));
    assert_eq!(file.close(), Ok(()));

    drain(&mut reader);
    let mut file = dir.open("fifo", "w").unwrap();
    assert!(file.write(&big, None).unwrap() < 200_000);
    assert_eq!(desc(file.close()), "failed to close handle: Resource temporarily unavailable");

    // One that goes on has counted.
    drain(&mut reader);
    let mut file = dir.open("fifo", "w").unwrap();
    assert!(file.write(&big, None).unwrap() < 200_000);
    drain(&mut reader);
    assert_eq!(file.write("AAAA", None), Ok(3));
    assert_eq!(file.flush(), Ok(()));
    assert_eq!(file.close(), Ok(()));
}

#[test]
fn count_says_how_much_of_the_text_is_written() {
    let dir = Dir::new();
    for (count, written) in [(None, "hello"), (Some(5), "hello"), (Some(2), "he"), (Some(0), "")] {
        let mut file = dir.open("f", "w").unwrap();
        assert_eq!(file.write("aGVsbG8=", count), Ok(written.len() as u64));
        assert_eq!(dir.read("f"), written);
    }
    let mut file = dir.open("f", "w").unwrap();
    for count in [-1, 6, i64::MIN, i64::MAX] {
        let desc = desc(file.write("aGVsbG8=", Some(count)));
        assert_eq!(desc, format!("value '{count}' is invalid for argument count"));
    }
    assert_eq!(dir.read("f"), "");
}

#[test]
fn bad_base64_writes_nothing_however_late_it_turns_bad() {
    let dir = Dir::new();
    let mut file = dir.open("f", "w").unwrap();
    let late = format!("{}!", b64(&[1; 300_000]));
    for text in ["aGVs bG8=", "a-_b", "aGk=\r\n", late.as_str()] {
        assert_eq!(desc(file.write(text, Some(9_999_999))), "Base64 data contains invalid characters");
    }
    assert_eq!(dir.read("f"), "");
    // Newlines are passed over.
    assert_eq!(file.write("aGVs\nbG8=\n", None), Ok(5));
    assert_eq!(dir.read("f"), "hello");
}

#[test]
fn large_files_survive_the_way_in_and_out() {
    let dir = Dir::new();
    let bytes: Vec<u8> = (0..3_000_001_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut file = dir.open("f", "w+").unwrap();
    let mut wrapped = String::new();
    for line in b64(&bytes).as_bytes().chunks(76) {
        wrapped.push_str(std::str::from_utf8(line).unwrap());
        wrapped.push('\n');
    }
    assert_eq!(file.write(&wrapped, None), Ok(bytes.len() as u64));
    assert!(fs::read(dir.path("f")).unwrap() == bytes);
    file.seek(Seek::Start(0)).unwrap();
    let (got, eof) = read_all(&mut file, bytes.len()).unwrap();
    assert!(got == bytes && !eof);
    file.seek(Seek::Start(1)).unwrap();
    let (got, eof) = read_all(&mut file, 48 << 20).unwrap();
    assert!(got == bytes[1..] && eof);
}

#[test]
fn files_without_a_size_are_read_whole() {
    let file = OpenFile::open("/proc/self/maps", OpenMode::parse("r").unwrap(), "r");
    let (bytes, eof) = read_all(&mut file.unwrap(), 48 << 20).unwrap();
    assert!(bytes.len() > 100 && eof);
    let file = OpenFile::open("/dev/zero", OpenMode::parse("r").unwrap(), "r");
    let (bytes, eof) = read_all(&mut file.unwrap(), 100_000).unwrap();
    assert!(bytes == [0; 100_000] && !eof);
}
