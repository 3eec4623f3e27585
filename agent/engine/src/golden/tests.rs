//! Golden sets: the codec, the pairing with a model, the comparison.

use super::*;
use crate::tensor::{DType, TensorData};

/// Answers with a fixed row, whatever comes in.
struct Fixed {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    answer: Vec<f32>,
}

impl Engine for Fixed {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }
    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }
    fn run(&self, _: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        Ok(vec![row(&self.answer)])
    }
    fn kind(&self) -> &'static str {
        "fixed"
    }
}

fn row(values: &[f32]) -> Tensor {
    Tensor::from_f32(&[1, values.len()], values.to_vec()).unwrap()
}

fn spec(name: &str, size: usize) -> TensorSpec {
    TensorSpec { name: name.to_owned(), dtype: DType::F32, shape: vec![1, size] }
}

fn engine(answer: &[f32]) -> Fixed {
    Fixed {
        inputs: vec![spec("x", 1)],
        outputs: vec![spec("y", answer.len())],
        answer: answer.to_vec(),
    }
}

fn set(want: &[f32]) -> GoldenSet {
    let vector = GoldenVector { inputs: vec![row(&[0.0])], outputs: vec![row(want)] };
    GoldenSet::new(vec![spec("x", 1)], vec![spec("y", want.len())], vec![vector]).unwrap()
}

fn passes(want: &[f32], have: &[f32], max_abs_err: f32) -> bool {
    let rule = GoldenRule { max_abs_err, require_same_top1: true };
    set(want).check(&engine(have), rule).unwrap().passed
}

#[test]
fn the_rule() {
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    assert!(passes(&[1.0, 2.0], &[1.0, 2.0], 0.0));
    assert!(passes(&[1.0, 2.0], &[1.25, 1.75], 0.25));
    assert!(!passes(&[1.0, 2.0], &[1.5, 1.75], 0.25), "error above the bound");
    assert!(!passes(&[1.0, 1.1], &[1.1, 1.0], 0.25), "other top-1 within the error");
    assert!(passes(&[2.0, 2.0], &[1.9, 2.0], 0.25), "a tie in the vector leaves the choice");
    assert!(!passes(&[0.0, 1.0], &[1.0, 1.0], 1.0), "a tie in the answer is no excuse");
    assert!(!passes(&[1.0, 2.0], &[NAN, 2.0], INF.min(1e30)), "a NaN is never close");
    assert!(passes(&[INF, 2.0], &[INF, 2.0], 0.0), "equal infinities");
    assert!(!passes(&[1.0, 2.0], &[1.0, 2.5], NAN), "a NaN in the rule passes nothing");
    assert!(!passes(&[NAN, 2.0], &[NAN, 2.0], NAN), "a NaN in the rule passes nothing");
}

#[test]
fn a_set_for_another_model_is_not_run() {
    let rule = GoldenRule { max_abs_err: 1.0, require_same_top1: false };
    let other_name = Fixed { inputs: vec![spec("z", 1)], ..engine(&[1.0]) };
    let more_inputs = Fixed { inputs: vec![spec("x", 1), spec("z", 1)], ..engine(&[1.0]) };
    let other_shape = engine(&[1.0, 2.0]);
    for (other, want) in
        [(other_name, "no input"), (more_inputs, "takes 2 inputs"), (other_shape, "no output")]
    {
        let error = set(&[1.0]).check(&other, rule).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn bytes_go_round_and_damage_is_noticed() {
    let set = set(&[1.0, 2.0]);
    let bytes = set.encode().unwrap();
    assert_eq!(GoldenSet::decode(&bytes), Ok(set));
    assert!(GoldenSet::decode(&bytes[..bytes.len() - 1]).is_err());
    assert!(GoldenSet::decode(&[&bytes[..], b"x"].concat()).is_err());
    assert!(GoldenSet::decode(&vec![0; GOLDEN_BYTES_MAX + 1]).is_err());
    // No single changed byte may panic or break the promise that vectors match their specification.
    for at in 0..bytes.len() {
        for value in [0, 1, 127, 255] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            if let Ok(set) = GoldenSet::decode(&damaged) {
                assert!(
                    set.vectors().iter().all(|vector| set.inputs()[0].matches(&vector.inputs[0]))
                );
            }
        }
    }
}

#[test]
fn arrays_become_vectors_of_batch_one() {
    let array = |name: &str, rows: usize| {
        let data = TensorData::U8((0..rows * 2).map(|at| at as u8).collect());
        (name.to_owned(), Tensor::new(vec![rows, 2], data).unwrap())
    };
    let set =
        GoldenSet::from_arrays(&[array("in.a", 3), array("out.b", 3), array("note", 1)]).unwrap();
    assert_eq!(
        set.inputs()[0],
        TensorSpec { name: "a".into(), dtype: DType::U8, shape: vec![1, 2] }
    );
    assert_eq!(set.vectors().len(), 3);
    assert_eq!(set.vectors()[2].outputs[0].data(), &TensorData::U8(vec![4, 5]));
    for uneven in [[array("in.a", 3), array("out.b", 2)], [array("in.a", 0), array("out.b", 0)]] {
        assert!(GoldenSet::from_arrays(&uneven).is_err());
    }
    assert!(GoldenSet::from_arrays(&[array("in.a", 3)]).is_err(), "no outputs");
}
