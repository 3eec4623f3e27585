//! Whether a valid certificate still opens the door: who was revoked, and whose key it is.
//!
//! A copy of the fleet's identities that network tasks may ask without waiting for the
//! fleet's thread or its disk. Whoever changes it ends the sessions that it does not admit
//! any more, in that order (see `acceptor`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use fleetway_protocol::ids::{DeviceId, Digest};

use super::acceptor::Peer;
use super::identity::Identity;
use crate::fleet::IdentityView;

/// What is known of one device.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    key: Option<Digest>,
    revoked: bool,
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
        let known = Known { key: view.key, revoked: view.revoked_s.is_some() };
        self.lock().insert(view.device.clone(), known);
    }

    /// Whether a peer with a valid certificate may come in and stay. A device that has never
    /// enrolled a key has a certificate of our CA, and that is all it needs.
    pub fn admits(&self, peer: &Peer) -> bool {
        let Identity::Device(id) = &peer.identity else { return true };
        match self.lock().get(id) {
            Some(known) => !known.revoked && known.key.is_none_or(|key| key == peer.key),
            None => true,
        }
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

    fn view(id: &str, key: Option<&[u8]>, revoked: bool) -> IdentityView {
        IdentityView {
            device: DeviceId::new(id).unwrap(),
            key: key.map(Digest::of),
            token_until_s: None,
            certificate_ends_s: 0,
            revoked_s: revoked.then_some(1),
        }
    }

    fn peer(identity: Identity, key: &[u8]) -> Peer {
        let addr = "127.0.0.1:1".parse().unwrap();
        Peer { identity, serial: String::new(), not_after_unix_s: 0, key: Digest::of(key), addr }
    }

    #[test]
    fn the_key_and_the_revocation_decide() {
        let gate = Gate::new(&[view("a", Some(b"1"), false), view("b", None, false)]);
        let admits =
            |id: &str, key| gate.admits(&peer(Identity::Device(DeviceId::new(id).unwrap()), key));
        assert!(admits("a", b"1") && !admits("a", b"2"), "another key is somebody else");
        assert!(admits("b", b"1") && admits("unknown", b"1"));
        gate.set(&view("b", None, true));
        assert!(!admits("b", b"1") && gate.is_revoked(&DeviceId::new("b").unwrap()));
        gate.set(&view("b", Some(b"9"), false));
        assert!(admits("b", b"9") && !admits("b", b"1"), "the old certificate stays out");
        assert!(gate.admits(&peer(Identity::Controller, b"any")));
    }
}
