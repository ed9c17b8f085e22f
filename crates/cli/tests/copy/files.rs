//! Single files.

use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use crate::agents::{assert_same, each, mode, mtime, noise, stderr, with_each_agent};

#[test]
fn files_of_every_size_arrive_whole_both_ways() {
    with_each_agent(|pair| {
        for size in [0, 1, 4095, 4096, 1 << 20, (1 << 20) + 1, 10_000_000] {
            fs::write(pair.host.join("file"), noise(size)).unwrap();
            let report = pair.copy(&["H/file", "G/there"]);
            assert_eq!((&report["files"], &report["bytes"]), (&1.into(), &size.into()));
            assert_eq!(report["verified"], 1, "{report}");
            assert_same(&pair.host.join("file"), &pair.guest.join("there"));
            let report = pair.copy(&["G/there", "H/back"]);
            assert_eq!(report["bytes"], size);
            assert_eq!(report["verified"], u8::from(size > 0), "{report}");
            assert_same(&pair.host.join("file"), &pair.host.join("back"));
            pair.assert_tidy();
        }
    });
}

#[test]
fn names_with_any_character_are_copied_both_ways() {
    with_each_agent(|pair| {
        for name in [" two  words ", "line\nend", "it's \"$HOME\" `id` \\n", "-n", "*?[a]", "é 🦀", "a:b", "\n"] {
            fs::write(pair.host.join(name), name).unwrap();
            pair.copy(&[&format!("H/{name}"), &format!("G/{name}")]);
            assert_eq!(fs::read_to_string(pair.guest.join(name)).unwrap(), name);
            pair.copy(&[&format!("G/{name}"), "H/back"]);
            assert_eq!(fs::read_to_string(pair.host.join("back")).unwrap(), name);
            // Into the directory, under its own name.
            fs::remove_file(pair.guest.join(name)).unwrap();
            pair.copy(&[&format!("H/{name}"), "G/"]);
            assert_eq!(fs::read_to_string(pair.guest.join(name)).unwrap(), name);
        }
        pair.assert_tidy();
    });
}

#[test]
fn mode_owner_and_time_are_kept() {
    with_each_agent(|pair| {
        let (ours, theirs, back) = (pair.host.join("file"), pair.guest.join("file"), pair.host.join("back"));
        fs::write(&ours, "x").unwrap();
        if is_root() {
            chown(&ours, Some(1234), Some(2345)).unwrap();
        }
        fs::set_permissions(&ours, Permissions::from_mode(0o4751)).unwrap();
        let time = UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
        File::options().write(true).open(&ours).unwrap().set_modified(time).unwrap();
        let owner = |path| fs::metadata(path).map(|found| (found.uid(), found.gid())).unwrap();

        pair.copy(&["H/file", "G/file"]);
        assert_eq!((mode(&theirs), mtime(&theirs), owner(&theirs)), (0o751, mtime(&ours), owner(&ours)));
        pair.copy(&["G/file", "H/back"]);
        assert_eq!((mode(&back), mtime(&back), owner(&back)), (0o751, mtime(&ours), owner(&ours)));

        // A file that is replaced keeps its owner, and nothing gets special permissions, unless that is asked for.
        if is_root() {
            chown(&theirs, Some(77), Some(78)).unwrap();
            chown(&back, Some(77), Some(78)).unwrap();
            pair.copy(&["H/file", "G/file"]);
            pair.copy(&["G/file", "H/back"]);
            assert_eq!((owner(&theirs), owner(&back)), ((77, 78), (77, 78)));
        }
        pair.copy(&["-p", "H/file", "G/file"]);
        assert_eq!((mode(&theirs), mtime(&theirs), owner(&theirs)), (0o4751, mtime(&ours), owner(&ours)));
        pair.copy(&["-p", "G/file", "H/back"]);
        assert_eq!((mode(&back), mtime(&back), owner(&back)), (0o4751, mtime(&ours), owner(&ours)));
    });
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn holes_are_not_sent_and_stay_holes() {
    with_each_agent(|pair| {
        let (ours, theirs, back) = (pair.host.join("file"), pair.guest.join("file"), pair.host.join("back"));
        for tail in [0, 3_000_000] {
            let mut file = File::create(&ours).unwrap();
            file.write_all(&noise(100_000)).unwrap();
            file.seek(SeekFrom::Start(40 << 20)).unwrap();
            file.write_all(&noise(200_000)).unwrap();
            file.set_len((40 << 20) + 200_000 + tail).unwrap();
            drop(file);
            let report = pair.copy(&["H/file", "G/file"]);
            assert!(report["sent"].as_u64().unwrap() < 1_000_000, "{report}");
            assert_eq!(report["verified"], 1);
            assert_same(&ours, &theirs);
            let taken = |path| fs::metadata(path).unwrap().blocks() * 512;
            assert!(taken(&theirs) < 2_000_000, "{} bytes taken in the guest", taken(&theirs));
            pair.copy(&["G/file", "H/back"]);
            assert_same(&ours, &back);
            assert!(taken(&back) < 2_000_000, "{} bytes taken on the host", taken(&back));
        }
        // Nothing but a hole.
        File::create(&ours).unwrap().set_len(10 << 20).unwrap();
        pair.copy(&["H/file", "G/file"]);
        pair.copy(&["G/file", "H/back"]);
        assert_same(&ours, &theirs);
        assert_same(&ours, &back);
    });
}

#[test]
fn a_reader_of_the_destination_sees_the_old_file_or_the_new_one() {
    with_each_agent(|pair| {
        let (old, new) = (vec![b'o'; 3 << 20], vec![b'n'; 8 << 20]);
        for (from, to) in [("H/new", "G/file"), ("G/new", "H/file")] {
            let directory = |side: &str| if side.starts_with('H') { &pair.host } else { &pair.guest };
            fs::write(directory(from).join("new"), &new).unwrap();
            let target = directory(to).join("file");
            fs::write(&target, &old).unwrap();
            let done = AtomicBool::new(false);
            let seen = thread::scope(|scope| {
                let reader = scope.spawn(|| {
                    let mut seen = (0, 0);
                    loop {
                        let is_last = done.load(Ordering::SeqCst);
                        let bytes = fs::read(&target).unwrap();
                        if bytes == old {
                            seen.0 += 1;
                        } else {
                            assert!(bytes == new, "a mixture of {} bytes", bytes.len());
                            seen.1 += 1;
                        }
                        if is_last {
                            return seen;
                        }
                    }
                });
                pair.copy(&[from, to]);
                done.store(true, Ordering::SeqCst);
                reader.join().unwrap()
            });
            assert!(seen.0 > 0 && seen.1 > 0, "old and new were seen {seen:?} times");
        }
    });
}

#[test]
fn standard_input_and_output_are_a_dash() {
    with_each_agent(|pair| {
        let bytes = noise(3_000_000);
        let mut child = pair.command(&["-", "G/file"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(fs::read(pair.guest.join("file")).unwrap() == bytes);
        let output = pair.run(&["G/file", "-"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(output.stdout == bytes);
        // What has no length has an end all the same.
        let output = pair.run(&[":/proc/self/status", "-"]);
        assert!(output.stdout.starts_with(b"Name:\t"), "{}", stderr(&output));
        pair.assert_tidy();
    });
}

#[test]
fn links_are_followed_at_both_ends() {
    with_each_agent(|pair| {
        for directory in [&pair.host, &pair.guest] {
            fs::create_dir(directory.join("real")).unwrap();
            fs::write(directory.join("real/file"), directory.to_str().unwrap()).unwrap();
            symlink("real/file", directory.join("link")).unwrap();
        }
        pair.copy(&["H/link", "G/link"]);
        assert_eq!(fs::read_link(pair.guest.join("link")).unwrap().to_str(), Some("real/file"));
        assert_same(&pair.host.join("real/file"), &pair.guest.join("real/file"));
        fs::write(pair.guest.join("real/file"), "new").unwrap();
        pair.copy(&["G/link", "H/link"]);
        assert_eq!(fs::read_link(pair.host.join("link")).unwrap().to_str(), Some("real/file"));
        assert_eq!(fs::read(pair.host.join("real/file")).unwrap(), b"new");
    });
}

#[test]
fn failures_name_the_side_and_the_path() {
    with_each_agent(|pair| {
        fs::write(pair.host.join("file"), noise(100_000)).unwrap();
        fs::create_dir(pair.host.join("dir")).unwrap();
        fs::create_dir(pair.guest.join("dir")).unwrap();
        fs::create_dir(pair.guest.join("dir/file")).unwrap();
        symlink("/nowhere/x", pair.guest.join("broken")).unwrap();
        let (host, guest) = (pair.host.display(), pair.guest.display());
        for (args, complaint) in [
            (&["H/none", "G/file"][..], format!("host: {host}/none: No such file or directory")),
            (&["H/file", "G/none/file"], format!("{guest}/none: no such directory")),
            (&["H/file", "G/none/"], format!("{guest}/none: no such directory")),
            (&["H/file", "G/dir"], format!("guest: {guest}/dir/file: is a directory")),
            (&["H/file", "G/broken"], format!("guest: {guest}/broken: the link leads nowhere")),
            (&["H/file", ":/proc/x"], "guest: /proc".into()),
            (&["H/file", ":/dev/full"], "No space left on device".into()),
            (&["H/dir", "G/x"], format!("host: {host}/dir: is a directory; -r copies it")),
            (&["G/none", "H/file"], format!("{guest}/none: No such file or directory")),
            (&["G/dir", "H/x"], format!("guest: {guest}/dir: is a directory; -r copies it")),
            (&["G/broken", "H/x"], format!("guest: {guest}/broken: the link leads nowhere")),
            (&[":/proc/version", "H/none/x"], format!("host: {host}/none/.x.qga-part: No such file or directory")),
            (&[":/proc/version", ":/proc/version", "H/none"], format!("host: {host}/none: no such directory")),
        ] {
            let said = pair.refuse(args);
            assert!(said.contains(&complaint), "{args:?}: {said}");
            assert!(!said.contains("os error"), "{said}");
        }
        let size = fs::metadata(pair.host.join("file")).unwrap().len();
        assert_eq!(size, 100_000, "the file is still the old one");
    });
}

#[test]
fn without_guest_exec_single_files_are_written_in_place_and_it_says_so() {
    each(&["--block-rpcs=guest-exec"], |pair| {
        let (ours, theirs, back) = (pair.host.join("file"), pair.guest.join("file"), pair.host.join("back"));
        fs::write(&ours, noise(3_000_000)).unwrap();
        let output = pair.run(&["H/file", "G/file"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains("written in place") && said.contains("could not be verified"), "{said}");
        assert!(said.contains("guest-exec is switched off"), "{said}");
        assert_same(&ours, &theirs);
        let report = pair.copy(&["G/file", "H/back"]);
        assert_eq!((&report["verified"], &report["bytes"]), (&0.into(), &3_000_000.into()));
        assert_same(&ours, &back);
        pair.copy(&["H/file", "G/"]);
        assert!(pair.refuse(&["-r", "G/", "H/tree"]).contains("guest-exec is switched off"));
        pair.assert_tidy();
    });
}

#[test]
fn many_targets_give_a_directory_each() {
    with_each_agent(|pair| {
        fs::write(pair.guest.join("file"), "text").unwrap();
        let socket = pair.socket();
        let other = format!("unix:{}", socket.display());
        let output = pair.command_on(&[socket.to_str().unwrap(), &other], &["-j1", "G/file", "H/"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let names =
            [socket.to_str().unwrap().trim_start_matches('/').to_owned(), other].map(|name| name.replace('/', "_"));
        for name in names {
            let mut text = String::new();
            File::open(pair.host.join(name).join("file")).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "text");
        }
        let output = pair.command_on(&["/x", "/y"], &["G/file", "-"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
    });
}
