//! The page that Prometheus reads: metrics with their series, in both of its formats.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// Most bytes of a label's value.
const VALUE_MAX: usize = 128;

/// A metric; its whole name has `qga_` in front, and its unit, and `_total` for a counter, behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: Option<&'static str>,
    pub(crate) is_counter: bool,
    pub(crate) help: &'static str,
}

/// Names and values of labels.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// The metrics of one scrape.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    /// The same labels make the same series: one takes the place of the other.
    metrics: BTreeMap<&'static str, (Metric, BTreeMap<Labels, f64>)>,
}

impl Metric {
    /// The name as Prometheus writes it above the series, without `_total`.
    fn family(&self) -> String {
        let name = self.name;
        self.unit.map_or_else(|| format!("qga_{name}"), |unit| format!("qga_{name}_{unit}"))
    }
}

impl Page {
    /// Sets a series to a value; the values of its labels may hold anything a guest says.
    pub(crate) fn set(&mut self, metric: Metric, labels: &[(&'static str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| (*name, bounded(value))).collect();
        let (_, series) = self.metrics.entry(metric.name).or_insert_with(|| (metric, BTreeMap::new()));
        series.insert(labels, value);
    }

    /// In the format of OpenMetrics.
    pub(crate) fn openmetrics(self) -> String {
        let mut registry = Registry::with_prefix("qga");
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut out, &registry);
        out
    }

    /// In the older format of Prometheus, for what does not ask for the other: a counter is called by its whole name
    /// everywhere, and there are no units and no end mark.
    pub(crate) fn classic(self) -> String {
        let counters: Vec<String> =
            self.metrics.values().filter(|(metric, _)| metric.is_counter).map(|(metric, _)| metric.family()).collect();
        let mut out = String::new();
        for line in self.openmetrics().lines() {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some("UNIT" | "EOF"), ..) => continue,
                (Some("#"), Some(what), Some(name), Some(rest)) if counters.iter().any(|counter| counter == name) => {
                    out.push_str(&format!("# {what} {name}_total {rest}"));
                }
                _ => out.push_str(line),
            }
            out.push('\n');
        }
        out
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (metric, series) in self.metrics.values() {
            let unit = metric.unit.map(|unit| Unit::Other(unit.to_owned()));
            let kind = if metric.is_counter { MetricType::Counter } else { MetricType::Gauge };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, unit.as_ref(), kind)?;
            for (labels, value) in series {
                let one = family.encode_family(labels)?;
                if metric.is_counter {
                    ConstCounter::new(*value).encode(one)?;
                } else {
                    ConstGauge::new(*value).encode(one)?;
                }
            }
        }
        Ok(())
    }
}

/// A value that is not too long and has no control characters.
fn bounded(value: &str) -> String {
    let mut value = qga_client::printable(value).replace('\t', " ");
    let end = (0..=VALUE_MAX.min(value.len())).rev().find(|end| value.is_char_boundary(*end));
    value.truncate(end.unwrap_or(0));
    value
}
