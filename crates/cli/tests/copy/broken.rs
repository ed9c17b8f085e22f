//! Copies that are broken off, and what is wrong with what they left.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use qga_testkit::wait;

use crate::agents::{Pair, assert_same, noise, with_each_agent};

/// Large enough that half of it can be seen, even with a fast agent; in a release build everything is faster.
const SIZE: usize = if cfg!(debug_assertions) { 24 << 20 } else { 400 << 20 };

/// The two directions: source, destination, and the partial file of the destination.
fn ways(pair: &Pair) -> [(&'static str, &'static str, PathBuf); 2] {
    [("H/file", "G/copy", pair.guest.join(".copy.qga-part")), ("G/copy", "H/back", pair.host.join(".back.qga-part"))]
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

/// Starts a copy and sends it a signal about half-way; the exit code and what it said. A copy that was done before the
/// signal came, as happens where the test has to wait for its turn, is made once more.
fn break_off(pair: &Pair, (from, to, part): &(&str, &str, PathBuf), signal: &str) -> (Option<i32>, String) {
    for _ in 0..20 {
        let mut child = pair.command(&[from, to]).stderr(Stdio::piped()).spawn().unwrap();
        let at = || (length(part) > SIZE as u64 / 3 || child.try_wait().unwrap().is_some()).then_some(());
        wait::poll(Duration::from_secs(120), at).expect("the copy gets half-way");
        let pid = child.id().to_string();
        let _ = Command::new("kill").args([signal, &pid]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        pair.revive();
        if !output.status.success() {
            return (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    panic!("the copy is always faster than the signal");
}

#[test]
fn a_killed_copy_is_resumed_and_whole() {
    with_each_agent(|pair| {
        fs::write(pair.host.join("file"), noise(SIZE)).unwrap();
        for way in &ways(pair) {
            assert_eq!(break_off(pair, way, "-KILL").0, None);
            let report = pair.copy(&[way.0, way.1]);
            let (resumed, sent) = (report["resumed"].as_u64().unwrap(), report["sent"].as_u64().unwrap());
            assert!(resumed > SIZE as u64 / 4 && resumed + sent == SIZE as u64, "{report}");
            assert_eq!(report["verified"], 1, "{report}");
        }
        assert_same(&pair.host.join("file"), &pair.guest.join("copy"));
        assert_same(&pair.host.join("file"), &pair.host.join("back"));
        pair.assert_tidy();
    });
}

#[test]
fn an_interrupted_copy_says_how_to_go_on() {
    with_each_agent(|pair| {
        fs::write(pair.host.join("file"), noise(SIZE)).unwrap();
        for way in &ways(pair) {
            let (code, said) = break_off(pair, way, "-INT");
            assert_eq!(code, Some(130), "{said}");
            assert!(said.contains("interrupted; the same command goes on from"), "{said}");
            assert!(said.contains(way.2.to_str().unwrap()), "{said}");
            let report = pair.copy(&["--no-resume", way.0, way.1]);
            assert_eq!(report["resumed"], 0);
        }
        assert_same(&pair.host.join("file"), &pair.host.join("back"));
        pair.assert_tidy();
    });
}

#[test]
fn a_partial_file_of_another_file_is_not_continued() {
    with_each_agent(|pair| {
        fs::write(pair.host.join("file"), noise(8 << 20)).unwrap();
        for (from, to, part) in &ways(pair) {
            let mut other = noise(4 << 20);
            other[3 << 20] ^= 1;
            fs::write(part, &other).unwrap();
            let report = pair.copy(&[from, to]);
            assert_eq!((&report["resumed"], &report["verified"]), (&0.into(), &1.into()));
        }
        assert_same(&pair.host.join("file"), &pair.guest.join("copy"));
        assert_same(&pair.host.join("file"), &pair.host.join("back"));
        pair.assert_tidy();
    });
}

#[test]
fn a_copy_that_is_changed_on_its_way_is_thrown_away() {
    with_each_agent(|pair| {
        fs::write(pair.host.join("file"), noise(SIZE)).unwrap();
        for (from, to, part) in ways(pair) {
            let child = pair.command(&[from, to]).stderr(Stdio::piped()).spawn().unwrap();
            let started = || (length(&part) > SIZE as u64 / 10).then(|| File::options().write(true).open(&part).ok());
            let file = wait::poll(Duration::from_secs(60), started).flatten().expect("a partial file");
            file.write_all_at(b"somebody else", 1000).unwrap();
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            // What is read from the guest is hashed before it is written here.
            if from.starts_with('H') {
                assert_eq!(output.status.code(), Some(1), "{said}");
                assert!(said.contains("the copy is not what was sent; it was thrown away"), "{said}");
                assert!(!pair.guest.join("copy").exists());
                pair.copy(&[from, to]);
            }
        }
        pair.assert_tidy();
    });
}
