//! The spool on a disk that loses what was not synced: whatever is pushed, delivered, cut, filled
//! or failing, every number is delivered, lost or waiting, and nothing that was durable is forgotten.
//!
//! `FLEETWAY_SEED` repeats one run; a lying disk must be found out, or the test says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fleetway_agent::spool::{Counts, Pushed, Spool};
use fleetway_tests::world::disk::{Lie, Mood, SimFs};

/// Runs; each is a few hundred operations with about ten power cuts.
const SEEDS: u64 = 400;
/// Small, so that the oldest are dropped often.
const BYTES_MAX: u64 = 2_000;

fn run(seed: u64, lie: Lie) -> Result<(u64, u64, u64), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let fs = SimFs::lying(lie);
    let open = |fs: &SimFs| Spool::open(fs, Path::new("data/spool"), BYTES_MAX, 1);
    let mut spool = open(&fs).map_err(|e| format!("open: {e}"))?;
    // What push said is durable, until it was delivered or lawfully dropped.
    let mut kept: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    // Numbers that a report may have travelled under.
    let mut given = BTreeSet::new();
    let (mut arrived, mut cuts, mut unkept) = (0, 0, 0);
    for _ in 0..300 {
        match rng.u32(0..100) {
            0..60 => {
                let record = vec![rng.u8(..); rng.usize(0..120)];
                if let Ok(Pushed { number, kept: on_disk }) = spool.push(&fs, &record) {
                    if !given.insert(number) {
                        return Err(format!("number {number} was given twice"));
                    }
                    if on_disk {
                        kept.insert(number, record);
                    } else {
                        unkept += 1;
                    }
                }
            }
            60..85 => {
                let some = spool.waiting(&fs, 0, rng.usize(1..9)).map_err(|e| e.to_string())?;
                for record in &some {
                    if kept.get(&record.number).is_some_and(|bytes| *bytes != record.bytes) {
                        return Err(format!("number {} came back otherwise", record.number));
                    }
                }
                if let Some(last) = some.last() {
                    // A failing disk forgets that they arrived; they come again.
                    let _ = spool.delivered(&fs, last.number, None);
                    arrived += some.len() as u64;
                }
            }
            85..90 => fs.set_mood(if rng.bool() { Mood::Full } else { Mood::Failing }),
            90..96 => fs.set_mood(Mood::Well),
            _ => {
                fs.set_mood(Mood::Well);
                fs.cut(&mut rng);
                cuts += 1;
                spool = open(&fs).map_err(|e| format!("open after a cut: {e}"))?;
            }
        }
        let Counts { produced, delivered, lost, waiting } = spool.counts();
        if produced != delivered + lost + waiting {
            return Err(format!("{:?} does not add up", spool.counts()));
        }
        if spool.bytes() > BYTES_MAX {
            return Err(format!("{} bytes", spool.bytes()));
        }
        // What is neither waiting nor counted as gone was forgotten.
        let mut from = 0;
        let mut there = 0;
        loop {
            let some = spool.waiting(&fs, from, 64).map_err(|e| e.to_string())?;
            let Some(last) = some.last() else { break };
            from = last.number + 1;
            there += some.len() as u64;
        }
        if there != waiting {
            return Err(format!("{waiting} wait, {there} can be read"));
        }
        let newest = given.last().copied().unwrap_or(0);
        if newest > produced {
            return Err(format!("number {newest} was durable, now {produced} is the last"));
        }
    }
    Ok((arrived, cuts, unkept))
}

#[test]
fn every_number_is_delivered_lost_or_waiting() {
    let seeds = match std::env::var("FLEETWAY_SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    let (mut arrived, mut cuts, mut unkept) = (0, 0, 0);
    for seed in seeds {
        let (a, c, u) = run(seed, Lie::None)
            .unwrap_or_else(|error| panic!("{error}; repeat it with FLEETWAY_SEED={seed}"));
        (arrived, cuts, unkept) = (arrived + a, cuts + c, unkept + u);
    }
    let seen = format!("{arrived} arrived, {cuts} cuts, {unkept} with their numbers only");
    assert!(arrived > 0 && cuts > 0 && unkept > 0, "{seen}");
}

#[test]
fn a_disk_that_lies_is_found_out() {
    for lie in [Lie::FileSync, Lie::DirSync] {
        let found = (0..SEEDS).filter(|seed| run(*seed, lie).is_err()).count();
        assert!(found > 20, "{lie:?}: {found} of {SEEDS}");
    }
}
