//! A broker that loses, repeats and reorders, and forgets everything now and then.
//!
//! It decides what happens to a message; the world carries it out. QoS 0 may be lost or
//! come twice; QoS 1 may come late, twice, out of order, and with a small chance not at all
//! although it was acknowledged (full queues of real brokers do that).

use std::collections::{BTreeMap, BTreeSet};

/// How bad it is, per thousand messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// QoS 0 messages lost.
    pub lost_permille: u32,
    /// QoS 1 messages lost after they were acknowledged.
    pub lost_acked_permille: u32,
    /// Messages that come twice.
    pub twice_permille: u32,
    /// Chunks with a flipped bit.
    pub flipped_permille: u32,
    /// Longest delay, milliseconds.
    pub delay_ms_max: u64,
}

/// The broker's memory.
#[derive(Debug, Default)]
pub struct Broker {
    /// How bad it is now.
    pub faults: Faults,
    retained: BTreeMap<String, Vec<u8>>,
    subscriptions: BTreeMap<usize, BTreeSet<String>>,
}

/// When the copies of a message arrive, milliseconds from now.
pub type Arrivals = Vec<u64>;

impl Broker {
    fn hit(rng: &mut fastrand::Rng, permille: u32) -> bool {
        rng.u32(0..1000) < permille
    }

    /// What becomes of one message on one way.
    pub fn carry(&self, rng: &mut fastrand::Rng, at_least_once: bool) -> Arrivals {
        let Faults { lost_permille, lost_acked_permille, twice_permille, delay_ms_max, .. } =
            self.faults;
        let lost = if at_least_once { lost_acked_permille } else { lost_permille };
        if Self::hit(rng, lost) {
            return Vec::new();
        }
        let copies = 1 + usize::from(Self::hit(rng, twice_permille));
        (0..copies).map(|_| rng.u64(1..=delay_ms_max.max(2))).collect()
    }

    /// Maybe turns a bit of a payload around.
    pub fn maybe_flip(&self, rng: &mut fastrand::Rng, payload: &mut [u8]) {
        if !payload.is_empty() && Self::hit(rng, self.faults.flipped_permille) {
            let at = rng.usize(0..payload.len());
            payload[at] ^= 1 << rng.u8(0..8);
        }
    }

    /// Keeps a retained message; an empty one clears the topic.
    pub fn retain(&mut self, topic: &str, payload: &[u8]) {
        if payload.is_empty() {
            self.retained.remove(topic);
        } else {
            self.retained.insert(topic.to_owned(), payload.to_vec());
        }
    }

    /// What is kept under a topic.
    pub fn kept(&self, topic: &str) -> Option<Vec<u8>> {
        self.retained.get(topic).cloned()
    }

    /// Everything kept that ends up with the controller.
    pub fn kept_for_controller(&self) -> Vec<(String, Vec<u8>)> {
        let up = |topic: &str| topic.contains("/up/");
        self.retained.iter().filter(|(t, _)| up(t)).map(|(t, p)| (t.clone(), p.clone())).collect()
    }

    /// A device subscribes.
    pub fn subscribe(&mut self, device: usize, topic: &str) {
        self.subscriptions.entry(device).or_default().insert(topic.to_owned());
    }

    /// A device unsubscribes.
    pub fn unsubscribe(&mut self, device: usize, topic: &str) {
        if let Some(topics) = self.subscriptions.get_mut(&device) {
            topics.remove(topic);
        }
    }

    /// A device's connection is gone.
    pub fn disconnect(&mut self, device: usize) {
        self.subscriptions.remove(&device);
    }

    /// The devices that subscribe to a topic.
    pub fn subscribers(&self, topic: &str) -> Vec<usize> {
        let has = |topics: &BTreeSet<String>| topics.contains(topic);
        self.subscriptions.iter().filter(|(_, t)| has(t)).map(|(device, _)| *device).collect()
    }

    /// Kill -9 without persistence: everything it kept is gone.
    pub fn forget(&mut self) {
        self.retained.clear();
    }
}
