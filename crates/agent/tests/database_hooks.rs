//! The hooks of `packaging/fsfreeze-hook.d` against real servers, started for this on a socket in a temporary directory.
//! Where a server is not installed its test says that it did not run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use qga_testkit::host::PATIENCE;
use qga_testkit::{skip, wait};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

fn hook(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/fsfreeze-hook.d").join(name)
}

/// A program of `PATH`, or of the directories where Debian keeps servers.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.push("/usr/sbin".into());
    for version in fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        dirs.push(version.path().join("bin"));
    }
    dirs.into_iter().map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// A server that does not outlive its test.
struct Server {
    child: Child,
    dir: TempDir,
}

impl Server {
    fn start(dir: TempDir, command: &mut Command) -> Self {
        let log = fs::File::create(dir.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Server { child: command.spawn().unwrap(), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What MariaDB and PostgreSQL both take for a quick end.
        let _ = kill_process(Pid::from_child(&self.child), Signal::QUIT);
        let ended = wait::poll(Duration::from_secs(20), || self.child.try_wait().unwrap());
        if ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn run(hook: &Path, phase: &str, env: &[(&str, &str)]) -> Output {
    Command::new(hook).arg(phase).envs(env.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn succeeds(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// A directory that the servers' users can enter.
fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

#[test]
fn without_a_server_a_hook_does_nothing_and_succeeds() {
    let dir = directory();
    let run_dir = dir.path().join("run");
    // Nothing is found, not even `pidof`, so that a server of this machine's does not count.
    let nothing = [("PATH", "/nowhere"), ("MARIADB_RUN", run_dir.to_str().unwrap())];
    // With a client program that fails, and without any.
    for client in [&[("MARIADB", "false"), ("PSQL", "false")][..], &[]] {
        for name in ["20-mariadb.sh", "20-postgresql.sh"] {
            let told = |phase: &str| {
                let env = nothing.iter().chain(client).copied();
                Command::new("/bin/sh").arg(hook(name)).arg(phase).envs(env).output().unwrap()
            };
            for phase in ["freeze", "thaw", "thaw"] {
                let output = told(phase);
                assert!(output.status.success(), "{name} {phase}: {output:?}");
            }
            for unknown in ["bogus", ""] {
                assert_eq!(told(unknown).status.code(), Some(2), "{name} '{unknown}'");
            }
        }
    }
    assert!(!run_dir.exists());
}

#[test]
fn mariadb_holds_still_between_freeze_and_thaw() {
    let (Some(server), Some(client), Some(install)) =
        (program("mariadbd"), program("mariadb"), program("mariadb-install-db"))
    else {
        return skip::skipped("mariadb_holds_still_between_freeze_and_thaw", "mariadb-server is not installed");
    };
    let dir = directory();
    let [data, socket] = ["data", "socket"].map(|name| dir.path().join(name));
    let base = install.parent().and_then(Path::parent).unwrap().to_owned();
    let output = Command::new(install)
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"])
        .args([format!("--basedir={}", base.display()), format!("--datadir={}", data.display())])
        .output()
        .unwrap();
    succeeds(&output);
    let server = Server::start(
        dir,
        Command::new(server)
            .args(["--no-defaults", "--skip-networking", "--user=root", "--innodb-buffer-pool-size=8M"])
            .arg(format!("--lc-messages-dir={}", base.join("share/mysql/english").display()))
            .args([format!("--datadir={}", data.display()), format!("--socket={}", socket.display())]),
    );
    holds_still(&server, &client, &socket);
}

#[test]
fn mysql_holds_still_between_freeze_and_thaw() {
    const NAME: &str = "mysql_holds_still_between_freeze_and_thaw";
    let version = |program: &Path| Command::new(program).arg("--version").output().map(|output| output.stdout);
    // MariaDB's server has this name, too.
    let is_mysql =
        |program: &PathBuf| version(program).is_ok_and(|text| !String::from_utf8_lossy(&text).contains("Maria"));
    let (Some(server), Some(client)) = (program("mysqld").filter(is_mysql), program("mysql").filter(is_mysql)) else {
        return skip::skipped(NAME, "mysql-server is not installed");
    };
    let dir = directory();
    let [data, socket] = ["data", "socket"].map(|name| dir.path().join(name));
    let data = format!("--datadir={}", data.display());
    let options = ["--no-defaults", "--user=root", "--secure-file-priv=", &data];
    succeeds(&Command::new(&server).args(options).arg("--initialize-insecure").output().unwrap());
    let server = Server::start(
        dir,
        Command::new(server)
            .args(options)
            .args(["--skip-networking", "--loose-skip-mysqlx", "--innodb-buffer-pool-size=8M"])
            .args([format!("--socket={}", socket.display()), format!("--pid-file={}.pid", socket.display())]),
    );
    holds_still(&server, &client, &socket);
}

/// Counts the connections, but for the server's own.
const SESSIONS: &str = "SELECT COUNT(*) FROM information_schema.processlist WHERE command <> 'Daemon'";

/// What the hook has to do for a server of this kind.
fn holds_still(server: &Server, client: &Path, socket: &Path) {
    let run_dir = server.path("run");
    let client = format!("{} --no-defaults --user=root --socket={}", client.display(), socket.display());
    let sql = |text: &str| {
        let mut words = client.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(["--batch", "--skip-column-names", "-e", text]).output().unwrap()
    };
    wait::until("the server", Duration::from_secs(120), || sql("SELECT 1").status.success().then_some(()));
    succeeds(&sql("CREATE DATABASE d; CREATE TABLE d.t (n INT) ENGINE=InnoDB; INSERT INTO d.t VALUES (0)"));
    let hook = hook("20-mariadb.sh");
    let env = [("MARIADB", client.as_str()), ("MARIADB_RUN", run_dir.to_str().unwrap())];
    let count = || String::from_utf8(sql("SELECT COUNT(*) FROM d.t").stdout).unwrap().trim().parse::<u32>().unwrap();
    for round in 1..4 {
        succeeds(&run(&hook, "freeze", &env));
        // Two writers: one commits, one changes tables.
        let mut words = client.split(' ');
        let program = words.next().unwrap();
        let writer =
            |text: &str| Command::new(program).args(client.split(' ').skip(1)).args(["-e", text]).spawn().unwrap();
        let writers = [writer("INSERT INTO d.t VALUES (1)"), writer(&format!("CREATE TABLE d.t{round} (n INT)"))];
        sleep(Duration::from_millis(700));
        assert_eq!(count(), round, "nothing is committed while frozen");
        succeeds(&run(&hook, "thaw", &env));
        for mut writer in writers {
            let status = wait::poll(PATIENCE, || writer.try_wait().unwrap()).expect("it goes on");
            assert!(status.success());
        }
        assert_eq!(count(), round + 1);
        assert!(!run_dir.exists());
    }
    // Thawing twice and a freeze after a freeze are fine; the server has one lock at most.
    succeeds(&run(&hook, "freeze", &env));
    succeeds(&run(&hook, "freeze", &env));
    succeeds(&run(&hook, "thaw", &env));
    succeeds(&run(&hook, "thaw", &env));
    succeeds(&sql("INSERT INTO d.t VALUES (1)"));

    // A lock that does not come in time is an error, and is not left behind.
    let mut reader = Command::new("sh")
        .args(["-c", &format!("{client} -e 'LOCK TABLES d.t WRITE; SELECT SLEEP(600)'")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait::until("a long lock", PATIENCE, || {
        String::from_utf8_lossy(&sql("SHOW PROCESSLIST").stdout).contains("SLEEP(600)").then_some(())
    });
    let since = Instant::now();
    let hasty = [env[0], env[1], ("MARIADB_WAIT", "1")];
    let output = run(&hook, "freeze", &hasty);
    assert!(!output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no lock after 1 seconds"), "{output:?}");
    assert!(since.elapsed() < Duration::from_secs(30));
    let killed =
        sql("SELECT id FROM information_schema.processlist WHERE info LIKE '%SLEEP(600)%' AND id <> CONNECTION_ID()");
    for id in String::from_utf8_lossy(&killed.stdout).split_whitespace() {
        succeeds(&sql(&format!("KILL {id}")));
    }
    let _ = reader.wait();
    wait::until("no lock left", PATIENCE, || {
        (String::from_utf8_lossy(&sql(SESSIONS).stdout).trim() == "1").then_some(())
    });
    succeeds(&sql("INSERT INTO d.t VALUES (1)"));
}

#[test]
fn postgresql_writes_a_checkpoint_at_freeze() {
    let (Some(server), Some(client), Some(initdb)) = (program("postgres"), program("psql"), program("initdb")) else {
        return skip::skipped("postgresql_writes_a_checkpoint_at_freeze", "postgresql is not installed");
    };
    if !geteuid().is_root() {
        return skip::skipped("postgresql_writes_a_checkpoint_at_freeze", "it needs root, to become another user");
    }
    let dir = directory();
    let data = dir.path().join("data");
    // It refuses to run as root.
    let as_nobody = |program: &Path| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).current_dir("/");
        command
    };
    succeeds(&as_nobody(&initdb).args(["-U", "postgres", "-A", "trust", "-D"]).arg(&data).output().unwrap());
    let socket = dir.path().to_owned();
    let server = Server::start(
        dir,
        as_nobody(&server).arg("-D").arg(&data).args(["-c", "listen_addresses="]).arg("-k").arg(&socket),
    );
    let client = format!("{} --host={} --username=postgres --dbname=postgres", client.display(), socket.display());
    let sql = |text: &str| {
        let output =
            Command::new("sh").args(["-c", &format!("{client} -X -t -A -c \"$0\"")]).arg(text).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    wait::until("PostgreSQL", Duration::from_secs(120), || sql("SELECT 1").0.then_some(()));
    let redo = || sql("SELECT redo_lsn FROM pg_control_checkpoint()").1;
    let hook = hook("20-postgresql.sh");
    let env = [("PSQL", client.as_str())];
    for _ in 0..2 {
        assert!(sql("CREATE TABLE IF NOT EXISTS t (n INT); INSERT INTO t VALUES (1)").0);
        let before = redo();
        succeeds(&run(&hook, "freeze", &env));
        assert_ne!(redo(), before, "a checkpoint");
        succeeds(&run(&hook, "thaw", &env));
        assert!(sql("INSERT INTO t VALUES (2)").0);
    }
    assert!(server.path("log").exists());
    // The server runs, and lets nobody in: that must not pass for a good snapshot.
    let output = run(&hook, "freeze", &[("PSQL", &format!("{client} --port=1"))]);
    let is_seen = Command::new("pidof").arg("postgres").output().is_ok_and(|output| output.status.success());
    assert_eq!(output.status.success(), !is_seen, "{output:?}");
}
