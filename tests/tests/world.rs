//! The seeded world: `cargo xtask test` runs a thousand seeds, `cargo xtask sim` as many as
//! one likes. A failing seed prints the command that repeats it.
//!
//! `FLEETWAY_SIM_SEED=N` runs one seed; `FLEETWAY_SIM_SEEDS=N` that many from
//! `FLEETWAY_SIM_FIRST` on.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fleetway_tests::seeds::{each, number};
use fleetway_tests::world::disk::Lie;
use fleetway_tests::world::story::{Setting, run};

/// Seeds in one run of the tests.
const SEEDS: u64 = 1_000;

/// Runs seeds; the failing ones with their sentence.
fn run_seeds(first: u64, count: u64, setting: Setting) -> (Counts, Vec<(u64, String)>) {
    let (mut counts, mut failed) = (Counts::default(), Vec::new());
    let one = |seed| {
        let checker = catch_unwind(AssertUnwindSafe(|| run(seed, setting)));
        checker.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
    };
    for (seed, ended) in each(first, count, one) {
        match ended {
            Ok(checker) => counts.add(&checker.phases, &checker.endings),
            Err(text) => failed.push((seed, text)),
        }
    }
    (counts, failed)
}

#[derive(Debug, Default)]
struct Counts {
    phases: BTreeMap<&'static str, u64>,
    endings: BTreeMap<String, u64>,
}

impl Counts {
    fn add(&mut self, phases: &BTreeMap<&'static str, u64>, endings: &BTreeMap<String, u64>) {
        phases.iter().for_each(|(phase, n)| *self.phases.entry(phase).or_default() += n);
        endings.iter().for_each(|(e, n)| *self.endings.entry(e.clone()).or_default() += n);
    }
}

#[test]
fn a_thousand_worlds_keep_every_promise() {
    if let Some(seed) = number("FLEETWAY_SIM_SEED") {
        run(seed, Setting::default());
        return;
    }
    let first = number("FLEETWAY_SIM_FIRST").unwrap_or(1);
    let count = number("FLEETWAY_SIM_SEEDS").unwrap_or(SEEDS);
    let (counts, failed) = run_seeds(first, count, Setting::default());
    println!("{count} worlds of 50 devices; device states seen: {:?}", counts.phases);
    println!("how the last orders ended: {:?}", counts.endings);
    for (seed, text) in failed.iter().take(10) {
        let text: String = text.chars().take(600).collect();
        println!("seed {seed}: {text}\n  repeat: cargo xtask sim --seed {seed}");
    }
    assert!(failed.is_empty(), "{} of {count} worlds broke a promise", failed.len());
    if count >= 100 {
        for phase in [
            "eligibility",
            "download",
            "self-test",
            "shadow",
            "held",
            "activation",
            "probation",
            "rollback",
        ] {
            let seen = counts.phases.get(phase).copied().unwrap_or(0);
            assert!(seen >= 100, "{phase} was seen only {seen} times: the worlds are too calm");
        }
    }
}

/// A disk whose `sync` lies must be noticed, or the world would not notice a missing one.
#[test]
fn a_world_notices_when_syncing_is_forgotten() {
    for lie in [Lie::FileSync, Lie::DirSync] {
        let setting = Setting { lie, ..Setting::default() };
        let (_, failed) = run_seeds(1, 20, setting);
        println!("{lie:?}: {} of 20 worlds broke a promise", failed.len());
        assert!(!failed.is_empty(), "{lie:?} went unnoticed in 20 worlds");
    }
}
