//! Compiled int8 models: what the compiler reads, and what a device loads and runs.

use fleetway_qnn::format::Element;
use fleetway_qnn::{Input, Kernels, Model, Output};

use super::model_file;

/// Work above which a file is loaded but not run: a target must stay quick.
const WORK_MAX: u64 = 2_000_000;
/// Bytes of an arena above which it is not run either.
const ARENA_MAX: usize = 1 << 20;

/// A file that loads runs on every set of kernels, and all sets give the same bits.
pub(super) fn file(bytes: &[u8]) -> bool {
    let Ok(model) = Model::load(bytes) else { return false };
    if model.work() <= WORK_MAX && model.arena_bytes() <= ARENA_MAX {
        let expected = run(&model, Kernels::portable());
        for kernels in Kernels::all() {
            assert_eq!(run(&model, kernels), expected, "{}", kernels.name());
        }
    }
    true
}

/// What the compiler makes, the runtime takes.
pub(super) fn compiler(bytes: &[u8]) -> bool {
    let Ok(file) = fleetway_qnnc::compile(bytes) else { return false };
    Model::load(&file).expect("a compiled file loads");
    true
}

pub(super) fn file_samples() -> Vec<Vec<u8>> {
    let models = ["digits-v1.onnx", "softmax-tail.onnx"].map(model_file);
    models.iter().map(|model| fleetway_qnnc::compile(model).expect("it compiles")).collect()
}

/// One run over inputs that are all the same: the outputs as bits.
fn run(model: &Model<'_>, kernels: Kernels) -> Vec<u32> {
    let elements = |elements: u32| elements as usize;
    let inputs: Vec<_> =
        model.inputs().map(|(_, io)| (io.element, elements(io.elements))).collect();
    let floats: Vec<Vec<f32>> = inputs.iter().map(|&(_, len)| vec![0.5; len]).collect();
    let bytes: Vec<Vec<u8>> = inputs.iter().map(|&(_, len)| vec![77; len]).collect();
    let signed: Vec<Vec<i8>> = inputs.iter().map(|&(_, len)| vec![-7; len]).collect();
    let given = inputs.iter().enumerate().map(|(at, (element, _))| match element {
        Element::F32 => Input::F32(&floats[at]),
        Element::U8 => Input::U8(&bytes[at]),
        Element::S8 => Input::S8(&signed[at]),
    });
    let given: Vec<Input<'_>> = given.collect();
    let outputs: Vec<_> =
        model.outputs().map(|(_, io)| (io.element, elements(io.elements))).collect();
    let mut floats: Vec<Vec<f32>> = outputs.iter().map(|&(_, len)| vec![0.0; len]).collect();
    let mut bytes: Vec<Vec<u8>> = outputs.iter().map(|&(_, len)| vec![0; len]).collect();
    let mut signed: Vec<Vec<i8>> = outputs.iter().map(|&(_, len)| vec![0; len]).collect();
    let rooms = outputs.iter().zip(&mut floats).zip(bytes.iter_mut().zip(&mut signed));
    let mut rooms: Vec<Output<'_>> = rooms
        .map(|(((element, _), floats), (bytes, signed))| match element {
            Element::F32 => Output::F32(floats),
            Element::U8 => Output::U8(bytes),
            Element::S8 => Output::S8(signed),
        })
        .collect();
    let mut arena = vec![0x5A; model.arena_bytes()];
    model.run(kernels, &mut arena, &given, &mut rooms).expect("a loaded model runs");
    let floats = floats.concat().into_iter().map(f32::to_bits);
    let bytes = bytes.concat().into_iter().map(u32::from);
    let signed = signed.concat().into_iter().map(|byte| u32::from(byte.cast_unsigned()));
    floats.chain(bytes).chain(signed).collect()
}
