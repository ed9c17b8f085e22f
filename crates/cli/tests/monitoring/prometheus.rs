//! A real Prometheus that scrapes `qga exporter`.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use qga_testkit::wait;
use serde_json::Value;

use super::exporter::{Exporter, get};
use super::{Dead, ENOUGH, agents, missing, options};

/// A Prometheus with its own directory and port.
struct Prometheus {
    child: Child,
    address: String,
}

impl Prometheus {
    fn start(dir: &Path, exporter: &str) -> Self {
        let config = dir.join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: qga\n    \
             static_configs:\n      - targets: ['{exporter}']\n"
        );
        fs::write(&config, text).unwrap();
        // Free now; nothing else of these tests takes ports by number.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let log = fs::File::create(dir.join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Prometheus { child, address }
    }

    /// Waits until it takes requests.
    fn ready(&mut self, dir: &Path) {
        wait::until("Prometheus is ready", ENOUGH, || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "Prometheus: {}", fs::read_to_string(dir.join("log")).unwrap());
            std::net::TcpStream::connect(&self.address).ok()?;
            get(&self.address, "/-/ready", "").starts_with("HTTP/1.1 200").then_some(())
        });
    }

    /// The answer to a query: labels and value of each series.
    fn query(&self, query: &str) -> Vec<(Value, f64)> {
        // Everything but letters and digits is encoded.
        let encoded: String = query
            .bytes()
            .map(
                |byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") },
            )
            .collect();
        let said = get(&self.address, &format!("/api/v1/query?query={encoded}"), "");
        let body = &said[said.find('{').unwrap_or_else(|| panic!("{query}: {said}"))..=said.rfind('}').unwrap()];
        let answer: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{query}: {error}: {said}"));
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let series = answer["data"]["result"].as_array().unwrap();
        series.iter().map(|one| (one["metric"].clone(), one["value"][1].as_str().unwrap().parse().unwrap())).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_scrapes_our_agent_and_the_c_agent_and_a_dead_guest_delays_neither() {
    let test = "prometheus_scrapes_our_agent_and_the_c_agent_and_a_dead_guest_delays_neither";
    if !qga_testkit::skip::has(test, "prometheus") {
        return missing(test, "prometheus");
    }
    let (agents, dead) = (agents(test), Dead::new());
    let dead_socket = dead.socket();
    let sockets = agents.iter().map(|(_, agent)| agent.socket()).chain([dead_socket.as_path()]);
    let exporter = Exporter::start(&options(sockets), &["-i", "1", "--timeout", "4"]);
    let dir = tempfile::tempdir().unwrap();
    let mut prometheus = Prometheus::start(dir.path(), &exporter.address);
    prometheus.ready(dir.path());

    let up = wait::until("everybody has been asked", ENOUGH, || {
        let up = prometheus.query("qga_up");
        (up.len() == agents.len() + 1).then_some(up)
    });
    for (labels, value) in &up {
        let is_dead = labels["target"] == dead_socket.to_str().unwrap();
        assert_eq!(*value, if is_dead { 0.0 } else { 1.0 }, "{labels}");
    }
    // Counters have to be seen twice for a rate.
    wait::until("processors have a rate", ENOUGH, || {
        let rates = prometheus.query("sum by (target) (rate(qga_cpu_seconds_total[30s]))");
        (rates.len() == agents.len() && rates.iter().all(|(_, rate)| *rate > 0.1)).then_some(())
    });
    assert_eq!(prometheus.query("qga_memory_available_bytes / qga_memory_total_bytes < 1").len(), agents.len());
    assert_eq!(prometheus.query("qga_load1").len(), agents.len());
    assert_eq!(prometheus.query("qga_agent_info").len(), agents.len());
    assert_eq!(prometheus.query("qga_down")[0].0["layer"], "agent");
    // While the dead guest is asked, again and again, each scrape is quick and what it shows of the others is fresh.
    std::thread::sleep(Duration::from_secs(3));
    let (_, slowest) = prometheus.query("max_over_time(scrape_duration_seconds[1m])")[0];
    assert!(slowest < 1.0, "a scrape took {slowest} s");
    assert_eq!(prometheus.query("min_over_time(up[1m])")[0].1, 1.0, "a scrape failed");
    for (labels, age) in prometheus.query("time() - qga_last_poll_timestamp_seconds") {
        assert!(age < 10.0, "{labels}: {age} s old");
    }
    let kinds = get(&prometheus.address, "/api/v1/metadata?metric=qga_cpu_seconds_total", "");
    let other = get(&prometheus.address, "/api/v1/metadata?metric=qga_cpu_seconds", "");
    assert!(kinds.contains("\"type\":\"counter\"") || other.contains("\"type\":\"counter\""), "{kinds}{other}");

    // The queries of the dashboard are queries.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/grafana/qga.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array());
    for target in targets.flatten() {
        let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "30s").replace("$target", ".*");
        let answer = prometheus.query(&query);
        // Nothing has failed and nothing is swapped, perhaps; the rest has values.
        let is_rare = ["failures", "frozen", "disk", "swap"].iter().any(|word| query.contains(word));
        assert!(is_rare || !answer.is_empty(), "{query} finds nothing");
    }
}
