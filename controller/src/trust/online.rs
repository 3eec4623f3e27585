//! Keys that lie unencrypted on this machine: the server's own, and development keys. Which
//! key is for what, the root and the keyset say; here they are only found.

use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use fleetway_protocol::envelope::PublicKey;

use super::repo::{Repo, root_keys};
use super::{TrustError, publish};
use crate::keys;
use crate::trust::signer::PlainFile;

/// Plain key files in a directory, by name; what cannot be read is none.
pub fn plain_keys(dir: &Path) -> Vec<(PathBuf, SigningKey)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "key"));
    paths.sort();
    paths.into_iter().filter_map(|path| keys::load(&path).ok().map(|key| (path, key))).collect()
}

/// The server's keys.
pub struct ServerKeys {
    snapshot: PlainFile,
    timestamp: PlainFile,
    /// Signs orders.
    pub director: SigningKey,
}

impl ServerKeys {
    /// The ones that the root and the keyset (staged, else in force) name.
    ///
    /// # Errors
    /// [`TrustError::Setup`] names the role whose key is not in `dir`.
    pub fn find(dir: &Path, repo: &Repo) -> Result<Self, TrustError> {
        let here = plain_keys(dir);
        let find = |role: &str, wanted: Vec<PublicKey>| {
            let found = here.iter().find(|(_, key)| wanted.contains(&PublicKey::of(key)));
            found.map(|(_, key)| key.clone()).ok_or_else(|| TrustError::Setup {
                what: format!("the server's {role} key"),
                why: format!("none of the keys in {} is it", dir.display()),
            })
        };
        let root = &repo.root()?.role;
        let of = |role: &str| -> Vec<_> {
            root_keys(root, role).0.into_iter().map(|named| named.key).collect()
        };
        Ok(Self {
            snapshot: find("snapshot", of("snapshot"))?.into(),
            timestamp: find("timestamp", of("timestamp"))?.into(),
            director: find("director", repo.keyset()?.keyset.director.keys().collect())?,
        })
    }

    /// For signing metadata.
    pub fn online(&self) -> publish::Online<'_> {
        publish::Online { snapshot: &self.snapshot, timestamp: &self.timestamp }
    }
}
