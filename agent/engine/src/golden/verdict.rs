//! When an answer counts as the same, and what is said when it does not.

use super::BoundGolden;
use crate::tensor::Tensor;
use fleetway_protocol::manifest::{Manifest, VariantKind};
use serde::{Deserialize, Serialize};
use std::fmt;

/// When an answer counts as the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GoldenRule {
    /// Largest absolute difference of any element, in the output's own unit: probability or logit
    /// for a float output, steps of the quantization for an integer one.
    pub max_abs_err: f32,
    /// Whether the largest element of the first output must be the same one. If several are largest
    /// in the vector, any of them counts. A tie in the engine's answer is no excuse: an answer that
    /// is the same everywhere would agree with anything.
    pub require_same_top1: bool,
}

impl GoldenRule {
    /// The rule for a form of a release: what the manifest says of the ONNX file's answers; and
    /// nothing but the very same answers from a compiled network, whose golden vectors are its own.
    pub fn of(manifest: &Manifest, kind: VariantKind) -> Self {
        match kind {
            VariantKind::Qnn => Self { max_abs_err: 0.0, require_same_top1: false },
            VariantKind::Onnx | VariantKind::Mixed => Self {
                max_abs_err: manifest.golden.abs_err_max,
                require_same_top1: manifest.golden.same_top1,
            },
        }
    }
}

/// Where the largest difference was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// Index of the vector.
    pub vector: u32,
    /// Name of the output.
    pub output: String,
    /// Index of the element in row-major order.
    pub element: u32,
    /// What the vector holds.
    pub want: f64,
    /// What the engine gave.
    pub have: f64,
}

/// The result of checking an engine against a set. `Display` says it in one sentence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoldenVerdict {
    /// Vectors checked.
    pub vectors: u32,
    /// Largest absolute difference; infinite if the engine gave a NaN.
    pub worst_abs_err: f32,
    /// Where it was; `None` if every element agreed exactly.
    pub worst: Option<Worst>,
    /// Vectors whose top-1 agrees.
    pub top1_agree: u32,
    /// First vector whose top-1 differs.
    pub top1_first_bad: Option<u32>,
    /// The rule that it was held to.
    pub rule: GoldenRule,
    /// Whether every vector kept the rule.
    pub passed: bool,
}

impl fmt::Display for GoldenVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vectors, worst_abs_err, top1_agree, rule, .. } = self;
        let verdict = if self.passed { "golden vectors agree" } else { "golden vectors disagree" };
        write!(
            f,
            "{verdict}: top-1 equal on {top1_agree} of {vectors}, worst error {worst_abs_err}"
        )?;
        if let Some(Worst { vector, output, element, want, have }) = &self.worst {
            write!(
                f,
                " (vector {vector}, output `{output}`, element {element}: want {want}, got {have})"
            )?;
        }
        if let Some(vector) = self.top1_first_bad {
            write!(f, ", top-1 differs first in vector {vector}")?;
        }
        write!(f, "; allowed error {}", rule.max_abs_err)?;
        if rule.require_same_top1 { f.write_str(", same top-1 required") } else { Ok(()) }
    }
}

/// How one answer differs from another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Largest absolute difference of any element; infinite where one is a NaN, or where the two
    /// have not the same shape.
    pub abs_max: f32,
    /// Whether an application would take them for the same: the same top-1 where the rule asks
    /// for that, because two releases of a classifier never agree in every digit; else every
    /// element within the rule's error.
    pub agrees: bool,
}

/// Compares the answer of a candidate with that of what serves, by the candidate's rule.
pub fn compare(serving: &[Tensor], candidate: &[Tensor], rule: GoldenRule) -> Difference {
    let same_form = serving.len() == candidate.len()
        && serving.iter().zip(candidate).all(|(a, b)| a.shape() == b.shape());
    if !same_form {
        return Difference { abs_max: f32::INFINITY, agrees: false };
    }
    let mut abs_max: f32 = 0.0;
    for (want, have) in serving.iter().zip(candidate) {
        for at in 0..want.data().len() {
            abs_max = abs_max.max(abs_err(number(want, at), number(have, at)));
        }
    }
    let agrees = match (rule.require_same_top1, serving.first(), candidate.first()) {
        (true, Some(want), Some(have)) => same_top1(want, have),
        _ => abs_max <= rule.max_abs_err,
    };
    Difference { abs_max, agrees }
}

/// Equal infinities are equal; a NaN on one side is an infinite error, never a pass.
fn abs_err(want: f64, have: f64) -> f32 {
    let same = want == have || (want.is_nan() && have.is_nan());
    let error = if same { 0.0 } else { (want - have).abs() };
    #[allow(clippy::cast_possible_truncation)]
    if error.is_nan() { f32::INFINITY } else { error as f32 }
}

/// Compares answers one vector at a time.
pub(crate) struct Tally(GoldenVerdict);

impl Tally {
    pub(crate) fn new(rule: GoldenRule) -> Self {
        Self(GoldenVerdict {
            vectors: 0,
            worst_abs_err: 0.0,
            worst: None,
            top1_agree: 0,
            top1_first_bad: None,
            rule,
            passed: false,
        })
    }

    /// `have` are the engine's outputs, in its order and matching its specifications.
    pub(crate) fn add(&mut self, bound: &BoundGolden<'_>, vector: usize, have: &[Tensor]) {
        let at = u32::try_from(vector).unwrap_or(u32::MAX);
        self.0.vectors += 1;
        for (index, spec) in bound.set.outputs.iter().enumerate() {
            let want = &bound.set.vectors[vector].outputs[index];
            let have = &have[bound.outs[index]];
            self.compare(at, &spec.name, want, have);
            if index > 0 {
                continue;
            }
            if same_top1(want, have) {
                self.0.top1_agree += 1;
            } else {
                self.0.top1_first_bad.get_or_insert(at);
            }
        }
    }

    fn compare(&mut self, vector: u32, output: &str, want: &Tensor, have: &Tensor) {
        for element in 0..want.data().len() {
            let (want, have) = (number(want, element), number(have, element));
            let error = abs_err(want, have);
            if error > self.0.worst_abs_err {
                let element = u32::try_from(element).unwrap_or(u32::MAX);
                self.0.worst_abs_err = error;
                self.0.worst =
                    Some(Worst { vector, output: output.to_owned(), element, want, have });
            }
        }
    }

    pub(crate) fn verdict(mut self) -> GoldenVerdict {
        let verdict = &mut self.0;
        // Written so that a NaN in the rule passes nothing.
        let close = verdict.worst_abs_err <= verdict.rule.max_abs_err;
        verdict.passed =
            close && (!verdict.rule.require_same_top1 || verdict.top1_first_bad.is_none());
        self.0
    }
}

fn number(tensor: &Tensor, at: usize) -> f64 {
    tensor.data().get_f64(at).unwrap_or(f64::NAN)
}

/// Index and value of the first largest element; a NaN is smaller than everything.
fn top1(tensor: &Tensor) -> (usize, f64) {
    let numbers = (0..tensor.data().len()).map(|at| (at, number(tensor, at)));
    numbers.fold((0, f64::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best })
}

/// The engine's choice must be a largest element of the vector.
fn same_top1(want: &Tensor, have: &Tensor) -> bool {
    let (want_at, want_max) = top1(want);
    let (have_at, _) = top1(have);
    want_at == have_at || number(want, have_at) == want_max
}
