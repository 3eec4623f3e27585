//! Discovery messages against the snapshot of Home Assistant's rules, at their largest, and against the keys
//! and topics of the mirror. Home Assistant itself reads them where it is installed (`e2e_dashboards`).

use super::*;
use fleetway_protocol::limits::{
    DEVICE_ID_BYTES_MAX, HARDWARE_BYTES_MAX, MODEL_NAME_BYTES_MAX, MODELS_PER_DEVICE_MAX,
    VERSION_BYTES_MAX,
};
use fleetway_protocol::topics::ROOT_BYTES_MAX;
use std::collections::BTreeSet;

const RULES: &str = include_str!("../../../tests/home_assistant/rules.json");

fn bridge() -> HomeAssistant {
    HomeAssistant { root: "fleetway/v1/".into(), page: Some("https://fleet.example:8885".into()) }
}

fn facts(models: &[&str]) -> Facts {
    Facts {
        agent: Version::new("0.1.0").ok(),
        hardware: HardwareClass::new("pi-5").ok(),
        models: models.iter().map(|model| ModelName::new(model).unwrap()).collect(),
    }
}

fn read(message: &Message) -> Value {
    assert!(message.retain && message.payload.len() <= BYTES_MAX, "{}", message.payload.len());
    serde_json::from_slice(&message.payload).unwrap()
}

fn words(rules: &Value) -> BTreeSet<&str> {
    rules.as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

/// What is wrong with `object` by one of the snapshot's schemas.
fn wrong(object: &Value, schema: &Value) -> Vec<String> {
    let keys: BTreeSet<_> =
        object.as_object().expect("an object").keys().map(String::as_str).collect();
    let (required, known) = (words(&schema["required"]), words(&schema["known"]));
    let missing = required.difference(&keys).map(|key| format!("no {key}"));
    missing.chain(keys.difference(&known).map(|key| format!("{key} is unknown"))).collect()
}

/// What is wrong with a component beside its keys.
fn wrong_values(component: &Value, rules: &Value) -> Vec<String> {
    let platform = component["platform"].as_str().unwrap_or_default();
    let classes = &rules["device_classes"][platform];
    let mut found = Vec::new();
    if let Some(class) = component["device_class"].as_str() {
        if !words(classes).contains(class) {
            found.push(format!("{class} is no class of {platform}"));
        }
        let units = &rules["units"][class];
        let unit = component["unit_of_measurement"].as_str();
        if !units.is_null() && !unit.is_some_and(|unit| words(units).contains(unit)) {
            found.push(format!("{unit:?} is no unit of {class}"));
        }
    }
    for (key, allowed) in [("state_class", "state_classes"), ("entity_category", "categories")] {
        if component[key].as_str().is_some_and(|value| !words(&rules[allowed]).contains(value)) {
            found.push(format!("{key}: {}", component[key]));
        }
    }
    found
}

fn check(message: &Value) -> Vec<String> {
    let rules: Value = serde_json::from_str(RULES).unwrap();
    let mut found = wrong(message, &rules["discovery"]);
    found.extend(wrong(&message["device"], &rules["device"]));
    found.extend(wrong(&message["origin"], &rules["origin"]));
    for available in message["availability"].as_array().into_iter().flatten() {
        found.extend(wrong(available, &rules["availability"]));
    }
    let mut ids = BTreeSet::new();
    for component in message["components"].as_object().expect("components").values() {
        let platform = component["platform"].as_str().unwrap_or_default();
        let schema = &rules["platforms"][platform];
        if schema.is_null() {
            found.push(format!("{platform:?} is no platform of the snapshot"));
            continue;
        }
        found.extend(wrong(component, schema));
        found.extend(wrong_values(component, &rules));
        if !ids.insert(component["unique_id"].as_str()) {
            found.push(format!("{} twice", component["unique_id"]));
        }
    }
    found
}

#[test]
fn a_message_is_as_home_assistant_wants_it() {
    let device = DeviceId::new("cam-1").unwrap();
    let message = bridge().announce(&device, &facts(&["digits", "kws"]));
    assert_eq!(message.topic, "j/homeassistant/device/fleetway_cam-1/config");
    let said = read(&message);
    assert_eq!(check(&said), [""; 0]);
    assert_eq!(said["device"]["configuration_url"], "https://fleet.example:8885/devices/cam-1");
    let update = &said["components"]["digits_update"];
    assert_eq!(update["state_topic"], "fleetway/v1/j/cam-1/st/digits");
    assert!(!message.payload.windows(14).any(|bytes| bytes == b"command_topic\""), "it only shows");
    // Before anything is known of it.
    let nothing = Facts { agent: None, hardware: None, models: Vec::new() };
    let plain = HomeAssistant { page: None, ..bridge() };
    assert_eq!(check(&read(&plain.announce(&device, &nothing))), [""; 0]);
    assert!(gone(&device).payload.is_empty() && gone(&device).topic == message.topic);
}

/// The check itself can say no.
#[test]
fn a_message_that_home_assistant_would_refuse_is_found() {
    let device = DeviceId::new("cam-1").unwrap();
    let good = read(&bridge().announce(&device, &facts(&["digits"])));
    for (at, value, expected) in [
        ("/device/colour", json!("red"), "colour is unknown"),
        ("/components/temp_c/device_class", json!("heat"), "heat is no class"),
        ("/components/temp_c/unit_of_measurement", json!("ms"), "no unit of temperature"),
        ("/components/temp_c/state_class", json!("total?"), "state_class"),
        ("/components/temp_c/platform", json!("thermometer"), "no platform"),
        ("/components/cpu_pct/unique_id", json!("fleetway_cam-1_temp_c"), "twice"),
    ] {
        let mut bad = good.clone();
        let (object, key) = at.rsplit_once('/').unwrap();
        bad.pointer_mut(object).unwrap()[key] = value;
        let found = check(&bad);
        assert!(found.iter().any(|what| what.contains(expected)), "{at}: {found:?}");
    }
    let mut bad = good;
    bad.as_object_mut().unwrap().remove("origin");
    assert!(
        check(&json!({ "origin": {}, "device": bad["device"], "components": {} }))
            .contains(&"no name".into())
    );
}

#[test]
fn the_largest_message_keeps_its_bound() {
    let most = |n: usize| format!("{n}{}", "m".repeat(MODEL_NAME_BYTES_MAX - 1));
    let facts = Facts {
        agent: Version::new(&"v".repeat(VERSION_BYTES_MAX)).ok(),
        hardware: HardwareClass::new(&"h".repeat(HARDWARE_BYTES_MAX)).ok(),
        models: (0..MODELS_PER_DEVICE_MAX).map(|n| ModelName::new(&most(n)).unwrap()).collect(),
    };
    let device = DeviceId::new(&"d".repeat(DEVICE_ID_BYTES_MAX)).unwrap();
    let bridge = HomeAssistant { root: "r".repeat(ROOT_BYTES_MAX - 1) + "/", ..bridge() };
    assert_eq!(check(&read(&bridge.announce(&device, &facts))), [""; 0]);
}

/// Every kind of event of the mirror, and only those.
#[test]
fn kinds_of_events_are_those_of_the_mirror() {
    let key = keys::EVENT.keys.iter().find(|key| key.name == "kind").unwrap();
    let meant = key.meaning.replace("(an order) or ", ", ").replace('.', "");
    let meant: Vec<_> = meant.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(meant, EVENT_TYPES);
}
