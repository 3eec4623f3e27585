//! What was refused, counted by check: how somebody at the box, or a test, sees an attack.

use std::collections::BTreeMap;

use fleetway_protocol::envelope::OpenError;
use fleetway_protocol::trust::{OrderError, ReleaseError};

/// How often each check refused something since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused(BTreeMap<&'static str, u64>);

impl Refused {
    /// Counts one more.
    pub(super) fn count(&mut self, check: &'static str) {
        *self.0.entry(check).or_default() += 1;
    }

    /// The checks that refused something.
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
