//! What the agent tells, beside what Debian's own tools tell.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qga_testkit::wait;
use serde_json::{Value, json};

use crate::{Guest, SOON};

pub(crate) fn the_system_is_the_one_of_os_release(guest: &mut Guest) {
    let told = guest.call("guest-get-osinfo", json!({}));
    let shell = &mut guest.machine.shell;
    for (member, variable) in [
        ("id", "ID"),
        ("name", "NAME"),
        ("pretty-name", "PRETTY_NAME"),
        ("version", "VERSION"),
        ("version-id", "VERSION_ID"),
    ] {
        assert_eq!(told[member], shell.run(&format!(". /etc/os-release; echo \"${variable}\"")), "{member}");
    }
    for (member, option) in [("kernel-release", "r"), ("kernel-version", "v"), ("machine", "m")] {
        assert_eq!(told[member], shell.run(&format!("uname -{option}")), "{member}");
    }
    assert_eq!(guest.call("guest-get-host-name", json!({})), json!({ "host-name": "debian" }));
}

/// East and west, odd offsets, one with summer time of half an hour, and one without letters for a name.
const ZONES: &[&str] =
    &["Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "Asia/Kathmandu", "America/Sao_Paulo", "Etc/UTC"];

pub(crate) fn the_time_zone_is_the_one_that_date_tells(guest: &mut Guest) {
    for zone in ZONES {
        // Changed under the running agent.
        guest.machine.shell.run(&format!("timedatectl set-timezone {zone}"));
        let shown = guest.machine.shell.run("date '+%Z %z'");
        let (name, offset) = shown.split_once(' ').unwrap();
        let (hours, minutes) = offset[1..].split_at(2);
        let seconds = hours.parse::<i64>().unwrap() * 3600 + minutes.parse::<i64>().unwrap() * 60;
        let offset = if offset.starts_with('-') { -seconds } else { seconds };
        assert_eq!(guest.call("guest-get-timezone", json!({})), json!({ "zone": name, "offset": offset }), "{zone}");
    }
}

/// The terminal that logs alice in.
const LOGIN: &str = "serial-getty@ttyS2.service";

pub(crate) fn a_user_is_told_from_login_to_logout(guest: &mut Guest) {
    assert_eq!(guest.call("guest-get-users", json!({})), json!([]));
    guest.machine.shell.run(&format!("systemctl start {LOGIN}"));
    // logind knows of the session before it is in utmp.
    wait::until("a user in utmp", SOON, || (guest.machine.shell.run("who | cut -d' ' -f1") == "alice").then_some(()));
    let users = guest.call("guest-get-users", json!({}));
    let logged_in = |users: &Value| {
        assert_eq!(users.as_array().map(Vec::len), Some(1), "{users}");
        assert_eq!(users[0]["user"], "alice");
        assert!(users[0].get("domain").is_none(), "{users}");
        users[0]["login-time"].as_f64().unwrap()
    };
    let time = logged_in(&users);
    // `who` knows the minute.
    let minute =
        guest.machine.shell.number("date -d \"$(LC_ALL=C.UTF-8 who | tr -s ' ' | cut -d' ' -f3,4)\" +%s") as f64;
    assert!((minute..minute + 60.0).contains(&time), "{time}, and who says {minute}");

    // As on a system that has given utmp up: logind knows the session, from its own clock.
    wait::until("a session of logind", SOON, || {
        guest.machine.shell.succeeds("loginctl --no-legend list-sessions | grep -q alice").then_some(())
    });
    guest.machine.shell.run("mv /run/utmp /run/utmp.away");
    let by_logind = logged_in(&guest.call("guest-get-users", json!({})));
    guest.machine.shell.run("mv /run/utmp.away /run/utmp");
    let session =
        "loginctl show-session $(loginctl --no-legend list-sessions | tr -s ' ' | sed 's/^ //' | cut -d' ' -f1)";
    let logind = guest.machine.shell.number(&format!("date -d \"$({session} --property=Timestamp --value)\" +%s"));
    assert_eq!(by_logind.floor(), logind as f64);
    // The one is the beginning of the login, the other its end, which a busy host draws out.
    assert!((by_logind - time).abs() < SOON.as_secs_f64() * 2.0, "{by_logind} by logind, {time} by utmp");

    guest.machine.shell.run(&format!("systemctl stop {LOGIN}"));
    for utmp in ["there", "gone"] {
        if utmp == "gone" {
            guest.machine.shell.run("mv /run/utmp /run/utmp.away");
        }
        wait::until(&format!("nobody, with utmp {utmp}"), SOON, || {
            (guest.call("guest-get-users", json!({})) == json!([])).then_some(())
        });
    }
    guest.machine.shell.run("mv /run/utmp.away /run/utmp");
}

pub(crate) fn serial_numbers_are_those_of_udev(guest: &mut Guest) {
    let serial = |guest: &mut Guest, device: &str| {
        guest.machine.shell.run(&format!("udevadm info --query=property --property=ID_SERIAL --value {device}"))
    };
    let disks = guest.call("guest-get-disks", json!({}));
    let mut seen = Vec::new();
    for disk in disks.as_array().unwrap() {
        let name = disk["name"].as_str().unwrap();
        let shown = disk["address"]["serial"].as_str().unwrap_or_default();
        assert_eq!(shown, serial(guest, name), "{disk}");
        seen.push(format!("{name} {shown}"));
    }
    let expected = ["/dev/sda 0QEMU_QEMU_HARDDISK_xfs", "/dev/vda ext4", "/dev/vdb swap", "/dev/vdc root"];
    assert_eq!(seen, expected);

    let file_systems = guest.call("guest-get-fsinfo", json!({}));
    for (mount_point, kind, bus, device) in [
        ("/", "ext4", "virtio", "/dev/vdc"),
        ("/mnt/ext4", "ext4", "virtio", "/dev/vda"),
        ("/mnt/xfs", "xfs", "scsi", "/dev/sda"),
    ] {
        let mut all = file_systems.as_array().unwrap().iter();
        let found = all.find(|one| one["mountpoint"] == mount_point);
        let found = found.unwrap_or_else(|| panic!("no {mount_point} in {file_systems}"));
        assert_eq!(found["type"], kind, "{found}");
        assert_eq!(found["name"], device["/dev/".len()..], "{found}");
        let disk = &found["disk"][0];
        assert_eq!(disk["bus-type"], bus, "{found}");
        assert_eq!(disk["dev"], device, "{found}");
        assert_eq!(disk["serial"], serial(guest, device), "{found}");
        let size = guest.machine.shell.number(&format!("df --block-size=1 --output=size {mount_point} | tail -n 1"));
        assert_eq!(found["total-bytes-privileged"], size, "{found}");
    }
    // systemd's tmpfs, cgroup2, autofs and the like are none.
    assert_eq!(file_systems.as_array().map(Vec::len), Some(3), "{file_systems}");
}

pub(crate) fn a_program_has_the_environment_of_a_service(guest: &mut Guest) {
    let mut agent = guest.machine.agent();
    let mut run = |path: &str, arg: &[&str]| {
        let arguments = json!({ "path": path, "arg": arg, "capture-output": true });
        let started = agent.call("guest-exec", arguments).unwrap();
        let status = wait::until("the end of a program", SOON, || {
            let status = agent.call("guest-exec-status", started.clone()).unwrap();
            (status["exited"] == true).then_some(status)
        });
        assert_eq!(status["exitcode"], 0, "{status}");
        let data = STANDARD.decode(status["out-data"].as_str().unwrap_or_default()).unwrap();
        String::from_utf8(data).unwrap().trim().to_owned()
    };
    // Found by its name.
    assert_eq!(run("systemctl", &["is-active", "qemu-guest-agent"]), "active");
    assert_eq!(run("id", &["-u"]), "0");
    let group = run("cat", &["/proc/self/cgroup"]);
    assert_eq!(group, "0::/system.slice/qemu-guest-agent.service");
    let environment = run("env", &[]);
    let path = environment.lines().find(|line| line.starts_with("PATH=")).unwrap_or_default();
    assert!(path.contains("/usr/sbin") && path.contains("/usr/bin"), "{environment}");
    // It must not speak for the agent.
    assert!(!environment.contains("NOTIFY_SOCKET"), "{environment}");
    // What is started in the background belongs to a unit of its own, and so outlives the agent's.
    run("systemd-run", &["--unit=outlives", "--collect", "sleep", "1000"]);
    assert_eq!(guest.machine.shell.run("systemctl restart qemu-guest-agent; systemctl is-active outlives"), "active");
    guest.machine.shell.run("systemctl stop outlives");
}
