//! Which refusals are put on record: the first of its kind, and then one a minute with a count.
//!
//! Everybody who reaches the listener can be refused as often as its bounds allow, and an entry
//! of the audit log is an fsync and stays for good: a stranger must not fill it. Pure; time is an
//! argument.

use std::collections::HashMap;

use fleetway_protocol::enroll::Refusal;

/// Seconds between two entries of one kind.
const PAUSE_S: u64 = 60;

/// What was refused lately. There are as many kinds as there are [`Refusal`]s.
#[derive(Debug, Default)]
pub struct Refusals(HashMap<Refusal, Seen>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    noted_s: u64,
    /// Refused since then without an entry.
    more: u64,
}

impl Refusals {
    /// Somebody was refused: whether it is put on record now, and then how many were not since
    /// the last that was.
    pub fn see(&mut self, why: Refusal, now_s: u64) -> Option<u64> {
        match self.0.get_mut(&why) {
            Some(seen) if now_s < seen.noted_s.saturating_add(PAUSE_S) => {
                seen.more += 1;
                None
            }
            seen => {
                let more = seen.map_or(0, |seen| seen.more);
                self.0.insert(why, Seen { noted_s: now_s, more: 0 });
                Some(more)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_entry_a_minute_and_a_count() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.see(Refusal::Token, 1000), Some(0));
        for _ in 0..500 {
            assert_eq!(refusals.see(Refusal::Token, 1000 + PAUSE_S - 1), None);
        }
        assert_eq!(refusals.see(Refusal::Revoked, 1001), Some(0), "another kind");
        assert_eq!(refusals.see(Refusal::Token, 1000 + PAUSE_S), Some(500));
        assert_eq!(refusals.see(Refusal::Token, 1000 + 2 * PAUSE_S), Some(0));
    }
}
