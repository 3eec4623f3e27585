//! Which of a device's telemetry reports came, and which are lost: numbers under the reports, and
//! the controller's answer to them.
//!
//! Every telemetry report of a device, of a model or of its machine, has a number, without gaps from
//! 1 on. At any moment, and after any power cut, each number that was given is one of three:
//!
//! > produced = delivered + lost + waiting
//!
//! *Delivered* is what the controller has written into its book, and says so by [`Heard`]: neither
//! the broker's PUBACK nor a socket that took the bytes means that. *Waiting* is what the device
//! still has on disk. *Lost* is the rest: numbers below the oldest that the device has
//! ([`Numbered::first`]) that the controller never got. So both sides count from the same two facts,
//! and a report that came although the device gave it up is delivered, not lost.
//!
//! A device that forgot its numbers (a new disk, a rotten mark) begins another series, with a
//! greater name; what the old series still owed is lost.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::envelope::{Context, Envelope, OpenError};
use crate::ids::DeviceId;
use crate::limits::{HEARD_BYTES_MAX, HEARD_SPANS_MAX, REPORT_NUMBER_MAX};
use crate::trust::Keyring;

/// Where a telemetry report stands among all of its device's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// Name of this run of numbers; a later one is greater.
    pub series: u64,
    /// The report's number, from 1 on.
    pub number: u64,
    /// The oldest report that the device still has when it sends this one; every number below was
    /// delivered or is lost. One above the last number if it has none.
    pub first: u64,
    /// When the report was made, Unix seconds by the device's clock. It may have waited since.
    pub time_s: u64,
}

impl Numbered {
    /// Whether the numbers can be: sums of some thousand devices' stay below 2^63.
    pub fn is_sane(&self) -> bool {
        (1..=REPORT_NUMBER_MAX).contains(&self.number)
            && (1..=REPORT_NUMBER_MAX + 1).contains(&self.first)
    }
}

/// Numbers that follow each other, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
}

/// What the controller has of a device's telemetry: signed by the director, so that nobody but
/// the controller makes a device throw reports away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Whose.
    pub device: DeviceId,
    /// Which run of numbers.
    pub series: u64,
    /// Every number up to and with this one is settled: delivered or lost.
    pub through: u64,
    /// How many of those are lost.
    pub lost: u64,
    /// Delivered above that, rising; not all of it if there is more than fits.
    pub above: Vec<Span, HEARD_SPANS_MAX>,
}

/// Why the controller's answer is not believed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HeardError {
    /// Not signed by the director.
    #[error("answer to telemetry refused: {0}")]
    Open(#[from] OpenError),
    /// Signed, but not to be understood.
    #[error("answer to telemetry refused: its payload is {0}")]
    Decode(#[from] codec::DecodeError),
    /// For another device.
    #[error("answer to telemetry refused: it is for device {0}")]
    Device(DeviceId),
    /// Its numbers cannot be.
    #[error("answer to telemetry refused: its numbers contradict each other")]
    Numbers,
}

impl Heard {
    /// The answer for `device`, if the director signed it. An old one that somebody repeats does
    /// nothing: what is settled stays settled.
    ///
    /// # Errors
    /// [`HeardError`] names the check that failed.
    pub fn open(bytes: &[u8], keyring: &Keyring, device: &DeviceId) -> Result<Self, HeardError> {
        let envelope = Envelope::decode(bytes).map_err(OpenError::from)?;
        let payload = envelope.open(&keyring.director, Context::Heard)?;
        let heard: Self = codec::decode(payload, HEARD_BYTES_MAX)?;
        if heard.device != *device {
            return Err(HeardError::Device(heard.device));
        }
        if !heard.is_sane() {
            return Err(HeardError::Numbers);
        }
        Ok(heard)
    }

    /// Whether the numbers keep their bounds and their order.
    pub fn is_sane(&self) -> bool {
        let mut below = self.through;
        self.through <= REPORT_NUMBER_MAX
            && self.lost <= self.through
            && self.above.iter().all(|span| {
                let rises = span.from > below && span.from <= span.to;
                below = span.to;
                rises && span.to <= REPORT_NUMBER_MAX
            })
    }

    /// Whether the controller has this number, or gave it up.
    pub fn settles(&self, number: u64) -> bool {
        number <= self.through || self.above.iter().any(|s| (s.from..=s.to).contains(&number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(through: u64, lost: u64, above: &[(u64, u64)]) -> Heard {
        let spans = above.iter().map(|(from, to)| Span { from: *from, to: *to });
        let device = DeviceId::new("cam-1").expect("id");
        Heard { device, series: 1, through, lost, above: spans.collect() }
    }

    #[test]
    fn numbers_that_cannot_be() {
        assert!(heard(0, 0, &[]).is_sane() && heard(9, 9, &[(11, 11), (13, 20)]).is_sane());
        for (through, lost, above) in [
            (9, 10, &[][..]),
            (9, 0, &[(9, 12)]),
            (9, 0, &[(12, 11)]),
            (9, 0, &[(11, 14), (14, 15)]),
            (0, 0, &[(1, u64::MAX)]),
            (u64::MAX, 0, &[]),
        ] {
            assert!(!heard(through, lost, above).is_sane(), "{through} {lost} {above:?}");
        }
        let numbered = |number, first| Numbered { series: 1, number, first, time_s: 0 };
        assert!(numbered(1, 1).is_sane() && numbered(5, 6).is_sane());
        for (number, first) in [(0, 1), (1, 0), (u64::MAX, 1), (1, u64::MAX)] {
            assert!(!numbered(number, first).is_sane(), "{number} {first}");
        }
    }

    #[test]
    fn what_is_settled() {
        let heard = heard(5, 1, &[(8, 9), (12, 12)]);
        let settled: std::vec::Vec<u64> = (1..15).filter(|n| heard.settles(*n)).collect();
        assert_eq!(settled, [1, 2, 3, 4, 5, 8, 9, 12]);
    }
}
