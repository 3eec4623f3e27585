//! One program for all targets of `fleetway_tests::fuzz`; `FLEETWAY_FUZZ_TARGET` says which.
//! The target's samples are put into the directory `FLEETWAY_FUZZ_SEEDS` first.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use fleetway_tests::fuzz::{Target, find};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FLEETWAY_FUZZ_TARGET").expect("FLEETWAY_FUZZ_TARGET is set");
    find(&name).unwrap_or_else(|| panic!("no fuzz target {name}"))
});

fuzz_target!(
    init: {
        if let Some(dir) = std::env::var_os("FLEETWAY_FUZZ_SEEDS") {
            for (at, sample) in (TARGET.samples)().into_iter().enumerate() {
                let path = PathBuf::from(&dir).join(format!("sample-{at}"));
                std::fs::write(path, sample).expect("a seed is written");
            }
        }
    },
    |bytes: &[u8]| {
        let _ = (TARGET.body)(bytes);
    }
);
