//! The names of the files that the release authority publishes.
//!
//! They are TUF's, with consistent snapshots: every file but the timestamp carries its version,
//! so that a file under a name never changes. The keyset carries its digest. Written and parsed
//! in this one place, for topics, for disks and for web servers.

use core::fmt;

use crate::ids::{Digest, RoleName};

/// A file of the release authority.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrustFile {
    /// `timestamp.json`: the only name whose content changes.
    Timestamp,
    /// `<version>.root.json`.
    Root(u64),
    /// `<version>.snapshot.json`.
    Snapshot(u64),
    /// `<version>.targets.json`.
    Targets(u64),
    /// `<version>.<role>.json`: targets of a delegated role.
    Delegated(u64, RoleName),
    /// `<sha256>.keyset`: the compact keyset, by the digest of the file.
    Keyset(Digest),
    /// `<version>.keyset`: the same by its version, for devices that go from each to the next.
    KeysetVersion(u64),
}

impl TrustFile {
    /// Reads a name; `None` if it is none of ours. Every file has one name: `01.root.json` and
    /// `+1.root.json` are none.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "timestamp.json" {
            return Some(Self::Timestamp);
        }
        if let Some(keyset) = name.strip_suffix(".keyset") {
            let by_version = || number(keyset).map(Self::KeysetVersion);
            return keyset.parse().ok().map(Self::Keyset).or_else(by_version);
        }
        let (version, role) = name.strip_suffix(".json")?.split_once('.')?;
        let version = number(version)?;
        Some(match role {
            "root" => Self::Root(version),
            "snapshot" => Self::Snapshot(version),
            "targets" => Self::Targets(version),
            role => Self::Delegated(version, RoleName::new(role).ok()?),
        })
    }
}

/// A version in the one way in which it is written.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    is_plain.then(|| text.parse().ok())?
}

impl fmt::Display for TrustFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timestamp => f.write_str("timestamp.json"),
            Self::Root(version) => write!(f, "{version}.root.json"),
            Self::Snapshot(version) => write!(f, "{version}.snapshot.json"),
            Self::Targets(version) => write!(f, "{version}.targets.json"),
            Self::Delegated(version, role) => write!(f, "{version}.{role}.json"),
            Self::Keyset(digest) => write!(f, "{digest}.keyset"),
            Self::KeysetVersion(version) => write!(f, "{version}.keyset"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use super::*;

    #[test]
    fn every_file_has_one_name() {
        let role = RoleName::new("team-vision").expect("a role");
        for (file, name) in [
            (TrustFile::Timestamp, "timestamp.json"),
            (TrustFile::Root(1), "1.root.json"),
            (TrustFile::Snapshot(u64::MAX), "18446744073709551615.snapshot.json"),
            (TrustFile::Targets(20), "20.targets.json"),
            (TrustFile::KeysetVersion(7), "7.keyset"),
            (TrustFile::Delegated(3, role), "3.team-vision.json"),
        ] {
            assert_eq!(file.to_string(), name);
            assert_eq!(TrustFile::parse(name), Some(file));
        }
        let keyset = TrustFile::Keyset(Digest([0xab; 32]));
        assert_eq!(TrustFile::parse(&keyset.to_string()), Some(keyset));
    }

    #[test]
    fn other_names_are_none_of_ours() {
        for name in [
            "",
            "root.json",
            "1.timestamp.json",
            "0.root.json",
            "01.root.json",
            "+1.root.json",
            ".root.json",
            "18446744073709551616.root.json",
            "1.Team.json",
            "1.a.b.json",
            "1.a/b.json",
            "1.root.json.new",
            "ab.keyset",
            "0.keyset",
            "07.keyset",
            "+7.keyset",
        ] {
            assert_eq!(TrustFile::parse(name), None, "{name}");
        }
    }
}
