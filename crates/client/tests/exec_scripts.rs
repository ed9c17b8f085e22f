//! The scripts that run in a guest, with each shell and each way to become another user that guests have.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use qga_testkit::{skip, wait};

const SUPERVISE: &str = include_str!("../src/exec/supervise.sh");
const LAUNCH: &str = include_str!("../src/exec/launch.sh");
const END: &str = include_str!("../src/exec/end.sh");

const ENOUGH: Duration = Duration::from_secs(60);

/// The shells of Debian, Alpine and Fedora.
const SHELLS: [&[&str]; 3] = [&["dash"], &["busybox", "sh"], &["bash", "--posix"]];

fn shells(test: &str) -> impl Iterator<Item = &'static [&'static str]> + '_ {
    SHELLS.into_iter().filter(move |shell| skip::has(test, shell[0]))
}

/// Does the same with each shell at the same time.
fn each_shell(test: &str, check: impl Fn(usize, &[&str]) + Sync) {
    let check = &check;
    std::thread::scope(|scope| {
        for (at, sh) in shells(test).enumerate() {
            scope.spawn(move || check(at, sh));
        }
    });
}

fn shell(shell: &[&str], script: &str, args: &[&str]) -> Command {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(["-c", script, "qga"]).args(args).stdin(Stdio::null());
    command
}

/// The launcher's arguments for a script that runs as the same user at `/`.
fn launch_args(script: &str) -> Vec<&str> {
    vec!["0", "", "", "", "0", "sh", "-c", script]
}

/// A name that no other test has.
fn name(what: &str) -> String {
    format!("qga-exec-test-{what}-{}", std::process::id())
}

fn find(name: &str) -> PathBuf {
    let there =
        || ["/run", "/tmp"].map(|base| Path::new(base).join(name)).into_iter().find(|dir| dir.join("code").exists());
    wait::until("the directory", ENOUGH, there)
}

fn wait_for_code(dir: &Path, line: &str) {
    let is_there = || fs::read_to_string(dir.join("code")).unwrap().lines().any(|found| found == line).then_some(());
    wait::until(line, ENOUGH, is_there);
}

#[test]
fn a_supervised_program_has_its_streams_and_its_end_with_every_shell() {
    let test = "a_supervised_program_has_its_streams_and_its_end_with_every_shell";
    each_shell(test, |at, sh| {
        let name = name(&format!("streams-{at}"));
        let program = "cat; echo err >&2; echo state >&3 && exit 7";
        let args = ["1", "", "", "/usr", "1", "A=b c", "sh", "-c", program];
        let mut child =
            shell(sh, SUPERVISE, &[&[name.as_str(), "60", "1", LAUNCH][..], &args].concat()).spawn().unwrap();
        let dir = find(&name);
        // Input that comes in pieces, and a piece that gets longer while it is read.
        fs::write(dir.join("in.0"), vec![b'x'; 100_000]).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let mut piece = fs::OpenOptions::new().append(true).open(dir.join("in.0")).unwrap();
        std::io::Write::write_all(&mut piece, b"yy").unwrap();
        fs::write(dir.join("in.1"), "zz").unwrap();
        fs::write(dir.join("eof"), "").unwrap();
        for line in ["exit 7", "out", "err"] {
            wait_for_code(&dir, line);
        }
        let out = fs::read(dir.join("out.0")).unwrap();
        assert_eq!((out.len(), &out[99_999..]), (100_004, &b"xyyzz"[..]), "{sh:?}");
        assert_eq!(fs::read(dir.join("err.0")).unwrap(), b"err\n");
        assert_eq!(fs::read(dir.join("state")).unwrap(), b"state\n");
        assert_eq!(fs::read(dir.join("ate")).unwrap(), b"\n");
        fs::write(dir.join("done"), "").unwrap();
        assert!(child.wait().unwrap().success());
        assert!(!dir.exists());
    });
}

#[test]
fn a_program_is_ended_by_its_group_with_every_shell() {
    each_shell("a_program_is_ended_by_its_group_with_every_shell", |at, sh| {
        let name = name(&format!("end-{at}"));
        let program = "trap '' TERM; sleep 600 & echo $!; sleep 600; sleep 600";
        let args = [&[name.as_str(), "60", "0", LAUNCH][..], &launch_args(program)].concat();
        let mut child = shell(sh, SUPERVISE, &args).spawn().unwrap();
        let dir = find(&name);
        let pid = wait::until("a line", ENOUGH, || {
            fs::read_to_string(dir.join("out.0")).ok().filter(|text| text.ends_with('\n'))
        });
        let send = |signal| shell(sh, END, &[dir.to_str().unwrap(), signal]).status().unwrap().success();
        assert!(send("TERM"), "{sh:?}");
        assert!(!fs::read_to_string(dir.join("code")).unwrap().contains("exit"));
        assert!(send("KILL"), "{sh:?}");
        wait_for_code(&dir, "exit 137");
        let child_of_it = Path::new("/proc").join(pid.trim());
        let is_gone = || {
            let stat = fs::read_to_string(child_of_it.join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z')).then_some(())
        };
        wait::until("the end of the group", ENOUGH, is_gone);
        fs::write(dir.join("done"), "").unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn nothing_stays_when_the_supervisor_or_the_host_is_gone_with_every_shell() {
    let test = "nothing_stays_when_the_supervisor_or_the_host_is_gone_with_every_shell";
    each_shell(test, |at, sh| {
        std::thread::scope(|scope| {
            for is_killed in [false, true] {
                scope.spawn(move || {
                    let name = name(&format!("watch-{at}-{is_killed}"));
                    let keep = if is_killed { "60" } else { "2" };
                    let args = [&[name.as_str(), keep, "1", LAUNCH][..], &launch_args("yes; sleep 600")].concat();
                    let mut child = shell(sh, SUPERVISE, &args).stderr(Stdio::null()).spawn().unwrap();
                    let dir = find(&name);
                    if is_killed {
                        child.kill().unwrap();
                    }
                    // As an agent does, which is told of it: one that nobody has waited for looks as if it were alive.
                    scope.spawn(move || child.wait().unwrap());
                    wait::until("the end of the directory", ENOUGH, || (!dir.exists()).then_some(()));
                });
            }
        });
    });
}

/// A directory with these programs of this machine alone.
fn programs(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let found = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(|base| Path::new(base).join(name));
        let found = found.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("no {name}"));
        symlink(found, dir.path().join(name)).unwrap();
    }
    dir
}

fn launch_as_nobody(sh: &[&str], path: &Path) -> Output {
    let script = "id -un; printf '<%s>' \"$@\"; exit 9";
    let quoted = "'sh' '-c' 'id -un; printf '\\''<%s>'\\'' \"$@\"; exit 9' 'n' 'a  b' 'it'\\''s'";
    let args = ["", "", "0", "nobody", quoted, "/", "0", "sh", "-c", script, "n", "a  b", "it's"];
    let found = String::from_utf8(Command::new("which").arg(sh[0]).output().unwrap().stdout).unwrap();
    let sh = [&[found.trim()], &sh[1..]].concat();
    shell(&sh, LAUNCH, &args).env("PATH", path).output().unwrap()
}

#[test]
fn each_program_there_is_makes_it_another_users_program() {
    let test = "each_program_there_is_makes_it_another_users_program";
    if !skip::is_root(test) {
        return;
    }
    let needed = ["id", "getent", "cat", "grep", "sh", "printf"];
    for tool in ["setpriv", "runuser", "su"] {
        if !skip::has(test, tool) {
            continue;
        }
        let path = programs(&[&needed[..], &[tool]].concat());
        fs::set_permissions(path.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        for sh in shells(test) {
            let output = launch_as_nobody(sh, path.path());
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(String::from_utf8_lossy(&output.stdout), "nobody\n<a  b><it's>", "{tool} {sh:?}: {said}");
            assert_eq!(output.status.code(), Some(9), "{tool} {sh:?}: {said}");
        }
    }
    if skip::has(test, "busybox") {
        let path = programs(&needed);
        fs::set_permissions(path.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        symlink("/usr/bin/busybox", path.path().join("su")).unwrap();
        let output = launch_as_nobody(&["busybox", "sh"], path.path());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(9), &b"nobody\n<a  b><it's>"[..]), "{said}");
    }
    let path = programs(&needed);
    let output = launch_as_nobody(&["dash"], path.path());
    assert_eq!(output.status.code(), Some(126));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "qga: cannot become 'nobody': the guest has none of setpriv, runuser and su\n");
}
