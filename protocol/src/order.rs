//! The order: what the director says one device runs now.
//!
//! One order per device holds the whole desired state, so that losing any number of
//! orders is harmless: the newest one says everything.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::codec::{Decode, Malformed, Reader};
use crate::health::WHOLE_PERMILLE;
use crate::hold::Hold;
use crate::ids::{DeviceId, Digest, Generation, ModelName, RolloutId, Text};
use crate::limits::MODELS_PER_DEVICE_MAX;
use crate::list::List;
use crate::shadow::ShadowPolicy;

/// Signed desired state of one device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Order {
    /// The only device that it is for.
    pub device: DeviceId,
    /// Rises with every order; a device never acts on one that is not above its last.
    pub generation: Generation,
    /// When it was signed, Unix seconds.
    pub issued_s: u64,
    /// When it stops being good for starting anything new, Unix seconds. What runs goes
    /// on running.
    pub expires_s: u64,
    /// The device's own nonce, where the device has no clock to judge freshness by.
    pub nonce: Option<[u8; 16]>,
    /// The models. One that is not named here is left as it is.
    pub models: Vec<ModelOrder, MODELS_PER_DEVICE_MAX>,
}

/// An [`Order`] where it was read: what every check is made on.
#[derive(Clone, Copy, Debug)]
pub struct OrderView<'a> {
    /// As [`Order::device`].
    pub device: Text<'a, DeviceId>,
    /// As [`Order::generation`].
    pub generation: Generation,
    /// As [`Order::issued_s`].
    pub issued_s: u64,
    /// As [`Order::expires_s`].
    pub expires_s: u64,
    /// As [`Order::nonce`].
    pub nonce: Option<&'a [u8; 16]>,
    /// As [`Order::models`].
    pub models: List<'a, ModelOrder>,
}

impl<'a> Decode<'a> for OrderView<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            device: reader.take()?,
            generation: reader.take()?,
            issued_s: reader.take()?,
            expires_s: reader.take()?,
            nonce: reader.option(Reader::array)?,
            models: List::read(reader, MODELS_PER_DEVICE_MAX, |_| true)?,
        })
    }
}

impl<'a> Decode<'a> for Order {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        reader.take::<OrderView<'_>>().map(Self::from)
    }
}

impl From<OrderView<'_>> for Order {
    fn from(view: OrderView<'_>) -> Self {
        Self {
            device: view.device.into(),
            generation: view.generation,
            issued_s: view.issued_s,
            expires_s: view.expires_s,
            nonce: view.nonce.copied(),
            models: view.models.iter().collect(),
        }
    }
}

/// What one model on the device shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Run this release: fetch it if need be, try it, keep it if it proves itself.
    Run,
    /// Go back to this release at once. It must be on the device already.
    Rollback,
    /// Stop serving the model and forget its bytes; floor and poison list stay.
    Remove,
}

/// The part of an order for one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelOrder {
    /// Which model.
    pub model: ModelName,
    /// Which release: the digest of its manifest. In which of its forms, the device knows best.
    pub release: Digest,
    /// What to do with it.
    pub action: Action,
    /// On whose behalf, so that reports can be counted where they belong.
    pub rollout: RolloutId,
    /// What this rollout asks of it.
    pub terms: Terms,
}

/// What a rollout asks of a release beyond its own manifest: when it may come in, how long it is
/// tried, on how many answers, with what the device can spare. What healthy means is the release
/// authority's to say ([`crate::health::HealthPolicy`]); the bounds here can only be tighter than
/// that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Shortest probation, seconds.
    pub probation_s: u32,
    /// Real answers that must have been given in probation; never fewer than the manifest's
    /// `samples_min`.
    pub probation_answers: u32,
    /// Failed answers per thousand that are tolerated. 1000: as the manifest says.
    pub error_permille_max: u16,
    /// 95th percentile of the latency that is tolerated, microseconds. 0: as the manifest says.
    pub p95_us_max: u32,
    /// Share of the most frequent class per thousand that is tolerated. 1000: as the manifest
    /// says.
    pub collapse_permille_max: u16,
    /// Deadline of the self-test, milliseconds.
    pub self_test_ms_max: u32,
    /// Address space of the self-test's process, MiB.
    pub self_test_mib_max: u32,
    /// How it runs in the shadow of what serves before it is activated; `None`: it does not.
    pub shadow: Option<ShadowPolicy>,
    /// When it may be fetched and activated.
    pub hold: Hold,
}

impl Default for Terms {
    /// Ten minutes and a hundred answers, judged as the manifest says; no shadow, no hold.
    fn default() -> Self {
        Self {
            probation_s: 600,
            probation_answers: 100,
            error_permille_max: WHOLE_PERMILLE,
            p95_us_max: 0,
            collapse_permille_max: WHOLE_PERMILLE,
            self_test_ms_max: 30_000,
            self_test_mib_max: 1024,
            shadow: None,
            hold: Hold::default(),
        }
    }
}
