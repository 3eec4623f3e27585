//! Whether a release fits a class of microcontrollers, and by how much it does not.
//!
//! Asked before anything is signed: a slot, an arena and a set of operators are soldered or flashed, and a
//! device that finds out at its end of a serial line has fetched a manifest for nothing. Pure: what the
//! class has and what the form needs in, figures out.

use std::collections::BTreeMap;
use std::fmt;

use fleetway_protocol::ids::HardwareClass;
use fleetway_protocol::limits::{MCU_CHUNK_BYTES, MCU_PAPER_BYTES};
use fleetway_protocol::manifest::Artifact;
use fleetway_qnn::Model;
use fleetway_qnn::format::Op;
use serde::{Deserialize, Deserializer, Serialize, de};

/// Bytes of a digest in a chunk list.
const DIGEST_BYTES: u32 = 32;

/// The classes of microcontrollers that are known here. A class that is not among them is a machine
/// that finds room by itself.
pub type Classes = BTreeMap<HardwareClass, Room>;

/// What a class has room for: what its firmware was built with. Section `[hardware.CLASS]` of `fleetway.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Room {
    /// Bytes of a slot that a model may take.
    pub model_bytes: u32,
    /// Bytes of a slot that golden vectors may take.
    pub golden_bytes: u32,
    /// Bytes of memory that a run may take.
    pub arena_bytes: u32,
    /// Numbers of an input.
    pub input_values: u32,
    /// Numbers of an output.
    pub output_values: u32,
    /// Multiply-accumulates, or moved elements, of a run.
    pub work: u64,
    /// Operators that its runtime has; `None`: all that this one has.
    #[serde(default, deserialize_with = "operator_names")]
    pub operators: Option<Vec<String>>,
}

fn operator_names<'de, D: Deserializer<'de>>(names: D) -> Result<Option<Vec<String>>, D::Error> {
    let names = Vec::<String>::deserialize(names)?;
    match names.iter().find(|name| !Op::NAMES.contains(&name.as_str())) {
        None => Ok(Some(names)),
        Some(name) => {
            let all = Op::NAMES.join(", ");
            Err(de::Error::custom(format_args!("no operator {name:?}; there are {all}")))
        }
    }
}

/// What is to go there: a compiled network, and how it and its golden vectors travel.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The qnn file.
    pub file: &'a [u8],
    /// The same as the manifest has it, with its golden vectors; `None`: not cut yet.
    pub artifacts: Option<(Artifact, Artifact)>,
}

/// One figure: what is needed of what is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// Of what.
    pub what: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Needed.
    pub needs: u64,
    /// There.
    pub has: u64,
    /// How much too many.
    pub over: u64,
}

/// How a release fits one class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// The class.
    pub class: String,
    /// Whether it does.
    pub fits: bool,
    /// Every figure that was compared.
    pub figures: Vec<Figure>,
    /// What no larger board would mend, one sentence each.
    pub obstacles: Vec<String>,
}

impl Fit {
    fn new(class: &HardwareClass, figures: Vec<Figure>, obstacles: Vec<String>) -> Self {
        let fits = obstacles.is_empty() && figures.iter().all(|figure| figure.over == 0);
        Self { class: class.to_string(), fits, figures, obstacles }
    }
}

impl fmt::Display for Fit {
    /// `fits mps2-an386: model 3104 of 524288 bytes, ...`, or only what is in the way.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, fits, figures, obstacles } = self;
        f.write_str(if *fits { "fits " } else { "does not fit " })?;
        let told = figures.iter().filter(|figure| *fits || figure.over > 0).map(Figure::to_string);
        let told: Vec<_> = told.chain(obstacles.iter().cloned()).collect();
        write!(f, "{class}: {}", told.join(", "))
    }
}

impl Figure {
    fn new(what: &'static str, unit: &'static str, needs: u64, has: u64) -> Self {
        Self { what, unit, needs, has, over: needs.saturating_sub(has) }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, unit, needs, has, over } = self;
        write!(f, "{what} {needs} of {has} {unit}")?;
        if *over > 0 { write!(f, " ({over} too many)") } else { Ok(()) }
    }
}

/// How a release fits a class. `load` is its compiled form, or why it has none: no other form runs there.
pub fn judge(class: &HardwareClass, room: &Room, load: Result<Load<'_>, &str>) -> Fit {
    let load = match load {
        Ok(load) => load,
        Err(why) => {
            let obstacle = format!("it has no qnn form, and microcontrollers run no other: {why}");
            return Fit::new(class, Vec::new(), vec![obstacle]);
        }
    };
    match Model::load(load.file) {
        Ok(model) => {
            let mut figures = sizes(room, load.file, &model);
            let mut obstacles = operators(room, &model);
            if let Some((model, golden)) = load.artifacts {
                figures.extend(pieces(room, &model, &golden));
                obstacles.extend(uneven(&model).or_else(|| uneven(&golden)));
            }
            Fit::new(class, figures, obstacles)
        }
        Err(error) => {
            Fit::new(class, Vec::new(), vec![format!("its qnn form is damaged: {error}")])
        }
    }
}

/// Flash and memory of the network itself.
fn sizes(room: &Room, file: &[u8], model: &Model<'_>) -> Vec<Figure> {
    let input = model.inputs().map(|(_, io)| u64::from(io.elements)).max().unwrap_or(0);
    let output = model.outputs().map(|(_, io)| u64::from(io.elements)).max().unwrap_or(0);
    vec![
        Figure::new("model", "bytes", file.len() as u64, room.model_bytes.into()),
        Figure::new("arena", "bytes", model.arena_bytes() as u64, room.arena_bytes.into()),
        Figure::new("input", "numbers", input, room.input_values.into()),
        Figure::new("output", "numbers", output, room.output_values.into()),
        Figure::new("work", "multiply-accumulates", model.work(), room.work),
    ]
}

/// What the firmware cannot run however much room there is.
fn operators(room: &Room, model: &Model<'_>) -> Vec<String> {
    let mut obstacles = Vec::new();
    if model.inputs().count() != 1 || model.outputs().count() != 1 {
        let (inputs, outputs) = (model.inputs().count(), model.outputs().count());
        obstacles
            .push(format!("{inputs} inputs and {outputs} outputs, the firmware takes one of each"));
    }
    if let Some(has) = &room.operators {
        let mut missing: Vec<&str> = model.ops().map(|op| op.name()).collect();
        missing.sort_unstable();
        missing.dedup();
        missing.retain(|name| !has.iter().any(|operator| operator == name));
        if !missing.is_empty() {
            obstacles.push(format!("its runtime has no {}", missing.join(", no ")));
        }
    }
    obstacles
}

/// What of it a device stores and holds, as it is cut.
fn pieces(room: &Room, model: &Artifact, golden: &Artifact) -> [Figure; 4] {
    let chunks_max = u64::from(MCU_PAPER_BYTES / DIGEST_BYTES);
    let chunk = u64::from(model.chunk_bytes.max(golden.chunk_bytes));
    let figure = |what, unit, needs: u32, has| Figure::new(what, unit, needs.into(), has);
    [
        figure("golden vectors", "bytes", golden.bytes, room.golden_bytes.into()),
        Figure::new("chunk", "bytes", chunk, MCU_CHUNK_BYTES.into()),
        figure("list of the model", "chunks", model.chunk_count(), chunks_max),
        figure("list of the golden vectors", "chunks", golden.chunk_count(), chunks_max),
    ]
}

/// Chunks that would begin in the middle of a block of flash.
fn uneven(artifact: &Artifact) -> Option<String> {
    let bytes = artifact.chunk_bytes;
    let is_uneven = bytes <= MCU_CHUNK_BYTES && !MCU_CHUNK_BYTES.is_multiple_of(bytes);
    is_uneven.then(|| format!("chunks of {bytes} bytes do not fill a block of {MCU_CHUNK_BYTES}"))
}

#[cfg(test)]
#[path = "fit_tests.rs"]
pub(super) mod tests;
