//! The controller's core: what the fleet is, what was asked of it, what it said.
//!
//! **Contract.** Synchronous; time is an argument (Unix seconds, from [`crate::clock`]).
//! Operator commands and device reports go in; each is durable in the store before the
//! call returns `Ok`, and nothing has changed if it returns `Err`. [`Fleet::tick`] (once a
//! second, and after every command) runs the planner and makes its decisions durable in one
//! commit. Then drain [`Fleet::poll_effect`] until it gives `None`. Effects may be repeated
//! and lost: after a restart and after every reconnect to the broker call
//! [`Fleet::resend_all`], which gives them again from durable state, the same bytes under
//! the same generation.
//!
//! ```text
//! commands ┐                       ┌ orders, seeding (Effect)
//!          ├─> Fleet ── tick ─────>┤
//! reports  ┘     │  planner        └ journal
//!                store
//! ```
//!
//! The public surface, by file: `commands` (devices, releases), `identities` (tokens, keys,
//! revocation), `tokens` (of the API), `once` (what is not done twice), `rollouts` (plan, start,
//! pause, resume, abort), `follow` (promote, undo, retry, back), `reports` and `telemetry` (`handle_*`, `settle`), `tick` (`tick`, `poll_effect`,
//! `resend_all`), `known_bad` (what is not offered again), `queries`, `census` and `history`; values in [`views`], errors in [`errors`].

mod adopt;
mod answered;
mod book;
mod census;
mod commands;
pub mod errors;
mod evidence;
mod facts;
mod follow;
mod history;
mod identities;
mod known_bad;
mod mirrored;
mod once;
mod open;
mod orders;
mod preview;
mod queries;
mod records;
mod reports;
mod rollouts;
mod telemetry;
#[cfg(test)]
mod tests;
mod tick;
mod tokens;
mod txn;
pub mod views;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fleetway_protocol::ids::{
    DeviceId, Digest, Generation, HardwareClass, ModelName, RolloutId, Version,
};
use fleetway_protocol::keyset::ReleaseKeys;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::report::{Host, Nonce, Stamp};
use fleetway_protocol::sandbox::Sandbox;

use crate::audit::Bounds;
use crate::mirror::Mirror;
use crate::mirror::home_assistant::{Facts, HomeAssistant};
use crate::planner::{Deployment, Input, KnownBad, Plan};
use crate::store::Store;

pub use answered::Answered;
pub use book::{ReportTotals, Sum};
pub use census::{Candidate, Census, Standing};
pub use errors::{
    DeviceError, EnrollError, FleetError, GatewayError, KnownBadError, PublishError, RolloutError,
    TokenError,
};
pub use follow::{Follow, FollowPlan};
pub use history::{POINTS_MAX, Point};
pub use identities::{TOKEN_LIFE_S, TOKEN_TRIES};
pub use once::{Begun, Kept, ONCE_S};
pub use open::{read_audit, write_audit};
pub use preview::PlanHash;
pub use views::{
    Adopted, DeviceView, Effect, IdentityView, Ignored, ModelState, ModelView, PhasePreview,
    PlanPreview, ReleaseView, RolloutView, TelemetryView,
};

use book::Book;
use evidence::Watch;
use records::{AccessRecord, DeviceRecord, IdentityRecord, MetaRecord, OrderRecord, RolloutRecord};
use telemetry::Unanswered;

/// Seconds that an order is good for.
pub const ORDER_LIFE_S: u64 = 7 * 24 * 3600;
/// Orders renewed in one tick: a fleet whose orders age together is renewed over some
/// minutes, not in one burst.
pub const RENEWALS_PER_TICK_MAX: usize = 256;
/// Seconds after which an order that an online device did not acknowledge is sent again:
/// brokers lose what they acknowledged, and a device may have had no room to store it.
pub const RESEND_S: u64 = 30;
/// Lines of the journal that the store keeps; older ones go, one for one. All of them are in the
/// audit log's files, which this many lines may lag behind.
pub const JOURNAL_ENTRIES_MAX: u64 = 20_000;

/// On whose behalf, and when.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// A person's name, for the journal.
    pub who: &'a str,
    /// Unix seconds.
    pub now_s: u64,
}

/// The fleet. See the module page for the contract.
pub struct Fleet {
    store: Arc<dyn Store>,
    release_keys: ReleaseKeys,
    meta: MetaRecord,
    devices: BTreeMap<DeviceId, Device>,
    releases: BTreeMap<Digest, ReleaseView>,
    rollouts: BTreeMap<RolloutId, Rollout>,
    /// Which releases turned out bad on which hardware.
    known_bad: BTreeMap<(Digest, HardwareClass), KnownBad>,
    listening_since_s: Option<u64>,
    effects: VecDeque<Effect>,
    seeded: BTreeSet<Digest>,
    ignored: Ignored,
    /// What releases answered since the start.
    answered: answered::AllAnswered,
    /// Orders given again because nobody answered them.
    resent: u64,
    /// Where the audit log begins and ends.
    audit: Bounds,
    /// Id of the key that signs orders, for the audit log.
    director: Option<String>,
    /// Id of the authority that signs certificates, for the audit log.
    issuer: Option<String>,
    /// Envelopes by release, the exact bytes.
    envelopes: BTreeMap<Digest, Vec<u8>>,
    /// The last decision and what led to it, for the journal; `None`: nobody keeps one, or it was taken.
    decided: Option<(Input, Plan)>,
    /// Whether somebody does.
    keeps_decisions: bool,
    /// What is counted for the gates of open rollouts.
    watches: BTreeMap<RolloutId, Watch>,
    /// Tokens of the API, by name.
    tokens: BTreeMap<String, AccessRecord>,
    /// When the notes of commands that are done once were made, by their keys' digests.
    once: BTreeMap<Digest, u64>,
    /// What dashboards get, if they get anything.
    mirror: Option<Mirror>,
    /// Who is told where to find it, if anybody is.
    home_assistant: Option<HomeAssistant>,
}

/// A device: what is durable, and what is only known since the start.
#[derive(Clone, Debug)]
struct Device {
    record: DeviceRecord,
    identity: IdentityRecord,
    order: Option<OrderRecord>,
    /// Which of its telemetry came. Durable when the device is answered.
    book: Book,
    /// Follows from the deployments.
    moved_by: MovedBy,
    live: Live,
}

/// What a device said since the controller started.
#[derive(Clone, Debug, Default)]
struct Live {
    online: bool,
    heard_s: Option<u64>,
    agent: Option<Version>,
    presence: Option<Stamp>,
    /// Generation of the order that the device took.
    taken: Option<Generation>,
    refused: Option<Reason>,
    /// When the order in force was last given to the shell.
    sent_s: Option<u64>,
    /// The order in force must be given again above this generation.
    reissue_above: Option<Generation>,
    telemetry: BTreeMap<ModelName, (Stamp, TelemetryView)>,
    history: BTreeMap<ModelName, history::History>,
    host: Option<Host>,
    ack: Option<Stamp>,
    want: Option<Stamp>,
    /// What its orders must carry, if it has no clock.
    nonce: Option<Nonce>,
    sandbox: Option<Sandbox>,
    unanswered: Unanswered,
    /// What dashboards were told last.
    mirrored_online: Option<bool>,
    /// What Home Assistant was told last.
    announced: Option<Facts>,
    /// The record knows of a newer boot than the store.
    booted: bool,
}

impl Live {
    /// It said something that nobody keeps: whoever does is there, whatever an old will says.
    fn speaks(&mut self, now_s: u64) {
        self.online = true;
        self.heard_s = Some(now_s);
    }
}

/// The newest rollout of each model that ever moved a device, and its release.
type MovedBy = BTreeMap<ModelName, (RolloutId, Digest)>;

/// A rollout and its deployments.
#[derive(Clone, Debug)]
struct Rollout {
    record: RolloutRecord,
    /// The devices that its selector matched at the start.
    members: Option<Arc<BTreeSet<DeviceId>>>,
    deployments: BTreeMap<DeviceId, Deployment>,
}
