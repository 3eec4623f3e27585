//! The child's side. The only code of a shipped program that parses a model without a proof of its
//! origin: the parent holds the proof, and the bytes came through a pipe from it.

use super::fences::Fenced;
use super::report::{Job, Outcome, READY, SelfTestReport};
use super::{Require, SUBCOMMAND, env, fences, serve};
use crate::clock::Stopwatch;
use crate::engine::Engine;
use crate::golden::{BoundGolden, GoldenError, GoldenRule, GoldenSet, Tally};
use crate::limits::bounded;
use crate::load::{self, LoadError};
use crate::samples::SampleBatch;
use fleetway_protocol::manifest::VariantKind;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Inferences are repeated for the median until one of the two is reached.
const RUNS_ENOUGH: usize = 101;
const RUNNING_ENOUGH: Duration = Duration::from_millis(200);

/// Whether this process was started as the child of a self-test. Ask first thing in `main`, before
/// arguments are parsed or a runtime is started.
pub fn child_requested() -> bool {
    std::env::args_os().nth(1).is_some_and(|arg| arg == SUBCOMMAND)
}

/// The child: fences, then the job from stdin, then the report on stdout.
///
/// Succeeds whenever it could write a report, whatever the report says.
pub fn child_main() -> ExitCode {
    child_main_with(|_| ())
}

/// As [`child_main`], and does something else with the model, fenced in, before it is parsed:
/// the seam through which tests put an attack where a broken parser would be. A program that
/// calls [`child_main`] has no such thing in it.
#[doc(hidden)]
pub fn child_main_with(attack: impl FnOnce(&[u8])) -> ExitCode {
    match work(attack) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn work(attack: impl FnOnce(&[u8])) -> io::Result<()> {
    is_same_version()?;
    let require = std::env::var(env::REQUIRE).map_err(io::Error::other)?;
    let require: Require = require.parse().map_err(io::Error::other)?;
    let mut fenced = fences::put_up().map_err(io::Error::other)?;
    let mut answer = io::stdout().lock();
    answer.write_all(&[READY])?;
    answer.flush()?;
    let outcome = if require.is_met_by(&fenced.sandbox) {
        let mut stdin = io::stdin().lock();
        match Job::read(&mut stdin)? {
            (Job::Test { kind, rule, .. }, model, golden) => {
                attack(&model);
                test(kind, model, &golden, rule, fenced)
            }
            (Job::Sample { kind, .. }, model, batch) => sample(kind, model, &batch),
            (Job::Serve { kind, .. }, model, _) => {
                return serve::serve(kind, model, &mut fenced.cpu, &mut stdin, &mut answer);
            }
            (Job::Probe, ..) => Outcome::Probed(fenced.sandbox),
        }
    } else {
        Outcome::Unconfined(fenced.sandbox)
    };
    let bytes = postcard::to_allocvec(&outcome).map_err(io::Error::other)?;
    answer.write_all(&bytes)?;
    answer.flush()
}

/// Where the child is another file than the parent, it must run what the parent would.
fn is_same_version() -> io::Result<()> {
    let asks = std::env::var(env::VERSION).map_err(io::Error::other)?;
    let own = env!("CARGO_PKG_VERSION");
    match asks == own {
        true => Ok(()),
        false => {
            let text = format!("this program is version {own}, version {asks} asks it");
            Err(io::Error::other(text))
        }
    }
}

fn test(
    kind: VariantKind,
    model: Vec<u8>,
    golden: &[u8],
    rule: GoldenRule,
    mut fenced: Fenced,
) -> Outcome {
    let golden = match GoldenSet::decode(golden) {
        Ok(golden) => golden,
        Err(error) => return Outcome::Environment(bounded(error.to_string())),
    };
    let since = Stopwatch::start();
    let engine = match parse(kind, model) {
        Ok(engine) => engine,
        Err(outcome) => return outcome,
    };
    let load_us = micros(since.elapsed());
    let mut report = |tally: Tally, times: Vec<Duration>| SelfTestReport {
        engine: engine.kind().to_owned(),
        inputs: engine.inputs().to_vec(),
        outputs: engine.outputs().to_vec(),
        golden: tally.verdict(),
        load_us,
        run_us_p50: median_us(&times),
        runs: u32::try_from(times.len()).unwrap_or(u32::MAX),
        peak_rss_bytes: fenced.status_bytes("VmHWM:"),
        address_space_bytes: fenced.status_bytes("VmPeak:").saturating_sub(fenced.own_bytes),
        sandbox: fenced.sandbox.clone(),
    };
    match run(&*engine, &golden, rule) {
        Err(error) => Outcome::Run(bounded(error.to_string())),
        Ok((tally, times)) => {
            let report = report(tally, times);
            if report.golden.passed {
                Outcome::Passed(report)
            } else {
                Outcome::Golden(report.golden)
            }
        }
    }
}

fn parse(kind: VariantKind, model: Vec<u8>) -> Result<Arc<dyn Engine>, Outcome> {
    load::parse(kind, model.into()).map_err(|error| match error {
        #[cfg(feature = "tract")]
        LoadError::Refused(refused) => {
            Outcome::Refused { number: refused.number(), text: bounded(refused.to_string()) }
        }
        error => Outcome::Load(bounded(error.to_string())),
    })
}

fn sample(kind: VariantKind, model: Vec<u8>, batch: &[u8]) -> Outcome {
    let batch: SampleBatch = match postcard::from_bytes(batch) {
        Ok(batch) => batch,
        Err(error) => return Outcome::Environment(bounded(error.to_string())),
    };
    match parse(kind, model).map(|engine| batch.run(&*engine)) {
        Ok(Ok(sampled)) => Outcome::Sampled(sampled),
        Ok(Err(text)) => Outcome::Run(bounded(text)),
        Err(outcome) => outcome,
    }
}

/// Every vector once for the verdict, then again and again for the median.
fn run(
    engine: &dyn Engine,
    golden: &GoldenSet,
    rule: GoldenRule,
) -> Result<(Tally, Vec<Duration>), GoldenError> {
    let bound = golden.bind(engine)?;
    let mut tally = Tally::new(rule);
    let mut times = Vec::new();
    let since = Stopwatch::start();
    for vector in 0..golden.vectors().len() {
        let (outputs, time) = run_one(engine, &bound, vector)?;
        tally.add(&bound, vector, &outputs);
        times.push(time);
    }
    for vector in (0..golden.vectors().len()).cycle() {
        if times.len() >= RUNS_ENOUGH || since.elapsed() >= RUNNING_ENOUGH {
            break;
        }
        times.push(run_one(engine, &bound, vector)?.1);
    }
    Ok((tally, times))
}

fn run_one(
    engine: &dyn Engine,
    bound: &BoundGolden<'_>,
    vector: usize,
) -> Result<(Vec<crate::tensor::Tensor>, Duration), GoldenError> {
    let inputs = bound.inputs(vector);
    let since = Stopwatch::start();
    let outputs = engine.run(&inputs).map_err(|error| GoldenError::Run { vector, error })?;
    Ok((outputs, since.elapsed()))
}

fn median_us(times: &[Duration]) -> u64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().map_or(0, micros)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
