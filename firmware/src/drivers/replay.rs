//! A sensor for boards that have none, such as emulated ones: it shows the factory model's golden
//! inputs again and again.

use crate::golden;
use crate::hardware::Sensor;

/// The sensor.
pub struct Replay<'g, A> {
    set: &'g [u8],
    next: Option<golden::Place>,
    /// What is done with an answer.
    answered: A,
}

impl<'g, A: FnMut(&[f32])> Replay<'g, A> {
    /// A sensor that shows the inputs of a golden set.
    pub fn new(set: &'g [u8], answered: A) -> Self {
        Self { set, next: None, answered }
    }
}

impl<A: FnMut(&[f32])> Sensor for Replay<'_, A> {
    fn sample(&mut self, input: &mut [f32]) -> bool {
        let Some(place) = self.next.or_else(|| golden::first(self.set).ok()) else { return false };
        let Ok((shown, _, next)) = golden::vector(self.set, place) else { return false };
        self.next = next;
        shown.copy_to(input).is_ok()
    }

    fn answered(&mut self, output: &[f32]) {
        (self.answered)(output);
    }
}
