use std::fs;

use super::super::child::tests::write_program;
use super::*;

const UNSUPPORTED: &str = "the requested suspend mode is not supported by the guest";

/// A machine in a directory. `None` is a program or a file that is not there.
struct Machine {
    dir: tempfile::TempDir,
    root: Root,
}

impl Machine {
    fn new(state: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        fs::create_dir_all(root.path("/run/systemd/system")).unwrap();
        fs::create_dir_all(root.path("/sys/power")).unwrap();
        if let Some(state) = state {
            fs::write(root.path(STATE), state).unwrap();
        }
        Machine { dir, root }
    }

    /// `systemctl status` ends as `status` says, everything else as `act` does.
    fn systemctl(self, status: &str, act: &str) -> Self {
        self.program("/usr/bin/systemctl", &format!("case $1 in status) {status};; *) {act};; esac"))
    }

    fn program(self, path: &str, then: &str) -> Self {
        let calls = self.dir.path().join("calls");
        write_program(&self.root.path(path), &format!("#!/bin/sh\necho {path} $* >> {}\n{then}\n", calls.display()));
        self
    }

    fn suspend(&self, mode: Mode) -> std::result::Result<(), String> {
        let dirs = ["/usr/sbin", "/usr/bin"].map(PathBuf::from).to_vec();
        Sleeper { root: &self.root, dirs }.suspend(mode).map_err(|error| error.desc.into_owned())
    }

    fn state(&self) -> String {
        fs::read_to_string(self.root.path(STATE)).unwrap_or_default()
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }
}

#[test]
fn each_mode_is_asked_of_systemd_by_its_unit_and_verb() {
    for (mode, verb) in [(Mode::Disk, "hibernate"), (Mode::Ram, "suspend"), (Mode::Hybrid, "hybrid-sleep")] {
        let machine = Machine::new(Some("freeze mem disk\n")).systemctl("exit 3", "exit 0");
        fs::write(machine.root.path(DISK), "[platform] shutdown reboot suspend test_resume \n").unwrap();
        assert_eq!(machine.suspend(mode), Ok(()));
        let calls = [format!("/usr/bin/systemctl status systemd-{verb}"), format!("/usr/bin/systemctl {verb}")];
        assert_eq!(machine.calls(), calls);
        assert_eq!(machine.state(), "freeze mem disk\n", "the kernel is left to systemd");
    }
}

#[test]
fn each_mode_is_asked_of_pm_utils_by_its_flag_and_program() {
    for (mode, flag, program) in [
        (Mode::Disk, "--hibernate", "pm-hibernate"),
        (Mode::Ram, "--suspend", "pm-suspend"),
        (Mode::Hybrid, "--suspend-hybrid", "pm-suspend-hybrid"),
    ] {
        let machine = Machine::new(None)
            .program("/usr/bin/pm-is-supported", "exit 0")
            .program("/usr/sbin/pm-hibernate", "exit 0");
        let machine =
            machine.program("/usr/sbin/pm-suspend", "exit 0").program("/usr/sbin/pm-suspend-hybrid", "exit 0");
        assert_eq!(machine.suspend(mode), Ok(()));
        assert_eq!(machine.calls(), [format!("/usr/bin/pm-is-supported {flag}"), format!("/usr/sbin/{program}")]);
    }
}

#[test]
fn the_ways_are_tried_in_order_and_no_failure_looks_like_success() {
    let act_1 = "the helper program 'systemctl suspend' returned an unexpected exit status code (1): no";
    let pm_5 = "the helper program 'pm-suspend' returned an unexpected exit status code (5)";
    let pm_gone = "the helper program 'pm-suspend' was not found";
    // systemctl status, systemctl suspend, pm-is-supported, pm-suspend, state before; answer, state after.
    type Row<'a> =
        (Option<(&'a str, &'a str)>, Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<&'a str>, &'a str);
    let no = "echo no; exit 1";
    let both = format!("{act_1}; {pm_5}");
    let rows: &[Row<'_>] = &[
        (None, None, None, None, Some(UNSUPPORTED), ""),
        (None, None, None, Some("freeze mem disk"), None, "memeze mem disk"),
        (Some(("exit 3", "exit 0")), Some("exit 0"), Some("exit 0"), Some("mem"), None, "mem"),
        // An active unit is there: the C agent takes it for missing.
        (Some(("exit 0", "exit 0")), None, None, Some("freeze"), None, "freeze"),
        (Some(("exit 4", "exit 0")), None, None, Some("freeze"), Some(UNSUPPORTED), "freeze"),
        (Some(("exit 5", "exit 0")), None, None, Some("freeze"), Some(UNSUPPORTED), "freeze"),
        (Some(("kill -KILL $$", "exit 0")), None, None, Some("freeze"), Some(UNSUPPORTED), "freeze"),
        // systemd is not asked for what the kernel cannot do.
        (Some(("exit 3", "exit 0")), None, None, Some("disk"), Some(UNSUPPORTED), "disk"),
        (Some(("exit 3", "exit 0")), None, None, None, Some(UNSUPPORTED), ""),
        (Some(("exit 3", "exit 1")), None, None, Some("mem disk"), None, "mem disk"),
        (Some(("exit 3", no)), Some("exit 0"), Some("exit 0"), Some("freeze"), None, "freeze"),
        (Some(("exit 3", no)), Some("exit 0"), Some("exit 5"), Some("freeze"), Some(&both), "freeze"),
        (Some(("exit 3", no)), None, None, Some("freeze"), Some(act_1), "freeze"),
        (Some(("exit 4", "exit 0")), Some("exit 0"), None, None, Some(pm_gone), ""),
        (Some(("exit 4", "exit 0")), Some("exit 1"), Some("exit 0"), None, Some(UNSUPPORTED), ""),
        (None, Some("kill -KILL $$"), Some("exit 0"), None, Some(UNSUPPORTED), ""),
    ];
    for (number, (systemctl, pm_test, pm_act, state, desc, after)) in rows.iter().enumerate() {
        let mut machine = Machine::new(*state);
        if let Some((status, act)) = systemctl {
            machine = machine.systemctl(status, act);
        }
        if let Some(then) = pm_test {
            machine = machine.program("/usr/bin/pm-is-supported", then);
        }
        if let Some(then) = pm_act {
            machine = machine.program("/usr/sbin/pm-suspend", then);
        }
        assert_eq!(machine.suspend(Mode::Ram).err().as_deref(), *desc, "row {number}");
        assert_eq!(machine.state(), *after, "row {number}");
    }
}

#[test]
fn a_helper_killed_by_a_signal_has_failed() {
    let machine = Machine::new(Some("freeze")).systemctl("exit 3", "kill -KILL $$");
    let desc = "the helper program 'systemctl suspend' was killed by signal 9";
    assert_eq!(machine.suspend(Mode::Ram).unwrap_err(), desc);
}

#[test]
fn systemctl_is_not_asked_where_systemd_is_not_the_init() {
    let machine = Machine::new(Some("freeze")).systemctl("exit 3", "exit 0");
    fs::remove_dir(machine.root.path("/run/systemd/system")).unwrap();
    assert_eq!(machine.suspend(Mode::Ram).unwrap_err(), UNSUPPORTED);
    assert_eq!(machine.calls(), [""; 0]);
}

#[test]
fn the_kernel_is_given_the_word_of_the_mode() {
    for (mode, state, after) in [
        (Mode::Ram, "freeze mem disk", Some("memeze mem disk")),
        (Mode::Disk, "freeze mem disk", Some("diskze mem disk")),
        (Mode::Ram, "freeze standby disk", None),
        (Mode::Disk, "freeze mem", None),
        (Mode::Disk, "disks memory", None),
        (Mode::Ram, "disks memory", None),
        (Mode::Ram, "", None),
    ] {
        let machine = Machine::new(Some(state));
        let expected = after.map(|_| ()).ok_or(UNSUPPORTED.to_owned());
        assert_eq!(machine.suspend(mode), expected, "{mode:?} {state}");
        assert_eq!(machine.state(), after.unwrap_or(state), "{mode:?} {state}");
    }
}

#[test]
fn a_hybrid_sleep_by_the_kernel_puts_the_old_choice_back() {
    let machine = Machine::new(Some("freeze mem disk"));
    fs::write(machine.root.path(DISK), "[reboot] platform suspend").unwrap();
    assert_eq!(machine.suspend(Mode::Hybrid), Ok(()));
    assert_eq!(machine.state(), "diskze mem disk");
    // A real kernel moves the brackets. Here it shows that `suspend` was written over the start, then `reboot`.
    assert_eq!(fs::read_to_string(machine.root.path(DISK)).unwrap(), "rebootd] platform suspend");

    for (state, disk) in [
        ("freeze mem disk", Some("[platform] shutdown")),
        ("freeze mem", Some("[platform] suspend")),
        ("freeze mem disk", None),
        ("freeze mem disk", Some("")),
    ] {
        let machine = Machine::new(Some(state));
        if let Some(disk) = disk {
            fs::write(machine.root.path(DISK), disk).unwrap();
        }
        assert_eq!(machine.suspend(Mode::Hybrid).unwrap_err(), UNSUPPORTED, "{state} {disk:?}");
        assert_eq!(machine.state(), state);
        assert_eq!(fs::read_to_string(machine.root.path(DISK)).ok().as_deref(), disk);
    }
}

#[test]
fn a_state_file_that_cannot_be_written_is_an_error() {
    let machine = Machine::new(None);
    std::os::unix::fs::symlink("/dev/full", machine.root.path(STATE)).unwrap();
    let sleeper = Sleeper { root: &machine.root, dirs: Vec::new() };
    let error = sleeper.set(STATE, "mem").unwrap_err();
    assert_eq!(error.desc, "suspend: cannot write to '/sys/power/state': No space left on device");
}
