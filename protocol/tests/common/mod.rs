//! A tiny model of a device around [`Machine`], and a checker that looks at every step.
//!
//! Durable are a table, which changes only when a `Persist` is carried out, the bytes of two
//! slots, and the last order. A command is *pending* until it is answered; a cut of the power
//! drops it before, halfway or after its effect. The first rule that is broken is kept in
//! [`Device::broken`]. [`Flaw`]s make the model misbehave, so that tests can show that the
//! checker sees it.
//!
//! This file is the device's life: orders, boots, cuts, steps. Then `effects` (what a command
//! does to slots, table and engine), `rules` (what must hold at each step), `release` (what
//! the releases are and how they behave) and `text` (tables and commands in one line).
#![allow(dead_code)] // each test binary uses its part

mod effects;
pub(crate) mod release;
mod rules;
pub(crate) mod text;

use fleetway_protocol::hold::{Facts, Hold, Point};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::machine::{Command, Event, Machine, Phase};
use fleetway_protocol::order::ModelOrder;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Place, SlotTable};
use release::{GOOD, Nature, Release, facts, nature, run};

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
    /// What its owner wants, and what its machine was told of it in this boot.
    pub(crate) owner: Hold,
    pub(crate) facts: Option<Facts>,
    /// The release whose trial was let begin, in this boot.
    begun: Option<Release>,
    pub(crate) flaw: Option<Flaw>,
    pub(crate) broken: Option<String>,
    /// Commands given out since the last look.
    pub(crate) issued: Vec<Command>,
    /// What was answered, to be answered again too late.
    pub(crate) answered: Vec<Event>,
    pub(crate) boots: u32,
    /// Where the update was at each cut of the power.
    pub(crate) cut_in: Vec<Phase>,
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
    /// The newest command: only its answer counts.
    newest: Option<Command>,
    /// The factory model was answered in this boot not to load, and asking again will not help.
    factory_refused: bool,
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
            owner: Hold::default(),
            facts: None,
            begun: None,
            flaw: None,
            broken: None,
            issued: Vec::new(),
            answered: Vec::new(),
            boots: 1,
            cut_in: Vec::new(),
            log: None,
            behind: None,
            had_net: false,
            net_rotten: false,
            trial: None,
            trial_boots: 0,
            activated_in_boot: false,
            newest: None,
            factory_refused: false,
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
        if let (Some(Command::Activate(asked, Place::Factory)), Event::Activated(token, result)) =
            (self.newest, &event)
            && asked == *token
        {
            self.factory_refused = result.is_err_and(|reason| !reason.is_transient());
        }
        if let Event::Facts(facts) = event {
            self.facts = Some(facts);
        }
        self.machine.handle(self.now_ms, event);
        self.drain();
    }

    /// Takes the machine's commands.
    pub(crate) fn drain(&mut self) {
        for _ in 0..8 {
            let Some(command) = self.machine.poll() else { return self.check() };
            self.note(|| format!("  -> {command:?}"));
            self.issued.push(command);
            self.newest = Some(command);
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

    /// The power goes, within the pending command if there is one, and comes back.
    pub(crate) fn cut(&mut self, cut: Cut) {
        self.note(|| format!("=== cut {cut:?}"));
        self.cut_in.push(self.machine.phase());
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
        self.factory_refused = false;
        self.boot_was_graceful = self.durable.graceful;
        self.machine = Machine::recover(self.durable.clone());
        self.machine.set_owner(self.owner);
        (self.facts, self.begun) = (None, None);
        self.drain();
    }

    /// One thing that happens when nothing goes wrong; `false` when nothing is left to do.
    pub(crate) fn step(&mut self) -> bool {
        if self.pending.is_some() {
            self.answer(Ok(()));
        } else if let Some((token, slot, _)) = self.machine.probation() {
            match nature(self.named(slot)) {
                Nature::Crashes => self.cut(Cut::Before),
                Nature::Unhealthy => {
                    self.send(Event::Health(token, Err(Reason::HealthErrors.into())))
                }
                _ => self.send(Event::Health(token, Ok(()))),
            }
        } else if let Some(at_ms) = self.machine.poll_timeout() {
            self.now_ms = self.now_ms.max(at_ms);
            self.send(Event::Tick);
        } else if self.machine.wants_facts() {
            // What lets a download go need not let an activation go.
            let locked = self.machine.held().is_some_and(|h| h.before == Point::Download);
            self.send(Event::Facts(Facts { locked, ..GOOD }));
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
            let in_work = self.pending.is_some()
                || self.machine.probation().is_some()
                || self.machine.held().is_some();
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
}
