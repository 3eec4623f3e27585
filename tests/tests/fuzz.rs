//! The fuzz targets on stable: samples, everything that a fuzzer ever found, and seeded mutations
//! of both. A failure names the target, the seed and the round, which repeat it.

use std::panic::catch_unwind;
use std::path::PathBuf;

use fleetway_tests::fuzz::{TARGETS, Target, find};

/// One seed for all: the mutations of a run are those of every run.
const SEED: u64 = 0xF1EE_7F02;
/// Bytes over which a mutation does not grow its input.
const GROWTH_BYTES_MAX: usize = 64 << 10;

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("the repository's own file")).collect()
}

fn mutated(sample: &[u8], other: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..rng.usize(1..6) {
        if bytes.is_empty() {
            bytes.push(rng.u8(..));
        }
        let at = rng.usize(..bytes.len());
        let end = (at + rng.usize(1..32)).min(bytes.len());
        match rng.u8(..7) {
            0 | 1 => bytes[at] ^= 1 << rng.u8(..8),
            2 => {
                bytes[at] =
                    *rng.choice(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'[', b'9']).expect("one")
            }
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..end)),
            5 if bytes.len() < sample.len() + GROWTH_BYTES_MAX => {
                let piece = bytes[at..end].repeat(rng.usize(1..9));
                bytes.splice(at..at, piece);
            }
            _ => {
                let from = rng.usize(..=other.len());
                let to = (from + rng.usize(..40)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    bytes
}

fn try_all(target: &Target) {
    let mut inputs = (target.samples)();
    inputs.extend(corpus(target));
    for input in &inputs {
        (target.body)(input);
    }
    let mut rng = fastrand::Rng::with_seed(SEED);
    for round in 0..target.rounds {
        let [sample, other] = [(); 2].map(|()| &inputs[rng.usize(..inputs.len())]);
        let bytes = mutated(sample, other, &mut rng);
        if catch_unwind(|| (target.body)(&bytes)).is_err() {
            let found = std::env::temp_dir().join(format!("fuzz-{}-{round}", target.name));
            let _ = std::fs::write(&found, &bytes);
            panic!(
                "{} at seed {SEED:#x}, round {round}; the bytes are in {}",
                target.name,
                found.display()
            );
        }
    }
}

#[test]
fn no_target_panics_on_mutated_samples() {
    for target in TARGETS {
        try_all(target);
        println!("{}: {} rounds", target.name, target.rounds);
    }
}

#[test]
fn every_target_takes_its_samples_and_has_a_name_of_its_own() {
    for target in TARGETS {
        let taken = (target.samples)().iter().filter(|sample| (target.body)(sample)).count();
        // A sample of the record is a table without its frame, to start from.
        assert!(taken > 0 || target.name == "record", "{}", target.name);
        assert!(
            find(target.name).is_some_and(|found| std::ptr::fn_addr_eq(found.body, target.body))
        );
    }
    assert!(find("nothing").is_none());
}
