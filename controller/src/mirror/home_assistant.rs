//! The bridge to Home Assistant: one retained message per device, from which it makes entities of what the
//! mirror says anyway. Its rules are Home Assistant's "MQTT device discovery"; a snapshot of them, with its
//! source, is `tests/home_assistant/rules.json`.
//!
//! The message stands below `j/`, under the rules that hold for everything there, and a broker that Home
//! Assistant shares brings it to where it looks (`contrib/home-assistant/`). It only shows: there is no
//! topic by which it could order anything.

use fleetway_protocol::ids::{DeviceId, HardwareClass, ModelName, Version};
use serde_json::{Map, Value, json};

use super::{Message, keys};

/// A discovery message, bytes: a chunk's size, which brokers retain. Eight models with the longest names fit.
pub const BYTES_MAX: usize = 60 * 1024;

/// The bridge, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeAssistant {
    /// Root of all topics.
    pub root: String,
    /// Where the controller's page is, for a link on each device.
    pub page: Option<String>,
}

/// What is told of a device; when it changes, it is told again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Version of its agent, once it said so.
    pub agent: Option<Version>,
    /// What hardware it says that it is.
    pub hardware: Option<HardwareClass>,
    /// Models that it has, or had.
    pub models: Vec<ModelName>,
}

/// Where a device's message is.
pub fn topic(device: &DeviceId) -> String {
    format!("j/homeassistant/device/fleetway_{device}/config")
}

/// Takes a device back.
pub fn gone(device: &DeviceId) -> Message {
    Message { topic: topic(device), payload: Vec::new(), retain: true }
}

impl HomeAssistant {
    /// Tells of a device.
    pub fn announce(&self, device: &DeviceId, facts: &Facts) -> Message {
        let base = format!("{}j/{device}", self.root);
        let mut entities = Entities { device, base: &base, all: Map::new() };
        entities.of_the_machine();
        facts.models.iter().for_each(|model| entities.of_a_model(model));
        let mut about = json!({
            "identifiers": [format!("fleetway_{device}")],
            "name": device.as_str(),
            "manufacturer": "Fleetway",
        });
        let page = self.page.as_ref().map(|page| format!("{page}/devices/{device}"));
        for (key, value) in [
            ("sw_version", facts.agent.as_ref().map(|agent| agent.to_string())),
            ("model", facts.hardware.as_ref().map(|hardware| hardware.to_string())),
            ("configuration_url", page),
        ] {
            if let Some(value) = value {
                about[key] = value.into();
            }
        }
        let message = json!({
            "device": about,
            "origin": { "name": "Fleetway", "sw_version": env!("CARGO_PKG_VERSION") },
            "availability": [{
                "topic": format!("{base}/on"),
                "payload_available": "1",
                "payload_not_available": "0",
            }],
            "components": entities.all,
        });
        Message { topic: topic(device), payload: message.to_string().into_bytes(), retain: true }
    }
}

/// Components of one device that are being put together.
struct Entities<'a> {
    device: &'a DeviceId,
    base: &'a str,
    all: Map<String, Value>,
}

/// A key of the mirror as a sensor.
struct Sensor {
    key: &'static str,
    name: &'static str,
    /// What Home Assistant calls it; empty for none.
    class: &'static str,
    unit: &'static str,
    /// `measurement`, or `total_increasing`.
    state: &'static str,
    diagnostic: bool,
}

const fn sensor(
    key: &'static str,
    name: &'static str,
    class: &'static str,
    unit: &'static str,
) -> Sensor {
    Sensor { key, name, class, unit, state: "measurement", diagnostic: false }
}

const fn total(key: &'static str, name: &'static str, diagnostic: bool) -> Sensor {
    Sensor { key, name, class: "", unit: "", state: "total_increasing", diagnostic }
}

const fn diagnostic(of: Sensor) -> Sensor {
    Sensor { diagnostic: true, ..of }
}

/// Of a model, from its telemetry.
const MODEL: [Sensor; 5] = [
    total("infer_total", "requests", false),
    total("infer_err_total", "failed requests", false),
    sensor("lat_p50_ms", "latency p50", "duration", "ms"),
    sensor("lat_p99_ms", "latency p99", "duration", "ms"),
    sensor("confidence", "confidence", "", ""),
];
/// Of the machine.
const MACHINE: [Sensor; 5] = [
    sensor("temp_c", "Temperature", "temperature", "°C"),
    diagnostic(sensor("cpu_pct", "Processor", "", "%")),
    diagnostic(sensor("mem_free_mb", "Free memory", "data_size", "MB")),
    diagnostic(sensor("disk_free_mb", "Free disk", "data_size", "MB")),
    total("reports_lost_total", "Lost reports", true),
];

/// What Home Assistant shows of an update, from a state. Before there is a release, it is `none`.
const UPDATE: &str = "{% set now = value_json.version | default(value_json.release | default('none')) %}\
    {{ {'installed_version': now, \
    'latest_version': value_json.target_version | default(value_json.target_release | default(now)), \
    'in_progress': value_json.phase not in ['idle', 'held'], \
    'update_percentage': value_json.progress_pct | default(none)} | to_json }}";
/// What it is told that happened, from an event.
const EVENT: &str = "{{ {'event_type': value_json.kind, 'text': value_json.text, \
    'model': value_json.model | default(''), 'version': value_json.version | default(''), \
    'code': value_json.code | default('')} | to_json }}";
/// Kinds of events, as the mirror has them.
const EVENT_TYPES: [&str; 7] =
    ["started", "confirmed", "failed", "rolled_back", "removed", "refused", "reports_lost"];

/// A key's value. A late report is history, and what is not known is left out: both render to nothing,
/// which changes no entity.
fn live(key: &str) -> String {
    debug_assert!(
        keys::KINDS.iter().flat_map(|kind| kind.keys).any(|known| known.name == key),
        "{key} is no key of the mirror"
    );
    format!("{{{{ '' if value_json.late else value_json.{key} | default('') }}}}")
}

impl Entities<'_> {
    fn push(&mut self, id: &str, platform: &str, name: &str, topic: &str, more: Value) {
        let mut component = json!({
            "platform": platform,
            "unique_id": format!("fleetway_{}_{id}", self.device),
            "name": name,
            "state_topic": format!("{}/{topic}", self.base),
        });
        if let (Some(to), Value::Object(more)) = (component.as_object_mut(), more) {
            to.extend(more);
        }
        self.all.insert(id.to_owned(), component);
    }

    fn sensor(&mut self, id: &str, name: &str, topic: &str, of: &Sensor) {
        let mut more = json!({ "value_template": live(of.key), "state_class": of.state });
        for (key, value) in [("device_class", of.class), ("unit_of_measurement", of.unit)] {
            if !value.is_empty() {
                more[key] = value.into();
            }
        }
        if of.diagnostic {
            more["entity_category"] = "diagnostic".into();
        }
        self.push(id, "sensor", name, topic, more);
    }

    fn of_the_machine(&mut self) {
        for of in &MACHINE {
            self.sensor(of.key, of.name, "hw", of);
        }
        let more = json!({ "event_types": EVENT_TYPES, "value_template": EVENT });
        self.push("event", "event", "Updates", "ev", more);
    }

    fn of_a_model(&mut self, model: &ModelName) {
        let (state, telemetry) = (format!("st/{model}"), format!("tm/{model}"));
        let more = json!({
            "title": model.as_str(),
            "device_class": "firmware",
            "value_template": UPDATE,
        });
        self.push(&format!("{model}_update"), "update", model.as_str(), &state, more);
        let more = json!({
            "value_template": "{{ value_json.phase }}",
            "entity_category": "diagnostic",
        });
        self.push(&format!("{model}_phase"), "sensor", &format!("{model} phase"), &state, more);
        for of in &MODEL {
            let (id, name) = (format!("{model}_{}", of.key), format!("{model} {}", of.name));
            self.sensor(&id, &name, &telemetry, of);
        }
        let more = json!({
            "value_template": live("drift"),
            "payload_on": "1",
            "payload_off": "0",
            "device_class": "problem",
        });
        let name = format!("{model} drift");
        self.push(&format!("{model}_drift"), "binary_sensor", &name, &telemetry, more);
    }
}

#[cfg(test)]
#[path = "home_assistant_tests.rs"]
mod tests;
