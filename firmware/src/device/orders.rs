//! Who is believed, and what is durable before the device acts on it.
//!
//! An order is checked in this order: the director's signature, this device, the nonce that this
//! boot said (there is no clock to judge its age by), a generation above the highest seen. Then its generation and digest are made durable; only then the machine hears
//! of it. Power lost in between: the order is stale by its generation, and taken up again by its
//! digest, because it is the very one. One that was refused changes nothing.
//!
//! A keyset is written to the place that is not in force, read back, and then named in a record:
//! power lost before that leaves the old one in force.

use fleetway_protocol::ids::{Digest, Hasher};
use fleetway_protocol::keyset::KeysetView;
use fleetway_protocol::machine::Event;
use fleetway_protocol::order::OrderView;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::trust::{KeyringView, OrderError, Verified};

use super::{Device, payload};
use crate::hardware::Flash;
use crate::kept::{Kept, KeptKeyset};

/// What a nonce is made for.
const NONCE: &[u8; 32] = b"fleetway/v1/nonce\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

impl<F: Flash> Device<'_, F> {
    /// What an order has to carry so that this boot believes it to be fresh: no other device and
    /// no other boot has the same, and nobody without the device's key can tell the next.
    pub fn nonce(&self) -> [u8; 16] {
        let mut hasher = Hasher::new();
        hasher.update(NONCE);
        hasher.update(&self.provision.seed);
        hasher.update(&self.kept.epoch.to_le_bytes());
        hasher.finish().short().0
    }

    #[inline(never)]
    pub(super) fn handle_order(&mut self, now_ms: u64, bytes: &[u8]) {
        if !self.kept_boot {
            return; // the gateway says it again
        }
        let digest = payload(bytes).unwrap_or_else(|| Digest::of(bytes));
        match self.admit_order(now_ms, bytes, &digest) {
            Ok(order) => {
                let generation = order.get().generation;
                self.said.answer(generation, digest, None);
                self.hand_out(now_ms, order.get());
            }
            Err((generation, reason)) => self.said.answer(generation, digest, Some(reason)),
        }
    }

    /// The order in `bytes`, durable; or of which generation it is, and why it is refused.
    #[inline(never)]
    fn admit_order<'b>(
        &mut self,
        now_ms: u64,
        bytes: &'b [u8],
        digest: &Digest,
    ) -> Result<Verified<OrderView<'b>>, (u64, Reason)> {
        let keyring = KeyringView::of(&self.keyset().ok_or((0, Reason::MetadataMissing))?);
        let (id, seen) = (&self.provision.id, self.kept.generation);
        let (nonce, said_s) = (self.nonce(), self.said.nonce_age_s(now_ms));
        match Verified::<OrderView<'_>>::admit_by_nonce(bytes, keyring, id, seen, &nonce, said_s) {
            Ok(order) => {
                let generation = order.get().generation;
                self.keep_order(&order).map_err(|reason| (generation, reason))?;
                Ok(order)
            }
            // The very order that this device acts on, said again, to an earlier boot or to this.
            Err(OrderError::Stale { .. } | OrderError::Nonce) if *digest == self.kept.order => {
                Verified::<OrderView<'_>>::recheck(bytes, keyring, id)
                    .map_err(|_| (0, Reason::Untrusted))
            }
            Err(OrderError::Stale { got, .. }) => Err((got, Reason::Stale)),
            Err(OrderError::Expired { .. } | OrderError::Nonce) => Err((0, Reason::Expired)),
            Err(_) => Err((0, Reason::Untrusted)),
        }
    }

    #[inline(never)]
    fn keep_order(&mut self, order: &Verified<OrderView<'_>>) -> Result<(), Reason> {
        let OrderView { generation, issued_s, .. } = *order.get();
        let kept = Kept {
            generation,
            order: order.digest(),
            time_floor_s: self.kept.time_floor_s.max(issued_s),
            ..self.kept.with(())
        };
        self.told = false;
        self.commit(kept).map_err(Reason::from)
    }

    /// To the machine, once per boot.
    fn hand_out(&mut self, now_ms: u64, order: &OrderView<'_>) {
        let model = &self.provision.model;
        let Some(wish) = order.models.iter().find(|wish| wish.model == *model) else { return };
        if !core::mem::replace(&mut self.told, true) {
            self.machine.handle(now_ms, Event::Order(wish));
        }
    }

    /// The keyset in force, its signature checked again.
    pub(super) fn keyset(&self) -> Option<Verified<KeysetView<'_>>> {
        match self.kept.keyset {
            None => {
                let first = self.provision.keyset;
                Verified::<KeysetView<'_>>::genesis(first, &payload(first)?).ok()
            }
            Some(KeptKeyset { place, digest }) => {
                let region = *self.store.layout().keysets.get(usize::from(place))?;
                Verified::<KeysetView<'_>>::recheck(self.store.paper(region)?, &digest).ok()
            }
        }
    }

    /// The bytes of the keyset in force, to be kept beside a release.
    pub(super) fn keyset_place(&self) -> Option<crate::store::Region> {
        self.store.layout().keysets.get(usize::from(self.kept.keyset?.place)).copied()
    }

    #[inline(never)]
    pub(super) fn handle_keyset(&mut self, bytes: &[u8]) {
        let next = match (self.keyset(), self.kept.keyset) {
            (Some(current), _) => current.advance(bytes),
            // The stored one rotted: the same bytes again, by their digest.
            (None, Some(kept)) => Verified::<KeysetView<'_>>::recheck(bytes, &kept.digest),
            (None, None) => return,
        };
        // One that is refused changes nothing.
        let Ok(next) = next else { return };
        match self.keep_keyset(bytes, next.digest()) {
            Ok(()) => {
                self.keyset_version = next.get().version;
                // An order that nobody known had signed may be good now.
                self.said.order_again();
            }
            Err(_) => self.said.keyset_again(),
        }
    }

    #[inline(never)]
    fn keep_keyset(&mut self, bytes: &[u8], digest: Digest) -> Result<(), Reason> {
        let place = self.kept.keyset.map_or(0, |kept| 1 - kept.place.min(1));
        let region = self.store.layout().keysets[usize::from(place)];
        self.store.erase(region)?;
        self.store.put_paper(region, bytes)?;
        self.commit(Kept { keyset: Some(KeptKeyset { place, digest }), ..self.kept.with(()) })?;
        Ok(())
    }
}
