//! The metadata as an author reads, changes and writes it.
//!
//! The client's types cannot be made by hand, on purpose: what it checked cannot be changed.
//! These can. A file is written in two steps, because signers may be other machines:
//! [`Signed::bytes`] gives what each of them signs, [`file()`] puts the signatures around it.

use std::collections::BTreeMap;

use fleetway_protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::json::{JsonError, canonical};
use crate::key::Key;

/// The version of the specification that our files are written to.
pub const SPEC_VERSION: &str = "1.0.34";

/// What every role says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// `root`, `timestamp`, `snapshot` or `targets`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// [`SPEC_VERSION`].
    pub spec_version: String,
    /// Rises with every change.
    pub version: u64,
    /// When it stops being good, as RFC 3339 text in whole seconds.
    pub expires: String,
}

impl Head {
    /// The head of a new file.
    ///
    /// # Errors
    /// If the time lies beyond the year 9999.
    pub fn new(kind: &str, version: u64, expires_s: u64) -> Result<Self, TimeError> {
        let head = Self {
            kind: kind.to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version,
            expires: time_text(expires_s)?,
        };
        Ok(head)
    }

    /// When it expires, Unix seconds; `None` if that is no time.
    pub fn expires_s(&self) -> Option<u64> {
        let time: jiff::Timestamp = self.expires.parse().ok()?;
        time.as_second().try_into().ok()
    }
}

/// A time that a file cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} s since 1970 is beyond the year 9999")]
pub struct TimeError(pub u64);

fn time_text(unix_s: u64) -> Result<String, TimeError> {
    let time = i64::try_from(unix_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.map(|time| time.to_string()).ok_or(TimeError(unix_s))
}

/// Who may sign for a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Ids of keys.
    pub keyids: Vec<String>,
    /// How many of them must.
    pub threshold: u8,
}

/// The trust anchor: who may sign for the four roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// What it says of itself.
    #[serde(flatten)]
    pub head: Head,
    /// Always true: files carry their version in their name.
    pub consistent_snapshot: bool,
    /// All keys by id.
    pub keys: BTreeMap<String, Key>,
    /// `root`, `timestamp`, `snapshot`, `targets`.
    pub roles: BTreeMap<String, RoleKeys>,
}

/// A file as another one pins it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its version.
    pub version: u64,
    /// Its length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its hashes by algorithm, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<BTreeMap<String, String>>,
}

impl Pin {
    /// Pins exactly these bytes.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        Self { version, length: Some(bytes.len() as u64), hashes: Some(sha256(Digest::of(bytes))) }
    }
}

fn sha256(digest: Digest) -> BTreeMap<String, String> {
    [("sha256".to_owned(), digest.to_string())].into()
}

/// Timestamp (pins `snapshot.json`) or snapshot (pins every targets file).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// What it says of itself.
    #[serde(flatten)]
    pub head: Head,
    /// File names without versions.
    pub meta: BTreeMap<String, Pin>,
}

/// A file that may be installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFile {
    /// Its length in bytes.
    pub length: u64,
    /// Its hashes by algorithm, hexadecimal.
    pub hashes: BTreeMap<String, String>,
    /// What else is signed about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
}

impl TargetFile {
    /// Names exactly the bytes with this digest and length.
    pub fn new(digest: Digest, length: u64, custom: Option<Value>) -> Self {
        Self { length, hashes: sha256(digest), custom }
    }
}

/// A team that may list targets under some paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegatedRole {
    /// Its name.
    pub name: String,
    /// Who may sign for it.
    #[serde(flatten)]
    pub keys: RoleKeys,
    /// Whether nobody after it is asked for these paths.
    pub terminating: bool,
    /// Patterns such as `digits/*`.
    pub paths: Vec<String>,
}

/// To whom targets are delegated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegations {
    /// Their keys by id.
    pub keys: BTreeMap<String, Key>,
    /// In the order in which they are asked.
    pub roles: Vec<DelegatedRole>,
}

/// What may be installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// What it says of itself.
    #[serde(flatten)]
    pub head: Head,
    /// Files by path.
    pub targets: BTreeMap<String, TargetFile>,
    /// Who else may say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Delegations>,
}

/// What is signed, with everything that its author wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Signed(Map<String, Value>);

impl Signed {
    /// A role, ready to be signed.
    ///
    /// # Errors
    /// If a `custom` holds a number with a fraction, which cannot be signed.
    pub fn new(role: &impl Serialize) -> Result<Self, JsonError> {
        match serde_json::to_value(role) {
            Ok(Value::Object(map)) => {
                let signed = Self(map);
                canonical(&Value::Object(signed.0.clone()))?;
                Ok(signed)
            }
            _ => Err(JsonError::Fraction),
        }
    }

    /// The bytes that every signature covers.
    pub fn bytes(&self) -> Vec<u8> {
        canonical(&Value::Object(self.0.clone())).expect("checked when it was made")
    }
}

/// A signature over [`Signed::bytes`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Signature {
    /// Id of the key ([`Key::id`]).
    pub keyid: String,
    /// 64 bytes in hexadecimal.
    pub sig: String,
}

/// The file: what is signed, and its signatures.
pub fn file(signed: &Signed, signatures: &[Signature]) -> Vec<u8> {
    let value = json!({ "signatures": signatures, "signed": signed.0 });
    serde_json::to_vec(&value).expect("text keys and plain values")
}

/// Why bytes are no metadata file.
#[derive(Debug, thiserror::Error)]
#[error("not a metadata file: {0}")]
pub struct ReadError(String);

/// Reads a file of one's own again: nothing is verified.
///
/// # Errors
/// [`ReadError`] says what is missing.
pub fn read<T: for<'a> Deserialize<'a>>(
    bytes: &[u8],
) -> Result<(T, Signed, Vec<Signature>), ReadError> {
    #[derive(Deserialize)]
    struct File {
        signed: Map<String, Value>,
        signatures: Vec<Signature>,
    }
    let wrong = |error: serde_json::Error| ReadError(error.to_string());
    let File { signed, signatures } = serde_json::from_slice(bytes).map_err(wrong)?;
    let role = T::deserialize(Value::Object(signed.clone())).map_err(wrong)?;
    let signed = Signed(signed);
    canonical(&Value::Object(signed.0.clone())).map_err(|error| ReadError(error.to_string()))?;
    Ok((role, signed, signatures))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_and_unknown_fields_stay_signed() {
        let head = Head::new("targets", 3, 1_800_000_000).expect("a time");
        assert_eq!(
            (head.expires.as_str(), head.expires_s()),
            ("2027-01-15T08:00:00Z", Some(1_800_000_000))
        );
        let file_of = TargetFile::new(Digest([1; 32]), 7, Some(json!({ "counter": 1 })));
        let targets = [("digits/v1".to_owned(), file_of)].into();
        let role = Targets { head, targets, delegations: None };
        let signed = Signed::new(&role).expect("whole numbers");
        let signature = Signature { keyid: "k".into(), sig: "00".into() };
        let bytes = file(&signed, std::slice::from_ref(&signature));
        let (again, same, signatures) = read::<Targets>(&bytes).expect("its own file");
        assert_eq!((again, same.bytes(), signatures), (role, signed.bytes(), vec![signature]));

        let text = String::from_utf8(bytes).expect("text");
        let more = text.replace("\"_type\"", "\"x-note\":\"by Ada\",\"_type\"");
        let (_, signed, _) = read::<Targets>(more.as_bytes()).expect("with a note");
        assert!(String::from_utf8(signed.bytes()).expect("text").contains("by Ada"));
        assert!(read::<Root>(more.as_bytes()).is_err());
        assert!(read::<Targets>(b"{}").is_err());
    }

    #[test]
    fn what_cannot_be_signed_is_refused() {
        let head = Head::new("targets", 1, 0).expect("a time");
        let file_of = TargetFile::new(Digest([1; 32]), 7, Some(json!({ "x": 0.5 })));
        let role = Targets { head, targets: [("a".to_owned(), file_of)].into(), delegations: None };
        assert_eq!(Signed::new(&role), Err(JsonError::Fraction));
        assert_eq!(Head::new("root", 1, u64::MAX), Err(TimeError(u64::MAX)));
    }
}
