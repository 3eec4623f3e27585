//! Which packet ids are in use, known *before* `rumqttc` takes the next one.
//!
//! `rumqttc` counts ids in a circle of the inflight limit and gives them to publishes, subscribes and unsubscribes alike.
//! When the next id still belongs to an unacknowledged publish (acks out of order, or a subscribe moved the circle), it
//! parks the message as a "collision" and stops sending, from which lost sessions never recover; and it happily gives an
//! unanswered SUBSCRIBE's id to a publish. This mirror counts along, so that nothing is handed over whose id is taken.
//! Both start at zero with each connection and `rumqttc` takes requests in order, so they stay in step.

use crate::outbox::Seq;

/// What an id stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Use {
    Publish(Seq),
    Subscribe(Vec<String>),
    Unsubscribe(String),
}

/// SUBSCRIBE and UNSUBSCRIBE without an answer at most.
const SUBSCRIBES_MAX: usize = 8;

/// The ids of one connection.
#[derive(Debug)]
pub(crate) struct PacketIds {
    /// `uses[id - 1]`.
    uses: Vec<Option<Use>>,
    last: u16,
}

impl PacketIds {
    /// `limit` is the inflight limit that `rumqttc` works with.
    pub(crate) fn new(limit: u16) -> Self {
        Self { uses: vec![None; usize::from(limit.max(1))], last: 0 }
    }

    /// Whether a publish may be handed over. One id stays free for the others: at the limit `rumqttc` would stop taking
    /// any request, QoS 0, UNSUBSCRIBE and DISCONNECT included.
    pub(crate) fn publish_fits(&self) -> bool {
        let most = (self.uses.len() - 1).max(1);
        self.next_is_free() && self.count(|used| matches!(used, Use::Publish(_))) < most
    }

    /// Whether a subscribe or unsubscribe may be handed over.
    pub(crate) fn subscribe_fits(&self) -> bool {
        self.next_is_free() && self.count(|used| !matches!(used, Use::Publish(_))) < SUBSCRIBES_MAX
    }

    /// Takes the next id; ask first whether it fits.
    pub(crate) fn take(&mut self, used: Use) -> u16 {
        debug_assert!(self.next_is_free());
        let id = self.next();
        self.uses[usize::from(id) - 1] = Some(used);
        self.last = if usize::from(id) == self.uses.len() { 0 } else { id };
        id
    }

    /// The broker answered; `None` if it answered something nobody asked.
    pub(crate) fn settle(&mut self, id: u16) -> Option<Use> {
        self.uses.get_mut(usize::from(id).checked_sub(1)?)?.take()
    }

    /// Whether any answer is outstanding.
    pub(crate) fn any(&self) -> bool {
        self.uses.iter().any(Option::is_some)
    }

    /// What was never answered.
    pub(crate) fn into_unsettled(self) -> impl Iterator<Item = Use> {
        self.uses.into_iter().flatten()
    }

    fn next(&self) -> u16 {
        self.last + 1
    }

    fn next_is_free(&self) -> bool {
        self.uses[usize::from(self.next()) - 1].is_none()
    }

    fn count(&self, what: impl Fn(&Use) -> bool) -> usize {
        self.uses.iter().flatten().filter(|used| what(used)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_in_use_is_never_taken_again() {
        let mut ids = PacketIds::new(4);
        let taken: Vec<_> = (0..3).map(|seq| ids.take(Use::Publish(seq))).collect();
        assert_eq!(taken, [1, 2, 3]);
        assert!(!ids.publish_fits(), "one id stays free for the others");
        assert!(ids.subscribe_fits());
        assert_eq!(ids.take(Use::Unsubscribe("a".into())), 4);
        assert!(!ids.subscribe_fits());

        assert_eq!(ids.settle(3), Some(Use::Publish(2)), "out of order");
        assert!(!ids.publish_fits(), "the next in the circle is 1, not 3");
        assert_eq!(ids.settle(1), Some(Use::Publish(0)));
        assert!(ids.publish_fits());
        assert_eq!(ids.take(Use::Publish(3)), 1);
        assert_eq!(ids.into_unsettled().count(), 3);
    }

    #[test]
    fn answers_nobody_asked_for_are_ignored() {
        let mut ids = PacketIds::new(2);
        ids.take(Use::Publish(0));
        assert_eq!([0, 2, 3, u16::MAX].map(|id| ids.settle(id)), [None, None, None, None]);
        assert!(ids.any());
        assert_eq!(ids.settle(1), Some(Use::Publish(0)));
        assert_eq!(ids.settle(1), None);
        assert!(!ids.any());
    }

    #[test]
    fn a_broker_that_takes_one_at_a_time_gets_one_at_a_time() {
        let mut ids = PacketIds::new(1);
        for seq in 0..3 {
            assert!(ids.publish_fits());
            assert_eq!(ids.take(Use::Publish(seq)), 1);
            assert!(!ids.publish_fits());
            ids.settle(1);
        }
        assert!(PacketIds::new(0).publish_fits());
    }

    #[test]
    fn few_subscribes_are_unanswered_at_a_time() {
        let mut ids = PacketIds::new(20);
        for _ in 0..SUBSCRIBES_MAX {
            assert!(ids.subscribe_fits());
            ids.take(Use::Subscribe(Vec::new()));
        }
        assert!(!ids.subscribe_fits());
        assert!(ids.publish_fits());
    }
}
