//! Plain Ed25519 key files: development keys, and the keys that a server uses by itself.
//!
//! One line of text each, so that a person can see what a file is:
//! `fleetway-ed25519-secret-v1:<hex>` and, next to it with `.pub` appended,
//! `fleetway-ed25519-public-v1:<hex>`. Not encrypted: whoever reads the disk has the key. What
//! people sign with is behind [`crate::trust::signer`] instead.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind as IoKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use fleetway_protocol::envelope::PublicKey;
use fleetway_protocol::ids::Digest;

use crate::ErrorKind;

const SECRET_PREFIX: &str = "fleetway-ed25519-secret-v1:";
const PUBLIC_PREFIX: &str = "fleetway-ed25519-public-v1:";
/// A key file is one short line; more is something else.
const FILE_BYTES_MAX: u64 = 256;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is a key already; a lost key is worse than a refused command.
    #[error("{} exists; use it, or move it away first", .0.display())]
    Exists(PathBuf),
    /// There is none.
    #[error("no key at {}; make one with `fleetway init`, or give the right path", .0.display())]
    NotFound(PathBuf),
    /// Others may read it.
    #[error("{} can be read by others (mode {mode:o}); run: chmod 600 {}", path.display(), path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is something else.
    #[error("{} is no {expected} key file of fleetway", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// `secret` or `public`.
        expected: &'static str,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}; check the disk and the permissions", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no randomness.
    #[error("the system gives no randomness ({0}); no key was made")]
    Randomness(String),
}

impl KeyFileError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists(_) => ErrorKind::Conflict,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::TooOpen { .. } | Self::Malformed { .. } => ErrorKind::Trust,
            Self::Io { .. } | Self::Randomness(_) => ErrorKind::Unavailable,
        }
    }
}

/// Where the public half of the key at `secret` is.
pub fn public_path(secret: &Path) -> PathBuf {
    let mut path = secret.as_os_str().to_owned();
    path.push(".pub");
    PathBuf::from(path)
}

/// Makes a key at `path` and its public half beside it. Both are durable on return.
///
/// # Errors
/// [`KeyFileError`]; an existing key is never touched.
pub fn create(path: &Path) -> Result<SigningKey, KeyFileError> {
    let key = generate()?;
    write_pair(path, &secret_text(&key), &PublicKey::of(&key))?;
    Ok(key)
}

/// A new key, not kept anywhere yet.
///
/// # Errors
/// [`KeyFileError::Randomness`].
pub fn generate() -> Result<SigningKey, KeyFileError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| KeyFileError::Randomness(e.to_string()))?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Writes the text of a secret key, as it is or encrypted, and the public half beside it.
///
/// # Errors
/// [`KeyFileError`]; an existing key is never touched.
pub fn write_pair(path: &Path, secret: &str, public: &PublicKey) -> Result<(), KeyFileError> {
    write_new(path, 0o600, secret)?;
    let beside = public_path(path);
    match fs::remove_file(&beside) {
        Err(e) if e.kind() != IoKind::NotFound => return Err(io("remove", &beside)(e)),
        _ => {}
    }
    write_new(&beside, 0o644, &public_text(public))
}

/// A secret key as it stands in its file.
pub fn secret_text(key: &SigningKey) -> String {
    format!("{SECRET_PREFIX}{}\n", Digest(key.to_bytes()))
}

/// Reads what [`secret_text`] wrote, `None` if it is something else.
pub fn parse_secret(text: &str) -> Option<SigningKey> {
    let Digest(seed) = text.trim().strip_prefix(SECRET_PREFIX)?.parse().ok()?;
    Some(SigningKey::from_bytes(&seed))
}

/// The error of a key file that cannot be read.
pub(crate) fn file_error(path: &Path, source: std::io::Error) -> KeyFileError {
    match source.kind() {
        IoKind::NotFound => KeyFileError::NotFound(path.to_owned()),
        _ => io("read", path)(source),
    }
}

/// The secret key at `path`.
///
/// # Errors
/// [`KeyFileError`]; one that others may read is refused.
pub fn load(path: &Path) -> Result<SigningKey, KeyFileError> {
    let file = open(path)?;
    let mode = file.metadata().map_err(io("look at", path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::TooOpen { path: path.to_owned(), mode });
    }
    let seed = parse(path, file, SECRET_PREFIX, "secret")?;
    Ok(SigningKey::from_bytes(&seed))
}

/// The public key at `path`.
///
/// # Errors
/// [`KeyFileError`].
pub fn load_public(path: &Path) -> Result<PublicKey, KeyFileError> {
    let bytes = parse(path, open(path)?, PUBLIC_PREFIX, "public")?;
    PublicKey::new(bytes)
        .map_err(|_| KeyFileError::Malformed { path: path.to_owned(), expected: "public" })
}

/// A public key as it stands in its file, the line's end included.
pub fn public_text(key: &PublicKey) -> String {
    format!("{PUBLIC_PREFIX}{}\n", Digest(key.to_bytes()))
}

/// Reads what [`public_text`] wrote, `None` if it is something else.
pub fn parse_public(text: &str) -> Option<PublicKey> {
    let Digest(bytes) = text.trim().strip_prefix(PUBLIC_PREFIX)?.parse().ok()?;
    PublicKey::new(bytes).ok()
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> KeyFileError {
    let path = path.to_owned();
    move |source| KeyFileError::Io { doing, path, source }
}

fn open(path: &Path) -> Result<File, KeyFileError> {
    File::open(path).map_err(|e| match e.kind() {
        IoKind::NotFound => KeyFileError::NotFound(path.to_owned()),
        _ => io("open", path)(e),
    })
}

fn parse(
    path: &Path,
    file: File,
    prefix: &str,
    expected: &'static str,
) -> Result<[u8; 32], KeyFileError> {
    let mut text = String::new();
    let malformed = || KeyFileError::Malformed { path: path.to_owned(), expected };
    match file.take(FILE_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => {}
        Err(e) if e.kind() == IoKind::InvalidData => return Err(malformed()),
        Err(e) => return Err(io("read", path)(e)),
    }
    let hex = text.trim().strip_prefix(prefix).ok_or_else(malformed)?;
    // A digest is the same 32 bytes in hexadecimal.
    hex.parse().map(|Digest(bytes)| bytes).map_err(|_| malformed())
}

/// Writes a file that must not exist yet; file and directory are durable on return.
fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), KeyFileError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(
        |e| match e.kind() {
            IoKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
            _ => io("create", path)(e),
        },
    )?;
    file.write_all(text.as_bytes()).map_err(io("write", path))?;
    file.sync_all().map_err(io("flush", path))?;
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    File::open(dir).and_then(|d| d.sync_all()).map_err(io("flush", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("release.key");
        let key = create(&path).unwrap();
        assert_eq!(load(&path).unwrap().to_bytes(), key.to_bytes());
        assert_eq!(load_public(&public_path(&path)).unwrap(), PublicKey::of(&key));
        let text = fs::read_to_string(public_path(&path)).unwrap();
        assert_eq!(parse_public(&text), Some(PublicKey::of(&key)));
        assert!(matches!(create(&path), Err(KeyFileError::Exists(_))));
        assert_eq!(load(&path).unwrap().to_bytes(), key.to_bytes());
    }

    #[test]
    fn what_is_no_key_or_open_to_others_is_refused_with_the_mend() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        assert!(load(&path).unwrap_err().to_string().contains("fleetway init"));
        create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = load(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Trust);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for text in ["", "x", "fleetway-ed25519-public-v1:00", "fleetway-ed25519-secret-v1:zz"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(load(&path), Err(KeyFileError::Malformed { .. })), "{text:?}");
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(load(&path), Err(KeyFileError::Malformed { .. })));
    }
}
