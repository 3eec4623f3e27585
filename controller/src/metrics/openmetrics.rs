//! Metrics as OpenMetrics text, for Prometheus and what reads like it.

use fleetway_protocol::histogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{Gathered, Labels, Metric, Value};
use crate::fleet::Answered;

/// What the text is, for HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Every eighth bucket of the fleet's histogram is one of Prometheus': powers of two of a microsecond.
const BUCKET_STEP: usize = 8;

/// All of it as text.
///
/// # Errors
/// If the encoder refuses a name.
pub fn text(all: Gathered) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(all));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        for Metric { name, help, unit, samples } in &self.0 {
            let kind = match samples.first() {
                Some((_, Value::Counter(_))) => MetricType::Counter,
                Some((_, Value::Latency(_))) => MetricType::Histogram,
                _ => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            for (labels, value) in samples {
                value.encode(metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        match self {
            Self::Gauge(value) => ConstGauge::new(*value).encode(encoder),
            Self::Counter(value) => ConstCounter::new(*value).encode(encoder),
            Self::Latency(answered) => {
                let sum = answered.latency_sum_us() as f64 / 1e6;
                let buckets = buckets(answered);
                let count = answered.latency.iter().sum();
                encoder.encode_histogram::<Labels>(sum, count, &buckets, None)
            }
        }
    }
}

/// Prometheus' buckets, each with what is in it alone; the last is `+Inf`, without which no quantile can be
/// taken.
fn buckets(answered: &Answered) -> Vec<(f64, u64)> {
    let mut buckets = Vec::new();
    let mut inside = 0;
    for (at, count) in answered.latency.iter().enumerate() {
        inside += count;
        if at % BUCKET_STEP == 0 {
            buckets.push((Histogram::bound_us(at) as f64 / 1e6, std::mem::take(&mut inside)));
        }
    }
    buckets.push((f64::INFINITY, inside));
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Unit;

    #[test]
    fn a_histogram_ends_in_everything() {
        let mut answered = Answered::default();
        for at in [0, 8, 9] {
            answered.latency[at] = 1;
        }
        let mut all = Gathered::default();
        let labels: Labels = vec![("model", "digits".into())];
        all.push("l", "Latency", Some(Unit::Seconds), vec![(labels, Value::Latency(answered))]);
        let text = text(all).unwrap();
        for line in [
            "l_seconds_count{model=\"digits\"} 3",
            "l_seconds_bucket{le=\"0.000001\",model=\"digits\"} 1",
            "l_seconds_bucket{le=\"0.000002\",model=\"digits\"} 2",
            "l_seconds_bucket{le=\"+Inf\",model=\"digits\"} 3",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
    }
}
