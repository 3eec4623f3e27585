//! The topic table, as code. Written and parsed in this one place.
//!
//! ```text
//! <root>d/<id>/up/on            presence, retained, also the last will   QoS 1
//! <root>d/<id>/up/st/<model>    reported state, retained                 QoS 1
//! <root>d/<id>/up/tm/<model>    telemetry                                QoS 0
//! <root>d/<id>/up/hw            how the machine does                     QoS 0
//! <root>d/<id>/up/ack           answers to orders                        QoS 1
//! <root>d/<id>/up/want          chunks asked for                         QoS 1
//! <root>d/<id>/up/ns            what its next order must carry, retained QoS 1
//! <root>d/<id>/dn/ds            the order, retained                      QoS 1
//! <root>d/<id>/dn/blk           chunks in reply to `want`                QoS 0
//! <root>d/<id>/dn/tm            which telemetry came                     QoS 0
//! <root>b/<digest>/<n>          chunk n of an artifact, retained         QoS 0
//! <root>b/<digest>/r            the signed manifest of a release
//! <root>b/<digest>/l            the chunk list of an artifact
//! <root>t/<file>                what the release authority publishes, retained  QoS 1
//! <root>j/<id>/...              the same for dashboards, flat JSON, the controller alone   QoS 0
//! ```
//! What goes `up` is signed by the device ([`crate::signed`]).
//! `<digest>` is the first 16 bytes in hexadecimal. `<root>` is `fleetway/v1/`.

use core::fmt;

use heapless::String;

use crate::ids::{DeviceId, ModelName, ShortDigest};
use crate::trust_file::TrustFile;

/// Root of all topics unless configured otherwise.
pub const ROOT_DEFAULT: &str = "fleetway/v1/";
/// Longest configurable root, in bytes: with it the longest topic stays under 256.
pub const ROOT_BYTES_MAX: usize = 64;
/// Longest topic in bytes (AWS IoT Core's bound).
pub const TOPIC_BYTES_MAX: usize = 256;

/// A topic as text.
pub type TopicText = String<TOPIC_BYTES_MAX>;

/// A place in the topic tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Presence of a device.
    Presence(DeviceId),
    /// Reported state of a model.
    State(DeviceId, ModelName),
    /// Telemetry of a model.
    Telemetry(DeviceId, ModelName),
    /// How a device's machine does.
    Host(DeviceId),
    /// A device's answer to an order.
    Ack(DeviceId),
    /// Chunks that a device asks for.
    Want(DeviceId),
    /// The nonce of a device without a clock.
    Nonce(DeviceId),
    /// A device's order.
    Order(DeviceId),
    /// Chunks in reply to `Want`.
    Block(DeviceId),
    /// Which telemetry came.
    Heard(DeviceId),
    /// A piece of something content-addressed.
    Blob(ShortDigest, Piece),
    /// A file of the release authority.
    Trust(TrustFile),
}

/// Which piece of something content-addressed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Piece {
    /// The signed manifest of a release, under the digest of the manifest.
    Release,
    /// The chunk list, under the digest of the artifact that it describes.
    ChunkList,
    /// A chunk, under the digest of its artifact.
    Chunk(u32),
}

impl Topic {
    /// The topic under `root` (which ends in `/`).
    pub fn text(&self, root: &str) -> TopicText {
        use fmt::Write as _;
        let mut text = TopicText::new();
        let written = match self {
            Self::Presence(id) => write!(text, "{root}d/{id}/up/on"),
            Self::State(id, model) => write!(text, "{root}d/{id}/up/st/{model}"),
            Self::Telemetry(id, model) => write!(text, "{root}d/{id}/up/tm/{model}"),
            Self::Host(id) => write!(text, "{root}d/{id}/up/hw"),
            Self::Ack(id) => write!(text, "{root}d/{id}/up/ack"),
            Self::Want(id) => write!(text, "{root}d/{id}/up/want"),
            Self::Nonce(id) => write!(text, "{root}d/{id}/up/ns"),
            Self::Order(id) => write!(text, "{root}d/{id}/dn/ds"),
            Self::Block(id) => write!(text, "{root}d/{id}/dn/blk"),
            Self::Heard(id) => write!(text, "{root}d/{id}/dn/tm"),
            Self::Blob(digest, Piece::Release) => write!(text, "{root}b/{digest}/r"),
            Self::Blob(digest, Piece::ChunkList) => write!(text, "{root}b/{digest}/l"),
            Self::Blob(digest, Piece::Chunk(n)) => write!(text, "{root}b/{digest}/{n}"),
            Self::Trust(file) => write!(text, "{root}t/{file}"),
        };
        // 64 + 2 + 64 + 7 + 64: the ids are bounded by their types, the root by its check.
        assert!(written.is_ok(), "a topic of bounded parts fits TOPIC_BYTES_MAX");
        text
    }

    /// Reads a topic under `root`; `None` if it is none of ours.
    pub fn parse(root: &str, text: &str) -> Option<Self> {
        let mut levels = text.strip_prefix(root)?.split('/');
        let topic = match (levels.next()?, levels.next()?) {
            ("d", id) => {
                let id = DeviceId::new(id).ok()?;
                let kind = (levels.next()?, levels.next()?);
                let mut model = || levels.next().and_then(|m| ModelName::new(m).ok());
                match kind {
                    ("up", "on") => Self::Presence(id),
                    ("up", "st") => Self::State(id, model()?),
                    ("up", "tm") => Self::Telemetry(id, model()?),
                    ("up", "hw") => Self::Host(id),
                    ("up", "ack") => Self::Ack(id),
                    ("up", "want") => Self::Want(id),
                    ("up", "ns") => Self::Nonce(id),
                    ("dn", "ds") => Self::Order(id),
                    ("dn", "blk") => Self::Block(id),
                    ("dn", "tm") => Self::Heard(id),
                    _ => return None,
                }
            }
            ("b", digest) => {
                let piece = match levels.next()? {
                    "r" => Piece::Release,
                    "l" => Piece::ChunkList,
                    // One text per piece: `+7` and `007` are none of ours.
                    n if n.starts_with('+') || n.len() > 1 && n.starts_with('0') => return None,
                    n => Piece::Chunk(n.parse().ok()?),
                };
                Self::Blob(digest.parse().ok()?, piece)
            }
            ("t", file) => Self::Trust(TrustFile::parse(file)?),
            _ => return None,
        };
        levels.next().is_none().then_some(topic)
    }
}

/// A root that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a topic root ends in '/', has 2 to {ROOT_BYTES_MAX} bytes, no '+', '#' or '$', and does not begin with '/'"
)]
pub struct RootError;

/// Checks a configured root.
///
/// # Errors
/// [`RootError`] says what a root looks like.
pub fn check_root(root: &str) -> Result<(), RootError> {
    let sane = (2..=ROOT_BYTES_MAX).contains(&root.len())
        && root.ends_with('/')
        && !root.starts_with('/')
        && root.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'+' | b'#' | b'$'));
    if sane { Ok(()) } else { Err(RootError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_reads_back() {
        let id = DeviceId::new(&"d".repeat(64)).expect("id");
        let model = ModelName::new(&"m".repeat(64)).expect("name");
        let digest = ShortDigest([0xa5; 16]);
        let root = "r".repeat(ROOT_BYTES_MAX - 1) + "/";
        for topic in [
            Topic::Presence(id.clone()),
            Topic::State(id.clone(), model.clone()),
            Topic::Telemetry(id.clone(), model),
            Topic::Host(id.clone()),
            Topic::Ack(id.clone()),
            Topic::Want(id.clone()),
            Topic::Nonce(id.clone()),
            Topic::Order(id.clone()),
            Topic::Block(id.clone()),
            Topic::Heard(id),
            Topic::Blob(digest, Piece::Release),
            Topic::Blob(digest, Piece::ChunkList),
            Topic::Blob(digest, Piece::Chunk(u32::MAX)),
            Topic::Trust(TrustFile::Timestamp),
        ] {
            assert_eq!(Topic::parse(&root, &topic.text(&root)), Some(topic));
        }
    }

    #[test]
    fn what_is_not_ours_is_nothing() {
        for text in [
            "",
            "d/x",
            "fleetway/v1/d/a/up/on/x",
            "fleetway/v1/d/A/up/on",
            "fleetway/v1/b/00/1",
            "fleetway/v1/d/a/dn/zz",
            "fleetway/v1/t/1.timestamp.json",
            "fleetway/v1/t/timestamp.json/x",
            "fleetway/v1/b/00000000000000000000000000000000/+1",
            "fleetway/v1/b/00000000000000000000000000000000/01",
        ] {
            assert_eq!(Topic::parse(ROOT_DEFAULT, text), None, "{text}");
        }
        assert!(check_root("fleetway/v1/").is_ok());
        for root in ["", "/", "a", "/a/", "a+/", "$SYS/"] {
            assert!(check_root(root).is_err(), "{root}");
        }
    }
}
