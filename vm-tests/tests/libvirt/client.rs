//! The client library, and so `qga -t libvirt:...`, through the real virsh.

use std::fs;
use std::time::{Duration, Instant};

use qga_client::{Client, Error, Exec, GuestFile, Layer, Libvirt as Channel};
use qga_proto::command::Empty;
use qga_proto::types::core::{GuestInfo, GuestPing};
use serde_json::{Value, json};
use vm_tests::libvirt::{DOMAIN, Libvirt};

use crate::Guest;

const ENOUGH: Duration = Duration::from_secs(60);

fn client(libvirt: &Libvirt) -> Client {
    Client::libvirt(Some(&libvirt.uri()), DOMAIN, ENOUGH).unwrap()
}

pub(crate) fn the_client_library_reaches_the_agent_through_virsh(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    assert_eq!(Channel::running(Some(&libvirt.uri()), ENOUGH).unwrap(), [DOMAIN]);
    let mut agent = client(libvirt);
    let info = agent.call::<GuestInfo>(Empty {}).unwrap();
    assert!(info.supported_commands.iter().any(|command| command.name == "guest-fstrim"));

    // One virsh carries all of them: what would cost a new one each, and a new connection, does not.
    const ROUNDS: u32 = 100;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        agent.call::<GuestPing>(Empty {}).unwrap();
    }
    let each = start.elapsed() / ROUNDS;
    println!("    {:.1} ms for a command through virsh", each.as_secs_f64() * 1e3);

    // Words that a shell, readline, virsh or JSON would make something else of; and one that no list of processes shows.
    const WORDS: &str = "it's \"quoted\" \\ $HOME `id` ; # \t é 🦀 \u{7f} !! %s";
    let finished = Exec::new("/bin/sh").args(["-c", "printf %s \"$1\"", "sh", WORDS]).run(&mut agent, ENOUGH).unwrap();
    assert_eq!(String::from_utf8(finished.out).unwrap(), WORDS);
    let slow = Exec::new("/bin/sh").args(["-c", ": XyZZy-secret; sleep 1"]).start(&mut agent).unwrap();
    assert_eq!(processes_with("XyZZy-secret"), Vec::<String>::new());
    assert!(slow.wait(&mut agent, ENOUGH).unwrap().is_success());

    // Pieces of a file larger than a line or a command line may be.
    let bytes: Vec<u8> = (0..150_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let file = GuestFile::open(&mut agent, "/run/piece", "w+").unwrap();
    let start = Instant::now();
    file.write_all(&mut agent, &bytes).unwrap();
    println!("    {:.0} kB/s written through virsh", 150.0 / start.elapsed().as_secs_f64());
    file.seek(&mut agent, std::io::SeekFrom::Start(0)).unwrap();
    assert!(file.read_to_end(&mut agent, 1 << 20).unwrap() == bytes);
    file.close(&mut agent).unwrap();
    libvirt.shell.run("rm /run/piece");

    let error = agent.call_raw("guest-nothing", Value::Null).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let error = agent.call_raw("guest-file-open", json!({ "path": "/nonexistent/it's" })).unwrap_err();
    assert!(matches!(&error, Error::Failed { desc, .. } if desc.contains("No such file or directory")), "{error}");
}

/// The command lines on this host that have a text in them.
fn processes_with(text: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let processes = entries.filter(|entry| entry.file_name().to_string_lossy() != own);
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).filter(|line| line.contains(text)).collect()
}

pub(crate) fn the_client_library_tells_an_agent_that_hangs_one_that_is_gone_and_no_machine_apart(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    let mut agent = client(libvirt);
    agent.call::<GuestPing>(Empty {}).unwrap();

    // It has answered, and then hangs: the command is late. The next question finds no agent at all.
    libvirt.shell.run("kill -STOP $(cat /run/qga/pid)");
    agent.set_timeout(Duration::from_secs(2));
    let error = agent.call_raw("guest-get-time", Value::Null).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let error = agent.call::<GuestPing>(Empty {}).unwrap_err();
    assert!(matches!(error, Error::Silent(_)), "{error}");
    // One that answers only when it fails must not count as done.
    let error = client(libvirt).call_raw("guest-suspend-ram", Value::Null).unwrap_err();
    assert_eq!(error.layer(), Layer::Agent, "{error}");
    libvirt.shell.run("kill -CONT $(cat /run/qga/pid)");
    agent.set_timeout(ENOUGH);
    agent.call::<GuestPing>(Empty {}).unwrap();

    libvirt.shell.run("kill $(cat /run/qga/pid)");
    libvirt.wait_agent("disconnected");
    let error = agent.call::<GuestPing>(Empty {}).unwrap_err();
    assert!(matches!(&error, Error::PortClosed(domain) if domain == DOMAIN), "{error}");
    libvirt.shell.run("start-agent");
    libvirt.wait_agent("connected");
    agent.call::<GuestPing>(Empty {}).unwrap();

    let mut nobody = Client::libvirt(Some(&libvirt.uri()), "nobody", ENOUGH).unwrap();
    let error = nobody.call::<GuestPing>(Empty {}).unwrap_err();
    assert!(matches!(&error, Error::NoDomain(domain) if domain == "nobody"), "{error}");
    let mut nowhere = Client::libvirt(Some("qemu:///system?socket=/nonexistent/sock"), DOMAIN, ENOUGH).unwrap();
    let error = nowhere.call::<GuestPing>(Empty {}).unwrap_err();
    assert!(matches!(&error, Error::Libvirt(what) if what.contains("failed to connect")), "{error}");
}
