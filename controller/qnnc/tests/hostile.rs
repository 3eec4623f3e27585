//! Files that somebody spoiled: the loader refuses them or they run, and the compiler gives an error
//! or a file; nothing panics, nothing reaches outside.

mod common;

use common::root;
use fastrand::Rng;
use fleetway_qnn::format::{Element, Op};
use fleetway_qnn::{Input, Kernels, Model, Output};

/// Spoiled files of each kind, from as many seeds.
const FILES: u64 = 20_000;
/// Models that are spoiled before they are compiled: each takes some hundred microseconds.
const MODELS: u64 = 5_000;
/// Work above which a spoiled file is loaded but not run: the test would take minutes.
const WORK_MAX: u64 = 20_000_000;

fn onnx(name: &str) -> Vec<u8> {
    std::fs::read(root().join("tests/models/digits").join(name)).expect("a shipped model")
}

/// Runs a model on anything; what comes out does not matter, that it comes out does.
fn run(model: &Model<'_>, kernels: Kernels) {
    let mut arena = vec![0x5A; model.arena_bytes()];
    let len = |elements: u32| elements as usize;
    let ins: Vec<_> = model.inputs().map(|(_, io)| io).collect();
    let floats: Vec<Vec<f32>> = ins.iter().map(|io| vec![0.5; len(io.elements)]).collect();
    let bytes: Vec<Vec<u8>> = ins.iter().map(|io| vec![77; len(io.elements)]).collect();
    let signed: Vec<Vec<i8>> = ins.iter().map(|io| vec![-7; len(io.elements)]).collect();
    let given = ins.iter().enumerate().map(|(at, io)| match io.element {
        Element::F32 => Input::F32(&floats[at]),
        Element::U8 => Input::U8(&bytes[at]),
        Element::S8 => Input::S8(&signed[at]),
    });
    let given: Vec<Input<'_>> = given.collect();
    let outs: Vec<_> = model.outputs().map(|(_, io)| io).collect();
    let mut floats: Vec<Vec<f32>> = outs.iter().map(|io| vec![0.0; len(io.elements)]).collect();
    let mut bytes: Vec<Vec<u8>> = outs.iter().map(|io| vec![0; len(io.elements)]).collect();
    let mut signed: Vec<Vec<i8>> = outs.iter().map(|io| vec![0; len(io.elements)]).collect();
    let rooms = outs.iter().zip(&mut floats).zip(bytes.iter_mut().zip(&mut signed));
    let mut rooms: Vec<Output<'_>> = rooms
        .map(|((io, floats), (bytes, signed))| match io.element {
            Element::F32 => Output::F32(floats),
            Element::U8 => Output::U8(bytes),
            Element::S8 => Output::S8(signed),
        })
        .collect();
    model.run(kernels, &mut arena, &given, &mut rooms).expect("a loaded model runs");
}

fn spoil(rng: &mut Rng, file: &mut Vec<u8>, head: usize) {
    let arena = Model::load(file).map_or(0, |model| model.arena_bytes() as u32);
    let len = file.len() as u32;
    for _ in 0..rng.usize(1..4) {
        // Mostly where the records are: that is what the loader reads.
        let end = if rng.u8(0..8) == 0 { file.len() } else { head.min(file.len()) };
        let at = rng.usize(0..end / 4) * 4;
        let Some(word) = file.get_mut(at..at + 4) else { continue };
        let old = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        // Offsets that nearly fit are where a forgotten check shows.
        let near = |end: u32, rng: &mut Rng| end.wrapping_sub(rng.u32(0..300));
        let new = match rng.u8(0..8) {
            6 => near(len, rng),
            7 => near(arena, rng),
            0 => rng.u32(..),
            1 => old.wrapping_add(1),
            2 => old.wrapping_sub(1),
            3 => old ^ 1 << rng.u32(0..32),
            4 => *rng.choice(&[0, 1, 2, 255, 256, 65_535, 65_536, u32::MAX]).expect("some"),
            _ => old.wrapping_mul(2),
        };
        word.copy_from_slice(&new.to_le_bytes());
    }
    if rng.u8(0..40) == 0 {
        file.truncate(rng.usize(0..file.len()));
    }
}

/// A product with such a multiplier could be no number, which kernels would round in different ways.
#[test]
fn every_multiplier_is_a_finite_number() {
    let whole = fleetway_qnnc::compile(&onnx("digits-v1.onnx")).expect("it compiles");
    let model = Model::load(&whole).expect("it loads");
    let convs = model.ops().filter_map(|op| match op {
        Op::Conv(op) => Some((op.mult as usize, op.oc as usize)),
        Op::Depthwise(op) => Some((op.mult as usize, (op.ic * op.multiplier) as usize)),
        _ => None,
    });
    let convs: Vec<_> = convs.collect();
    assert!(!convs.is_empty());
    for (mult, channels) in convs {
        for (channel, value) in [(0, f32::NAN), (channels - 1, f32::INFINITY)] {
            let mut file = whole.clone();
            file[mult + 4 * channel..][..4].copy_from_slice(&value.to_le_bytes());
            let error = Model::load(&file).map(|_| ()).expect_err("it is refused");
            assert!(error.to_string().contains("a multiplier is not a finite number"), "{error}");
        }
    }
}

#[test]
fn spoiled_files_are_refused_or_run() {
    let whole: Vec<Vec<u8>> = ["digits-v1.onnx", "softmax-tail.onnx"]
        .iter()
        .map(|name| fleetway_qnnc::compile(&onnx(name)).expect("it compiles"))
        .collect();
    let (mut refused, mut ran) = (0, 0);
    for seed in 0..FILES {
        let rng = &mut Rng::with_seed(seed);
        let mut file = whole[rng.usize(0..whole.len())].clone();
        // Header, two ports, and the records of these models.
        spoil(rng, &mut file, 64 * 3 + 128 * 8);
        match Model::load(&file) {
            Err(_) => refused += 1,
            Ok(model) if model.work() <= WORK_MAX && model.arena_bytes() < 1 << 22 => {
                let sets: Vec<Kernels> = Kernels::all().collect();
                run(&model, sets[rng.usize(0..sets.len())]);
                ran += 1;
            }
            Ok(_) => {}
        }
    }
    println!("{refused} refused, {ran} ran");
    assert!(refused > FILES / 4 && ran > FILES / 10, "{refused} refused, {ran} ran");
}

#[test]
fn spoiled_models_compile_or_say_why_not() {
    let whole = [onnx("digits-v1.onnx"), onnx("softmax-tail.onnx")];
    let (mut refused, mut compiled) = (0, 0);
    for seed in 0..MODELS {
        let rng = &mut Rng::with_seed(seed);
        let mut model = whole[rng.usize(0..whole.len())].clone();
        for _ in 0..rng.usize(1..5) {
            // The graph lies before the weights, in these files: names, attributes, shapes.
            let end = if rng.bool() { model.len() } else { model.len().min(6_000) };
            let at = rng.usize(0..end);
            match rng.u8(0..3) {
                0 => model[at] = rng.u8(..),
                1 => model[at] ^= 1 << rng.u8(0..8),
                _ => {
                    model.remove(at);
                }
            }
        }
        // Whatever it is, it is cut or refused.
        let _ = fleetway_qnnc::compile_mixed(&model);
        match fleetway_qnnc::compile(&model) {
            Err(_) => refused += 1,
            Ok(_) => compiled += 1,
        }
    }
    println!("{refused} refused, {compiled} compiled");
    assert!(
        refused > MODELS / 10 && compiled > MODELS / 20,
        "{refused} refused, {compiled} compiled"
    );
}
