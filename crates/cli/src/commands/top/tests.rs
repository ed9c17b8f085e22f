//! What the view shows of which samples.

use std::sync::Arc;
use std::time::Duration;

use qga_client::Error;

use super::chart::width_of;
use super::*;
use crate::monitor::tests::healthy;
use crate::monitor::{CpuUse, DiskRate, InterfaceRate, Sample, Usage};

const ASCII: Signs = Signs { has_blocks: false };

fn usage(busy: f64) -> Usage {
    Usage {
        cpu: Some(CpuUse { busy, user: busy, system: 0.0, wait: 0.1, steal: 0.0 }),
        disks: vec![DiskRate { name: "vda".into(), read: 1024.0, written: 0.0, requests: 3.0, busy: 0.5 }],
        interfaces: vec![InterfaceRate { name: "eth0".into(), received: 2048.0, sent: 512.0 }],
    }
}

fn state(sample: Sample, usage: Usage) -> State {
    State {
        sample: Some(Arc::new(sample)),
        usage: Some(Arc::new(usage)),
        polls: 2,
        history: [0.0, 0.5, 1.0].into(),
        peak: 2048.0,
        ..State::default()
    }
}

fn silent(after: Option<State>) -> State {
    let failure = Some(Arc::new(Failure::Agent(Error::Silent(Duration::from_secs(5)))));
    State { failure, polls: 3, failed: 1, ..after.unwrap_or_default() }
}

fn plain(lines: &[Line]) -> String {
    lines.iter().map(|line| line.plain() + "\n").collect()
}

#[test]
fn one_guest_is_shown_in_detail() {
    let mut sample = healthy();
    sample.latency = Duration::from_micros(1500);
    let lines = one::lines("web1", &state(sample, usage(0.25)), &Standing::Fresh, 100, ASCII);
    let expected = "\
web1  agent 9.9.9  1 of 2 processors  answers in 1.5 ms
Load   0.50  0.25  0.12
CPU    [#######                     ]   25 %  user 25.0  system 0.0  wait 10.0  steal 0.0
       _+#
Memory [#####################       ]   75 %  750 KiB of 1000 KiB
Swap   [###                         ]   10 %  10.0 KiB of 100 KiB

FILE SYSTEMS
/                              [#########################   ]   90 %  900 B of 1000 B  ext4

DISKS
vda              [##############              ]   50 %  read 1.0 KiB/s  written 0 B/s  3 requests/s

NETWORK
eth0             in [##########]    2.0 KiB/s   out [###       ]      512 B/s
";
    assert_eq!(plain(&lines), expected);
}

#[test]
fn memory_that_is_not_to_be_read_is_said_to_be_so() {
    let mut sample = healthy();
    sample.memory = None;
    let text = plain(&one::lines("x", &state(sample, usage(0.0)), &Standing::Fresh, 100, ASCII));
    assert!(text.contains("Memory  128 MiB  (what is used was not to be read)"), "{text}");
}

#[test]
fn many_guests_have_a_line_each_and_dead_ones_say_since_when() {
    let (idle, busy) = (state(healthy(), usage(0.1)), state(healthy(), usage(0.97)));
    let dead = silent(Some(state(healthy(), usage(0.5))));
    let mut frozen = healthy();
    frozen.is_frozen = Some(true);
    let frozen = state(frozen, Usage::default());
    let row = |name, state, standing| Row { name, state, standing };
    let waiting = State::default();
    let mut rows = vec![
        row("idle", &idle, Standing::Fresh),
        row("a-dead", &dead, Standing::Silent(Duration::from_millis(72_900))),
        row("busy", &busy, Standing::Fresh),
        row("cold", &frozen, Standing::Fresh),
        row("new", &waiting, Standing::Waiting),
    ];
    many::sort(&mut rows, Order::Cpu);
    let expected = "\
GUEST    CPU                 MEMORY                LOAD        READ     WRITTEN          IN         OUT  FULLEST
busy     [##########]   97 % [########  ]   75 %   0.50   1.0 KiB/s       0 B/s   2.0 KiB/s     512 B/s  90 %  /
idle     [#         ]   10 % [########  ]   75 %   0.50   1.0 KiB/s       0 B/s   2.0 KiB/s     512 B/s  90 %  /
a-dead   no answer for 1m 12s: no agent answered within 5 s
cold     the file systems are frozen
new      waiting for the first answer
";
    assert_eq!(plain(&many::lines(&rows, 120, ASCII)), expected);
    many::sort(&mut rows, Order::Name);
    let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names, ["a-dead", "busy", "cold", "idle", "new"]);
}

#[test]
fn many_guests_fit_into_a_small_terminal() {
    let state = state(healthy(), usage(0.5));
    let rows = ["web1", "web2.example.org"].map(|name| Row { name, state: &state, standing: Standing::Fresh });
    let expected = "\
GUEST            CPU     MEMORY    LOAD       DISKS     NETWORK  FULLEST
web1                50 %    75 %   0.50   1.0 KiB/s   2.5 KiB/s  90 %  /
web2.example.org    50 %    75 %   0.50   1.0 KiB/s   2.5 KiB/s  90 %  /
";
    assert_eq!(plain(&many::lines(&rows, 80, ASCII)), expected);
    for width in [0, 1, 20, 90, 100, 110, 500] {
        let lines = many::lines(&rows, width, ASCII);
        assert!(width < 80 || lines.iter().all(|line| width_of(&line.plain()) <= width), "{width}");
        assert_eq!(lines.len(), 3);
    }
}

#[test]
fn what_a_guest_calls_its_things_does_not_reach_the_terminal_raw() {
    let mut sample = healthy();
    let evil = "\x1b[2J\t\u{9b}31m\u{202e}\r\n";
    sample.version = evil.into();
    sample.failures.push(("guest-get-disks", evil.into()));
    for filesystem in sample.filesystems.iter_mut().flatten() {
        filesystem.mountpoint = evil.into();
        filesystem.fs_type = evil.into();
    }
    let mut usage = usage(0.5);
    usage.disks[0].name = evil.into();
    usage.interfaces[0].name = evil.into();
    let state = state(sample, usage);
    let rows = [Row { name: evil, state: &state, standing: Standing::Fresh }];
    for lines in [one::lines(evil, &state, &Standing::Fresh, 100, ASCII), many::lines(&rows, 120, ASCII)] {
        let text: String = lines.iter().map(Line::plain).collect();
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
        assert!(text.contains("\\x1b[2J "), "{text}");
    }
}

#[test]
fn a_guest_with_thousands_of_things_fills_no_memory() {
    let mut sample = healthy();
    let one = sample.filesystems.clone().unwrap()[0].clone();
    let many = (0..5000).map(|number| {
        let mut other = one.clone();
        (other.name, other.mountpoint) = (format!("vd{number}"), format!("/{number}"));
        other
    });
    sample.filesystems = Some(many.collect());
    let lines = one::lines("x", &state(sample, usage(0.5)), &Standing::Fresh, 100, ASCII);
    assert!(lines.len() < 150, "{}", lines.len());
}

#[test]
fn programs_get_numbers_and_null_for_what_is_not_known() {
    let state = state(healthy(), usage(0.25));
    let value = json::value(&Row { name: "x", state: &state, standing: Standing::Fresh });
    assert_eq!(value["cpu"]["busy"], 0.25);
    assert_eq!(value["memory"]["used"], 768_000);
    assert_eq!(value["load"]["load1m"], 0.5);
    assert_eq!(value["disks"][0]["read"], 1024.0);
    assert_eq!(value["filesystems"][0]["size"], 1000);
    let mut sample = healthy();
    (sample.memory, sample.load) = (None, None);
    let state = State { sample: Some(Arc::new(sample)), ..State::default() };
    let value = json::value(&Row { name: "x", state: &state, standing: Standing::Fresh });
    for name in ["memory", "load", "cpu", "disks"] {
        assert!(value[name].is_null(), "{name}");
    }
}

#[test]
fn intervals_make_sense() {
    assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
    for bad in ["0", "0.01", "-1", "x", "1e9"] {
        assert!(interval(bad).is_err(), "{bad}");
    }
}
