//! Reference samples through a real child: what is read off them is what the model answers.
#![allow(clippy::unwrap_used, reason = "a test stops where the unexpected happens")]

use fleetway_engine::samples::{SampleBatch, SampleSet, SamplesError};
use fleetway_engine::selftest::{Candidate, SelfTest, SelfTestError};
use fleetway_protocol::counters::Confidence;
use fleetway_protocol::drift::Watch;
use std::path::PathBuf;

fn digits(name: &str) -> Vec<u8> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/digits");
    std::fs::read(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn child() -> SelfTest {
    SelfTest::with_exe(env!("CARGO_BIN_EXE_fleetway-engine-child").into())
}

fn batch(model: &str, watch: &[Watch]) -> SampleBatch {
    // The golden vectors are the most typical 0 to 7.
    let set = SampleSet::from_npz(&digits(&format!("{model}.golden.npz"))).unwrap();
    assert_eq!((set.inputs().collect::<Vec<_>>(), set.len()), (vec!["image"], 8));
    let mut batches = set.batches(watch).unwrap();
    assert_eq!(batches.len(), 1);
    batches.remove(0)
}

#[test]
fn samples_are_run_and_read_off() {
    let watch = [Watch::Mean { input: 0 }, Watch::Element { input: 0, at: 99 }, Watch::Confidence];
    for (model, shares) in [("digits-v2", false), ("softmax-tail", true)] {
        let batch = batch(model, &watch);
        let found =
            child().sample(Candidate::onnx(&digits(&format!("{model}.onnx"))), &batch).unwrap();
        assert_eq!(found.watch, watch);
        let classes: Vec<_> = found.samples.iter().filter_map(|s| s.class).collect();
        assert_eq!(classes, [0, 1, 2, 3, 4, 5, 6, 7], "{model}");
        for (sample, given) in found.samples.iter().zip(&batch.samples) {
            let pixels = given[0].as_f32().unwrap();
            let mean = pixels.iter().sum::<f32>() / pixels.len() as f32;
            assert!((sample.numbers[0].unwrap() - mean).abs() < 1e-4, "{sample:?}");
            assert_eq!(sample.numbers[1..], [None, None]);
            assert_eq!(sample.shares, shares, "{model}: {sample:?}");
            let sure = if shares { sample.as_probabilities } else { sample.as_logits };
            assert!(sure > Confidence::of_share(0.8), "{model}: {sample:?}");
        }
    }
}

#[test]
fn another_models_samples_are_refused() {
    let mut batch = batch("digits-v2", &[Watch::Confidence]);
    batch.inputs[0].name = "picture".into();
    let error = child().sample(Candidate::onnx(&digits("digits-v2.onnx")), &batch).unwrap_err();
    assert!(matches!(&error, SelfTestError::Run { text } if text.contains("image")), "{error}");
}

#[test]
fn what_is_no_set_of_samples_is_told() {
    let error = SampleSet::from_npz(&digits("heldout.npz")).unwrap_err();
    assert_eq!(error, SamplesError::NoInputs);
    assert!(SampleSet::from_npz(b"nothing").is_err());
}
