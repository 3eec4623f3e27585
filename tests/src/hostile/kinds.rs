//! What there is to be done, and to what.

use fleetway_protocol::topics::{Piece, ROOT_DEFAULT, Topic};

/// A kind of mischief.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Taken away, and acknowledged.
    Drop,
    /// Sent again and again.
    Repeat,
    /// Sent in another order.
    Reorder,
    /// Bits, bytes and ranges changed.
    Mutate,
    /// Cut short, or grown.
    Truncate,
    /// All of one class taken away, for as long as the attack lasts.
    Withhold,
    /// Something older sent again.
    Replay,
    /// Sent to another device, or to another topic.
    CrossWire,
    /// Well-formed, and signed with the attacker's own keys.
    Forge,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Drop,
        Self::Repeat,
        Self::Reorder,
        Self::Mutate,
        Self::Truncate,
        Self::Withhold,
        Self::Replay,
        Self::CrossWire,
        Self::Forge,
    ];

    /// Whether it takes messages away: there is nothing that a check could refuse.
    pub fn takes_away(self) -> bool {
        matches!(self, Self::Drop | Self::Withhold)
    }
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the broker.
    Up,
    /// From the broker.
    Down,
}

/// What a message is, as far as mischief goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// An order for a device.
    Order,
    /// A signed manifest.
    Release,
    /// A chunk list.
    List,
    /// A retained chunk.
    Chunk,
    /// A chunk in reply.
    Block,
    /// A file of the release authority.
    Trust,
    /// What a device says.
    Report,
    /// Anything else.
    Other,
}

impl Class {
    /// Whether the controller gives it to the broker for everybody who asks.
    pub(super) fn is_seed(self) -> bool {
        matches!(self, Self::Release | Self::List | Self::Chunk)
    }

    pub(super) fn of(topic: &str) -> Self {
        if topic.strip_prefix(ROOT_DEFAULT).is_some_and(|rest| rest.starts_with("t/")) {
            return Self::Trust;
        }
        match Topic::parse(ROOT_DEFAULT, topic) {
            Some(Topic::Order(_)) => Self::Order,
            Some(Topic::Blob(_, Piece::Release)) => Self::Release,
            Some(Topic::Blob(_, Piece::ChunkList)) => Self::List,
            Some(Topic::Blob(_, Piece::Chunk(_))) => Self::Chunk,
            Some(Topic::Block(_)) => Self::Block,
            Some(Topic::Heard(_)) => Self::Other,
            Some(_) => Self::Report,
            None => Self::Other,
        }
    }
}
