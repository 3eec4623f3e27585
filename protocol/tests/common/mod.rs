//! A tiny model of a device around [`Machine`], and a checker that looks at every step.
//!
//! Durable are a table, which changes only when a `Persist` is carried out, the bytes of two
//! slots, and the last order. A command is *pending* until it is answered; a cut of the power
//! drops it before, halfway or after its effect. The first rule that is broken is kept in
//! [`Device::broken`]. [`Flaw`]s make the model misbehave, so that tests can show that the
//! checker sees it.
#![allow(dead_code)] // each test binary uses its part

use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::limits::TRIAL_TRIES_MAX;
use fleetway_protocol::machine::{Command, Event, Machine, Phase};
use fleetway_protocol::manifest::VariantKind;
use fleetway_protocol::order::{Action, ModelOrder, Policy};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Ending, Place, ReleaseFacts, SlotId, SlotState, SlotTable};

/// A release: its number is its counter and every byte of its digest.
pub(crate) type Release = u8;

/// How a release behaves; the number says it, so that a failing run can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    Good,
    GoldenFails,
    Unhealthy,
    /// The device dies of it whenever it serves on trial.
    Crashes,
    WillNotLoad,
    NeverVerifies,
    Untrusted,
}

pub(crate) fn nature(release: Release) -> Nature {
    match release {
        4 => Nature::GoldenFails,
        5 => Nature::Unhealthy,
        6 => Nature::Crashes,
        7 => Nature::WillNotLoad,
        8 => Nature::NeverVerifies,
        9 => Nature::Untrusted,
        _ => Nature::Good,
    }
}

pub(crate) fn digest(release: Release) -> Digest {
    Digest([release; 32])
}

/// One step back stays possible, as by default.
pub(crate) fn facts(release: Release) -> ReleaseFacts {
    ReleaseFacts {
        digest: digest(release),
        counter: u64::from(release),
        min_release: u64::from(release.saturating_sub(1)),
        variant: VariantKind::Qnn,
    }
}

pub(crate) fn order(action: Action, release: Release, rollout: u64) -> ModelOrder {
    ModelOrder {
        model: ModelName::new("digits").expect("name"),
        release: digest(release),
        variant: VariantKind::Qnn,
        action,
        rollout,
        policy: Policy::default(),
    }
}

pub(crate) fn run(release: Release, rollout: u64) -> ModelOrder {
    order(Action::Run, release, rollout)
}

/// What lies in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    None,
    Part(Release),
    Whole(Release),
    Rot,
}

/// Where within a command the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Before,
    Half,
    After,
}

impl Cut {
    pub(crate) const ALL: [Self; 3] = [Self::Before, Self::Half, Self::After];
}

/// How the model of the device is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Answers `Persist` at once, and writes when the next command is done.
    WritesBehind,
    /// Writes a trial with all its tries, always.
    KeepsTries,
    /// Erases the other slot.
    ErasesTheOther,
    /// Loses the poison list when it writes.
    ForgetsPoison,
    /// Loses the floor when it writes.
    ForgetsFloor,
    /// Says that it loaded, and loaded nothing.
    LoadsNothing,
    /// Says that it verified what is rotten.
    VerifiesAnything,
}

#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) machine: Machine,
    pub(crate) durable: SlotTable,
    pub(crate) bytes: [Bytes; 2],
    pub(crate) factory_ok: bool,
    pub(crate) engine: Option<(Place, Release)>,
    pub(crate) pending: Option<Command>,
    pub(crate) halted: bool,
    pub(crate) now_ms: u64,
    /// The stored order, and whether this boot's machine was told.
    pub(crate) order: Option<ModelOrder>,
    pub(crate) told: bool,
    pub(crate) flaw: Option<Flaw>,
    pub(crate) broken: Option<String>,
    /// Commands given out since the last look.
    pub(crate) issued: Vec<Command>,
    /// What was answered, to be answered again too late.
    pub(crate) answered: Vec<Event>,
    pub(crate) boots: u32,
    pub(crate) log: Option<Vec<String>>,
    /// The table as it was when `Persist` was given out.
    snapshot: SlotTable,
    behind: Option<SlotTable>,
    /// The last table that the machine was told is durable.
    promised: SlotTable,
    had_net: bool,
    /// A confirmed slot rotted or would not load: a net may be missing.
    pub(crate) net_rotten: bool,
    trial: Option<Digest>,
    trial_boots: u8,
    activated_in_boot: bool,
    boot_was_graceful: bool,
}

impl Device {
    pub(crate) fn new(table: SlotTable, bytes: [Bytes; 2]) -> Self {
        let mut device = Self {
            machine: Machine::recover(table.clone()),
            snapshot: table.clone(),
            promised: table.clone(),
            durable: table,
            bytes,
            factory_ok: true,
            engine: None,
            pending: None,
            halted: false,
            now_ms: 1_000,
            order: None,
            told: false,
            flaw: None,
            broken: None,
            issued: Vec::new(),
            answered: Vec::new(),
            boots: 1,
            log: None,
            behind: None,
            had_net: false,
            net_rotten: false,
            trial: None,
            trial_boots: 0,
            activated_in_boot: false,
            boot_was_graceful: false,
        };
        device.drain();
        device
    }

    /// Nothing installed yet.
    pub(crate) fn fresh(factory: Option<Release>) -> Self {
        Self::new(SlotTable::new(factory.map(facts)), [Bytes::None; 2])
    }

    /// `releases` were rolled out one after the other and confirmed, and the device runs.
    pub(crate) fn confirmed(factory: Option<Release>, releases: &[Release]) -> Self {
        let mut device = Self::fresh(factory);
        for release in releases {
            device.give(run(*release, 1));
            device.settle(&mut |_| None).expect("settles");
        }
        device.issued.clear();
        device.answered.clear();
        device
    }

    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(text());
        }
    }

    fn fail(&mut self, rule: &str) {
        if self.broken.is_none() {
            let (table, durable) = (summary(self.machine.table()), summary(&self.durable));
            self.broken = Some(format!(
                "{rule}\n  pending {:?}, phase {:?}, engine {:?}, bytes {:?}\n  table   {table}\n  durable {durable}",
                self.pending,
                self.machine.phase(),
                self.engine,
                self.bytes
            ));
        }
    }

    // --- what the device does -------------------------------------------------------------

    /// An order that was admitted: stored, then told.
    pub(crate) fn give(&mut self, order: ModelOrder) {
        self.note(|| format!("order {:?} {:?}", order.action, order.release));
        self.order = Some(order);
        self.tell();
    }

    /// The stored order to the machine.
    pub(crate) fn tell(&mut self) {
        if let Some(order) = self.order.clone() {
            self.told = true;
            self.send(Event::Order(order));
        }
    }

    pub(crate) fn send(&mut self, event: Event) {
        self.note(|| format!("  <- {event:?}"));
        self.machine.handle(self.now_ms, event);
        self.drain();
    }

    /// Takes the machine's commands.
    pub(crate) fn drain(&mut self) {
        for _ in 0..8 {
            let Some(command) = self.machine.poll() else { return self.check() };
            self.note(|| format!("  -> {command:?}"));
            self.issued.push(command);
            match command {
                Command::CancelFetch => {
                    if let Some(fetch @ Command::Fetch(..)) = self.pending {
                        self.carry_out_half(fetch);
                        self.pending = None;
                    }
                }
                Command::Halt => self.halted = true,
                _ => {
                    self.check_command(command);
                    if let Command::Persist(_) = command {
                        self.snapshot = self.machine.table().clone();
                    }
                    self.pending = Some(command);
                }
            }
        }
        self.fail("poll never ends");
    }

    /// Answers the pending command as the device would: `Ok` after its effect, or `with`.
    pub(crate) fn answer(&mut self, with: Result<(), Reason>) {
        let Some(command) = self.pending.take() else { return };
        if let (Some(table), false) = (self.behind.take(), matches!(command, Command::Persist(_))) {
            self.durable = table;
        }
        let event = match with {
            Ok(()) => {
                if let Command::Persist(_) = command {
                    self.promised = self.snapshot.clone();
                }
                self.carry_out(command)
            }
            Err(reason) => self.refuse(command, reason),
        };
        self.answered.push(event.clone());
        self.send(event);
    }

    fn carry_out(&mut self, command: Command) -> Event {
        match command {
            Command::Persist(token) => {
                self.write();
                Event::Persisted(token, Ok(()))
            }
            Command::Admit(token) => {
                let release = self.machine.goal().expect("a goal").release.0[0];
                let refused = nature(release) == Nature::Untrusted;
                let result = if refused { Err(Reason::Untrusted) } else { Ok(facts(release)) };
                Event::Admitted(token, result)
            }
            Command::Erase(token, slot) => {
                let wrong = self.flaw == Some(Flaw::ErasesTheOther);
                self.bytes[if wrong { slot.other() } else { slot } as usize] = Bytes::None;
                Event::Done(token, Ok(()))
            }
            Command::Fetch(token, slot) => {
                self.bytes[slot as usize] = Bytes::Whole(self.named(slot));
                Event::Done(token, Ok(()))
            }
            Command::Verify(token, slot) => {
                let release = self.named(slot);
                let good = self.bytes[slot as usize] == Bytes::Whole(release)
                    && nature(release) != Nature::NeverVerifies;
                let good = good || self.flaw == Some(Flaw::VerifiesAnything);
                Event::Done(token, if good { Ok(()) } else { Err(Reason::Verification) })
            }
            Command::SelfTest(token, slot) => {
                let fails = nature(self.named(slot)) == Nature::GoldenFails;
                Event::Done(token, if fails { Err(Reason::Golden) } else { Ok(()) })
            }
            Command::Activate(token, place) => Event::Activated(token, self.load(place)),
            Command::Unload(token) => {
                self.engine = None;
                Event::Done(token, Ok(()))
            }
            Command::CancelFetch | Command::Halt => unreachable!("never pending"),
        }
    }

    fn refuse(&mut self, command: Command, reason: Reason) -> Event {
        match command {
            Command::Persist(token) => Event::Persisted(token, Err(reason)),
            Command::Admit(token) => Event::Admitted(token, Err(reason)),
            Command::Activate(token, place) => {
                let confirmed = match place {
                    Place::Slot(slot) => {
                        self.machine.table().slot(slot).state == SlotState::Confirmed
                    }
                    Place::Factory => true,
                };
                // The tests say by this that the bytes cannot be read any more.
                if confirmed && (!reason.is_transient() || reason == Reason::DiskError) {
                    self.net_rotten = true;
                }
                Event::Activated(token, Err(reason))
            }
            Command::Erase(token, _)
            | Command::Fetch(token, _)
            | Command::Verify(token, _)
            | Command::SelfTest(token, _)
            | Command::Unload(token) => Event::Done(token, Err(reason)),
            Command::CancelFetch | Command::Halt => unreachable!("never pending"),
        }
    }

    fn load(&mut self, place: Place) -> Result<Digest, Reason> {
        let release = match place {
            Place::Slot(slot) => match self.bytes[slot as usize] {
                Bytes::Whole(n) if self.named(slot) == n => n,
                _ => return Err(Reason::Corrupt),
            },
            Place::Factory if self.factory_ok => {
                self.machine.table().factory.expect("a factory model").digest.0[0]
            }
            Place::Factory => return Err(Reason::Corrupt),
        };
        if nature(release) == Nature::WillNotLoad {
            return Err(Reason::LoadFailed);
        }
        if self.flaw != Some(Flaw::LoadsNothing) {
            self.engine = Some((place, release));
        }
        Ok(digest(release))
    }

    fn carry_out_half(&mut self, command: Command) {
        match command {
            Command::Erase(_, slot) => self.bytes[slot as usize] = Bytes::Rot,
            Command::Fetch(_, slot) => self.bytes[slot as usize] = Bytes::Part(self.named(slot)),
            _ => {} // a torn table is no table: the older copy counts
        }
    }

    fn named(&self, slot: SlotId) -> Release {
        self.machine.table().slot(slot).release.map_or(0, |r| r.digest.0[0])
    }

    pub(crate) fn write(&mut self) {
        let mut table = self.snapshot.clone();
        match self.flaw {
            Some(Flaw::KeepsTries) => {
                for slot in &mut table.slots {
                    if let SlotState::Trial { tries_left } = &mut slot.state {
                        *tries_left = TRIAL_TRIES_MAX - 1;
                    }
                }
            }
            Some(Flaw::ForgetsPoison) => table.poison.clear(),
            Some(Flaw::ForgetsFloor) => table.version_floor = 0,
            Some(Flaw::WritesBehind) => {
                self.behind = Some(table);
                return;
            }
            _ => {}
        }
        self.durable = table;
    }

    /// The power goes, within the pending command if there is one, and comes back.
    pub(crate) fn cut(&mut self, cut: Cut) {
        self.note(|| format!("=== cut {cut:?}"));
        if let Some(command) = self.pending.take() {
            match cut {
                Cut::Before => {}
                Cut::Half => self.carry_out_half(command),
                Cut::After => drop(self.carry_out(command)),
            }
        }
        self.boot();
    }

    /// A new process from what is durable.
    pub(crate) fn boot(&mut self) {
        self.pending = None;
        self.halted = false;
        self.engine = None;
        self.behind = None;
        self.told = false;
        self.answered.clear();
        self.boots += 1;
        self.activated_in_boot = false;
        self.boot_was_graceful = self.durable.graceful;
        self.machine = Machine::recover(self.durable.clone());
        self.drain();
    }

    /// One thing that happens when nothing goes wrong; `false` when nothing is left to do.
    pub(crate) fn step(&mut self) -> bool {
        if self.pending.is_some() {
            self.answer(Ok(()));
        } else if let Some((token, slot, _)) = self.machine.probation() {
            match nature(self.named(slot)) {
                Nature::Crashes => self.cut(Cut::Before),
                Nature::Unhealthy => self.send(Event::Health(token, Err(Reason::HealthErrors))),
                _ => self.send(Event::Health(token, Ok(()))),
            }
        } else if let Some(at_ms) = self.machine.poll_timeout() {
            self.now_ms = self.now_ms.max(at_ms);
            self.send(Event::Tick);
        } else if self.halted {
            self.boot();
        } else {
            return false;
        }
        true
    }

    /// Lets everything happen. `boundary` is asked at every command and verdict whether the
    /// power goes there. After a boot the stored order is told at once, as the agent does.
    pub(crate) fn settle(
        &mut self,
        boundary: &mut dyn FnMut(&Device) -> Option<Cut>,
    ) -> Result<(), String> {
        for _ in 0..600 {
            if let Some(broken) = &self.broken {
                return Err(broken.clone());
            }
            if !self.told && self.order.is_some() && !self.halted {
                self.tell();
                continue;
            }
            let in_work = self.pending.is_some() || self.machine.probation().is_some();
            if let Some(cut) = in_work.then(|| boundary(self)).flatten() {
                self.cut(cut);
                continue;
            }
            if !self.step() {
                return Ok(());
            }
        }
        self.fail("does not come to an end");
        Err(self.broken.clone().unwrap_or_default())
    }

    // --- what must always hold ------------------------------------------------------------

    fn intact(&self, place: Place) -> bool {
        match place {
            Place::Slot(slot) => {
                let named = self.durable.slot(slot).release.map(|r| r.digest.0[0]);
                named.is_some_and(|n| self.bytes[slot as usize] == Bytes::Whole(n))
            }
            Place::Factory => self.factory_ok,
        }
    }

    fn check_command(&mut self, command: Command) {
        let busy = matches!(
            self.pending,
            Some(
                Command::Persist(_)
                    | Command::Erase(..)
                    | Command::Fetch(..)
                    | Command::Activate(..)
                    | Command::Unload(_)
            )
        );
        if busy {
            self.fail("a command with an effect was given up before its answer");
        }
        let newest = self.order.as_ref().filter(|_| self.told).map(|o| (o.action, o.release));
        let wanted = |release: Option<ReleaseFacts>| {
            newest.is_none_or(|(action, r)| {
                action == Action::Run && release.is_some_and(|f| f.digest == r)
            })
        };
        match command {
            Command::Erase(_, slot) | Command::Fetch(_, slot) => {
                let place = Some(Place::Slot(slot));
                let named = [self.durable.fallback(), self.machine.table().fallback()];
                if named.contains(&place) || self.engine.map(|e| e.0) == place {
                    self.fail("rule 3: Erase and Fetch name only the spare slot");
                }
                let entry = self.durable.slot(slot);
                let announced = match command {
                    Command::Erase(..) => entry.state == SlotState::Empty,
                    _ => entry.state == SlotState::Receiving,
                };
                let release = entry.release;
                if !announced {
                    self.fail("rule 1: Erase or Fetch before the table says so");
                }
                if matches!(command, Command::Fetch(..)) && !wanted(release) {
                    self.fail("P7: fetches for an order that is not the newest");
                }
            }
            Command::SelfTest(_, slot) => {
                let entry = *self.durable.slot(slot);
                if !matches!(entry.state, SlotState::Verified | SlotState::Confirmed) {
                    self.fail("rule 1: a self-test of what is not verified");
                }
                if !wanted(entry.release) {
                    self.fail("P7: tests for an order that is not the newest");
                }
            }
            Command::Activate(_, Place::Slot(slot)) => {
                let states = [&self.durable, self.machine.table()].map(|t| t.slot(slot).state);
                let proper =
                    |s: &SlotState| matches!(s, SlotState::Trial { .. } | SlotState::Confirmed);
                if !states.iter().all(proper) {
                    self.fail("rule 1: serves what is neither on trial nor confirmed");
                }
                if states[1] != SlotState::Confirmed {
                    self.check_trial(slot);
                }
            }
            Command::Persist(_) => self.check_success(),
            _ => {}
        }
    }

    fn check_trial(&mut self, slot: SlotId) {
        let release = self.durable.slot(slot).release;
        let Some(release) = release.map(|r| r.digest) else { return };
        if self.durable.poisoned(&release).is_some() {
            self.fail("P5: tries a poisoned release");
        }
        let order = self.order.as_ref().filter(|_| self.told);
        let newer = order.is_some_and(|o| o.release != release);
        if newer && (self.engine.is_some() || self.durable.fallback().is_some()) {
            self.fail("P7: activates for an order that is not the newest");
        }
        let again_in_boot = core::mem::replace(&mut self.activated_in_boot, true);
        if self.trial != Some(release) {
            (self.trial, self.trial_boots) = (Some(release), 1);
        } else if !again_in_boot && !self.boot_was_graceful {
            self.trial_boots += 1;
            if self.trial_boots > TRIAL_TRIES_MAX {
                self.fail("P5: one trial too many");
            }
        }
    }

    /// A table about to be written says that an order succeeded: does the engine serve it?
    fn check_success(&mut self) {
        let last = self.machine.table().last;
        let Some(outcome) = last.filter(|_| last != self.durable.last) else { return };
        let served = self.engine.map(|(_, n)| digest(n));
        if outcome.result == Ending::Confirmed && served != Some(outcome.release) {
            self.fail("success is reported of something that is not served");
        }
    }

    fn check(&mut self) {
        let table = self.machine.table().clone();
        if !table.is_sane() || !self.durable.is_sane() {
            self.fail("the table is not sane");
        }
        if table.version_floor < self.durable.version_floor {
            self.fail("the floor sinks");
        }
        if table.version_floor < self.promised.version_floor {
            self.fail("the floor was forgotten");
        }
        let dropped = table.poison_dropped.saturating_sub(self.promised.poison_dropped) as usize;
        let mut kept = self.promised.poison.iter().skip(dropped);
        if !kept.all(|p| table.poisoned(&p.release).is_some()) {
            self.fail("poison was forgotten");
        }
        if self.durable.trial().is_none() {
            self.trial = None;
        }
        if let Some((Place::Slot(slot), n)) = self.engine
            && self.bytes[slot as usize] != Bytes::Whole(n)
            && !self.net_rotten
        {
            self.fail("the bytes of the running slot are gone");
        }
        let net = self.durable.fallback();
        self.had_net = (self.had_net || net.is_some()) && !self.durable.removed;
        if self.had_net && !self.net_rotten && !net.is_some_and(|place| self.intact(place)) {
            self.fail("P1: no way back to what was confirmed");
        }
        self.check_at_rest(&table);
    }

    fn check_at_rest(&mut self, table: &SlotTable) {
        let at_rest = self.pending.is_none()
            && self.machine.phase() == Phase::Idle
            && self.machine.poll_timeout().is_none()
            && !self.halted;
        if !at_rest {
            return;
        }
        let running = self.machine.running().map(|(place, d)| (place, d.0[0]));
        if running != self.engine {
            self.fail("the machine is wrong about what the engine serves");
        }
        let can_serve = table.fallback().is_some_and(|p| p != Place::Factory || self.factory_ok);
        if can_serve && !self.net_rotten && self.engine.is_none() {
            self.fail("P1: serves nothing at rest");
        }
        if let Some(order) = self.order.as_ref().filter(|_| self.told)
            && table.last.map(|l| (l.release, l.rollout)) != Some((order.release, order.rollout))
        {
            self.fail("the newest order has no answer");
        }
        let proper = match self.engine {
            Some((Place::Slot(slot), _)) => {
                table.slot(slot).state == SlotState::Confirmed || table.fallback().is_none()
            }
            _ => true,
        };
        if !proper {
            self.fail("P1: serves at rest what is not confirmed");
        }
    }
}

fn slot_text(table: &SlotTable, id: SlotId) -> String {
    let slot = table.slot(id);
    let state = match slot.state {
        SlotState::Empty => return "-".to_owned(),
        SlotState::Trial { tries_left } => format!("trial/{tries_left}"),
        SlotState::Bad(reason) => format!("bad/{reason:?}"),
        state => format!("{state:?}").to_lowercase(),
    };
    let serving = if table.serving == Some(id) { "*" } else { "" };
    format!("{}:{state}{serving}", slot.release.map_or(0, |r| r.digest.0[0]))
}

/// A table in one line: `a=1:confirmed* b=- floor=0 poison=4:Golden last=4:Failed(Golden)@7`.
pub(crate) fn summary(table: &SlotTable) -> String {
    let mut text = format!(
        "a={} b={} floor={}",
        slot_text(table, SlotId::A),
        slot_text(table, SlotId::B),
        table.version_floor
    );
    for (flag, name) in [(table.removed, " removed"), (table.graceful, " graceful")] {
        text += if flag { name } else { "" };
    }
    if !table.poison.is_empty() {
        let list: Vec<_> =
            table.poison.iter().map(|p| format!("{}:{:?}", p.release.0[0], p.reason)).collect();
        text += &format!(" poison={}", list.join(","));
    }
    if let Some(last) = table.last {
        text += &format!(" last={}:{:?}@{}", last.release.0[0], last.result, last.rollout);
    }
    text
}

/// What a command is called in scripts.
pub(crate) fn command_text(command: Command) -> String {
    let place = |place| match place {
        Place::Slot(slot) => slot_name(slot),
        Place::Factory => "factory",
    };
    match command {
        Command::Persist(_) => "persist".into(),
        Command::Admit(_) => "admit".into(),
        Command::Erase(_, slot) => format!("erase {}", slot_name(slot)),
        Command::Fetch(_, slot) => format!("fetch {}", slot_name(slot)),
        Command::CancelFetch => "cancel".into(),
        Command::Verify(_, slot) => format!("verify {}", slot_name(slot)),
        Command::SelfTest(_, slot) => format!("test {}", slot_name(slot)),
        Command::Activate(_, at) => format!("activate {}", place(at)),
        Command::Unload(_) => "unload".into(),
        Command::Halt => "halt".into(),
    }
}

fn slot_name(slot: SlotId) -> &'static str {
    slot.letter()
}

/// xorshift64*: small, seeded, the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }
}
