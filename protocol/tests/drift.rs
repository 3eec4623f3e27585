//! The drift gate against other implementations of its measure, and against chance: how often it
//! is wrong when nothing drifted, and how surely it finds what did. Seeded; the rates are printed.

#[path = "common/rng.rs"]
mod rng;

use fleetway_protocol::drift::{BINS, DRIFT_SAMPLES_MIN, Drift, Watch, Watched};
use rng::Rng;

/// Bound of a release's default policy.
const PSI_MAX: f64 = 0.1;
const WINDOWS: u32 = 10_000;

fn psi(reference: &[u32], seen: &[u32]) -> f64 {
    let found = Drift::of(reference.iter().copied(), seen.iter().copied(), PSI_MAX);
    found.expect("both hold something").psi
}

/// Computed apart from us, by Python's `decimal` with fifty digits:
/// `sum((a/n - e/m) * (a/n / (e/m)).ln())`, shares below 1e-4 raised to that.
#[test]
fn psi_of_known_counts() {
    for (reference, seen, expected) in VALUES {
        let got = psi(reference, seen);
        assert!((got - expected).abs() < 1e-12, "{got} for {expected}");
    }
}

const VALUES: [(&[u32], &[u32], f64); 4] = [
    (
        &[100, 100, 100, 100, 100, 100, 100, 100, 100, 100],
        &[100, 80, 120, 90, 110, 100, 95, 105, 130, 70],
        0.029_187_602_661_756_41,
    ),
    (&[500, 500], &[50, 950], 1.324_997_540_624_898),
    (&[10, 20, 30, 0, 40], &[0, 25, 25, 25, 25], 2.736_087_650_275_571_5),
    (&[300, 300, 300, 100, 1], &[1000, 0, 7, 40000, 2], 7.323_849_166_856_952),
];

/// The same as two relative entropies, `KL(a|e) + KL(e|a)`, summed in bits and with the standard
/// library's logarithm, over random counts.
#[test]
fn psi_is_both_relative_entropies() {
    let mut rng = Rng::new(11);
    for _ in 0..2_000 {
        let len = 2 + rng.below(63) as usize;
        let mut counts = || (0..len).map(|_| 10 + rng.below(900) as u32).collect::<Vec<_>>();
        let (reference, seen) = (counts(), counts());
        let shares = |counts: &[u32]| -> Vec<f64> {
            let sum: u32 = counts.iter().sum();
            counts.iter().map(|count| f64::from(*count) / f64::from(sum)).collect()
        };
        let (e, a) = (shares(&reference), shares(&seen));
        let bits = |p: &[f64], q: &[f64]| -> f64 {
            p.iter().zip(q).map(|(p, q)| p * (p.log2() - q.log2())).sum()
        };
        let expected = (bits(&a, &e) + bits(&e, &a)) * std::f64::consts::LN_2;
        let got = psi(&reference, &seen);
        assert!((got - expected).abs() < 1e-9, "{got} for {expected}");
    }
}

/// A number with a standard normal distribution (Box and Muller).
fn normal(rng: &mut Rng) -> f32 {
    let unit = |rng: &mut Rng| (rng.below(1 << 24) as f64 + 0.5) / f64::from(1u32 << 24);
    let (radius, angle) = (unit(rng), unit(rng));
    ((-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
}

/// A reference of `m` samples, in quantile bins.
fn reference(rng: &mut Rng, m: usize) -> Watched {
    let mut samples: Vec<f32> = (0..m).map(|_| normal(rng)).collect();
    samples.sort_unstable_by(f32::total_cmp);
    Watched::from_sorted(Watch::Confidence, &samples).expect("distinct numbers, enough of them")
}

/// Whether the gate is alarmed by these counts.
fn alarmed(watched: &Watched, seen: &[u32; BINS]) -> bool {
    let reference = watched.counts.iter().map(|count| u32::from(*count));
    let drift = Drift::of(reference, seen.iter().copied(), PSI_MAX).expect("counted");
    drift.samples >= DRIFT_SAMPLES_MIN && drift.psi > drift.bound
}

fn window(rng: &mut Rng, watched: &Watched, n: usize, shift: f32) -> [u32; BINS] {
    let mut seen = [0; BINS];
    for _ in 0..n {
        seen[usize::from(watched.bin(normal(rng) + shift))] += 1;
    }
    seen
}

#[test]
fn without_drift_fewer_than_one_window_in_a_hundred_is_alarmed() {
    for (m, n) in [(300, 500), (450, 500), (1_000, 500), (5_000, 500), (1_000, 2_000)] {
        let mut rng = Rng::new(m as u64);
        let alarms = (0..WINDOWS)
            .filter(|_| {
                let watched = reference(&mut rng, m);
                let seen = window(&mut rng, &watched, n, 0.0);
                alarmed(&watched, &seen)
            })
            .count();
        println!("no drift, {m} reference samples, {n} answers: {alarms} of {WINDOWS} alarmed");
        assert!(alarms < WINDOWS as usize / 100, "{alarms}");
    }
}

/// A probation looks again and again while its answers grow; one alarm in it is one too many.
#[test]
fn without_drift_fewer_than_one_probation_in_a_hundred_is_alarmed() {
    const PROBATIONS: usize = 2_000;
    for m in [300, 1_000] {
        let mut rng = Rng::new(m as u64 + 1);
        let alarms = (0..PROBATIONS)
            .filter(|_| {
                let watched = reference(&mut rng, m);
                let mut seen = window(&mut rng, &watched, 500, 0.0);
                (0..100).any(|_| {
                    let more = window(&mut rng, &watched, 25, 0.0);
                    let look = alarmed(&watched, &seen);
                    seen.iter_mut().zip(more).for_each(|(bin, more)| *bin += more);
                    look
                })
            })
            .count();
        println!(
            "no drift, {m} reference samples, 100 looks at 500 to 3000 answers: {alarms} of {PROBATIONS} alarmed"
        );
        assert!(alarms < PROBATIONS / 100, "{alarms}");
    }
}

#[test]
fn a_shift_of_half_a_standard_deviation_is_found() {
    const RUNS: usize = 1_000;
    for (shift, at_least) in [(0.5, 990), (1.0, RUNS)] {
        let mut rng = Rng::new(7);
        let found = (0..RUNS)
            .filter(|_| {
                let watched = reference(&mut rng, 1_000);
                let seen = window(&mut rng, &watched, 500, shift);
                alarmed(&watched, &seen)
            })
            .count();
        println!("shift of {shift} sigma: found in {found} of {RUNS} windows of 500 answers");
        assert!(found >= at_least, "{found}");
    }
}

/// Classes are bins, too: few, many, and with a long tail.
#[test]
fn without_drift_classes_are_not_alarmed_either() {
    for classes in [2usize, 6, 10, 64] {
        let mut rng = Rng::new(classes as u64);
        // Class k has a weight of 1 / (k + 1).
        let weights: Vec<f64> = (0..classes).map(|k| 1.0 / (k + 1) as f64).collect();
        let sum: f64 = weights.iter().sum();
        let mut draw = |n: usize| {
            let mut counts = vec![0u32; classes];
            for _ in 0..n {
                let mut left = rng.below(1 << 24) as f64 / f64::from(1u32 << 24) * sum;
                let class = weights.iter().position(|weight| {
                    left -= weight;
                    left < 0.0
                });
                counts[class.unwrap_or(classes - 1)] += 1;
            }
            counts
        };
        let alarms = (0..WINDOWS)
            .filter(|_| {
                let (reference, seen) = (draw(300), draw(500));
                let drift = Drift::of(reference.into_iter(), seen.into_iter(), PSI_MAX);
                drift.is_some_and(|drift| drift.psi > drift.bound)
            })
            .count();
        println!("no drift, {classes} classes: {alarms} of {WINDOWS} alarmed");
        assert!(alarms < WINDOWS as usize / 100, "{classes} classes: {alarms}");
    }
}
