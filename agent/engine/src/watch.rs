//! What is read off one answer: its class, how sure it is, and the numbers that its release
//! watches. The same code at import, where the reference is made, and on a device that is held
//! against it.

use crate::tensor::{Tensor, TensorData, TensorSpec};
use fleetway_protocol::counters::{Confidence, Scores};
use fleetway_protocol::drift::{self, Reference, Watch};
use fleetway_protocol::health::{Answer, Health};
use fleetway_protocol::limits::WATCHED_MAX;

/// What to look at in the answers of one release.
#[derive(Clone, Debug, Default)]
pub struct Watcher {
    scores: Option<Scores>,
    reference: Reference,
}

impl Watcher {
    /// What a manifest says is to be watched.
    pub fn new(health: &Health) -> Self {
        Self { scores: health.scores, reference: health.reference.clone() }
    }

    /// The answer that these inputs got, as it is counted: of several rows in one request the
    /// first, so that one answer is one sample, as at import. Allocates nothing, and looks at a
    /// bounded number of elements.
    pub fn answer(
        &self,
        latency_us: u32,
        specs: &[TensorSpec],
        inputs: &[Tensor],
        outputs: &[Tensor],
    ) -> Answer {
        let (output, rows) = (outputs.first(), rows(specs, inputs));
        let class = output.and_then(|output| top_class(output, rows));
        let mut answer = Answer::ok(latency_us, class);
        answer.confidence = self
            .scores
            .zip(output)
            .zip(class)
            .map(|((scores, output), class)| confidence(scores, output, rows, class));
        for (bin, watched) in answer.bins.iter_mut().zip(&self.reference.watched) {
            let value = match watched.what {
                Watch::Confidence => answer.confidence.map(Confidence::share),
                of_input => number(of_input, inputs, rows),
            };
            *bin = value.map(|value| watched.bin(value));
        }
        answer
    }
}

const _: () = assert!(WATCHED_MAX <= u8::MAX as usize);

/// Rows of a request: how often the model's own shape fits into what came.
fn rows(specs: &[TensorSpec], inputs: &[Tensor]) -> usize {
    let first = |shape: &[usize]| shape.first().copied().unwrap_or(1).max(1);
    let (spec, input) = (specs.first(), inputs.first());
    spec.zip(input).map_or(1, |(spec, input)| (first(input.shape()) / first(&spec.shape)).max(1))
}

/// A number that is read off the first of so many rows of the inputs; `None` if there is no such element, or if it is of the
/// answer.
pub fn number(watch: Watch, inputs: &[Tensor], rows: usize) -> Option<f32> {
    let input = |at: u8| inputs.get(usize::from(at)).map(Tensor::data);
    match watch {
        Watch::Mean { input: at } => input(at).map(|data| summary(data, rows, false)),
        Watch::Spread { input: at } => input(at).map(|data| summary(data, rows, true)),
        Watch::Element { input: of, at } => {
            let data = input(of)?;
            let at = Some(at as usize).filter(|at| *at < data.len() / rows)?;
            data.get_f64(at).map(|x| x as f32)
        }
        Watch::Confidence => None,
    }
}

/// Mean or spread of the elements of the first row.
fn summary(data: &TensorData, rows: usize, spread: bool) -> f32 {
    let of = if spread { drift::spread } else { drift::mean };
    let len = data.len() / rows;
    match data {
        TensorData::F32(values) => of(len, &|at| values[at]),
        other => of(len, &|at| other.get_f64(at).unwrap_or(f64::NAN) as f32),
    }
}

/// Index of the largest element of the first of so many rows, the first of equals, if a row is
/// one vector of classes.
pub fn top_class(output: &Tensor, rows: usize) -> Option<u16> {
    let length = output.data().len() / rows;
    let is_vector = length >= 2 && output.shape().contains(&length);
    if !is_vector {
        return None;
    }
    let value = |at: usize| output.data().get_f64(at).unwrap_or(f64::NEG_INFINITY);
    let top = (1..length).fold(0, |top, at| if value(at) > value(top) { at } else { top });
    u16::try_from(top).ok()
}

/// How sure an answer is of its class.
pub fn confidence(scores: Scores, output: &Tensor, rows: usize, class: u16) -> Confidence {
    let data = output.data();
    let score = |at: usize| data.get_f64(at).unwrap_or(f64::NEG_INFINITY) as f32;
    Confidence::of_scores(scores, data.len() / rows, class.into(), score)
}

/// Whether all elements could be shares of a whole.
pub fn are_shares(output: &Tensor) -> bool {
    let data = output.data();
    (0..data.len()).all(|at| data.get_f64(at).is_some_and(|x| (0.0..=1.0).contains(&x)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use fleetway_protocol::drift::{BINS, Watched};

    #[test]
    fn an_answer_is_read_off() {
        let watched = |what| Watched {
            what,
            edges: core::array::from_fn(|at| at as f32),
            counts: [50; BINS],
        };
        let numbers = [
            Watch::Mean { input: 0 },
            Watch::Spread { input: 0 },
            Watch::Element { input: 0, at: 2 },
            Watch::Element { input: 0, at: 9 },
            Watch::Mean { input: 7 },
        ];
        let mut health = Health { scores: Some(Scores::Logits), ..Health::default() };
        health.reference.watched = numbers.into_iter().map(watched).collect();
        let inputs = [Tensor::from_f32(&[1, 3], vec![1.0, 2.0, 6.0]).unwrap()];
        let outputs = [Tensor::from_f32(&[1, 2], vec![0.0, 3f32.ln()]).unwrap()];
        let spec = TensorSpec { name: "x".into(), dtype: DType::F32, shape: vec![1, 3] };
        let specs = [spec];
        let watcher = Watcher::new(&health);
        let answer = watcher.answer(9, &specs, &inputs, &outputs);
        assert_eq!((answer.latency_us, answer.ok, answer.class), (9, true, Some(1)));
        assert!((answer.confidence.unwrap().share() - 0.75).abs() < 1e-3);
        // Mean 3, deviation 2.16, element 6; what is not there has no bin.
        assert_eq!(answer.bins, [Some(3), Some(3), Some(6), None, None, None]);
        // Of three rows the first, and not their mean.
        let rows = vec![1.0, 2.0, 6.0, 100.0, 100.0, 100.0, -100.0, 0.0, 0.0];
        let inputs3 = [Tensor::from_f32(&[3, 3], rows).unwrap()];
        let scores = vec![0.0, 3f32.ln(), 9.0, 0.0, 9.0, 0.0];
        let outputs3 = [Tensor::from_f32(&[3, 2], scores).unwrap()];
        assert_eq!(watcher.answer(9, &specs, &inputs3, &outputs3), answer);
        // Nothing is watched where the manifest says nothing.
        let plain = Watcher::default().answer(9, &specs, &inputs, &outputs);
        assert_eq!(plain, Answer::ok(9, Some(1)));
    }

    #[test]
    fn only_one_vector_has_a_class() {
        let class = |shape: &[usize], values: &[f32]| {
            top_class(&Tensor::from_f32(shape, values.to_vec()).unwrap(), 1)
        };
        assert_eq!(class(&[1, 3], &[1.0, 2.0, 2.0]), Some(1));
        assert_eq!(class(&[1, 3, 1, 1], &[1.0, 2.0, 3.0]), Some(2));
        assert_eq!(class(&[1, 1], &[1.0]), None);
        assert_eq!(class(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), None);
    }
}
