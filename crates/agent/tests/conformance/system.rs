//! Host name, users, time zone, operating system, time.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use qga_testkit::{Host, skip};
use serde_json::{Value, json};

use crate::differences::differs;
use crate::{PROGRAM, agent, setup};

fn host_name(name: &str) -> Option<Result<Value, String>> {
    if !skip::is_root("host name") || !skip::has("host name", "unshare") {
        return None;
    }
    let script = "printf %s \"$1\" >/proc/sys/kernel/hostname || exit 1; shift; exec \"$@\"";
    let agent = setup().inside(["unshare", "-u", "sh", "-c", script, "sh", name]).start();
    Some(agent.host().call("guest-get-host-name", json!({})).map_err(|error| error.desc))
}

#[test]
fn the_host_name_is_the_kernels() {
    let Some(told) = host_name("first.example.org") else { return };
    assert_eq!(told, Ok(json!({ "host-name": "first.example.org" })));
}

#[test]
fn a_host_name_may_have_64_characters() {
    let name = "n".repeat(64);
    let Some(told) = host_name(&name) else { return };
    let failed = Err("cannot get hostname: File name too long".to_owned());
    assert_eq!(told, differs("host-name-64", Ok(json!({ "host-name": name })), failed));
}

/// One record as glibc has it on x86-64.
fn record(kind: u16, pid: u32, user: &str, seconds: u32, microseconds: u32) -> Vec<u8> {
    let mut record = vec![0; 384];
    record[..2].copy_from_slice(&kind.to_ne_bytes());
    record[4..8].copy_from_slice(&pid.to_ne_bytes());
    record[44..44 + user.len()].copy_from_slice(user.as_bytes());
    record[340..344].copy_from_slice(&seconds.to_ne_bytes());
    record[344..348].copy_from_slice(&microseconds.to_ne_bytes());
    record
}

/// What `guest-get-users` answers as it came, with this as `/run` (and nothing else in it).
fn users(test: &str, fill: impl FnOnce(&std::path::Path)) -> Option<String> {
    if !skip::is_root(test) || !skip::has(test, "unshare") || cfg!(not(target_arch = "x86_64")) {
        return None;
    }
    let setup = setup();
    let run = setup.dir().join("run");
    fs::create_dir(&run).unwrap();
    fill(&run);
    let script = "mount --bind \"$1\" /run || exit 1; shift; exec \"$@\"";
    let run = run.display().to_string();
    let agent = setup.inside(["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", &run]).start();
    Some(crate::ask(&mut agent.host(), "{\"execute\":\"guest-get-users\"}"))
}

#[test]
fn users_are_told_once_with_the_oldest_login() {
    let alive = std::process::id();
    let utmp = [
        record(7, alive, "alice", 1_700_000_100, 500_000),
        record(7, alive, "bob", 1_700_000_200, 1),
        record(7, alive, "alice", 1_700_000_050, 250_000),
        record(8, alive, "carol", 1_700_000_000, 0),
        record(6, alive, "LOGIN", 1_700_000_000, 0),
        record(7, alive, "a123456789b123456789c123456789dd", 1_700_000_400, 0),
    ];
    let Some(told) = users("users", |run| fs::write(run.join("utmp"), utmp.concat()).unwrap()) else { return };
    let expected = "{\"return\": [{\"login-time\": 1700000050.25, \"user\": \"alice\"}, \
                    {\"login-time\": 1700000200.000001, \"user\": \"bob\"}, \
                    {\"login-time\": 1700000400, \"user\": \"a123456789b123456789c123456789dd\"}]}";
    assert_eq!(told, expected);
}

#[test]
fn a_session_whose_process_is_gone_is_over() {
    // Beyond the highest number that a process can have.
    let utmp = record(7, 1 << 23, "ghost", 1_700_000_000, 0);
    let Some(told) = users("stale session", |run| fs::write(run.join("utmp"), utmp).unwrap()) else { return };
    let c = "{\"return\": [{\"login-time\": 1700000000, \"user\": \"ghost\"}]}";
    assert_eq!(told, differs("users-alive", "{\"return\": []}", c));
}

#[test]
fn without_utmp_there_is_logind() {
    let told = users("logind", |run| {
        let sessions = run.join("systemd/sessions");
        fs::create_dir_all(&sessions).unwrap();
        let session = format!(
            "UID=1000\nUSER=alice\nSTATE=active\nCLASS=user\nLEADER={}\nREALTIME=1700000050250000\n",
            std::process::id()
        );
        fs::write(sessions.join("1"), session).unwrap();
    });
    let Some(told) = told else { return };
    let ours = "{\"return\": [{\"login-time\": 1700000050.25, \"user\": \"alice\"}]}";
    assert_eq!(told, differs("users-logind", ours, "{\"return\": []}"));
}

/// A zone that has summer time at this moment.
fn summer_now() -> String {
    let day = std::process::Command::new("date").args(["-u", "+%j"]).output().unwrap().stdout;
    match String::from_utf8(day).unwrap().trim().parse().unwrap() {
        day @ 60..=300 => format!("AAA5BBB,J{},J{}", day - 30, day + 30),
        _ => "AAA5BBB,J280,J80".to_owned(),
    }
}

#[test]
fn the_time_zone_is_the_one_in_force() {
    for (zone, name, offset) in [
        ("XYZ-3:30", "XYZ", 12_600),
        ("<+03>-3", "+03", 10_800),
        (&summer_now(), "BBB", -14_400),
        ("No/Such", "UTC", 0),
        ("", "UTC", 0),
    ] {
        let agent = setup().env("TZ", zone).start();
        let told = agent.host().call("guest-get-timezone", json!({})).unwrap();
        assert_eq!(told, json!({ "zone": name, "offset": offset }), "{zone}");
    }
    if std::path::Path::new("/usr/share/zoneinfo/Asia/Kathmandu").exists() {
        let agent = setup().env("TZ", ":Asia/Kathmandu").start();
        let told = agent.host().call("guest-get-timezone", json!({})).unwrap();
        assert_eq!(told, json!({ "zone": "+0545", "offset": 20_700 }));
    }
}

#[test]
fn a_time_zone_that_is_changed_shows_at_once() {
    if !skip::is_root("changed time zone") || !skip::has("changed time zone", "unshare") {
        return;
    }
    let zones = std::path::Path::new("/usr/share/zoneinfo");
    let (first, second) = (zones.join("Asia/Tokyo"), zones.join("Asia/Kathmandu"));
    if !first.exists() || !second.exists() {
        return skip::skipped("changed time zone", "needs the time zone database");
    }
    let setup = setup();
    let etc = setup.dir().join("etc");
    fs::create_dir(&etc).unwrap();
    std::os::unix::fs::symlink(&first, etc.join("localtime")).unwrap();
    let script = "unset TZ; mount --bind \"$1\" /etc || exit 1; shift; exec \"$@\"";
    let argument = etc.display().to_string();
    let inside = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", &argument];
    let agent = setup.inside(inside).start();
    let mut host = agent.host();
    let told = host.call("guest-get-timezone", json!({})).unwrap();
    assert_eq!(told, json!({ "zone": "JST", "offset": 32_400 }));
    fs::remove_file(etc.join("localtime")).unwrap();
    std::os::unix::fs::symlink(&second, etc.join("localtime")).unwrap();
    let told = host.call("guest-get-timezone", json!({})).unwrap();
    assert_eq!(told, json!({ "zone": "+0545", "offset": 20_700 }));
}

/// `guest-get-osinfo` of a distribution whose os-release is this, without what the kernel says.
fn osinfo(release: impl AsRef<[u8]>) -> Value {
    let setup = setup();
    let file = setup.dir().join("os-release");
    fs::write(&file, release).unwrap();
    let agent = setup.env("QGA_OS_RELEASE", file).start();
    let mut told = agent.host().call("guest-get-osinfo", json!({})).unwrap();
    let members = told.as_object_mut().unwrap();
    let uname = |what: &str| fs::read_to_string(format!("/proc/sys/kernel/{what}")).unwrap().trim().to_owned();
    assert_eq!(members.remove("kernel-release"), Some(json!(uname("osrelease"))));
    assert_eq!(members.remove("kernel-version"), Some(json!(uname("version"))));
    assert_eq!(members.remove("machine"), Some(json!(std::env::consts::ARCH)));
    told
}

#[test]
fn os_release_is_read_as_the_c_agent_does() {
    let told = osinfo(
        "ID=debian\n# ID=comment\n\nNAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Foo \\\"Bar\\\" \\$5 \\`x\\` \\\\ \\n end\" # c\n\
         VERSION=\"12 (bookworm)\"\r\nVERSION_ID = 12 ; x\nVARIANT=server;junk\nVARIANT_ID=\nID=later\n",
    );
    let expected = json!({
        "id": "later", "name": "Debian GNU/Linux", "pretty-name": "Foo \"Bar\" $5 `x` \\ \\n end",
        "version": "12 (bookworm)", "version-id": "12", "variant": "server", "variant-id": "",
    });
    assert_eq!(told, expected);
    assert_eq!(osinfo(""), json!({}));
}

#[test]
fn os_release_may_be_quoted_as_its_specification_says() {
    let told = osinfo("NAME='Foo Bar'\nVERSION=\"unterminated\n");
    let ours = json!({ "name": "Foo Bar", "version": "unterminated" });
    let c = json!({ "name": "'Foo", "version": "unterminatedd" });
    assert_eq!(told, differs("osinfo-quotes", ours, c));
}

#[test]
fn one_bad_line_of_os_release_spoils_no_other() {
    for release in [&b"ID=a\nno assignment\n"[..], b"ID=a\nNAME=\"\xff\"\n"] {
        let told = osinfo(release);
        assert_eq!(told["id"], differs("osinfo-lines", json!("a"), Value::Null));
    }
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

#[test]
fn the_time_is_in_nanoseconds() {
    let (_agent, mut host) = agent();
    let before = now();
    let told = host.call("guest-get-time", json!({})).unwrap().as_i64().unwrap();
    // The C agent leaves out the last three digits.
    assert!(before - 1000 <= told && told <= now(), "{before} {told}");
    let mut sharp = || host.call("guest-get-time", json!({})).unwrap().as_i64().unwrap() % 1000 != 0;
    let any = (0..20).any(|_| sharp());
    assert_eq!(any, differs("time-nanoseconds", true, false));
}

/// `guest-set-time` of an agent that has no right to set the clock, whatever it is asked.
fn set_time(host: &mut Host, time: Value) -> String {
    host.call("guest-set-time", json!({ "time": time })).unwrap_err().desc
}

#[test]
fn a_time_that_cannot_be_is_refused() {
    let agent = setup().allow("guest-set-time").start();
    let mut host = agent.host();
    for time in [3_155_760_000_000_000_000_i64, i64::MAX, -1_000_000_001_000_000_000] {
        let desc = set_time(&mut host, json!(time));
        // The C agent goes on with whatever error there was last.
        let is_so = if PROGRAM.is_ours() { desc == "Invalid time" } else { desc.starts_with("Invalid time") };
        assert!(is_so, "{desc}");
    }
    let denied = "Failed to set time to guest: Operation not permitted";
    for time in [1_795_350_119_864_086_272_i64, 3_155_700_000_000_000_000] {
        assert_eq!(set_time(&mut host, json!(time)), denied);
    }
    assert_eq!(set_time(&mut host, json!(-1)), differs("set-time-range", "Invalid time", denied));
    let wrong = "Invalid parameter type for 'time', expected: integer";
    assert_eq!(set_time(&mut host, json!("now")), wrong);
}
