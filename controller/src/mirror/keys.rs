//! Every key of every message, in one table: name, type, unit, meaning. The messages are built by it,
//! the shipped schemas and the page in `docs/telemetry/` are made from it.
//!
//! A key keeps its name, type and unit for ever; one that is not understood is a reason for a new key.

use serde_json::{Value, json};

/// Largest whole number: what a double, and so JavaScript, holds exactly.
pub(super) const INTEGER_MAX: u64 = (1 << 53) - 1;

/// What a value is. A key never changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A whole number from 0 on.
    Integer,
    /// Any number.
    Number,
    /// 0 or 1.
    Flag,
    /// A string.
    Text,
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// As it stands in the message; the unit is its end.
    pub name: &'static str,
    /// Of its value.
    pub kind: Type,
    /// Of its value, for people.
    pub unit: &'static str,
    /// Whether it is always there. Others are left out when they are not known.
    pub required: bool,
    /// In a sentence.
    pub meaning: &'static str,
}

/// One kind of message.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name, and the schema's.
    pub name: &'static str,
    /// Where it is published, below the root.
    pub topic: &'static str,
    /// Whether the broker keeps the last one.
    pub retained: bool,
    /// In a sentence.
    pub meaning: &'static str,
    /// Its keys, the ones that are always there first, then by importance: a message that would be too
    /// long loses its last ones.
    pub keys: &'static [Key],
}

const fn must(name: &'static str, kind: Type, unit: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, unit, required: true, meaning }
}

const fn may(name: &'static str, kind: Type, unit: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, unit, required: false, meaning }
}

use Type::{Flag, Integer, Number, Text};

const LATE: &str = "1: the report waited on the device's disk; it is history.";
const NUMBER: &str = "Number of the report among its device's; the same one twice is one report.";
const REPORTS: &str = "Telemetry reports that the device made, all kinds. Not in late reports.";
const DELIVERED: &str = "Of those, the ones that came, each counted once. Not in late reports.";
const LOST: &str = "Of those, the ones that will never come. Not in late reports.";
const DEVICE: Key = must("device", Text, "", "Id of the device.");
const MODEL: Key = must("model", Text, "", "Name of the model.");

/// `j/<device>/tm/<model>`.
pub const TELEMETRY: Kind = Kind {
    name: "telemetry",
    topic: "j/<device>/tm/<model>",
    retained: false,
    meaning: "How a model does, one message per report of its device.",
    keys: &[
        must("ts", Integer, "ms", "When the device made the report, Unix time by its clock."),
        DEVICE,
        MODEL,
        must("late", Flag, "0/1", LATE),
        must("number", Integer, "", NUMBER),
        must("release", Text, "", "The release that answered: first 12 digits of its digest."),
        must(
            "boot",
            Integer,
            "",
            "Number of the device's boot; counters of a load begin anew with it.",
        ),
        must("load_infer_total", Integer, "", "Requests since the engine loaded this release."),
        must("load_infer_err_total", Integer, "", "Failed requests since then."),
        may(
            "infer_total",
            Integer,
            "",
            "Requests over all loads and boots; never falls. Not in late reports.",
        ),
        may(
            "infer_err_total",
            Integer,
            "",
            "Failed requests over all loads and boots; never falls. Not in late reports.",
        ),
        may("version", Text, "", "Version of the release, if it is published here."),
        may("lat_p50_ms", Number, "ms", "Half of the answers since the load took no longer."),
        may("lat_p99_ms", Number, "ms", "99 of 100 took no longer."),
        may(
            "psi_max",
            Number,
            "",
            "Largest population stability index against the release's reference.",
        ),
        may("drift", Flag, "0/1", "1: a distance to the reference is above its bound."),
        may("confidence", Number, "0..1", "Mean confidence since the load."),
        may("top_class", Integer, "", "The class answered most often since the load."),
        may("top_class_pct", Number, "%", "Its share of the answers."),
        may("rss_mb", Number, "MB", "Resident memory of the agent, 10^6 bytes."),
    ],
};

/// `j/<device>/hw`.
pub const HOST: Kind = Kind {
    name: "host",
    topic: "j/<device>/hw",
    retained: false,
    meaning: "How a device's machine does, one message per report.",
    keys: &[
        must("ts", Integer, "ms", "When the device made the report, Unix time by its clock."),
        DEVICE,
        must("late", Flag, "0/1", LATE),
        must("number", Integer, "", NUMBER),
        may("cpu_pct", Number, "%", "Processor time in use since the report before."),
        may("mem_mb", Number, "MB", "Memory that there is, 10^6 bytes."),
        may("mem_free_mb", Number, "MB", "Memory that programs could still have."),
        may("temp_c", Number, "C", "The hottest sensor."),
        may("disk_mb", Number, "MB", "The disk of the agent's data."),
        may("disk_free_mb", Number, "MB", "Room on it."),
        may("uptime_s", Integer, "s", "Since the device's system started."),
        may("reports_total", Integer, "", REPORTS),
        may("reports_delivered_total", Integer, "", DELIVERED),
        may("reports_lost_total", Integer, "", LOST),
    ],
};

/// `j/<device>/st/<model>`.
pub const STATE: Kind = Kind {
    name: "state",
    topic: "j/<device>/st/<model>",
    retained: true,
    meaning: "What a device runs of a model and where an update is, whenever that changes.",
    keys: &[
        must("ts", Integer, "ms", "When the controller heard it, Unix time."),
        DEVICE,
        MODEL,
        must(
            "phase",
            Text,
            "",
            "idle, eligibility, download, verification, self_test, shadow, held, activation, probation, rollback or removal.",
        ),
        must("generation", Integer, "", "Number of the order that it is about."),
        may("release", Text, "", "The release that answers: first 12 digits of its digest."),
        may("version", Text, "", "Its version, if it is published here."),
        may("target_release", Text, "", "The release that the update works on."),
        may("target_version", Text, "", "Its version."),
        may("progress_pct", Number, "%", "Of a download."),
        may("waiting_code", Text, "", "What the current step waits for."),
        may(
            "result",
            Text,
            "",
            "How the last order ended: confirmed, failed, rolled_back or removed.",
        ),
        may("result_code", Text, "", "Why it failed or was rolled back."),
        may("rollout", Integer, "", "On behalf of which rollout that was."),
        may("floor", Integer, "", "Releases with a counter below are refused."),
        may("poisoned", Integer, "", "Releases remembered as bad."),
    ],
};

/// `j/<device>/ev`.
pub const EVENT: Kind = Kind {
    name: "event",
    topic: "j/<device>/ev",
    retained: false,
    meaning: "Something that happened once.",
    keys: &[
        must("ts", Integer, "ms", "When the controller heard of it, Unix time."),
        DEVICE,
        must(
            "kind",
            Text,
            "",
            "started, confirmed, failed, rolled_back, removed, refused (an order) or reports_lost.",
        ),
        must("text", Text, "", "One sentence for people; it may change."),
        may("model", Text, "", "Name of the model."),
        may("code", Text, "", "The reason; it does not change."),
        may("release", Text, "", "Which release: first 12 digits of its digest."),
        may("version", Text, "", "Its version."),
        may("rollout", Integer, "", "On behalf of which rollout."),
        may("generation", Integer, "", "Number of the order."),
        may("lost", Integer, "", "Reports lost since the last such event."),
    ],
};

/// `j/<device>/on`.
pub const ONLINE: Kind = Kind {
    name: "online",
    topic: "j/<device>/on",
    retained: true,
    meaning: "Whether a device is there: the payload is 1 or 0, nothing else.",
    keys: &[],
};

/// All kinds.
pub const KINDS: [&Kind; 5] = [&TELEMETRY, &HOST, &STATE, &EVENT, &ONLINE];

impl Kind {
    /// The JSON schema (2020-12) of its payload.
    pub fn schema(&self) -> Value {
        let mut schema = if self.keys.is_empty() {
            json!({ "enum": [0, 1] })
        } else {
            let of = |key: &Key| {
                let mut of = match key.kind {
                    Integer => json!({ "type": "integer", "minimum": 0, "maximum": INTEGER_MAX }),
                    Number => json!({ "type": "number" }),
                    Flag => json!({ "enum": [0, 1] }),
                    Text => json!({ "type": "string", "minLength": 1 }),
                };
                of["description"] = key.meaning.into();
                (key.name.to_owned(), of)
            };
            let required: Vec<_> =
                self.keys.iter().filter(|k| k.required).map(|k| k.name).collect();
            json!({
                "type": "object",
                "properties": self.keys.iter().map(of).collect::<serde_json::Map<_, _>>(),
                "required": required,
                "additionalProperties": false,
            })
        };
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
        schema["title"] = format!("Fleetway {}", self.name).into();
        schema["description"] = format!("{} Topic: <root>{}", self.meaning, self.topic).into();
        schema
    }

    /// Its keys as a table in Markdown.
    pub fn table(&self) -> String {
        let mut text =
            "| key | type | unit | always | meaning |\n|---|---|---|---|---|\n".to_owned();
        for Key { name, kind, unit, required, meaning } in self.keys {
            let kind = format!("{kind:?}").to_lowercase();
            let always = if *required { "yes" } else { "" };
            text.push_str(&format!("| `{name}` | {kind} | {unit} | {always} | {meaning} |\n"));
        }
        text
    }
}
