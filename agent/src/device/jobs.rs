//! What the device wants done: messages to send, and jobs that take long.

use fleetway_engine::ModelBytes;
use fleetway_protocol::ids::ModelName;
use fleetway_protocol::machine::Token;
use fleetway_protocol::manifest::{Manifest, VariantKind};
use fleetway_protocol::order::Terms;
use fleetway_protocol::shadow::ShadowPolicy;
use fleetway_protocol::slot::Place;
use fleetway_protocol::telemetry::Heard;
use fleetway_protocol::trust::Verified;

use super::CheckJob;
#[cfg(doc)]
use super::Device;
use crate::telemetry::Record;

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// At least once, or at most once.
    pub at_least_once: bool,
    /// Kept by the broker for later subscribers.
    pub retain: bool,
}

/// Try a release in the sandbox; answer with [`Device::handle_self_test`].
#[derive(Debug)]
pub struct SelfTestJob {
    /// Which model.
    pub model: ModelName,
    /// For the answer.
    pub token: Token,
    /// What is tried.
    pub manifest: Verified<Manifest>,
    /// Its form.
    pub variant: VariantKind,
    /// The model's bytes, checked against the manifest.
    pub model_bytes: ModelBytes,
    /// The golden vectors, checked against the manifest.
    pub golden_bytes: Vec<u8>,
    /// Deadline and memory.
    pub terms: Terms,
}

/// Run a release in the shadow of what serves; answer with [`Device::handle_compared`] and, if it
/// ends by itself, with [`Device::handle_shadow_ended`].
#[derive(Debug)]
pub struct ShadowJob {
    /// Which model.
    pub model: ModelName,
    /// For the answers.
    pub token: Token,
    /// What is run.
    pub manifest: Verified<Manifest>,
    /// Its form.
    pub variant: VariantKind,
    /// The model's bytes, checked against the manifest.
    pub model_bytes: ModelBytes,
    /// How much of the requests it gets.
    pub shadow: ShadowPolicy,
    /// Memory and deadlines, as for a self-test.
    pub terms: Terms,
}

/// Load an engine and serve it; answer with [`Device::handle_activated`].
#[derive(Debug)]
pub struct ActivateJob {
    /// Which model.
    pub model: ModelName,
    /// For the answer.
    pub token: Token,
    /// Where the bytes are from.
    pub place: Place,
    /// What is loaded; the engine checks the bytes against it once more.
    pub manifest: Verified<Manifest>,
    /// Its form.
    pub variant: VariantKind,
    /// The model's bytes.
    pub model_bytes: ModelBytes,
}

/// What the device wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this.
    Publish(Publish),
    /// Subscribe at most once to this exact topic.
    Subscribe(String),
    /// Give that subscription up.
    Unsubscribe(String),
    /// Try a release.
    SelfTest(Box<SelfTestJob>),
    /// Run a release in the shadow of what serves.
    Shadow(Box<ShadowJob>),
    /// No more of that: it passed, or failed, or something newer came.
    EndShadow(ModelName),
    /// Load and serve.
    Activate(Box<ActivateJob>),
    /// Ask the device's own check; answer with [`Device::handle_check`].
    Check(CheckJob),
    /// Serve nothing for this model; answer with [`Device::handle_unloaded`].
    Unload(ModelName, Token),
    /// A telemetry report was made: for [`crate::telemetry::Outlet`].
    Telemetry(Record),
    /// What the controller has of them, for the same.
    Heard(Box<Heard>),
    /// Everything is durable: the process may end.
    Halt,
}
