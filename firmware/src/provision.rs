//! What a device is born with: who it is, whom it believes, and its factory model. It lies in
//! memory that this crate never writes, beside the program; whoever makes the device puts it
//! there.
//!
//! The page is `length, crc32c, postcard`. It is trusted as the program itself is; the checksum
//! is against rot. The factory model is checked like any other all the same.

use fleetway_protocol::ids::{DeviceId, Digest, HardwareClass, ModelName, Version};
use fleetway_protocol::record::crc32c;
use serde::{Deserialize, Serialize};

/// Bytes before the body: its length and its checksum.
pub const PAGE_OVERHEAD_BYTES: usize = 8;

/// The page. Everything in it is borrowed from the memory that it lies in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Provision<'p> {
    /// The device.
    pub id: DeviceId,
    /// The one model that it serves.
    pub model: ModelName,
    /// What hardware it is: releases are told apart by it.
    pub hardware: HardwareClass,
    /// Version of the firmware, for reports.
    pub firmware: Version,
    /// Digest of the fleet CA's certificate, by which fleets are told apart.
    pub ca: Digest,
    /// The seed of the device's Ed25519 key, made in the factory and nowhere else.
    pub seed: [u8; 32],
    /// The first keyset, in its envelope. Whom it names the device believes, because it is here.
    #[serde(borrow)]
    pub keyset: &'p [u8],
    /// The model that is never erased.
    #[serde(borrow)]
    pub factory: Option<Factory<'p>>,
}

/// The factory model: the very bytes of a release.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Factory<'p> {
    /// Its signed manifest.
    pub release: &'p [u8],
    /// The keyset whose keys signed that.
    pub keyset: &'p [u8],
    /// Its golden vectors.
    pub golden: &'p [u8],
    /// The model.
    pub model: &'p [u8],
}

/// Memory that holds no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this device was not provisioned: its page is absent, altered, or of another version")]
pub struct ProvisionError;

impl<'p> Provision<'p> {
    /// Reads the page at the beginning of `memory`.
    ///
    /// # Errors
    /// [`ProvisionError`] if there is none.
    pub fn read(memory: &'p [u8]) -> Result<Self, ProvisionError> {
        let word = |at: usize| {
            let bytes = memory.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_le_bytes).ok_or(ProvisionError)
        };
        let (length, crc) = (word(0)? as usize, word(4)?);
        let body = memory.get(PAGE_OVERHEAD_BYTES..).and_then(|rest| rest.get(..length));
        let body = body.filter(|body| crc32c(body) == crc).ok_or(ProvisionError)?;
        postcard::from_bytes(body).map_err(|_| ProvisionError)
    }

    /// Writes the page into `buf`; what it gives back is the part that was written.
    pub fn write<'b>(&self, buf: &'b mut [u8]) -> Option<&'b [u8]> {
        let body = buf.get_mut(PAGE_OVERHEAD_BYTES..)?;
        let body = &*postcard::to_slice(self, body).ok()?;
        let (length, crc) = (body.len(), crc32c(body));
        buf[..4].copy_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
        buf[4..8].copy_from_slice(&crc.to_le_bytes());
        Some(&buf[..PAGE_OVERHEAD_BYTES + length])
    }
}
