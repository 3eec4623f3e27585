//! `fleetway-agent join`: from a join string to a device of the fleet.
//!
//! The order is what makes it safe and repeatable. The key is made first, here, and kept.
//! The server must belong to the pinned CA before a byte is sent to it; the root must have
//! the pinned digest before the token is spent. The configuration is written last: a
//! directory that has one is complete. Cut anywhere, the same command does it again: the
//! controller gives a used token's certificate once more to the very key that used it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleetway_link::{BrokerUrl, EnrollUrl, TlsIdentity};
use fleetway_protocol::enroll::{EnrollRequest, Enrolled, Floor, Refusal};
use fleetway_protocol::ids::{DeviceId, Digest};
use fleetway_protocol::join::{Join, JoinError};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::client::{AskError, Client};
use super::files::{self, PUBLIC, SECRET};
use super::pin::Pinned;
use super::places::Places;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};

/// A device that joined.
#[derive(Debug)]
pub struct Joined {
    /// Who it is now.
    pub device: DeviceId,
    /// Its configuration.
    pub config: PathBuf,
    /// Its broker.
    pub broker: BrokerUrl,
    /// Whether a TUF root was pinned.
    pub root: bool,
}

/// Why a device did not join.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// No join string.
    #[error("the join string cannot be used: {0}")]
    String(#[from] JoinError),
    /// A URL in it.
    #[error(
        "the join string names {0:?}, which is no URL of ours; check `names` in the controller's fleetway.toml"
    )]
    Url(String),
    /// It joined before.
    #[error("{} exists: this device has joined already; to join anew, move that directory away first", .0.display())]
    Exists(PathBuf),
    /// A file.
    #[error("cannot {doing} {}; check the disk, and run this as root, or as the user that the agent runs as", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key.
    #[error("{}: no key can be made of it or put there; move the file away and join again", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rcgen::Error,
    },
    /// Somebody else answers.
    #[error(
        "{url} shows the CA {shown:.16}, the join string says {pinned:.16}: this is another fleet, or somebody in between; nothing was sent. Check the URL, and make a new join string"
    )]
    OtherCa {
        /// Where.
        url: EnrollUrl,
        /// What it showed.
        shown: Digest,
        /// What it should have shown.
        pinned: Digest,
    },
    /// Another root.
    #[error(
        "{url} gives a root.json with digest {shown:.16}, the join string says {pinned:.16}; nothing was sent. Make a new join string"
    )]
    OtherRoot {
        /// Where.
        url: EnrollUrl,
        /// What it gave.
        shown: Digest,
        /// What it should have given.
        pinned: Digest,
    },
    /// The controller's answer is not what it should be.
    #[error(
        "the controller's {what}: refused, nothing of it is used; use the same version of agent and controller"
    )]
    Answer {
        /// What is wrong.
        what: &'static str,
    },
    /// The configuration it gave.
    #[error("the controller's configuration cannot be used")]
    Config(#[source] Box<ConfigError>),
    /// TLS itself.
    #[error("TLS is not available: {0}")]
    Tls(String),
    /// The controller.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// Joins by `text`; the configuration goes to `config`, everything else beside it.
///
/// # Errors
/// [`Failed`]; the same call may be made again.
pub async fn join(text: &str, config: &Path, clock: &Clock) -> Result<Joined, Failed> {
    let join: Join = text.parse()?;
    let url: EnrollUrl =
        join.enroll.parse().map_err(|_| Failed::Url(join.enroll.as_str().to_owned()))?;
    let broker: BrokerUrl =
        join.broker.parse().map_err(|_| Failed::Url(join.broker.as_str().to_owned()))?;
    let config = std::path::absolute(config).map_err(|source| Failed::File {
        doing: "find",
        path: config.into(),
        source,
    })?;
    if config.exists() {
        return Err(Failed::Exists(config));
    }
    let places = Places::of(&config);
    let files = &places.tls;
    for dir in [config.parent(), files.key.parent()].into_iter().flatten() {
        files::make_dir(dir).map_err(|source| Failed::File {
            doing: "make",
            path: dir.into(),
            source,
        })?;
    }
    let mut key = own_key(&files.key)?;

    let pinned = Pinned::new(join.ca);
    let tls = pinned
        .client_config(Arc::new(clock.clone()))
        .map_err(|error| Failed::Tls(error.to_string()))?;
    let client = Client { url: url.clone(), tls };
    let other_ca = |error: AskError| match pinned.other() {
        Some(shown) => Failed::OtherCa { url: url.clone(), shown, pinned: join.ca },
        None => error.into(),
    };
    let root = match join.root {
        Some(digest) => Some(root(&client, digest).await.map_err(|failed| match failed {
            Failed::Ask(error) => other_ca(error),
            failed => failed,
        })?),
        None => None,
    };
    let request = |key: &KeyPair| {
        let csr = csr(key, &files.key)?;
        Ok::<_, Failed>(EnrollRequest {
            device: join.device.clone(),
            token: join.token.clone(),
            csr,
        })
    };
    let mut asked = client.post::<_, Enrolled>("/enroll", &request(&key)?).await;
    if matches!(asked, Err(AskError::Refused(Refusal::KeyUsed))) {
        // Left by an enrolment before this one: each has its own, by which reports are told apart.
        key = new_key(&files.key)?;
        asked = client.post("/enroll", &request(&key)?).await;
    }
    let enrolled = asked.map_err(other_ca)?;

    let identity = TlsIdentity {
        ca_pem: enrolled.ca.as_bytes().to_vec(),
        cert_pem: enrolled.certificate.as_bytes().to_vec(),
        key_pem: key.serialize_pem().into_bytes(),
    };
    check_identity(&identity, &join)?;
    let write = |path: &Path, bytes: &[u8]| {
        files::write(path, PUBLIC, bytes).map_err(|source| Failed::File {
            doing: "write",
            path: path.into(),
            source,
        })
    };
    // Before the configuration is read, which looks at it; its digest is the pinned one.
    if let Some(root) = &root {
        write(&places.root, root)?;
    }
    let text = places.put_into(&enrolled.config);
    let text = text.ok_or(Failed::Answer { what: "configuration has another shape than ours" })?;
    let parsed = Config::check(&text, &config).map_err(|error| Failed::Config(Box::new(error)))?;
    check_config(&parsed, &join, (&broker, &url), &places)?;
    check_anchor(&parsed, root.as_deref())?;
    files::make_dir(&parsed.data_dir).map_err(|source| Failed::File {
        doing: "make",
        path: parsed.data_dir.clone(),
        source,
    })?;
    write(&parsed.data_dir.join(Floor::FILE), enrolled.floor.text().as_bytes())?;
    write(&files.ca, &identity.ca_pem)?;
    write(&files.cert, &identity.cert_pem)?;
    // Last: a directory with this file is complete.
    write(&config, text.as_bytes())?;
    Ok(Joined { device: join.device, config, broker, root: root.is_some() })
}

/// The key of an earlier attempt, or a new one.
fn own_key(path: &Path) -> Result<KeyPair, Failed> {
    let refused = |source| Failed::Key { path: path.into(), source };
    match std::fs::read_to_string(path) {
        Ok(pem) => return KeyPair::from_pem(&pem).map_err(refused),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(Failed::File { doing: "read", path: path.into(), source }),
    }
    new_key(path)
}

fn new_key(path: &Path) -> Result<KeyPair, Failed> {
    let key = KeyPair::generate().map_err(|source| Failed::Key { path: path.into(), source })?;
    files::write(path, SECRET, key.serialize_pem().as_bytes()).map_err(|source| Failed::File {
        doing: "write",
        path: path.into(),
        source,
    })?;
    Ok(key)
}

fn csr<const N: usize>(key: &KeyPair, path: &Path) -> Result<heapless::String<N>, Failed> {
    let made = CertificateParams::default().serialize_request(key).and_then(|csr| csr.pem());
    let pem = made.map_err(|source| Failed::Key { path: path.into(), source })?;
    pem.as_str().try_into().map_err(|_| Failed::Answer { what: "request is too long" })
}

async fn root(client: &Client, pinned: Digest) -> Result<bytes::Bytes, Failed> {
    let root = client.root().await?;
    let shown = Digest::of(&root);
    match shown == pinned {
        true => Ok(root),
        false => Err(Failed::OtherRoot { url: client.url.clone(), shown, pinned }),
    }
}

/// The CA is the pinned one and no other, and the certificate is for our key.
fn check_identity(identity: &TlsIdentity, join: &Join) -> Result<(), Failed> {
    let wrong = |what| Failed::Answer { what };
    let ca: Vec<_> = CertificateDer::pem_slice_iter(&identity.ca_pem).collect();
    match ca.as_slice() {
        [Ok(ca)] if Digest::of(ca) == join.ca => {}
        _ => return Err(wrong("CA certificate is not the one of the join string")),
    }
    identity.certified_key().map_err(|_| wrong("certificate is not for this device's key"))?;
    identity.client_config(None).map_err(|_| wrong("certificate cannot be used"))?;
    Ok(())
}

/// Where the fleet has a root, the configuration begins with the pinned one and nothing else.
fn check_anchor(config: &Config, root: Option<&[u8]>) -> Result<(), Failed> {
    match root {
        Some(pinned) if config.trust_root != pinned => {
            Err(Failed::Answer { what: "configuration does not begin with the pinned root" })
        }
        _ => Ok(()),
    }
}

/// The controller may say which topics and ports; who we are, whom we believe and where
/// our files are, the join string has said.
fn check_config(
    config: &Config,
    join: &Join,
    (broker, enroll): (&BrokerUrl, &EnrollUrl),
    places: &Places,
) -> Result<(), Failed> {
    let good = [
        (config.device == join.device, "configuration is of another device"),
        (config.broker.url == *broker, "configuration names another broker"),
        (config.enroll.as_ref() == Some(enroll), "configuration names another enrolment URL"),
        (config.broker.tls.as_ref() == Some(&places.tls), "configuration names other certificates"),
        (config.data_dir == places.data, "configuration has another data directory"),
        (config.factory_dir.is_none(), "configuration names factory models"),
        (!config.serve.endpoints.allow_remote, "configuration opens the device to its network"),
    ];
    match good.into_iter().find(|(good, _)| !good) {
        Some((_, what)) => Err(Failed::Answer { what }),
        None => Ok(()),
    }
}
