//! How a device gets its certificate, renews it, and comes back after a long absence.
//!
//! ```text
//! POST /enroll     EnrollRequest     Answer<Enrolled>   token and a fresh key's request
//! GET  /root                         root.json          its digest is in the join string
//! POST /renew      (nothing)         Answer<Renewed>    by the certificate that still holds
//! POST /challenge  ChallengeRequest  Answer<Nonce>      a certificate that ended: prove the
//! POST /return     ReturnRequest     Answer<Renewed>    enrolled key instead
//! POST /floor      FloorRequest      Answer<Floor>      by the certificate: it has forgotten
//! ```
//! Bodies are [`crate::codec`]'s: a version byte, then postcard, each with its bound. A device
//! has one key from its enrolment on; a renewal is a new certificate for that very key, so the
//! key file is written once and only one file has to be replaced later. The next enrolment has
//! another key: which reports are of which enrolment, the key alone says.
//!
//! A device that begins, or begins anew, knows no generation, and an old order would be newer
//! than nothing. So it is told its floor ([`Floor`]) before it looks at the first one: with its
//! certificate, or, where what it knew is lost and its identity is not, when it asks.

use core::fmt;

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use crate::ids::{DeviceId, Digest, Generation, Hasher};
use crate::limits::{
    AGENT_CONFIG_BYTES_MAX, CERT_PEM_BYTES_MAX, CSR_PEM_BYTES_MAX, PROOF_BYTES_MAX,
};

/// What a signature by an enrolled key is for: never anything else.
const RETURN: &[u8; 32] = b"fleetway/v1/return\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// What a stored token is hashed under.
const TOKEN: &[u8; 32] = b"fleetway/v1/join-token\0\0\0\0\0\0\0\0\0\0";

/// 128 random bits that let a device in once. Never shown, never stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(pub [u8; 16]);

impl Token {
    /// What is stored of it. Bound to the device, so that a record cannot be moved to another.
    pub fn digest(&self, device: &DeviceId) -> Digest {
        let mut hasher = Hasher::new();
        hasher.update(TOKEN);
        hasher.update(&self.0);
        hasher.update(device.as_str().as_bytes());
        hasher.finish()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A device asks to be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollRequest {
    /// Who it says it is.
    pub device: DeviceId,
    /// The join string's.
    pub token: Token,
    /// PKCS#10, PEM: the public key, and the proof that the device has the private one.
    pub csr: String<CSR_PEM_BYTES_MAX>,
}

/// A device was let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Its certificate, PEM.
    pub certificate: String<CERT_PEM_BYTES_MAX>,
    /// The fleet CA's certificate, PEM: the one whose digest is in the join string.
    pub ca: String<CERT_PEM_BYTES_MAX>,
    /// Its configuration file. The device checks that it says nothing but what it expects.
    pub config: String<AGENT_CONFIG_BYTES_MAX>,
    /// Which orders are old.
    pub floor: Floor,
}

/// Where the orders of a device that remembers none begin: all that were ever made for it
/// have this generation or a lower one, and the next has a higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// Orders of this generation and below are refused.
    pub generation: Generation,
    /// Boots are counted from here: reports of lower ones are of a life that is forgotten.
    pub epoch: u64,
}

impl Floor {
    /// The file in a device's data directory by which it is told before its first start. What
    /// empties the directory takes the file along, and with it what it said.
    pub const FILE: &str = "floor";

    /// As that file's text, which is the generation.
    pub fn text(&self) -> String<24> {
        let mut text = String::new();
        // 20 digits at most.
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{}\n", self.generation));
        text
    }

    /// Reads that file; boots are counted from the first.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let generation = core::str::from_utf8(text).ok()?.trim().parse().ok()?;
        Some(Self { generation, epoch: 0 })
    }
}

/// A device that has forgotten everything asks where its orders begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloorRequest {
    /// Number of this boot as far as it knows: by its clock, if it has one.
    pub epoch: u64,
}

/// A new certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// PEM, for the enrolled key.
    pub certificate: String<CERT_PEM_BYTES_MAX>,
}

/// A device whose certificate ended asks for a nonce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeRequest {
    /// Which.
    pub device: DeviceId,
}

/// Drawn by the controller, good once and for a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nonce(pub [u8; 32]);

/// The proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnRequest {
    /// Who.
    pub device: DeviceId,
    /// The controller's.
    pub nonce: Nonce,
    /// ECDSA P-256 (DER) over [`return_message`].
    pub signature: Vec<u8, PROOF_BYTES_MAX>,
}

/// What the enrolled key signs: domain, fleet, device and nonce, so that the signature is
/// worth nothing at another fleet, for another device or a second time.
pub fn return_message(ca: &Digest, device: &DeviceId, nonce: &Nonce) -> [u8; 64] {
    let mut hasher = Hasher::new();
    hasher.update(&ca.0);
    hasher.update(&nonce.0);
    hasher.update(device.as_str().as_bytes());
    let mut message = [0; 64];
    message[..32].copy_from_slice(RETURN);
    message[32..].copy_from_slice(&hasher.finish().0);
    message
}

/// How a request ended. `Err` travels with an HTTP status that is not 200.
pub type Answer<T> = Result<T, Refusal>;

/// Why a device is not let in. Numbers are the wire's: new ones go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No body of ours.
    #[error("the controller cannot read the request; use the same version of agent and controller")]
    Malformed,
    /// The signing request does not hold.
    #[error("the controller does not take this key; it must be ECDSA P-256 with a sound request")]
    Key,
    /// No token is open for that id, or it is another one.
    #[error(
        "the token is not the one that was made for this device; make a new join string with `fleetway device enroll`"
    )]
    Token,
    /// It was used, by another key.
    #[error(
        "the token was used already, by another key; if that was not this device, run `fleetway device revoke`, then `fleetway device enroll` again"
    )]
    TokenUsed,
    /// It is too old.
    #[error("the token has expired; make a new join string with `fleetway device enroll`")]
    TokenExpired,
    /// Wrong tokens were tried too often.
    #[error(
        "too many wrong tokens were tried for this device; make a new join string with `fleetway device enroll`"
    )]
    TokenLocked,
    /// The operator has revoked it.
    #[error(
        "this device was revoked; if it shall come back, make a join string with `fleetway device enroll`"
    )]
    Revoked,
    /// It never enrolled here.
    #[error("this device is not enrolled here; make a join string with `fleetway device enroll`")]
    NotEnrolled,
    /// The proof, or the certificate, is of another key than the enrolled one.
    #[error(
        "the key is not the one that enrolled; if this device was set up anew, make a join string with `fleetway device enroll`"
    )]
    OtherKey,
    /// The nonce is unknown, used or too old.
    #[error("the challenge has run out; try again")]
    Nonce,
    /// A renewal without a certificate.
    #[error("a renewal needs the device's certificate; one that has ended comes back by its key")]
    NoCertificate,
    /// Too much from one address.
    #[error("too many requests from this address; try again in a minute")]
    TooMany,
    /// The controller cannot write.
    #[error("the controller cannot do this now; see its log, and try again")]
    Unavailable,
    /// The key enrolled before, under another token.
    #[error("this key has enrolled before; a new enrolment needs a new key")]
    KeyUsed,
}

impl Refusal {
    /// Whether waiting can help. Everything else needs a person.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Nonce | Self::TooMany | Self::Unavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::limits::ENROLL_BODY_BYTES_MAX;

    fn device(id: &str) -> DeviceId {
        DeviceId::new(id).expect("id")
    }

    #[test]
    fn the_largest_bodies_fit_their_bound() {
        fn check<T: Serialize + serde::de::DeserializeOwned + PartialEq + fmt::Debug>(value: &T) {
            let mut buf = [0; ENROLL_BODY_BYTES_MAX];
            let bytes = codec::encode(value, &mut buf).expect("fits");
            assert_eq!(codec::decode::<T>(bytes, ENROLL_BODY_BYTES_MAX).as_ref(), Ok(value));
        }
        fn full<const N: usize>() -> String<N> {
            let mut text = String::new();
            while text.push('x').is_ok() {}
            text
        }
        let long = device(&"d".repeat(64));
        check(&EnrollRequest { device: long.clone(), token: Token([7; 16]), csr: full() });
        let floor = Floor { generation: u64::MAX, epoch: u64::MAX };
        assert_eq!(Floor::parse(floor.text().as_bytes()), Some(Floor { epoch: 0, ..floor }));
        let enrolled = Enrolled { certificate: full(), ca: full(), config: full(), floor };
        check(&Ok::<_, Refusal>(enrolled));
        check(&Answer::<Renewed>::Err(Refusal::Unavailable));
        let mut signature = Vec::new();
        while signature.push(7).is_ok() {}
        check(&ReturnRequest { device: long, nonce: Nonce([7; 32]), signature });
    }

    #[test]
    fn messages_and_digests_depend_on_every_part() {
        let (ca, other_ca) = (Digest::of(b"1"), Digest::of(b"2"));
        let message = |ca, id, n| return_message(ca, &device(id), &Nonce([n; 32]));
        let one = message(&ca, "cam-1", 1);
        assert!(one.starts_with(b"fleetway/v1/return\0"));
        for other in
            [message(&other_ca, "cam-1", 1), message(&ca, "cam-2", 1), message(&ca, "cam-1", 2)]
        {
            assert_ne!(one, other);
        }
        let token = Token([1; 16]);
        assert_ne!(token.digest(&device("cam-1")), token.digest(&device("cam-2")));
        assert_ne!(token.digest(&device("cam-1")), Token([2; 16]).digest(&device("cam-1")));
    }
}
