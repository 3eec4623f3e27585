//! Where a device checks an order, and what is durable before it acts on one.
//!
//! In this order: the director's signature, this device, a generation above the highest
//! seen, not expired ([`Verified::admit`]); then the order and its generation are made
//! durable; only then the slot machines hear of it. Power lost between the two writes
//! leaves a stored order above the recorded generation: the next boot raises the record
//! first. An order that was refused changes nothing and is answered with the reason.
//!
//! A device that remembers no generation would take any order that has not expired. So it is
//! told its floor, and the floor is durable, before it looks at the first order.

use std::io;

use fleetway_protocol::enroll::Floor;
use fleetway_protocol::envelope::OpenError;
use fleetway_protocol::ids::Digest;
use fleetway_protocol::machine::Event;
use fleetway_protocol::order::Order;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::report::Ack;
use fleetway_protocol::topics::Topic;
use fleetway_protocol::trust::{OrderError, Verified};

use super::refused::order_check;
use super::{Device, Now};
use crate::fs::Fs;
use crate::store::{DeviceRecord, Store, disk_reason};

/// The record of a boot, to be made durable. What a new device is told about old orders is in
/// its directory; one that has forgotten asks, if there is somebody to ask.
pub(super) fn begin<F: Fs>(store: &Store<F>, asks_floor: bool, now: Now) -> DeviceRecord {
    let mut record = store.device();
    if !store.has_device() {
        // Above every boot of a life before this one, which was counted from its own beginning:
        // what it reports now must not be taken for old. Without a clock the floor says more.
        record.epoch = now.unix_s;
    }
    record.epoch = record.epoch.saturating_add(1);
    if !record.floor_known {
        let floor = store.floor();
        record.generation = record.generation.max(floor.unwrap_or_default().generation);
        record.floor_known = floor.is_some() || !asks_floor;
    }
    record
}

impl<F: Fs> Device<F> {
    /// Whether the device has to ask which orders are old before it takes one.
    pub fn needs_floor(&self) -> bool {
        !self.store.device().floor_known
    }

    /// The answer. An order that came before it is looked at now.
    ///
    /// # Errors
    /// The disk's: nothing has changed then, and the question stands.
    pub fn handle_floor(&mut self, now: Now, floor: Floor) -> io::Result<()> {
        let mut record = self.store.device();
        record.generation = record.generation.max(floor.generation);
        record.epoch = record.epoch.max(floor.epoch);
        record.floor_known = true;
        self.store.put_device(record)?;
        self.order_problem = None;
        if std::mem::replace(&mut self.epoch, record.epoch) != record.epoch {
            self.models.iter_mut().for_each(|model| model.reported = None);
        }
        self.retry_order(now);
        // Under the new number of this boot.
        if self.up {
            self.publish_presence(now);
        }
        self.drive(now);
        Ok(())
    }

    /// Generation of the order that was acted on last; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.store.device().generation
    }

    pub(super) fn handle_order(&mut self, now: Now, bytes: &[u8]) {
        if bytes.is_empty() || self.stopping {
            return; // a cleared retained message; or the next boot gets it again
        }
        let record = self.store.device();
        let now_s = now.unix_s.max(record.time_floor_s);
        let (config, seen) = (&self.config, record.generation);
        if !record.floor_known {
            self.order_unknown = Some(bytes.to_vec());
            let text = "an order waits until the controller says which orders are old";
            self.order_problem = Some(text.to_owned());
            return;
        }
        let Some(keyring) = self.trust.keyring() else {
            // Kept as it is: the first keyset says whose orders count.
            self.order_unknown = Some(bytes.to_vec());
            self.order_problem = Some("an order waits for the first keyset".to_owned());
            return;
        };
        let admitted = Verified::<Order>::admit(bytes, keyring, &config.id, seen, now_s);
        match admitted {
            Ok(order) => match self.keep_order(bytes, &order) {
                Ok(()) => {
                    self.order_problem = None;
                    self.acknowledge(order.get().generation, order.digest(), None);
                    self.hand_out(now, &order);
                }
                // Not durable, not acted on. The retained order comes again.
                Err(reason) => {
                    self.order_problem = Some(format!("the order could not be stored: {reason}"));
                    self.acknowledge(order.get().generation, order.digest(), Some(reason));
                }
            },
            Err(OrderError::Stale { got, seen }) if got == seen && self.holds(bytes) => {
                // The order it already has, repeated by the broker: say so again.
                self.acknowledge(got, digest_of(bytes), None);
            }
            Err(error) => {
                let (generation, reason) = match &error {
                    OrderError::Stale { got, .. } => (*got, Reason::Stale),
                    OrderError::Expired { .. } => (0, Reason::Expired),
                    _ => (0, Reason::Untrusted),
                };
                if matches!(error, OrderError::Open(OpenError::Threshold { .. })) {
                    self.order_unknown = Some(bytes.to_vec());
                }
                self.refused.count(order_check(&error));
                self.order_problem = Some(error.to_string());
                self.acknowledge(generation, digest_of(bytes), Some(reason));
            }
        }
    }

    /// Whether this very order is the one being carried out: a device that was told its floor
    /// knows the generation and has no order.
    fn holds(&self, bytes: &[u8]) -> bool {
        self.store.order().is_some_and(|stored| digest_of(&stored) == digest_of(bytes))
    }

    /// A new keyset is in force: the order that nobody known had signed may be good now.
    pub(super) fn retry_order(&mut self, now: Now) {
        if let Some(bytes) = self.order_unknown.take() {
            self.handle_order(now, &bytes);
        }
    }

    fn keep_order(&mut self, bytes: &[u8], order: &Verified<Order>) -> Result<(), Reason> {
        self.store.put_order(bytes).map_err(|error| disk_reason(&error))?;
        self.raise_record(order.get())
    }

    fn raise_record(&mut self, order: &Order) -> Result<(), Reason> {
        let mut record = self.store.device();
        record.generation = record.generation.max(order.generation);
        record.time_floor_s = record.time_floor_s.max(order.issued_s);
        if record == self.store.device() {
            return Ok(());
        }
        self.store.put_device(record).map_err(|error| disk_reason(&error))
    }

    /// After a boot: the stored order again, its signature checked again. An expired one
    /// starts nothing new; a trial goes on by its slot table.
    pub(super) fn resume_order(&mut self, now: Now) {
        let Some(bytes) = self.store.order() else { return };
        let Some(keyring) = self.trust.keyring() else { return };
        match Verified::<Order>::recheck(&bytes, keyring, &self.config.id) {
            Ok(order) => {
                if self.raise_record(order.get()).is_err() {
                    return;
                }
                let now_s = now.unix_s.max(self.store.device().time_floor_s);
                if now_s < order.get().expires_s {
                    self.hand_out(now, &order);
                }
            }
            Err(error) => self.order_problem = Some(format!("the stored order: {error}")),
        }
    }

    fn hand_out(&mut self, now: Now, order: &Verified<Order>) {
        for wish in &order.get().models {
            let known = self.models.iter().position(|m| m.name == wish.model);
            let at = match known.map_or_else(|| self.open_model(wish.model.clone()), Ok) {
                Ok(at) => at,
                Err(error) => {
                    self.order_problem = Some(format!("model {}: {error}", wish.model));
                    continue;
                }
            };
            self.models[at].machine.handle(now.ms, Event::Order(wish.clone()));
        }
    }

    fn acknowledge(&mut self, generation: u64, order: Digest, refused: Option<Reason>) {
        let ack = Ack { stamp: self.stamp(), generation, order, refused };
        self.publish(Topic::Ack(self.config.id.clone()), super::reports::encode(&ack), true, false);
    }
}

/// The digest of what an envelope carries, for an answer about it.
fn digest_of(bytes: &[u8]) -> Digest {
    match fleetway_protocol::envelope::Envelope::decode(bytes) {
        Ok(envelope) => Digest::of(envelope.payload_unchecked()),
        Err(_) => Digest::of(bytes),
    }
}
