//! Each thing that may hang, against all that is promised.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use qga_testkit::fuse::{CLOSE, Hanging, LOOK_UP, OPEN, WRITE};
use qga_testkit::host::PATIENCE;
use qga_testkit::{Setup, TestAgent, skip, wait};
use serde_json::{Value, json};

use crate::matrix::{AT_ONCE, Bench, Cause, TIMES, everything_works, ping, resync};
use crate::{open, setup, with_hanging_files};

/// Runs the matrix with a command that asks for something of a hanging file system.
fn hanging(what: &str, command: &str, arguments: impl Fn(usize, &Path) -> Value) {
    let Some((agent, hanging, dir)) = with_hanging_files(what) else { return };
    run(what, &agent, &hanging, command, &|count| arguments(count, &dir));
}

fn run(what: &str, agent: &TestAgent, hanging: &Hanging, command: &str, arguments: &dyn Fn(usize) -> Value) {
    Bench::new(agent).run(&Cause {
        what,
        command,
        arguments,
        hang: &|count| hanging.wait_for(count),
        thaw: json!(0),
        gives_up: false,
        release: &|| hanging.release(),
    });
}

#[test]
fn while_a_path_is_looked_up_and_that_hangs_all_else_goes_on() {
    hanging("a look-up", "guest-file-open", |n, dir| json!({ "path": dir.join(format!("{LOOK_UP}{n}/b")) }));
}

#[test]
fn while_an_open_hangs_all_else_goes_on() {
    hanging("an open", "guest-file-open", |n, dir| json!({ "path": dir.join(format!("{OPEN}{n}")) }));
}

#[test]
fn while_a_program_is_started_and_that_hangs_all_else_goes_on() {
    hanging("the start of a program", "guest-exec", |n, dir| json!({ "path": dir.join(format!("{OPEN}{n}")) }));
}

/// As before, with a handle for each time.
fn hanging_on_handle(what: &str, name: &str, command: &str, arguments: Value) {
    let Some((agent, hanging, dir)) = with_hanging_files(what) else { return };
    let mut host = agent.host();
    let open = |n: usize| {
        let path = dir.join(format!("{name}{n}"));
        host.call("guest-file-open", json!({ "path": path, "mode": "r+" })).unwrap()
    };
    let handles: Vec<Value> = (0..TIMES).map(open).collect();
    run(what, &agent, &hanging, command, &|n| {
        let mut arguments = arguments.clone();
        arguments["handle"] = handles[n].clone();
        arguments
    });
}

#[test]
fn while_a_read_hangs_all_else_goes_on() {
    hanging_on_handle("a read", "", "guest-file-read", json!({}));
}

#[test]
fn while_a_write_hangs_all_else_goes_on() {
    hanging_on_handle("a write", WRITE, "guest-file-write", json!({ "buf-b64": "ZmluZQ==" }));
}

#[test]
fn while_a_close_hangs_all_else_goes_on() {
    hanging_on_handle("a close", CLOSE, "guest-file-close", json!({}));
}

/// Lets the agent see another file in the place of one of the system's.
fn instead_of(setup: Setup, system: &str, file: &Path) -> Setup {
    let script = format!("mount --bind '{}' '{system}' && exec \"$@\"", file.display());
    setup.inside(["unshare", "-m", "sh", "-c", script.as_str(), "sh"])
}

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn while_a_home_directory_does_not_answer_all_else_goes_on() {
    let what = "keys in a home directory";
    if !skip::is_root(what) || !skip::has(what, "unshare") {
        return;
    }
    let setup = setup();
    let (dir, passwd) = (setup.dir().join("hanging"), setup.dir().join("passwd"));
    fs::create_dir(&dir).unwrap();
    let users: String = (0..TIMES)
        .map(|n| format!("stuck{n}:x:0:0::{}:/bin/sh\n", dir.join(format!("{LOOK_UP}{n}")).display()))
        .collect();
    fs::write(&passwd, format!("root:x:0:0::/root:/bin/sh\n{users}")).unwrap();
    let setup = instead_of(setup, "/etc/passwd", &passwd);
    let Some((setup, hanging)) = Hanging::mount(what, setup, &dir) else { return };
    let agent = setup.start();
    run(what, &agent, &hanging, "guest-ssh-get-authorized-keys", &|n| json!({ "username": format!("stuck{n}") }));
}

#[test]
fn while_the_name_service_does_not_answer_all_else_goes_on() {
    let what = "a user of a name service";
    if !skip::is_root(what) || !skip::has(what, "unshare") || !Path::new("/usr/bin/getent").exists() {
        return skip::skipped(what, "needs root, unshare and /usr/bin/getent");
    }
    let setup = setup();
    let (getent, asked, go) = (setup.dir().join("getent"), setup.dir().join("asked"), setup.dir().join("go"));
    let text = "echo >>ASKED; while [ ! -e GO ]; do sleep 0.1; done; exit 2";
    script(&getent, &text.replace("ASKED", asked.to_str().unwrap()).replace("GO", go.to_str().unwrap()));
    let agent = instead_of(setup, "/usr/bin/getent", &getent).start();
    Bench::new(&agent).run(&Cause {
        what,
        command: "guest-ssh-get-authorized-keys",
        arguments: &|_| json!({ "username": "nobody-of-this-name" }),
        hang: &|count| {
            let asked = || fs::read(&asked).is_ok_and(|lines| lines.len() >= count).then_some(());
            wait::until("the question to the name service", PATIENCE, asked);
        },
        thaw: json!(0),
        gives_up: true,
        release: &|| fs::write(&go, "").unwrap(),
    });
}

#[test]
fn while_a_hook_sleeps_for_ever_all_else_goes_on_and_a_thaw_ends_it() {
    let setup = setup().allow("guest-fsfreeze-freeze");
    let (hook, began, thawed) = (setup.dir().join("hook"), setup.dir().join("began"), setup.dir().join("thawed"));
    let text = "[ $1 = thaw ] && echo >>THAWED && exit; echo >>BEGAN; while :; do sleep 1; done";
    script(&hook, &text.replace("THAWED", thawed.to_str().unwrap()).replace("BEGAN", began.to_str().unwrap()));
    let agent = setup.arg(format!("-F{}", hook.display())).start();
    let bench = Bench::new(&agent);
    let before = fs::read(&thawed).unwrap().len();
    bench.run(&Cause {
        what: "a hook",
        command: "guest-fsfreeze-freeze",
        arguments: &|_| json!({}),
        hang: &|_| {
            // The second and the following wait for the first, and can only be given a moment to begin.
            wait::until("a hook that runs", PATIENCE, || began.exists().then_some(()));
            sleep(Duration::from_millis(100));
        },
        thaw: json!(0),
        gives_up: true,
        release: &|| assert!(fs::read(&thawed).unwrap().len() > before, "the hook was told that it is over"),
    });
}

/// An agent that sees a file system on a device of its own that does not answer.
fn with_dead_file_system(what: &str) -> Option<(TestAgent, Hanging)> {
    let setup = setup();
    let (dir, image) = (setup.dir().join("dead"), setup.dir().join("image"));
    fs::create_dir(&dir).unwrap();
    fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let (setup, hanging) = Hanging::mount_on_device(what, setup, &dir, &image)?;
    Some((setup.start(), hanging))
}

#[test]
fn a_file_system_that_does_not_answer_is_listed_without_its_size_and_holds_up_nothing() {
    let what = "the size of a file system";
    let Some((agent, hanging)) = with_dead_file_system(what) else { return };
    let mut host = agent.host();
    let dir = agent.dir().join("dead");
    let of = |list: &Value| list.as_array().unwrap().iter().find(|entry| entry["mountpoint"] == json!(dir)).cloned();
    // Resynchronised while it asks; nobody knows yet that it will not be told.
    host.send("guest-get-fsinfo", &json!({})).unwrap();
    hanging.wait_for(1);
    let took = resync(&mut host);
    eprintln!("{what}: resynchronised in {} us", took.as_micros());
    assert!(took < AT_ONCE, "{took:?}");
    ping(&mut host);
    // However often it is asked for, it is listed, the others have their sizes, and one thread hangs.
    for _ in 0..20 {
        let list = host.call("guest-get-fsinfo", json!({})).unwrap();
        let dead = of(&list).expect("an entry for the one that does not answer");
        assert_eq!(dead["type"], "fuseblk");
        assert!(dead.get("total-bytes").is_none() && dead.get("used-bytes").is_none(), "{dead}");
        let others = list.as_array().unwrap().iter().filter(|entry| entry["mountpoint"] != json!(dir));
        for other in others {
            assert!(other["total-bytes"].is_u64(), "{other}");
        }
    }
    // One of the first request, which did not know yet.
    assert!(hanging.count() <= 2, "{} requests hang", hanging.count());
    assert!(agent.threads() <= 5, "{} threads", agent.threads());
    hanging.release();
    let told = || of(&host.call("guest-get-fsinfo", json!({})).unwrap()).filter(|entry| entry["total-bytes"].is_u64());
    let told = wait::until("the size after all", PATIENCE, told);
    assert_eq!(told["total-bytes"], 1000 * 4096);
    assert_eq!(host.read_until_silence(Duration::from_millis(100)).unwrap(), b"");
    wait::until("threads given back", PATIENCE, || (agent.threads() == 1).then_some(()));
}

#[test]
fn a_handle_that_hangs_is_closed_by_the_host_and_costs_no_other_anything() {
    let Some((agent, hanging, dir)) = with_hanging_files("a handle that hangs") else { return };
    let mut host = agent.host();
    let handle = open(&mut host, dir.join("a"));
    let fds = agent.fds();
    host.send("guest-file-read", &json!({ "handle": handle })).unwrap();
    hanging.wait_for(1);
    resync(&mut host);
    for verb in ["flush", "read", "close"] {
        let busy = host.call(&format!("guest-file-{verb}"), json!({ "handle": handle })).unwrap_err();
        assert!(busy.desc.starts_with(&format!("handle '{handle}' is busy with guest-file-read for ")), "{busy}");
    }
    let gone = host.call("guest-file-flush", json!({ "handle": handle })).unwrap_err();
    assert_eq!(gone.desc, format!("handle '{handle}' has not been found"));
    hanging.release();
    wait::until("the file closed", PATIENCE, || (agent.fds() < fds).then_some(()));
    assert_eq!(host.read_until_silence(Duration::from_millis(100)).unwrap(), b"");
}

#[test]
fn what_hangs_for_several_hosts_is_counted_together_and_a_thaw_is_still_heard() {
    let Some((agent, hanging, dir)) = with_hanging_files("several hosts") else { return };
    let mut hosts: Vec<_> = (0..3).map(|_| agent.host()).collect();
    let handles: Vec<i64> = (0..9).map(|n| open(&mut hosts[0], dir.join(n.to_string()))).collect();
    // Threads that are idle take commands also when there may be no other.
    wait::until("no thread", PATIENCE, || (agent.threads() == 1).then_some(()));
    for (n, handle) in handles.iter().enumerate().take(8) {
        let host = &mut hosts[n % 2];
        host.send("guest-file-read", &json!({ "handle": handle })).unwrap();
        hanging.wait_for(n + 1);
        resync(host);
    }
    for host in &mut hosts {
        let refused = host.call("guest-file-read", json!({ "handle": handles[8] })).unwrap_err();
        assert_eq!(refused.class, "GenericError");
        assert!(refused.desc.starts_with("too many commands are still blocked: guest-file-read for "), "{refused}");
        assert_eq!(refused.desc.matches("guest-file-read for ").count(), 8, "{refused}");
        ping(host);
        host.call("guest-info", json!({})).unwrap();
        assert!(resync(host) < AT_ONCE);
        assert_eq!(host.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
        assert_eq!(host.call("guest-fsfreeze-thaw", json!({})), Ok(json!(0)));
    }
    assert_eq!(hanging.count(), 8);
    hanging.release();
    for host in &mut hosts {
        assert_eq!(host.read_until_silence(Duration::from_millis(100)).unwrap(), b"");
        everything_works(&agent, host);
    }
    wait::until("threads given back", PATIENCE, || (agent.threads() == 1).then_some(()));
}

#[test]
fn a_fifo_is_opened_without_waiting_for_the_other_end() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    let agent = setup().start();
    let mut host = agent.host();
    let fifo = agent.dir().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    // Nobody reads, and nobody ever will.
    let error = host.call("guest-file-open", json!({ "path": fifo, "mode": "w" })).unwrap_err();
    assert!(error.desc.ends_with(": No such device or address"), "{error}");
    // Nobody writes either: the end has been reached before anything came.
    let reader = open(&mut host, fifo.clone());
    let read = host.call("guest-file-read", json!({ "handle": reader })).unwrap();
    assert_eq!((&read["count"], &read["eof"]), (&json!(0), &json!(true)));
    let writer = host.call("guest-file-open", json!({ "path": fifo, "mode": "w" })).unwrap();
    // Now somebody could write, and does not.
    let error = host.call("guest-file-read", json!({ "handle": reader })).unwrap_err();
    assert!(error.desc.ends_with(": Resource temporarily unavailable"), "{error}");
    for handle in [json!(reader), writer] {
        host.call("guest-file-close", json!({ "handle": handle })).unwrap();
    }
}
