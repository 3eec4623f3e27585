//! The formulas against values of their papers, and gates on fleets made from a seed.

use super::clusters::{Cluster, Side, effective};
use super::stats::{Interval, difference, normal, student, wilson};
use super::*;

fn near(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-4, "{got} for {expected}");
}

#[test]
fn quantiles_are_those_of_the_tables() {
    for (alpha, z) in [(0.5, 0.0), (0.025, 1.959_964), (0.005, 2.575_829), (1e-6, 4.753_424)] {
        near(normal(alpha), z);
    }
    for (alpha, freedom, t) in [
        (0.025, 1.0, 12.706_20),
        (0.025, 5.0, 2.570_58),
        (0.005, 8.0, 3.355_39),
        (0.001, 60.0, 3.231_71),
    ] {
        near(student(alpha, freedom), t);
    }
}

/// Newcombe, 1998, Stat. Med. 17:857 (Table I) and 17:873 (Table II, method 10).
#[test]
fn intervals_are_those_of_newcombe() {
    let z = normal(0.025);
    for (r, n, low, high) in
        [(81.0, 263.0, 0.2553, 0.3662), (15.0, 148.0, 0.0624, 0.1605), (0.0, 20.0, 0.0, 0.1611)]
    {
        let interval = wilson(r / n, n, z);
        near(interval.low, low);
        near(interval.high, high);
    }
    let of = |r: f64, n: f64| wilson(r / n, n, z);
    for (a, b, low, high) in [
        (of(56.0, 70.0), of(48.0, 80.0), 0.0524, 0.3339),
        (of(9.0, 10.0), of(3.0, 10.0), 0.1705, 0.8090),
        (of(0.0, 10.0), of(0.0, 20.0), -0.1611, 0.2775),
    ] {
        let Interval { low: l, high: h, .. } = difference(a, b);
        near(l, low);
        near(h, high);
    }
}

#[test]
fn requests_of_one_device_are_not_independent() {
    let side = |clusters: &[(f64, f64)]| {
        let clusters: Vec<_> =
            clusters.iter().map(|(hits, of)| Cluster { hits: *hits, of: *of }).collect();
        Side::of(&clusters).unwrap()
    };
    let worth = |side: Side| effective(&side, &[side], 0.025);
    // Every device all or nothing: five hundred requests are worth some five, and less for few.
    let whole =
        worth(side(&[(100.0, 100.0), (0.0, 100.0), (0.0, 100.0), (100.0, 100.0), (0.0, 100.0)]));
    assert!(whole > 1.0 && whole < 5.0, "{whole}");
    // All alike: what they say is worth (nearly) as many requests as there were.
    let alike: Vec<_> = (0..100).map(|_| (10.0, 100.0)).collect();
    let alike = worth(side(&alike));
    assert!(alike > 9_000.0 && alike <= 10_000.0, "{alike}");
    // Nobody failed: nothing is known of how much they have in common.
    let none: Vec<_> = (0..100).map(|_| (0.0, 1_000.0)).collect();
    let none = worth(side(&none));
    assert!(none > 95.0 && none <= 100.0, "{none}");
}

#[test]
fn the_allowance_is_never_passed() {
    let spent: f64 = (1..10_000).map(allowance).sum();
    assert!(spent < spending::ALLOWANCE && spent > 0.99 * spending::ALLOWANCE);
}

/// A day of looks by time: few, and none lost.
#[test]
fn looks_grow_by_half() {
    let mut looks = Looks::default();
    let mut at = Vec::new();
    for now_s in 1_000..1_000 + 86_400 {
        if is_due(&looks, 1_000, now_s) {
            looks.last = Some(Looked { number: looks.next(), at_s: now_s, ..Looked::default() });
            at.push(now_s - 1_000);
        }
    }
    assert_eq!(at[..6], [60, 120, 180, 270, 405, 607]);
    assert_eq!(at.len(), 18);
}
