//! Several stories at once on one thread.
//!
//! One thread, because a process dies with the thread that started it
//! ([`super::process::die_with_us`]), and the test's own is the one that lasts.

use std::future::Future;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use tokio::task::{LocalSet, spawn_local};

/// Runs all of them to their ends, or to the first failure; answers in the order given.
///
/// # Errors
/// The first failure; what else runs is dropped then.
pub async fn together<T: 'static>(
    stories: impl IntoIterator<Item = impl Future<Output = Result<T>> + 'static>,
) -> Result<Vec<T>> {
    let set = LocalSet::new();
    let tasks: Vec<_> = {
        let _inside = set.enter();
        stories.into_iter().map(spawn_local).collect()
    };
    set.run_until(async {
        let mut done = Vec::new();
        for task in tasks {
            done.push(task.await.context("a story panicked")??);
        }
        Ok(done)
    })
    .await
}

/// The seed of everything random in a test: printed, and taken from `FLEETWAY_SEED` to
/// repeat a run. What the machine's load makes of it is not repeated.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("FLEETWAY_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or(0x00f1_ee7a);
    report(&format!("{test}: FLEETWAY_SEED={seed}"));
    seed
}

/// Prints a line even where the test harness keeps the output of tests that pass.
pub fn report(line: &str) {
    // Nobody to tell is fine.
    let _ = writeln!(std::io::stderr(), "{line}");
}
