//! The bounds of metadata, checked before a byte is parsed.
//!
//! The suggestions of the TUF specification (512,000 bytes of root, 5 MB of targets) are for
//! machines that update over HTTP. Here a file travels as one retained MQTT message, and a
//! device holds it in memory as text and as a tree: hence the smaller figures.

/// What one metadata file may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A root, bytes.
    pub root_bytes_max: usize,
    /// The timestamp, bytes.
    pub timestamp_bytes_max: usize,
    /// A snapshot, bytes.
    pub snapshot_bytes_max: usize,
    /// A targets file, delegated ones included, bytes.
    pub targets_bytes_max: usize,
    /// Objects and lists inside each other.
    pub nesting_max: usize,
    /// Roots that are followed in one refresh.
    pub root_rotations_max: u32,
    /// Targets roles that are visited for one target.
    pub delegations_max: u32,
}

/// Largest metadata file on a device, bytes: one MQTT message that every broker and bridge we
/// know of takes, as for chunks ([`fleetway_protocol::limits::CHUNK_BYTES_MAX`]). A targets file
/// of this size lists some 250 releases; who has more delegates by model name, or drops old ones.
pub const FILE_BYTES_MAX: usize = fleetway_protocol::limits::CHUNK_BYTES_MAX as usize;

impl Limits {
    /// What a device takes, and what our author therefore refuses to write beyond.
    pub const DEVICE: Self = Self {
        // Eight keys and eight signatures for every role are 9 kB.
        root_bytes_max: 16 * 1024,
        // One pin and eight signatures are 2 kB. It comes most often, so it is held tightest.
        timestamp_bytes_max: 4 * 1024,
        // A pin is 30 bytes, with hashes 130: hundreds of delegated roles.
        snapshot_bytes_max: FILE_BYTES_MAX,
        targets_bytes_max: FILE_BYTES_MAX,
        // The deepest thing in TUF (a delegated key's value) is at 6; the rest is for `custom`.
        nesting_max: 12,
        // A device that was off for ten years of quarterly rotations needs two refreshes.
        root_rotations_max: 32,
        delegations_max: 32,
    };

    /// What the specification suggests, for the conformance suite.
    pub const SPECIFICATION: Self = Self {
        root_bytes_max: 512_000,
        timestamp_bytes_max: 16_384,
        snapshot_bytes_max: 2_000_000,
        targets_bytes_max: 5_000_000,
        nesting_max: 32,
        root_rotations_max: 32,
        delegations_max: 32,
    };
}
