//! One run of an engine, for one request or for several that met: counted once for each, whoever
//! comes first, the worker that ends it or the deadline.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use fleetway_engine::tensor::TensorData;
use fleetway_engine::{RunError, Tensor, TensorSpec};
use fleetway_protocol::health::Answer;

use super::live::{Live, Loaded};
use crate::clock::{Clock, Stopwatch};

const RUNNING: u8 = 0;
const SETTLED: u8 = 1;
const HUNG: u8 = 2;

/// What one request gets.
pub(super) type Outcome = Result<Vec<Tensor>, RunError>;

/// One run of an engine.
pub(super) struct Run {
    live: Arc<Live>,
    loaded: Arc<Loaded>,
    /// Requests that it answers.
    members: usize,
    watch: Stopwatch,
    state: AtomicU8,
}

impl Run {
    /// Starts the watch of a run that answers so many requests.
    pub(super) fn begin(live: Arc<Live>, loaded: Arc<Loaded>, members: usize) -> Self {
        let state = AtomicU8::new(RUNNING);
        Self { live, loaded, members, watch: Clock::stopwatch(), state }
    }

    /// Nanoseconds since it began.
    pub(super) fn elapsed_ns(&self) -> u64 {
        self.watch.elapsed_ns()
    }

    /// Runs the engine for one request and counts the answer. A panic in it is an error here.
    pub(super) fn run(&self, inputs: &[Tensor]) -> Outcome {
        let ran = self.checked(inputs);
        self.settle(std::iter::once(inputs), std::slice::from_ref(&ran));
        self.offer(inputs, &ran);
        ran
    }

    /// Runs the engine once for all members, whose inputs are rows; an error of that run is nobody's
    /// yet, because one member's rows may have caused it, and then each runs alone.
    pub(super) fn run_together(&self, members: &[Vec<Tensor>]) -> Vec<Outcome> {
        let together = || {
            let mut inputs = members.first()?.clone();
            for member in members.get(1..)? {
                for (all, more) in inputs.iter_mut().zip(member) {
                    all.append(more).ok()?;
                }
            }
            let outputs = self.guarded(&inputs).ok()?;
            let mut from = 0;
            let mut parts = Vec::with_capacity(members.len());
            for member in members {
                let rows = rows(member);
                let part = outputs.iter().map(|output| output.rows(from..from + rows));
                parts.push(part.collect::<Option<Vec<_>>>()?);
                from += rows;
            }
            Some(parts)
        };
        let outcomes: Vec<Outcome> = match members {
            [alone] => vec![self.checked(alone)],
            _ => match together() {
                Some(parts) => parts.into_iter().map(|part| self.check_numbers(part)).collect(),
                None => members.iter().map(|member| self.checked(member)).collect(),
            },
        };
        self.settle(members.iter().map(Vec::as_slice), &outcomes);
        members.iter().zip(&outcomes).for_each(|(inputs, outcome)| self.offer(inputs, outcome));
        outcomes
    }

    /// Copies for a candidate in the shadow, made when the answer is there: one for each request,
    /// whether it ran alone or together with others, with all its rows.
    fn offer(&self, inputs: &[Tensor], outcome: &Outcome) {
        let Ok(outputs) = outcome else { return };
        let specs = self.loaded.engine.inputs();
        let one_row = specs.iter().zip(inputs).all(|(spec, input)| spec.matches(input));
        let rows = if one_row { 1 } else { rows(inputs) };
        self.live.offer(inputs, outputs, rows, self.watch.elapsed_us());
    }

    fn guarded(&self, inputs: &[Tensor]) -> Outcome {
        catch_unwind(AssertUnwindSafe(|| self.loaded.engine.run(inputs)))
            .unwrap_or_else(|panic| Err(RunError::Panicked(panic_text(&*panic))))
    }

    fn checked(&self, inputs: &[Tensor]) -> Outcome {
        self.guarded(inputs).and_then(|outputs| self.check_numbers(outputs))
    }

    fn check_numbers(&self, outputs: Vec<Tensor>) -> Outcome {
        check_numbers(self.loaded.engine.outputs(), outputs)
    }

    fn settle<'a>(&self, members: impl Iterator<Item = &'a [Tensor]>, outcomes: &[Outcome]) {
        let latency_us = self.watch.elapsed_us();
        self.loaded.pace_us.store(latency_us, Ordering::Relaxed);
        if !self.leave_running(SETTLED) {
            // Slow after all, not hung.
            self.loaded.hung.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let specs = self.loaded.engine.inputs();
        for (inputs, outcome) in members.zip(outcomes) {
            let answer = match outcome {
                Ok(outputs) => self.loaded.watcher.answer(latency_us, specs, inputs, outputs),
                // Not the release's failure, so not its answer.
                Err(error) if error.is_callers() => continue,
                Err(_) => {
                    self.loaded.stats().failed(self.elapsed_ns());
                    Answer::failed(latency_us)
                }
            };
            self.live.record(&self.loaded, answer);
        }
    }

    /// Whether this call was the first to say how the run ended.
    fn leave_running(&self, state: u8) -> bool {
        let (ok, err) = (Ordering::AcqRel, Ordering::Acquire);
        self.state.compare_exchange(RUNNING, state, ok, err).is_ok()
    }

    /// The deadline passed: counts failed answers unless the run has just ended.
    pub(super) fn give_up(&self) {
        // Before the state, so that the worker never takes off what is not yet added.
        self.loaded.hung.fetch_add(1, Ordering::Relaxed);
        if self.leave_running(HUNG) {
            let answer = Answer::failed(self.watch.elapsed_us());
            for _ in 0..self.members {
                self.live.record(&self.loaded, answer);
                self.loaded.stats().failed(self.elapsed_ns());
            }
        } else {
            self.loaded.hung.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Rows of a request's inputs.
pub(super) fn rows(inputs: &[Tensor]) -> usize {
    inputs.first().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(1)
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
        .to_owned()
}

/// JSON has no NaN and no infinity, and an application has no use for them: a failed answer.
fn check_numbers(specs: &[TensorSpec], outputs: Vec<Tensor>) -> Result<Vec<Tensor>, RunError> {
    let finite = |tensor: &Tensor| match tensor.data() {
        TensorData::F32(v) => v.iter().all(|x| x.is_finite()),
        TensorData::F64(v) => v.iter().all(|x| x.is_finite()),
        _ => true,
    };
    match outputs.iter().position(|tensor| !finite(tensor)) {
        None => Ok(outputs),
        Some(index) => {
            let name = specs.get(index).map_or("?", |spec| spec.name.as_str());
            Err(RunError::Failed(format!("output `{name}` holds a value that is no finite number")))
        }
    }
}
