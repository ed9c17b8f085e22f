//! `qga cp` over the port, both ways, killed half-way and resumed. `QGA_COPY_MIB=1024` is its long form.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use qga_testkit::wait;
use serde_json::{Value, json};
use vm_tests::{Machine, process, qga};

use crate::Guest;
use crate::file::{hash, noise};

/// What is copied when nothing else is said, in MiB.
const SHORT: usize = 32;

/// Time for one copy.
const ENOUGH: Duration = Duration::from_secs(1800);

fn start(machine: &Machine, args: &[&str]) -> Child {
    let socket = machine.agent_socket();
    let args = [&["-t", socket.to_str().unwrap(), "--json", "cp"], args].concat();
    let mut command = qga::command(&qga::program(), &args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Copies to the end and gives the report.
#[track_caller]
fn copy(machine: &Machine, args: &[&str]) -> Value {
    let start_time = Instant::now();
    let output = start(machine, args).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", process::text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sent = report["sent"].as_f64().unwrap();
    let seconds = start_time.elapsed().as_secs_f64();
    eprintln!("{args:?}: {report}, {:.1} MB/s", sent / seconds / 1e6);
    report
}

/// Kills a copy once its partial file has this length.
#[track_caller]
fn kill_at(mut qga: Child, bytes: u64, mut length: impl FnMut() -> u64) {
    let at = || (qga.try_wait().unwrap().is_some() || length() >= bytes).then_some(());
    wait::poll(ENOUGH, at).expect("the copy gets half-way");
    qga.kill().unwrap();
    let output = qga.wait_with_output().unwrap();
    assert_eq!(output.status.code(), None, "{}", process::text(&output));
}

/// A directory of the guest with room for so much: the swap disk, made larger, for what the others do not hold.
fn room(guest: &mut Guest, mib: usize) -> &'static str {
    if mib <= SHORT {
        return "/mnt/xfs";
    }
    guest.is_spent = true;
    let machine = &mut guest.machine;
    machine.shell.run("swapoff /dev/vdb 2>/dev/null || :");
    machine.qmp.execute("block_resize", json!({ "device": "swap", "size": (mib as u64 * 3 + 256) << 20 }));
    machine.shell.run_within("mke2fs /dev/vdb >/dev/null; mkdir -p /mnt/big; mount -t ext4 /dev/vdb /mnt/big", ENOUGH);
    "/mnt/big"
}

/// Half of a copy that has been killed is not sent again.
#[track_caller]
fn assert_resumed(report: &Value, size: u64) {
    let (resumed, sent) = (report["resumed"].as_u64().unwrap(), report["sent"].as_u64().unwrap());
    assert!(resumed >= size / 4 && resumed + sent == size, "{report}");
    assert_eq!(report["verified"], 1, "{report}");
}

pub(crate) fn a_copy_killed_half_way_is_resumed_and_has_the_same_hash_at_both_ends(guest: &mut Guest) {
    let mib = env::var("QGA_COPY_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(SHORT);
    let directory = room(guest, mib);
    let machine = &mut guest.machine;
    let bytes = noise(mib << 20);
    let expected = hash(&bytes);
    let ours = machine.directory().join("ours");
    File::create(&ours).unwrap().write_all(&bytes).unwrap();
    drop(bytes);
    let size = (mib as u64) << 20;
    let ours = ours.to_str().unwrap().to_owned();
    let back = machine.directory().join("back");
    let theirs = format!(":{directory}/copy");

    let part = format!("stat -c %s {directory}/.copy.qga-part 2>/dev/null || echo 0");
    let child = start(machine, &[&ours, &theirs]);
    kill_at(child, size / 3, || machine.shell.number(&part));
    assert_resumed(&copy(machine, &[&ours, &theirs]), size);
    let sum = machine.shell.run_within(&format!("sha256sum <{directory}/copy"), ENOUGH);
    assert_eq!(sum.split(' ').next(), Some(expected.as_str()));

    let part = back.with_file_name(".back.qga-part");
    let length = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    let child = start(machine, &[&theirs, back.to_str().unwrap()]);
    kill_at(child, size / 3, || length(&part));
    assert_resumed(&copy(machine, &[&theirs, back.to_str().unwrap()]), size);
    assert_eq!(hash(&fs::read(&back).unwrap()), expected);

    assert_eq!(machine.shell.number(&format!("ls -A {directory} | grep -c qga-part || :")), 0);
    machine.shell.run(&format!("rm {directory}/copy"));
    fs::remove_file(ours).unwrap();
    fs::remove_file(back).unwrap();
}
