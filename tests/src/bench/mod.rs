//! Figures, measured from outside on real processes: what an operator and an application
//! would see, on the machine that runs this.
//!
//! Times are wall times and feel what else the machine does; each figure says how it was
//! measured, and the ones with an aim say whether it is met. A missed aim is printed and
//! is no failure: the README tells the truth either way. A measurement that cannot be made
//! is a failure.
//!
//! Read in this order: [`figures`] (what is printed), [`measure`] (memory, start, size of
//! the fleet), [`planner`] (how long it thinks), [`pages`] (how long a person waits for it), [`orders`] (what signatures cost), [`serving`] (overhead, load, idleness),
//! [`swap`] (gaps and rollbacks), with [`asker`] (an application that keeps
//! time) [`line`] (one that sends bytes, and an echo), and [`padded`] (a model of 5 MiB).

mod asker;
mod figures;
mod line;
mod measure;
mod orders;
pub mod padded;
mod pages;
mod planner;
mod serving;
mod swap;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use figures::Figures;

/// What can be measured by itself.
const PARTS: [&str; 14] = [
    "planner",
    "pages",
    "orders",
    "reports",
    "memory",
    "cold-start",
    "overhead",
    "load",
    "idle",
    "swap",
    "rollback",
    "wire",
    "confirm-8",
    "confirm-100",
];

#[derive(Debug, Default)]
struct Arguments {
    json: Option<PathBuf>,
    only: Vec<String>,
}

/// Measures, prints, and writes the JSON.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if let (Some("echo"), Some(socket)) =
        (words.next().as_ref().and_then(|w| w.to_str()), words.next())
    {
        return match line::echo(socket.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!(
                "error: {error:#}\nusage: bench [--json FILE] [PART...]   (parts: {})",
                PARTS.join(", ")
            );
            return ExitCode::from(2);
        }
    };
    // The processes are started from this thread, which lasts; proxy and applications have
    // the workers.
    let measured = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(until_interrupted(arguments)));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments> {
    let mut arguments = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => arguments.json = Some(words.next().context("--json wants a file")?.into()),
            part if PARTS.contains(&part) => arguments.only.push(word),
            _ => bail!("what is {word:?}?"),
        }
    }
    Ok(arguments)
}

async fn until_interrupted(arguments: Arguments) -> Result<()> {
    tokio::select! {
        done = bench(arguments) => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted; everything is stopped"),
    }
}

async fn bench(arguments: Arguments) -> Result<()> {
    let wanted = |part: &str| arguments.only.is_empty() || arguments.only.iter().any(|w| w == part);
    let mut figures = Figures::default();
    measure::sizes(&mut figures)?;
    for part in PARTS.into_iter().filter(|part| wanted(part)) {
        eprintln!("measuring {part} ...");
        let measured = match part {
            "planner" => planner::plans(&mut figures),
            "pages" => pages::loads(&mut figures).await,
            "orders" => orders::sign(&mut figures),
            "reports" => orders::reports(&mut figures),
            "memory" => measure::memory(&mut figures).await,
            "cold-start" => measure::cold_start(&mut figures).await,
            "overhead" => serving::overhead(&mut figures).await,
            "load" => serving::load(&mut figures).await,
            "idle" => serving::idle(&mut figures).await,
            "swap" => swap::gaps(&mut figures).await,
            "rollback" => swap::rollbacks(&mut figures).await,
            "wire" => measure::wire(&mut figures).await,
            "confirm-8" => measure::confirm(&mut figures, 8).await,
            _ => measure::confirm(&mut figures, 100).await,
        };
        measured.with_context(|| format!("{part} could not be measured"))?;
    }
    figures.print();
    if let Some(path) = &arguments.json {
        figures.write(path)?;
        eprintln!("written to {}", path.display());
    }
    Ok(())
}
