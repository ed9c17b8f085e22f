//! `qga --all top` and `qga --all exporter` with a real libvirt.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use qga_testkit::wait;
use serde_json::Value;
use vm_tests::libvirt::DOMAIN;
use vm_tests::qga;

use crate::Guest;

const ENOUGH: Duration = Duration::from_secs(60);

/// An exporter that ends with the value.
struct Exporter {
    child: Child,
    address: String,
}

impl Exporter {
    fn start(program: &Path, uri: &str) -> Self {
        let args = ["--all", "--connect", uri, "exporter", "-i", "0.5", "--relist", "1", "--listen", "127.0.0.1:0"];
        let mut child = qga::command(program, &args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().trim_start_matches("listening on http://").trim_end_matches("/metrics").to_owned();
        Exporter { child, address }
    }

    /// The metrics, once they have this line.
    fn metrics_with(&self, line: &str) -> String {
        wait::until(line, ENOUGH, || {
            let mut stream = TcpStream::connect(&self.address).unwrap();
            stream.set_read_timeout(Some(ENOUGH)).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
            let mut page = String::new();
            stream.read_to_string(&mut page).unwrap();
            page.lines().any(|have| have == line).then_some(page)
        })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn all_machines_of_libvirt_are_watched_and_an_agent_that_is_gone_is_down(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    let (program, uri) = (qga::program(), libvirt.uri());
    let args = ["--all", "--connect", &uri, "--json", "top", "-i", "1"];
    let output = qga::command(&program, &args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sample: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(sample["target"], DOMAIN, "{sample}");
    let sample = &sample["result"];
    let total: u64 = libvirt.shell.run("awk '/^MemTotal/ {print $2}' /proc/meminfo").trim().parse().unwrap();
    assert_eq!(sample["memory"]["total"], total * 1024, "{sample}");
    assert_eq!(sample["processors"]["online"], 2, "{sample}");
    assert_eq!(sample["failures"], serde_json::json!([]), "{sample}");

    let exporter = Exporter::start(&program, &uri);
    let page = exporter.metrics_with(&format!("qga_up{{target=\"{DOMAIN}\"}} 1.0"));
    assert!(page.contains(&format!("qga_memory_total_bytes{{target=\"{DOMAIN}\"}} {}.0\n", total * 1024)), "{page}");
    assert!(page.contains("fstype=\"xfs\",mountpoint=\"/mnt/xfs\"}"), "{page}");
    assert!(page.contains("qga_targets{} 1.0\n"), "{page}");

    libvirt.shell.run("kill $(cat /run/qga/pid)");
    let page = exporter.metrics_with(&format!("qga_down{{target=\"{DOMAIN}\",layer=\"port\"}} 1.0"));
    assert!(page.contains(&format!("qga_up{{target=\"{DOMAIN}\"}} 0.0\n")), "{page}");
    assert!(!page.contains("qga_load1"), "{page}");
    libvirt.shell.run("start-agent");
    exporter.metrics_with(&format!("qga_up{{target=\"{DOMAIN}\"}} 1.0"));
}
