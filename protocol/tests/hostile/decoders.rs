//! Every decoder of messages with its sample, its bound and its checks: one row each, so that
//! each kind of damage is done to all of them.

use fleetway_protocol::codec::{self, DecodeError};
use fleetway_protocol::envelope::{Envelope, OpenError};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::keyset::{Keyset, KeysetError};
use fleetway_protocol::limits::*;
use fleetway_protocol::manifest::Manifest;
use fleetway_protocol::order::Order;
use fleetway_protocol::report::{
    Ack, BLOCK_BYTES_MAX, Block, Host, Nonce, Presence, State, Telemetry, Want,
};
use fleetway_protocol::signed::SignedReport;
use fleetway_protocol::telemetry::{Heard, HeardError};
use fleetway_protocol::trust::{OrderError, ReleaseError, Verified};

use crate::samples::encoded;
use crate::{fuzz, samples};

/// A decoder of messages.
pub(crate) struct Decoder {
    pub(crate) name: &'static str,
    pub(crate) sample: Vec<u8>,
    pub(crate) max: usize,
    pub(crate) decode: fn(&[u8]) -> Result<(), DecodeError>,
    pub(crate) fuzz: fn(&[u8]) -> bool,
    /// Whether its bytes are believed by signature: then no other bytes ever are.
    pub(crate) signed: bool,
}

fn plain<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<(), DecodeError> {
    codec::decode::<T>(bytes, REPORT_BYTES_MAX).map(drop)
}

pub(crate) fn order(bytes: &[u8]) -> Result<(), DecodeError> {
    match Verified::<Order>::admit(bytes, &samples::keyring(), &samples::device(), 299, 1) {
        Ok(_) => Ok(()),
        Err(OrderError::Open(OpenError::Decode(error)) | OrderError::Decode(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

fn heard(bytes: &[u8]) -> Result<(), DecodeError> {
    match Heard::open(bytes, &samples::keyring(), &samples::device()) {
        Ok(_) => Ok(()),
        Err(HeardError::Open(OpenError::Decode(error)) | HeardError::Decode(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

fn manifest(bytes: &[u8]) -> Result<(), DecodeError> {
    match Verified::<Manifest>::admit(
        bytes,
        &samples::keyring(),
        &samples::model_order(),
        2,
        samples::TARGET,
    ) {
        Ok(_) => Ok(()),
        Err(ReleaseError::Open(OpenError::Decode(error)) | ReleaseError::Decode(error)) => {
            Err(error)
        }
        Err(other) => panic!("{other}"),
    }
}

fn keyset(bytes: &[u8]) -> Result<(), DecodeError> {
    let pinned = Digest::of(&encoded(&samples::keyset(1)));
    match Verified::<Keyset>::genesis(bytes, &pinned) {
        Ok(_) => Ok(()),
        Err(KeysetError::Open(OpenError::Decode(error)) | KeysetError::Decode(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

pub(crate) fn decoders() -> Vec<Decoder> {
    let report = |name, sample, decode, fuzz| Decoder {
        name,
        sample,
        max: REPORT_BYTES_MAX,
        decode,
        fuzz,
        signed: false,
    };
    let signed = |name, sample, decode, fuzz| Decoder {
        name,
        sample,
        max: ENVELOPE_BYTES_MAX,
        decode,
        fuzz,
        signed: true,
    };
    vec![
        signed(
            "envelope",
            samples::sealed_order(),
            |b| Envelope::decode(b).map(drop),
            fuzz::fuzz_envelope,
        ),
        signed("order", samples::sealed_order(), order, fuzz::fuzz_order),
        signed("heard", samples::sealed_heard(), heard, fuzz::fuzz_heard),
        signed("manifest", samples::sealed_manifest(), manifest, fuzz::fuzz_manifest),
        signed("keyset", samples::sealed_keyset(), keyset, fuzz::fuzz_keyset),
        report("presence", encoded(&samples::presence()), plain::<Presence>, fuzz::fuzz_presence),
        report("state", encoded(&samples::state()), plain::<State>, fuzz::fuzz_state),
        report(
            "telemetry",
            encoded(&samples::telemetry()),
            plain::<Telemetry>,
            fuzz::fuzz_telemetry,
        ),
        report("host", encoded(&samples::host()), plain::<Host>, fuzz::fuzz_host),
        report("ack", encoded(&samples::ack()), plain::<Ack>, fuzz::fuzz_ack),
        report("want", encoded(&samples::want()), plain::<Want>, fuzz::fuzz_want),
        report("nonce", encoded(&samples::nonce()), plain::<Nonce>, fuzz::fuzz_nonce),
        Decoder {
            name: "signed report",
            sample: samples::signed_report(),
            max: SIGNED_REPORT_BYTES_MAX,
            decode: |b| SignedReport::decode(b).map(drop),
            fuzz: fuzz::fuzz_signed_report,
            signed: false,
        },
        Decoder {
            name: "block",
            sample: encoded(&samples::block()),
            max: BLOCK_BYTES_MAX,
            decode: |b| Block::decode(b).map(drop),
            fuzz: fuzz::fuzz_block,
            signed: false,
        },
    ]
}
