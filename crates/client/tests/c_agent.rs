//! The client against the C agent of the distribution and against QEMU's own monitors.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qga_client::{Blocker, Client, Error, Monitor};
use qga_proto::command::Empty;
use qga_proto::types::core::{GuestInfo, GuestPing};
use qga_proto::types::file::{
    FileHandleArgs, FileOpenArgs, FileReadArgs, FileWriteArgs, GuestFileClose, GuestFileOpen, GuestFileRead,
    GuestFileWrite,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const AGENT: &str = "/usr/sbin/qemu-ga";

/// Time for everything that is expected to work.
const ENOUGH: Duration = Duration::from_secs(30);

/// A program that serves a socket, ended with the value.
struct Server {
    dir: TempDir,
    child: Child,
}

impl Server {
    /// Starts a program whose arguments may name the directory as `DIR`; `None`, loudly, when it is not installed.
    fn start(program: &str, args: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let args = args.iter().map(|arg| arg.replace("DIR", dir.path().to_str().unwrap()));
        match Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
            Ok(child) => Some(Server { dir, child }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("SKIPPED: {program} is not installed");
                None
            }
            Err(error) => panic!("cannot start {program}: {error}"),
        }
    }

    fn agent(args: &[&str]) -> Option<Self> {
        Server::start(AGENT, &[&["-m", "unix-listen", "-p", "DIR/sock", "-t", "DIR"], args].concat())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn client(&self) -> Client {
        let start = Instant::now();
        loop {
            match Client::unix(self.path("sock"), ENOUGH) {
                Ok(client) => return client,
                Err(error) if start.elapsed() > ENOUGH => panic!("{error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_c_agent_answers_typed_and_raw_calls() {
    let Some(agent) = Server::agent(&[]) else { return };
    let mut client = agent.client();
    client.call::<GuestPing>(Empty {}).unwrap();
    let info = client.call::<GuestInfo>(Empty {}).unwrap();
    assert!(
        info.supported_commands.iter().any(|command| command.name == "guest-shutdown" && !command.success_response)
    );
    assert!(matches!(client.call_raw("guest-nonsense", Value::Null), Err(Error::NotFound { .. })));
    let error = client.call_raw("guest-file-open", json!({"path": "/nonexistent/x"})).unwrap_err();
    assert!(error.to_string().contains("No such file or directory"), "{error}");
    client.call::<GuestPing>(Empty {}).unwrap();
}

#[test]
fn files_go_through_the_c_agent_and_back() {
    let Some(agent) = Server::agent(&[]) else { return };
    let mut client = agent.client();
    let path = agent.path("file").to_str().unwrap().to_owned();
    let open = |mode: &'static str| FileOpenArgs { path: path.clone().into(), mode: Some(mode.into()) };

    let handle = client.call::<GuestFileOpen>(open("w")).unwrap();
    let args = FileWriteArgs { handle, buf_b64: "aGVsbG8gZ3Vlc3Q=".into(), count: None };
    assert_eq!(client.call::<GuestFileWrite>(args).unwrap().count, 11);
    client.call::<GuestFileClose>(FileHandleArgs { handle }).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"hello guest");

    let handle = client.call::<GuestFileOpen>(open("r")).unwrap();
    let read = client.call::<GuestFileRead>(FileReadArgs { handle, count: Some(100) }).unwrap();
    assert_eq!((read.count, read.buf.0.as_slice(), read.eof), (11, &b"hello guest"[..], true));
}

#[test]
fn a_client_takes_up_where_another_one_broke_off() {
    let Some(agent) = Server::agent(&[]) else { return };
    let mut client = agent.client();
    client.call::<GuestPing>(Empty {}).unwrap();
    drop(client);
    {
        use std::io::Write;
        let mut rude = std::os::unix::net::UnixStream::connect(agent.path("sock")).unwrap();
        rude.write_all(b"{\"execute\": \"guest-info\"}\n{\"execute\": \"guest-").unwrap();
        // Reads the one answer, so that the C agent is not hit by the end of the connection while it writes.
        let mut answer = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(&rude), &mut answer).unwrap();
    }
    agent.client().call::<GuestPing>(Empty {}).unwrap();
}

#[test]
fn a_block_list_of_the_c_agent_is_recognised() {
    let Some(agent) = Server::agent(&["-b", "guest-get-time,guest-sync-delimited"]) else { return };
    let mut client = agent.client();
    client.call::<GuestPing>(Empty {}).unwrap();
    let error = client.call_raw("guest-get-time", Value::Null).unwrap_err();
    assert!(matches!(error, Error::Blocked { by: Blocker::List, .. }), "{error}");
}

#[test]
fn an_agent_without_any_sync_command_is_said_to_block_it() {
    let Some(agent) = Server::agent(&["-b", "guest-sync,guest-sync-delimited"]) else { return };
    let error = agent.client().call::<GuestPing>(Empty {}).unwrap_err();
    assert!(matches!(error, Error::Blocked { .. }), "{error}");
}

#[test]
fn the_monitors_of_a_real_qemu_are_recognised() {
    let cases = [("-qmp", Monitor::Qmp), ("-monitor", Monitor::Human)];
    for (option, monitor) in cases {
        let args = ["-machine", "none", "-display", "none", "-nodefaults", option, "unix:DIR/sock,server=on,wait=off"];
        let Some(qemu) = Server::start("qemu-system-x86_64", &args) else { return };
        let error = qemu.client().call::<GuestPing>(Empty {}).unwrap_err();
        assert!(matches!(error, Error::Monitor(found) if found == monitor), "{error}");
    }
}
