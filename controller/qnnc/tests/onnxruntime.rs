//! onnxruntime is the judge: 10,000 random operators to the bit, whole models on whole sets.

mod common;

use common::{answer, best, cases, root};
use fleetway_qnn::{Kernels, Model};

#[test]
fn ten_thousand_random_operators_are_equal_to_the_bit() {
    let cases = cases("random", &["10000".into(), "1".into()]);
    assert_eq!(cases.len(), 10_000);
    for case in cases {
        let file =
            fleetway_qnnc::compile(&case.model).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let model = Model::load(&file).expect("the compiler had it loaded");
        for kernels in Kernels::all() {
            for (inputs, outputs) in &case.runs {
                let found = answer(&model, kernels, inputs);
                assert!(found == *outputs, "{}: {} differs", kernels.name(), case.name);
            }
        }
    }
}

#[test]
fn small_graphs_are_within_one_step_of_their_literal_meaning() {
    let cases = cases("graphs", &["3000".into(), "5".into()]);
    let (mut different, mut all) = (0, 0);
    for case in cases {
        let file =
            fleetway_qnnc::compile(&case.model).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let model = Model::load(&file).expect("the compiler had it loaded");
        let scale = model.outputs().next().map_or(1.0, |(_, io)| io.scale);
        let (inputs, outputs) = &case.runs[0];
        let expected = answer(&model, Kernels::portable(), inputs);
        for kernels in Kernels::all() {
            let found = answer(&model, kernels, inputs);
            assert!(found == expected, "{}: {} differs", kernels.name(), case.name);
        }
        let pairs = common::reals_of(&expected[0]).zip(common::reals_of(&outputs[0]));
        let steps: Vec<f32> = pairs.map(|(a, b)| (a - b).abs() / scale).collect();
        assert_eq!(steps.len(), common::reals_of(&outputs[0]).count(), "{}", case.name);
        let most = steps.iter().copied().fold(0.0, f32::max);
        assert!(most < 1.01, "{}: {most} steps", case.name);
        different += steps.iter().filter(|&&steps| steps > 0.5).count();
        all += steps.len();
    }
    println!("{different} of {all} differ by a step");
    assert!(different * 1000 < all, "{different} of {all} differ by a step");
}

#[test]
fn the_shipped_models_answer_every_held_out_image_as_onnxruntime_does() {
    let digits = root().join("tests/models/digits");
    let path = |name: &str| digits.join(name).to_string_lossy().into_owned();
    let mut args = vec![path("heldout.npz")];
    let names = ["digits-v1", "digits-v2", "digits-v3", "digits-v4", "softmax-tail"];
    args.extend(names.iter().map(|name| path(&format!("{name}.onnx"))));
    let cases = cases("models", &args);
    assert_eq!(cases.len(), names.len());
    for case in cases {
        let file =
            fleetway_qnnc::compile(&case.model).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let model = Model::load(&file).expect("the compiler had it loaded");
        assert_eq!(case.runs.len(), 450);
        for kernels in Kernels::all() {
            let mut different = 0;
            for (inputs, outputs) in &case.runs {
                let found = answer(&model, kernels, inputs);
                assert_eq!(best(&found[0]), best(&outputs[0]), "{}", case.name);
                different += usize::from(found != *outputs);
            }
            println!("{}: {}, {different} of 450 differ in a bit", kernels.name(), case.name);
        }
    }
}

/// Random weights make flat outputs: steps are counted here, not classes.
#[test]
fn generated_networks_are_within_a_few_steps() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut models = common::generated(dir.path());
    // And those of a directory, if somebody names one.
    if let Some(dir) = std::env::var_os("FLEETWAY_QNN_MODELS") {
        let files = std::fs::read_dir(dir).expect("FLEETWAY_QNN_MODELS is a directory");
        let paths = files.map(|file| file.expect("a file").path());
        let onnx = paths.filter(|path| path.extension().is_some_and(|end| end == "onnx"));
        models.extend(onnx.map(|path| path.to_string_lossy().into_owned()));
    }
    check_nets(&models);
}

/// Steps of the output that whole networks may differ: an operator may by one, and dozens follow each other.
const STEPS_MAX: f32 = 8.5;

fn check_nets(paths: &[String]) {
    let cases = cases("nets", paths);
    assert_eq!(cases.len(), paths.len());
    for case in cases {
        let file =
            fleetway_qnnc::compile(&case.model).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let model = Model::load(&file).expect("the compiler had it loaded");
        let expected = answer(&model, Kernels::portable(), &case.runs[0].0);
        for kernels in Kernels::all() {
            assert_eq!(answer(&model, kernels, &case.runs[0].0), expected, "{}", case.name);
            let (mut steps, mut different, mut all) = (0.0_f32, 0, 0);
            let scale = model.outputs().next().map_or(1.0, |(_, io)| io.scale);
            for (inputs, outputs) in &case.runs {
                let found = answer(&model, kernels, inputs);
                for (found, expected) in
                    common::reals_of(&found[0]).zip(common::reals_of(&outputs[0]))
                {
                    let apart = (found - expected).abs() / scale;
                    steps = steps.max(apart);
                    different += usize::from(apart > 0.5);
                    all += 1;
                }
            }
            let name = kernels.name();
            println!(
                "{name}: {}: {different} of {all} differ, at most {steps:.1} steps",
                case.name
            );
            assert!(steps < STEPS_MAX, "{name}: {}: {steps} steps", case.name);
        }
    }
}

#[test]
fn onnx_node_tests_pass_or_are_refused_and_none_fails() {
    let (mut passed, mut unsupported, mut failed) = (vec![], vec![], vec![]);
    for case in cases("nodes", &[]) {
        let file = match fleetway_qnnc::compile(&case.model) {
            Ok(file) => file,
            Err(error) => {
                unsupported.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        let model = Model::load(&file).expect("the compiler had it loaded");
        assert!(!case.runs.is_empty(), "{} compiles, and has types that are not ours", case.name);
        let equal = case.runs.iter().all(|(inputs, outputs)| {
            Kernels::all().all(|kernels| answer(&model, kernels, inputs) == *outputs)
        });
        if equal { passed.push(case.name) } else { failed.push(case.name) }
    }
    println!("passed: {passed:#?}\nunsupported: {unsupported:#?}\nfailed: {failed:#?}");
    assert!(failed.is_empty(), "{failed:?}");
    assert!(passed.len() >= 5, "only {} passed", passed.len());
}
