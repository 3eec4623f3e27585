//! `/metrics` for Prometheus, in OpenMetrics text: what the fleet is, in numbers. The same is pushed by
//! `serve/otlp.rs`.
//!
//! No series per device: ten thousand devices times some numbers would be a burden on every scrape.
//! Who wants some of them asks for those: `/metrics/devices?match=site=lab`, at most
//! [`DEVICES_MAX`]. Names are `fleet_*` with base units; counters only rise while the controller runs.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use fleetway_controller::fleet::{Answered, DeviceView as Device, Fleet};
use fleetway_controller::metrics::{Gathered, Labels, Value, openmetrics};
use prometheus_client::registry::Unit;
use schemars::JsonSchema;
use serde::Deserialize;

use super::devices::selector;
use super::extract::Params;
use super::failure::Failure;
use crate::serve::Running;

/// Most devices with series of their own.
const DEVICES_MAX: usize = 1_000;

fn label(name: &'static str, value: impl Into<String>) -> Labels {
    vec![(name, value.into())]
}

fn tally<K: Ord>(keys: impl IntoIterator<Item = K>) -> BTreeMap<K, u64> {
    let mut tally = BTreeMap::new();
    for key in keys {
        *tally.entry(key).or_default() += 1;
    }
    tally
}

/// What the fleet's thread says.
fn fleet(fleet: &Fleet, now_s: u64) -> Gathered {
    let mut all = Gathered::default();
    let devices = fleet.devices();
    let online = devices.iter().filter(|device| device.online).count();
    let states = [("online", online), ("offline", devices.len() - online)];
    let gauge = |(state, count): (&str, usize)| (label("state", state), Value::Gauge(count as f64));
    all.push("fleet_devices", "Devices of the fleet", None, states.map(gauge).into());
    let rollouts = fleet.rollouts(now_s);
    let words = tally(rollouts.iter().map(|rollout| rollout.state.word()));
    let word = |(word, count): (&str, u64)| (label("state", word), Value::Gauge(count as f64));
    all.push(
        "fleet_rollouts",
        "Rollouts by their state",
        None,
        words.into_iter().map(word).collect(),
    );
    let mut samples = Vec::new();
    for rollout in rollouts.iter().filter(|rollout| rollout.state.is_open()) {
        let counts = super::view::rollout_summary(fleet, rollout).counts;
        for (state, count) in [
            ("waiting", counts.waiting),
            ("moving", counts.moving),
            ("silent", counts.silent),
            ("confirmed", counts.confirmed),
            ("failed", counts.failed),
        ] {
            let mut labels = label("rollout", rollout.id.to_string());
            labels.push(("state", state.into()));
            samples.push((labels, Value::Gauge(f64::from(count))));
        }
    }
    all.push(
        "fleet_rollout_devices",
        "Devices of each open rollout by where they are",
        None,
        samples,
    );
    releases(fleet, &mut all);
    all.counter("fleet_orders_resent", "Orders sent again because nobody answered", fleet.resent());
    let (mut delivered, mut lost) = (0, 0);
    for device in &devices {
        delivered += device.reports.delivered;
        lost += device.reports.lost;
    }
    all.gauge(
        "fleet_telemetry_reports_delivered",
        "Telemetry reports that came, of devices there are",
        delivered,
    );
    all.gauge(
        "fleet_telemetry_reports_lost",
        "Telemetry reports that will never come, of devices there are",
        lost,
    );
    all.gauge(
        "fleet_audit_lines",
        "Number of the newest line of the audit log",
        fleet.audit().head.seq,
    );
    all
}

/// What releases answered.
fn releases(fleet: &Fleet, all: &mut Gathered) {
    let named = fleet.answered().map(|(model, release, answered)| {
        let version = fleet.release(release).map(|r| r.manifest.version.to_string());
        let version = version.unwrap_or_else(|| format!("{release:.12}"));
        let labels = vec![("model", model.to_string()), ("version", version)];
        (labels, *release, answered)
    });
    let named: Vec<_> = named.collect();
    let each = |value: fn(&Answered) -> Value| -> Vec<_> {
        named.iter().map(|(labels, _, answered)| (labels.clone(), value(answered))).collect()
    };
    all.push(
        "fleet_model_requests",
        "Requests, failed ones included, as devices report them",
        None,
        each(|a| Value::Counter(a.requests)),
    );
    all.push(
        "fleet_model_errors",
        "Failed requests, as devices report them",
        None,
        each(|a| Value::Counter(a.errors)),
    );
    let help =
        "Latency of answers; the sum is taken from the buckets' bounds, at most 9.1 % too high";
    all.push(
        "fleet_model_infer_latency",
        help,
        Some(Unit::Seconds),
        each(|a| Value::Latency(a.clone())),
    );
    let running = named.iter().map(|(labels, release, _)| {
        (labels.clone(), Value::Gauge(fleet.counted(release).0 as f64))
    });
    all.push(
        "fleet_model_devices",
        "Devices that last reported the release",
        None,
        running.collect(),
    );
}

/// What the links say.
fn around(running: &Running, all: &mut Gathered) {
    let link = running.link();
    all.gauge("fleet_mqtt_up", "Whether the controller is connected to the broker", link.up.into());
    all.gauge("fleet_mqtt_outbox_messages", "Messages that wait to be sent", link.outbox_messages);
    all.counter("fleet_mqtt_connects", "Connections made to the broker", link.connects);
    all.counter("fleet_mqtt_messages_in", "Messages received", link.messages_in);
    all.counter("fleet_mqtt_messages_out", "Messages sent", link.messages_out);
    let blobs = running.blobs_view();
    all.gauge(
        "fleet_blob_pieces_waiting",
        "Pieces of models that the broker does not have yet",
        blobs.pieces_waiting,
    );
    all.counter("fleet_blob_bytes_out", "Bytes of models sent", blobs.bytes_out);
    let started = Value::Gauge(running.started_s as f64);
    let help = "When the controller started, Unix time";
    all.push("fleet_start_time", help, Some(Unit::Seconds), vec![(Vec::new(), started)]);
    let version = label("version", env!("CARGO_PKG_VERSION"));
    all.push("fleet_build", "The controller's version", None, vec![(version, Value::Gauge(1.0))]);
}

fn text(all: Gathered) -> Result<Response, Failure> {
    let text = openmetrics::text(all).map_err(|e| Failure::error(format!("metrics: {e}")))?;
    Ok(([(header::CONTENT_TYPE, openmetrics::CONTENT_TYPE)], text).into_response())
}

/// Everything there is to count, but for single devices.
///
/// # Errors
/// If the controller stops.
pub(crate) async fn gather(running: &Running) -> Result<Gathered, Failure> {
    let mut gathered = running.core.ask(|all, now_s| fleet(all, now_s)).await?;
    around(running, &mut gathered);
    Ok(gathered)
}

/// `GET /metrics`.
pub(super) async fn all(State(running): State<Running>) -> Result<Response, Failure> {
    text(gather(&running).await?)
}

/// Which devices.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct MatchParams {
    /// Devices with these labels.
    #[serde(rename = "match")]
    selector: String,
}

/// `GET /metrics/devices?match=`.
pub(super) async fn devices(
    State(running): State<Running>,
    Params(asked): Params<MatchParams>,
) -> Result<Response, Failure> {
    let selector = selector(Some(&asked.selector))?;
    let gathered = running.core.ask(move |fleet, _| {
        let all = fleet.devices().into_iter();
        let chosen: Vec<_> = all.filter(|d| selector.matches(&d.target())).collect();
        if chosen.len() > DEVICES_MAX {
            let count = chosen.len();
            return Err(Failure::usage(format!(
                "{count} devices match, at most {DEVICES_MAX} may"
            ))
            .mend("ask for fewer: a label more in `match`"));
        }
        let mut gathered = Gathered::default();
        let each = |value: fn(&Device) -> Option<f64>| -> Vec<_> {
            let sample =
                |d: &Device| Some((label("device", d.id.to_string()), Value::Gauge(value(d)?)));
            chosen.iter().filter_map(sample).collect()
        };
        gathered.push(
            "fleet_device_online",
            "Whether the device is there",
            None,
            each(|d| Some(f64::from(u8::from(d.online)))),
        );
        let heard = each(|d| d.heard_s.map(|heard_s| heard_s as f64));
        gathered.push(
            "fleet_device_heard_time",
            "When it was last heard, Unix time",
            Some(Unit::Seconds),
            heard,
        );
        let lost = each(|d| Some(d.reports.lost as f64));
        gathered.push(
            "fleet_device_reports_lost",
            "Its telemetry reports that will never come",
            None,
            lost,
        );
        Ok(gathered)
    });
    text(gathered.await??)
}
