//! The book of one device's telemetry: which numbers came, which are lost, and what all reports
//! together say was answered. Pure; `protocol::telemetry` says what the words mean.
//!
//! A number is counted once, however often its report comes. What is in the book in memory becomes
//! durable before the device is told of it ([`super::Fleet::settle`]): until then the device keeps the
//! report, so that a controller that dies in between counts it when it comes again.

use std::collections::BTreeMap;

use fleetway_protocol::ids::{DeviceId, ModelName};
use fleetway_protocol::limits::{HEARD_SPANS_MAX, MODELS_PER_DEVICE_MAX};
use fleetway_protocol::report::{Stamp, Telemetry};
use fleetway_protocol::telemetry::{Heard, Numbered, Span};
use serde::{Deserialize, Serialize};

/// Runs of numbers above a gap. A backlog that is filled in while one in a hundred reports of now is
/// lost leaves some dozen; past the bound a report counts as not come, and the device sends it again.
const SPANS_MAX: usize = 64;
/// Loads of a model that late reports may still be about; older ones are closed.
const LOADS_MAX: usize = 8;

/// What became of a device's telemetry reports, of all series together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportTotals {
    /// Made, as far as was heard.
    pub produced: u64,
    /// Came, each counted once.
    pub delivered: u64,
    /// Will never come.
    pub lost: u64,
}

/// What a report is to the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It came for the first time.
    New,
    /// It came before, or was given up.
    Repeat,
    /// It is of a series that is over.
    Old,
    /// There is no room for another gap: it has to come again.
    Full,
}

/// See the module page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Book {
    series: u64,
    /// The newest boot heard of in this series: another series is newer if its boot is.
    epoch: u64,
    /// Every number up to this one is settled.
    through: u64,
    /// How many of those are lost.
    lost: u64,
    /// Came, above that; rising, with gaps between.
    spans: Vec<Span>,
    /// The greatest number heard of.
    newest: u64,
    before: ReportTotals,
    models: BTreeMap<ModelName, Answers>,
}

/// Answers of one model over all its loads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Answers {
    closed: Sum,
    /// The newest load that is closed.
    closed_to: (u64, u32),
    /// By boot and load: counters only rise, so the greatest are the newest.
    open: BTreeMap<(u64, u32), Sum>,
}

/// Answers that a device gave, from the first report on: they only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Requests, failed ones included.
    pub requests: u64,
    /// Failed requests.
    pub errors: u64,
}

impl Book {
    /// A report came.
    pub(super) fn hear(&mut self, stamp: Stamp, numbered: &Numbered) -> Entry {
        if numbered.series != self.series {
            if stamp.epoch <= self.epoch {
                return Entry::Old;
            }
            self.begin(numbered.series);
        }
        self.epoch = self.epoch.max(stamp.epoch);
        let number = numbered.number;
        let entry = if self.has(number) { Entry::Repeat } else { self.insert(number) };
        self.newest = self.newest.max(number).max(numbered.first - 1);
        self.settle(numbered.first - 1);
        entry
    }

    /// Whether a number is the newest heard of, or newer.
    pub(super) fn is_newest(&self, numbered: &Numbered) -> bool {
        numbered.series == self.series && numbered.number >= self.newest
    }

    /// What became of all reports.
    pub(super) fn totals(&self) -> ReportTotals {
        ReportTotals {
            produced: self.before.produced + self.newest,
            delivered: self.before.delivered + self.delivered(),
            lost: self.before.lost + self.lost,
        }
    }

    /// What the device is told.
    pub(super) fn answer(&self, device: &DeviceId) -> Heard {
        let above = self.spans.iter().take(HEARD_SPANS_MAX).copied().collect();
        let Self { series, through, lost, .. } = *self;
        Heard { device: device.clone(), series, through, lost, above }
    }

    /// Adds what a new report says of a model's answers; what all of them say now.
    pub(super) fn count(&mut self, model: &ModelName, telemetry: &Telemetry) {
        if !self.models.contains_key(model) && self.models.len() >= MODELS_PER_DEVICE_MAX {
            return;
        }
        let answers = self.models.entry(model.clone()).or_default();
        let load = (telemetry.stamp.epoch, telemetry.load);
        if load <= answers.closed_to {
            return; // so late that its load is closed
        }
        let sum = answers.open.entry(load).or_default();
        sum.requests = sum.requests.max(telemetry.counters.requests);
        sum.errors = sum.errors.max(telemetry.counters.errors);
        while answers.open.len() > LOADS_MAX
            && let Some((load, sum)) = answers.open.pop_first()
        {
            answers.closed_to = load;
            answers.closed.add(sum);
        }
    }

    /// What a model answered, by all reports.
    pub(super) fn answers(&self, model: &ModelName) -> Option<Sum> {
        let answers = self.models.get(model)?;
        let mut sum = answers.closed;
        answers.open.values().for_each(|open| sum.add(*open));
        Some(sum)
    }

    fn delivered(&self) -> u64 {
        let above: u64 = self.spans.iter().map(|span| span.to - span.from + 1).sum();
        self.through - self.lost + above
    }

    /// Another series: whatever the one before still owed will not come.
    fn begin(&mut self, series: u64) {
        let delivered = self.delivered();
        self.before.produced += self.newest;
        self.before.delivered += delivered;
        self.before.lost += self.newest - delivered;
        (self.series, self.through, self.lost, self.newest) = (series, 0, 0, 0);
        self.spans.clear();
    }

    fn has(&self, number: u64) -> bool {
        let in_span = |span: &Span| (span.from..=span.to).contains(&number);
        number <= self.through || self.spans.iter().any(in_span)
    }

    /// Takes in a number that is in no span.
    fn insert(&mut self, number: u64) -> Entry {
        let at = self.spans.partition_point(|span| span.to < number);
        let joins_before = at > 0 && self.spans[at - 1].to + 1 == number;
        let joins_after = self.spans.get(at).is_some_and(|span| span.from == number + 1);
        match (joins_before, joins_after) {
            (true, true) => {
                self.spans[at - 1].to = self.spans[at].to;
                self.spans.remove(at);
            }
            (true, false) => self.spans[at - 1].to = number,
            (false, true) => self.spans[at].from = number,
            // What follows what is settled is settled at once.
            (false, false) if self.spans.len() >= SPANS_MAX && number != self.through + 1 => {
                return Entry::Full;
            }
            (false, false) => self.spans.insert(at, Span { from: number, to: number }),
        }
        Entry::New
    }

    /// Every number up to `gone` came or is lost.
    fn settle(&mut self, gone: u64) {
        loop {
            match self.spans.first().copied() {
                Some(span) if span.from == self.through + 1 => {
                    self.through = span.to;
                    self.spans.remove(0);
                }
                next if self.through < gone => {
                    let to = next.map_or(gone, |span| gone.min(span.from - 1));
                    self.lost += to - self.through;
                    self.through = to;
                }
                _ => return,
            }
        }
    }
}

impl Sum {
    fn add(&mut self, more: Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.errors = self.errors.saturating_add(more.errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetway_protocol::ids::Digest;
    use std::collections::BTreeSet;

    fn at(epoch: u64) -> Stamp {
        Stamp { epoch, seq: 1 }
    }

    fn numbered(series: u64, number: u64, first: u64) -> Numbered {
        Numbered { series, number, first, time_s: 0 }
    }

    fn totals(book: &Book) -> (u64, u64, u64) {
        let ReportTotals { produced, delivered, lost } = book.totals();
        (produced, delivered, lost)
    }

    /// Against a set of numbers, for any order, repetition and loss.
    #[test]
    fn it_counts_what_a_set_counts() {
        for seed in 0..300 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut book, mut came, mut gone) = (Book::default(), BTreeSet::new(), 0);
            let mut lost = BTreeSet::new();
            for _ in 0..200 {
                let number = rng.u64(1..150);
                let first = if rng.u8(..) < 30 { rng.u64(1..=number + 1) } else { gone + 1 };
                let known = came.contains(&number) || lost.contains(&number);
                let entry = book.hear(at(1), &numbered(1, number, first));
                match entry {
                    Entry::New => assert!(!known && came.insert(number), "{number} twice"),
                    Entry::Repeat => assert!(known, "{number}"),
                    Entry::Full => assert!(!known),
                    Entry::Old => panic!("of another series"),
                }
                gone = gone.max(first - 1);
                lost.extend((1..=gone).filter(|number| !came.contains(number)));
                let newest = came.last().copied().unwrap_or(0).max(gone).max(book.newest);
                let expected = (newest, came.len() as u64, lost.len() as u64);
                assert_eq!(totals(&book), expected, "seed {seed}");
                let answer = book.answer(&DeviceId::new("cam").unwrap());
                assert!(answer.is_sane(), "{answer:?}");
                let settled = |n: &u64| came.contains(n) || lost.contains(n);
                assert!((1..=answer.through).all(|n| settled(&n)));
            }
        }
    }

    #[test]
    fn gaps_are_bounded_and_what_does_not_fit_comes_again() {
        let mut book = Book::default();
        let every_other: Vec<u64> = (1..=SPANS_MAX as u64).map(|n| 2 * n).collect();
        for number in &every_other {
            assert_eq!(book.hear(at(1), &numbered(1, *number, 1)), Entry::New);
        }
        assert_eq!(book.hear(at(1), &numbered(1, 500, 1)), Entry::Full);
        assert_eq!(totals(&book), (500, SPANS_MAX as u64, 0));
        // The oldest always finds room, and makes some.
        assert_eq!(book.hear(at(1), &numbered(1, 1, 1)), Entry::New);
        assert_eq!(book.hear(at(1), &numbered(1, 500, 1)), Entry::New);
    }

    #[test]
    fn another_series_closes_the_one_before() {
        let mut book = Book::default();
        for number in [1, 2, 5] {
            book.hear(at(1), &numbered(1, number, 1));
        }
        assert_eq!(totals(&book), (5, 3, 0));
        // A device that forgot: another name, in a newer boot.
        assert_eq!(book.hear(at(9), &numbered(9, 1, 1)), Entry::New);
        assert_eq!(totals(&book), (6, 4, 2));
        assert_eq!(book.hear(at(1), &numbered(1, 3, 1)), Entry::Old, "what is over stays over");
        // What it said before it was told its boot's number is of the new series all the same.
        assert_eq!(book.hear(at(2), &numbered(9, 2, 1)), Entry::New);
        assert_eq!(totals(&book), (7, 5, 2));
    }

    #[test]
    fn late_reports_add_to_what_was_answered_and_nothing_counts_twice() {
        let model = ModelName::new("digits").unwrap();
        let mut book = Book::default();
        let mut said = |epoch, load, requests| {
            let mut telemetry = Telemetry::new(Digest([1; 32]));
            (telemetry.stamp, telemetry.load) = (at(epoch), load);
            telemetry.counters.requests = requests;
            book.count(&model, &telemetry);
            book.answers(&model).unwrap().requests
        };
        assert_eq!((said(1, 1, 10), said(1, 1, 30), said(1, 1, 20)), (10, 30, 30));
        assert_eq!((said(1, 2, 5), said(1, 1, 40)), (35, 45), "the load before, late");
        for load in 3..20 {
            said(1, load, 1);
        }
        assert_eq!((said(1, 19, 1), said(1, 1, 99)), (62, 62), "its load is closed");
    }
}
