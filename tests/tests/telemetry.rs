//! A day without a link, on a disk that loses what was not synced: every report that was ever made is
//! delivered or lost, counted once, to the last one, on both sides.
//!
//! The agent's real outlet and spool, the controller's real fleet, signed answers between them; time
//! is virtual. `FLEETWAY_SEED` repeats one run of the storms.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use fleetway_agent::spool::Counts;
use fleetway_agent::telemetry::{Outlet, Record, Room, Settings};
use fleetway_controller::fleet::{By, Fleet, ReportTotals};
use fleetway_controller::store::MemStore;
use fleetway_protocol::codec;
use fleetway_protocol::envelope::{Authority, PublicKey};
use fleetway_protocol::ids::{DeviceId, Digest, ModelName};
use fleetway_protocol::limits::{HEARD_BYTES_MAX, REPORT_BYTES_MAX};
use fleetway_protocol::report::{Host, Stamp, Telemetry};
use fleetway_protocol::telemetry::{Heard, Numbered};
use fleetway_protocol::topics::Topic;
use fleetway_tests::world::disk::{Mood, SimFs};
use serde_json::Value;

const HOUR_MS: u64 = 3_600_000;
/// Unix time at which it begins.
const EPOCH_S: u64 = 1_800_000_000;
/// The agent's default: a round of reports every ten seconds.
const ROUND_MS: u64 = 10_000;
const IDLE: Room = Room { live: true, idle: true };

struct World {
    rng: fastrand::Rng,
    now_ms: u64,
    device: DeviceId,
    model: ModelName,
    settings: Settings,
    fs: SimFs,
    outlet: Outlet<SimFs>,
    stamp: Stamp,
    up: bool,
    store: Arc<MemStore>,
    authority: Authority,
    fleet: Fleet,
    /// Reports lost on the way, per hundred.
    loss_percent: u32,
    /// Reports that were ever made.
    made: u64,
    /// Answers that the engine gave in all, and the load's.
    requests: (u64, u64),
    /// Numbers that dashboards got, and how often.
    mirrored: BTreeMap<u64, u32>,
    late: u64,
    /// Highest of each counter that dashboards got.
    infer_total: u64,
}

impl World {
    fn new(seed: u64, settings: Settings) -> Self {
        let device = DeviceId::new("cam-1").unwrap();
        let fs = SimFs::default();
        let store = Arc::new(MemStore::default());
        let key = PublicKey::of(&SigningKey::from_bytes(&[7; 32]));
        let authority = Authority::new(&[key], 1).unwrap();
        let mut fleet = Fleet::open(store.clone(), authority.clone(), EPOCH_S).unwrap();
        fleet.set_mirror(true);
        let by = By { who: "test", now_s: EPOCH_S };
        fleet.add_device(by, &device, &BTreeMap::new()).unwrap();
        let outlet = open(&fs, &device, settings, 1, 0);
        Self {
            rng: fastrand::Rng::with_seed(seed),
            now_ms: 0,
            device,
            model: ModelName::new("digits").unwrap(),
            settings,
            fs,
            outlet,
            stamp: Stamp { epoch: 1, seq: 0 },
            up: false,
            store,
            authority,
            fleet,
            loss_percent: 0,
            made: 0,
            requests: (0, 0),
            mirrored: BTreeMap::new(),
            late: 0,
            infer_total: 0,
        }
    }

    fn now_s(&self) -> u64 {
        EPOCH_S + self.now_ms / 1000
    }

    fn link(&mut self, up: bool) {
        self.up = up;
        if up { self.outlet.handle_up() } else { self.outlet.handle_down() }
    }

    /// A round of reports: the machine, and the model.
    fn round(&mut self) {
        let more = self.rng.u64(0..50);
        self.requests = (self.requests.0 + more, self.requests.1 + more);
        let numbered = Numbered { time_s: self.now_s(), ..Numbered::default() };
        let mut telemetry = Telemetry::new(Digest([1; 32]));
        telemetry.counters.requests = self.requests.1;
        (telemetry.numbered, telemetry.load) = (numbered, 1);
        let mut host = Host {
            stamp: Stamp::default(),
            numbered,
            uptime_s: Some(self.now_ms / 1000),
            cpu_permille: None,
            memory_bytes: None,
            memory_available_bytes: None,
            temperature_milli_c: None,
            disk_bytes: None,
            disk_free_bytes: None,
        };
        self.stamp.seq += 2;
        (host.stamp, telemetry.stamp) =
            (Stamp { seq: self.stamp.seq - 1, ..self.stamp }, self.stamp);
        let model = Record::Model(self.model.clone(), Box::new(telemetry));
        for record in [Record::Host(Box::new(host)), model] {
            self.outlet.handle_record(record).expect("the disk takes the number at least");
            self.made += 1;
        }
    }

    fn power_cut(&mut self) {
        self.fs.set_mood(Mood::Well);
        self.fs.cut(&mut self.rng);
        self.stamp = Stamp { epoch: self.stamp.epoch + 1, seq: 0 };
        self.requests.1 = 0;
        let epoch = self.stamp.epoch;
        self.outlet = open(&self.fs, &self.device, self.settings, epoch, self.now_ms);
        let up = self.up;
        self.link(up);
    }

    fn controller_dies(&mut self) {
        let now_s = self.now_s();
        self.fleet = Fleet::open(self.store.clone(), self.authority.clone(), now_s).unwrap();
        self.fleet.set_mirror(true);
    }

    /// What leaves, arrives, and is answered.
    fn carry(&mut self) {
        while let Some(report) = self.outlet.poll(self.now_ms, IDLE) {
            assert!(self.up, "without a link");
            if self.rng.u32(0..100) < self.loss_percent {
                continue;
            }
            let copies = 1 + u32::from(self.rng.u32(0..100) < self.loss_percent);
            let now_s = self.now_s();
            for _ in 0..copies {
                match &report.topic {
                    Topic::Telemetry(id, model) => {
                        let said = codec::decode(&report.report, REPORT_BYTES_MAX).unwrap();
                        self.fleet.handle_telemetry(now_s, id, model, &said);
                    }
                    Topic::Host(id) => {
                        let said = codec::decode(&report.report, REPORT_BYTES_MAX).unwrap();
                        self.fleet.handle_host(now_s, id, &said);
                    }
                    other => panic!("{other:?} is no telemetry"),
                }
            }
        }
        self.see_mirror();
    }

    fn controller_ticks(&mut self) {
        for heard in self.fleet.settle(self.now_s()).unwrap() {
            let mut buf = [0; HEARD_BYTES_MAX];
            let bytes = codec::encode(&heard, &mut buf).unwrap();
            let heard: Heard = codec::decode(bytes, HEARD_BYTES_MAX).unwrap();
            if self.up && self.rng.u32(0..100) >= self.loss_percent {
                self.outlet.handle_heard(heard).unwrap();
            }
        }
    }

    fn see_mirror(&mut self) {
        while let Some(message) = self.fleet.poll_mirror() {
            if !message.topic.contains("/tm/") && !message.topic.ends_with("/hw") {
                continue;
            }
            let said: Value = serde_json::from_slice(&message.payload).unwrap();
            *self.mirrored.entry(said["number"].as_u64().unwrap()).or_default() += 1;
            self.late += said["late"].as_u64().unwrap();
            assert!(said["ts"].as_u64().unwrap() <= self.now_s() * 1000);
            if let Some(total) = said["infer_total"].as_u64() {
                assert!(total >= self.infer_total, "infer_total fell to {total}");
                self.infer_total = total;
            }
        }
    }

    /// Time passes: in small steps with a link, in large ones without.
    fn run(&mut self, for_ms: u64) {
        let end_ms = self.now_ms + for_ms;
        let mut reported_ms = self.now_ms;
        while self.now_ms < end_ms {
            self.now_ms += if self.up { 250 } else { ROUND_MS };
            if self.now_ms >= reported_ms + ROUND_MS {
                reported_ms = self.now_ms;
                self.round();
            }
            self.carry();
            if self.now_ms.is_multiple_of(1_000) {
                self.controller_ticks();
            }
        }
    }

    /// A good link, and a round a minute, until nothing waits: what the device gave up in the middle of
    /// a backlog the controller learns from the next report.
    fn settle(&mut self) -> (ReportTotals, Counts) {
        self.loss_percent = 0;
        self.link(true);
        for _ in 0..24 * 60 {
            self.round();
            for _ in 0..240 {
                self.now_ms += 250;
                self.carry();
                if self.now_ms.is_multiple_of(1_000) {
                    self.controller_ticks();
                }
            }
            if self.outlet.counts().waiting == 0 {
                return (self.fleet.report_totals(&self.device).unwrap(), self.outlet.counts());
            }
        }
        panic!("it never settles: {:?}", self.outlet.counts())
    }

    /// Both sides have counted the same, and it is what was made.
    fn check(&mut self) -> ReportTotals {
        let (totals, counts) = self.settle();
        let ReportTotals { produced, delivered, lost } = totals;
        assert_eq!(produced, self.made, "not every report was counted: {totals:?}");
        assert_eq!(produced, delivered + lost, "{totals:?}");
        let theirs = Counts { produced, delivered, lost, waiting: 0 };
        assert_eq!(counts, theirs, "the device counts otherwise");
        totals
    }
}

fn open(
    fs: &SimFs,
    device: &DeviceId,
    settings: Settings,
    epoch: u64,
    now_ms: u64,
) -> Outlet<SimFs> {
    let dir = Path::new("data/spool");
    Outlet::open(fs.clone(), dir, device.clone(), settings, epoch, now_ms).expect("opens")
}

/// Everything fits: nothing is lost, everything comes, in an hour or so.
#[test]
fn a_day_without_a_link_is_filled_in() {
    let mut world = World::new(1, Settings::default());
    world.link(true);
    world.run(HOUR_MS / 2);
    world.link(false);
    world.run(24 * HOUR_MS);
    let waiting = world.outlet.counts().waiting;
    assert!(waiting > 17_000, "{waiting}");
    world.link(true);
    let back_ms = world.now_ms;
    while world.outlet.counts().waiting > 100 {
        world.run(60_000);
    }
    let took_s = (world.now_ms - back_ms) / 1000;
    let totals = world.check();
    println!("{waiting} reports were filled in within {took_s} s: {totals:?}, {} late", world.late);
    assert_eq!(totals.lost, 0);
    assert!((3_600..3 * 3_600).contains(&took_s), "{took_s} s");
    // Every report once, with its own time, and all answers counted.
    assert_eq!(world.mirrored.len() as u64, world.made);
    assert!(world.mirrored.values().all(|times| *times == 1) && world.late > 16_000);
    assert_eq!(world.infer_total, world.requests.0);
}

/// The bound is an hour's worth, power fails every hour: the oldest are lost, and counted.
#[test]
fn what_does_not_fit_is_lost_and_counted_over_power_cuts() {
    let settings = Settings { spool_bytes: 128 << 10, ..Settings::default() };
    let mut world = World::new(2, settings);
    world.link(true);
    world.run(HOUR_MS / 2);
    world.link(false);
    for _ in 0..24 {
        world.run(HOUR_MS);
        world.power_cut();
    }
    let totals = world.check();
    println!("{totals:?}");
    assert!(totals.lost > 10_000 && totals.delivered > 1_000, "{totals:?}");
}

/// Links that flap and lose, full disks, power cuts, a controller that dies: the sum holds.
#[test]
fn storms_lose_reports_and_no_count() {
    let seeds = match std::env::var("FLEETWAY_SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..60,
    };
    let mut seen = BTreeSet::new();
    for seed in seeds {
        println!("FLEETWAY_SEED={seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let spool_bytes = if rng.bool() { 16 << 10 } else { 4 << 20 };
        let mut world = World::new(seed, Settings { spool_bytes, ..Settings::default() });
        world.loss_percent = rng.u32(0..10);
        for _ in 0..20 {
            match rng.u8(0..10) {
                0..3 => world.link(true),
                3..6 => world.link(false),
                6 => world.power_cut(),
                7 => world.controller_dies(),
                8 => world.fs.set_mood(Mood::Full),
                _ => world.fs.set_mood(Mood::Well),
            }
            let for_ms = rng.u64(1..10) * 60_000;
            world.run(for_ms);
        }
        world.fs.set_mood(Mood::Well);
        let totals = world.check();
        // Nothing that is counted as delivered was not really there.
        let mirrored = world.mirrored.len() as u64;
        assert!(totals.delivered <= mirrored, "{totals:?}, {mirrored} mirrored");
        seen.insert((totals.lost > 0, world.mirrored.values().any(|times| *times > 1)));
    }
    // With one seed there is one kind of run.
    println!("{seen:?}");
}

/// A device that forgets everything begins another series; what it still owed is lost.
#[test]
fn a_new_disk_begins_anew_and_the_old_debt_is_lost() {
    let mut world = World::new(3, Settings::default());
    world.link(true);
    world.run(HOUR_MS / 10);
    world.link(false);
    world.run(HOUR_MS / 10);
    let before = world.fleet.report_totals(&world.device).unwrap();
    let owed = world.made - before.produced;
    assert!(owed > 50, "{owed}");
    world.fs = SimFs::default();
    world.power_cut();
    // What nobody ever heard of is not counted; what is made from now on is, all of it.
    (world.made, world.requests) = (before.produced, (0, 0));
    world.link(true);
    world.run(HOUR_MS / 10);
    let (totals, counts) = world.settle();
    assert_eq!(totals.produced, world.made, "{totals:?}");
    assert_eq!(totals.produced, totals.delivered + totals.lost, "{totals:?}");
    assert_eq!(counts.produced, world.made - before.produced);
}
