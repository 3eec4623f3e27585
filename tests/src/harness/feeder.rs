//! An application that never stops asking, and keeps books: who answered, was it right,
//! was anything refused.
//!
//! A refusal counts as an error from the first answer on, unless the test has just killed
//! the agent itself and said so ([`Feeder::expect_down`]): until it answers again it counts
//! as down. Whatever a living agent refuses or drops is an error.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::digits::Digits;
use super::infer::{Answer, Application, Endpoint, NoAnswer};

/// The books of one application.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// By the version that answered.
    pub versions: BTreeMap<String, Score>,
    /// Requests that should have been answered and were not.
    pub errors: u64,
    /// What the last one of them looked like.
    pub last_error: Option<String>,
    /// Requests that met an agent known to be dead.
    pub down: u64,
    /// Requests before the first model was there.
    pub early: u64,
    /// The version that answered last.
    pub version: Option<String>,
    /// Every change of the answering version, with its time.
    pub changes: Vec<(Instant, String)>,
}

/// How one version did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    /// Answers.
    pub answers: u64,
    /// Right ones.
    pub right: u64,
}

impl Score {
    /// Share of right answers, in percent.
    pub fn percent(self) -> f64 {
        100.0 * self.right as f64 / self.answers.max(1) as f64
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { answers: self.answers + other.answers, right: self.right + other.right }
    }
}

impl Books {
    /// Answers of all versions.
    pub fn answers(&self) -> u64 {
        self.versions.values().map(|score| score.answers).sum()
    }

    /// What was asked with an image of `label` came to.
    fn enter(&mut self, answer: Result<Answer, NoAnswer>, label: usize, down: bool) {
        match answer {
            Ok(answer) => {
                let score = self.versions.entry(answer.version.clone()).or_default();
                score.answers += 1;
                score.right += u64::from(answer.class == label);
                if self.version.as_ref() != Some(&answer.version) {
                    self.changes.push((Instant::now(), answer.version.clone()));
                    self.version = Some(answer.version);
                }
            }
            Err(_) if self.version.is_none() => self.early += 1,
            Err(_) if down => self.down += 1,
            Err(why) => {
                self.errors += 1;
                self.last_error = Some(why.to_string());
            }
        }
    }

    /// How `version` did.
    pub fn score(&self, version: &str) -> Score {
        self.versions.get(version).copied().unwrap_or_default()
    }
}

/// The application; it stops when this is dropped.
#[derive(Debug)]
pub struct Feeder {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    books: Mutex<Books>,
    expect_down: AtomicBool,
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feeder {
    /// Asks at `to`, every `pause`, with images in an order of its own.
    pub fn start(to: Endpoint, pause: Duration, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(feed(to, pause, seed, shared.clone()));
        Self { shared, task }
    }

    /// The books as they are now.
    pub fn books(&self) -> Books {
        self.shared.books().clone()
    }

    /// Whether the agent is known to be dead.
    pub fn expect_down(&self, down: bool) {
        self.shared.expect_down.store(down, Relaxed);
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn feed(to: Endpoint, pause: Duration, seed: u64, shared: Arc<Shared>) {
    let digits = Digits::heldout();
    let mut order: Vec<usize> = (0..digits.len()).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    let mut application = Application::new(to);
    for at in order.into_iter().cycle() {
        let was_down = shared.expect_down.load(Relaxed);
        let answer = application.ask(digits.body(at)).await;
        let down = was_down || shared.expect_down.load(Relaxed);
        shared.books().enter(answer, digits.label(at), down);
        sleep(pause).await;
    }
}
