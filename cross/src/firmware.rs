//! The firmware's own verbs: its power cut many times over, and its figures on an emulated board.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cargo::{self, cargo};
use crate::needs;

/// The board that is measured, its target, and the program in it that measures.
const BOARD: &str = "mps2-an386";
const BENCH: &str = "bench";

/// Cuts the power in a simulated flash so many times, plants every bug, and kills the emulated
/// board so many times.
pub(crate) fn soak(runs: u64, kills: u64) -> Result<()> {
    needs::boards()?;
    crate::say(&format!("{runs} runs on flash that is cut, fails and is wrong"));
    let mut power = cargo(&["test", "-p", "fleetway-firmware", "--test", "power", "soak", "--"]);
    cargo::run(power.arg("--nocapture").env("FLEETWAY_FIRMWARE_RUNS", runs.to_string()))?;
    crate::say("planted bugs");
    cargo::run(&mut cargo(&["run", "-p", "fleetway-firmware", "--example", "mutants"]))?;
    crate::say(&format!("{kills} kills of the emulated board"));
    let mut killed = cargo(&["test", "-p", "fleetway-firmware", "--test", "boards", "killed"]);
    killed.args(["--", "--nocapture"]);
    cargo::run(killed.env("FLEETWAY_FIRMWARE_KILLS", kills.to_string()))
}

/// Measures flash, memory, stack and instructions on the emulated board.
pub(crate) fn bench() -> Result<()> {
    needs::boards()?;
    crate::say("building the board's programs");
    let dir = cargo::root().join("firmware/boards").join(BOARD);
    cargo::run(cargo(&["build", "--release", "--bins"]).current_dir(&dir))?;
    let programs =
        cargo::root().join("firmware/boards/target").join(cargo::BARE_TARGET).join("release");
    sizes(&programs.join("fleetway-mps2-an386"))?;
    crate::say("instructions, counted by QEMU (not cycles: a real Cortex-M4 needs somewhat more)");
    print!("{}", counted(&programs.join(BENCH))?);
    Ok(())
}

/// Flash and static memory of a program, what `fleetway-qnn` and its kernels take of it apart.
fn sizes(program: &Path) -> Result<()> {
    let output = Command::new("nm")
        .args(["--print-size", "--radix=d", "--demangle"])
        .arg(program)
        .output()
        .context("cannot start nm (package binutils)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut flash, mut kernels, mut memory, mut lent) = (0, 0, 0, 0);
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let (Some(_), Some(bytes), Some(kind), Some(name)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(bytes) = bytes.parse::<u64>() else { continue };
        match kind.to_ascii_lowercase().as_str() {
            "t" | "r" if name.contains("fleetway_qnn") => kernels += bytes,
            "t" | "r" => flash += bytes,
            "b" | "d" if name.contains("ARENA") || name.contains("PUT") => lent += bytes,
            "b" | "d" => memory += bytes,
            _ => {}
        }
    }
    println!(
        "flash without the model's runtime {flash:>8} bytes (symbols; texts beside them come on top)"
    );
    println!("the model's runtime               {kernels:>8} bytes");
    println!("static memory                     {memory:>8} bytes, and {lent} lent to the model");
    let output = Command::new("size").arg(program).output().context("cannot start size")?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// What the measuring program says on the board's second serial line.
fn counted(program: &Path) -> Result<String> {
    let mut qemu = Command::new(needs::QEMU_ARM);
    qemu.args(["-M", BOARD, "-display", "none", "-monitor", "none", "-icount", "shift=0"]);
    qemu.args(["-serial", "null", "-serial", "stdio", "-semihosting"]).arg("-kernel").arg(program);
    let output = qemu.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("cannot start QEMU")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.contains("done") {
        true => Ok(text),
        false => bail!("the board did not come to an end:\n{text}"),
    }
}
