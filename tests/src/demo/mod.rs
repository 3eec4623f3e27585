//! The main job, end to end, told as a story: a fleet takes a model, takes a better one,
//! refuses a bad one, survives a kill and a dead network, and answers all the time.
//!
//! Nothing here is staged. The operator's lines are run as they are printed; accuracy
//! comes from labelled images that the applications send; and every sentence with a tick
//! is a check: if it does not hold, the demo stops there, says what it saw instead, and
//! exits with 1.
//!
//! Read in this order: [`acts`] (what happens, in order), [`bad`] (the two bad releases),
//! [`troubles`] (the kill and the cut), [`finale`] (the table); [`story`] prints and
//! checks. [`mcu`] is another story of the same kind, with a microcontroller.

mod acts;
mod bad;
mod finale;
mod mcu;
mod story;
mod troubles;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use story::Story;

/// How the demo ended.
enum End {
    Done,
    Interrupted,
}

/// Which story is told.
#[derive(Clone, Copy, Debug)]
enum What {
    Fleet,
    Mcu,
}

/// Longest time that a signal needs to be heard of.
const SIGNAL: Duration = Duration::from_millis(300);

/// Plays the demo.
pub fn main() -> ExitCode {
    let (mut what, mut stay) = (What::Fleet, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--stay" => stay = true,
            "--mcu" => what = What::Mcu,
            _ => {
                eprintln!("usage: demo [--mcu] [--stay]   (through `cargo xtask demo`)");
                return ExitCode::from(2);
            }
        }
    }
    // One thread: the processes that it starts die with the thread that started them.
    let played = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(until_interrupted(play(what, stay))));
    match played {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Interrupted) => {
            println!("\ninterrupted; everything is stopped and cleaned up");
            ExitCode::from(130)
        }
        Err(error) => {
            println!("\n  ✗ {error:#}\n\nthe demo FAILED");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C and SIGTERM drop the story, and with it every process and the directory.
async fn until_interrupted(story: impl Future<Output = Result<()>>) -> Result<End> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    tokio::select! {
        done = story => done.map(|()| End::Done),
        _ = tokio::signal::ctrl_c() => Ok(End::Interrupted),
        _ = terminate.recv() => Ok(End::Interrupted),
    }
}

async fn play(what: What, stay: bool) -> Result<()> {
    let mut story = match what {
        What::Fleet => {
            let line = Some(story::LINE_BYTES_PER_S);
            Story::begin(&acts::opening(), "A fleet", line).await?
        }
        What::Mcu => Story::begin(mcu::OPENING, "A board on a serial line", None).await?,
    };
    let told = match what {
        What::Fleet => tell(&mut story).await.map(|()| None),
        What::Mcu => mcu::tell(&mut story).await.map(Some),
    };
    match told {
        Err(error) => {
            // Ctrl-C reaches what was started here, too, and its end may be noticed before the signal: then
            // all of this is dropped here.
            tokio::time::sleep(SIGNAL).await;
            let dir = story.fleet.keep_dir();
            bail!("{error:#}\n\n    logs and data are kept in {}", dir.display())
        }
        Ok(_) if !stay => Ok(()),
        Ok(None) => finale::stay(&mut story).await,
        Ok(Some(mcu)) => mcu::stay(&story, &mcu).await,
    }
}

async fn tell(story: &mut Story) -> Result<()> {
    acts::fleet(story).await?;
    acts::first_model(story).await?;
    acts::better_model(story).await?;
    bad::altered(story).await?;
    bad::collapsing(story).await?;
    troubles::cut(story).await?;
    finale::table(story).await
}
