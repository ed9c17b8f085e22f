//! Things that go wrong in a machine around the agent, one case for each: what it meets is answered with an error, it goes
//! on answering, and afterwards nothing of it is left.

use std::time::{Duration, Instant};

use qga_testkit::{Host, wait};
use serde_json::{Value, json};
use vm_tests::Machine;

pub(crate) mod clock;
pub(crate) mod disk;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod proc;
pub(crate) mod space;

/// The agent's own line, as `start-agent` has it, without a log and a state directory.
const LINE: &str = "-m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 --retry-path";

/// The usual state directory.
const STATE: &str = "-t /run/qga";

/// The limit for an answer, whatever is wrong: the agent's own limits are far below, the emulated machine is slow.
const BOUNDED: Duration = Duration::from_secs(30);

/// What `guest-ping` may take, which touches nothing that can fail.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Memory of its own that an agent may have more than before, in KiB: pieces that the allocator keeps.
const GROWTH: u64 = 2048;

/// What an agent has, which has to be the same again when a fault is over.
#[derive(Debug)]
struct Health {
    pid: u64,
    descriptors: u64,
    threads: u64,
    children: u64,
    memory: u64,
}

impl Health {
    /// Of the agent that `start-agent` has started under this name.
    fn of(machine: &mut Machine, name: &str) -> Self {
        let text = machine.shell.run(&format!(
            "p=$(cat /run/{name}/pid); [ \"$(cat /proc/$p/comm)\" = qemu-ga ] || exit 1
             set -- /proc/$p/fd/*; fds=$#; set -- /proc/$p/task/*; threads=$#; set -- $(cat /proc/$p/task/*/children 2>/dev/null)
             echo $p $fds $threads $# $(sed -n 's/^RssAnon:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$p/status)"
        ));
        let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
        let [pid, descriptors, threads, children, memory] = numbers[..] else { panic!("not five numbers: {text}") };
        Self { pid, descriptors, threads, children, memory }
    }

    /// Waits until the agent is as it was. It may have one thread that waits for the next command.
    fn wait_again(&self, machine: &mut Machine, name: &str) {
        let mut last = None;
        let again = wait::poll(Duration::from_secs(60), || {
            let now = Self::of(machine, name);
            let is_again = now.pid == self.pid
                && now.descriptors == self.descriptors
                && now.children == self.children
                && now.threads <= 2
                && now.memory <= self.memory + GROWTH;
            last = Some(now);
            is_again.then_some(())
        });
        assert!(again.is_some(), "before: {self:?}, afterwards: {last:?}");
    }
}

/// Ends the agent of the machine and starts one in its place: `before` is run by the shell that starts it, `options` come
/// behind those of the port.
fn restart(machine: &mut Machine, before: &str, options: &str) -> Host {
    end(machine);
    machine.shell.run(&format!(
        "({before}\nsetsid qemu-ga {LINE} {options} </dev/null >/run/qga/output 2>&1 & echo $! >/run/qga/pid)"
    ));
    machine.agent()
}

/// Moves the shell that starts an agent into a control group with these limits, which all lie in `/sys/fs/cgroup/NAME`.
fn in_group(machine: &mut Machine, name: &str, limits: &[(&str, &str)]) -> String {
    machine.shell.run(&format!(
        "mkdir -p /sys/fs/cgroup; [ -e /sys/fs/cgroup/cgroup.procs ] || mount -t cgroup2 none /sys/fs/cgroup
         echo '+pids +memory' >/sys/fs/cgroup/cgroup.subtree_control; mkdir /sys/fs/cgroup/{name}"
    ));
    for (limit, value) in limits {
        machine.shell.run(&format!("echo {value} >/sys/fs/cgroup/{name}/{limit}"));
    }
    // By the shell itself, which is process 0 for its own writes.
    format!("echo 0 >/sys/fs/cgroup/{name}/cgroup.procs")
}

/// Puts the plain agent back.
fn restore(machine: &mut Machine) {
    end(machine);
    machine.shell.run("start-agent");
    assert_eq!(machine.agent().call("guest-ping", json!({})), Ok(json!({})));
}

fn end(machine: &mut Machine) {
    machine.shell.run("kill $(cat /run/qga/pid); while [ -d /proc/$(cat /run/qga/pid) ]; do usleep 50000; done");
}

/// A command that cannot succeed: its error, which is a GenericError.
#[track_caller]
fn refused(agent: &mut Host, command: &str, arguments: Value) -> String {
    match agent.call_within(command, arguments, BOUNDED) {
        Err(error) => {
            assert_eq!(error.class, "GenericError", "{error}");
            error.desc
        }
        Ok(value) => panic!("{command} succeeds: {value}"),
    }
}

/// The agent answers what needs nothing of the machine.
#[track_caller]
fn answers(agent: &mut Host) {
    for command in ["guest-ping", "guest-info", "guest-ping"] {
        let begin = Instant::now();
        agent.call_within(command, json!({}), BOUNDED).unwrap();
        assert!(begin.elapsed() < AT_ONCE, "{command} took {:?}", begin.elapsed());
    }
    agent.sync(AT_ONCE).unwrap();
}

#[track_caller]
fn open(agent: &mut Host, path: &str, mode: &str) -> Value {
    agent.call_within("guest-file-open", json!({ "path": path, "mode": mode }), BOUNDED).unwrap()
}

#[track_caller]
fn close(agent: &mut Host, handle: &Value) {
    agent.call_within("guest-file-close", json!({ "handle": handle }), BOUNDED).unwrap();
}

/// Files, programs, freezing and facts work.
#[track_caller]
fn everything_works(agent: &mut Host, machine: &mut Machine, file: &str) {
    let handle = open(agent, file, "w+");
    let written = agent.call("guest-file-write", json!({ "handle": handle, "buf-b64": "d29ya3M=" })).unwrap();
    assert_eq!(written["count"], 5);
    agent.call("guest-file-flush", json!({ "handle": handle })).unwrap();
    agent.call("guest-file-seek", json!({ "handle": handle, "offset": 0, "whence": 0 })).unwrap();
    let read = agent.call("guest-file-read", json!({ "handle": handle })).unwrap();
    assert_eq!(read["buf-b64"], "d29ya3M=");
    close(agent, &handle);
    machine.shell.run(&format!("[ \"$(cat {file})\" = works ]; rm {file}"));
    let started = agent.call("guest-exec", json!({ "path": "true" })).unwrap();
    wait::until("the end of a program", BOUNDED, || {
        let status = agent.call("guest-exec-status", started.clone()).unwrap();
        (status["exited"] == true).then(|| assert_eq!(status["exitcode"], 0))
    });
    agent.call("guest-get-fsinfo", json!({})).unwrap();
    let frozen = agent.call_within("guest-fsfreeze-freeze", json!({}), BOUNDED).unwrap();
    assert!(frozen.as_u64() >= Some(2), "{frozen}");
    assert_eq!(agent.call_within("guest-fsfreeze-thaw", json!({}), BOUNDED), Ok(frozen));
    agent.call("guest-fstrim", json!({})).unwrap();
}
