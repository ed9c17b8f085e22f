//! Hosts that ask, and do not read the answers for a long time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use qga_testkit::host::{PATIENCE, request};
use qga_testkit::silence::{come_back, flood};
use qga_testkit::wait;
use serde_json::json;
use vm_tests::machine::BOOT;
use vm_tests::rounds;
use vm_tests::shell::Shell;

use crate::Guest;
use crate::connection::ticks;

const MIB: u64 = 1 << 20;

/// The promise is one second from the first byte that is read; a busy machine of the short form is given more.
fn at_once() -> Duration {
    Duration::from_secs(if rounds::is_long() { 1 } else { 10 })
}

/// How long nothing must be taken before the port counts as full.
const FULL: Duration = Duration::from_secs(3);

/// Resident memory of the agent in KiB.
fn memory(shell: &mut Shell) -> u64 {
    shell.number("awk '/^VmRSS:/ { print $2 }' /proc/$(cat /run/qga/pid)/status")
}

/// Processor time of the agent in a window of `silence`, as a part of it.
struct Load {
    begin: Instant,
    ticks: u64,
}

impl Load {
    /// As soon as the agent has done what it can do while nothing is read.
    #[track_caller]
    fn begin(shell: &mut Shell) -> Self {
        wait::until("an agent with nothing to do", BOOT, || {
            let before = ticks(shell);
            sleep(Duration::from_secs(1));
            (ticks(shell) == before).then_some(())
        });
        Load { begin: Instant::now(), ticks: ticks(shell) }
    }

    /// Less than one part in a hundred, of which a second has a hundred ticks.
    #[track_caller]
    fn end(self, what: &str, shell: &mut Shell) {
        let used = ticks(shell) - self.ticks;
        let took = self.begin.elapsed();
        println!("     {what}: {used} ticks of processor time in {:.0} s, {} KiB", took.as_secs_f32(), memory(shell));
        assert!(used <= took.as_secs(), "{what}: {used} ticks of processor time in {took:?}");
    }
}

pub(crate) fn a_host_that_asks_and_does_not_read_costs_nothing_and_is_answered_at_once_afterwards(guest: &mut Guest) {
    const READS: usize = 64;
    let machine = &mut guest.machine;
    machine.shell.run(&format!("truncate -s {} /run/qga/zeros", READS as u64 * MIB));
    let pid = machine.shell.run("cat /run/qga/pid");
    let mut agent = machine.agent();
    let handle = agent.call("guest-file-open", json!({ "path": "/run/qga/zeros" })).unwrap();
    let message = request("guest-file-read", &json!({ "handle": handle, "count": MIB }));
    let sent = flood(&agent, READS, PATIENCE, |_| message.clone()).unwrap();
    assert_eq!(sent.messages, READS, "requests are taken while nothing is read");

    // With a ping now and then, as a monitor does. Not too often: what a starved virtual processor waits for its turn
    // counts as time of the process that it runs.
    let load = Load::begin(&mut machine.shell);
    let mut pings = 0;
    while load.begin.elapsed() < rounds::silence() {
        agent.send("guest-ping", &json!({})).unwrap();
        pings += 1;
        sleep(Duration::from_secs(10).min(rounds::silence()));
    }
    load.end("a host that asks and does not read", &mut machine.shell);
    let memory = memory(&mut machine.shell);
    assert!(memory < 32 * 1024, "{memory} KiB while the host does not read");

    let back = come_back(&mut agent, 1, PATIENCE).unwrap();
    let (took, lines) = (back.took, back.lines);
    println!("     {pings} pings later: an answer after {took:.2?}, behind {lines} replies with {} bytes", back.bytes);
    assert!(took < at_once(), "an answer after {took:?}");
    // What was asked before and had not begun is dropped.
    assert!(lines < READS, "{lines} replies of before");
    assert_eq!(agent.call("guest-ping", json!({})), Ok(json!({})));
    agent.call("guest-file-close", json!({ "handle": handle })).unwrap();
    assert_eq!(machine.shell.run("cat /run/qga/pid"), pid);
    assert!(machine.shell.succeeds("rm /run/qga/zeros; kill -0 $(cat /run/qga/pid)"), "the agent has ended");
}

pub(crate) fn a_host_that_fills_the_port_and_does_not_read_is_answered_before_all_is_carried_out(guest: &mut Guest) {
    /// As long as the longest that is still looked at on the loop, with room for what is around it.
    const PADDING: usize = 60 << 10;
    let machine = &mut guest.machine;
    let mut agent = machine.agent();
    let padding = "x".repeat(PADDING);
    let message = |number| {
        let id = json!([number, padding]);
        format!("{}\n", json!({ "execute": "guest-ping", "id": id })).into_bytes()
    };
    let sent = flood(&agent, usize::MAX, FULL, message).unwrap();
    assert!(sent.bytes as u64 > 32 * MIB, "{} bytes are all that is taken", sent.bytes);
    let load = Load::begin(&mut machine.shell);
    sleep(rounds::silence() / 3);
    load.end(&format!("a port full with {} messages", sent.messages), &mut machine.shell);
    let memory = memory(&mut machine.shell);
    assert!(memory < 64 * 1024, "{memory} KiB while the port is full");

    // What is in the port comes before it, and while it comes through, what waits is carried out; but not all of that.
    let back = come_back(&mut agent, 2, BOOT).unwrap();
    let (took, lines) = (back.took, back.lines);
    println!("     an answer after {took:.2?}, behind {lines} replies with {} bytes", back.bytes);
    assert!(lines < sent.messages, "{lines} replies of before");
    assert_eq!(agent.call("guest-ping", json!({})), Ok(json!({})));
}
