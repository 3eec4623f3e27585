//! Two ends of a serial link in bad weather: a line that flips, drops and repeats bytes, is cut,
//! and ends that start anew at any time. Whatever happens, nothing is lost and nothing comes
//! twice within a session, and as soon as the line is good everything comes through.
//!
//! A failing seed says the line that repeats it:
//! `FLEETWAY_SEED=<n> cargo test -p fleetway-protocol --test serial`

mod line;
#[path = "../common/rng.rs"]
mod rng;

use line::{CALM, Weather, World};
use proptest::prelude::*;

fn check(seed: u64, weather: Weather) -> line::Seen {
    let mut world = World::new(seed, weather);
    match world.run() {
        Ok(seen) => seen,
        Err(what) => panic!(
            "{what}\n{weather:?}\nFLEETWAY_SEED={seed} cargo test -p fleetway-protocol --test serial"
        ),
    }
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("FLEETWAY_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    }
}

#[test]
fn a_calm_line_wastes_nothing() {
    for seed in seeds(20) {
        let seen = check(seed, CALM);
        assert_eq!((seen.again, seen.broken, seen.twice), (0, 0, 0), "seed {seed}");
        assert_eq!(seen.sessions, 2, "one at each end, seed {seed}");
    }
}

#[test]
fn noise_loses_nothing() {
    for seed in seeds(60) {
        let flips_ppm = [50, 500, 3_000][seed as usize % 3];
        let noise = Weather { flips_ppm, lost_ppm: 300, repeats_ppm: 200, ..CALM };
        let seen = check(seed, Weather { calm_at_ms: 60_000, ..noise });
        assert!(seen.again > 0 && seen.broken > 0, "there was weather, seed {seed}");
    }
}

#[test]
fn a_cut_line_goes_on_where_it_was() {
    for seed in seeds(40) {
        let seen = check(seed, Weather { calm_at_ms: 60_000, cuts_ms: 3_000, ..CALM });
        assert_eq!((seen.sessions, seen.twice), (2, 0), "the same session, seed {seed}");
        assert!(seen.cuts > 0, "seed {seed}");
    }
}

#[test]
fn either_end_may_start_anew_at_any_time() {
    let mut twice = 0;
    for seed in seeds(100) {
        let weather = Weather {
            calm_at_ms: 60_000,
            flips_ppm: 300,
            lost_ppm: 200,
            repeats_ppm: 100,
            cuts_ms: 10_000,
            restarts_ms: 2_500,
            boots_counted: seed % 2 == 0,
        };
        let seen = check(seed, weather);
        assert!(seen.restarts > 0, "seed {seed}");
        twice += seen.twice;
    }
    // Or nothing here shows that it may happen, and that what is carried must bear it.
    assert!(twice > 0 || seeds(100).count() == 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn in_any_weather(
        seed in any::<u64>(),
        flips_ppm in 0..4_000u64,
        lost_ppm in 0..2_000u64,
        repeats_ppm in 0..2_000u64,
        cuts_ms in prop_oneof![Just(0u64), 500..20_000u64],
        restarts_ms in prop_oneof![Just(0u64), 300..20_000u64],
        boots_counted in any::<bool>(),
    ) {
        let calm_at_ms = 30_000;
        check(seed, Weather { calm_at_ms, flips_ppm, lost_ppm, repeats_ppm, cuts_ms, restarts_ms, boots_counted });
    }
}
