//! The device: one slot machine, one order, one engine, over flash. What the machine decides is
//! `fleetway_protocol::machine`'s, the same as on Linux; this is the shell around it.
//!
//! **Contract.** [`Device::handle`] a message, [`Device::tick`] now and then, [`Device::work`] and
//! [`Device::report`] once per turn: each does one bounded thing and returns. Nothing here waits,
//! allocates or reads a clock.
//!
//! Read in this order: this file (the boot, and what drives the rest); [`orders`] (who is
//! believed); [`fetch`] (how bytes come in); [`commands`] and [`jobs`] (what the machine wants
//! done, piece by piece); [`answers`] (the engine, and how it is judged); [`reports`] (what is
//! said).

mod answers;
mod commands;
mod fetch;
mod jobs;
mod orders;
mod reports;

use ed25519_dalek::SigningKey;
use fleetway_protocol::envelope::EnvelopeView;
use fleetway_protocol::hold::Facts;
use fleetway_protocol::ids::{DeviceId, Digest};
use fleetway_protocol::keyset::KeysetView;
use fleetway_protocol::limits::MCU_CHUNK_BYTES;
use fleetway_protocol::machine::{Event, Machine};
use fleetway_protocol::manifest::{Artifact, ManifestView, VariantKind};
use fleetway_protocol::report::Block;
use fleetway_protocol::serial::Message;
use fleetway_protocol::slot::{Place, ReleaseFacts, SlotId, SlotTable};
use fleetway_protocol::topics::Topic;
use fleetway_protocol::trust::{KeyringView, Verified};

use crate::engine::Memory;
use crate::hardware::{Flash, Start};
use crate::journal::Journal;
use crate::kept::Kept;
use crate::provision::Provision;
use crate::store::{Part, Region, Store, StoreError};
use answers::{Probation, Serving};
use fetch::Fetch;
use jobs::Job;
pub use reports::SIGNED_BYTES_MAX;
use reports::Said;

/// How often facts are told while somebody waits for them, and a trial is judged, milliseconds.
const LOOK_MS: u64 = 250;

/// What a device has to know of a release's parts to store and check them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Parts {
    golden: Artifact,
    model: Artifact,
}

impl Parts {
    fn of(manifest: &ManifestView<'_>) -> Option<Self> {
        let variant = manifest.variant(VariantKind::Qnn)?;
        Some(Self { golden: variant.golden, model: variant.model })
    }

    fn artifact(&self, part: Part) -> &Artifact {
        match part {
            Part::Golden | Part::GoldenList => &self.golden,
            _ => &self.model,
        }
    }
}

/// The device. See the module page.
pub struct Device<'d, F> {
    provision: Provision<'d>,
    key: SigningKey,
    store: Store<F>,
    journal: Journal,
    /// What is durable.
    kept: Kept,
    /// Whether this boot is: before that no order is taken and nothing is said.
    kept_boot: bool,
    /// Version of the keyset in force; 0 if it cannot be read.
    keyset_version: u64,
    start: Start,
    machine: Machine,
    memory: Memory<'d>,
    serving: Option<Serving>,
    probation: Option<Probation>,
    fetch: Option<Fetch>,
    job: Job,
    said: Said,
    /// Whether the gateway has the broker.
    broker: bool,
    /// Whether this boot's machine has heard the order.
    told: bool,
    /// Whether the ordeal that is kept began in this boot.
    ordeal_here: bool,
    look_at_ms: u64,
}

impl<'d, F: Flash> Device<'d, F> {
    /// The device as its flash says it is. It does nothing before [`Device::begin`].
    #[inline(never)]
    pub fn new(
        provision: Provision<'d>,
        store: Store<F>,
        memory: Memory<'d>,
        start: Start,
    ) -> Self {
        let (journal, found) = Journal::open(&store);
        let kept = found.unwrap_or_else(|| Kept::new(SlotTable::new(None)));
        Self {
            key: SigningKey::from_bytes(&provision.seed),
            machine: Machine::recover(kept.table.clone()),
            provision,
            store,
            journal,
            kept,
            kept_boot: false,
            keyset_version: 0,
            start,
            memory,
            serving: None,
            probation: None,
            fetch: None,
            job: Job::None,
            said: Said::default(),
            broker: false,
            told: false,
            ordeal_here: false,
            look_at_ms: 0,
        }
    }

    /// The boot, once. What the device remembers is made durable once more, under the next boot's
    /// number, before anything is done about it: if power fails in here, the next boot begins
    /// where this one did.
    #[inline(never)]
    pub fn begin(&mut self, now_ms: u64) {
        self.keyset_version = self.keyset().map_or(0, |keyset| keyset.get().version);
        self.kept.table.factory = self.facts_at(Place::Factory);
        self.recover();
        self.keep_boot();
        self.drive(now_ms);
    }

    #[inline(never)]
    fn keep_boot(&mut self) {
        let epoch = self.kept.epoch + 1;
        let kept = Kept { epoch, ..self.kept.with(()) };
        self.kept_boot = self.commit(kept).is_ok();
    }

    /// Makes `kept` durable, with the table as it is; only then it is what the device goes by.
    fn commit(&mut self, kept: Kept<()>) -> Result<(), StoreError> {
        self.journal.append(&mut self.store, &kept.with(&self.kept.table))?;
        self.kept.take(&kept);
        Ok(())
    }

    /// Makes the machine's table durable.
    #[inline(never)]
    fn commit_table(&mut self) -> Result<(), StoreError> {
        let table = self.machine.table();
        self.journal.append(&mut self.store, &self.kept.with(table))?;
        self.kept.table.clone_from(table);
        Ok(())
    }

    /// The machine as the table says, after a boot.
    #[inline(never)]
    fn recover(&mut self) {
        self.machine = Machine::recover(self.kept.table.clone());
    }

    /// A session with the gateway began: it knows nothing of us yet.
    pub fn handle_session(&mut self, now_ms: u64) {
        self.said.begin();
        self.handle_broker(now_ms, false);
    }

    /// A message arrived. Whatever it says, it is checked before anything is believed.
    #[inline(never)]
    pub fn handle(&mut self, now_ms: u64, message: &Message<'_>) {
        match message {
            Message::Broker(there) => {
                // What was said meanwhile may be nowhere.
                self.said.say_again();
                self.handle_broker(now_ms, *there);
            }
            Message::Deliver(topic, bytes) => match topic {
                Topic::Order(id) if *id == self.provision.id => self.handle_order(now_ms, bytes),
                Topic::Trust(_) => self.handle_keyset(bytes),
                Topic::Blob(of, piece) => self.handle_piece(now_ms, *of, *piece, bytes),
                Topic::Block(id) if *id == self.provision.id => {
                    if let Ok(Block { of, piece, bytes }) = Block::decode(bytes) {
                        self.handle_piece(now_ms, of, piece, bytes);
                    }
                }
                _ => {}
            },
            _ => {}
        }
        self.drive(now_ms);
    }

    /// Time passed.
    #[inline(never)]
    pub fn tick(&mut self, now_ms: u64) {
        if !self.kept_boot {
            self.keep_boot();
        }
        self.machine.handle(now_ms, Event::Tick);
        self.tick_fetch(now_ms);
        if now_ms >= self.look_at_ms {
            self.look_at_ms = now_ms + LOOK_MS;
            if self.machine.wants_facts() {
                let facts = self.facts();
                self.machine.handle(now_ms, Event::Facts(facts));
            }
            self.judge(now_ms);
        }
        self.drive(now_ms);
    }

    /// Nobody asks a sensor's device, so that nobody is interrupted; it has no clock, so that no
    /// window of time is ever open; the link is a wire.
    fn facts(&self) -> Facts {
        Facts {
            unix_s: self.kept.time_floor_s,
            time_known: false,
            locked: false,
            idle_s: u32::MAX,
            mains: true,
            unmetered: true,
        }
    }

    /// Carries out what the machine wants, until it wants nothing more for now.
    #[inline(never)]
    fn drive(&mut self, now_ms: u64) {
        loop {
            self.guard();
            let Some(command) = self.machine.poll() else { break };
            self.execute(now_ms, command);
        }
        self.watch_probation(now_ms);
    }

    /// A slot that serves, or that either table goes back to, takes nothing.
    fn guard(&mut self) {
        let tables = [self.kept.table.fallback(), self.machine.table().fallback()];
        let running = self.serving.as_ref().map(|serving| serving.place);
        let is_needed = |slot| {
            let place = Some(Place::Slot(slot));
            tables.contains(&place) || running == place
        };
        self.store.guard(SlotId::BOTH.map(is_needed));
    }

    /// Whether there is a piece of work to do in the next turn.
    pub fn is_busy(&self) -> bool {
        !matches!(self.job, Job::None)
    }

    /// The release at `place`, signature checked; if `digest` is given, it is the one.
    #[inline(never)]
    fn release_at(
        &self,
        place: Place,
        digest: Option<&Digest>,
    ) -> Option<Verified<ManifestView<'_>>> {
        let bytes = self.part(place, Part::Release)?;
        let keyring = self.keyring_at(place)?;
        let claimed = payload(bytes)?;
        let digest = digest.unwrap_or(&claimed);
        let release = Verified::<ManifestView<'_>>::recheck(bytes, keyring, digest).ok()?;
        (release.get().model == self.provision.model).then_some(release)
    }

    /// What the slot table says of the release at `place`.
    #[inline(never)]
    fn facts_at(&self, place: Place) -> Option<ReleaseFacts> {
        self.release_at(place, None).map(|release| facts(&release))
    }

    /// The keys under which the release at `place` was admitted.
    fn keyring_at(&self, place: Place) -> Option<KeyringView<'_>> {
        let keyset = self.part(place, Part::Keyset)?;
        let keyset = Verified::<KeysetView<'_>>::recheck(keyset, &payload(keyset)?).ok()?;
        Some(KeyringView::of(&keyset))
    }

    /// The bytes of a part at `place`: of a paper all, of golden vectors and model the whole
    /// room, of which the manifest says how much counts.
    fn part(&self, place: Place, part: Part) -> Option<&[u8]> {
        match place {
            Place::Slot(slot) => {
                let region = self.store.layout().slot(slot).part(part);
                match part {
                    Part::Release | Part::Keyset => self.store.paper(region),
                    _ => Some(self.store.read(region)),
                }
            }
            Place::Factory => {
                let factory = self.provision.factory.as_ref()?;
                match part {
                    Part::Release => Some(factory.release),
                    Part::Keyset => Some(factory.keyset),
                    Part::Golden => Some(factory.golden),
                    Part::Model => Some(factory.model),
                    Part::GoldenList | Part::ModelList => None,
                }
            }
        }
    }

    /// Exactly the bytes of an artifact at `place`, not checked here.
    fn artifact(&self, place: Place, part: Part, artifact: &Artifact) -> Option<&[u8]> {
        self.part(place, part)?.get(..artifact.bytes as usize)
    }

    /// Whether the parts fit this device's slots and come in chunks that it can take.
    fn fits(&self, parts: &Parts) -> bool {
        let block = self.store.layout().block;
        let map = self.store.layout().slot(SlotId::A);
        let fits = |artifact: &Artifact, list: Region, room: Region| {
            artifact.bytes <= room.len
                && artifact.chunk_list_bytes() <= list.len
                && artifact.chunk_bytes <= MCU_CHUNK_BYTES
                && block.is_multiple_of(artifact.chunk_bytes)
        };
        fits(&parts.golden, map.part(Part::GoldenList), map.part(Part::Golden))
            && fits(&parts.model, map.part(Part::ModelList), map.part(Part::Model))
    }

    /// Its id.
    pub fn id(&self) -> &DeviceId {
        &self.provision.id
    }

    /// What is durable.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The machine, for whoever watches.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The flash, for whoever watches.
    pub fn store(&self) -> &Store<F> {
        &self.store
    }

    /// What the engine serves, and from where.
    pub fn running(&self) -> Option<(Place, Digest)> {
        self.serving.as_ref().map(|serving| (serving.place, serving.release))
    }
}

/// The digest of an envelope's payload: its name, not a proof.
fn payload(envelope: &[u8]) -> Option<Digest> {
    Some(Digest::of(EnvelopeView::decode(envelope).ok()?.payload_unchecked()))
}

/// What the slot table keeps of a manifest.
fn facts(manifest: &Verified<ManifestView<'_>>) -> ReleaseFacts {
    ReleaseFacts {
        digest: manifest.digest(),
        counter: manifest.get().counter,
        min_release: manifest.get().min_release,
        variant: VariantKind::Qnn,
        crashes_max: manifest.get().health.policy.crashes_max,
    }
}
