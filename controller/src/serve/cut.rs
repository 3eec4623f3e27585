//! Ends the sessions of those who may not stay: revoked, under another key, or with a
//! certificate that has ended.
//!
//! At our own broker that is immediate. mosquitto is told through its dynamic-security
//! plugin, again and again: it may have forgotten, and a device that is back is thrown out
//! again. Any other broker keeps the session until the certificate ends; no order is sent to
//! it and nothing it says is heard.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleetway_controller::broker::{Broker as _, Gate, Identity, dynsec};
use fleetway_controller::clock;
use fleetway_controller::fleet::IdentityView;
use fleetway_link::{Link as _, LinkHandle, Outgoing};
use fleetway_protocol::ids::DeviceId;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::Local;

/// Between two looks for certificates that have ended.
const LOOK: Duration = Duration::from_secs(2);
/// Looks between two repetitions to mosquitto: half a minute, half of what is promised.
const LOOKS_PER_REPEAT: u32 = 15;

/// See the module page. Clones share everything.
#[derive(Clone)]
pub(super) struct Cutter {
    gate: Arc<Gate>,
    local: Local,
    /// The link to a mosquitto with dynamic-security.
    dynsec: Option<LinkHandle>,
    /// Revoked devices, and when their last certificate ends, Unix seconds.
    revoked: Arc<Mutex<BTreeMap<DeviceId, u64>>>,
    /// Devices that hang on a gateway, and on which.
    behind: Arc<Mutex<BTreeMap<DeviceId, DeviceId>>>,
    root: String,
}

impl Cutter {
    /// For our own broker, or a mosquitto behind `dynsec`.
    pub(super) fn new(
        gate: Arc<Gate>,
        local: Local,
        dynsec: Option<LinkHandle>,
        root: String,
    ) -> Self {
        Self { gate, local, dynsec, revoked: Arc::default(), behind: Arc::default(), root }
    }

    /// Who a device is has changed, or is said again after a reconnect.
    pub(super) fn set(&self, view: &IdentityView) {
        self.gate.set(view);
        self.end_sessions();
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        if view.revoked_s.is_some() {
            revoked.insert(view.device.clone(), view.certificate_ends_s);
            self.tell(&dynsec::cut([&view.device]));
        } else if revoked.remove(&view.device).is_some() {
            self.tell(&dynsec::admit(&view.device));
            self.route_again(&view.device);
        }
        drop(revoked);
        self.route(view);
    }

    /// Who speaks for a device. Whoever did before loses his session, and with it what he had
    /// subscribed to.
    fn route(&self, view: &IdentityView) {
        let via = view.via.as_ref().filter(|_| view.revoked_s.is_none());
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match via {
            Some(via) => behind.insert(view.device.clone(), via.clone()),
            None => behind.remove(&view.device),
        };
        if before.as_ref() == via {
            return;
        }
        match via {
            Some(via) => self.tell(&dynsec::route(&self.root, via, &view.device)),
            None => self.tell(&dynsec::unroute(&view.device)),
        }
        if let Some(before) = before {
            let local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
            let identity = Identity::Device(before);
            local.as_ref().map(|local| local.disconnect(&identity));
        }
    }

    /// A gateway that is let in again has lost what it was allowed.
    fn route_again(&self, gateway: &DeviceId) {
        let behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        for (device, _) in behind.iter().filter(|(_, via)| *via == gateway) {
            self.tell(&dynsec::route(&self.root, gateway, device));
        }
    }

    /// Repeats itself until the runtime ends.
    pub(super) async fn run(self) {
        let mut every = interval(LOOK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for look in 1_u32.. {
            every.tick().await;
            self.end_sessions();
            if self.dynsec.is_some() && look % LOOKS_PER_REPEAT == 0 {
                self.repeat();
            }
        }
    }

    fn end_sessions(&self) {
        let now_s = clock::now_s() as i64;
        let local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(local) = local.as_ref() else { return };
        let ended = local.acceptor().disconnect_where(|session| {
            session.peer.not_after_unix_s < now_s || !self.gate.admits(&session.peer)
        });
        if ended > 0 {
            info!(ended, "sessions ended: revoked, another key, or the certificate is over");
        }
    }

    /// Those whose certificate has ended cannot come back, and need no repetition.
    fn repeat(&self) {
        let now_s = clock::now_s();
        let revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        let able: Vec<_> = revoked.iter().filter(|(_, ends_s)| now_s <= **ends_s).collect();
        for devices in able.chunks(dynsec::DEVICES_PER_MESSAGE_MAX) {
            self.tell(&dynsec::cut(devices.iter().map(|(device, _)| *device)));
        }
    }

    fn tell(&self, commands: &str) {
        let Some(link) = &self.dynsec else { return };
        let message = Outgoing::new(dynsec::TOPIC, commands.as_bytes().to_vec());
        if let Err(error) = link.publish(message) {
            warn!(%error, "mosquitto is told of a revocation a little later");
        }
    }
}
