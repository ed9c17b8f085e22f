use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

use super::*;

#[test]
fn the_pid_file_holds_our_id_for_the_owner_only_and_goes_with_us() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    fs::write(&path, "a much longer leftover of another agent\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let held = PidFile::create(&path).unwrap().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    drop(held);
    assert!(!path.exists());
    let held = PidFile::create(&path).unwrap().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(held);
}

#[test]
fn the_pid_file_of_a_running_agent_is_neither_taken_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    // A record lock does not hold against its own process, so the other agent has to be another process.
    let script = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.lockf(f,fcntl.LOCK_EX); f.write('4711\\n'); \
                  f.flush(); print('locked',flush=True); sys.stdin.read()";
    let mut other = match Command::new("python3")
        .args(["-c", script])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        Ok(other) => other,
        Err(e) => {
            eprintln!("SKIPPED: no python3 to hold a lock in another process: {e}");
            return;
        }
    };
    let mut word = [0; 6];
    other.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    assert_eq!(PidFile::create(&path).unwrap_err(), "Cannot lock pid file: Resource temporarily unavailable");
    assert_eq!(fs::read_to_string(&path).unwrap(), "4711\n");
    drop(other.stdin.take());
    other.wait().unwrap();
    PidFile::create(&path).unwrap();
}

#[test]
fn a_pid_file_that_was_replaced_is_left_to_its_new_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    let held = PidFile::create(&path).unwrap().unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "4711\n").unwrap();
    drop(held);
    assert_eq!(fs::read_to_string(&path).unwrap(), "4711\n");
}

#[test]
fn a_pid_file_that_cannot_be_is_refused_and_a_link_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("no/pid");
    assert_eq!(
        PidFile::create(&path).unwrap_err(),
        format!("Cannot open pid file {}: No such file or directory", path.display())
    );
    let victim = dir.path().join("victim");
    fs::write(&victim, "keep").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    assert!(PidFile::create(&link).unwrap_err().starts_with("Cannot open pid file"));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "keep");
}

#[test]
fn the_foreground_ends_as_the_background_says() {
    let table: [(&[u8], i32, &str); 3] = [
        (b"\0", 0, ""),
        (b"", 1, "qemu-ga: the background process ended before it was ready\n"),
        (b"qemu-ga: Cannot lock pid file\n", 1, "qemu-ga: Cannot lock pid file\n"),
    ];
    for (word, status, shown) in table {
        let mut stderr = Vec::new();
        assert_eq!(wait_for_word(word, &mut stderr), status);
        assert_eq!(String::from_utf8(stderr).unwrap(), shown);
    }
}

#[test]
fn a_process_with_more_than_one_thread_is_not_split() {
    let (tell, wait) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || wait.recv());
    assert_eq!(daemonize().unwrap_err(), "cannot go into the background: Device or resource busy");
    drop(tell);
    other.join().unwrap().unwrap_err();
}

#[test]
fn a_socket_is_ours_only_if_exactly_one_was_handed_to_this_process() {
    let table = [
        (None, None, Ok(false)),
        (Some("7"), None, Ok(false)),
        (None, Some("1"), Ok(false)),
        (Some("8"), Some("1"), Ok(false)),
        (Some("8"), Some("2"), Ok(false)),
        (Some("7"), Some("0"), Ok(false)),
        (Some("7"), Some("-1"), Ok(false)),
        (Some("x"), Some("1"), Ok(false)),
        (Some("7"), Some("1"), Ok(true)),
        (Some("7"), Some("2"), Err("qemu-ga only supports listening on one socket".to_owned())),
    ];
    for (pid, fds, expected) in table {
        assert_eq!(is_activated(pid, fds, 7), expected, "{pid:?} {fds:?}");
    }
}

#[test]
fn only_listening_sockets_of_a_known_family_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let unix = UnixListener::bind(dir.path().join("a")).unwrap();
    assert_eq!(listen_family(&unix.into()), Some(ListenFamily::Unix));
    assert_eq!(listen_family(&UnixDatagram::unbound().unwrap().into()), None);
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_eq!(listen_family(&one.into()), None);
    assert_eq!(listen_family(&File::open("/dev/null").unwrap().into()), None);
    let inet = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(listen_family(&inet.into()), None);
    assert_eq!(ListenFamily::Vsock.method(), "vsock-listen");
}

#[test]
fn signals_are_read_instead_of_acting() {
    // On a thread of its own: the mask belongs to the thread, and so do the signals sent to it.
    std::thread::spawn(|| {
        let signals = Signals::take().unwrap();
        assert_eq!(signals.next(), None);
        for (signal, expected) in
            [(libc::SIGHUP, Signal::Reopen), (libc::SIGTERM, Signal::End), (libc::SIGINT, Signal::End)]
        {
            ffi::raise(signal);
            assert_eq!(signals.next(), Some(expected));
            assert_eq!(signals.next(), None);
        }
    })
    .join()
    .unwrap();
}

#[test]
fn only_what_lies_in_memory_is_never_frozen() {
    assert!(!is_never_frozen(Path::new("/proc/self/pid")));
    assert!(!is_never_frozen(Path::new("/nonexistent/pid")));
    let shm = rustix::fs::statfs("/dev/shm").is_ok_and(|s| s.f_type == 0x0102_1994);
    assert_eq!(is_never_frozen(Path::new("/dev/shm/pid")), shm);
}
