//! A key in the running ssh-agent (or gpg-agent, a password manager, a forwarded laptop): its
//! signature over plain bytes is raw Ed25519 behind the name of the algorithm.
//!
//! Not `sk-ssh-ed25519`: a FIDO key signs its own flags and counter along with the bytes, and
//! no TUF client and no device here would take that for a signature over the metadata.

use std::cell::RefCell;
use std::path::PathBuf;

use fleetway_protocol::envelope::PublicKey;
use ssh_agent_client_rs::{Client, Identity};

use super::{Signer, SignerError};

struct Agent {
    client: RefCell<Client>,
    identity: Identity<'static>,
    public: PublicKey,
}

fn error(text: impl Into<String>) -> SignerError {
    SignerError::SshAgent(text.into())
}

/// The key with this fingerprint (`SHA256:…`) or comment.
pub(super) fn open(name: &str) -> Result<Box<dyn Signer>, SignerError> {
    let socket = std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from).ok_or_else(|| {
        error("SSH_AUTH_SOCK is not set: no agent runs; start one with `eval $(ssh-agent)`")
    })?;
    connect(&socket, name)
}

/// The same at a socket.
pub(super) fn connect(
    socket: &std::path::Path,
    name: &str,
) -> Result<Box<dyn Signer>, SignerError> {
    let at = socket.display();
    let mut client =
        Client::connect(socket).map_err(|why| error(format!("no agent answers at {at}: {why}")))?;
    let identities = client
        .list_all_identities()
        .map_err(|why| error(format!("the agent at {at} does not list its keys: {why}")))?;
    let mut found = Vec::new();
    for identity in identities {
        let Identity::PublicKey(key) = &identity else { continue };
        let fingerprint = key.fingerprint(Default::default()).to_string();
        if fingerprint == name || key.comment() == name {
            found.push(identity);
        }
    }
    let identity = match found.len() {
        1 => found.remove(0),
        0 => return Err(error(format!("it has no key {name:?}; `ssh-add -l` shows what it has"))),
        n => return Err(error(format!("{n} keys are called {name:?}; use the fingerprint"))),
    };
    let Identity::PublicKey(key) = &identity else { return Err(error("not a plain key")) };
    let algorithm = key.algorithm().to_string();
    if algorithm.starts_with("sk-") {
        return Err(error(format!(
            "{name:?} is a FIDO key ({algorithm}): its signature covers the authenticator's own \
             data, so devices cannot check it; use an ssh-ed25519 key, or PKCS#11"
        )));
    }
    let Some(ed25519) = key.key_data().ed25519() else {
        return Err(error(format!("{name:?} is of kind {algorithm}; only ssh-ed25519 signs here")));
    };
    let public = PublicKey::new(ed25519.0).map_err(|why| error(format!("{name:?}: {why}")))?;
    Ok(Box::new(Agent { client: RefCell::new(client), identity, public }))
}

impl Signer for Agent {
    fn public(&self) -> PublicKey {
        self.public
    }

    fn sign_raw(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
        let signed = self.client.borrow_mut().sign_with_ref(&self.identity, message);
        let signature = signed.map_err(|why| error(format!("it did not sign: {why}")))?;
        signature.as_bytes().try_into().map_err(|_| error("its signature has not 64 bytes"))
    }
}
