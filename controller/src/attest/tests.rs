//! Bundles that vouch and bundles that do not. (Bundles of the reference signer, and the official
//! schema of the bill of materials, are asked in `tests/tests/attest.rs`.)

use data_encoding::BASE64;
use fleetway_protocol::ids::Digest;
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::EncodePublicKey as _;
use serde_json::{Value, json};

use super::bundle::{AttestationKey, BUNDLE_BYTES_MAX, BundleError, verify};

const MODEL: &[u8] = b"the bytes of a model";

fn statement(model: &[u8]) -> Value {
    let digests = [Digest::of(b"labels"), Digest::of(model)];
    let all: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
    let resource = |name: &str, digest: &Digest| {
        json!({
            "algorithm": "sha256", "name": name, "digest": digest.to_string(),
        })
    };
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": "m", "digest": { "sha256": Digest::of(&all).to_string() } }],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": { "method": "files", "hash_type": "sha256" },
            "resources": [resource("labels.txt", &digests[0]), resource("m.onnx", &digests[1])],
        },
    })
}

fn signed(statement: &Value) -> (Value, AttestationKey) {
    let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let payload = statement.to_string();
    let kind = "application/vnd.in-toto+json";
    let message = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    let signature: p256::ecdsa::DerSignature = key.sign(message.as_bytes());
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "publicKey": { "hint": "" }, "tlogEntries": [] },
        "dsseEnvelope": {
            "payload": BASE64.encode(payload.as_bytes()),
            "payloadType": kind,
            "signatures": [{ "sig": BASE64.encode(signature.as_bytes()), "keyid": "" }],
        },
    });
    let pem = key.verifying_key().to_public_key_pem(Default::default()).unwrap();
    (bundle, AttestationKey::from_pem(&pem).unwrap())
}

#[test]
fn a_bundle_vouches_for_its_own_files_only() {
    let (bundle, key) = signed(&statement(MODEL));
    let bytes = bundle.to_string().into_bytes();
    let verified = verify(&bytes, &key, MODEL).unwrap();
    assert_eq!((verified.name.as_str(), verified.files), ("m.onnx", 2));
    assert_eq!(verified.digest, Digest::of(&bytes));
    let other = verify(&bytes, &key, b"other bytes");
    assert_eq!(other, Err(BundleError::OtherModel { digest: Digest::of(b"other bytes") }));
    let stranger = p256::ecdsa::SigningKey::from_slice(&[8; 32]).unwrap();
    let stranger = AttestationKey::P256(*stranger.verifying_key());
    assert_eq!(verify(&bytes, &stranger, MODEL), Err(BundleError::Signature));
}

#[test]
fn what_was_not_signed_is_not_believed() {
    let check = |change: &dyn Fn(&mut Value), expected: &str| {
        let (mut bundle, key) = signed(&statement(MODEL));
        change(&mut bundle);
        let error = verify(bundle.to_string().as_bytes(), &key, MODEL).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} is not {expected:?}");
    };
    let payload = |text: &str| json!(BASE64.encode(text.as_bytes()));
    check(&|b| b["dsseEnvelope"]["payload"] = payload("{}"), "signature is not one of");
    check(&|b| b["dsseEnvelope"]["payload"] = json!("%"), "payload is no base64");
    check(&|b| b["dsseEnvelope"]["payloadType"] = json!("text/plain"), "payload type");
    check(&|b| b["mediaType"] = json!("application/json"), "media type");
    check(&|b| b["dsseEnvelope"]["signatures"] = json!([]), "must have one signature");
    check(&|b| b["dsseEnvelope"] = json!(7), "is no Model Signing bundle");
    // Signed, and still not what it should be.
    let check = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut statement = statement(MODEL);
        change(&mut statement);
        let (bundle, key) = signed(&statement);
        let error = verify(bundle.to_string().as_bytes(), &key, MODEL).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} is not {expected:?}");
    };
    check(&|s| s["predicateType"] = json!("https://slsa.dev/provenance/v1"), "another kind");
    check(&|s| s["subject"] = json!([]), "does not have the digest");
    check(&|s| s["predicate"]["resources"][0]["digest"] = json!("00"), "does not have the digest");
    check(&|s| drop(s["predicate"]["resources"].as_array_mut().unwrap().pop()), "does not have");
    let (_, key) = signed(&statement(MODEL));
    let long = vec![b' '; BUNDLE_BYTES_MAX + 1];
    assert!(matches!(verify(&long, &key, MODEL), Err(BundleError::TooLarge { .. })));
    for pem in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert!(matches!(AttestationKey::from_pem(pem), Err(BundleError::Key)), "{pem:?}");
    }
}
