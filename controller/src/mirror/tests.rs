//! Messages against their table, the shipped schemas against the same, and the queue's bounds.
//! `FLEETWAY_BLESS=1` writes the shipped files anew.

use super::*;
use crate::mirror::keys::{KINDS, Kind, Type};
use fleetway_protocol::counters::Answer;
use fleetway_protocol::drift::{Reference, Watch, Watched};
use fleetway_protocol::health::HealthPolicy;
use fleetway_protocol::limits::{DEVICE_ID_BYTES_MAX, MODEL_NAME_BYTES_MAX, VERSION_BYTES_MAX};
use fleetway_protocol::report::{Progress, Stamp};
use serde_json::Value;
use std::path::PathBuf;

/// Whatever is known, as large as it gets.
struct Largest {
    device: DeviceId,
    model: ModelName,
    version: String,
    health: Health,
    telemetry: Telemetry,
    host: Host,
}

impl Largest {
    fn new() -> Self {
        let samples: Vec<f32> = (0..300).map(|n| n as f32).collect();
        let watched = Watched::from_sorted(Watch::Mean { input: 0 }, &samples).unwrap();
        let policy = HealthPolicy { psi_milli_max: 250, ..HealthPolicy::default() };
        let watched = [watched].into_iter().collect();
        let reference = Reference { watched, ..Reference::default() };
        let mut telemetry = Telemetry::new(Digest([0xab; 32]));
        let mut answer = Answer::ok(1_234_567, Some(63));
        answer.bins[0] = Some(9);
        answer.confidence = Some(Confidence(12_345));
        (0..600).for_each(|_| telemetry.counters.record(&answer));
        telemetry.counters.requests = u64::MAX;
        telemetry.counters.errors = u64::MAX;
        telemetry.stamp = Stamp { epoch: 1_800_000_000, seq: 1 };
        telemetry.numbered.number = 1 << 50;
        telemetry.numbered.time_s = u64::MAX;
        telemetry.rss_bytes = Some(123_456_789);
        let host = Host {
            stamp: Stamp::default(),
            numbered: Default::default(),
            uptime_s: Some(u64::MAX),
            cpu_permille: Some(999),
            memory_bytes: Some(u64::MAX),
            memory_available_bytes: Some(u64::MAX),
            temperature_milli_c: Some(-12_345),
            disk_bytes: Some(u64::MAX),
            disk_free_bytes: Some(u64::MAX),
        };
        Self {
            device: DeviceId::new(&"d".repeat(DEVICE_ID_BYTES_MAX)).unwrap(),
            model: ModelName::new(&"m".repeat(MODEL_NAME_BYTES_MAX)).unwrap(),
            version: "v".repeat(VERSION_BYTES_MAX),
            health: Health { policy, reference, ..Health::default() },
            telemetry,
            host,
        }
    }

    fn named(&self, digest: Digest) -> Named<'_> {
        Named { digest, version: Some(&self.version) }
    }

    fn telemetry(&self) -> Message {
        let most = u64::MAX;
        let facts = TelemetryFacts {
            release: self.named(self.telemetry.release),
            health: Some(&self.health),
            late: false,
            answers: Some(Sum { requests: most, errors: most }),
        };
        telemetry(&self.device, &self.model, &self.telemetry, &facts)
    }

    fn host(&self) -> Message {
        let most = u64::MAX;
        let reports = ReportTotals { produced: most, delivered: most, lost: most };
        host(&self.device, &self.host, false, Some(reports))
    }

    fn state(&self) -> Message {
        let release = Digest([1; 32]);
        let last = Outcome {
            release,
            rollout: u64::MAX,
            result: Ending::RolledBack(Reason::HealthCollapse),
            evidence: None,
        };
        let said = State {
            stamp: Stamp::default(),
            generation: u64::MAX,
            running: Some(release),
            phase: Phase::Download,
            target: Some(Digest([2; 32])),
            progress: Progress { have: 1, total: 3 },
            waiting: Some(Reason::Network),
            last: Some(last),
            floor: u64::MAX,
            poisoned: u8::MAX,
            poison_dropped: u32::MAX,
            held: None,
            shadow: None,
        };
        state(u64::MAX, &self.device, &self.model, &said, |digest| self.named(digest))
    }

    fn events(&self) -> [Message; 4] {
        let release = self.named(Digest([1; 32]));
        let outcome = Outcome {
            release: release.digest,
            rollout: u64::MAX,
            result: Ending::Failed(Reason::Golden),
            evidence: None,
        };
        [
            Event::Started(&self.model, release, u64::MAX),
            Event::Ended(&self.model, release, outcome),
            Event::Refused(u64::MAX, Reason::Expired),
            Event::ReportsLost(u64::MAX),
        ]
        .map(|found| event(u64::MAX, &self.device, found))
    }
}

fn fits(kind: &Kind, message: &Message) -> serde_json::Map<String, Value> {
    let text = String::from_utf8(message.payload.clone()).unwrap();
    assert!(text.len() <= BYTES_MAX, "{} bytes: {text}", text.len());
    let Value::Object(fields) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
    for (name, value) in &fields {
        let key = kind.keys.iter().find(|key| key.name == name).expect(name);
        let right = match key.kind {
            Type::Integer => value.as_u64().is_some_and(|n| n <= keys::INTEGER_MAX),
            Type::Number => value.is_number(),
            Type::Flag => value.as_u64().is_some_and(|n| n <= 1),
            Type::Text => value.as_str().is_some_and(|text| !text.is_empty()),
        };
        assert!(right, "{name} is {value}");
    }
    let missing: Vec<_> =
        kind.keys.iter().filter(|k| k.required && !fields.contains_key(k.name)).collect();
    assert!(missing.is_empty(), "{missing:?} in {text}");
    fields
}

#[test]
fn the_largest_messages_keep_their_bound_and_their_types() {
    let largest = Largest::new();
    fits(&TELEMETRY, &largest.telemetry());
    fits(&HOST, &largest.host());
    fits(&STATE, &largest.state());
    largest.events().iter().for_each(|message| drop(fits(&EVENT, message)));
}

#[test]
fn every_key_is_used_when_there_is_room() {
    let mut largest = Largest::new();
    largest.device = DeviceId::new("d").unwrap();
    largest.model = ModelName::new("m").unwrap();
    largest.version = "v".into();
    let small = |value: &mut u64| *value = 1;
    small(&mut largest.telemetry.counters.requests);
    small(&mut largest.telemetry.counters.errors);
    small(&mut largest.telemetry.numbered.number);
    small(&mut largest.telemetry.numbered.time_s);
    small(&mut largest.telemetry.stamp.epoch);
    let facts = TelemetryFacts {
        release: largest.named(largest.telemetry.release),
        health: Some(&largest.health),
        late: false,
        answers: Some(Sum { requests: 1, errors: 1 }),
    };
    let message = telemetry(&largest.device, &largest.model, &largest.telemetry, &facts);
    let mut seen = fits(&TELEMETRY, &message);
    seen.extend(fits(&HOST, &largest.host()));
    seen.extend(fits(&STATE, &largest.state()));
    largest.events().iter().for_each(|message| seen.extend(fits(&EVENT, message)));
    for key in KINDS.iter().flat_map(|kind| kind.keys) {
        assert!(seen.contains_key(key.name), "nothing ever says {}", key.name);
    }
}

#[test]
fn what_is_not_known_is_left_out() {
    let largest = Largest::new();
    let facts = TelemetryFacts {
        release: Named { digest: Digest([1; 32]), version: None },
        health: None,
        late: true,
        answers: None,
    };
    let silent = Telemetry::new(Digest([1; 32]));
    let message = telemetry(&largest.device, &largest.model, &silent, &facts);
    let said = fits(&TELEMETRY, &message);
    assert_eq!(said.len(), TELEMETRY.keys.iter().filter(|key| key.required).count());
    assert_eq!((said["late"].clone(), said["load_infer_total"].clone()), (1.into(), 0.into()));
    assert!(!message.retain);
}

#[test]
fn a_message_as_it_looks() {
    let device = DeviceId::new("cam-1").unwrap();
    let model = ModelName::new("digits").unwrap();
    let release = Named { digest: Digest([0x1a; 32]), version: Some("v2") };
    let outcome = Outcome {
        release: release.digest,
        rollout: 7,
        result: Ending::RolledBack(Reason::HealthCollapse),
        evidence: None,
    };
    let message = event(1_800_000_000, &device, Event::Ended(&model, release, outcome));
    let why = Reason::HealthCollapse;
    let (code, sentence) = (why.code(), why.to_string());
    let expected = format!(
        "{{\"ts\":1800000000000,\"device\":\"cam-1\",\"kind\":\"rolled_back\",\"text\":\"digits: release v2 \
         rolled back: {sentence}\",\"model\":\"digits\",\"code\":\"{code}\",\"release\":\"1a1a1a1a1a1a\",\
         \"version\":\"v2\",\"rollout\":7}}"
    );
    assert_eq!(String::from_utf8(message.payload).unwrap(), expected);
    assert_eq!(message.topic, "j/cam-1/ev");
    assert_eq!(online(&device, true).payload, b"1");
    let gone: Vec<_> = gone(&device, [model].iter()).collect();
    let topics: Vec<_> = gone.iter().map(|message| message.topic.as_str()).collect();
    assert_eq!(topics, ["j/cam-1/st/digits", "j/cam-1/on"]);
    assert!(gone.iter().all(|message| message.retain && message.payload.is_empty()));
}

#[test]
fn the_queue_is_bounded_and_keeps_the_newest_state() {
    let mut mirror = Mirror::default();
    let passing = |n: usize| Message { topic: "e".into(), payload: vec![n as u8], retain: false };
    let state =
        |topic: &str, n: u8| Message { topic: topic.into(), payload: vec![n], retain: true };
    (0..WAITING_MAX + 3).for_each(|n| mirror.push(passing(n)));
    for n in 0..100 {
        mirror.push(state("a", n));
        mirror.push(state("b", n));
    }
    assert_eq!(mirror.dropped(), 3);
    let first: Vec<_> = (0..4).filter_map(|_| mirror.pop()).collect();
    assert_eq!(first, [state("a", 99), passing(3), state("b", 99), passing(4)]);
    assert_eq!(std::iter::from_fn(|| mirror.pop()).count(), WAITING_MAX - 2);
}

fn shipped() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/telemetry")
}

/// The files in `docs/telemetry/` are what the table says.
#[test]
fn the_shipped_schemas_and_tables_are_those_of_the_code() {
    let bless = std::env::var_os("FLEETWAY_BLESS").is_some();
    let page = shipped().join("README.md");
    let mut text = std::fs::read_to_string(&page).unwrap();
    for kind in KINDS {
        let path = shipped().join(format!("{}.schema.json", kind.name));
        let schema = serde_json::to_string_pretty(&kind.schema()).unwrap() + "\n";
        if bless {
            std::fs::write(&path, &schema).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == schema, "{}: run this test with FLEETWAY_BLESS=1", path.display());
        if kind.keys.is_empty() {
            continue;
        }
        let (begin, end) =
            (format!("<!-- {} -->\n", kind.name), format!("<!-- end of {} -->", kind.name));
        let from = text.find(&begin).expect(&begin) + begin.len();
        let to = text.find(&end).expect(&end);
        if bless {
            text.replace_range(from..to, &kind.table());
            std::fs::write(&page, &text).unwrap();
        } else {
            assert!(text[from..to] == kind.table(), "{}: FLEETWAY_BLESS=1", page.display());
        }
    }
}

/// Whoever reads the table knows every word that a state can say.
#[test]
fn every_phase_stands_in_the_table() {
    let key = STATE.keys.iter().find(|key| key.name == "phase").expect("a phase");
    let words: Vec<_> = key.meaning.trim_end_matches('.').split([',', ' ']).collect();
    for phase in Phase::ALL {
        assert!(words.contains(&phase.code()), "{phase:?} is missing: {}", key.meaning);
    }
}
