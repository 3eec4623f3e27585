//! A telemetry report while it waits on disk: what it is of, and what it says. Its number is the
//! spool's; series and oldest number are of the moment at which it leaves.

use fleetway_protocol::codec;
use fleetway_protocol::ids::{DeviceId, ModelName};
use fleetway_protocol::report::{Host, Telemetry};
use fleetway_protocol::telemetry::Numbered;
use fleetway_protocol::topics::Topic;
use serde::{Deserialize, Serialize};

use crate::spool::RECORD_BYTES_MAX;

/// A telemetry report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// What a model answered.
    Model(ModelName, Box<Telemetry>),
    /// How the machine does.
    Host(Box<Host>),
}

impl Record {
    /// As it is kept. Reports are bounded by their types, so that they always fit.
    pub fn encode(&self) -> Vec<u8> {
        let mut buf = [0; RECORD_BYTES_MAX];
        let bytes = codec::encode(self, &mut buf);
        bytes.expect("a report of bounded parts fits RECORD_BYTES_MAX").to_vec()
    }

    /// Reads what [`Record::encode`] wrote; `None` if it is of another build, which did not write
    /// the same.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        codec::decode(bytes, RECORD_BYTES_MAX).ok()
    }

    /// Where it goes.
    pub(super) fn topic(&self, device: &DeviceId) -> Topic {
        match self {
            Self::Model(model, _) => Topic::Telemetry(device.clone(), model.clone()),
            Self::Host(_) => Topic::Host(device.clone()),
        }
    }

    /// The report under its number; the time is what it was when the report was made.
    pub(super) fn report(&mut self, series: u64, number: u64, first: u64, lost: u64) -> Vec<u8> {
        let numbered = match self {
            Self::Model(_, telemetry) => {
                telemetry.dropped = lost;
                &mut telemetry.numbered
            }
            Self::Host(host) => &mut host.numbered,
        };
        *numbered = Numbered { series, number, first, ..*numbered };
        match self {
            Self::Model(_, telemetry) => crate::device::encode(telemetry),
            Self::Host(host) => crate::device::encode(host),
        }
    }
}
