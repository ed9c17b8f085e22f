//! `qga exec` on a machine of libvirt's.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use vm_tests::libvirt::DOMAIN;
use vm_tests::qga;

use crate::Guest;

pub(crate) fn qga_runs_a_program_and_shows_each_line_while_it_runs(guest: &mut Guest) {
    let target = format!("libvirt:{DOMAIN}");
    let script = "wc -c; i=0; while [ $i -lt 4 ]; do cat /proc/uptime; i=$((i+1)); sleep 1; done; echo e >&2; exit 9";
    let args = ["--connect", &guest.libvirt.uri(), "-t", &target, "exec", "--", "sh", "-c", script];
    let mut command = qga::command(&qga::program(), &args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || stdin.write_all(&vec![b'x'; 200_000]).unwrap());
    let start = Instant::now();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "200000");
    writer.join().unwrap();
    let gaps: Vec<f64> = lines
        .map(|line| {
            let printed: f64 = line.unwrap().split(' ').next().unwrap().parse().unwrap();
            start.elapsed().as_secs_f64() - printed
        })
        .collect();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(9), &b"e\n"[..]));
    assert_eq!(gaps.len(), 4);
    // The clocks are not the same; the line that was fastest shows how far they are apart.
    let fastest = gaps.iter().copied().fold(f64::INFINITY, f64::min);
    let latest = gaps.iter().map(|gap| gap - fastest).fold(0.0, f64::max);
    assert!(latest < 3.0, "a line came {latest} s late: {gaps:?}");
}

pub(crate) fn a_program_goes_on_while_the_guest_is_frozen_for_a_backup(guest: &mut Guest) {
    let target = format!("libvirt:{DOMAIN}");
    let script = "i=0; while [ $i -lt 6 ]; do echo $i; i=$((i+1)); sleep 1; done; exit 9";
    let args = ["--connect", &guest.libvirt.uri(), "-t", &target, "exec", "--", "sh", "-c", script];
    let mut child = qga::command(&qga::program(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "0");
    guest.libvirt.virsh(&["domfsfreeze", DOMAIN]);
    thread::sleep(Duration::from_secs(2));
    guest.libvirt.virsh(&["domfsthaw", DOMAIN]);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(rest, ["1", "2", "3", "4", "5"]);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(9), &b""[..]));
}
