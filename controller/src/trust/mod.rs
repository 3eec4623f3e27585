//! The release authority's side: who may sign what, what waits for whose signature, and what
//! is published. TUF 1.0 metadata for everything on Linux, and the compact keyset beside it.
//!
//! `<data>/trust/` holds `metadata/` and `targets/` (a TUF repository that any static web
//! server can serve) and `staged/` (next versions that wait for signatures). The core is
//! pure: a [`Repo`] and a time in, the next `Repo` out; [`files`] alone touches the disk.
//!
//! Read in this order:
//! 1. [`meta`]: one file and its signatures; [`repo`]: all of them together;
//! 2. [`stage`]: what changes (keys, teams, releases) become staged files;
//! 3. [`ceremony`]: whose signatures are there, and whose are missing;
//! 4. [`publish`]: staged becomes published, once the devices' own client took it (`rehearse`);
//!    the server's own signatures;
//!    [`brought`]: what another place published, with a release on a stick;
//! 5. [`signer`]: where secret keys are; [`files`]: how it becomes durable;
//!    [`online`]: the keys that lie on this machine.

pub mod brought;
pub mod ceremony;
mod errors;
pub mod files;
pub mod meta;
pub mod online;
pub mod publish;
mod rehearse;
pub mod repo;
pub mod signer;
pub mod stage;
#[cfg(test)]
pub(crate) mod tests;

pub use errors::TrustError;
pub use meta::Meta;
pub use repo::{KeysetFile, Repo, Version};

/// Life of a root, days: a yearly ceremony is what people can be held to.
pub const ROOT_DAYS: u64 = 365;
/// Life of targets, days: nobody has to come in for a quarter without releases.
pub const TARGETS_DAYS: u64 = 90;
/// Life of a snapshot, seconds: the server renews it, so a week is its longest outage.
pub const SNAPSHOT_S: u64 = 7 * DAY_S;
/// Life of a timestamp, seconds: how long a broker can hide that there is something newer.
pub const TIMESTAMP_S: u64 = DAY_S;
/// Age at which the server signs a timestamp again, seconds: three may fail before a device
/// notices.
pub const RESIGN_S: u64 = 6 * 3600;
/// Seconds of a day.
pub const DAY_S: u64 = 24 * 3600;
/// The keyset's name among the targets.
pub const KEYSET_TARGET: &str = "fleetway/keyset";
/// What a key's owner or use is called in the metadata.
pub const NAME_FIELD: &str = "x-fleetway-name";
