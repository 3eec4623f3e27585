//! How often one address may ask: a bucket of tokens each. Pure; time is an argument.

use std::collections::HashMap;
use std::net::IpAddr;

/// Requests at once: a site of some hundred devices behind one address comes back in turn.
pub(super) const BURST: u32 = 60;
/// One more every so many milliseconds.
const REFILL_MS: u64 = 500;
/// Addresses remembered. Beyond it the full buckets are forgotten, which changes nothing,
/// and if none is full a stranger has to wait.
const ADDRESSES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Buckets(HashMap<IpAddr, Bucket>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u32,
    since_ms: u64,
}

impl Bucket {
    fn at(self, now_ms: u64) -> Self {
        let more = now_ms.saturating_sub(self.since_ms) / REFILL_MS;
        let left = u64::from(self.left).saturating_add(more).min(u64::from(BURST));
        Self { left: left as u32, since_ms: self.since_ms + more * REFILL_MS }
    }
}

impl Buckets {
    /// Whether `from` may ask now; counts it.
    pub(super) fn take(&mut self, from: IpAddr, now_ms: u64) -> bool {
        if self.0.len() >= ADDRESSES_MAX && !self.0.contains_key(&from) {
            self.0.retain(|_, bucket| bucket.at(now_ms).left < BURST);
            if self.0.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        let full = Bucket { left: BURST, since_ms: now_ms };
        let bucket = self.0.entry(from).or_insert(full);
        *bucket = bucket.at(now_ms);
        let may = bucket.left > 0;
        bucket.left = bucket.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_trickle_per_address() {
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut buckets = Buckets::default();
        let taken = (0..1000).filter(|_| buckets.take(a, 0)).count();
        assert_eq!(taken as u32, BURST);
        assert!(buckets.take(b, 0), "others are not affected");
        assert!(!buckets.take(a, REFILL_MS - 1) && buckets.take(a, REFILL_MS));
        assert!(!buckets.take(a, REFILL_MS));
        let later = 1_000_000;
        let taken = (0..1000).filter(|_| buckets.take(a, later)).count();
        assert_eq!(taken as u32, BURST, "no more than full");
    }

    #[test]
    fn made_up_addresses_do_not_fill_the_memory() {
        let mut buckets = Buckets::default();
        for n in 0..2 * ADDRESSES_MAX as u32 {
            buckets.take(IpAddr::from(n.to_be_bytes()), 0);
        }
        assert_eq!(buckets.0.len(), ADDRESSES_MAX);
        assert!(buckets.take(IpAddr::from([255; 4]), 2 * REFILL_MS * u64::from(BURST)));
        assert_eq!(buckets.0.len(), 1);
    }
}
