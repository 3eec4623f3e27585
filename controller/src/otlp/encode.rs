//! Metrics as an OTLP request.

use prometheus_client::registry::Unit;

use super::messages::{
    AnyValue, Buckets, CUMULATIVE, Data, ExponentialHistogram, ExportRequest, Gauge,
    HistogramPoint, KeyValue, Metric as MetricMessage, Number, NumberPoint, Resource,
    ResourceMetrics, Scope, ScopeMetrics, Sum,
};
use crate::fleet::Answered;
use crate::metrics::{Gathered, Labels, Metric, Value};

/// Buckets per doubling of [`fleetway_protocol::histogram::Histogram`], as a power of two.
const SCALE: i32 = 3;
/// Our bucket `i` holds what lies above `2^((i-1)/8)` and up to `2^(i/8)` microseconds: the bucket `i - 1` of
/// OpenTelemetry at scale 3. The first one also has latencies that were measured as 0.
const FIRST_BUCKET: i32 = -1;

/// Who says it, and when.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Attributes of the resource, `service.name` among them.
    pub resource: &'a [(String, String)],
    /// Since when it is counted, Unix seconds.
    pub started_s: u64,
    /// Unix seconds.
    pub now_s: u64,
}

/// All of it in one request.
pub fn request(metrics: &Gathered, origin: &Origin<'_>) -> ExportRequest {
    let attributes = origin.resource.iter().map(|(key, value)| text(key, value)).collect();
    let scope = Scope { name: "fleetway".into(), version: env!("CARGO_PKG_VERSION").into() };
    let metrics = metrics.0.iter().filter_map(|metric| message(metric, origin)).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics }];
    let resource = Some(Resource { attributes });
    ExportRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics }] }
}

/// Nothing of a metric without samples.
fn message(metric: &Metric, origin: &Origin<'_>) -> Option<MetricMessage> {
    let unit = match &metric.unit {
        Some(Unit::Seconds) => "s",
        _ => "",
    };
    let (data, unit) = match metric.samples.first()?.1 {
        Value::Gauge(_) => (Data::Gauge(Gauge { data_points: numbers(metric, origin) }), unit),
        Value::Counter(_) => {
            let data_points = numbers(metric, origin);
            let sum = Sum { data_points, aggregation_temporality: CUMULATIVE, is_monotonic: true };
            (Data::Sum(sum), unit)
        }
        Value::Latency(_) => {
            let point = |(labels, value): &(Labels, Value)| match value {
                Value::Latency(answered) => Some(histogram(labels, answered, origin)),
                _ => None,
            };
            let data_points = metric.samples.iter().filter_map(point).collect();
            let of = ExponentialHistogram { data_points, aggregation_temporality: CUMULATIVE };
            (Data::ExponentialHistogram(of), "us")
        }
    };
    let (name, description) = (metric.name.to_owned(), metric.help.to_owned());
    Some(MetricMessage { name, description, unit: unit.to_owned(), data: Some(data) })
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { string_value: Some(value.to_owned()) };
    KeyValue { key: key.to_owned(), value: Some(value) }
}

fn nanos(seconds: u64) -> u64 {
    seconds.saturating_mul(1_000_000_000)
}

fn attributes(labels: &Labels) -> Vec<KeyValue> {
    labels.iter().map(|(key, value)| text(key, value)).collect()
}

fn numbers(metric: &Metric, origin: &Origin<'_>) -> Vec<NumberPoint> {
    let point = |(labels, value): &(Labels, Value)| {
        let (start_s, number) = match value {
            Value::Gauge(value) => (0, Number::AsDouble(*value)),
            Value::Counter(value) => {
                (origin.started_s, Number::AsInt(i64::try_from(*value).unwrap_or(i64::MAX)))
            }
            Value::Latency(_) => return None,
        };
        Some(NumberPoint {
            attributes: attributes(labels),
            start_time_unix_nano: nanos(start_s),
            time_unix_nano: nanos(origin.now_s),
            value: Some(number),
        })
    };
    metric.samples.iter().filter_map(point).collect()
}

fn histogram(labels: &Labels, answered: &Answered, origin: &Origin<'_>) -> HistogramPoint {
    let buckets = &answered.latency[..];
    let used = buckets.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
    HistogramPoint {
        attributes: attributes(labels),
        start_time_unix_nano: nanos(origin.started_s),
        time_unix_nano: nanos(origin.now_s),
        count: buckets.iter().sum(),
        sum: Some(answered.latency_sum_us() as f64),
        scale: SCALE,
        zero_count: 0,
        positive: Some(Buckets { offset: FIRST_BUCKET, bucket_counts: buckets[..used].to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetway_protocol::histogram::Histogram;

    /// Of every latency: OpenTelemetry's formula finds the bucket that ours is sent as.
    #[test]
    fn buckets_are_those_of_opentelemetry() {
        let index = |us: u64| ((us as f64).log2() * f64::from(1 << SCALE)).ceil() as i32 - 1;
        for us in (1..5_000).chain([1 << 20, 3 << 20, (1 << 26) + 1]) {
            let mut histogram = Histogram::new();
            histogram.record(us);
            let mut answered = Answered::default();
            let counts = histogram.counts().iter().map(|count| u64::from(*count));
            answered.latency.iter_mut().zip(counts).for_each(|(to, count)| *to = count);
            let origin = Origin { resource: &[], started_s: 1, now_s: 2 };
            let point = super::histogram(&Labels::new(), &answered, &origin);
            let sent = point.positive.unwrap();
            let at = sent.bucket_counts.iter().position(|count| *count == 1).unwrap();
            assert_eq!(sent.offset + at as i32, index(us), "{us} us");
            assert_eq!((at + 1, point.count), (sent.bucket_counts.len(), 1));
        }
    }
}
