//! Serving: what the agent adds to HTTP, a steady load across swaps, and what it costs to wait.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::figures::{Figures, quantile};
use super::line::{Ask, Line};
use super::measure::{as_shipped, one_on_v2};
use crate::harness::infer::Application;
use crate::harness::process::Process;
use crate::harness::{Digits, Fleet, wait};

/// Rounds of each side, and requests of a round: the two sides take turns, so that both feel what
/// else the machine does.
const ROUNDS: usize = 60;
const ROUND: usize = 250;
/// Requests per second, for how long, and on how many connections.
const LOAD_HZ: u64 = 1_000;
const LOAD_S: u64 = 60;
const LINES: u64 = 32;
/// Swaps under that load.
const SWAPS: u64 = 3;
/// Figures of the overhead: processor time, median and 99th percentile less the engine's time, and
/// the median with it.
const DIGITS: [&str; 4] =
    ["overhead_cpu_ratio", "overhead_ratio_p50", "overhead_ratio_p99", "infer_ratio_p50"];
const BARE: [&str; 4] = [
    "overhead_bare_cpu_ratio",
    "overhead_bare_ratio_p50",
    "overhead_bare_ratio_p99",
    "infer_bare_ratio_p50",
];
/// How long idleness is watched.
const IDLE: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_secs(120);

/// Round trips of an inference against round trips of as many bytes.
pub(super) async fn overhead(figures: &mut Figures) -> Result<()> {
    let mut fleet = one_on_v2().await?;
    let build = as_shipped(&mut fleet).await?;
    let socket = fleet.dir().join("echo.sock");
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("echo").arg(&socket);
    let echo = Process::start("echo", &mut command, &fleet.dir().join("echo.log"))?;
    wait::until("the echo", WAIT, async || Line::open(&socket).await.map(drop)).await?;
    let agent = fleet.agents[0].data().join("serve.sock");
    let mut lines = [Line::open(&socket).await?, Line::open(&agent).await?];
    turns(&fleet, &echo, &mut lines, DIGITS, build, figures).await?;
    // The same with one operator instead of a model: what a model's hundred microseconds do to the
    // processor's caches is not the agent's doing.
    fleet.feed(Duration::from_millis(20));
    fleet.controller.release("digits-bare", "bare", "").await?;
    fleet.roll_out("bare", "--probation 1s --answers 20", WAIT).await?;
    fleet.feeders.clear();
    turns(&fleet, &echo, &mut lines, BARE, build, figures).await
}

/// Both sides in turns.
async fn turns(
    fleet: &Fleet,
    echo: &Process,
    lines: &mut [Line; 2],
    names: [&'static str; 4],
    build: &str,
    figures: &mut Figures,
) -> Result<()> {
    let ask = Ask::image(Digits::heldout().pixels(0));
    let mut times = [Vec::new(), Vec::new()];
    let mut before = (0, 0);
    let cpu = || {
        let agent = fleet.agents[0].process().context("the agent does not run")?;
        anyhow::Ok([echo.cpu()?, agent.cpu()?])
    };
    let mut spent = cpu()?;
    for round in 0..=ROUNDS {
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            for _ in 0..ROUND {
                let started = Instant::now();
                lines[side].ask(&ask).await?;
                // The first round is for warming up.
                if round > 0 {
                    times[side].push(started.elapsed().as_secs_f64() * 1e6);
                }
            }
        }
        if round == 0 {
            before = computed(fleet).await?;
            spent = cpu()?;
        }
    }
    let cpu = cpu()?;
    let [echo_cpu, ours_cpu] =
        [0, 1].map(|at| (cpu[at] - spent[at]).as_secs_f64() * 1e6 / (ROUNDS * ROUND) as f64);
    let after = computed(fleet).await?;
    ensure!(after.0 - before.0 == (ROUNDS * ROUND) as u64, "other requests came between");
    let compute_us = (after.1 - before.1) as f64 / (ROUNDS * ROUND) as f64 / 1e3;
    let how = format!(
        "processor time of an inference ({ours_cpu:.1} us) less the engine's, by that of an echo \
         ({echo_cpu:.1} us): what is left of the ratio on a busy machine"
    );
    figures.add(names[0], (ours_cpu - compute_us) / echo_cpu, None, how);
    let [mut echo, mut ours] = times;
    let (echo_p50, ours_p50) = (quantile(&mut echo, 500), quantile(&mut ours, 500));
    let (echo_p99, ours_p99) = (quantile(&mut echo, 990), quantile(&mut ours, 990));
    let how = format!(
        "median of an inference ({ours_p50:.1} us) less the engine's own time (mean {compute_us:.1} us), \
         by the median of a hyper echo of the same body ({echo_p50:.1} us), unix sockets, in turns, \
         {} each, {build}",
        ROUNDS * ROUND
    );
    figures.add(names[1], (ours_p50 - compute_us) / echo_p50, Some(1.5), how);
    let how = format!("the same at p99 ({ours_p99:.1} by {echo_p99:.1} us)");
    figures.add(names[2], (ours_p99 - compute_us) / echo_p99, None, how);
    let how = "the median with the engine's time left in";
    figures.add(names[3], ours_p50 / echo_p50, None, how);
    Ok(())
}

/// Answers of model `digits`, and nanoseconds that its engine took for them.
async fn computed(fleet: &Fleet) -> Result<(u64, u64)> {
    let mut application = Application::new(fleet.agents[0].endpoint());
    let path = "/v2/models/digits/stats";
    let said = application.request(Method::GET, path, Default::default()).await?;
    let said: Value = serde_json::from_slice(&said)?;
    let infer = &said["model_stats"][0]["inference_stats"]["compute_infer"];
    let number = |key: &str| infer[key].as_u64().with_context(|| format!("no {key}: {said}"));
    Ok((number("count")?, number("ns")?))
}

/// One request of the load: when it was due, when it was answered, and what went wrong.
struct Answered {
    due: Instant,
    at: Instant,
    error: Option<String>,
}

/// A thousand requests a second, each at its time whatever became of the one before, while the
/// model is swapped three times.
pub(super) async fn load(figures: &mut Figures) -> Result<()> {
    let mut fleet = one_on_v2().await?;
    let build = as_shipped(&mut fleet).await?;
    let start = Instant::now() + Duration::from_millis(200);
    let agent = fleet.agents[0].data().join("serve.sock");
    let lines: Vec<_> =
        (0..LINES).map(|number| tokio::spawn(asks(agent.clone(), start, number))).collect();
    for swap in 1..=SWAPS {
        sleep_until(start + Duration::from_secs(swap * LOAD_S / (SWAPS + 1))).await;
        let model = if swap % 2 == 0 { "digits-v2" } else { "digits-v1" };
        let version = format!("load{swap}");
        fleet.controller.release(model, &version, "").await?;
        fleet.roll_out(&version, "--probation 1s --answers 20", WAIT).await?;
        ensure!(start.elapsed() < Duration::from_secs(LOAD_S), "swap {swap} came too late");
    }
    let mut all = Vec::new();
    for line in lines {
        all.extend(line.await?);
    }
    fleet.agents[0].check_running()?;
    all.sort_by_key(|answered| answered.at);
    let failed: Vec<_> = all.iter().filter_map(|answered| answered.error.as_deref()).collect();
    if let Some(first) = failed.first() {
        eprintln!("the first that failed: {first}");
    }
    let ms = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
    let gaps = all.windows(2).map(|pair| ms(pair[0].at, pair[1].at));
    let gap = gaps.fold(0.0, f64::max);
    let mut late: Vec<f64> = all.iter().map(|answered| ms(answered.due, answered.at)).collect();
    let how = format!(
        "of {} requests in {LOAD_S} s across {SWAPS} swaps, open loop, unix socket, {build}",
        all.len()
    );
    figures.add("load_failed", failed.len() as f64, Some(0.0), how);
    figures.add("load_gap_ms_max", gap, None, "longest time without an answer in all of it");
    let how = "from the time a request was due to its answer";
    figures.add("load_ms_p99", quantile(&mut late, 990), None, how);
    Ok(())
}

async fn asks(socket: std::path::PathBuf, start: Instant, number: u64) -> Vec<Answered> {
    let ask = Ask::image(Digits::heldout().pixels(usize::try_from(number).unwrap_or(0)));
    let mut line = None;
    let mut answers = Vec::new();
    for tick in (number..LOAD_HZ * LOAD_S).step_by(LINES as usize) {
        let due = start + Duration::from_micros(tick * 1_000_000 / LOAD_HZ);
        sleep_until(due).await;
        let error = once(&mut line, &socket, &ask).await.err().map(|error| format!("{error:#}"));
        if error.is_some() {
            line = None;
        }
        answers.push(Answered { due, at: Instant::now(), error });
    }
    answers
}

async fn once(line: &mut Option<Line>, socket: &Path, ask: &Ask) -> Result<()> {
    let line = match line {
        Some(line) => line,
        None => line.insert(Line::open(socket).await?),
    };
    line.ask(ask).await.map(drop)
}

/// Processor time of an agent that nobody asks.
pub(super) async fn idle(figures: &mut Figures) -> Result<()> {
    let mut fleet = one_on_v2().await?;
    let build = as_shipped(&mut fleet).await?;
    sleep(Duration::from_secs(5)).await;
    let process = fleet.agents[0].process().context("the agent does not run")?;
    let (started, before) = (Instant::now(), process.cpu()?);
    sleep(IDLE).await;
    let spent = (process.cpu()? - before).as_secs_f64();
    let percent = 100.0 * spent / started.elapsed().as_secs_f64();
    let how = format!(
        "processor time of {} s without a request, link and reports every second going on, of \
         one processor, {build}",
        IDLE.as_secs()
    );
    figures.add("idle_cpu_pct", percent, Some(0.5), how);
    Ok(())
}
