//! From a message to a report that may be believed: whose it is, and what it says.
//!
//! In this order: the topic is one of ours; the message is a signed report; the signature is
//! the enrolled key's, over this very topic, of this fleet; and only then the report itself is
//! decoded. Each check has a name under which its refusals are counted. How fresh the report
//! is, and whether the device still has that key, the fleet decides (`fleet/reports.rs`).

use fleetway_controller::broker::Gate;
use fleetway_controller::fleet::Ignored;
use fleetway_controller::pki::DeviceKey;
use fleetway_protocol::codec::{self, DecodeError};
use fleetway_protocol::ids::{DeviceId, Digest, ModelName};
use fleetway_protocol::limits::REPORT_BYTES_MAX;
use fleetway_protocol::report::{Ack, Host, Nonce, Presence, State, Telemetry, Want};
use fleetway_protocol::signed::{ReportError, SignedReport};
use fleetway_protocol::telemetry::Numbered;
use fleetway_protocol::topics::Topic;

/// A device's report.
#[derive(Debug, PartialEq)]
pub(super) struct Report {
    /// Whose.
    pub(super) device: DeviceId,
    /// Digest of the key that verified it; `None` if the device has enrolled none.
    pub(super) key: Option<Digest>,
    /// What it says.
    pub(super) said: Said,
}

/// What a report says.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    /// It is there, or not.
    Presence(Presence),
    /// What it runs.
    State(ModelName, Box<State>),
    /// How it does.
    Telemetry(ModelName, Box<Telemetry>),
    /// How its machine does.
    Host(Host),
    /// Its answer to an order.
    Ack(Ack),
    /// Chunks that it asks for.
    Want(Want),
    /// What its next order must carry.
    Nonce(Nonce),
}

/// Why a message is no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Nobody of ours says anything there.
    #[error("its topic is none of ours")]
    Topic,
    /// Not the device's own words.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Its own words, and not to be understood: another version of the agent.
    #[error("what it says cannot be read: {0}")]
    Body(#[from] DecodeError),
}

impl Refused {
    /// The name under which it is counted.
    pub(super) fn check(self) -> &'static str {
        match self {
            Self::Topic => "report topic",
            Self::Report(ReportError::Decode(_)) => "report decode",
            Self::Report(ReportError::Unsigned) => "report unsigned",
            Self::Report(ReportError::Algorithm(_)) => "report algorithm",
            Self::Report(ReportError::Signature) => "report signature",
            Self::Body(_) => "report body",
        }
    }
}

/// The fleet's own checks under their names; one that refused nothing is left out.
pub(super) fn ignored(ignored: &Ignored) -> impl Iterator<Item = (&'static str, u64)> {
    let Ignored { unknown_device, old, other_key, other_order, too_many_models, revoked } =
        *ignored;
    [
        ("report device", unknown_device),
        ("report revoked", revoked),
        ("report key", other_key),
        ("report old", old),
        ("report order", other_order),
        ("report models", too_many_models),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
}

/// Reads a message; `None` if it is our own, or a cleared retained one.
pub(super) fn read(
    root: &str,
    ca: &Digest,
    gate: &Gate,
    topic: &str,
    payload: &[u8],
) -> Result<Option<Report>, Refused> {
    let topic = Topic::parse(root, topic).ok_or(Refused::Topic)?;
    let device = match &topic {
        Topic::Presence(id)
        | Topic::State(id, _)
        | Topic::Telemetry(id, _)
        | Topic::Host(id)
        | Topic::Ack(id)
        | Topic::Want(id)
        | Topic::Nonce(id) => id.clone(),
        Topic::Order(_) | Topic::Block(_) | Topic::Heard(_) | Topic::Blob(..) | Topic::Trust(_) => {
            return Ok(None);
        }
    };
    if payload.is_empty() {
        return Ok(None);
    }
    let key = gate.key(&device);
    let signed = SignedReport::decode(payload).map_err(ReportError::from)?;
    let enrolled = key.as_ref().map(DeviceKey::algorithm);
    let verifies = |message: &[u8; 64], signature: &[u8]| {
        key.as_ref().is_some_and(|key| key.verifies_report(message, signature))
    };
    let body = signed.open(enrolled, ca, &topic, verifies)?;
    let said = said(topic, body)?;
    Ok(said.map(|said| Report { device, key: key.map(|key| key.digest()), said }))
}

fn said(topic: Topic, body: &[u8]) -> Result<Option<Said>, DecodeError> {
    fn decoded<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
        codec::decode(body, REPORT_BYTES_MAX)
    }
    /// Numbers that no device comes to are no numbers.
    fn sane(numbered: Numbered) -> Result<(), DecodeError> {
        numbered.is_sane().then_some(()).ok_or(DecodeError::Malformed)
    }
    Ok(Some(match topic {
        Topic::Presence(_) => Said::Presence(decoded(body)?),
        Topic::State(_, model) => Said::State(model, decoded(body)?),
        Topic::Telemetry(_, model) => {
            let telemetry: Box<Telemetry> = decoded(body)?;
            sane(telemetry.numbered)?;
            Said::Telemetry(model, telemetry)
        }
        Topic::Host(_) => {
            let host: Host = decoded(body)?;
            sane(host.numbered)?;
            Said::Host(host)
        }
        Topic::Ack(_) => Said::Ack(decoded(body)?),
        Topic::Want(_) => {
            let want: Want = decoded(body)?;
            if !want.is_sane() {
                return Err(DecodeError::Malformed);
            }
            Said::Want(want)
        }
        Topic::Nonce(_) => Said::Nonce(decoded(body)?),
        Topic::Order(_) | Topic::Block(_) | Topic::Heard(_) | Topic::Blob(..) | Topic::Trust(_) => {
            return Ok(None);
        }
    }))
}

/// Whose topic it is, as far as it has the form of ours.
pub(super) fn sender(root: &str, topic: &str) -> String {
    let device = topic.strip_prefix(root).and_then(|rest| rest.strip_prefix("d/"));
    device.and_then(|rest| rest.split('/').next()).unwrap_or("?").chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetway_controller::fleet::IdentityView;
    use fleetway_protocol::ids::ShortDigest;
    use fleetway_protocol::limits::SIGNED_REPORT_BYTES_MAX;
    use fleetway_protocol::report::Stamp;
    use fleetway_protocol::signed::{Algorithm, message};
    use fleetway_protocol::topics::{Piece, ROOT_DEFAULT};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING as P256, EcdsaKeyPair, KeyPair as _};

    const CA: Digest = Digest([7; 32]);

    fn encoded<T: serde::Serialize>(value: &T) -> Vec<u8> {
        let mut buf = [0; SIGNED_REPORT_BYTES_MAX];
        codec::encode(value, &mut buf).unwrap().to_vec()
    }

    fn ack(seq: u64) -> Ack {
        let order = Digest::of(b"o");
        Ack { stamp: Stamp { epoch: 1, seq }, generation: 3, order, refused: None }
    }

    fn pair() -> EcdsaKeyPair {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&P256, &random).unwrap();
        EcdsaKeyPair::from_pkcs8(&P256, der.as_ref(), &random).unwrap()
    }

    fn gate(id: &str, pair: &EcdsaKeyPair) -> Gate {
        Gate::new(&[IdentityView {
            device: DeviceId::new(id).unwrap(),
            key: DeviceKey::from_point(pair.public_key().as_ref()),
            token_until_s: None,
            certificate_ends_s: 0,
            revoked_s: None,
            via: None,
        }])
    }

    fn signed(pair: &EcdsaKeyPair, ca: &Digest, topic: &str, report: &[u8]) -> Vec<u8> {
        let topic = Topic::parse(ROOT_DEFAULT, topic).unwrap();
        let message = message(ca, Algorithm::EcdsaP256, &topic, report);
        let signature = pair.sign(&SystemRandom::new(), &message).unwrap();
        encoded(&SignedReport::new(report, Algorithm::EcdsaP256, signature.as_ref()).unwrap())
    }

    fn topic(rest: &str) -> String {
        format!("{ROOT_DEFAULT}d/{rest}")
    }

    #[test]
    fn a_report_is_its_devices_own_or_nothing() {
        let (own, other) = (pair(), pair());
        let gate = gate("cam-1", &own);
        let check = |topic: &str, payload: &[u8]| {
            read(ROOT_DEFAULT, &CA, &gate, topic, payload).map(|report| report.map(|r| r.said))
        };
        let refused = |topic: &str, payload: &[u8]| check(topic, payload).unwrap_err().check();
        let (at, body) = (topic("cam-1/up/ack"), encoded(&ack(1)));
        let good = signed(&own, &CA, &at, &body);
        assert_eq!(check(&at, &good), Ok(Some(Said::Ack(ack(1)))));

        // Nobody's, another's, for another fleet, for another place, of another algorithm.
        assert_eq!(refused(&at, &encoded(&SignedReport::unsigned(&body))), "report unsigned");
        assert_eq!(refused(&at, &signed(&other, &CA, &at, &body)), "report signature");
        let elsewhere = signed(&own, &Digest([8; 32]), &at, &body);
        assert_eq!(refused(&at, &elsewhere), "report signature");
        for place in ["cam-1/up/on", "cam-1/up/want", "cam-1/up/st/digits", "cam-1/up/tm/digits"] {
            assert_eq!(refused(&topic(place), &good), "report signature", "{place}");
        }
        let at_state = topic("cam-1/up/st/digits");
        let state = signed(&own, &CA, &at_state, &body);
        assert_eq!(refused(&topic("cam-1/up/st/faces"), &state), "report signature");
        assert_eq!(refused(&at_state, &state), "report body", "an ack is no state");
        let ed = SignedReport::new(&body, Algorithm::Ed25519, &[1; 64]).unwrap();
        assert_eq!(refused(&at, &encoded(&ed)), "report algorithm");

        // Not one bit may change.
        for bit in 0..good.len() * 8 {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&at, &flipped).is_err(), "bit {bit}");
        }
        for cut in 1..good.len() {
            assert_eq!(refused(&at, &good[..cut]), "report decode");
        }
        assert_eq!(refused(&at, &[good.as_slice(), b"x"].concat()), "report decode");
        assert_eq!(refused(&at, &vec![1; SIGNED_REPORT_BYTES_MAX + 1]), "report decode");
        assert_eq!(refused(&topic("Cam/up/ack"), &good), "report topic");
        assert_eq!(check(&at, b""), Ok(None));
    }

    #[test]
    fn without_a_key_on_record_nothing_is_held_against_it() {
        let gate = gate("cam-1", &pair());
        let want = |chunk| {
            let pieces = heapless::Vec::from_slice(&[Piece::Chunk(chunk)]).unwrap();
            let want = Want { stamp: Stamp::default(), of: ShortDigest([1; 16]), pieces };
            let body = encoded(&want);
            let payload = encoded(&SignedReport::unsigned(&body));
            read(ROOT_DEFAULT, &CA, &gate, &topic("cam-2/up/want"), &payload)
        };
        let report = want(5).unwrap().unwrap();
        assert!(report.key.is_none() && matches!(report.said, Said::Want(_)));
        assert_eq!(want(u32::MAX).unwrap_err().check(), "report body");
        assert_eq!(sender(ROOT_DEFAULT, &topic("Cam/up/ack")), "Cam");
    }
}
