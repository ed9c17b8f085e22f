//! `qga exporter`, asked over HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use qga_testkit::wait;

use super::{Dead, ENOUGH, agents, options, qga};

/// A running exporter.
pub(crate) struct Exporter {
    child: Child,
    /// Where it listens.
    pub(crate) address: String,
}

impl Exporter {
    /// Starts one on a port that is free.
    pub(crate) fn start(options: &[String], args: &[&str]) -> Self {
        let mut command = qga(options);
        command.args(["exporter", "--listen", "127.0.0.1:0"]).args(args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on http://").and_then(|url| url.strip_suffix("/metrics"));
        let address = address.unwrap_or_else(|| panic!("no address: {line}")).to_owned();
        Exporter { child, address }
    }

    /// Everything the server says to a request for a page.
    fn get(&self, page: &str, headers: &str) -> String {
        get(&self.address, page, headers)
    }

    /// The metrics, once they have this line.
    fn metrics_with(&self, line: &str) -> String {
        wait::until(line, ENOUGH, || {
            Some(self.get("/metrics", "")).filter(|page| page.lines().any(|have| have == line))
        })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything a web server says to a request for a page.
pub(crate) fn get(address: &str, page: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ENOUGH)).unwrap();
    write!(stream, "GET {page} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

#[test]
fn living_guests_are_up_and_dead_ones_down_and_no_scrape_waits() {
    let test = "living_guests_are_up_and_dead_ones_down_and_no_scrape_waits";
    let (mut agents, dead) = (agents(test), Dead::new());
    let dead_socket = dead.socket();
    let sockets = agents.iter().map(|(_, agent)| agent.socket()).chain([dead_socket.as_path()]);
    let exporter = Exporter::start(&options(sockets), &["-i", "0.5", "--timeout", "3"]);
    let start = Instant::now();
    exporter.get("/metrics", "");
    assert!(start.elapsed() < Duration::from_secs(3), "a scrape waited for a guest");
    let up = |socket: &std::path::Path, value: &str| format!("qga_up{{target=\"{}\"}} {value}", socket.display());
    for (name, agent) in &agents {
        let page = exporter.metrics_with(&up(agent.socket(), "1.0"));
        let target = format!("{{target=\"{}\"", agent.socket().display());
        for metric in ["qga_load1", "qga_memory_available_bytes", "qga_cpu_seconds_total", "qga_agent_info"] {
            assert!(page.contains(&format!("\n{metric}{target}")), "{name}: no {metric} in\n{page}");
        }
        assert!(!page.contains(&format!("qga_command_failures_total{target}")), "{name}:\n{page}");
    }
    exporter.metrics_with(&up(&dead_socket, "0.0"));
    // Who dies is down, and what was known of it is gone.
    let (_, last) = agents.pop().unwrap();
    let socket = last.socket().to_owned();
    drop(last);
    let page = exporter.metrics_with(&up(&socket, "0.0"));
    assert!(!page.contains(&format!("qga_load1{{target=\"{}\"", socket.display())), "{page}");
    assert!(page.contains(&format!("qga_down{{target=\"{}\",layer=\"channel\"}} 1.0", socket.display())), "{page}");
}

#[test]
fn the_pages_are_what_they_should_be() {
    let dead = Dead::new();
    let exporter = Exporter::start(&options([dead.socket().as_path()]), &[]);
    assert!(exporter.get("/healthz", "").ends_with("\r\n\r\nok\n"));
    assert!(exporter.get("/", "").contains("href=\"/metrics\""));
    assert!(exporter.get("/other", "").starts_with("HTTP/1.1 404 "));
    let page = exporter.get("/metrics", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n");
    assert!(page.contains("Content-Type: application/openmetrics-text; version=1.0.0") && page.ends_with("# EOF\n"));
    // Clients that say nothing hold nobody up.
    let idle: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(&exporter.address).unwrap()).collect();
    assert!(exporter.get("/healthz", "").ends_with("ok\n"));
    drop(idle);
}

#[test]
fn a_port_that_is_taken_is_said_to_be_so() {
    let dead = Dead::new();
    let options = options([dead.socket().as_path()]);
    let exporter = Exporter::start(&options, &[]);
    let output = qga(&options).args(["exporter", "--listen", &exporter.address]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains(&format!("cannot listen on {}: address in use", exporter.address)), "{error}");
    let output = qga([] as [&str; 0]).args(["exporter"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "without a target it is a matter of usage");
}
