//! The compiler of qnn: an int8 ONNX file in, one flat file out, or the node and the reason why not.
//!
//! It runs on the controller, at import. Three ways of writing the same quantized network come in
//! (QDQ, QOperator with com.microsoft's operators, and what tf2onnx makes of TFLite), one canonical
//! form comes out: integers between operators, everything that only moves or clamps them folded away.
//!
//! Read in this order:
//! 1. `proto`, `tensor`, [`graph`]: from bytes to a checked graph;
//! 2. `value`: what a name in the graph stands for while it is lowered: stored bytes, or a real
//!    number that nobody has stored yet;
//! 3. `lower`: node by node, until QuantizeLinear says how the pending number is to be stored;
//! 4. `ir`, `pack`, `plan`, `write`: steps, weights, arena, file; `rows`: whether a batch may be cut up;
//! 5. [`mixed`]: graphs of which only parts are int8;
//! 6. [`inspect`]: what a person sees of it.
#![forbid(unsafe_code)]

pub mod error;
pub mod graph;
pub mod inspect;
mod ir;
mod lower;
pub mod mixed;
mod pack;
mod plan;
mod proto;
mod rows;
mod tensor;
mod value;
mod write;

pub use error::CompileError;
pub use mixed::{Mixed, Region, compile_mixed};

/// Compiles an ONNX file. The result is a file that [`fleetway_qnn::Model::load`] takes.
pub fn compile(onnx: &[u8]) -> Result<Vec<u8>, CompileError> {
    let graph = graph::read(onnx)?;
    let mut program = lower::lower(&graph)?;
    let mut file = write::write(&program)?;
    if rows::stand_alone(&graph, &file) {
        program.open = true;
        file = write::write(&program)?;
    }
    // What is written is what will be read: the loader has the last word here, too.
    let loaded = fleetway_qnn::Model::load(&file).map_err(|e| CompileError::Refused(e.to_string()));
    loaded.map(|_| ())?;
    Ok(file)
}
