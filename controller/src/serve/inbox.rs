//! What the links tell, and what devices say by them. A message that is refused (`reports`
//! says why) is counted, told once per device, and changes nothing: neither a broken device nor
//! somebody in its place fills the log or ends the controller.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fleetway_link::LinkEvent;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::Running;
use super::pump::{Order, Pump};
use super::reports::{self, Refused};
use crate::api::types::LinkView;

/// Devices whose bad messages are counted one by one. Beyond it somebody floods us with
/// made-up ids, and one counter for all is enough.
const COUNTED_MAX: usize = 10_000;

/// Counters and the state of the link, shared with the API.
#[derive(Clone, Default)]
pub(crate) struct Watch {
    inner: Arc<Mutex<Watched>>,
}

#[derive(Default)]
struct Watched {
    link: LinkView,
    bad: BTreeMap<String, u64>,
    refused: BTreeMap<&'static str, u64>,
}

impl Watch {
    /// The state of the link, without the link's own counters.
    pub(crate) fn link(&self) -> LinkView {
        self.lock().link.clone()
    }

    /// Messages that were refused, by device.
    pub(crate) fn bad(&self) -> BTreeMap<String, u64> {
        self.lock().bad.clone()
    }

    /// The same messages, by the check that refused them.
    pub(crate) fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.lock().refused.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a message that was refused; `true` for the first one of a device.
    fn count(&self, device: &str, why: Refused) -> bool {
        let mut watched = self.lock();
        *watched.refused.entry(why.check()).or_default() += 1;
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
    let Running { core, pump, watch, gate, trust, ca, .. } = running;
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
            LinkEvent::Message { topic, payload, .. } => {
                match reports::read(&root, &ca, &gate, &topic, &payload) {
                    Ok(Some(report)) => core.report(report).await,
                    Ok(None) => {}
                    Err(why) => {
                        let device = reports::sender(&root, &topic);
                        if watch.count(&device, why) {
                            warn!(device, %topic, %why, "a message is refused; more are only counted");
                        }
                    }
                }
            }
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
    use fleetway_protocol::signed::ReportError;

    #[test]
    fn bad_messages_are_told_once_per_device() {
        let watch = Watch::default();
        assert!(watch.count("a", Refused::Topic));
        assert!(!watch.count("a", Refused::Topic));
        assert!(watch.count("b", Refused::Report(ReportError::Signature)));
        let refused = BTreeMap::from([("report topic", 2), ("report signature", 1)]);
        assert_eq!(watch.refused(), refused);
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
