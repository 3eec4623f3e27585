//! What is read off one answer: its class, how sure it is, and the numbers that its release
//! watches. `agent/engine/src/watch.rs` reads the same of the tensors of a Linux device.

use fleetway_protocol::counters::Confidence;
use fleetway_protocol::drift::{self, Watch};
use fleetway_protocol::health::{Answer, Health};

/// The answer `output` to `input`, as it is counted.
pub fn answer(latency_us: u32, input: &[f32], output: &[f32], health: &Health) -> Answer {
    let class = top_class(output);
    let mut answer = Answer::ok(latency_us, class);
    answer.confidence = health.scores.zip(class).map(|(scores, class)| {
        Confidence::of_scores(scores, output.len(), class.into(), |at| output[at])
    });
    for (bin, watched) in answer.bins.iter_mut().zip(&health.reference.watched) {
        let value = match watched.what {
            Watch::Confidence => answer.confidence.map(Confidence::share),
            Watch::Mean { input: 0 } => Some(drift::mean(input.len(), &|at| input[at])),
            Watch::Spread { input: 0 } => Some(drift::spread(input.len(), &|at| input[at])),
            Watch::Element { input: 0, at } => input.get(at as usize).copied(),
            _ => None,
        };
        *bin = value.map(|value| watched.bin(value));
    }
    answer
}

/// Index of the largest element, the first of equals; none for a single number.
fn top_class(output: &[f32]) -> Option<u16> {
    let top = |top, at| if output[at] > output[top] { at } else { top };
    (output.len() >= 2).then(|| (1..output.len()).fold(0, top)).and_then(|at| at.try_into().ok())
}
