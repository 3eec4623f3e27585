//! What travels over the API, and what `-o json` prints. Names are an interface: fields
//! are added, never renamed. Digests are hexadecimal, times are Unix seconds, reasons are
//! a code for programs and a sentence for people.

pub(crate) mod access;
mod device;
mod health;
mod release;
mod rollout;
mod spec;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use device::*;
pub(crate) use health::*;
pub(crate) use release::*;
pub(crate) use rollout::*;
pub(crate) use spec::*;

/// Why something was refused, undone or waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReasonView {
    /// Stable, upper case.
    pub(crate) code: String,
    /// One sentence.
    pub(crate) text: String,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct StatusView {
    /// Version of the controller.
    pub(crate) version: String,
    /// Its process.
    pub(crate) pid: u32,
    /// Since when, Unix seconds.
    pub(crate) started_s: u64,
    /// Its data directory.
    pub(crate) data: String,
    /// The broker.
    pub(crate) broker: BrokerView,
    /// The controller's own connection to it.
    pub(crate) link: LinkView,
    /// Model bytes on their way.
    pub(crate) blobs: BlobsView,
    /// Devices.
    pub(crate) devices: DeviceCounts,
    /// Rollouts that are not over.
    pub(crate) rollouts: Vec<RolloutSummary>,
    /// Messages that were refused, by device.
    pub(crate) bad_messages: BTreeMap<String, u64>,
    /// Reports that were refused since the start, by the check that refused them.
    #[serde(default)]
    pub(crate) reports_refused: BTreeMap<String, u64>,
    /// Orders sent again since the start because a device that is there did not answer.
    #[serde(default)]
    pub(crate) orders_resent: u64,
}

/// The broker.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct BrokerView {
    /// `embedded` or `external`.
    pub(crate) kind: String,
    /// `mqtts://host:port`, the port as it is.
    pub(crate) url: String,
    /// Live sessions, if it is the embedded one.
    pub(crate) sessions: Option<u64>,
}

/// A connection to the broker.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LinkView {
    /// Whether it is up.
    pub(crate) up: bool,
    /// Version of MQTT spoken.
    pub(crate) protocol: Option<String>,
    /// Why it is down.
    pub(crate) down_because: Option<String>,
    /// Since when it is as it is, Unix seconds.
    pub(crate) since_s: u64,
    /// Connections made.
    pub(crate) connects: u64,
    /// Messages that wait to be sent.
    pub(crate) outbox_messages: u64,
    /// Messages received.
    pub(crate) messages_in: u64,
    /// Messages sent.
    pub(crate) messages_out: u64,
    /// Payload bytes received.
    pub(crate) bytes_in: u64,
    /// Payload bytes sent.
    pub(crate) bytes_out: u64,
}

/// Model bytes on their way to the broker and to devices.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct BlobsView {
    /// Releases whose pieces the broker shall hold.
    pub(crate) seeded_releases: u64,
    /// Pieces that still have to be given to the broker.
    pub(crate) pieces_waiting: u64,
    /// Pieces given to the broker.
    pub(crate) pieces_sent: u64,
    /// Pieces sent to single devices that asked.
    pub(crate) wants_answered: u64,
    /// Pieces that a device asked for and that we do not have, or that it asked too many of.
    pub(crate) wants_refused: u64,
    /// Payload bytes sent.
    pub(crate) bytes_out: u64,
}

/// Numbers of devices.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DeviceCounts {
    /// Known.
    pub(crate) total: u64,
    /// Online.
    pub(crate) online: u64,
}

/// `GET /v1/audit`: heads as `fleetway audit verify` prints them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AuditView {
    /// The head before the first line that is kept.
    pub(crate) floor: String,
    /// The last line.
    pub(crate) head: String,
}

/// What a command did.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Done {
    /// One sentence.
    pub(crate) done: String,
}

/// What `trust publish` put into force.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TrustPublished {
    /// The files that were staged.
    pub(crate) files: Vec<String>,
    /// When the timestamp ends, which the controller renews. Unix seconds.
    pub(crate) expires_s: u64,
}

/// `run.json` in the data directory: where a running controller is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RunFile {
    /// Its process.
    pub(crate) pid: u32,
    /// The broker's URL, the port as it is.
    pub(crate) broker: String,
    /// Where devices come for certificates, the port as it is.
    #[serde(default)]
    pub(crate) enroll: String,
    /// The API's socket.
    pub(crate) api: String,
    /// The API over the network, the port as it is, if it is there.
    #[serde(default)]
    pub(crate) api_url: Option<String>,
    /// Since when, Unix seconds.
    pub(crate) started_s: u64,
}
