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
use std::io::{BufRead as _, Read as _, Write as _};
use std::path::Path;

const HELP: &str = "fleetway-qnnc compile MODEL.onnx OUT.qnn
fleetway-qnnc mixed MODEL.onnx OUT.onnx       (its int8 regions become a node each, and are listed)
fleetway-qnnc inspect MODEL.(onnx|qnn)
fleetway-qnnc run MODEL.qnn                   (inputs one after the other on stdin, outputs likewise on stdout)
fleetway-qnnc worker MODEL.qnn KERNELS        (best, or the name of a set; times runs, see tests/python/qnn_bench.py)";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["compile", model, out] => {
            let file = fleetway_qnnc::compile(&read(model)?).context(model.to_owned())?;
            std::fs::write(out, &file).context(out.to_owned())
        }
        ["mixed", model, out] => mixed(model, out),
        ["run", model] => once(model),
        ["inspect", model] => {
            print!("{}", fleetway_qnnc::inspect::inspect(&compiled(model)?)?);
            Ok(())
        }
        ["worker", model, kernels] => worker(model, kernels),
        _ => bail!("{HELP}"),
    }
}

fn mixed(path: &str, out: &str) -> Result<()> {
    let mixed = fleetway_qnnc::compile_mixed(&read(path)?).context(path.to_owned())?;
    for region in &mixed.regions {
        let (ins, outs) = (region.inputs.join(", "), region.outputs.join(", "));
        let bytes = region.file.len();
        println!("{}: {} nodes, work {}, {bytes} bytes", region.name, region.nodes, region.work);
        println!("    {ins} -> {outs}");
    }
    for left in &mixed.left {
        println!("left: {} `{}`: {}", left.op, left.node, left.reason);
    }
    std::fs::write(out, &mixed.onnx).context(out.to_owned())
}

/// Runs a file once, for tests that have the rest of a graph elsewhere.
fn once(path: &str) -> Result<()> {
    let file = read(path)?;
    let model = Model::load(&file)?;
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    let mut rest = &bytes[..];
    let mut given = Vec::new();
    for (name, io) in model.inputs() {
        let size = if io.element == Element::F32 { 4 } else { 1 } * io.elements as usize;
        let (own, behind) = rest.split_at_checked(size).with_context(|| format!("{name} ends"))?;
        rest = behind;
        given.push(match io.element {
            Element::F32 => {
                Room::F32(own.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
            }
            Element::U8 => Room::U8(own.to_vec()),
            Element::S8 => Room::S8(own.iter().map(|&byte| byte as i8).collect()),
        });
    }
    let mut taken: Vec<Room> = model.outputs().map(|(_, io)| room(&io)).collect();
    let inputs: Vec<Input<'_>> = given.iter().map(Room::input).collect();
    let mut outputs: Vec<Output<'_>> = taken.iter_mut().map(Room::output).collect();
    model.run(Kernels::best(), &mut vec![0; model.arena_bytes()], &inputs, &mut outputs)?;
    let mut out = std::io::stdout().lock();
    for room in taken {
        match room {
            Room::F32(room) => {
                out.write_all(&room.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())?;
            }
            Room::U8(room) => out.write_all(&room)?,
            Room::S8(room) => {
                out.write_all(&room.iter().map(|&v| v as u8).collect::<Vec<_>>())?;
            }
        }
    }
    Ok(())
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

impl Room {
    fn input(&self) -> Input<'_> {
        match self {
            Self::F32(room) => Input::F32(room),
            Self::U8(room) => Input::U8(room),
            Self::S8(room) => Input::S8(room),
        }
    }

    fn output(&mut self) -> Output<'_> {
        match self {
            Self::F32(room) => Output::F32(room),
            Self::U8(room) => Output::U8(room),
            Self::S8(room) => Output::S8(room),
        }
    }
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
    let inputs: Vec<Input<'_>> = given.iter().map(Room::input).collect();
    let mut outputs: Vec<Output<'_>> = taken.iter_mut().map(Room::output).collect();
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
