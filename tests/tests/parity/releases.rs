//! The releases of a trace: the digits models, compiled, with their golden vectors; good, bad and told
//! to hang.

use std::sync::OnceLock;

use fleetway_engine::golden::GoldenVector;
use fleetway_engine::tensor::TensorData;
use fleetway_engine::{GoldenSet, Tensor};
use fleetway_protocol::ids::Digest;
use fleetway_qnn::{Input, Kernels, Model, Output};
use fleetway_tests::harness::digits::model_dir;

use crate::fleet::{Fleet, Nature};

/// Good ones.
pub(crate) const V1: usize = 0;
pub(crate) const V2: usize = 1;
/// Golden vectors of another model.
pub(crate) const WRONG: usize = 2;
/// Its own golden vectors, the last bit of the last answer altered.
pub(crate) const NEARLY: usize = 3;
/// Says the same of everything, and its policy does not bear that.
pub(crate) const COLLAPSES: usize = 4;
/// Takes the device with it once it serves.
pub(crate) const HANGS: usize = 5;
/// Does not come back from its self-test.
pub(crate) const HANGS_IN_TEST: usize = 6;
/// For another class.
pub(crate) const OTHER_HARDWARE: usize = 7;
/// Another good one: what was confirmed before is then below the floor.
pub(crate) const V3: usize = 8;
/// How many there are.
pub(crate) const COUNT: usize = 9;

/// Made once: compiling takes a moment.
pub(crate) fn fleet() -> &'static Fleet {
    static FLEET: OnceLock<Fleet> = OnceLock::new();
    FLEET.get_or_init(made)
}

/// Whether that is a release of this nature.
pub(crate) fn is(release: Option<Digest>, nature: Nature) -> bool {
    fleet().releases.iter().any(|r| Some(r.digest) == release && r.nature == nature)
}

fn made() -> Fleet {
    let (v1, v2) = (compiled("digits-v1"), compiled("digits-v2"));
    let (golden_v1, golden_v2) = (golden("digits-v1", &v1), golden("digits-v2", &v2));
    let mut nearly = golden_v2.clone();
    // Before the end: the last number is a float, its lowest byte comes first.
    *nearly.iter_mut().rev().nth(3).unwrap() ^= 1;
    let mut fleet = Fleet::empty();
    fleet.publish(Nature::Good, v1.clone(), golden_v1.clone());
    fleet.publish(Nature::Good, v2.clone(), golden_v2.clone());
    fleet.publish(Nature::WrongAnswers, v2.clone(), golden_v1.clone());
    fleet.publish(Nature::WrongAnswers, v2.clone(), nearly);
    fleet.publish(Nature::Unhealthy, v1.clone(), golden_v1.clone());
    fleet.publish(Nature::Hangs, v2.clone(), golden_v2.clone());
    fleet.publish(Nature::HangsInTest, v1.clone(), golden_v1.clone());
    fleet.publish(Nature::OtherHardware, v2, golden_v2);
    fleet.publish(Nature::Good, v1, golden_v1);
    fleet
}

fn compiled(name: &str) -> Vec<u8> {
    let onnx = std::fs::read(model_dir().join(format!("{name}.onnx"))).unwrap();
    fleetway_qnnc::compile(&onnx).unwrap()
}

/// The inputs of a model's golden vectors with what it answers itself, as import makes them.
fn golden(name: &str, file: &[u8]) -> Vec<u8> {
    let npz = std::fs::read(model_dir().join(format!("{name}.golden.npz"))).unwrap();
    let set = GoldenSet::from_npz(&npz).unwrap();
    let model = Model::load(file).unwrap();
    let own = |vector: &GoldenVector| {
        let TensorData::F32(input) = vector.inputs[0].data() else { panic!("floats") };
        let shape = vector.outputs[0].shape().to_vec();
        let mut output = vec![0.0; shape.iter().product()];
        let mut arena = vec![0; model.arena_bytes()];
        let (inputs, outputs) = ([Input::F32(input)], &mut [Output::F32(&mut output)]);
        model.run(Kernels::best(), &mut arena, &inputs, outputs).unwrap();
        let outputs = vec![Tensor::new(shape, TensorData::F32(output)).unwrap()];
        GoldenVector { inputs: vector.inputs.clone(), outputs }
    };
    let vectors = set.vectors().iter().map(own).collect();
    let own = GoldenSet::new(set.inputs().to_vec(), set.outputs().to_vec(), vectors).unwrap();
    own.encode().unwrap()
}
