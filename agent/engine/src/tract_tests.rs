//! tract behind our fences, on real models: agreement with onnxruntime, the softmax bug, threads.

use super::*;
use crate::golden::{GoldenRule, GoldenSet};
use crate::npz::read_npz;
use crate::validate::Refused;
use prost::Message;
use std::path::PathBuf;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, ModelProto};

/// Half a quantization step of the digits models, and of a softmax in 1/256.
const RULE: GoldenRule = GoldenRule { max_abs_err: 0.1, require_same_top1: true };
const SOFTMAX_RULE: GoldenRule = GoldenRule { max_abs_err: 0.5 / 256.0, require_same_top1: true };

fn digits(name: &str) -> Vec<u8> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/digits");
    std::fs::read(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn golden(name: &str) -> GoldenSet {
    GoldenSet::from_npz(&digits(&format!("{name}.golden.npz"))).unwrap()
}

fn load(name: &str) -> TractEngine {
    TractEngine::parse(&digits(&format!("{name}.onnx"))).unwrap()
}

#[test]
fn honest_models_agree_with_onnxruntime() {
    for name in ["digits-v1", "digits-v2", "digits-v4"] {
        let verdict = golden(name).check(&load(name), RULE).unwrap();
        assert!(verdict.passed, "{name}: {verdict}");
    }
}

#[test]
fn wrong_weights_fail_their_golden_vectors_and_the_text_says_where() {
    let verdict = golden("digits-v3").check(&load("digits-v3"), RULE).unwrap();
    assert!(!verdict.passed);
    assert_eq!((verdict.vectors, verdict.top1_agree), (8, 0));
    let text = verdict.to_string();
    for part in [
        "disagree",
        "top-1 equal on 0 of 8",
        "vector 3, output `scores`, element 4",
        "allowed error 0.1",
    ] {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}

/// Fails on the day that tract computes `DQ -> Softmax -> Q` right: then `softmax.rs` can go.
#[test]
fn upstream_softmax_is_still_wrong() {
    let engine = TractEngine::parse_with(tract_onnx::onnx(), &digits("softmax-tail.onnx")).unwrap();
    let verdict = golden("softmax-tail").check(&engine, SOFTMAX_RULE).unwrap();
    assert!(verdict.worst_abs_err > 0.9, "tract has changed: {verdict}");
}

#[test]
fn our_softmax_is_right() {
    let verdict = golden("softmax-tail").check(&load("softmax-tail"), SOFTMAX_RULE).unwrap();
    assert!(verdict.passed, "{verdict}");
}

/// The softmax-tail model with its Softmax turned into another form.
fn softmax_variant(op: &str, opset: i64, axis: i64) -> Result<TractEngine, LoadError> {
    let mut model = ModelProto::decode(&digits("softmax-tail.onnx")[..]).unwrap();
    model.opset_import[0].version = opset;
    let graph = model.graph.as_mut().unwrap();
    let node = graph.node.iter_mut().find(|node| node.op_type == "Softmax").unwrap();
    node.op_type = op.to_owned();
    let r#type = AttributeType::Int as i32;
    node.attribute =
        vec![AttributeProto { name: "axis".into(), i: axis, r#type, ..Default::default() }];
    // What follows the softmax would clip a logarithm: the graph ends with it.
    let made = node.output[0].clone();
    graph.output[0].name = made;
    TractEngine::parse(&model.encode_to_vec())
}

#[test]
fn every_form_of_softmax_gives_probabilities() {
    let golden = golden("softmax-tail");
    let image = &golden.vectors()[0].inputs;
    for (op, opset, axis) in [
        ("Softmax", 17, 1),
        ("Softmax", 17, -1),
        ("Softmax", 12, 1),
        ("LogSoftmax", 17, -1),
        ("LogSoftmax", 12, 1),
    ] {
        let scores = softmax_variant(op, opset, axis).unwrap().run(image).unwrap().remove(0);
        let scores = scores.as_f32().unwrap();
        let sum: f32 = scores.iter().map(|&x| if op == "LogSoftmax" { x.exp() } else { x }).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{op} {opset} {axis}: sums to {sum}");
    }
    // Up to opset 12 axis 0 is one row over everything, which for a batch of 1 is the same row.
    softmax_variant("Softmax", 12, 0).unwrap();
    for (opset, axis) in [(17, 2), (17, -3), (12, 9)] {
        let refused = softmax_variant("Softmax", opset, axis).unwrap_err();
        assert!(matches!(refused, LoadError::Refused(Refused::Axis { rank: 2, .. })), "{refused}");
    }
}

#[test]
fn held_out_accuracy() {
    let arrays = read_npz(&digits("heldout.npz")).unwrap();
    let of = |name: &str| &arrays.iter().find(|(key, _)| key == name).unwrap().1;
    let (images, labels) = (of("images"), of("labels"));
    let engine = load("digits-v2");
    let right = (0..images.shape()[0]).filter(|&at| {
        let scores = engine.run(&[images.row(at).unwrap()]).unwrap().remove(0);
        let scores = scores.as_f32().unwrap();
        let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        labels.data().get_f64(at) == Some(best as f64)
    });
    let accuracy = right.count() as f64 / images.shape()[0] as f64;
    assert!(accuracy >= 0.97, "accuracy {accuracy}");
}

#[test]
fn runs_from_several_threads_are_independent() {
    let (engine, golden) = (load("digits-v2"), golden("digits-v2"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let verdict = golden.check(&engine, RULE).unwrap();
                    assert!(verdict.passed, "{verdict}");
                }
            });
        }
    });
}

#[test]
fn inputs_that_do_not_fit_never_reach_tract() {
    let engine = load("digits-v2");
    assert_eq!(engine.run(&[]), Err(RunError::InputCount { want: 1, have: 0 }));
    let wrong = [
        Tensor::from_f32(&[1, 1, 8, 7], vec![0.0; 56]).unwrap(),
        Tensor::from_f32(&[2, 1, 8, 8], vec![0.0; 128]).unwrap(),
        Tensor::new(vec![1, 1, 8, 8], TensorData::U8(vec![0; 64])).unwrap(),
    ];
    for tensor in wrong {
        let error = engine.run(&[tensor]).unwrap_err();
        assert!(error.is_callers(), "{error}");
        assert!(
            error.to_string().starts_with("input `image` must be f32[1, 1, 8, 8], got "),
            "{error}"
        );
    }
}

#[test]
fn a_panic_becomes_its_message() {
    assert_eq!(guarded(|| 7), Ok(7));
    assert_eq!(guarded(|| panic!("node {}", 3)), Err::<(), _>("node 3".to_owned()));
    assert_eq!(
        guarded(|| std::panic::panic_any(5u8)),
        Err::<(), _>("a panic without a message".to_owned())
    );
}

/// `name` with the first axis of its input left open.
fn open(name: &str) -> TractEngine {
    use tract_onnx::pb::{tensor_shape_proto::dimension::Value, type_proto};
    let mut model = ModelProto::decode(&digits(&format!("{name}.onnx"))[..]).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let Some(type_proto::Value::TensorType(tensor)) =
        &mut graph.input[0].r#type.as_mut().unwrap().value
    else {
        panic!("a tensor")
    };
    let dim = &mut tensor.shape.as_mut().unwrap().dim[0];
    dim.value = Some(Value::DimParam("N".into()));
    TractEngine::parse(&model.encode_to_vec()).unwrap()
}

#[test]
fn a_batch_has_the_bits_of_its_rows() {
    let (closed, open) = (load("digits-v2"), open("digits-v2"));
    assert_eq!((closed.rows_max(), open.rows_max()), (1, 8));
    assert_eq!(open.inputs(), closed.inputs(), "one row stands in the interface");
    let mut rng = fastrand::Rng::with_seed(7);
    for rows in [1, 2, 3, 5, 7, 8] {
        let pixels = (0..rows * 64).map(|_| rng.f32() * 16.0).collect();
        let images = Tensor::from_f32(&[rows, 1, 8, 8], pixels).unwrap();
        let together = open.run(std::slice::from_ref(&images)).unwrap().remove(0);
        assert_eq!(together.shape(), [rows, 10]);
        for at in 0..rows {
            let alone = closed.run(&[images.row(at).unwrap()]).unwrap().remove(0);
            let row = together.row(at).unwrap();
            assert_eq!(row.to_le_bytes(), alone.to_le_bytes(), "row {at} of {rows}");
        }
    }
    let nine = Tensor::from_f32(&[9, 1, 8, 8], vec![0.0; 9 * 64]).unwrap();
    assert!(open.run(std::slice::from_ref(&nine)).unwrap_err().is_callers());
    let two = nine.rows(0..2).unwrap();
    assert!(closed.run(&[two]).unwrap_err().is_callers(), "a closed axis stays closed");
}
