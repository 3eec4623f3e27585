//! What an operator types, configures, sends to the API, or brings from another machine.

use std::path::Path;

use fleetway_controller::attest::bundle::AttestationKey;
use fleetway_controller::audit::Head;
use fleetway_controller::keys;
use fleetway_controller::planner::{Selector, Size, check_label};
use fleetway_controller::trust::ceremony::{Detached, sign_files};
use fleetway_controller::trust::signer::{KeyRef, PlainFile};
use fleetway_protocol::ids::DeviceId;
use fleetway_protocol::keyset::Scope;
use serde::{Serialize, de::DeserializeOwned};

use super::shell::api::types::{DeviceAdd, DeviceEnroll, LabelEdits, RolloutRequest};
use super::shell::config::Config;
use super::shell::values::{self, LabelEdit, ReleaseName};
use crate::authority::key;

/// `fleetway.toml`. A person wrote it, so an error must name the file, and a way out.
pub(super) fn config(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    match Config::parse(text, Path::new("fleetway.toml")) {
        Ok(config) => {
            assert!(!config.names.is_empty() && config.enroll.certificate_life_s > 0);
            let _ = config.enroll_listen();
            true
        }
        Err(failure) => {
            assert!(failure.message.contains("fleetway.toml") && failure.mend.is_some());
            false
        }
    }
}

const CONFIG_SAMPLE: &[u8] = br#"names = ["fleet.example"]
broker = "mqtts://broker.example:8883"
advertise = "mqtts://fleet.example:8883"
dynamic_security = true
root = "fleetway/v1/"
clients_max = 9
[trust]
release_keys = ["keys/release.key.pub"]
release_threshold = 1
[blobs]
bytes_in_flight_max = 1048576
[enroll]
listen = "0.0.0.0:8884"
advertise = "https://fleet.example:8884"
certificate_life_s = 2592000
"#;

pub(super) fn config_samples() -> Vec<Vec<u8>> {
    let listen = "0.0.0.0:8883".parse().expect("an address");
    let names = ["fleet.example".to_owned()];
    let template =
        Config::template(&listen, Some(&listen), Some(&listen), &names, Some("mqtts://b:8883"));
    vec![template.into_bytes(), CONFIG_SAMPLE.to_vec()]
}

/// Everything with a grammar of its own on the command line: each is tried.
pub(super) fn values(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    if let Ok(size) = text.parse::<Size>() {
        assert_eq!(size.to_string().parse::<Size>().ok(), Some(size));
    }
    if let Ok(scope) = Scope::new(text) {
        assert_eq!(Scope::new(&scope.to_string()).ok(), Some(scope));
    }
    if let Ok(name) = text.parse::<ReleaseName>() {
        assert_eq!(name.to_string().parse::<ReleaseName>().ok(), Some(name));
    }
    if let Ok(head) = text.parse::<Head>() {
        assert_eq!(head.to_string().parse::<Head>().ok(), Some(head));
    }
    if let Ok(LabelEdit::Set(key, value)) = text.parse::<LabelEdit>() {
        assert!(check_label(&key, &value).is_ok());
    }
    if let Ok(seconds) = values::seconds(text) {
        assert_eq!(values::duration(text).map(|time| time.as_secs()), Ok(seconds.into()));
    }
    assert!(values::permille(text).unwrap_or(0) <= 1000);
    assert!(values::percent(text).unwrap_or(0) <= 100);
    let _ = (values::millis_as_us(text), values::bytes(text), values::label(text));
    let _ = text.parse::<KeyRef>();
    [
        text.parse::<Size>().is_ok(),
        text.parse::<ReleaseName>().is_ok(),
        values::duration(text).is_ok(),
        values::bytes(text).is_ok(),
        text.parse::<LabelEdit>().is_ok(),
    ]
    .contains(&true)
}

pub(super) fn values_samples() -> Vec<Vec<u8>> {
    ["25%", "3", "digits@v1", "1h30m", "500ms", "32KiB", "site=lab", "site-", "face-*", "0.5%"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}

/// Which devices: what is taken shows as its text, and means the same when it is read again.
pub(super) fn selector(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    let Ok(selector) = text.parse::<Selector>() else { return false };
    let again: Selector = selector.to_string().parse().expect("what was shown");
    assert_eq!(again, selector);
    let labels = [("site".to_owned(), "berlin".to_owned())].into();
    let id = DeviceId::new("cam-01").expect("an id");
    assert_eq!(again.matches(&id, &labels), selector.matches(&id, &labels));
    true
}

pub(super) fn selector_samples() -> Vec<Vec<u8>> {
    ["site=berlin,role in (cam, gate),!lab,floor notin (1)", "id=cam-01", "all", "a!=b,c"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}

fn request<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&value).expect("text keys and plain values");
    assert!(serde_json::from_slice::<T>(&written).is_ok());
    Some(value)
}

/// Every JSON body of the API, and the grammars inside of them.
pub(super) fn api(bytes: &[u8]) -> bool {
    let rollout = request::<RolloutRequest>(bytes);
    if let Some(rollout) = &rollout {
        for text in &rollout.phases {
            let _ = values(text.as_bytes());
        }
        let _ = rollout.selector.as_ref().is_some_and(|text| selector(text.as_bytes()));
    }
    let labels = [
        request::<DeviceAdd>(bytes).map(|add| add.labels),
        request::<DeviceEnroll>(bytes).map(|enroll| enroll.labels),
        request::<LabelEdits>(bytes).map(|edits| edits.set),
    ];
    for (key, value) in labels.iter().flatten().flatten() {
        let _ = check_label(key, value);
    }
    rollout.is_some() || labels.iter().any(Option::is_some)
}

pub(super) fn api_samples() -> Vec<Vec<u8>> {
    let rollout = RolloutRequest {
        model: "digits".into(),
        version: "v1".into(),
        selector: Some("site=lab".into()),
        phases: vec!["1".into(), "25%".into()],
        soak_s: Some(60),
        ..RolloutRequest::default()
    };
    vec![
        serde_json::to_vec(&rollout).expect("encodes"),
        br#"{"id":"cam-01","labels":{"site":"lab"},"key":null}"#.to_vec(),
        br#"{"set":{"site":"lab"},"unset":["floor"]}"#.to_vec(),
    ]
}

/// What comes back from another machine: signatures, and keys as text.
pub(super) fn ceremony(bytes: &[u8]) -> bool {
    let detached = Detached::read(bytes, "fuzz");
    if let Ok(detached) = &detached {
        assert_eq!(detached.fleetway_signatures, 1);
        detached.signatures.iter().for_each(|made| drop(made.key.public()));
    }
    // A staged file, as it arrives where only a key is.
    let files: Vec<_> = ["2.root.json", "2.keyset", "2.targets.json"]
        .map(|name| (name.to_owned(), bytes.to_vec()))
        .into();
    let signer = PlainFile::from(key(7));
    for file in files {
        if let Ok(made) = sign_files(&[file], &signer, "fuzz") {
            assert_eq!(made.signatures.len(), 1);
        }
    }
    let text = core::str::from_utf8(bytes).unwrap_or_default();
    let public = keys::parse_public(text);
    if let Some(key) = &public {
        assert_eq!(keys::parse_public(&keys::public_text(key)).as_ref(), Some(key));
    }
    let secret = keys::parse_secret(text);
    let attested = AttestationKey::from_pem(text);
    detached.is_ok() || public.is_some() || secret.is_some() || attested.is_ok()
}

pub(super) fn ceremony_samples() -> Vec<Vec<u8>> {
    let root = crate::authority::Authority::default().publish_root(&[]);
    let signer = PlainFile::from(key(7));
    let made = sign_files(&[("1.root.json".to_owned(), root)], &signer, "ada").expect("a root");
    let public = fleetway_protocol::envelope::PublicKey::of(&key(7));
    vec![
        serde_json::to_vec(&made).expect("encodes"),
        keys::public_text(&public).into_bytes(),
        keys::secret_text(&key(7)).into_bytes(),
    ]
}
