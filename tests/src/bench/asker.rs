//! An application that asks without pause, on a thread of its own, and notes the time of
//! every answer.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::Instant;

use crate::harness::Digits;
use crate::harness::infer::{Application, Endpoint};

/// One answer, or none.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    /// When it was there.
    pub(super) at: Instant,
    /// Which version gave it; `None` is an error.
    pub(super) version: Option<Arc<str>>,
}

/// The application; it stops when this is dropped.
#[derive(Debug)]
pub(super) struct Asker {
    moments: Arc<Mutex<Vec<Moment>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Asker {
    /// Starts asking.
    pub(super) fn start(to: Endpoint, pause: Duration) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("asker")?;
        let moments = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (notes, until) = (moments.clone(), stop.clone());
        let thread = std::thread::spawn(move || runtime.block_on(ask(to, pause, &notes, &until)));
        Ok(Self { moments, stop, thread: Some(thread) })
    }

    /// Everything since the last time.
    pub(super) fn take(&self) -> Vec<Moment> {
        std::mem::take(&mut *self.moments.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panicked: whoever reads the moments has seen that they ended.
            let _ = thread.join();
        }
    }
}

async fn ask(to: Endpoint, pause: Duration, notes: &Mutex<Vec<Moment>>, stop: &AtomicBool) {
    let digits = Digits::heldout();
    let mut application = Application::new(to);
    let mut last: Option<Arc<str>> = None;
    for image in (0..digits.len()).cycle() {
        if stop.load(Relaxed) {
            return;
        }
        let answer = application.ask(digits.body(image)).await;
        let at = Instant::now();
        let version = answer.ok().map(|answer| match &last {
            Some(last) if **last == *answer.version => last.clone(),
            _ => last.insert(answer.version.into()).clone(),
        });
        let failed = version.is_none();
        let moment = Moment { at, version };
        notes.lock().unwrap_or_else(PoisonError::into_inner).push(moment);
        if failed || !pause.is_zero() {
            // A refusal is instant: do not count one outage a million times.
            tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
        }
    }
}

/// The longest time without an answer that ended between `from` and `to`, in milliseconds.
pub(super) fn gap_ms(moments: &[Moment], from: Instant, to: Instant) -> f64 {
    let answers: Vec<Instant> =
        moments.iter().filter(|m| m.version.is_some()).map(|m| m.at).collect();
    let pairs = answers.windows(2).filter(|pair| pair[1] >= from && pair[0] <= to);
    let gaps = pairs.map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1000.0);
    gaps.fold(0.0, f64::max)
}
