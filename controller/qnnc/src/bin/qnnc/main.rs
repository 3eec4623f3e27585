//! `fleetway-qnnc`: compiles, shows and times models by hand.
//!
//! `worker` speaks the protocol of `tests/python/qnn_bench.py`: a line of JSON once the model is
//! loaded, then for each line with a number so many runs and their nanoseconds, and at the end of
//! its input another line of JSON.

mod clock;

use anyhow::{Context as _, Result, bail};
use clock::Stopwatch;
use fleetway_qnn::format::{Element, Io};
use fleetway_qnn::{Input, Kernels, Model, Output};
use std::io::{BufRead as _, Write as _};
use std::path::Path;

const HELP: &str = "fleetway-qnnc compile MODEL.onnx OUT.qnn
fleetway-qnnc inspect MODEL.(onnx|qnn)
fleetway-qnnc worker MODEL.qnn KERNELS        (best, or the name of a set; times runs, see tests/python/qnn_bench.py)";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["compile", model, out] => {
            let file = fleetway_qnnc::compile(&read(model)?).context(model.to_owned())?;
            std::fs::write(out, &file).context(out.to_owned())
        }
        ["inspect", model] => {
            print!("{}", fleetway_qnnc::inspect::inspect(&compiled(model)?)?);
            Ok(())
        }
        ["worker", model, kernels] => worker(model, kernels),
        _ => bail!("{HELP}"),
    }
}

fn read(path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).context(path.to_owned())
}

fn compiled(path: &str) -> Result<Vec<u8>> {
    let bytes = read(path)?;
    if Path::new(path).extension().is_some_and(|end| end == "onnx") {
        return fleetway_qnnc::compile(&bytes).context(path.to_owned());
    }
    Ok(bytes)
}

/// Most memory that this process ever had, in KiB; 0 where the system does not say.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

enum Room {
    F32(Vec<f32>),
    U8(Vec<u8>),
    S8(Vec<i8>),
}

fn room(io: &Io) -> Room {
    let count = io.elements as usize;
    match io.element {
        // Something else than zeros, the same in every run.
        Element::F32 => Room::F32((0..count).map(|i| (i % 97) as f32 / 48.5 - 1.0).collect()),
        Element::U8 => Room::U8((0..count).map(|i| (i * 37) as u8).collect()),
        Element::S8 => Room::S8((0..count).map(|i| (i * 37) as i8).collect()),
    }
}

fn worker(path: &str, kernels: &str) -> Result<()> {
    let kernels = match kernels {
        "best" => Kernels::best(),
        name => Kernels::all().find(|set| set.name() == name).context("no such set of kernels")?,
    };
    let bare = peak_kib();
    let load = Stopwatch::start();
    let file = read(path)?;
    let model = Model::load(&file)?;
    let mut arena = vec![0; model.arena_bytes()];
    let load = load.elapsed();
    let given: Vec<Room> = model.inputs().map(|(_, io)| room(&io)).collect();
    let mut taken: Vec<Room> = model.outputs().map(|(_, io)| room(&io)).collect();
    let inputs: Vec<Input<'_>> = given
        .iter()
        .map(|room| match room {
            Room::F32(room) => Input::F32(room),
            Room::U8(room) => Input::U8(room),
            Room::S8(room) => Input::S8(room),
        })
        .collect();
    let mut outputs: Vec<Output<'_>> = taken
        .iter_mut()
        .map(|room| match room {
            Room::F32(room) => Output::F32(room),
            Room::U8(room) => Output::U8(room),
            Room::S8(room) => Output::S8(room),
        })
        .collect();
    let mut out = std::io::stdout().lock();
    let name = kernels.name();
    writeln!(out, "{{\"load_us\": {}, \"kernels\": \"{name}\"}}", load.as_secs_f64() * 1e6)?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let mut times = Vec::new();
        for _ in 0..line?.trim().parse::<u32>()? {
            let watch = Stopwatch::start();
            model.run(kernels, &mut arena, &inputs, &mut outputs)?;
            times.push(watch.elapsed().as_nanos().to_string());
        }
        writeln!(out, "{}", times.join(" "))?;
        out.flush()?;
    }
    writeln!(out, "{{\"peak_kib\": {}, \"bare_kib\": {bare}}}", peak_kib())?;
    Ok(())
}
