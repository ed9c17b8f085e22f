use std::fs;

use serde_json::{Value, json};

use super::*;

fn disk_json(line: &str) -> Value {
    serde_json::to_value(disk(line.as_bytes())).unwrap()
}

fn cpu_json(line: &str) -> Value {
    serde_json::to_value(cpu(line.as_bytes(), 100)).unwrap()
}

#[test]
fn a_line_of_a_disk_gives_what_its_length_allows() {
    let full = "   8       0 sda 10 20 30 40 50 60 70 80 1 90 100 11 12 13 14 15 16";
    let expected = json!({ "name": "sda", "major": 8, "minor": 0, "stats": {
        "read-ios": 10, "read-merges": 20, "read-sectors": 30, "read-ticks": 40,
        "write-ios": 50, "write-merges": 60, "write-sectors": 70, "write-ticks": 80,
        "ios-pgr": 1, "total-ticks": 90, "weight-ticks": 100,
        "discard-ios": 11, "discard-merges": 12, "discard-sectors": 13, "discard-ticks": 14,
        "flush-ios": 15, "flush-ticks": 16 } });
    assert_eq!(disk_json(full), expected);
    assert_eq!(disk_json(&format!("{full} 17 18")), expected, "what a newer kernel adds is passed over");
    let stats = |line: &str| disk_json(line)["stats"].clone();
    let numbers = |line: &str| stats(line).as_object().unwrap().len();
    assert_eq!(numbers("8 0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"), 15);
    assert_eq!(numbers("8 0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14"), 11);
    assert_eq!(numbers("8 0 sda 1 2 3 4 5 6 7 8 9 10 11"), 11);
    let old = json!({ "read-ios": 1, "read-sectors": 2, "write-ios": 3, "write-sectors": 4 });
    assert_eq!(stats("8 1 sda1 1 2 3 4"), old);
    assert_eq!(stats("8 4 sda4 1 2 3 4 5"), json!({}));
    assert_eq!(stats("8 4 sda4 1 2 3 4 5 6 7 8 9 10"), json!({}));
}

#[test]
fn counters_of_disks_have_64_bits() {
    let line = format!("8 0 sda {}", ["18446744073709551615"; 17].join(" "));
    let stats = disk_json(&line)["stats"].clone();
    assert!(stats.as_object().unwrap().values().all(|value| value.as_u64() == Some(u64::MAX)), "{stats}");
}

#[test]
fn lines_that_do_not_fit_are_left_out_and_the_others_are_not() {
    for line in ["", "8", "8 0 sda", "8 0 sda 1 2 3", "x 0 sda 1 2 3 4", "8 0 sda one 2 3 4", "8 -1 sda 1 2 3 4"] {
        assert_eq!(disk_json(line), Value::Null, "{line}");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("proc")).unwrap();
    let long = "y".repeat(5000);
    fs::write(dir.path().join("proc/diskstats"), format!("8 0 b 1 2 3 4\njunk\n8 1 a 1 2 3 4\n8 2 {long} 1 2 3 4"))
        .unwrap();
    let names: Vec<String> = disks(&Root::new(dir.path())).unwrap().into_iter().map(|disk| disk.name).collect();
    assert_eq!(names, ["b", "a", &long]);
}

#[test]
fn a_line_of_a_processor_gives_milliseconds_of_what_it_has() {
    let expected = json!({ "type": "linux", "cpu": 0, "user": 1010, "nice": 2020, "system": 3030, "idle": 4040,
        "iowait": 5050, "irq": 6060, "softirq": 7070, "steal": 8080, "guest": 9090, "guestnice": 10100 });
    assert_eq!(cpu_json("cpu0 101 202 303 404 505 606 707 808 909 1010"), expected);
    assert_eq!(cpu_json("cpu0 101 202 303 404 505 606 707 808 909 1010 1111"), expected);
    let least = json!({ "type": "linux", "cpu": 3, "user": 10, "nice": 20, "system": 30, "idle": 40 });
    assert_eq!(cpu_json("cpu3 1 2 3 4"), least);
    let six = cpu_json("cpu3 1 2 3 4 5 6");
    assert_eq!((six["irq"].as_u64(), six.get("softirq")), (Some(60), None), "{six}");
    let huge = cpu_json(&format!("cpu1 {} 0 0 0", u64::MAX / 10));
    assert_eq!(huge["user"].as_u64(), Some(u64::MAX / 10 * 10));
    assert_eq!(cpu_json(&format!("cpu1 {} 0 0 0", u64::MAX))["user"].as_u64(), Some(u64::MAX));
}

#[test]
fn a_line_that_is_no_processors_is_passed_over() {
    for line in ["cpu  1 2 3 4", "cpu0 1 2 3", "cpufreq 1 2 3 4", "cpu-1 1 2 3 4", "intr 1", "", "cpu0 a b c d"] {
        assert_eq!(cpu_json(line), Value::Null, "{line}");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("proc")).unwrap();
    fs::write(dir.path().join("proc/stat"), "cpu 9 9 9 9\ncpu0 1 2 3 4\ncpu1 1 2\ncpu7 1 2 3 4\nintr 1 2\n").unwrap();
    let ids: Vec<i64> = cpus(&Root::new(dir.path())).unwrap().into_iter().map(|cpu| cpu.cpu).collect();
    assert_eq!(ids, [0, 7]);
}

#[test]
fn a_missing_file_is_told_as_the_c_agent_tells_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new(dir.path());
    let expected = "Could not open '/proc/diskstats': No such file or directory";
    assert_eq!(disks(&root).unwrap_err().desc, expected);
    assert_eq!(cpus(&root).unwrap_err().desc, expected.replace("diskstats", "stat"));
}

#[test]
fn the_load_is_near_what_proc_says() {
    let text = fs::read_to_string("/proc/loadavg").unwrap();
    let first: f64 = text.split(' ').nth(2).unwrap().parse().unwrap();
    // The slowest of the three changes little between the two looks.
    assert!((load().load15m - first).abs() < 0.5, "{} and {text}", load().load15m);
}
