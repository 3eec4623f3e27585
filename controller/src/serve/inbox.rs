//! What devices say, from bytes to [`Report`]s. A message that cannot be read is counted,
//! told once per device, and changes nothing: a broken device must not fill the log, and
//! never ends the controller.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fleetway_link::LinkEvent;
use fleetway_protocol::codec::{self, DecodeError};
use fleetway_protocol::ids::{DeviceId, ModelName};
use fleetway_protocol::limits::REPORT_BYTES_MAX;
use fleetway_protocol::report::{Ack, Presence, State, Telemetry, Want};
use fleetway_protocol::topics::Topic;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::Running;
use super::pump::{Order, Pump};
use crate::api::types::LinkView;

/// Devices whose bad messages are counted one by one. Beyond it somebody floods us with
/// made-up ids, and one counter for all is enough.
const COUNTED_MAX: usize = 10_000;

/// A device's report, decoded.
#[derive(Debug, PartialEq)]
pub(super) enum Report {
    /// It is there, or not.
    Presence(DeviceId, Presence),
    /// What it runs.
    State(DeviceId, ModelName, State),
    /// How it does.
    Telemetry(DeviceId, ModelName, Box<Telemetry>),
    /// Its answer to an order.
    Ack(DeviceId, Ack),
}

/// What a message turned out to be.
#[derive(Debug, PartialEq)]
enum Said {
    Report(Report),
    Want(DeviceId, Want),
    /// Ours, or a cleared retained message.
    Nothing,
    Bad(String, DecodeError),
}

fn read(root: &str, topic: &str, payload: &[u8]) -> Said {
    fn decoded<T: serde::de::DeserializeOwned>(
        device: DeviceId,
        payload: &[u8],
        make: impl FnOnce(DeviceId, T) -> Said,
    ) -> Said {
        match codec::decode(payload, REPORT_BYTES_MAX) {
            Ok(value) => make(device, value),
            Err(error) => Said::Bad(device.to_string(), error),
        }
    }
    if payload.is_empty() {
        return Said::Nothing;
    }
    match Topic::parse(root, topic) {
        Some(Topic::Presence(id)) => {
            decoded(id, payload, |id, v| Said::Report(Report::Presence(id, v)))
        }
        Some(Topic::State(id, model)) => {
            decoded(id, payload, |id, v| Said::Report(Report::State(id, model, v)))
        }
        Some(Topic::Telemetry(id, model)) => {
            decoded(id, payload, |id, v| Said::Report(Report::Telemetry(id, model, Box::new(v))))
        }
        Some(Topic::Ack(id)) => decoded(id, payload, |id, v| Said::Report(Report::Ack(id, v))),
        Some(Topic::Want(id)) => decoded(id, payload, |id, want: Want| {
            if want.is_sane() {
                Said::Want(id, want)
            } else {
                Said::Bad(id.to_string(), DecodeError::Malformed)
            }
        }),
        Some(Topic::Order(_) | Topic::Block(_) | Topic::Blob(..) | Topic::Trust(_)) => {
            Said::Nothing
        }
        None => Said::Bad(sender(root, topic), DecodeError::Malformed),
    }
}

/// Whose topic it is, as far as it has the form of ours.
fn sender(root: &str, topic: &str) -> String {
    let device = topic.strip_prefix(root).and_then(|rest| rest.strip_prefix("d/"));
    device.and_then(|rest| rest.split('/').next()).unwrap_or("?").chars().take(64).collect()
}

/// Counters and the state of the link, shared with the API.
#[derive(Clone, Default)]
pub(crate) struct Watch {
    inner: Arc<Mutex<Watched>>,
}

#[derive(Default)]
struct Watched {
    link: LinkView,
    bad: BTreeMap<String, u64>,
}

impl Watch {
    /// The state of the link, without the link's own counters.
    pub(crate) fn link(&self) -> LinkView {
        self.lock().link.clone()
    }

    /// Messages that could not be read, by device.
    pub(crate) fn bad(&self) -> BTreeMap<String, u64> {
        self.lock().bad.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a bad message; `true` for the first one of a device.
    fn count_bad(&self, device: &str) -> bool {
        let mut watched = self.lock();
        let known = watched.bad.contains_key(device);
        let key = if known || watched.bad.len() < COUNTED_MAX { device } else { "others" };
        let count = watched.bad.entry(key.to_owned()).or_default();
        *count += 1;
        *count == 1
    }

    fn up(&self, protocol: String, now_s: u64) {
        let link = &mut self.lock().link;
        *link =
            LinkView { up: true, protocol: Some(protocol), since_s: now_s, ..LinkView::default() };
    }

    /// Takes the link down; `true` if it was up, or never was anything, or for another reason.
    fn down(&self, reason: &str, now_s: u64) -> bool {
        let link = &mut self.lock().link;
        let news = link.up || link.down_because.as_deref() != Some(reason);
        if link.up || link.since_s == 0 {
            link.since_s = now_s;
        }
        (link.up, link.protocol) = (false, None);
        link.down_because = Some(reason.to_owned());
        news
    }
}

/// Reads the link until it ends.
pub(super) async fn run(
    mut events: mpsc::Receiver<LinkEvent>,
    root: String,
    running: Running,
    shared_with_blobs: bool,
) {
    use fleetway_controller::clock::now_s;
    let Running { core, pump, watch, gate, trust, .. } = running;
    while let Some(event) = events.recv().await {
        match event {
            LinkEvent::Up { version, .. } => {
                info!(%version, "connected to the broker");
                watch.up(version.to_string(), now_s());
                if shared_with_blobs {
                    pump.tell(Order::Up).await;
                }
                trust.up();
                core.link(true).await;
            }
            LinkEvent::Down { reason, retry_in } => {
                if watch.down(&reason, now_s()) {
                    warn!(%reason, ?retry_in, "not connected to the broker; trying again");
                }
                core.link(false).await;
            }
            LinkEvent::Refused { topic, code, .. } => {
                warn!(%topic, code, "the broker refuses the controller; check its access rules");
            }
            LinkEvent::Message { topic, payload, .. } => match read(&root, &topic, &payload) {
                Said::Report(report) => core.report(report).await,
                // What it reports, the fleet does not hear; its chunks would still travel.
                Said::Want(device, _) if gate.is_revoked(&device) => {}
                Said::Want(device, want) => pump.want(device, want),
                Said::Nothing => {}
                Said::Bad(device, error) => {
                    if watch.count_bad(&device) {
                        warn!(device, %topic, %error, "a message cannot be read; more are only counted");
                    }
                }
            },
        }
    }
}

/// Reads the link that only blobs use.
pub(super) async fn run_blobs(mut events: mpsc::Receiver<LinkEvent>, pump: Pump) {
    while let Some(event) = events.recv().await {
        match event {
            LinkEvent::Up { .. } => pump.tell(Order::Up).await,
            LinkEvent::Refused { topic, code, .. } => {
                warn!(%topic, code, "the broker refuses model bytes; check its access rules");
            }
            LinkEvent::Down { .. } | LinkEvent::Message { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetway_protocol::ids::ShortDigest;
    use fleetway_protocol::report::Stamp;
    use fleetway_protocol::topics::{Piece, ROOT_DEFAULT};

    fn encoded<T: serde::Serialize>(value: &T) -> Vec<u8> {
        let mut buf = [0; REPORT_BYTES_MAX];
        codec::encode(value, &mut buf).unwrap().to_vec()
    }

    #[test]
    fn hostile_messages_are_bad_and_nothing_else() {
        let ack = Ack {
            stamp: Stamp::default(),
            generation: 3,
            order: fleetway_protocol::ids::Digest::of(b"o"),
            refused: None,
        };
        let good = encoded(&ack);
        let topic = format!("{ROOT_DEFAULT}d/cam-1/up/ack");
        let said = read(ROOT_DEFAULT, &topic, &good);
        assert!(matches!(said, Said::Report(Report::Ack(_, got)) if got == ack));
        let bad = |topic: &str, payload: &[u8]| match read(ROOT_DEFAULT, topic, payload) {
            Said::Bad(device, _) => device,
            other => panic!("{other:?}"),
        };
        for cut in 1..good.len() {
            assert_eq!(bad(&topic, &good[..cut]), "cam-1");
        }
        assert_eq!(bad(&topic, &[good.as_slice(), b"x"].concat()), "cam-1");
        assert_eq!(bad(&topic, &vec![1; REPORT_BYTES_MAX + 1]), "cam-1");
        assert_eq!(bad(&topic, &[9, 1, 2]), "cam-1");
        assert_eq!(bad(&format!("{ROOT_DEFAULT}d/Cam/up/ack"), &good), "Cam");
        assert_eq!(read(ROOT_DEFAULT, &topic, b""), Said::Nothing);

        let want = |chunk| {
            let pieces = heapless::Vec::from_slice(&[Piece::Chunk(chunk)]).unwrap();
            encoded(&Want { of: ShortDigest([1; 16]), pieces })
        };
        let topic = format!("{ROOT_DEFAULT}d/cam-1/up/want");
        assert!(matches!(read(ROOT_DEFAULT, &topic, &want(5)), Said::Want(..)));
        assert_eq!(bad(&topic, &want(u32::MAX)), "cam-1");
    }

    #[test]
    fn bad_messages_are_told_once_per_device() {
        let watch = Watch::default();
        assert!(watch.count_bad("a"));
        assert!(!watch.count_bad("a"));
        assert!(watch.count_bad("b"));
        assert_eq!(watch.bad(), BTreeMap::from([("a".into(), 2), ("b".into(), 1)]));
    }

    #[test]
    fn an_outage_is_told_once_per_reason() {
        let watch = Watch::default();
        assert!(watch.down("refused", 5));
        assert!(!watch.down("refused", 6));
        assert!(watch.down("timeout", 7));
        assert_eq!(watch.link().since_s, 5);
        watch.up("MQTT 5.0".into(), 9);
        assert!(watch.link().up && watch.link().down_because.is_none());
        assert!(watch.down("refused", 11));
        assert_eq!(watch.link().since_s, 11);
    }
}
