//! OpenSSF Model Signing v1.0: a Sigstore bundle (v0.3) around a DSSE envelope around an in-toto
//! statement that lists the model's files with their digests.
//!
//! Signed with a key of P-256, P-384 or P-521 (the specification knows no others), which the
//! importer is told on the command line; the bundle's own idea of the key counts for nothing.
//! Certificates and transparency logs are not looked at: they need the network, and trust that
//! this fleet has not given.

use data_encoding::BASE64;
use fleetway_protocol::ids::Digest;
use p256::ecdsa::signature::Verifier as _;
use p256::pkcs8::DecodePublicKey as _;
use serde::Deserialize;

/// Bytes of a bundle: some hundred for each file of the model.
pub const BUNDLE_BYTES_MAX: usize = 4 << 20;
/// Bytes of a public key in PEM: P-521 has 268.
pub const KEY_BYTES_MAX: usize = 4 << 10;

const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";

/// Why a bundle does not vouch for a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The key does not read.
    #[error("is no public key in PEM of P-256, P-384 or P-521, which Model Signing asks for")]
    Key,
    /// It is far too long.
    #[error("has {bytes} bytes, at most {BUNDLE_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// It is no bundle of this kind.
    #[error("is no Model Signing bundle: {0}")]
    Shape(String),
    /// The signature does not hold.
    #[error("its signature is not one of the given key; check --attestation-key")]
    Signature,
    /// It is a signature for other files.
    #[error("it vouches for other bytes: no file in it has the digest {digest} of this model")]
    OtherModel {
        /// Of the model.
        digest: Digest,
    },
    /// The list of files is not the one that the statement's subject names.
    #[error("its list of files does not have the digest that it was signed under")]
    Subject,
}

/// A key that a bundle is verified with.
#[derive(Clone, Debug)]
pub enum AttestationKey {
    /// P-256, signatures over SHA-256.
    P256(p256::ecdsa::VerifyingKey),
    /// P-384, signatures over SHA-384.
    P384(p384::ecdsa::VerifyingKey),
    /// P-521, signatures over SHA-512.
    P521(p521::ecdsa::VerifyingKey),
}

/// What a bundle was found to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Digest of the bundle's bytes.
    pub digest: Digest,
    /// The name under which it lists the model.
    pub name: String,
    /// Files that it vouches for in all.
    pub files: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Subject {
    digest: SubjectDigest,
}

#[derive(Deserialize)]
struct SubjectDigest {
    sha256: String,
}

#[derive(Deserialize)]
struct Predicate {
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

impl AttestationKey {
    /// The key in a PEM file.
    ///
    /// # Errors
    /// [`BundleError::Key`].
    pub fn from_pem(pem: &str) -> Result<Self, BundleError> {
        if pem.len() > KEY_BYTES_MAX {
            return Err(BundleError::Key);
        }
        // Each curve refuses the others' keys.
        p256::ecdsa::VerifyingKey::from_public_key_pem(pem)
            .map(Self::P256)
            .or_else(|_| p384::ecdsa::VerifyingKey::from_public_key_pem(pem).map(Self::P384))
            .or_else(|_| p521::ecdsa::VerifyingKey::from_public_key_pem(pem).map(Self::P521))
            .map_err(|_| BundleError::Key)
    }

    fn verifies(&self, message: &[u8], der: &[u8]) -> bool {
        match self {
            Self::P256(key) => p256::ecdsa::DerSignature::from_bytes(der)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Self::P384(key) => p384::ecdsa::DerSignature::from_bytes(der)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Self::P521(key) => p521::ecdsa::DerSignature::from_bytes(der)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }
}

/// Checks that `bundle` is `key`'s signature over a list of files with `model` among them.
///
/// # Errors
/// [`BundleError`] says what does not hold. The signature is checked before anything inside of it
/// is believed.
pub fn verify(bundle: &[u8], key: &AttestationKey, model: &[u8]) -> Result<Verified, BundleError> {
    if bundle.len() > BUNDLE_BYTES_MAX {
        return Err(BundleError::TooLarge { bytes: bundle.len() });
    }
    let shape = |what: &str| BundleError::Shape(what.to_owned());
    let read: Bundle =
        serde_json::from_slice(bundle).map_err(|error| BundleError::Shape(error.to_string()))?;
    if read.media_type != BUNDLE_TYPE {
        return Err(BundleError::Shape(format!("its media type is {:?}", read.media_type)));
    }
    let Envelope { payload, payload_type, signatures } = read.dsse_envelope;
    if payload_type != PAYLOAD_TYPE {
        return Err(BundleError::Shape(format!("its payload type is {payload_type:?}")));
    }
    // The specification has exactly one.
    let [signature] = &signatures[..] else { return Err(shape("it must have one signature")) };
    let payload = BASE64.decode(payload.as_bytes()).map_err(|_| shape("payload is no base64"))?;
    let signature =
        BASE64.decode(signature.sig.as_bytes()).map_err(|_| shape("signature is no base64"))?;
    if !key.verifies(&pre_authentication(&payload_type, &payload), &signature) {
        return Err(BundleError::Signature);
    }
    let statement: Statement =
        serde_json::from_slice(&payload).map_err(|error| BundleError::Shape(error.to_string()))?;
    if statement.kind != STATEMENT_TYPE || statement.predicate_type != PREDICATE_TYPE {
        return Err(shape("it holds another kind of statement"));
    }
    let resources = &statement.predicate.resources;
    check_subject(&statement.subject, resources)?;
    let digest = Digest::of(model);
    let text = digest.to_string();
    let found = resources.iter().find(|r| r.algorithm == "sha256" && r.digest == text);
    let found = found.ok_or(BundleError::OtherModel { digest })?;
    let (name, files) = (found.name.clone(), resources.len());
    Ok(Verified { digest: Digest::of(bundle), name, files })
}

/// The one subject is the digest of all files' digests, in order.
fn check_subject(subject: &[Subject], resources: &[Resource]) -> Result<(), BundleError> {
    let [subject] = subject else { return Err(BundleError::Subject) };
    let mut all = Vec::with_capacity(resources.len() * 32);
    for resource in resources {
        let digest: Digest = resource.digest.parse().map_err(|_| BundleError::Subject)?;
        all.extend_from_slice(&digest.0);
    }
    match subject.digest.sha256 == Digest::of(&all).to_string() {
        true => Ok(()),
        false => Err(BundleError::Subject),
    }
}

/// What a DSSE signature covers.
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}
