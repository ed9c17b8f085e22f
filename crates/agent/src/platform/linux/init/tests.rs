use std::fs;
use std::os::unix::fs::symlink;

use super::super::child::tests::write_program;
use super::*;

/// A machine in a directory, whose programs write down how they were called.
struct Machine {
    dir: tempfile::TempDir,
    root: Root,
}

impl Machine {
    /// `system`: `systemd`, `sysv`, `busybox` or `other`.
    fn new(system: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        let machine = Machine { dir, root };
        match system {
            "systemd" => fs::create_dir_all(machine.root.path("/run/systemd/system")).unwrap(),
            "sysv" => {
                fs::create_dir_all(machine.root.path("/run")).unwrap();
                fs::write(machine.root.path("/run/initctl"), "").unwrap();
            }
            "busybox" => {
                fs::create_dir_all(machine.root.path("/proc/1")).unwrap();
                symlink("/bin/busybox", machine.root.path("/proc/1/exe")).unwrap();
            }
            _ => {}
        }
        machine
    }

    fn program(self, path: &str, then: &str) -> Self {
        let calls = self.dir.path().join("calls");
        let content = format!(
            "#!/bin/sh\n{{ printf %s {path}; for a; do printf ' [%s]' \"$a\"; done; echo; }} >> {}\n{then}\n",
            calls.display()
        );
        write_program(&self.root.path(path), &content);
        self
    }

    fn shut_down(&self, mode: Mode) -> std::result::Result<(), String> {
        shut_down_within(&self.root, mode, Duration::from_secs(60)).map_err(|error| error.desc.into_owned())
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }
}

#[test]
fn each_system_is_told_in_the_way_that_suits_it() {
    let said = "[hypervisor initiated shutdown]";
    for (system, mode, call) in [
        ("systemd", Mode::Powerdown, format!("/sbin/shutdown [-h] [-P] [+0] {said}")),
        ("systemd", Mode::Halt, format!("/sbin/shutdown [-h] [-H] [+0] {said}")),
        ("systemd", Mode::Reboot, format!("/sbin/shutdown [-r] [+0] {said}")),
        ("sysv", Mode::Powerdown, format!("/sbin/shutdown [-h] [-P] [+0] {said}")),
        ("sysv", Mode::Halt, format!("/sbin/shutdown [-h] [-H] [+0] {said}")),
        ("sysv", Mode::Reboot, format!("/sbin/shutdown [-r] [+0] {said}")),
        ("busybox", Mode::Powerdown, "/sbin/poweroff".to_owned()),
        ("busybox", Mode::Halt, "/sbin/halt".to_owned()),
        ("other", Mode::Powerdown, "/sbin/poweroff".to_owned()),
        ("other", Mode::Halt, "/sbin/halt".to_owned()),
        ("other", Mode::Reboot, "/sbin/reboot".to_owned()),
    ] {
        let mut machine = Machine::new(system);
        for tool in ["/sbin/shutdown", "/sbin/poweroff", "/sbin/halt", "/sbin/reboot", "/bin/systemctl", "/bin/busybox"]
        {
            machine = machine.program(tool, "exit 0");
        }
        assert_eq!(machine.shut_down(mode), Ok(()), "{system} {mode:?}");
        assert_eq!(machine.calls(), [call], "{system} {mode:?}");
    }
}

#[test]
fn what_fails_is_followed_by_the_next() {
    let machine = Machine::new("systemd")
        .program("/usr/sbin/shutdown", "echo no bus; exit 1")
        .program("/usr/bin/systemctl", "kill -KILL $$")
        .program("/sbin/poweroff", "exit 0");
    assert_eq!(machine.shut_down(Mode::Powerdown), Ok(()));
    let said = "[hypervisor initiated shutdown]";
    let calls =
        [&format!("/usr/sbin/shutdown [-h] [-P] [+0] {said}"), "/usr/bin/systemctl [poweroff]", "/sbin/poweroff"];
    assert_eq!(machine.calls(), calls);

    let machine = Machine::new("sysv").program("/sbin/shutdown", "exit 1").program("/sbin/halt", "exit 0");
    assert_eq!(machine.shut_down(Mode::Halt), Ok(()));
    assert_eq!(machine.calls().len(), 2);

    let machine = Machine::new("other").program("/sbin/reboot", "exit 1").program("/sbin/shutdown", "exit 0");
    assert_eq!(machine.shut_down(Mode::Reboot), Ok(()));
    assert_eq!(machine.calls(), ["/sbin/reboot", &format!("/sbin/shutdown [-r] [+0] {said}")]);

    let machine = Machine::new("other").program("/usr/bin/openrc-shutdown", "exit 0");
    assert_eq!(machine.shut_down(Mode::Halt), Ok(()));
    assert_eq!(machine.calls(), ["/usr/bin/openrc-shutdown [--halt] [now]"]);
}

#[test]
fn busybox_is_only_asked_where_it_is_the_init() {
    for (system, called) in [("busybox", true), ("other", false), ("systemd", false), ("sysv", false)] {
        let machine = Machine::new(system).program("/bin/busybox", "exit 0");
        assert_eq!(machine.shut_down(Mode::Reboot).is_ok(), called, "{system}");
        assert_eq!(machine.calls().len(), usize::from(called), "{system}");
    }
    let machine = Machine::new("busybox").program("/bin/busybox", "exit 0");
    machine.shut_down(Mode::Reboot).unwrap();
    assert_eq!(machine.calls(), ["/bin/busybox [reboot]"]);
}

#[test]
fn how_a_lone_program_ends_is_told_as_the_c_agent_does() {
    for (then, desc) in [
        ("exit 0", None),
        ("echo warn >&2; exit 0", None),
        ("echo bad thing; exit 3", Some("child process has failed to shutdown: bad thing\n")),
        ("exit 3", Some("child process has failed to shutdown: exit status 3")),
        ("kill -TERM $$", Some("child process has terminated abnormally")),
    ] {
        let machine = Machine::new("systemd").program("/sbin/shutdown", then);
        assert_eq!(machine.shut_down(Mode::Powerdown).err().as_deref(), desc, "{then}");
    }
}

#[test]
fn of_several_failures_the_first_is_quoted() {
    let machine = Machine::new("systemd")
        .program("/sbin/shutdown", "echo the first; exit 1")
        .program("/bin/systemctl", "echo the second; exit 1")
        .program("/sbin/poweroff", "echo the third; exit 1");
    let error = machine.shut_down(Mode::Powerdown).unwrap_err();
    assert_eq!(error, "child process has failed to shutdown: the first\n");
    assert_eq!(machine.calls().len(), 3);
}

#[test]
fn a_machine_without_any_tool_says_so() {
    let absent = "child process has failed to shutdown: failed to exec '/sbin/shutdown': No such file or directory\n";
    for system in ["systemd", "sysv", "busybox", "other"] {
        assert_eq!(Machine::new(system).shut_down(Mode::Halt).unwrap_err(), absent);
    }
    // What cannot be executed is not there.
    let machine = Machine::new("other");
    fs::create_dir_all(machine.root.path("/sbin/halt")).unwrap();
    fs::write(machine.root.path("/sbin/shutdown"), "#!/bin/sh\n").unwrap();
    assert_eq!(machine.shut_down(Mode::Halt).unwrap_err(), absent);
}

#[test]
fn a_tool_that_hangs_is_killed_and_the_next_is_tried() {
    let machine = Machine::new("systemd").program("/sbin/shutdown", "sleep 60").program("/bin/systemctl", "exit 0");
    assert_eq!(shut_down_within(&machine.root, Mode::Reboot, Duration::from_secs(2)), Ok(()));
    assert_eq!(machine.calls().last().unwrap(), "/bin/systemctl [reboot]");
}
