//! The nonces of devices that come back: each for one device, good once and for a minute.
//! Pure; time and randomness are arguments.

use std::collections::VecDeque;

use fleetway_protocol::enroll::Nonce;
use fleetway_protocol::ids::DeviceId;

/// Seconds from the challenge to its answer: two round trips on a bad link.
pub const NONCE_LIFE_S: u64 = 60;
/// Nonces that are open at once; the oldest goes. Whoever floods us delays others, and is
/// held back per address before.
const OPEN_MAX: usize = 4096;

/// What was drawn and not yet answered.
#[derive(Debug, Default)]
pub struct Nonces {
    open: VecDeque<(Nonce, DeviceId, u64)>,
}

impl Nonces {
    /// Opens a nonce that was drawn for a device.
    pub fn open(&mut self, nonce: Nonce, device: DeviceId, now_s: u64) {
        self.open.retain(|(.., until_s)| now_s < *until_s);
        if self.open.len() >= OPEN_MAX {
            self.open.pop_front();
        }
        self.open.push_back((nonce, device, now_s.saturating_add(NONCE_LIFE_S)));
    }

    /// Uses it up; whether it was open for this device.
    pub fn take(&mut self, nonce: &Nonce, device: &DeviceId, now_s: u64) -> bool {
        let Some(at) = self.open.iter().position(|(open, ..)| open == nonce) else { return false };
        let found = self.open.remove(at);
        found.is_some_and(|(_, of, until_s)| of == *device && now_s < until_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_once_for_one_device_and_not_for_long() {
        let (a, b) = (DeviceId::new("a").unwrap(), DeviceId::new("b").unwrap());
        let nonce = |n: u16| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&n.to_le_bytes());
            Nonce(bytes)
        };
        let mut nonces = Nonces::default();
        nonces.open(nonce(1), a.clone(), 100);
        assert!(nonces.take(&nonce(1), &a, 100 + NONCE_LIFE_S - 1));
        assert!(!nonces.take(&nonce(1), &a, 101), "used");
        nonces.open(nonce(2), a.clone(), 100);
        assert!(!nonces.take(&nonce(2), &b, 101) && !nonces.take(&nonce(2), &a, 101), "burnt");
        nonces.open(nonce(3), a.clone(), 100);
        assert!(!nonces.take(&nonce(3), &a, 100 + NONCE_LIFE_S), "too old");
        for n in 0..=OPEN_MAX {
            nonces.open(nonce(n as u16), a.clone(), 200);
        }
        assert!(!nonces.take(&nonce(0), &a, 201) && nonces.take(&nonce(1), &a, 201));
        assert_eq!(nonces.open.len(), OPEN_MAX - 1);
    }
}
