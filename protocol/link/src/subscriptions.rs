//! What we are subscribed to, and what the broker still has to be told about it.

use std::collections::{BTreeMap, VecDeque};

use crate::message::{FILTERS_MAX, Qos, SubscribeError, Subscription};

/// Filters per SUBSCRIBE at most: what AWS IoT allows.
const FILTERS_PER_PACKET_MAX: usize = 8;

/// UNSUBSCRIBEs that wait at most. A forgotten one costs messages nobody wants, not correctness.
const UNSUBSCRIBES_MAX: usize = 256;

/// Something to tell the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Telling {
    Subscribe(Vec<Subscription>),
    Unsubscribe(String),
}

#[derive(Debug)]
struct Transient {
    qos: Qos,
    /// Whether the broker may know it.
    told: bool,
}

/// The subscriptions of one link.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    standing: Vec<Subscription>,
    transient: BTreeMap<String, Transient>,
    /// UNSUBSCRIBE goes first: it makes room within the broker's limit.
    unsubscribe: VecDeque<String>,
    subscribe: VecDeque<Subscription>,
}

impl Subscriptions {
    pub(crate) fn new(standing: Vec<Subscription>) -> Self {
        Self {
            standing,
            transient: BTreeMap::new(),
            unsubscribe: VecDeque::new(),
            subscribe: VecDeque::new(),
        }
    }

    /// Adds a transient filter. One that is active already is subscribed again, which brings its retained messages again.
    pub(crate) fn subscribe(&mut self, wanted: Subscription) -> Result<(), SubscribeError> {
        let known = self.transient.get(&wanted.filter);
        if known.is_none() && self.standing.len() + self.transient.len() >= FILTERS_MAX {
            return Err(SubscribeError::TooMany(wanted.filter));
        }
        let told =
            known.is_some_and(|entry| entry.told) || self.unsubscribe.contains(&wanted.filter);
        self.unsubscribe.retain(|filter| *filter != wanted.filter);
        self.subscribe.retain(|waiting| waiting.filter != wanted.filter);
        let entry = Transient { qos: wanted.qos, told };
        self.transient.insert(wanted.filter.clone(), entry);
        self.subscribe.push_back(wanted);
        Ok(())
    }

    /// Drops a transient filter; standing and unknown ones are left alone.
    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        let Some(entry) = self.transient.remove(filter) else { return };
        self.subscribe.retain(|waiting| waiting.filter != filter);
        if entry.told {
            self.not_wanted(filter.to_owned());
        }
    }

    /// A connection stands: say everything again. What a lost session forgot need not be unsubscribed.
    pub(crate) fn connected(&mut self, session_present: bool) {
        if !session_present {
            self.unsubscribe.clear();
        }
        let transient = self.transient.iter();
        let transient = transient.map(|(filter, entry)| Subscription::new(filter, entry.qos));
        self.subscribe = self.standing.iter().cloned().chain(transient).collect();
    }

    /// A connection ended before the broker confirmed an UNSUBSCRIBE.
    pub(crate) fn not_confirmed(&mut self, filter: String) {
        if !self.transient.contains_key(&filter) {
            self.not_wanted(filter);
        }
    }

    /// What to tell next.
    pub(crate) fn next(&mut self) -> Option<Telling> {
        if let Some(filter) = self.unsubscribe.pop_front() {
            return Some(Telling::Unsubscribe(filter));
        }
        let count = self.subscribe.len().min(FILTERS_PER_PACKET_MAX);
        let batch: Vec<_> = self.subscribe.drain(..count).collect();
        for told in &batch {
            if let Some(entry) = self.transient.get_mut(&told.filter) {
                entry.told = true;
            }
        }
        (!batch.is_empty()).then_some(Telling::Subscribe(batch))
    }

    /// What [`Self::next`] gave was not taken after all.
    pub(crate) fn take_back(&mut self, telling: Telling) {
        match telling {
            Telling::Unsubscribe(filter) => self.unsubscribe.push_front(filter),
            Telling::Subscribe(batch) => {
                for subscription in batch.into_iter().rev() {
                    self.subscribe.push_front(subscription);
                }
            }
        }
    }

    /// Whether there is something to tell.
    pub(crate) fn any(&self) -> bool {
        !self.unsubscribe.is_empty() || !self.subscribe.is_empty()
    }

    fn not_wanted(&mut self, filter: String) {
        if self.unsubscribe.len() < UNSUBSCRIBES_MAX {
            self.unsubscribe.push_back(filter);
        } else {
            tracing::warn!(
                filter,
                "too many filters to unsubscribe, the broker may go on sending this one"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub(filter: &str) -> Subscription {
        Subscription::new(filter, Qos::AtMostOnce)
    }

    /// Everything there is to tell, as text.
    fn tell_all(subscriptions: &mut Subscriptions) -> String {
        let tellings = std::iter::from_fn(|| subscriptions.next()).map(|telling| match telling {
            Telling::Unsubscribe(filter) => format!("-{filter}"),
            Telling::Subscribe(batch) => {
                let filters: Vec<_> = batch.into_iter().map(|one| one.filter).collect();
                format!("+{}", filters.join(","))
            }
        });
        tellings.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn everything_active_is_said_again_on_every_connection() {
        let mut subscriptions = Subscriptions::new(vec![sub("dn/+"), sub("c/on")]);
        subscriptions.connected(false);
        assert_eq!(tell_all(&mut subscriptions), "+dn/+,c/on");
        subscriptions.subscribe(sub("b/1")).unwrap();
        subscriptions.subscribe(sub("b/2")).unwrap();
        assert_eq!(tell_all(&mut subscriptions), "+b/1,b/2");
        subscriptions.unsubscribe("b/1");
        subscriptions.unsubscribe("dn/+");
        subscriptions.unsubscribe("unknown");
        assert_eq!(tell_all(&mut subscriptions), "-b/1");
        for session_present in [true, false] {
            subscriptions.connected(session_present);
            assert_eq!(tell_all(&mut subscriptions), "+dn/+,c/on,b/2");
        }
    }

    #[test]
    fn what_was_dropped_while_down_is_unsubscribed_if_the_session_survived() {
        for (session_present, expected) in [(true, "-b/1 +dn/+"), (false, "+dn/+")] {
            let mut subscriptions = Subscriptions::new(vec![sub("dn/+")]);
            subscriptions.connected(false);
            subscriptions.subscribe(sub("b/1")).unwrap();
            tell_all(&mut subscriptions);
            subscriptions.subscribe(sub("b/2")).unwrap();
            subscriptions.unsubscribe("b/2"); // never told
            subscriptions.unsubscribe("b/1");
            subscriptions.connected(session_present);
            assert_eq!(tell_all(&mut subscriptions), expected);
        }
    }

    #[test]
    fn changing_ones_mind_leaves_nothing_behind_at_the_broker() {
        let mut subscriptions = Subscriptions::new(Vec::new());
        subscriptions.subscribe(sub("b/1")).unwrap();
        tell_all(&mut subscriptions);
        subscriptions.unsubscribe("b/1");
        subscriptions.subscribe(sub("b/1")).unwrap();
        subscriptions.unsubscribe("b/1");
        assert_eq!(tell_all(&mut subscriptions), "-b/1");
    }

    #[test]
    fn an_unconfirmed_unsubscribe_is_repeated_unless_wanted_again() {
        let mut subscriptions = Subscriptions::new(Vec::new());
        subscriptions.not_confirmed("b/1".into());
        subscriptions.subscribe(sub("b/2")).unwrap();
        subscriptions.not_confirmed("b/2".into());
        subscriptions.connected(true);
        assert_eq!(tell_all(&mut subscriptions), "-b/1 +b/2");
    }

    #[test]
    fn filters_are_batched_and_bounded() {
        let mut subscriptions = Subscriptions::new(vec![sub("dn/+")]);
        for n in 1..FILTERS_MAX {
            subscriptions.subscribe(sub(&format!("b/{n}"))).unwrap();
        }
        subscriptions.subscribe(sub("b/1")).expect("known filters count once");
        let more = subscriptions.subscribe(sub("b/x"));
        assert_eq!(more, Err(SubscribeError::TooMany("b/x".into())));
        let batches: Vec<_> = std::iter::from_fn(|| subscriptions.next()).collect();
        let largest = batches.iter().map(|batch| match batch {
            Telling::Subscribe(batch) => batch.len(),
            Telling::Unsubscribe(_) => 0,
        });
        assert_eq!(largest.max(), Some(FILTERS_PER_PACKET_MAX));
    }
}
