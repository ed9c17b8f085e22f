//! Other ways to the agent: a serial line, and ports that come and go.

use std::io::ErrorKind;
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qga_testkit::host::{outcome, request};
use qga_testkit::{Host, wait};
use serde_json::{Value, json};
use vm_tests::machine::PLUGGED_PORT;

use crate::Guest;
use crate::file::{hash, noise};

/// A call over the emulated serial line, which stalls now and then: an empty line, which means nothing, wakes it up.
fn call(agent: &mut Host, name: &str, arguments: Value) -> Value {
    agent.send_raw(&request(name, &arguments)).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match agent.read_json(Duration::from_secs(1)) {
            Ok(reply) => return outcome(reply).unwrap().unwrap_or_else(|error| panic!("{name}: {error}")),
            Err(error) if error.kind() == ErrorKind::TimedOut && Instant::now() < end => agent.send_raw(b"\n").unwrap(),
            Err(error) => panic!("{name} over the serial line: {error}"),
        }
    }
}

pub(crate) fn an_isa_serial_line_carries_everything(guest: &mut Guest) {
    let machine = &mut guest.machine;
    machine.shell.run("start-agent serial -m isa-serial -p /dev/ttyS2");
    let mut agent = machine.serial_agent();
    assert_eq!(call(&mut agent, "guest-ping", json!({})), json!({}));
    // A line in raw mode: no echo of the request, no CR added to the reply or taken from the request for a LF.
    agent.send_raw(b"{\"execute\": \"guest-sync\",\r\"arguments\": {\"id\": -7}}\r\n").unwrap();
    let mut reply = Vec::new();
    wait::until("a reply over the serial line", Duration::from_secs(60), || {
        reply.extend(agent.read_until_silence(Duration::from_secs(1)).unwrap());
        agent.send_raw(b"\n").unwrap();
        reply.ends_with(b"\n").then_some(())
    });
    assert_eq!(String::from_utf8_lossy(&reply), "{\"return\": -7}\n");

    let bytes = noise(20_000);
    let handle = call(&mut agent, "guest-file-open", json!({ "path": "/run/serial/file", "mode": "w+" }));
    for piece in bytes.chunks(7000) {
        let arguments = json!({ "handle": handle, "buf-b64": STANDARD.encode(piece) });
        assert_eq!(call(&mut agent, "guest-file-write", arguments)["count"], piece.len());
    }
    call(&mut agent, "guest-file-flush", json!({ "handle": handle }));
    let there = machine.shell.run("sha256sum </run/serial/file");
    assert_eq!(there.split(' ').next(), Some(hash(&bytes).as_str()));
    call(&mut agent, "guest-file-seek", json!({ "handle": handle, "offset": 0, "whence": "set" }));
    let back = call(&mut agent, "guest-file-read", json!({ "handle": handle, "count": 20_000 }));
    assert_eq!(STANDARD.decode(back["buf-b64"].as_str().unwrap()).unwrap(), bytes);
    call(&mut agent, "guest-file-close", json!({ "handle": handle }));

    // A request that its host left half done is skipped at the next synchronisation.
    agent.send_raw(b"{\"execute\": \"guest-pi").unwrap();
    drop(agent);
    let mut agent = machine.serial_agent();
    assert_eq!(call(&mut agent, "guest-ping", json!({})), json!({}));
    machine.shell.run("kill $(cat /run/serial/pid); rm -rf /run/serial");
}

pub(crate) fn vsock_serves_two_clients_side_by_side(guest: &mut Guest) {
    let shell = &mut guest.machine.shell;
    // The loopback of vsock stands in for the host, whose kernel need not have vsock.
    shell.run("modprobe vsock_loopback; start-agent vsock -m vsock-listen -p 4294967295:9000");
    let sync = r#"{"execute":"guest-sync","arguments":{"id":ID}}"#;
    shell.run(
        "cat >/run/vsock/ask <<'END'
until socat -u OPEN:/dev/null VSOCK-CONNECT:1:9000 2>/dev/null; do sleep 0.1; done
mkfifo /run/vsock/slow
socat - VSOCK-CONNECT:1:9000 </run/vsock/slow >/run/vsock/first &
exec 3>/run/vsock/slow
END
. /run/vsock/ask",
    );
    shell.run(&format!("printf '{}' >&3", &sync[..20]));
    let second = format!("printf '{}\n' | socat -t 5 - VSOCK-CONNECT:1:9000", sync.replace("ID", "2"));
    assert_eq!(shell.run(&second), "{\"return\": 2}");
    shell.run(&format!("printf '{}\n' >&3", sync.replace("ID", "1").split_at(20).1));
    wait::until("the first client's reply", Duration::from_secs(30), || {
        (guest.machine.shell.run("cat /run/vsock/first") == "{\"return\": 1}").then_some(())
    });
    guest.machine.shell.run("exec 3>&-; kill $(cat /run/vsock/pid); rm -rf /run/vsock");
}

pub(crate) fn without_retry_path_a_missing_port_is_one_clear_error(guest: &mut Guest) {
    let outcome = guest.machine.shell.try_run(
        "mkdir -p /run/none
         qemu-ga -m virtio-serial -p /dev/virtio-ports/none -t /run/none -f /run/none/pidfile",
        Duration::from_secs(30),
    );
    let outcome = outcome.unwrap();
    assert_eq!(outcome.status, 1, "{}", outcome.text);
    assert!(outcome.text.contains("/dev/virtio-ports/none"), "{}", outcome.text);
    assert!(outcome.text.contains("No such file or directory"), "{}", outcome.text);
    guest.machine.shell.run("[ ! -e /run/none/pidfile ]; rm -r /run/none");
}

pub(crate) fn a_port_may_come_late_go_and_come_back(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let needs_links = machine.image().agent.is_c;
    let options = format!("-m virtio-serial -p /dev/virtio-ports/{PLUGGED_PORT} --retry-path");
    machine.shell.run(&format!("start-agent late {options}"));
    let is_alive = "[ \"$(readlink /proc/$(cat /run/late/pid)/exe)\" = /usr/sbin/qemu-ga ]";
    let time = "set -- $(cat /proc/$(cat /run/late/pid)/stat); echo $((${14} + ${15}))";
    for round in 0..3 {
        let before = machine.shell.number(time);
        sleep(Duration::from_secs(2));
        assert!(machine.shell.succeeds(is_alive), "round {round}: the agent gave up on a port that is not there");
        let used = machine.shell.number(time) - before;
        assert!(used < 50, "round {round}: {used} ticks of processor time in two seconds without a port");

        machine.plug_port();
        if needs_links {
            machine.shell.run("link-ports");
        }
        let mut agent = machine.plugged_agent();
        assert_eq!(agent.call("guest-ping", json!({})), Ok(json!({})), "round {round}");
        // The agent of the machine's own port has seen nothing.
        assert_eq!(machine.agent().call("guest-ping", json!({})), Ok(json!({})), "round {round}");
        machine.unplug_port();
        if needs_links {
            machine.shell.run("link-ports");
        }
    }
    assert!(machine.shell.succeeds(is_alive), "the agent ended with its port");
    machine.shell.run("kill $(cat /run/late/pid); rm -rf /run/late");
}
