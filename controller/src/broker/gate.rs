//! Whether a valid certificate still opens the door: who was revoked, and whose key it is.
//!
//! A copy of the fleet's identities that network tasks may ask without waiting for the
//! fleet's thread or its disk. Whoever changes it ends the sessions that it does not admit
//! any more, in that order (see `acceptor`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use fleetway_protocol::ids::DeviceId;

use super::acceptor::Peer;
use super::identity::Identity;
use crate::fleet::IdentityView;
use crate::pki::DeviceKey;

/// What is known of one device.
#[derive(Clone, Debug, Default)]
struct Known {
    key: Option<DeviceKey>,
    revoked: bool,
    via: Option<DeviceId>,
}

/// The fleet's identities, as the door needs them.
#[derive(Debug, Default)]
pub struct Gate(Mutex<HashMap<DeviceId, Known>>);

impl Gate {
    /// With everybody that is known at the start.
    pub fn new(identities: &[IdentityView]) -> Self {
        let gate = Self::default();
        identities.iter().for_each(|view| gate.set(view));
        gate
    }

    /// Takes over who a device is now.
    pub fn set(&self, view: &IdentityView) {
        let (key, via) = (view.key.clone(), view.via.clone());
        let known = Known { key, revoked: view.revoked_s.is_some(), via };
        self.lock().insert(view.device.clone(), known);
    }

    /// Whether a peer with a valid certificate may come in and stay. A device that has never
    /// enrolled a key has a certificate of our CA, and that is all it needs.
    pub fn admits(&self, peer: &Peer) -> bool {
        let Identity::Device(id) = &peer.identity else { return true };
        match self.lock().get(id) {
            // What hangs on a gateway has no certificate; one that was made once is not its own.
            Some(known) => {
                !known.revoked
                    && known.via.is_none()
                    && known.key.as_ref().is_none_or(|key| key.digest() == peer.key)
            }
            None => true,
        }
    }

    /// The key that a device enrolled, which its reports are signed with.
    pub fn key(&self, id: &DeviceId) -> Option<DeviceKey> {
        self.lock().get(id).and_then(|known| known.key.clone())
    }

    /// Whether `gateway` speaks for `device`, which hangs on it. A revoked device has nobody who
    /// does.
    pub fn speaks_for(&self, gateway: &DeviceId, device: &str) -> bool {
        let Ok(device) = DeviceId::new(device) else { return false };
        let known = self.lock();
        let behind = known.get(&device).filter(|known| !known.revoked);
        behind.is_some_and(|known| known.via.as_ref() == Some(gateway))
    }

    /// Whether a device was revoked: nothing that it says counts.
    pub fn is_revoked(&self, id: &DeviceId) -> bool {
        self.lock().get(id).is_some_and(|known| known.revoked)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DeviceId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(id: &str, key: Option<&DeviceKey>, revoked: bool) -> IdentityView {
        IdentityView {
            device: DeviceId::new(id).unwrap(),
            key: key.cloned(),
            token_until_s: None,
            certificate_ends_s: 0,
            revoked_s: revoked.then_some(1),
            via: None,
        }
    }

    #[test]
    fn one_gateway_speaks_for_a_device_and_only_while_it_is_in() {
        let id = |id: &str| DeviceId::new(id).unwrap();
        let behind = |via: &str, revoked| IdentityView {
            via: Some(id(via)),
            ..view("mcu", Some(&key()), revoked)
        };
        let gate = Gate::new(&[view("a", None, false), behind("a", false)]);
        assert!(gate.speaks_for(&id("a"), "mcu") && !gate.speaks_for(&id("b"), "mcu"));
        for other in ["a", "+", "#", "mcu/up", "unknown", ""] {
            assert!(!gate.speaks_for(&id("a"), other), "{other}");
        }
        gate.set(&behind("b", false));
        assert!(gate.speaks_for(&id("b"), "mcu") && !gate.speaks_for(&id("a"), "mcu"));
        gate.set(&behind("b", true));
        assert!(!gate.speaks_for(&id("b"), "mcu"));
    }

    fn key() -> DeviceKey {
        use rcgen::PublicKeyData as _;
        DeviceKey::from_point(rcgen::KeyPair::generate().unwrap().der_bytes()).unwrap()
    }

    fn peer(identity: Identity, key: &DeviceKey) -> Peer {
        let addr = "127.0.0.1:1".parse().unwrap();
        Peer { identity, serial: String::new(), not_after_unix_s: 0, key: key.digest(), addr }
    }

    #[test]
    fn the_key_and_the_revocation_decide() {
        let (one, two) = (key(), key());
        let gate = Gate::new(&[view("a", Some(&one), false), view("b", None, false)]);
        let id = |id: &str| DeviceId::new(id).unwrap();
        let admits = |device: &str, key| gate.admits(&peer(Identity::Device(id(device)), key));
        assert!(admits("a", &one) && !admits("a", &two), "another key is somebody else");
        assert!(admits("b", &one) && admits("unknown", &one));
        assert_eq!((gate.key(&id("a")), gate.key(&id("b"))), (Some(one.clone()), None));
        gate.set(&view("b", None, true));
        assert!(!admits("b", &one) && gate.is_revoked(&id("b")));
        gate.set(&view("b", Some(&two), false));
        assert!(admits("b", &two) && !admits("b", &one), "the old certificate stays out");
        assert!(gate.admits(&peer(Identity::Controller, &one)));
    }
}
