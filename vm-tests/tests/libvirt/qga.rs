//! `qga` on machines of libvirt's, two at once.

use std::process::Output;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use qga_testkit::wait;
use serde_json::Value;
use vm_tests::libvirt::{DOMAIN, Libvirt};
use vm_tests::shell::Shell;
use vm_tests::{process, qga};

use crate::{Guest, IMAGE};

const ENOUGH: Duration = Duration::from_secs(60);

/// The other machine.
const SECOND: &str = "other guest";

fn run(libvirt: &Libvirt, args: &[&str]) -> Output {
    let uri = libvirt.uri();
    process::output(&mut qga::command(&qga::program(), &[&["--connect", &uri], args].concat()))
}

#[track_caller]
fn exits(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", process::text(output));
}

/// Has a program in a guest write, which waits while the file system is frozen.
fn write_late(shell: &mut Shell) {
    shell.run("rm -f /run/late; (echo late >/mnt/ext4/late; sync; touch /run/late) >/dev/null 2>&1 &");
}

fn has_written(shell: &mut Shell) -> bool {
    shell.succeeds("[ -e /run/late ]")
}

pub(crate) fn two_domains_are_frozen_for_one_command_and_thawed_whatever_becomes_of_qga(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    let mut second = libvirt.start_second(&IMAGE.with(Rc::clone), SECOND);
    let (one, two) = (format!("libvirt:{DOMAIN}"), format!("libvirt:{SECOND}"));

    // Results come as they like, one line each.
    let output = run(libvirt, &["--all", "--json", "wait", "--for", "agent"]);
    exits(&output, 0);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut names: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["target"].take()).collect();
    names.sort_by_key(Value::to_string);
    assert_eq!(names, [DOMAIN, SECOND]);

    let output = run(libvirt, &["-t", &one, "-t", &two, "freeze", "--", "sh", "-c", "echo $QGA_FROZEN; exit 5"]);
    exits(&output, 5);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "4\n");

    // Killed, and with a libvirtd that is started again meanwhile.
    for is_killed in [true, false] {
        let options = if is_killed { "60s" } else { "5s" };
        let uri = libvirt.uri();
        let args = ["--connect", &uri, "--all", "freeze", "--for", options, "--", "sleep", "300"];
        let mut qga = qga::command(&qga::program(), &args).spawn().unwrap();
        wait::until("two frozen guests", ENOUGH, || {
            let count = |shell: &mut Shell| {
                shell.succeeds("grep -q guardian /proc/[0-9]*/comm || [ -e /run/qga/qga.state.isfrozen ]")
            };
            (count(&mut libvirt.shell) && count(&mut second.shell)).then_some(())
        });
        // Having begun is not having ended.
        sleep(Duration::from_secs(1));
        write_late(&mut libvirt.shell);
        write_late(&mut second.shell);
        sleep(Duration::from_millis(500));
        assert!(!has_written(&mut libvirt.shell) && !has_written(&mut second.shell), "a guest writes while frozen");
        let since = Instant::now();
        if is_killed {
            qga.kill().unwrap();
            qga.wait().unwrap();
        } else {
            libvirt.restart_daemon("KILL");
            let status = wait::until("the end of qga", ENOUGH, || qga.try_wait().unwrap());
            assert_eq!(status.code(), Some(124));
        }
        wait::until("the writes that waited", ENOUGH, || {
            (has_written(&mut libvirt.shell) && has_written(&mut second.shell)).then_some(())
        });
        println!("     thawed {:.1} s later", since.elapsed().as_secs_f32());
        let status = run(libvirt, &["--all", "freeze", "--status"]);
        exits(&status, 0);
        assert_eq!(process::text(&status).matches("thawed").count(), 2);
    }
}

/// The checks of the doctor that did not come out well.
fn faults(output: &Output) -> Vec<String> {
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = value["checks"].as_array().unwrap();
    // An old C agent may have faults of its release, and counts as switched off what it cannot do on this
    // machine; another case may have left the clock anywhere.
    let passed_over = ["version", "commands", "clock"];
    let bad = checks.iter().filter(|check| check["state"] != "ok").map(|check| check["check"].as_str().unwrap());
    bad.filter(|check| !passed_over.contains(check)).map(str::to_owned).collect()
}

pub(crate) fn the_doctor_tells_the_layers_of_libvirt_apart(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    let target = format!("libvirt:{DOMAIN}");
    assert_eq!(faults(&run(libvirt, &["-t", &target, "--json", "doctor"])), Vec::<String>::new());

    let output = run(libvirt, &["-t", "libvirt:nobody", "--json", "doctor"]);
    exits(&output, 125);
    assert_eq!(faults(&output), ["libvirt"]);

    libvirt.shell.run("kill $(cat /run/qga/pid)");
    libvirt.wait_agent("disconnected");
    let output = run(libvirt, &["-t", &target, "--json", "doctor"]);
    exits(&output, 125);
    assert_eq!(faults(&output), ["port"]);
    exits(&run(libvirt, &["-t", &target, "wait", "--for", "agent", "--timeout", "1"]), 125);
    libvirt.shell.run("start-agent");
    libvirt.wait_agent("connected");
    exits(&run(libvirt, &["-t", &target, "wait", "--for", "agent"]), 0);
}
