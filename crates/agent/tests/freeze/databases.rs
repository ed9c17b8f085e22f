//! A snapshot of a database that was taken while frozen, started elsewhere.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use qemu_ga::state::freeze::{Freeze, System};
use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{Stage, on_stage, run};
use crate::{marker, settings};

/// How long a server may take to come up.
const START: Duration = Duration::from_secs(40);

/// A server of MariaDB that does not outlive its test.
struct Server {
    child: Child,
    client: String,
}

impl Server {
    /// Starts one on this directory.
    fn start(data: &Path, socket: &Path) -> Self {
        let log = fs::File::create(socket.with_extension("log")).unwrap();
        let child = Command::new("mariadbd")
            .args(["--no-defaults", "--skip-networking", "--user=root", "--innodb-buffer-pool-size=8M"])
            .arg("--lc-messages-dir=/usr/share/mysql/english")
            .args([format!("--datadir={}", data.display()), format!("--socket={}", socket.display())])
            .args(["--innodb-log-file-size=4M", "--aria-log-file-size=8M"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let client = format!("mariadb --no-defaults --user=root --socket={}", socket.display());
        let mut server = Server { child, client };
        let since = Instant::now();
        while server.sql("SELECT 1").is_none() {
            let log = fs::read_to_string(socket.with_extension("log")).unwrap();
            assert!(since.elapsed() < START && server.child.try_wait().unwrap().is_none(), "{log}");
            thread::sleep(Duration::from_millis(100));
        }
        server
    }

    /// What a statement prints, unless it fails.
    fn sql(&self, text: &str) -> Option<String> {
        let mut words = self.client.split(' ');
        let mut command = Command::new(words.next()?);
        let output = command.args(words).args(["--batch", "--skip-column-names", "-e", text]).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    fn number(&self, text: &str) -> u64 {
        self.sql(text).and_then(|answer| answer.parse().ok()).unwrap_or_else(|| panic!("no number from {text}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The hook as an administrator installs it, with its settings.
fn install_hook(stage: &Stage, client: &str) -> PathBuf {
    let dir = stage.outside("hook.d");
    fs::create_dir(&dir).unwrap();
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/fsfreeze-hook.d/20-mariadb.sh");
    let hook = dir.join("20-mariadb.sh");
    let state = stage.outside("lock");
    let script = format!(
        "#!/bin/sh\nexport MARIADB='{client}' MARIADB_RUN='{}'\nexec '{}' \"$@\"\n",
        state.display(),
        ours.display()
    );
    fs::write(&hook, script).unwrap();
    run("chmod", &["755", dir.to_str().unwrap(), hook.to_str().unwrap()]);
    dir
}

#[test]
fn a_snapshot_of_mariadb_has_all_that_was_committed_and_nothing_half() {
    const NAME: &str = "databases::a_snapshot_of_mariadb_has_all_that_was_committed_and_nothing_half";
    if !Path::new("/usr/sbin/mariadbd").exists() || !Path::new("/usr/bin/mariadb").exists() {
        return eprintln!("SKIPPED {NAME}: mariadb-server is not installed");
    }
    on_stage(NAME, |stage| {
        let image = stage.image("data.xfs");
        stage.mount(&image, "/mnt/data", "");
        let data = stage.path("/mnt/data/mariadb");
        let install = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"];
        let datadir = format!("--datadir={}", data.display());
        run("mariadb-install-db", &[&install[..], &[&datadir, "--innodb-log-file-size=4M"]].concat());
        let server = Server::start(&data, &stage.outside("socket"));
        // Money that is moved in transactions, and a list that grows.
        server
            .sql(
                "CREATE DATABASE d; CREATE TABLE d.list (n INT AUTO_INCREMENT PRIMARY KEY, text CHAR(200));
                 CREATE TABLE d.accounts (name CHAR(1) PRIMARY KEY, money INT); INSERT INTO d.accounts VALUES ('a', 0), ('b', 0)",
            )
            .unwrap();
        let (root, marker) = (stage.root(), marker(stage));
        let mut settings = settings(None, &marker);
        settings.hooks.dir = Some(install_hook(stage, &server.client));
        let system = System::new(root, settings, marker);
        let freeze = Freeze::default();

        let mut words = server.client.split(' ');
        let mut writer = Command::new(words.next().unwrap()).args(words).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = writer.stdin.take().unwrap();
        let feed = thread::spawn(move || {
            let work = "BEGIN; UPDATE d.accounts SET money = money - 1 WHERE name = 'a'; \
                UPDATE d.accounts SET money = money + 1 WHERE name = 'b'; COMMIT; INSERT INTO d.list (text) VALUES ('x');\n";
            while input.write_all(work.as_bytes()).is_ok() {}
        });
        let list = "SELECT COUNT(*) FROM d.list";
        let mut committed = 0;
        for _ in 0..3 {
            let since = Instant::now();
            while server.number(list) < committed + 20 {
                assert!(since.elapsed() < START, "the writer does not go on");
            }
            assert_eq!(freeze.freeze(&system, None), Ok(1));
            committed = server.number(list);
            run("cp", &["--sparse=always", image.to_str().unwrap(), stage.outside("snapshot.xfs").to_str().unwrap()]);
            let still = server.number(list);
            assert_eq!(freeze.thaw(&system), Ok(1));
            assert_eq!(still, committed, "committed while frozen");
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        feed.join().unwrap();
        assert!(!stage.outside("lock").exists());
        server.sql("INSERT INTO d.list (text) VALUES ('last'); DROP TABLE d.list").expect("no lock is left");
        drop(server);

        stage.mount(&stage.outside("snapshot.xfs"), "/mnt/copy", "nouuid");
        let copy = Server::start(&stage.path("/mnt/copy/mariadb"), &stage.outside("other"));
        assert_eq!(copy.number(list), committed);
        assert_eq!(copy.number("SELECT MAX(n) FROM d.list"), committed);
        assert_eq!(copy.number("SELECT SUM(money) FROM d.accounts"), 0, "a transaction is there whole or not at all");
        assert!(copy.number("SELECT money FROM d.accounts WHERE name = 'b'").abs_diff(committed) <= 1);
        let check = copy.sql("CHECK TABLE d.list, d.accounts EXTENDED").unwrap();
        assert_eq!(check.matches("\tOK").count(), 2, "{check}");
        drop(copy);
    });
}
