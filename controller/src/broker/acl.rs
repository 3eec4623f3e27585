//! Who may write, ask for and get which topic: one pure function, for every broker.
//!
//! The embedded broker asks it for each PUBLISH, SUBSCRIBE and last will; the acceptor asks
//! it for the will before a connection exists; `mosquitto.rs` writes the same table in that
//! broker's words. Under the root:
//!
//! | identity | publish | subscribe and get |
//! |---|---|---|
//! | device `<id>`, and for each that hangs on it | `d/<id>/up/...` | `d/<id>/dn/...`, exact pieces `b/<32 hex>/<n>`, `/r`, `/l`, trust files `t/<name>` |
//! | viewer | nothing | `j/...` |
//! | controller | everything | everything |
//!
//! Everything else is refused: what is not understood is not allowed. Filters of devices
//! must name their own id literally (no `+` in its place), pieces must be named one by one
//! (a wildcard over retained chunks would make the broker queue whole models), and shared
//! subscriptions are the controller's alone: one device could otherwise join a group and
//! take messages away from another.

use fleetway_protocol::ids::DeviceId;
use fleetway_protocol::topics::TOPIC_BYTES_MAX;
use fleetway_protocol::trust_file::TrustFile;

use super::identity::Identity;

/// Longest number of a chunk, in digits: a `u32` fits.
const CHUNK_DIGITS_MAX: usize = 10;

/// What is to be done with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Write to a topic, by PUBLISH or by last will.
    Publish,
    /// Ask for a filter.
    Subscribe,
    /// Get a message that was published to a topic.
    Receive,
}

/// For which devices somebody else speaks: the gateway first, then the device.
pub type SpeaksFor<'a> = &'a dyn Fn(&DeviceId, &str) -> bool;

/// Whether `identity` may do `action` on a topic (or, for `Subscribe`, a filter). `speaks_for`
/// knows who hangs on whom.
pub fn allowed(
    identity: &Identity,
    speaks_for: SpeaksFor<'_>,
    root: &str,
    action: Action,
    topic_or_filter: &str,
) -> bool {
    if topic_or_filter.len() > TOPIC_BYTES_MAX {
        return false;
    }
    let wildcards = action == Action::Subscribe;
    let filter = match (identity, action) {
        (Identity::Controller, Action::Subscribe) => without_share(topic_or_filter),
        _ => Some(topic_or_filter),
    };
    // `$SYS` and `$share` never pass, even under an empty root.
    let Some(path) = filter
        .filter(|filter| !filter.starts_with('$'))
        .and_then(|filter| filter.strip_prefix(root))
        .filter(|path| well_formed(path, wildcards))
    else {
        return false;
    };
    match (identity, action) {
        (Identity::Controller, _) => true,
        (Identity::Device(id), Action::Publish) => is_below(path, id, "up", speaks_for),
        (Identity::Device(id), _) => {
            is_below(path, id, "dn", speaks_for) || is_piece(path) || is_trust(path)
        }
        (Identity::Viewer(_), Action::Publish) => false,
        (Identity::Viewer(_), _) => path.strip_prefix("j/").is_some(),
    }
}

/// `d/<id>/<direction>/` and at least one more level, of `id` itself or of what hangs on it.
fn is_below(path: &str, id: &DeviceId, direction: &str, speaks_for: SpeaksFor<'_>) -> bool {
    let below = path.strip_prefix("d/").and_then(|rest| rest.split_once('/'));
    let Some((of, rest)) = below else { return false };
    let is_direction =
        rest.strip_prefix(direction).and_then(|rest| rest.strip_prefix('/')).is_some();
    is_direction && (of == id.as_str() || speaks_for(id, of))
}

/// `b/<32 hex>/<n>` or the manifest's `r` and the chunk list's `l`, exactly as the
/// protocol's `Topic::Blob` writes them. No wildcard passes as a digit or as a letter.
fn is_piece(path: &str) -> bool {
    let Some((digest, piece)) = path.strip_prefix("b/").and_then(|rest| rest.split_once('/'))
    else {
        return false;
    };
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let is_number = || piece.len() <= CHUNK_DIGITS_MAX && piece.bytes().all(|b| b.is_ascii_digit());
    digest.len() == 32
        && digest.bytes().all(is_hex)
        && !piece.is_empty()
        && (matches!(piece, "r" | "l") || is_number())
}

/// A file of the release authority, by its one name.
fn is_trust(path: &str) -> bool {
    path.strip_prefix("t/").and_then(TrustFile::parse).is_some()
}

/// The filter of a shared subscription, or the filter itself; `None` if the share is malformed.
fn without_share(filter: &str) -> Option<&str> {
    let Some(shared) = filter.strip_prefix("$share/") else {
        return Some(filter);
    };
    let (group, inner) = shared.split_once('/')?;
    (!group.is_empty() && !group.contains(['+', '#'])).then_some(inner)
}

/// Levels without gaps, and wildcards only where the standard puts them, if at all.
fn well_formed(path: &str, wildcards: bool) -> bool {
    let mut levels = path.split('/').peekable();
    while let Some(level) = levels.next() {
        let last = levels.peek().is_none();
        let ok = match level {
            "" => false,
            "+" => wildcards,
            "#" => wildcards && last,
            _ => !level.contains(['+', '#', '\0']),
        };
        if !ok {
            return false;
        }
    }
    true
}

#[cfg(test)]
#[path = "acl_tests.rs"]
mod tests;
