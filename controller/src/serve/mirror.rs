//! Publishes what dashboards get, behind everything else: only while no order waits, no model is on its
//! way to the broker, and next to nothing is in the outbox. A fleet that talks more than the link
//! takes is mirrored late or not at all; its orders do not notice.

use fleetway_controller::fleet::Fleet;
use fleetway_link::{Link as _, LinkHandle, Outgoing};

/// Messages of all kinds in the outbox above which the mirror waits: at 512 bytes each they take a
/// millisecond on the slowest link that a controller has.
const OUTBOX_MAX: usize = 16;
/// Messages at one look, so that the fleet's thread comes back to its inbox.
const MESSAGES_MAX: usize = 16;

/// See the module page.
pub(super) struct Publisher {
    link: LinkHandle,
    root: String,
}

impl Publisher {
    /// Over the link that orders take: an external broker allows the controller one connection.
    pub(super) fn new(link: LinkHandle, root: String) -> Self {
        Self { link, root }
    }

    /// Publishes some of what waits, unless something else does.
    pub(super) fn publish(&self, fleet: &mut Fleet, idle: bool) {
        if !idle {
            return;
        }
        for _ in 0..MESSAGES_MAX {
            let stats = self.link.stats();
            if stats.version.is_none() || stats.outbox_messages >= OUTBOX_MAX {
                return;
            }
            let Some(message) = fleet.poll_mirror() else { return };
            let topic = format!("{}{}", self.root, message.topic);
            let outgoing = Outgoing::new(topic, message.payload).at_most_once();
            let outgoing = if message.retain { outgoing.retained() } else { outgoing };
            if let Err(error) = self.link.publish(outgoing) {
                tracing::debug!(%error, "not mirrored");
                return;
            }
        }
    }
}
