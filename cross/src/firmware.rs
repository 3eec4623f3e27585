//! The firmware's own verbs: its power cut many times over, and its figures on an emulated board.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cargo::{self, cargo};
use crate::needs;
use crate::targets::{BOARDS, Board};

/// The board that is measured, its target, and the program in it that measures.
const BOARD: &str = "mps2-an386";
const BENCH: &str = "bench";

/// Builds a board's programs; gives their directory.
fn build(board: &Board) -> Result<PathBuf> {
    needs::boards()?;
    let boards = cargo::root().join("firmware/boards");
    cargo::run(cargo(&["build", "--release", "--bins"]).current_dir(boards.join(board.name)))?;
    Ok(boards.join("target").join(board.triple).join("release"))
}

/// Builds a board's program as it is flashed; gives its bytes of flash.
pub(crate) fn flash(board: &Board) -> Result<u64> {
    flash_of(&build(board)?.join(format!("fleetway-{}", board.name)))
}

fn flash_of(program: &Path) -> Result<u64> {
    let program = std::fs::read(program).context("the program is not there")?;
    crate::flash::flash_bytes(&program).context("no ELF file of 32 bits")
}

/// Cuts the power in a simulated flash so many times, plants every bug, and kills the emulated
/// boards so many times in all.
pub(crate) fn soak(runs: u64, kills: u64) -> Result<()> {
    needs::boards()?;
    crate::say(&format!("{runs} runs on flash that is cut, fails and is wrong"));
    let mut power = cargo(&["test", "-p", "fleetway-firmware", "--test", "power", "soak", "--"]);
    cargo::run(power.arg("--nocapture").env("FLEETWAY_FIRMWARE_RUNS", runs.to_string()))?;
    crate::say("planted bugs");
    cargo::run(&mut cargo(&["run", "-p", "fleetway-firmware", "--example", "mutants"]))?;
    let each = kills.div_ceil(BOARDS.len() as u64);
    crate::say(&format!("{each} kills of each of {} emulated boards", BOARDS.len()));
    let mut killed = cargo(&["test", "-p", "fleetway-firmware", "--test", "boards", "killed"]);
    killed.args(["--", "--nocapture"]);
    cargo::run(killed.env("FLEETWAY_FIRMWARE_KILLS", each.to_string()))
}

/// The model that is measured if no other is named, and where the board has it.
const MODEL: &str = "tests/models/digits/digits-v2.onnx";
const MODEL_AT: &str = "0x300000";

/// Figures in the order in which they came.
#[derive(Default)]
struct Figures(Vec<(String, u64)>);

impl Figures {
    /// Takes `name=number` of every line that is so.
    fn read(&mut self, text: &str) {
        for line in text.lines() {
            let Some((name, number)) = line.split_once('=') else { continue };
            let (name, number) = (name.trim(), number.trim().parse());
            // What does not depend on the model is said with each of them.
            let is_new = name != "done" && self.0.iter().all(|(known, _)| known != name);
            if let (Ok(number), true) = (number, is_new) {
                self.0.push((name.to_owned(), number));
            }
        }
    }

    fn print(&self) {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, number) in &self.0 {
            println!("{name:<width$}  {:>12}", grouped(*number));
        }
    }

    fn json(&self) -> String {
        let lines: Vec<_> =
            self.0.iter().map(|(name, number)| format!("  \"{name}\": {number}")).collect();
        format!("{{\n{}\n}}\n", lines.join(",\n"))
    }
}

/// Thousands apart, so that a person reads it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Measures flash and memory of each board, instructions on one, and what an update takes.
pub(crate) fn bench(json: Option<&Path>, models: Option<&Path>) -> Result<()> {
    needs::boards()?;
    let mut figures = Figures::default();
    crate::say("building the boards' programs");
    let mut program = PathBuf::new();
    for board in BOARDS {
        let programs = build(board)?;
        sizes(&mut figures, board.name, &programs.join(format!("fleetway-{}", board.name)))?;
        if board.name == BOARD {
            program = programs.join(BENCH);
        }
    }
    crate::say("instructions, counted by QEMU (not cycles: a real Cortex-M4 needs somewhat more)");
    for model in models_in(models)? {
        figures.read(&counted(&program, &model)?);
    }
    crate::say("updates: on simulated flash, and over the line of emulated boards");
    let mut measure = cargo(&["run", "--quiet", "-p", "fleetway-firmware", "--example", "measure"]);
    let output = measure.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("the boards did not come to an end:\n{text}");
    }
    figures.read(&text);
    figures.print();
    if let Some(json) = json {
        std::fs::write(json, figures.json())
            .with_context(|| format!("cannot write {}", json.display()))?;
    }
    Ok(())
}

/// The models to measure: the project's own, and what is in a directory.
fn models_in(dir: Option<&Path>) -> Result<Vec<PathBuf>> {
    let mut found = vec![cargo::root().join(MODEL)];
    if let Some(dir) = dir {
        let entries = std::fs::read_dir(dir).with_context(|| format!("{}", dir.display()))?;
        let mut more: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        more.retain(|path| path.extension().is_some_and(|end| end == "onnx"));
        more.sort();
        found.extend(more);
    }
    Ok(found)
}

/// Flash and static memory of a program, what `fleetway-qnn` and its kernels take of it apart.
fn sizes(figures: &mut Figures, board: &str, program: &Path) -> Result<()> {
    let output = Command::new("nm")
        .args(["--print-size", "--radix=d", "--demangle"])
        .arg(program)
        .output()
        .context("cannot start nm (package binutils)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut kernels, mut memory, mut lent) = (0, 0, 0);
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let (Some(_), Some(bytes), Some(kind), Some(name)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(bytes) = bytes.parse::<u64>() else { continue };
        // What the loader of models was put into counts as theirs.
        let is_kernel = name.contains("fleetway_qnn") || name.contains("engine::Memory");
        match kind.to_ascii_lowercase().as_str() {
            "t" | "r" if is_kernel => kernels += bytes,
            "b" | "d" if name.contains("ROOM") || name.contains("MIRROR") => lent += bytes,
            "b" | "d" => memory += bytes,
            _ => {}
        }
    }
    let flash = flash_of(program)?;
    let name = board.replace('-', "_");
    for (what, bytes) in [
        ("flash_bytes", flash),
        ("flash_updater_bytes", flash - kernels),
        ("flash_kernels_bytes", kernels),
        ("static_memory_bytes", memory),
        ("lent_memory_bytes", lent),
    ] {
        figures.0.push((format!("{name}_{what}"), bytes));
    }
    Ok(())
}

/// What the measuring program says of a model on the board's second serial line.
fn counted(program: &Path, onnx: &Path) -> Result<String> {
    let dir = cargo::program_dir("debug")?;
    let (compiled, model) = (dir.join("measured.qnn"), dir.join("measured.page"));
    let mut compile = cargo(&["run", "--quiet", "--release", "-p", "fleetway-qnnc", "--"]);
    cargo::run(compile.arg("compile").arg(onnx).arg(&compiled))?;
    let file = std::fs::read(&compiled).context("the compiled model is not there")?;
    std::fs::write(&model, [&(file.len() as u32).to_le_bytes()[..], &file].concat())?;
    let mut qemu = Command::new(needs::QEMU_ARM);
    qemu.args(["-M", BOARD, "-display", "none", "-monitor", "none", "-icount", "shift=0"]);
    qemu.args(["-serial", "null", "-serial", "stdio", "-semihosting"]).arg("-kernel").arg(program);
    let loader = format!("loader,file={},addr={MODEL_AT},force-raw=on", model.display());
    let output =
        qemu.arg("-device").arg(loader).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("cannot start QEMU")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = onnx.file_stem().unwrap_or_default().to_string_lossy().replace('-', "_");
    text.lines().filter(|line| line.starts_with('#')).for_each(|line| eprintln!("{name}: {line}"));
    match text.contains("done") {
        true => Ok(text.replace("model_", &format!("{name}_"))),
        false => bail!("the board did not come to an end:\n{text}"),
    }
}
