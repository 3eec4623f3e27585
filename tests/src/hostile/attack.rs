//! What the attacker does, drawn from a seed: one kind of mischief at a time, on the
//! messages that pass, and on whatever passed before, injected as fast as it is read.
//!
//! The attacker remembers what every client was ever sent. It has no key of the fleet; the
//! ones that it forges with are its own ([`super::forge`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::topics::{Piece, ROOT_DEFAULT, Topic};
use tokio::sync::mpsc;

use super::forge::Forger;
use super::mqtt::Publish;

/// Messages that are remembered per class: then the oldest goes.
const RECORDS_MAX: usize = 512;
/// Of these, the ones that count as recent: a piece that is wanted now is among them.
const RECENT: usize = 32;
/// Messages that are held back for reordering.
const HELD_MAX: usize = 8;
/// How often a passing message is tampered with, in percent: some must come through, or
/// nothing would ever be far enough along to be attacked.
const LIVE_PERCENT: u32 = 40;

/// A kind of mischief.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Taken away, and acknowledged.
    Drop,
    /// Sent again and again.
    Repeat,
    /// Sent in another order.
    Reorder,
    /// Bits, bytes and ranges changed.
    Mutate,
    /// Cut short, or grown.
    Truncate,
    /// All of one class taken away, for as long as the attack lasts.
    Withhold,
    /// Something older sent again.
    Replay,
    /// Sent to another device, or to another topic.
    CrossWire,
    /// Well-formed, and signed with the attacker's own keys.
    Forge,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Drop,
        Self::Repeat,
        Self::Reorder,
        Self::Mutate,
        Self::Truncate,
        Self::Withhold,
        Self::Replay,
        Self::CrossWire,
        Self::Forge,
    ];

    /// Whether it takes messages away: there is nothing that a check could refuse.
    pub fn takes_away(self) -> bool {
        matches!(self, Self::Drop | Self::Withhold)
    }
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the broker.
    Up,
    /// From the broker.
    Down,
}

/// What a message is, as far as mischief goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// An order for a device.
    Order,
    /// A signed manifest.
    Release,
    /// A chunk list.
    List,
    /// A retained chunk.
    Chunk,
    /// A chunk in reply.
    Block,
    /// A file of the release authority.
    Trust,
    /// What a device says.
    Report,
    /// Anything else.
    Other,
}

impl Class {
    pub(super) fn of(topic: &str) -> Self {
        if topic.strip_prefix(ROOT_DEFAULT).is_some_and(|rest| rest.starts_with("t/")) {
            return Self::Trust;
        }
        match Topic::parse(ROOT_DEFAULT, topic) {
            Some(Topic::Order(_)) => Self::Order,
            Some(Topic::Blob(_, Piece::Release)) => Self::Release,
            Some(Topic::Blob(_, Piece::ChunkList)) => Self::List,
            Some(Topic::Blob(_, Piece::Chunk(_))) => Self::Chunk,
            Some(Topic::Block(_)) => Self::Block,
            Some(_) => Self::Report,
            None => Self::Other,
        }
    }
}

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
    withheld: Class,
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
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let forger = Forger::new(&mut rng);
        Self(Mutex::new(Inner {
            rng,
            kind: None,
            withheld: Class::Order,
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

    /// What is kept back while the kind is [`Kind::Withhold`], next.
    pub fn withhold_next(&self) {
        let inner = &mut *self.lock();
        let all =
            [Class::Order, Class::Release, Class::List, Class::Chunk, Class::Trust, Class::Report];
        let at = all.iter().position(|class| *class == inner.withheld).unwrap_or(0);
        inner.withheld = all[(at + 1) % all.len()];
    }

    /// What is kept back while the kind is [`Kind::Withhold`].
    pub fn withhold(&self, class: Class) {
        self.lock().withheld = class;
    }

    /// The oldest message of a class that is remembered.
    pub fn oldest(&self, class: Class) -> Option<Vec<u8>> {
        Some(self.lock().records.get(&class)?.front()?.payload.clone())
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
        // What goes up to be kept passes: a broker gives out what it likes, each time anew.
        if way == Way::Up {
            return vec![publish];
        }
        self.remember(client, &publish);
        let class = Class::of(&publish.topic);
        let Some(kind) = self.kind else {
            let mut all = std::mem::take(&mut self.held);
            all.push(publish);
            return all;
        };
        let withholds = kind == Kind::Withhold && class == self.withheld;
        if !withholds && (kind == Kind::Withhold || self.rng.u32(0..100) >= LIVE_PERCENT) {
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

    /// A remembered message of a class, rather a recent one.
    fn record(&mut self, class: Class) -> Option<Record> {
        let records = self.records.get(&class).filter(|records| !records.is_empty())?;
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
        let (topic, payload) = match kind {
            Kind::CrossWire if class != Class::Report => {
                let devices: Vec<String> =
                    self.lines.keys().filter(|id| **id != client).cloned().collect();
                let (topic, payload) = self.spoil(kind, &record);
                client = self.rng.choice(devices)?;
                (topic.replace(&record.client, &client), payload)
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
            Kind::Forge => {
                let class = Class::of(&topic);
                (topic, self.forger.forge(class, &payload, &mut self.rng))
            }
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
