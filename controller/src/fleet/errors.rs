//! One error per operation; each names the thing and the mend.

use fleetway_protocol::enroll::Refusal;
use fleetway_protocol::ids::{
    Counter, DeviceId, Digest, HardwareClass, ModelName, RolloutId, Version,
};
use fleetway_protocol::trust::ReleaseError;

use crate::ErrorKind;
use crate::planner::{LabelError, SpecError, Why};
use crate::store::StoreError;

/// The fleet could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The store failed; nothing was changed.
    #[error("not done, nothing was changed: {0}")]
    Store(#[from] StoreError),
    /// A record does not encode: a bug, caught before anything was written.
    #[error("not done: {what} does not encode ({detail}); this is a bug, please report it")]
    Encode {
        /// Which record.
        what: &'static str,
        /// What the codec says.
        detail: String,
    },
}

impl FleetError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Encode { .. } => ErrorKind::Internal,
        }
    }
}

/// A device command was refused.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// It is there already, with other labels.
    #[error("device {0} exists with other labels; change them with `fleetway device label`")]
    Exists(DeviceId),
    /// It is not there.
    #[error("no device {0}; see `fleetway device list`")]
    NotFound(DeviceId),
    /// It was revoked, and its old certificate is not over.
    #[error(
        "device {device} was revoked and its last certificate is good until {until}; use another id, or wait until then: an external broker cannot tell the two apart"
    )]
    StillValid {
        /// Which.
        device: DeviceId,
        /// Unix seconds.
        until: u64,
    },
    /// It cannot hang on what was named.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// It is carried by a gateway, and would get a connection of its own beside that.
    #[error(
        "device {device} hangs on {via}; revoke it first if it has a connection of its own now, or choose another id"
    )]
    HangsOn {
        /// Which.
        device: DeviceId,
        /// Its gateway.
        via: DeviceId,
    },
    /// It would have two ways in.
    #[error(
        "device {0} has a connection of its own; revoke it first, or choose another id for what hangs on the gateway"
    )]
    HasItsOwn(DeviceId),
    /// The key enrolled before.
    #[error(
        "device {0} had this key once before; each enrolment has a key of its own, make a new one"
    )]
    KeyUsed(DeviceId),
    /// A label that cannot be.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The fleet could not be written.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

impl DeviceError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists(_)
            | Self::StillValid { .. }
            | Self::KeyUsed(_)
            | Self::HangsOn { .. }
            | Self::HasItsOwn(_) => ErrorKind::Conflict,
            Self::Gateway(error) => error.kind(),
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Label(_) => ErrorKind::Usage,
            Self::Fleet(error) => error.kind(),
        }
    }
}

/// A device cannot hang on the one that was named as its gateway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// The gateway is not there yet.
    #[error(
        "its gateway {via} is not in the fleet yet; take that in first, with `fleetway device enroll {via}`, then adopt {device} again"
    )]
    Unknown {
        /// What would hang on it.
        device: DeviceId,
        /// What is missing.
        via: DeviceId,
    },
    /// The device was named as its own gateway.
    #[error(
        "device {0} cannot hang on itself; name the device at the other end of its line with --via"
    )]
    Itself(DeviceId),
    /// The gateway was thrown out.
    #[error(
        "device {0} was revoked and carries for nobody; let it in again with `fleetway device enroll {0}`, or name another gateway with --via"
    )]
    Revoked(DeviceId),
    /// The gateway has no connection itself.
    #[error(
        "device {via} hangs on {on} itself and has no connection; name a device that has one with --via"
    )]
    Hangs {
        /// The gateway that was named.
        via: DeviceId,
        /// Its own.
        on: DeviceId,
    },
    /// The device carries for others.
    #[error(
        "device {device} is a gateway itself, of {of}; choose another id, or revoke {of} or move it to another gateway first"
    )]
    Carries {
        /// Which.
        device: DeviceId,
        /// One that hangs on it.
        of: DeviceId,
    },
}

impl GatewayError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } => ErrorKind::NotFound,
            _ => ErrorKind::Conflict,
        }
    }
}

/// A release that is known to be bad was not lifted.
#[derive(Debug, thiserror::Error)]
pub enum KnownBadError {
    /// Nothing is known against it.
    #[error("nothing is known against release {release:.12} on {class}; see `fleetway model bad`")]
    Unknown {
        /// Which release.
        release: Digest,
        /// On which hardware.
        class: HardwareClass,
    },
    /// Without a reason.
    #[error(
        "a release that was found bad is offered again for a reason only; say it with --reason"
    )]
    NoReason,
    /// The fleet could not be written.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

impl KnownBadError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } => ErrorKind::NotFound,
            Self::NoReason => ErrorKind::Usage,
            Self::Fleet(error) => error.kind(),
        }
    }
}

/// A device was not let in.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// By the rules.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The fleet could not be written.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

/// A release was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Its signature or its manifest does not hold.
    #[error("not published: {0}; sign it with this fleet's release key (`fleetway model sign`)")]
    Trust(ReleaseError),
    /// Not above every other release of the model.
    #[error(
        "not published: {model} has a release with counter {highest} ({version}), this one has {counter}; import it again with counter {next}"
    )]
    Counter {
        /// The model.
        model: ModelName,
        /// The counter of the release.
        counter: Counter,
        /// The highest one there is.
        highest: Counter,
        /// The version that has it.
        version: Version,
        /// The next free one.
        next: Counter,
    },
    /// The version is taken by another release of the model.
    #[error(
        "not published: {model} {version} is already published with other bytes; import it under another version"
    )]
    Version {
        /// The model.
        model: ModelName,
        /// The version.
        version: Version,
    },
    /// The same bytes are published in chunks of another size.
    #[error(
        "not published: its file {artifact:.12} is published already, in chunks of {chunk_bytes} bytes; import it again with --chunk-bytes {chunk_bytes}"
    )]
    Chunks {
        /// The file.
        artifact: Digest,
        /// Bytes of the chunks that it is published in.
        chunk_bytes: u32,
    },
    /// The fleet could not be written.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

impl PublishError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Trust(_) => ErrorKind::Trust,
            Self::Counter { .. } | Self::Version { .. } | Self::Chunks { .. } => {
                ErrorKind::Conflict
            }
            Self::Fleet(error) => error.kind(),
        }
    }
}

/// A rollout command was refused.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// The specification makes no sense.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// No such release.
    #[error("release {0:.12} is not published; publish it first (`fleetway model publish`)")]
    NoRelease(Digest),
    /// It is a release of another model.
    #[error("release {release:.12} is one of {of}, not of {model}")]
    OtherModel {
        /// The release.
        release: Digest,
        /// Whose release it is.
        of: ModelName,
        /// Whose release was wanted.
        model: ModelName,
    },
    /// The selector matches no device.
    #[error("the selector `{selector}` matches none of {devices} devices; labels in use: {labels}")]
    NoDevices {
        /// The selector.
        selector: String,
        /// Devices in the fleet.
        devices: usize,
        /// Every label in use.
        labels: String,
    },
    /// It is not what was shown any more.
    #[error(
        "the plan is not the one that was shown: {what} changed; look at it again (`fleetway rollout plan`), or start it all the same with --even-if-changed"
    )]
    Changed {
        /// What, in words.
        what: String,
    },
    /// A canary that the rollout could not begin with.
    #[error("the canary {canary} cannot go first: {why}; name another one")]
    Canary {
        /// Which.
        canary: DeviceId,
        /// A sentence.
        why: String,
    },
    /// Every device that matches is in flight with another rollout or left out.
    #[error("nothing to do: {why}")]
    NothingMoves {
        /// A sentence.
        why: String,
        /// Every device that matches, and why it does not move.
        out: Vec<(DeviceId, Why)>,
    },
    /// There is nothing to undo, to try again or to go back from.
    #[error("nothing to do: {why}")]
    NothingFollows {
        /// A sentence.
        why: String,
    },
    /// No such rollout.
    #[error("no rollout {0}; see `fleetway rollout list`")]
    NotFound(RolloutId),
    /// It is in another state.
    #[error("rollout {rollout} is {state}: {mend}")]
    State {
        /// Which.
        rollout: RolloutId,
        /// Its state.
        state: &'static str,
        /// What can be done.
        mend: &'static str,
    },
    /// The fleet could not be written.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

impl RolloutError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Spec(error) => error.kind(),
            Self::NoRelease(_) | Self::NoDevices { .. } | Self::NotFound(_) => ErrorKind::NotFound,
            Self::OtherModel { .. } => ErrorKind::Usage,
            Self::NothingMoves { .. }
            | Self::NothingFollows { .. }
            | Self::Changed { .. }
            | Self::Canary { .. }
            | Self::State { .. } => ErrorKind::Conflict,
            Self::Fleet(error) => error.kind(),
        }
    }
}

/// A command on tokens was refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Not a name.
    #[error("{0:?} is no name of a token; use 1 to 64 letters, digits and - _ . @")]
    Name(String),
    /// It would be good for no time, or for too long.
    #[error("a token is good for 1 second to ten years; give a shorter time")]
    Life,
    /// There is one of that name.
    #[error("token {0} exists; revoke it first, or choose another name")]
    Exists(String),
    /// There is none of that name.
    #[error("no token {0}; see `fleetway token list`")]
    NotFound(String),
    /// The bound is reached.
    #[error("there are {max} tokens; revoke some that nobody uses", max = crate::access::TOKENS_MAX)]
    TooMany,
    /// The fleet could not be written.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

impl TokenError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Name(_) | Self::Life => ErrorKind::Usage,
            Self::Exists(_) | Self::TooMany => ErrorKind::Conflict,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Fleet(error) => error.kind(),
        }
    }
}

/// Store errors reach every operation through [`FleetError`].
macro_rules! from_store {
    ($($error:ident),+) => {$(
        impl From<StoreError> for $error {
            fn from(error: StoreError) -> Self {
                Self::Fleet(FleetError::Store(error))
            }
        }
    )+};
}
from_store!(DeviceError, PublishError, RolloutError);
