//! Programs in C and Python with the agent inside: opened, told of a rollout, asked while it is on
//! probation, held against the golden vectors, closed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::controller::golden_of;
use fleetway_tests::harness::{programs, wait};
use fleetway_tests::{library, python};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use super::{WAIT, empty_device, place, start_rollout, succeeds};

/// One array of an `.npz` as raw floats; gives how many rows there are of `width`.
fn raw(npz: &Path, name: &str, width: usize, out: &Path) -> Result<usize> {
    let mut zip = zip::ZipArchive::new(std::fs::File::open(npz)?)?;
    let array = npyz::NpyFile::new(zip.by_name(&format!("{name}.npy"))?)?;
    let floats: Vec<f32> = array.into_vec()?;
    ensure!(floats.len().is_multiple_of(width), "{} floats", floats.len());
    let mut file = std::fs::File::create(out)?;
    for float in &floats {
        file.write_all(&float.to_le_bytes())?;
    }
    Ok(floats.len() / width)
}

/// Runs a program through a rollout of v2; what it says last.
async fn through_a_rollout(make: impl FnOnce(&Path, &Path) -> Result<Command>) -> Result<String> {
    let fleet = empty_device().await?;
    let mut command = make(&place(&fleet)?, fleet.dir())?;
    let log = std::fs::File::create(fleet.dir().join("guest.log"))?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
    let mut guest = command.spawn().context("the program does not start")?;
    let mut lines = BufReader::new(guest.stdout.take().context("no stdout")?).lines();
    let mut stdin = guest.stdin.take().context("no stdin")?;
    let complaint = || std::fs::read_to_string(fleet.dir().join("guest.log")).unwrap_or_default();
    let mut said = async |word: &str| -> Result<()> {
        let line = tokio::time::timeout(WAIT, lines.next_line()).await;
        let line = line.with_context(|| format!("no {word:?}: {}", complaint()))??;
        ensure!(line.as_deref() == Some(word), "{line:?}, not {word:?}: {}", complaint());
        Ok(())
    };
    said("opened").await?;
    // The fleet sees a device as any other.
    wait::until("the device to be online", WAIT, async || {
        let device = fleet.controller.device("phone-1").await?;
        ensure!(device.online, "it is not");
        let sandbox = device.sandbox.context("no sandbox reported")?;
        ensure!(sandbox.state == "full" && sandbox.met, "{sandbox:?}");
        Ok(())
    })
    .await?;
    let rollout = start_rollout(&fleet, "digits-v2", "v2", "").await?;
    said("changed").await?;
    succeeds(&fleet, &rollout).await?;
    stdin.write_all(b"enough\n").await?;
    said("golden").await?;
    said("closed").await?;
    let last = lines.next_line().await?.unwrap_or_default();
    let ended = tokio::time::timeout(WAIT, guest.wait()).await??;
    ensure!(ended.success(), "{ended}: {}", complaint());
    // It said goodbye: nobody had to wait for the broker's word.
    wait::until("the goodbye", Duration::from_secs(5), async || {
        let device = fleet.controller.device("phone-1").await?;
        ensure!(device.runs() == Some("v2") && !device.online, "{device:?}");
        Ok(())
    })
    .await?;
    Ok(last)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_c() -> Result<()> {
    through_a_rollout(|place, dir| {
        let program = library::compile_c("library", dir)?;
        let (images, scores) = (dir.join("images"), dir.join("scores"));
        let golden = golden_of("digits-v2");
        let count = raw(&golden, "in.image", 64, &images)?;
        ensure!(count == raw(&golden, "out.scores", 10, &scores)?, "as many answers as questions");
        let mut command = Command::new(program);
        command.arg(place).arg(&programs::programs().agent).arg(images).arg(scores);
        command.arg(count.to_string());
        Ok(command)
    })
    .await
    .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_python() -> Result<()> {
    let last = through_a_rollout(|place, dir| {
        let module = python_module(dir)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/library.py");
        let mut command = Command::new(python::numpy()?);
        command.arg(script).arg(module).arg(place).arg(&programs::programs().agent);
        command.arg(golden_of("digits-v2"));
        Ok(command)
    })
    .await?;
    println!("{last}");
    Ok(())
}

/// The generated module with the library beside it.
fn python_module(dir: &Path) -> Result<PathBuf> {
    let library = library::shared()?;
    let out = dir.join("bindings");
    let (from, to) = (library.to_str().context("a path")?, out.to_str().context("a path")?);
    library::generate(&["bindings", from, to])?;
    let module = out.join("python");
    std::os::unix::fs::symlink(library, module.join("libfleetway_device.so"))?;
    Ok(module)
}
