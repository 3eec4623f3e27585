//! What the attacker does, drawn from a seed: one kind of mischief at a time, on the
//! messages that pass, and on whatever passed before, injected as fast as it is read.
//!
//! The attacker remembers what every client was ever sent. It has no key of the fleet; the
//! ones that it forges with are its own ([`super::forge`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use fleetway_protocol::ids::Digest;
use tokio::sync::mpsc;

use super::forge::Forger;
use super::kinds::Way;
pub use super::kinds::{Class, Kind};
use super::mqtt::Publish;

/// Messages that are remembered per class: then the oldest goes.
const RECORDS_MAX: usize = 512;
/// Of these, the ones that count as recent: a piece that is wanted now is among them.
const RECENT: usize = 32;
/// Stands for the receiver of what is for everybody.
const ANYBODY: &str = "";
/// How the controller's connections begin.
const CONTROLLER: &str = "controller";
/// Messages that are held back for reordering.
const HELD_MAX: usize = 8;
/// How often a passing message is tampered with, in percent: some must come through, or
/// nothing would ever be far enough along to be attacked.
const LIVE_PERCENT: u32 = 40;

#[derive(Clone, Debug)]
struct Record {
    client: String,
    topic: String,
    payload: Vec<u8>,
}

/// The attacker.
#[derive(Debug)]
pub struct Attack(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    rng: fastrand::Rng,
    kind: Option<Kind>,
    withheld: Vec<Class>,
    counts: BTreeMap<Kind, u64>,
    /// What was done to each class.
    touched: BTreeMap<(Kind, Class), u64>,
    connections: u64,
    lines: BTreeMap<String, (u64, mpsc::Sender<Vec<u8>>)>,
    records: BTreeMap<Class, VecDeque<Record>>,
    known: BTreeSet<Digest>,
    held: Vec<Publish>,
    forger: Forger,
}

impl Attack {
    pub(super) fn new(seed: u64, ca: Digest) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let forger = Forger::new(&mut rng, ca);
        Self(Mutex::new(Inner {
            rng,
            kind: None,
            withheld: Vec::new(),
            counts: BTreeMap::new(),
            touched: BTreeMap::new(),
            connections: 0,
            lines: BTreeMap::new(),
            records: BTreeMap::new(),
            known: BTreeSet::new(),
            held: Vec::new(),
            forger,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, this kind; `None` is an honest broker.
    pub fn set(&self, kind: Option<Kind>) {
        self.lock().kind = kind;
    }

    /// What is kept back while the kind is [`Kind::Withhold`].
    pub fn withhold(&self, classes: &[Class]) {
        self.lock().withheld = classes.to_vec();
    }

    /// The oldest message of a class that is remembered.
    pub fn oldest(&self, class: Class) -> Option<Vec<u8>> {
        Some(self.lock().records.get(&class)?.front()?.payload.clone())
    }

    /// What was said on a topic so far, as far as it is remembered, oldest first.
    pub fn said(&self, topic: &str) -> Vec<Vec<u8>> {
        let inner = self.lock();
        let all = inner.records.values().flatten().filter(|record| record.topic == topic);
        all.map(|record| record.payload.clone()).collect()
    }

    /// Gives `client` a message in the broker's name.
    ///
    /// # Errors
    /// If it is not connected.
    pub async fn send(&self, client: &str, topic: &str, payload: Vec<u8>) -> Result<()> {
        let line = self.lock().lines.get(client).map(|(_, line)| line.clone());
        let line = line.with_context(|| format!("{client} is not connected"))?;
        let packet = Publish::at_most_once(topic, payload).packet();
        line.send(packet.bytes()).await.with_context(|| format!("{client} went away"))
    }

    /// What was done so far.
    pub fn count(&self, kind: Kind) -> u64 {
        self.lock().counts.get(&kind).copied().unwrap_or(0)
    }

    /// To which classes of messages, for the printed table.
    pub fn touched(&self, kind: Kind) -> Vec<(String, u64)> {
        let inner = self.lock();
        let of_kind = inner.touched.iter().filter(|((k, _), _)| *k == kind);
        of_kind.map(|((_, class), n)| (format!("{class:?}").to_lowercase(), *n)).collect()
    }

    /// A client came; what is injected goes by `to_client`.
    pub(super) fn connected(&self, client: &str, to_client: &mpsc::Sender<Vec<u8>>) -> u64 {
        let inner = &mut *self.lock();
        inner.connections += 1;
        inner.lines.insert(client.to_owned(), (inner.connections, to_client.clone()));
        inner.connections
    }

    /// A client's connection ended.
    pub(super) fn gone(&self, client: &str, connection: u64) {
        let inner = &mut *self.lock();
        if inner.lines.get(client).is_some_and(|(number, _)| *number == connection) {
            inner.lines.remove(client);
        }
    }

    /// What becomes of a message that passes.
    pub(super) fn touch(&self, client: &str, way: Way, publish: Publish) -> Vec<Publish> {
        self.lock().touch(client, way, publish)
    }

    /// Sends one message that nobody sent; waits while its receiver is busy. `false` if
    /// there is nothing to send yet.
    pub async fn inject(&self) -> bool {
        let Some((line, publish)) = self.lock().invent() else { return false };
        line.send(publish.packet().bytes()).await.is_ok()
    }
}

/// Every second device gets what is meant for it, and mischief only on top: so there is always
/// somebody far enough along to be attacked at the last step.
fn is_spared(client: &str) -> bool {
    client.bytes().last().is_some_and(|last| last.is_ascii_digit() && last % 2 == 0)
}

impl Inner {
    fn done(&mut self, kind: Kind, class: Class) {
        *self.counts.entry(kind).or_default() += 1;
        *self.touched.entry((kind, class)).or_default() += 1;
    }

    fn remember(&mut self, client: &str, publish: &Publish) {
        let seen = Digest::of(&[publish.topic.as_bytes(), &publish.payload].concat());
        if publish.payload.is_empty() || !self.known.insert(seen) {
            return;
        }
        let records = self.records.entry(Class::of(&publish.topic)).or_default();
        if records.len() == RECORDS_MAX {
            records.pop_front();
        }
        let (topic, payload) = (publish.topic.clone(), publish.payload.clone());
        records.push_back(Record { client: client.to_owned(), topic, payload });
    }

    fn touch(&mut self, client: &str, way: Way, mut publish: Publish) -> Vec<Publish> {
        if way == Way::Up {
            return self.touch_up(publish);
        }
        self.remember(client, &publish);
        let class = Class::of(&publish.topic);
        let Some(kind) = self.kind else {
            let mut all = std::mem::take(&mut self.held);
            all.push(publish);
            return all;
        };
        let withholds = kind == Kind::Withhold && self.withheld.contains(&class);
        let spared = !kind.takes_away() && is_spared(client);
        let lucky = self.rng.u32(0..100) >= LIVE_PERCENT;
        if !withholds && (kind == Kind::Withhold || spared || lucky) {
            return vec![publish];
        }
        self.done(kind, class);
        match kind {
            Kind::Drop | Kind::Withhold => Vec::new(),
            Kind::Repeat => {
                let again = Publish::at_most_once(&publish.topic, publish.payload.clone());
                vec![publish, again.clone(), again]
            }
            Kind::Reorder => {
                self.held.push(Publish::at_most_once(&publish.topic, publish.payload));
                if self.held.len() < HELD_MAX {
                    return Vec::new();
                }
                self.rng.shuffle(&mut self.held);
                std::mem::take(&mut self.held)
            }
            Kind::Replay => {
                let old = self.record(class).map(|r| Publish::at_most_once(&r.topic, r.payload));
                old.into_iter().chain([publish]).collect()
            }
            Kind::Mutate | Kind::Truncate | Kind::CrossWire | Kind::Forge => {
                let record = Record {
                    client: client.to_owned(),
                    topic: publish.topic,
                    payload: publish.payload,
                };
                let (topic, payload) = self.spoil(kind, &record);
                (publish.topic, publish.payload) = (topic, payload);
                vec![publish]
            }
        }
    }

    /// What goes up to be kept passes, because a broker gives out what it likes, each time anew;
    /// but what it does not keep nobody gets.
    fn touch_up(&mut self, publish: Publish) -> Vec<Publish> {
        let class = Class::of(&publish.topic);
        if !class.is_seed() || publish.payload.is_empty() {
            return vec![publish];
        }
        self.remember(ANYBODY, &publish);
        let loses = match self.kind {
            Some(Kind::Drop) => self.rng.u32(0..100) < LIVE_PERCENT,
            Some(Kind::Withhold) => self.withheld.contains(&class),
            _ => false,
        };
        match self.kind.filter(|_| loses) {
            Some(kind) => {
                self.done(kind, class);
                Vec::new()
            }
            None => vec![publish],
        }
    }

    /// A device that is connected, other than `not`.
    fn any_device(&mut self, not: &str) -> Option<String> {
        let is_device = |id: &&String| !id.starts_with(CONTROLLER) && id.as_str() != not;
        let devices: Vec<&String> = self.lines.keys().filter(is_device).collect();
        self.rng.choice(devices).cloned()
    }

    /// A remembered message of a class, rather a recent one.
    fn record(&mut self, class: Class) -> Option<Record> {
        let records = self.records.get(&class).filter(|records| !records.is_empty())?;
        if class == Class::Trust && self.rng.bool() {
            // The one file that is looked at whenever it comes.
            let timestamps = records.iter().filter(|r| r.topic.ends_with("/timestamp.json"));
            let timestamps: Vec<&Record> = timestamps.collect();
            return self.rng.choice(timestamps).cloned();
        }
        let recent = self.rng.u8(0..4) > 0;
        let from = if recent { records.len().saturating_sub(RECENT) } else { 0 };
        let at = self.rng.usize(from..records.len());
        records.get(at).cloned()
    }

    fn invent(&mut self) -> Option<(mpsc::Sender<Vec<u8>>, Publish)> {
        let kind = self.kind.filter(|kind| !kind.takes_away())?;
        let classes: Vec<Class> = self.records.keys().copied().collect();
        let class = *self.rng.choice(&classes)?;
        let record = self.record(class)?;
        let mut client = record.client.clone();
        if client == ANYBODY {
            client = self.any_device("")?;
        }
        let (topic, payload) = match kind {
            Kind::CrossWire if class != Class::Report => {
                let (topic, payload) = self.spoil(kind, &record);
                let other = self.any_device(&client)?;
                let to_other = topic.replace(&format!("/{client}/"), &format!("/{other}/"));
                client = other;
                (to_other, payload)
            }
            Kind::Mutate | Kind::Truncate | Kind::Forge | Kind::CrossWire => {
                self.spoil(kind, &record)
            }
            _ => (record.topic, record.payload),
        };
        let (_, line) = self.lines.get(&client)?;
        let line = line.clone();
        self.done(kind, class);
        Some((line, Publish::at_most_once(&topic, payload)))
    }

    fn spoil(&mut self, kind: Kind, record: &Record) -> (String, Vec<u8>) {
        let (topic, payload) = (record.topic.clone(), record.payload.clone());
        match kind {
            Kind::Mutate => (topic, self.mutated(payload)),
            Kind::Truncate => (topic, self.cut(payload)),
            Kind::Forge => match Class::of(&topic) {
                Class::Report => self.forger.report(&topic, &payload, &mut self.rng),
                class => (topic, self.forger.forge(class, &payload, &mut self.rng)),
            },
            _ => {
                // Its bytes where other bytes belong: those of another of its class, or of
                // any class.
                let classes: Vec<Class> = self.records.keys().copied().collect();
                let class = match self.rng.bool() {
                    true => Class::of(&topic),
                    false => self.rng.choice(&classes).copied().unwrap_or(Class::Other),
                };
                let other = self.record(class).map_or(payload, |other| other.payload);
                (topic, other)
            }
        }
    }

    fn mutated(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let before = bytes.clone();
        let rng = &mut self.rng;
        while bytes == before {
            for _ in 0..rng.usize(1..=4) {
                let at = rng.usize(0..bytes.len().max(1));
                match rng.u8(0..5) {
                    0 | 1 => {
                        bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << rng.u8(0..8))
                    }
                    2 => bytes.insert(at.min(bytes.len()), rng.u8(..)),
                    3 if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => {
                        let len = rng.usize(1..=16);
                        bytes.iter_mut().skip(at).take(len).for_each(|b| *b = rng.u8(..));
                    }
                }
            }
        }
        bytes
    }

    fn cut(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        if self.rng.u8(0..4) == 0 {
            let more = self.rng.usize(1..=64);
            bytes.extend(std::iter::repeat_with(|| self.rng.u8(..)).take(more));
        } else {
            // An empty one clears a retained message and says nothing: at least one byte.
            bytes.truncate(self.rng.usize(1..bytes.len().max(2)));
        }
        bytes
    }
}
