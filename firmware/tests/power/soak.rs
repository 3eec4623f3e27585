//! Everything at once, by seed: any story, any state of the journal, up to four things that go
//! wrong, anywhere. `FLEETWAY_FIRMWARE_RUNS=100000 cargo test -p fleetway-firmware --test power
//! soak -- --nocapture` is what `cargo xtask soak firmware` does; `FLEETWAY_FIRMWARE_SEED=n` repeats one run.

use crate::cuts::{NATURES, STORIES, must, prepared};
use crate::fleet::Fleet;
use crate::nor::{Fault, Torn};
use crate::rng::Rng;
use crate::world::{WIDTH, World};

/// Runs in every `cargo test`.
const RUNS: u64 = 600;
/// States of the journal that a run may begin in: the journal turns over about every third boot.
const STARTS: u64 = 12;
/// Things that go wrong in one run, at most.
const FAULTS_MAX: u64 = 4;
/// Operations from one of them to the next, at most: two updates of the longest kind.
const APART_MAX: u64 = 120;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn soak() {
    let runs = number("FLEETWAY_FIRMWARE_RUNS").unwrap_or(RUNS);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let seeds = |thread: u64| (thread..runs).step_by(threads as usize);
    std::thread::scope(|scope| match number("FLEETWAY_FIRMWARE_SEED") {
        Some(seed) => drop(scope.spawn(move || run_all(std::iter::once(seed)))),
        None => (0..threads).for_each(|thread| drop(scope.spawn(move || run_all(seeds(thread))))),
    });
    println!("{runs} runs, every device with a good model");
}

fn run_all(seeds: impl Iterator<Item = u64>) {
    let fleet = Fleet::new(WIDTH as u32, &NATURES);
    let page = fleet.page();
    let worlds: Vec<_> = (0..STARTS).map(|boots| prepared(&fleet, &page, boots)).collect();
    for seed in seeds {
        run(&worlds, seed);
        if seed % 10_000 == 9_999 {
            println!("{} runs", seed + 1);
        }
    }
}

fn run(worlds: &[World<'_>], seed: u64) {
    let mut rng = Rng::new(seed);
    let story = &STORIES[rng.below(STORIES.len() as u64) as usize];
    let world = &worlds[rng.below(STARTS) as usize];
    let mut op = 0;
    let faults: Vec<(u64, Fault)> = (0..1 + rng.below(FAULTS_MAX))
        .map(|_| {
            op += 1 + rng.below(APART_MAX) * rng.below(2) + rng.below(8);
            let torn = Torn::any(&mut rng);
            let fault = match rng.below(8) {
                0 => Fault::Error(torn),
                1 => Fault::Wrong,
                _ => Fault::Cut(torn),
            };
            (op, fault)
        })
        .collect();
    if let Err(problem) = must(world, story, &faults) {
        panic!(
            "{problem}\nagain: FLEETWAY_FIRMWARE_SEED={seed} cargo test -p fleetway-firmware --test power soak"
        );
    }
}
