use std::fs;

use super::*;

const COMMANDS: [&str; 3] = ["guest-sync", "guest-ping", "guest-info"];

/// Parses a line of words (separated by blanks), with a configuration file of this text named by `QGA_CONF`.
fn with_file(line: &str, file: &str) -> CommandLine {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("conf");
    fs::write(&conf, file).unwrap();
    with(line, Some(conf.as_os_str()), None)
}

fn with(line: &str, qga_conf: Option<&OsStr>, activated: Option<ListenFamily>) -> CommandLine {
    let args: Vec<OsString> = std::iter::once("qemu-ga").chain(line.split(' ')).map(OsString::from).collect();
    let args = if line.is_empty() { &args[..1] } else { &args };
    parse(&Inputs { args, qga_conf, activated, commands: &COMMANDS })
}

fn line(line: &str) -> CommandLine {
    with(line, Some(OsStr::new("")), None)
}

#[track_caller]
fn run(cl: CommandLine) -> Config {
    match cl.action {
        Action::Run(config) => *config,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn printed(cl: CommandLine) -> String {
    match cl.action {
        Action::Print(text) => text,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn failed(cl: CommandLine) -> String {
    match cl.action {
        Action::Fail(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_options_the_agent_listens_on_the_virtio_port() {
    let config = run(line(""));
    let expected = Config { path: Some(config::DEFAULT_VIRTIO_PATH.into()), ..Config::default() };
    assert_eq!(config, expected);
}

#[test]
fn a_reply_limit_is_a_number_of_bytes() {
    assert_eq!(run(line("--reply-limit 4096")).reply_limit, Some(4096));
    assert_eq!(run(line("--reply-limit=0")).reply_limit, Some(0));
    assert!(failed(line("--reply-limit 8M")).starts_with("'8M' is no number of bytes for --reply-limit"));
}

#[test]
fn freezing_has_options_that_are_called_like_the_keys_and_win() {
    let cl = with_file(
        "--fsfreeze-timeout 5 --fsfreeze-mode=strict",
        "[general]\nfsfreeze-timeout=9\nfsfreeze-mode=best-effort\n",
    );
    assert_eq!(run(cl).fsfreeze, config::Fsfreeze { timeout: 5, ..Default::default() });
    let text = failed(line("--fsfreeze-timeout 5m"));
    assert!(text.starts_with("'5m' is not a number of seconds, as --fsfreeze-timeout needs"), "{text}");
    let text = failed(line("--fsfreeze-mode=lax"));
    assert!(text.starts_with("'lax' is not 'strict' or 'best-effort', as --fsfreeze-mode needs"), "{text}");
}

#[test]
fn short_long_attached_and_shortened_forms_all_work() {
    let expected = Config {
        daemonize: true,
        method: "unix-listen".into(),
        path: Some("/p".into()),
        logfile: Some("/l".into()),
        pidfile: "/f".into(),
        fsfreeze_hook: Some("/h".into()),
        statedir: "/t".into(),
        verbose: true,
        retry_path: true,
        block_rpcs: vec!["guest-ping".into()],
        allow_rpcs: vec!["guest-info".into()],
        reply_limit: None,
        fsfreeze: Default::default(),
    };
    for words in [
        "-d -m unix-listen -p /p -l /l -f /f -F/h -t /t -v -r -b guest-ping -a guest-info -s install",
        "-dvr -munix-listen -p/p -l/l -f/f -F/h -t/t -bguest-ping -aguest-info -sinstall",
        "-dvrF/h -m unix-listen -p /p -l /l -f /f -t /t -b guest-ping -a guest-info",
        "--daemonize --method unix-listen --path /p --logfile /l --pidfile /f --fsfreeze-hook=/h --statedir /t \
         --verbose --retry-path --block-rpcs guest-ping --allow-rpcs guest-info",
        "--daemon --meth=unix-listen --path=/p --log=/l --pid=/f --fs=/h --state=/t --verb --ret --bl=guest-ping \
         --al=guest-info",
    ] {
        let cl = line(&words.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(cl.warnings, [""; 0]);
        assert_eq!(run(cl), expected, "{words}");
    }
}

#[test]
fn the_hooks_path_has_to_be_attached() {
    let hook = |words| run(line(words)).fsfreeze_hook.unwrap();
    assert_eq!(hook("-F"), Path::new(config::DEFAULT_HOOK));
    assert_eq!(hook("--fsfreeze-hook"), Path::new(config::DEFAULT_HOOK));
    assert_eq!(hook("-F -v"), Path::new(config::DEFAULT_HOOK));
    assert_eq!(hook("-F/x"), Path::new("/x"));
    assert_eq!(hook("-vF/x"), Path::new("/x"));
    let cl = line("-F /x");
    assert_eq!(cl.warnings, ["argument '/x' is ignored; a path for --fsfreeze-hook has to be attached, as in -F/path"]);
    assert_eq!(run(cl).fsfreeze_hook.unwrap(), Path::new(config::DEFAULT_HOOK));
}

#[test]
fn operands_are_ignored_but_not_without_a_word() {
    let cl = line("x -v -- -d");
    assert_eq!(cl.warnings, ["argument 'x' is ignored", "argument '-d' is ignored"]);
    let config = run(cl);
    assert!(config.verbose && !config.daemonize);
}

#[test]
fn a_bad_line_is_refused_in_one_line_that_names_what_is_bad() {
    let table = [
        ("-Z", "invalid option '-Z'; try 'qemu-ga --help'"),
        ("-vZ", "invalid option '-Z'; try 'qemu-ga --help'"),
        ("--bogus", "unrecognized option '--bogus'; try 'qemu-ga --help'"),
        ("--bogus=1", "unrecognized option '--bogus'; try 'qemu-ga --help'"),
        ("-m", "option '-m' requires an argument; try 'qemu-ga --help'"),
        ("--path", "option '--path' requires an argument; try 'qemu-ga --help'"),
        ("-s", "option '-s' requires an argument; try 'qemu-ga --help'"),
        ("--verbose=1", "option '--verbose' doesn't allow an argument; try 'qemu-ga --help'"),
        ("--help=", "option '--help' doesn't allow an argument; try 'qemu-ga --help'"),
        ("--v", "option '--v' is ambiguous; possibilities: '--verbose' '--version'; try 'qemu-ga --help'"),
        (
            "-m bogus",
            "unsupported channel method/type: bogus (known are virtio-serial, isa-serial, unix-listen, vsock-listen)",
        ),
        ("-m unix-listen", "must specify a path for this channel"),
        ("-m vsock-listen", "must specify a path for this channel"),
        ("-D -m bogus", "must specify a path for this channel"),
        (
            "-c /nonexistent/conf -V",
            "error loading configuration from path: /nonexistent/conf, No such file or directory",
        ),
    ];
    for (words, expected) in table {
        assert_eq!(failed(line(words)), expected, "{words}");
    }
}

#[test]
fn what_prints_acts_in_the_order_in_which_it_is_met() {
    assert!(printed(line("-h -V")).starts_with("Usage: qemu-ga "));
    assert!(printed(line("-V -h")).starts_with("QEMU Guest Agent 11.1.3\n"));
    assert!(printed(line("-V --bogus")).starts_with("QEMU Guest Agent"));
    assert_eq!(failed(line("--bogus -V")), "unrecognized option '--bogus'; try 'qemu-ga --help'");
    assert_eq!(printed(line("-b help --bogus")), "guest-sync\nguest-ping\nguest-info\n");
    assert_eq!(printed(line("-a ?")), "guest-sync\nguest-ping\nguest-info\n");
    assert!(printed(line("-D -V")).starts_with("QEMU Guest Agent"));
    assert!(printed(line("-m bogus -h")).starts_with("Usage:"));
}

#[test]
fn the_version_is_the_one_we_stand_in_for_and_then_our_own() {
    assert_eq!(
        printed(line("--version")),
        concat!("QEMU Guest Agent 11.1.3\nqemu-ga (Rust) ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn the_line_comes_after_the_file_and_the_last_word_counts() {
    let file = "[general]\nmethod=isa-serial\npath=/file\nstatedir=/file\nverbose=true\nblock-rpcs=guest-ping\n";
    let config = run(with_file("-p /one -p /two -b guest-info,guest-sync -b guest-ping", file));
    assert_eq!(config.method, "isa-serial");
    assert_eq!(config.path, Some("/two".into()));
    assert_eq!(config.statedir, Path::new("/file"));
    assert!(config.verbose);
    assert_eq!(config.block_rpcs, ["guest-ping", "guest-info", "guest-sync", "guest-ping"]);
}

#[test]
fn the_last_file_of_the_line_comes_before_the_environments() {
    let dir = tempfile::tempdir().unwrap();
    let conf = |name: &str, state: &str| {
        let path = dir.path().join(name);
        fs::write(&path, format!("[general]\nstatedir={state}\n")).unwrap();
        path
    };
    let (a, b, c) = (conf("a", "/a"), conf("b", "/b"), conf("c", "/c"));
    let words = format!("-c {} -v --conf={}", a.display(), b.display());
    assert_eq!(run(with(&words, Some(c.as_os_str()), None)).statedir, Path::new("/b"));
    assert_eq!(run(with("-v", Some(c.as_os_str()), None)).statedir, Path::new("/c"));
    // Named by the environment and not there: ignored.
    assert_eq!(run(with("-v", Some(OsStr::new("/nonexistent/conf")), None)).statedir, Path::new("/var/run"));
}

#[test]
fn any_file_that_is_there_and_cannot_be_loaded_is_fatal() {
    let message = failed(with_file("-V", "[general]\nverbose=yes\n"));
    let (path, reason) = message.split_once(", ").unwrap();
    assert!(path.starts_with("error loading configuration from path: /"), "{path}");
    assert_eq!(reason, "Key file contains key “verbose” which has a value that cannot be interpreted.");
    let dir = tempfile::tempdir().unwrap();
    let expected = format!("error loading configuration from path: {}, Not a regular file", dir.path().display());
    assert_eq!(failed(with("", Some(dir.path().as_os_str()), None)), expected);
    assert_eq!(failed(line(&format!("-c {}", dir.path().display()))), expected);
}

#[test]
fn an_empty_method_in_the_file_is_refused() {
    assert!(failed(with_file("", "[general]\nmethod=\n")).starts_with("unsupported channel method/type:  ("));
    assert_eq!(failed(with_file("-D", "[general]\nmethod=\n")), "must specify a path for this channel");
    assert!(failed(with_file("", "[general]\nmethod = isa-serial \n")).contains("type: isa-serial  ("));
}

#[test]
fn help_is_a_name_like_any_other_inside_a_list_or_a_file() {
    assert_eq!(run(line("-b guest-ping,help")).block_rpcs, ["guest-ping", "help"]);
    assert_eq!(run(with_file("", "[general]\nblock-rpcs=help\n")).block_rpcs, ["help"]);
}

#[test]
fn a_name_that_is_no_command_is_warned_of_wherever_it_stands() {
    let cl = with_file("-a guest-pong", "[general]\nblock-rpcs=guest-ping;guest-info\n");
    assert_eq!(
        cl.warnings,
        [
            "unknown command 'guest-ping;guest-info' in the block list (names are separated by ',')",
            "unknown command 'guest-pong' in the allow list",
        ]
    );
    assert_eq!(run(cl).allow_rpcs, ["guest-pong"]);
}

#[test]
fn an_empty_allow_list_allows_everything_and_one_of_blanks_nothing() {
    assert_eq!(run(line("--allow-rpcs=")).allow_rpcs, [""; 0]);
    assert_eq!(run(line("--allow-rpcs=,")).allow_rpcs, ["", ""]);
}

#[test]
fn a_dump_is_what_the_line_and_the_file_amount_to() {
    let dump = printed(with_file("-D -b c,d -r", "[general]\nblock-rpcs=a,b\nmethod=isa-serial\n"));
    assert_eq!(
        dump,
        "[general]\ndaemon=false\nmethod=isa-serial\npath=/dev/ttyS0\npidfile=/var/run/qemu-ga.pid\n\
         statedir=/var/run\nverbose=false\nretry-path=true\nblock-rpcs=a,b,c,d\nallow-rpcs=\n"
    );
    // The method is not looked at, as long as there is a path.
    assert!(printed(line("-D -m bogus -p x")).contains("method=bogus\npath=x\n"));
    assert_eq!(printed(with_file("-D", &dump)), dump);
}

#[test]
fn a_socket_handed_over_decides_method_and_path() {
    let empty = Some(OsStr::new(""));
    let config = run(with("-m isa-serial -p /x", empty, Some(ListenFamily::Unix)));
    assert_eq!((config.method.as_str(), config.path), ("unix-listen", None));
    let dump = printed(with("-D", empty, Some(ListenFamily::Vsock)));
    assert!(dump.starts_with("[general]\ndaemon=false\nmethod=vsock-listen\npidfile="), "{dump}");
}

#[test]
fn in_the_background_relative_paths_keep_their_meaning() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(run(line("-d -t state")).statedir, here.join("state"));
    assert_eq!(run(line("-t state")).statedir, Path::new("state"));
}

#[test]
fn arguments_that_are_not_text_are_kept_or_named() {
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(b"/tmp/\xff".to_vec());
    let args = |second: &str, third: OsString| ["qemu-ga".into(), OsString::from(second), third];
    let parse = |args: &[OsString]| {
        parse(&Inputs { args, qga_conf: Some(OsStr::new("")), activated: None, commands: &COMMANDS })
    };
    assert_eq!(run(parse(&args("-p", odd.clone()))).path, Some(odd.clone().into()));
    assert!(failed(parse(&args("-m", odd.clone()))).contains("type: /tmp/\u{fffd}"));
    assert_eq!(parse(&args("-v", odd)).warnings, ["argument '/tmp/\u{fffd}' is ignored"]);
    let option = OsString::from_vec(b"--\xff".to_vec());
    assert!(failed(parse(&args("-v", option))).contains("--\u{fffd}"));
}

#[test]
fn what_is_settled_goes_to_the_right_place_with_the_right_status() {
    let settle = |cl: CommandLine| {
        let (mut out, mut told) = (Vec::new(), Vec::new());
        let status = cl.settle(&mut out, |message| told.push(message.to_owned())).map(|(_, warnings)| warnings);
        (status, String::from_utf8(out).unwrap(), told.join("; "))
    };
    let (status, out, err) = settle(line("-V"));
    assert_eq!((status, err.as_str()), (Err(0), ""));
    assert!(out.starts_with("QEMU Guest Agent"));
    let (status, out, err) = settle(line("-Z"));
    assert_eq!((status, out.as_str(), err.as_str()), (Err(1), "", "invalid option '-Z'; try 'qemu-ga --help'"));
    let (status, out, err) = settle(line("-D -b x"));
    assert_eq!((status, err.as_str()), (Err(0), "warning: unknown command 'x' in the block list"));
    assert!(out.starts_with("[general]\n"));
    let (status, out, err) = settle(line("-b x"));
    assert_eq!(status, Ok(vec!["unknown command 'x' in the block list".to_owned()]));
    assert_eq!((out.as_str(), err.as_str()), ("", ""));
}

#[test]
fn a_dump_that_cannot_be_written_is_a_failure() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(line("-D").settle(full, |_| {}), Err(1));
}
