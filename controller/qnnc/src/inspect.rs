//! What a person sees of a compiled model.

use fleetway_qnn::format::{Io, Op};
use fleetway_qnn::{LoadError, Model};
use std::fmt::Write;

/// One operator, as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub operator: &'static str,
    /// Multiply-accumulates, or bytes moved.
    pub work: u64,
    /// Sizes, in words.
    pub shape: String,
}

/// The operators of a file, in the order in which they run.
pub fn layers(model: &Model<'_>) -> Vec<Layer> {
    let layer = |op: Op| {
        let (work, shape) = describe(&op);
        Layer { operator: op.name(), work, shape }
    };
    model.ops().map(layer).collect()
}

/// The layers of a file, its memory and its work, as text.
pub fn inspect(file: &[u8]) -> Result<String, LoadError> {
    let model = Model::load(file)?;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut text, file, &model);
    Ok(text)
}

fn write_all(text: &mut String, file: &[u8], model: &Model<'_>) -> std::fmt::Result {
    let io = |text: &mut String, what, name, io: Io| {
        let element = format!("{:?}", io.element).to_lowercase();
        writeln!(text, "{what:<8}{name}  {element} {:?}", io.shape())
    };
    for (name, input) in model.inputs() {
        io(text, "input", name, input)?;
    }
    for (name, output) in model.outputs() {
        io(text, "output", name, output)?;
    }
    writeln!(text, "\n{:>4} {:<10} {:>12}  shape", "", "operator", "work")?;
    for (index, Layer { operator, work, shape }) in layers(model).into_iter().enumerate() {
        writeln!(text, "{index:>4} {operator:<10} {work:>12}  {shape}")?;
    }
    writeln!(text, "\nflash (file)   {:>12} bytes", file.len())?;
    writeln!(text, "RAM (arena)    {:>12} bytes", model.arena_bytes())?;
    writeln!(
        text,
        "work           {:>12} multiply-accumulates or moves, padding included",
        model.work()
    )
}

fn describe(op: &Op) -> (u64, String) {
    let product = |of: &[u32]| of.iter().map(|&size| u64::from(size)).product::<u64>();
    match op {
        Op::Conv(op) => (
            product(&[op.batch, op.oh, op.ow, op.oc, op.kh, op.kw, op.ic / op.groups]),
            format!(
                "{}x{}x{}x{} -> {}x{}x{}, window {}x{} stride {}x{}",
                op.batch, op.ih, op.iw, op.ic, op.oh, op.ow, op.oc, op.kh, op.kw, op.sh, op.sw
            ),
        ),
        Op::Depthwise(op) => (
            product(&[op.batch, op.oh, op.ow, op.ic, op.multiplier, op.kh, op.kw]),
            format!(
                "{}x{}x{}x{} -> {}x{}x{}, window {}x{} stride {}x{}",
                op.batch,
                op.ih,
                op.iw,
                op.ic,
                op.oh,
                op.ow,
                op.ic * op.multiplier,
                op.kh,
                op.kw,
                op.sh,
                op.sw
            ),
        ),
        Op::Add(op) => (op.bytes.into(), format!("{} + {}", op.a_bytes, op.b_bytes)),
        Op::Mul(op) => (op.bytes.into(), format!("{} * {}", op.a_bytes, op.b_bytes)),
        Op::Table(op) => (op.bytes.into(), format!("{}", op.bytes)),
        Op::Fill(op) => (op.bytes.into(), format!("{} of {}", op.bytes, op.value)),
        Op::Load(op) => (op.bytes.into(), format!("{}", op.bytes)),
        Op::Resize(op) => (
            product(&[op.batch, op.oh, op.ow, op.ic, 4]),
            format!("{}x{}x{} -> {}x{}", op.ih, op.iw, op.ic, op.oh, op.ow),
        ),
        Op::Copy(op) => {
            let dims = [op.d0, op.d1, op.d2, op.d3, op.d4];
            (product(&dims), format!("{dims:?}"))
        }
        Op::MaxPool(op) => (
            product(&[op.batch, op.oh, op.ow, op.ic, op.kh, op.kw]),
            format!(
                "{}x{}x{} -> {}x{}, window {}x{}",
                op.ih, op.iw, op.ic, op.oh, op.ow, op.kh, op.kw
            ),
        ),
        Op::AvgPool(op) => (
            product(&[op.batch, op.oh, op.ow, op.ic, op.kh, op.kw]),
            format!(
                "{}x{}x{} -> {}x{}, window {}x{}",
                op.ih, op.iw, op.ic, op.oh, op.ow, op.kh, op.kw
            ),
        ),
        Op::Softmax(op) => (
            product(&[op.outer, op.axis, op.inner]),
            format!("{} of {}", op.outer * op.inner, op.axis),
        ),
        Op::MatMul(op) => (
            product(&[op.batch, op.m, op.k, op.n]),
            format!("{} of {}x{} * {}x{}", op.batch, op.m, op.k, op.k, op.n),
        ),
    }
}
