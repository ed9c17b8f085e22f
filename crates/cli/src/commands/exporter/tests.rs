//! What becomes of samples on the page, also of those that mean no good.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use qga_client::Error;

use super::page::{Metric, Page};
use super::*;
use crate::monitor::tests::{guest, healthy, target};
use crate::monitor::{Sample, Standing, State};

fn page_of(sample: Sample) -> Page {
    let state = State {
        sample: Some(Arc::new(sample)),
        polls: 3,
        failed: 1,
        command_failures: [("guest-get-fsinfo", 2)].into(),
        ..State::default()
    };
    let mut page = Page::default();
    metrics::add_state(&mut page, "web1", &state, &Standing::Fresh);
    page
}

fn series(page: Page) -> Vec<String> {
    page.classic().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn a_healthy_guest_has_every_series() {
    let all = series(page_of(healthy()));
    for line in [
        r#"qga_up{target="web1"} 1.0"#,
        r#"qga_agent_info{target="web1",version="9.9.9"} 1.0"#,
        r#"qga_load5{target="web1"} 0.25"#,
        r#"qga_cpu_seconds_total{target="web1",mode="idle"} 8.0"#,
        r#"qga_cpus{target="web1",state="offline"} 1.0"#,
        r#"qga_memory_blocks{target="web1",state="online"} 1.0"#,
        r#"qga_memory_available_bytes{target="web1"} 256000.0"#,
        r#"qga_filesystem_used_bytes{target="web1",device="vda1",fstype="ext4",mountpoint="/"} 900.0"#,
        r#"qga_disk_read_bytes_total{target="web1",device="vda"} 51200.0"#,
        r#"qga_disk_io_time_seconds_total{target="web1",device="vda"} 0.04"#,
        r#"qga_network_transmit_drops_total{target="web1",interface="eth0"} 4.0"#,
        r#"qga_frozen{target="web1"} 0.0"#,
        r#"qga_poll_failures_total{target="web1"} 1.0"#,
        r#"qga_command_failures_total{target="web1",command="guest-get-fsinfo"} 2.0"#,
        r#"qga_dropped_entries{target="web1"} 0.0"#,
    ] {
        assert!(all.iter().any(|have| have == line), "{line} is not among\n{}", all.join("\n"));
    }
    assert!(!all.iter().any(|line| line.contains("loop0")), "a disk that was never used is left out");
}

#[test]
fn a_guest_that_does_not_answer_is_down_and_nothing_old_is_shown() {
    let state = State {
        sample: Some(Arc::new(healthy())),
        failure: Some(Arc::new(Failure::Agent(Error::PortClosed("web1".into())))),
        polls: 9,
        failed: 4,
        ..State::default()
    };
    let mut page = Page::default();
    metrics::add_state(&mut page, "web1", &state, &Standing::Silent(Duration::from_secs(9)));
    let expected = [
        r#"qga_down{target="web1",layer="port"} 1.0"#,
        r#"qga_poll_failures_total{target="web1"} 4.0"#,
        r#"qga_polls_total{target="web1"} 9.0"#,
        r#"qga_up{target="web1"} 0.0"#,
    ];
    assert_eq!(series(page), expected);
}

#[test]
fn names_that_mean_harm_are_escaped_cut_and_counted() {
    let mut sample = healthy();
    sample.version = format!("9\"}} 1\nqga_up{{target=\"other\"}} 1\n\\{}", "ü".repeat(10_000));
    let template = sample.filesystems.clone().unwrap()[0].clone();
    let many = (0..5000).map(|number| {
        let mut other = template.clone();
        other.mountpoint = format!("/{number}");
        other
    });
    sample.filesystems = Some(many.collect());
    let all = series(page_of(sample));
    assert_eq!(all.iter().filter(|line| line.starts_with("qga_up{")).count(), 1);
    assert_eq!(all.iter().filter(|line| line.starts_with("qga_filesystem_size_bytes{")).count(), 100);
    assert!(all.contains(&r#"qga_dropped_entries{target="web1"} 4900.0"#.to_owned()));
    let info = all.iter().find(|line| line.starts_with("qga_agent_info{")).unwrap();
    assert!(info.contains(r#"version="9\"} 1\\x0aqga_up{target=\"other\"} 1\\x0a\\ü"#), "{info}");
    assert!(info.len() < 250, "{info}");
}

#[test]
fn the_same_labels_make_one_series() {
    let mut sample = healthy();
    let twice = sample.filesystems.clone().unwrap()[0].clone();
    sample.filesystems = Some(vec![twice.clone(), twice]);
    let all = series(page_of(sample));
    assert_eq!(all.iter().filter(|line| line.starts_with("qga_filesystem_size_bytes{")).count(), 1);
}

#[test]
fn both_formats_name_a_counter_as_they_must() {
    let metric = |name, is_counter| Metric { name, unit: Some("bytes"), is_counter, help: "Some total bytes" };
    let mut page = Page::default();
    page.set(metric("read", true), &[], 1.0);
    page.set(metric("size", false), &[("a", "b")], 2.0);
    let openmetrics = "\
# HELP qga_read_bytes Some total bytes
# TYPE qga_read_bytes counter
# UNIT qga_read_bytes bytes
qga_read_bytes_total{} 1.0
# HELP qga_size_bytes Some total bytes
# TYPE qga_size_bytes gauge
# UNIT qga_size_bytes bytes
qga_size_bytes{a=\"b\"} 2.0
# EOF
";
    let classic = "\
# HELP qga_read_bytes_total Some total bytes
# TYPE qga_read_bytes_total counter
qga_read_bytes_total{} 1.0
# HELP qga_size_bytes Some total bytes
# TYPE qga_size_bytes gauge
qga_size_bytes{a=\"b\"} 2.0
";
    assert_eq!(page.clone().openmetrics(), openmetrics);
    assert_eq!(page.classic(), classic);
}

#[test]
fn guests_come_and_go_with_the_list() {
    let watch = Watch::new(Duration::from_secs(60), Duration::from_secs(5), false);
    let (one, two) = (guest(&[], &[]), guest(&[], &[]));
    watch.update(&[target(&one), target(&two)]);
    let before = watch.guests();
    watch.update(&[target(&two)]);
    let after = watch.guests();
    assert_eq!((before.len(), after.len()), (2, 1));
    assert!(Arc::ptr_eq(&before[1], &after[0]), "who stays is not begun anew");
    watch.update(&[target(&two), target(&two), target(&one)]);
    assert_eq!(watch.guests().len(), 2);
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let program = "promtool";
    if !qga_testkit::skip::has("promtool_finds_nothing_to_complain_about", program) {
        assert!(std::env::var("CI").is_ok_and(|ci| ci == "true").eq(&false), "{program} is not installed");
        return;
    }
    let mut child = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(page_of(healthy()).classic().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

/// Everything that looks like the name of a metric of ours.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("qga_")).collect()
}

#[test]
fn the_dashboard_uses_only_metrics_that_there_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/grafana/qga.json");
    let text = std::fs::read_to_string(path).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut queries = Vec::new();
    for target in panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten() {
        queries.push(target["expr"].as_str().unwrap());
    }
    assert!(queries.len() > 10, "{}", queries.len());
    // A guest that is down has a metric that one that is up has not; the page without guests has those of its own.
    let mut page = page_of(healthy());
    let silent = State::default();
    metrics::add_state(&mut page, "gone", &silent, &Standing::Silent(Duration::from_secs(9)));
    let watch = Watch::new(Duration::from_secs(60), Duration::from_secs(5), false);
    let all = page.classic() + &metrics::page(&watch).classic();
    let known: BTreeSet<&str> =
        all.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect();
    let used = names(&text);
    let unknown: Vec<_> = used.difference(&known).collect();
    assert!(unknown.is_empty(), "the dashboard asks for {unknown:?}");
    assert!(queries.iter().all(|query| !names(query).is_empty()), "a query asks for nothing of ours");
    // Prometheus itself checks the queries, where it is installed, in the test of the program.
}

#[test]
fn the_units_port_is_that_of_the_program() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging");
    let unit = std::fs::read_to_string(packaging.join("systemd/qga-exporter.service")).unwrap();
    let command = crate::cli::command();
    let exporter = command.find_subcommand("exporter").unwrap();
    let listen = exporter.get_arguments().find(|arg| arg.get_id() == "listen").unwrap();
    let default = listen.get_default_values()[0].to_str().unwrap().to_owned();
    assert!(unit.contains(&default), "{default} is not in the unit");
}
