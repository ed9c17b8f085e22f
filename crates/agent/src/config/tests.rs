use std::fs;

use super::*;

fn load(text: &str) -> (Result<bool, String>, Config, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("conf");
    fs::write(&path, text).unwrap();
    let (mut config, mut warnings) = (Config::default(), Vec::new());
    let result = config.load(&path, &mut warnings);
    let prefix = format!("{}: ", path.display());
    let warnings = warnings.iter().map(|w| w.strip_prefix(&prefix).unwrap().to_owned()).collect();
    (result, config, warnings)
}

#[test]
fn every_key_is_taken_over() {
    let (result, config, warnings) = load(
        "[general]\ndaemon=1\nmethod=unix-listen\npath=/p\nlogfile=/l\npidfile=/pid\nfsfreeze-hook=/h\nstatedir=/s\n\
         verbose=true\nretry-path=true\nblock-rpcs=guest-ping, guest-info\nallow-rpcs=guest-sync\n\
         reply-limit=1000\n",
    );
    assert_eq!(result, Ok(true));
    assert_eq!(warnings, [""; 0]);
    let expected = Config {
        daemonize: true,
        method: "unix-listen".into(),
        path: Some("/p".into()),
        logfile: Some("/l".into()),
        pidfile: "/pid".into(),
        fsfreeze_hook: Some("/h".into()),
        statedir: "/s".into(),
        verbose: true,
        retry_path: true,
        block_rpcs: vec!["guest-ping".into(), "guest-info".into()],
        allow_rpcs: vec!["guest-sync".into()],
        reply_limit: Some(1000),
        fsfreeze: Default::default(),
    };
    assert_eq!(config, expected);
}

#[test]
fn what_a_file_says_in_vain_is_said_in_the_log() {
    let (result, config, warnings) =
        load("[general]\ndaemonize=true\nblacklist=guest-exec\nfoo=1\nmethod[de]=x\n[genral]\nverbose=1\n");
    assert_eq!(result, Ok(true));
    assert_eq!(config, Config::default());
    assert_eq!(
        warnings,
        [
            "group 'genral' has no meaning here and is ignored",
            "unknown key 'daemonize' is ignored; the key is 'daemon'",
            "unknown key 'blacklist' is ignored; the key is 'block-rpcs'",
            "unknown key 'foo' is ignored",
            "unknown key 'method[de]' is ignored",
        ]
    );
}

#[test]
fn a_file_that_cannot_be_loaded_says_why() {
    let mut config = Config::default();
    let mut load = |path: &Path| config.load(path, &mut Vec::new());
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(load(&dir.path().join("none")), Ok(false));
    assert_eq!(load(Path::new("")), Ok(false));
    assert_eq!(load(dir.path()), Err("Not a regular file".into()));
    assert_eq!(load(Path::new("/dev/null/x")), Err("Not a directory".into()));
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert_eq!(load(&fifo), Err("Not a regular file".into()));
    let big = dir.path().join("big");
    fs::write(&big, vec![b'\n'; MAX_FILE as usize + 1]).unwrap();
    assert_eq!(load(&big), Err("File too large".into()));
}

#[test]
fn a_dump_has_the_c_agents_keys_in_its_order() {
    let mut config = Config::default();
    config.default_path().unwrap();
    assert_eq!(
        config.dump(),
        "[general]\ndaemon=false\nmethod=virtio-serial\npath=/dev/virtio-ports/org.qemu.guest_agent.0\n\
         pidfile=/var/run/qemu-ga.pid\nstatedir=/var/run\nverbose=false\nretry-path=false\nblock-rpcs=\nallow-rpcs=\n"
    );
    config.path = Some("  \ta b\\".into());
    config.logfile = Some("x\ny ".into());
    config.fsfreeze_hook = Some(DEFAULT_HOOK.into());
    config.block_rpcs = ["a", "b", "c"].map(String::from).to_vec();
    let dump = config.dump();
    let rest = dump.strip_prefix("[general]\ndaemon=false\nmethod=virtio-serial\n").unwrap();
    assert_eq!(
        rest,
        "path=\\s\\s\\ta b\\\\\nlogfile=x\\ny \npidfile=/var/run/qemu-ga.pid\n\
         fsfreeze-hook=/etc/qemu/fsfreeze-hook\nstatedir=/var/run\nverbose=false\nretry-path=false\n\
         block-rpcs=a,b,c\nallow-rpcs=\n"
    );
    let (result, read_back, warnings) = load(&dump);
    assert_eq!((result, warnings.len()), (Ok(true), 0));
    assert_eq!(read_back, config);
}

#[test]
fn what_allows_nothing_allows_nothing_when_it_was_dumped_and_read_again() {
    let (_, config, _) = load("[general]\nallow-rpcs=\\s\n");
    assert_eq!(config.allow_rpcs, [""]);
    let dump = config.dump();
    assert!(dump.ends_with("block-rpcs=\nallow-rpcs=\\s\n"), "{dump}");
    assert_eq!(load(&dump).1, config);
}

#[test]
fn only_the_devices_have_a_path_by_default() {
    let path = |method: &str| {
        let mut config = Config { method: method.into(), ..Config::default() };
        config.default_path().map(|()| config.path.unwrap().to_string_lossy().into_owned())
    };
    assert_eq!(path("virtio-serial").unwrap(), "/dev/virtio-ports/org.qemu.guest_agent.0");
    assert_eq!(path("isa-serial").unwrap(), "/dev/ttyS0");
    for method in ["unix-listen", "vsock-listen", "", "bogus"] {
        assert_eq!(path(method).unwrap_err(), "must specify a path for this channel");
    }
}

#[test]
fn a_daemon_does_not_depend_on_where_it_was_started() {
    let relative = |method: &str| Config {
        method: method.into(),
        path: Some("1:2".into()),
        logfile: Some("log".into()),
        pidfile: "pid".into(),
        fsfreeze_hook: Some("hook".into()),
        statedir: "state".into(),
        ..Config::default()
    };
    let here = std::env::current_dir().unwrap();
    let mut config = relative("unix-listen");
    config.make_absolute().unwrap();
    assert_eq!(config.path, Some(here.join("1:2")));
    assert_eq!(config.logfile, Some(here.join("log")));
    assert_eq!(config.pidfile, here.join("pid"));
    assert_eq!(config.fsfreeze_hook, Some(here.join("hook")));
    assert_eq!(config.statedir, here.join("state"));
    let mut config = relative("vsock-listen");
    config.make_absolute().unwrap();
    assert_eq!(config.path, Some("1:2".into()));
}

#[test]
fn a_reply_limit_is_a_number_of_bytes_and_is_dumped_only_where_it_was_set() {
    for text in ["-1", "8M", ""] {
        assert!(load(&format!("[general]\nreply-limit={text}\n")).0.is_err(), "{text}");
    }
    let (_, config, _) = load("[general]\nreply-limit=0\n");
    assert!(config.dump().ends_with("allow-rpcs=\nreply-limit=0\n"));
    assert!(Config::default().dump().ends_with("allow-rpcs=\n"));
}

#[test]
fn freezing_is_set_by_keys_and_only_what_was_set_is_dumped() {
    let text = "fsfreeze-timeout=0\nfsfreeze-limit=5\nfsfreeze-hook-limit=7\nfsfreeze-hooks-limit=8\n\
                fsfreeze-hook-dir=/etc/qemu/fsfreeze-hook.d\nfsfreeze-mode=best-effort\n\
                fsfreeze-exclude-types=nfs,vfat\nfsfreeze-exclude-paths=/scratch/*\n";
    let (result, config, warnings) = load(&format!("[general]\n{text}"));
    assert_eq!((result, warnings), (Ok(true), vec![]));
    let expected = Fsfreeze {
        timeout: 0,
        limit: 5,
        hook_limit: 7,
        hooks_limit: 8,
        hook_dir: Some("/etc/qemu/fsfreeze-hook.d".into()),
        best_effort: true,
        exclude_types: vec!["nfs".into(), "vfat".into()],
        exclude_paths: vec!["/scratch/*".into()],
    };
    assert_eq!(config.fsfreeze, expected);
    assert!(config.dump().ends_with(&format!("allow-rpcs=\n{text}")), "{}", config.dump());
    for wrong in ["fsfreeze-timeout=-1", "fsfreeze-limit=1m", "fsfreeze-mode=lax", "fsfreeze-hook-limit="] {
        let error = load(&format!("[general]\n{wrong}\n")).0.unwrap_err();
        assert!(error.contains(wrong.split('=').next().unwrap()), "{error}");
    }
    assert_eq!(load("[general]\nfsfreeze-mode=strict\n").1, Config::default());
}
