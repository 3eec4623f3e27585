//! The default: a key file encrypted by age under a passphrase. `age -d` reads it too, which
//! is the way back should this program ever be gone.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use age::scrypt;
use age::secrecy::SecretString;
use ed25519_dalek::SigningKey;

use super::{Passphrase, PlainFile, Signer, SignerError};
use crate::keys;

/// What an armored age file begins with.
const ARMOR: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
/// scrypt's cost, as the `age` program has it: about a second for us, for a guesser as well.
const WORK_LOG2: u8 = 18;
/// The dearest file that is opened: four times as much. Fixed, so that a busy machine does not
/// refuse what an idle one wrote.
const WORK_LOG2_MAX: u8 = 20;
/// One line in armor is 500 bytes; more is something else.
const FILE_BYTES_MAX: u64 = 4096;

fn read(path: &Path) -> Result<Vec<u8>, SignerError> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|source| keys::file_error(path, source))?;
    let whole = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
    whole.map_err(|source| keys::file_error(path, source))?;
    Ok(bytes)
}

/// Whether the file is encrypted.
pub(super) fn is_one(path: &Path) -> Result<bool, SignerError> {
    Ok(read(path)?.starts_with(ARMOR.as_bytes()))
}

/// The text of a key file for this key.
///
/// # Errors
/// age's.
pub fn encrypt(key: &SigningKey, passphrase: SecretString) -> Result<String, SignerError> {
    let mut recipient = scrypt::Recipient::new(passphrase);
    recipient.set_work_factor(WORK_LOG2);
    age::encrypt_and_armor(&recipient, keys::secret_text(key).as_bytes()).map_err(|error| {
        SignerError::Age { what: "the new key".to_owned(), why: error.to_string() }
    })
}

/// The signer in the file.
pub(super) fn open(path: &Path, ask: &Passphrase) -> Result<Box<dyn Signer>, SignerError> {
    let what = path.display().to_string();
    let bytes = read(path)?;
    let mut identity = scrypt::Identity::new(ask.of(&what)?);
    identity.set_max_work_factor(WORK_LOG2_MAX);
    let text = age::decrypt(&identity, &bytes).map_err(|error| match error {
        age::DecryptError::DecryptionFailed
        | age::DecryptError::KeyDecryptionFailed
        | age::DecryptError::NoMatchingKeys => SignerError::Passphrase(what.clone()),
        error => SignerError::Age { what: what.clone(), why: error.to_string() },
    })?;
    let key = std::str::from_utf8(&text).ok().and_then(keys::parse_secret);
    let why = "it opens, but holds no key of fleetway".to_owned();
    key.map(|key| Box::new(Encrypted(key.into())) as Box<dyn Signer>)
        .ok_or(SignerError::Age { what, why })
}

/// In memory it is a key like any other; on the disk it is not.
struct Encrypted(PlainFile);

impl Signer for Encrypted {
    fn public(&self) -> fleetway_protocol::envelope::PublicKey {
        self.0.public()
    }

    fn sign_raw(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
        self.0.sign_raw(message)
    }
}
