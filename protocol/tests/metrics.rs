//! What the histogram says of itself, against hdrhistogram 7.6 as an oracle (three significant
//! digits: its own error is at most a thousandth), over distributions that latencies have.

#[path = "common/rng.rs"]
mod rng;

use fleetway_protocol::histogram::Histogram;
use hdrhistogram::Histogram as Oracle;
use rng::Rng;

/// Upper bound of a bucket beside its values: `2^(1/8)`.
const ABOVE_MAX: f64 = 1.0906;
/// What the oracle may itself be off by.
const ORACLE: f64 = 0.001;

const VALUES: usize = 100_000;

/// A value in microseconds.
type Draw = fn(&mut Rng) -> u64;

fn unit(rng: &mut Rng) -> f64 {
    (rng.below(1 << 24) as f64 + 0.5) / f64::from(1u32 << 24)
}

fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * unit(rng).ln()).sqrt() * (std::f64::consts::TAU * unit(rng)).cos()
}

const DISTRIBUTIONS: [(&str, Draw); 5] = [
    ("uniform, 1 us to 10 ms", |rng| 1 + rng.below(10_000)),
    ("exponential, mean 2 ms", |rng| (-2_000.0 * unit(rng).ln()) as u64 + 1),
    ("log-normal, median 800 us", |rng| (800.0 * (0.7 * normal(rng)).exp()) as u64 + 1),
    ("two modes, 300 us and 40 ms", |rng| {
        let centre = if rng.below(100) < 90 { 300.0 } else { 40_000.0 };
        (centre * (1.0 + 0.05 * normal(rng)).max(0.1)) as u64
    }),
    ("a tail of Pareto, alpha 1.2", |rng| (100.0 / unit(rng).powf(1.0 / 1.2)).min(1e8) as u64),
];

#[test]
fn quantiles_hold_what_the_page_says() {
    for (name, draw) in DISTRIBUTIONS {
        let mut rng = Rng::new(3);
        let mut ours = Histogram::new();
        let mut oracle = Oracle::<u64>::new(3).expect("three digits");
        for _ in 0..VALUES {
            let us = draw(&mut rng);
            ours.record(us);
            oracle.record(us).expect("resizes");
        }
        let mut worst = 1.0f64;
        for permille in [1, 10, 100, 250, 500, 750, 900, 950, 990, 999, 1000] {
            let exact = oracle.value_at_quantile(f64::from(permille) / 1000.0) as f64;
            let got = ours.quantile_us(permille).expect("not empty") as f64;
            let ratio = got / exact;
            assert!(ratio >= 1.0 - ORACLE, "{name}: {got} below {exact} at {permille}");
            assert!(ratio <= ABOVE_MAX + ORACLE, "{name}: {got} above {exact} at {permille}");
            worst = worst.max(ratio);
        }
        println!("{name}: at most {:.1} % above", (worst - 1.0) * 100.0);
    }
}

#[test]
fn merging_is_addition_as_the_oracle_adds() {
    let mut rng = Rng::new(5);
    let (mut ours, mut oracle) = (Histogram::new(), Oracle::<u64>::new(3).expect("three digits"));
    let mut whole = Histogram::new();
    for (_, draw) in DISTRIBUTIONS {
        let mut part = (Histogram::new(), Oracle::<u64>::new(3).expect("three digits"));
        for _ in 0..1_000 {
            let us = draw(&mut rng);
            part.0.record(us);
            whole.record(us);
            part.1.record(us).expect("resizes");
        }
        ours.merge(&part.0);
        oracle.add(&part.1).expect("resizes");
    }
    assert_eq!(ours, whole);
    assert_eq!(ours.count(), oracle.len());
    let (got, exact) = (ours.quantile_us(950), oracle.value_at_quantile(0.95) as f64);
    let got = got.expect("not empty") as f64;
    assert!(got >= exact * (1.0 - ORACLE) && got <= exact * (ABOVE_MAX + ORACLE), "{got} {exact}");
}
