//! The forms of a release: the ONNX file that came, and what is compiled from it at import.
//!
//! An int8 network becomes one qnn file, the same on a server and on a microcontroller; of a graph that
//! is int8 in parts, the parts do. A compiled form is offered only if it agrees with the golden vectors
//! of onnxruntime, within the release's own rule. A qnn file answers the same bits everywhere
//! (`docs/qnn.md`), so that what it answers here becomes its own golden vectors, which every device
//! must meet exactly.

use fleetway_engine::golden::GoldenVector;
use fleetway_engine::selftest::{Candidate, SelfTest, Worker, WorkerError};
use fleetway_engine::{GoldenRule, GoldenSet, Tensor, TensorSpec};
use fleetway_protocol::manifest::VariantKind;

/// Where the files of a form are in a release's directory.
pub(super) struct Names {
    pub(super) model: &'static str,
    pub(super) golden: &'static str,
    pub(super) model_chunks: &'static str,
    pub(super) golden_chunks: &'static str,
}

/// Of each form. A mixed graph is held against the golden vectors of the ONNX file.
pub(super) fn names(kind: VariantKind) -> Names {
    let (model, golden, model_chunks, golden_chunks) = match kind {
        VariantKind::Onnx => ("model.onnx", "golden.bin", "model.chunks", "golden.chunks"),
        VariantKind::Qnn => {
            ("model.qnn", "golden-qnn.bin", "model-qnn.chunks", "golden-qnn.chunks")
        }
        VariantKind::Mixed => {
            ("model-mixed.onnx", "golden.bin", "model-mixed.chunks", "golden.chunks")
        }
    };
    Names { model, golden, model_chunks, golden_chunks }
}

/// A form and the golden vectors that it is held against.
pub(super) struct Form {
    pub(super) kind: VariantKind,
    pub(super) model: Vec<u8>,
    pub(super) golden: Vec<u8>,
}

/// What was compiled, and what the importer should know of it.
#[derive(Default)]
pub(super) struct Compiled {
    pub(super) form: Option<Form>,
    pub(super) notes: Vec<String>,
    /// Why there is no qnn form, if there is none.
    pub(super) why_not: Option<String>,
}

impl Compiled {
    /// Nothing, and why.
    pub(super) fn not(why: &str) -> Self {
        Self { why_not: Some(why.to_owned()), ..Self::default() }
    }
}

/// Compiles an ONNX file as far as it is int8, and tries what comes out.
pub(super) fn compile(
    onnx: &[u8],
    set: &GoldenSet,
    golden: &[u8],
    rule: GoldenRule,
    test: &SelfTest,
) -> Compiled {
    let whole = match fleetway_qnnc::compile(onnx) {
        Ok(file) => file,
        Err(error) => return mixed(onnx, golden, rule, test, &error.to_string()),
    };
    let candidate = Candidate { kind: VariantKind::Qnn, bytes: &whole };
    let own = || own_golden(test, candidate, set);
    match tried(test, candidate, golden, rule).and_then(|us| Ok((us, own()?))) {
        Ok((us, golden)) => {
            let notes = vec![format!(
                "compiled: {us} us a run on our own int8 kernels, with the same bits on every device"
            )];
            let form = Some(Form { kind: VariantKind::Qnn, model: whole, golden });
            Compiled { form, notes, why_not: None }
        }
        Err(why) => Compiled { form: None, notes: vec![left_out(&why)], why_not: Some(why) },
    }
}

/// The same for a graph of which only parts are int8; `why` it is not all of it.
fn mixed(onnx: &[u8], golden: &[u8], rule: GoldenRule, test: &SelfTest, why: &str) -> Compiled {
    // Nothing int8 in it, or nothing that is worth a region: a float model, of which there is nothing to say.
    let Ok(mixed) = fleetway_qnnc::compile_mixed(onnx) else { return Compiled::not(why) };
    let candidate = Candidate { kind: VariantKind::Mixed, bytes: &mixed.onnx };
    match tried(test, candidate, golden, rule) {
        Ok(us) => {
            let (regions, left) = (mixed.regions.len(), mixed.left.len());
            let notes = vec![
                format!(
                    "compiled in part: {regions} int8 regions on our own kernels, {left} nodes by tract, {us} us a run"
                ),
                format!("not all of it, so microcontrollers cannot run it: {why}"),
            ];
            let golden = golden.to_vec();
            let form = Some(Form { kind: VariantKind::Mixed, model: mixed.onnx, golden });
            Compiled { form, notes, why_not: Some(why.to_owned()) }
        }
        Err(tried) => {
            Compiled { form: None, notes: vec![left_out(&tried)], why_not: Some(why.to_owned()) }
        }
    }
}

fn left_out(why: &str) -> String {
    format!("not compiled, devices run the ONNX file: {why}")
}

/// Runs the golden vectors of the ONNX file; gives the median latency, microseconds.
fn tried(
    test: &SelfTest,
    candidate: Candidate<'_>,
    golden: &[u8],
    rule: GoldenRule,
) -> Result<u64, String> {
    let report = test.run(candidate, golden, rule).map_err(|error| error.to_string())?;
    Ok(report.run_us_p50)
}

/// The golden inputs with this very file's answers.
fn own_golden(
    test: &SelfTest,
    candidate: Candidate<'_>,
    set: &GoldenSet,
) -> Result<Vec<u8>, String> {
    let mut worker = Worker::start(test, candidate).map_err(|error| error.to_string())?;
    let (inputs, outputs) = (worker.inputs().to_vec(), worker.outputs().to_vec());
    let vectors = set.vectors().iter().map(|vector| {
        let inputs = in_order(&inputs, set, vector)?;
        let answered = worker.run(&inputs, test.deadline);
        let outputs = answered.map_err(|error: WorkerError| error.to_string())?.outputs;
        Ok(GoldenVector { inputs, outputs })
    });
    let vectors = vectors.collect::<Result<Vec<_>, String>>()?;
    let own = GoldenSet::new(inputs, outputs, vectors).map_err(|error| error.to_string())?;
    own.encode().map_err(|error| error.to_string())
}

/// The vector's inputs in the order in which the file takes them.
fn in_order(
    takes: &[TensorSpec],
    set: &GoldenSet,
    vector: &GoldenVector,
) -> Result<Vec<Tensor>, String> {
    let find = |spec: &TensorSpec| {
        let at = set.inputs().iter().position(|given| given.name == spec.name);
        at.and_then(|at| vector.inputs.get(at)).cloned()
    };
    let missing = |spec: &TensorSpec| format!("the golden vectors have no input {spec}");
    takes.iter().map(|spec| find(spec).ok_or_else(|| missing(spec))).collect()
}
