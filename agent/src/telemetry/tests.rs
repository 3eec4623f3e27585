//! The outlet by the millisecond: what leaves when, what never leaves, and what is counted. A day of
//! link loss with power cuts is `tests/tests/telemetry.rs`'s.

use super::*;
use crate::fs::RealFs;
use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::report::{Host, Telemetry};
use fleetway_protocol::telemetry::{Numbered, Span};
use fleetway_protocol::{codec, limits::REPORT_BYTES_MAX};

const OPEN: Room = Room { live: true, idle: true };
const NONE: [u64; 0] = [];
const BUSY: Room = Room { live: true, idle: false };

fn outlet(dir: &Path, settings: Settings) -> Outlet<RealFs> {
    let device = DeviceId::new("cam-1").unwrap();
    Outlet::open(RealFs, &dir.join("spool"), device, settings, 5, 0).unwrap()
}

fn record(time_s: u64) -> Record {
    let mut telemetry = Telemetry::new(Digest([7; 32]));
    telemetry.numbered.time_s = time_s;
    telemetry.counters.requests = time_s;
    Record::Model(ModelName::new("digits").unwrap(), Box::new(telemetry))
}

fn make(outlet: &mut Outlet<RealFs>, reports: u64) {
    for time_s in 1..=reports {
        outlet.handle_record(record(time_s)).unwrap();
    }
}

fn heard(through: u64, lost: u64, above: &[(u64, u64)]) -> Heard {
    let above = above.iter().map(|(from, to)| Span { from: *from, to: *to }).collect();
    Heard { device: DeviceId::new("cam-1").unwrap(), series: 5, through, lost, above }
}

fn numbered(report: &Outgoing) -> Numbered {
    let telemetry: Telemetry = codec::decode(&report.report, REPORT_BYTES_MAX).unwrap();
    telemetry.numbered
}

/// Numbers that leave when the outlet is asked every 10 ms.
fn leave(outlet: &mut Outlet<RealFs>, room: Room, ms: std::ops::Range<u64>) -> Vec<u64> {
    let mut left = Vec::new();
    for now_ms in ms.step_by(10) {
        while let Some(report) = outlet.poll(now_ms, room) {
            left.push(report.number);
        }
    }
    left
}

#[test]
fn a_report_of_now_leaves_at_once_and_goes_when_it_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let mut outlet = outlet(dir.path(), Settings::default());
    outlet.handle_up();
    make(&mut outlet, 2);
    let first = outlet.poll(0, BUSY).unwrap();
    assert_eq!(first.topic.text(""), "d/cam-1/up/tm/digits");
    assert_eq!(numbered(&first), Numbered { series: 5, number: 1, first: 1, time_s: 1 });
    assert_eq!(leave(&mut outlet, BUSY, 0..100), [2]);
    assert_eq!(outlet.counts().waiting, 2);
    // Another life's answer, and then ours.
    outlet.handle_heard(Heard { series: 4, ..heard(2, 0, &[]) }).unwrap();
    assert_eq!(outlet.counts().waiting, 2);
    outlet.handle_heard(heard(2, 0, &[])).unwrap();
    assert_eq!((outlet.counts().waiting, outlet.counts().delivered), (0, 2));
    assert_eq!(outlet.poll_timeout(0), None, "nothing to wait for");
    let host = Host { ..host_of(9) };
    outlet.handle_record(Record::Host(Box::new(host))).unwrap();
    let next = outlet.poll(0, BUSY).unwrap();
    assert_eq!(next.topic.text(""), "d/cam-1/up/hw");
    let host: Host = codec::decode(&next.report, REPORT_BYTES_MAX).unwrap();
    assert_eq!(host.numbered, Numbered { series: 5, number: 3, first: 3, time_s: 9 });
}

fn host_of(time_s: u64) -> Host {
    Host {
        stamp: Default::default(),
        numbered: Numbered { time_s, ..Numbered::default() },
        uptime_s: None,
        cpu_permille: None,
        memory_bytes: None,
        memory_available_bytes: None,
        temperature_milli_c: None,
        disk_bytes: None,
        disk_free_bytes: None,
    }
}

#[test]
fn filling_in_waits_for_everything_else_and_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { backfill_per_s: 4, ..Settings::default() };
    let mut outlet = outlet(dir.path(), settings);
    make(&mut outlet, 100);
    assert_eq!(leave(&mut outlet, OPEN, 0..5_000), NONE, "no link");
    outlet.handle_up();
    assert_eq!(leave(&mut outlet, BUSY, 5_000..15_000), NONE, "something else waits");
    // By the rate, then by what is unanswered.
    let left = leave(&mut outlet, OPEN, 15_000..16_000);
    assert_eq!(left, [1, 2, 3, 4]);
    assert_eq!(leave(&mut outlet, OPEN, 16_000..60_000), [5, 6, 7, 8]);
    // A report of now passes by, while an order holds up the rest.
    outlet.handle_record(record(101)).unwrap();
    outlet.handle_heard(heard(4, 0, &[])).unwrap();
    assert_eq!(leave(&mut outlet, BUSY, 60_000..61_000), [101]);
    assert_eq!(leave(&mut outlet, OPEN, 61_000..62_000), [9, 10, 11, 12]);
    // What is not answered comes again.
    outlet.handle_heard(heard(9, 0, &[(11, 101)])).unwrap();
    assert_eq!(leave(&mut outlet, OPEN, 62_000..120_000), NONE);
    assert_eq!(leave(&mut outlet, OPEN, 120_000..170_000), [10]);
    outlet.handle_heard(heard(101, 0, &[])).unwrap();
    assert_eq!(outlet.counts(), Counts { produced: 101, delivered: 101, lost: 0, waiting: 0 });
}

#[test]
fn a_link_that_goes_takes_with_it_what_was_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut outlet = outlet(dir.path(), Settings::default());
    outlet.handle_up();
    make(&mut outlet, 3);
    assert_eq!(leave(&mut outlet, BUSY, 0..100), [1, 2, 3]);
    outlet.handle_down();
    make(&mut outlet, 1);
    assert_eq!(leave(&mut outlet, OPEN, 100..1_000), NONE);
    outlet.handle_up();
    assert_eq!(leave(&mut outlet, OPEN, 1_000..2_000), [1, 2, 3, 4]);
}

#[test]
fn what_is_over_the_budget_waits_and_what_the_disk_drops_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let day_ms = 24 * 3_600_000;
    let settings =
        Settings { bytes_per_day: 128 << 10, spool_bytes: 64 << 10, backfill_per_s: 100 };
    let mut outlet = outlet(dir.path(), settings);
    outlet.handle_up();
    let (mut left, mut bytes, mut through) = (0, 0, 0);
    // A report a minute for two days, each with an answer.
    for now_ms in (0..2 * day_ms).step_by(60_000) {
        outlet.handle_record(record(now_ms / 1_000)).unwrap();
        while let Some(report) = outlet.poll(now_ms, OPEN) {
            left += 1;
            bytes += report.report.len() + SEAL_BYTES + report.topic.text("").len();
            through = through.max(report.number);
        }
        // The controller settles what the device gave up.
        let first = outlet.spool.first();
        outlet.handle_heard(heard(first - 1, 0, &[])).unwrap();
    }
    assert!(bytes <= 2 * (128 << 10) && bytes > 200 << 10, "{bytes} bytes in {left} reports");
    assert!(outlet.counts().waiting > 100, "{:?}", outlet.counts());
    assert_eq!(outlet.counts().produced, 2 * day_ms / 60_000);
    assert!(outlet.spool.bytes() <= 64 << 10);
}

#[test]
fn what_nobody_can_read_does_not_hold_up_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut outlet = outlet(dir.path(), Settings::default());
    make(&mut outlet, 1);
    outlet.spool.push(&RealFs, b"another build's").unwrap();
    make(&mut outlet, 1);
    outlet.handle_unnumbered(3);
    make(&mut outlet, 1);
    outlet.handle_up();
    assert_eq!(leave(&mut outlet, OPEN, 0..5_000), [1, 3, 7]);
    assert_eq!(outlet.counts(), Counts { produced: 7, delivered: 0, lost: 4, waiting: 3 });
}
