//! What becomes of a channel that is not as it should be, and of those that are no sockets.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::spawn;
use std::time::{Duration, Instant};

use qga_client::{Channel, Client, Error, Layer};
use qga_proto::command::Empty;
use qga_proto::types::core::GuestPing;
use qga_testkit::skip;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

/// Time for everything that is expected to work.
const ENOUGH: Duration = Duration::from_secs(30);

/// Time for everything that is expected not to be answered.
const SHORT: Duration = Duration::from_millis(300);

#[test]
fn a_socket_that_serves_somebody_else_is_said_to_be_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let _other = UnixStream::connect(&path).unwrap();
    let _served = listener.accept().unwrap();

    // As with QEMU, which takes the next client only when this one has gone.
    let error = Client::unix(&path, SHORT).unwrap().call::<GuestPing>(Empty {}).unwrap_err();
    assert!(matches!(&error, Error::Held(Channel::Unix(held)) if *held == path), "{error}");
    assert_eq!(error.to_string(), format!("{} is in use by another program", path.display()));
    assert!(error.hint().unwrap().contains("-t libvirt:DOMAIN"));
}

#[test]
fn a_socket_that_takes_everybody_and_is_silent_is_not_said_to_be_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let _other = UnixStream::connect(&path).unwrap();
    let _served = listener.accept().unwrap();
    let mut client = Client::unix(&path, SHORT).unwrap();
    let _served_too = listener.accept().unwrap();
    let error = client.call::<GuestPing>(Empty {}).unwrap_err();
    assert!(matches!(error, Error::Silent(_)), "{error}");
}

#[test]
fn a_socket_that_libvirt_has_open_is_not_even_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("libvirt/qemu/channel");
    fs::create_dir_all(&place).unwrap();
    let path = place.join("org.qemu.guest_agent.0");
    let listener = UnixListener::bind(&path).unwrap();
    // Free, as while libvirtd is stopped, it may be used.
    drop(Client::unix(&path, ENOUGH).unwrap());
    drop(listener.accept().unwrap());

    let _libvirt = UnixStream::connect(&path).unwrap();
    let _served = listener.accept().unwrap();
    let error = Client::unix(&path, ENOUGH).unwrap_err();
    assert!(matches!(error, Error::Held(_)), "{error}");
    assert!(error.hint().unwrap().starts_with("libvirt has it"), "{}", error.hint().unwrap());
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody waits at the socket");
}

/// A pty: what QEMU has of it, and the path of what a program opens.
fn pty() -> (OwnedFd, PathBuf) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    (ours, name.into())
}

#[test]
fn an_agent_behind_a_pty_answers_and_every_byte_passes() {
    let (qemu, path) = pty();
    // Every character that a terminal would take for a key, or for the end of a line.
    const TEXT: &str = "\u{3}\u{4}\u{11}\u{13}\u{15}\u{16}\u{1a}\u{1c}\r\u{7f}\u{80}é";
    let guest = spawn(move || {
        let mut output = fs::File::from(qemu.try_clone().unwrap());
        let mut lines = BufReader::new(fs::File::from(qemu)).split(b'\n');
        for _ in 0..2 {
            let line = lines.next().unwrap().unwrap();
            let request: Value = serde_json::from_slice(line.strip_prefix(b"\xFF").unwrap_or(&line)).unwrap();
            if request["execute"] == "guest-sync-delimited" {
                output.write_all(b"\xFF").unwrap();
                writeln!(output, "{}", json!({ "return": request["arguments"]["id"] })).unwrap();
            } else {
                assert_eq!(request["arguments"]["text"], TEXT);
                // Raw, as no terminal would let it pass: the number of each byte stays.
                writeln!(output, "{{\"return\": \"\u{7f}\u{80}\"}}").unwrap();
            }
        }
        // Open until the client has read it all.
        let _ = lines.next();
    });
    let mut client = Client::serial(&path, ENOUGH).unwrap();
    assert_eq!(client.call_raw("x", json!({ "text": TEXT })).unwrap(), "\u{7f}\u{80}");
    assert!(client.chunks().write < 64 << 10, "a serial line is slow");
    drop(client);
    guest.join().unwrap();
}

#[test]
fn a_line_without_anybody_at_its_end_is_silent_and_one_whose_qemu_is_gone_is_closed() {
    let (qemu, path) = pty();
    let mut client = Client::serial(&path, SHORT).unwrap();
    let start = Instant::now();
    let error = client.call::<GuestPing>(Empty {}).unwrap_err();
    assert!(matches!(error, Error::Silent(_)), "{error}");
    assert!(start.elapsed() < ENOUGH);
    drop(qemu);
    let error = client.call::<GuestPing>(Empty {}).unwrap_err();
    assert!(matches!(error, Error::Closed), "{error}");
}

#[test]
fn two_programs_do_not_share_a_line() {
    let (_qemu, path) = pty();
    let first = Client::serial(&path, SHORT).unwrap();
    let error = Client::serial(&path, SHORT).unwrap_err();
    assert_eq!(error.to_string(), format!("{} is busy", path.display()));
    drop(first);
    Client::serial(&path, SHORT).unwrap();
}

#[test]
fn what_is_no_serial_line_is_said_to_be_none() {
    let error = Client::serial("/dev/null", SHORT).unwrap_err();
    assert_eq!(error.to_string(), "cannot open /dev/null: Inappropriate ioctl for device");
    let error = Client::serial("/nowhere/pty", SHORT).unwrap_err();
    assert_eq!(error.to_string(), "no such serial line: /nowhere/pty");
    assert_eq!(error.layer(), Layer::Channel);
}

#[test]
fn a_vsock_address_without_a_guest_is_an_error_of_the_channel() {
    let start = Instant::now();
    let error = Client::vsock(0x7fff_fff0, 1024, ENOUGH).unwrap_err();
    assert_eq!(error.layer(), Layer::Channel);
    assert!(error.to_string().contains("2147483632"), "{error}");
    assert!(error.hint().unwrap().contains("vhost"), "{error}");
    assert!(start.elapsed() < ENOUGH);
}

#[test]
fn an_agent_behind_vsock_answers() {
    // The loopback of vsock stands in for a guest.
    let name = "an_agent_behind_vsock_answers";
    let listener = match vsock::VsockListener::bind_with_cid_port(vsock::VMADDR_CID_LOCAL, 49_152) {
        Ok(listener) => listener,
        Err(error) => return skip::skipped(name, &format!("no loopback of vsock: {error}")),
    };
    let guest = spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut output = stream.try_clone().unwrap();
        for line in BufReader::new(stream).split(b'\n') {
            let line = line.unwrap();
            let request: Value = serde_json::from_slice(line.strip_prefix(b"\xFF").unwrap_or(&line)).unwrap();
            let result =
                if request["execute"] == "guest-ping" { json!({}) } else { request["arguments"]["id"].clone() };
            write!(output, "\u{20}").unwrap();
            output.write_all(b"\xFF").unwrap();
            writeln!(output, "{}", json!({ "return": result })).unwrap();
        }
    });
    let mut client = match Client::vsock(vsock::VMADDR_CID_LOCAL, 49_152, ENOUGH) {
        Ok(client) => client,
        Err(error) => return skip::skipped(name, &format!("no loopback of vsock: {error}")),
    };
    let answered = client.call::<GuestPing>(Empty {});
    assert!(answered.is_ok(), "{}", answered.unwrap_err());
    drop(client);
    guest.join().unwrap();
}
