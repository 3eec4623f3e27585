//! What was refused, counted by check, and what did not come in time, counted by kind: how
//! somebody at the box, or a test, sees an attack.

use std::collections::BTreeMap;

use fleetway_protocol::envelope::OpenError;
use fleetway_protocol::telemetry::HeardError;
use fleetway_protocol::trust::{OrderError, ReleaseError};

use super::Device;
use crate::fs::Fs;

/// How often something happened since the start of the process, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    /// Counts one more.
    pub(super) fn count(&mut self, check: &'static str) {
        self.add(check, 1);
    }

    /// Counts some more.
    pub(super) fn add(&mut self, name: &'static str, more: u64) {
        if more > 0 {
            *self.0.entry(name).or_default() += more;
        }
    }

    /// What happened at all.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(check, count)| (*check, *count))
    }
}

/// The check of an order that failed.
pub(super) fn order_check(error: &OrderError) -> &'static str {
    match error {
        OrderError::Open(OpenError::Decode(_)) | OrderError::Decode(_) => "order decode",
        OrderError::Open(_) => "order signature",
        OrderError::Device(_) => "order device",
        OrderError::Stale { .. } => "order generation",
        OrderError::Expired { .. } => "order expired",
        OrderError::Ambiguous => "order ambiguous",
        OrderError::Nonce => "order nonce",
    }
}

/// The check of an answer to telemetry that failed.
pub(super) fn heard_check(error: &HeardError) -> &'static str {
    match error {
        HeardError::Open(OpenError::Decode(_)) | HeardError::Decode(_) => "heard decode",
        HeardError::Open(_) => "heard signature",
        HeardError::Device(_) => "heard device",
        HeardError::Numbers => "heard numbers",
    }
}

/// The check of a release that failed.
pub(super) fn release_check(error: &ReleaseError) -> &'static str {
    match error {
        ReleaseError::Open(OpenError::Decode(_)) | ReleaseError::Decode(_) => "release decode",
        ReleaseError::Open(_) => "release signature",
        ReleaseError::Manifest(_) => "release bounds",
        ReleaseError::Scope { .. } => "release scope",
        ReleaseError::Digest { .. } => "release digest",
        ReleaseError::Model => "release model",
        ReleaseError::BelowFloor { .. } => "release floor",
        ReleaseError::NoVariant => "release variant",
        ReleaseError::Hardware => "release hardware",
    }
}

impl<F: Fs> Device<F> {
    /// What was refused since the start.
    pub fn refused(&self) -> &Counts {
        &self.refused
    }

    /// What was asked for and did not come in time, so that it was asked for again.
    pub fn late(&self) -> &Counts {
        &self.late
    }
}
