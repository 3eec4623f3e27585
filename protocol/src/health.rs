//! How a release on trial is judged: error rate, 95th percentile of the latency, and
//! collapse of its answers, over the last answers it gave to real requests.
//!
//! Too little evidence is no verdict: a release is confirmed only when both its time and
//! its answers are complete, and refused as soon as the evidence is enough.

use crate::histogram::Histogram;
use crate::limits::{CLASSES_MAX, HEALTH_WINDOW_ANSWERS};
use crate::order::Policy;
use crate::reason::Reason;

/// Answers needed before a release is refused, unless the policy asks for fewer: below
/// this, one slow answer or one unlucky run of a class would look like a trend.
pub const REFUSAL_ANSWERS_MIN: u32 = 20;

/// One answer of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How long it took, microseconds.
    pub latency_us: u32,
    /// Whether it was an answer at all.
    pub ok: bool,
    /// Index of the largest output, if the model has classes.
    pub class: Option<u16>,
}

/// The answers that a judgement looks at.
#[derive(Clone, Debug)]
pub struct HealthWindow {
    started_ms: u64,
    answers: [Answer; HEALTH_WINDOW_ANSWERS],
    /// All answers since the start; the window holds the last of them.
    total: u64,
}

impl HealthWindow {
    /// A window that starts now (monotonic milliseconds).
    pub fn new(now_ms: u64) -> Self {
        let nothing = Answer { latency_us: 0, ok: true, class: None };
        Self { started_ms: now_ms, answers: [nothing; HEALTH_WINDOW_ANSWERS], total: 0 }
    }

    /// Counts an answer.
    pub fn record(&mut self, answer: Answer) {
        self.answers[(self.total % HEALTH_WINDOW_ANSWERS as u64) as usize] = answer;
        self.total += 1;
    }

    /// Answers since the start.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Milliseconds since the start.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.started_ms)
    }

    /// The verdict by `policy`, `None` while there is too little evidence.
    pub fn judge(&self, now_ms: u64, policy: &Policy) -> Option<Result<(), Reason>> {
        let held = self.total.min(HEALTH_WINDOW_ANSWERS as u64) as usize;
        // A policy that needs few answers is refused by few; one that needs none is not
        // refused by one.
        let needed = match policy.probation_answers {
            0 => REFUSAL_ANSWERS_MIN,
            answers => REFUSAL_ANSWERS_MIN.min(answers),
        };
        if held >= needed as usize
            && let Some(reason) = refuse(&self.answers[..held], policy)
        {
            return Some(Err(reason));
        }
        let complete = self.age_ms(now_ms) >= u64::from(policy.probation_s) * 1000
            && self.total >= u64::from(policy.probation_answers);
        complete.then_some(Ok(()))
    }
}

fn permille(part: usize, whole: usize) -> usize {
    (part * 1000).checked_div(whole).unwrap_or(0)
}

fn refuse(answers: &[Answer], policy: &Policy) -> Option<Reason> {
    let failed = answers.iter().filter(|a| !a.ok).count();
    if permille(failed, answers.len()) > usize::from(policy.error_permille_max) {
        return Some(Reason::HealthErrors);
    }
    let mut latency = Histogram::new();
    let mut classes = [0usize; CLASSES_MAX];
    let mut classified = 0;
    for answer in answers.iter().filter(|a| a.ok) {
        latency.record(u64::from(answer.latency_us));
        if let Some(class) = answer.class {
            classes[usize::from(class).min(CLASSES_MAX - 1)] += 1;
            classified += 1;
        }
    }
    let p95_us = latency.quantile_us(950);
    if policy.p95_us_max > 0 && p95_us.is_some_and(|p| p > u64::from(policy.p95_us_max)) {
        return Some(Reason::HealthLatency);
    }
    let top = classes.iter().copied().max().unwrap_or(0);
    // Of a handful of classified answers one class easily has all.
    if classified >= REFUSAL_ANSWERS_MIN as usize
        && permille(top, classified) > usize::from(policy.collapse_permille_max)
    {
        return Some(Reason::HealthCollapse);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            probation_s: 5,
            probation_answers: 50,
            error_permille_max: 20,
            p95_us_max: 10_000,
            collapse_permille_max: 800,
            ..Policy::default()
        }
    }

    fn judged(answers: impl Iterator<Item = Answer>, age_ms: u64) -> Option<Result<(), Reason>> {
        let mut window = HealthWindow::new(1_000);
        answers.for_each(|a| window.record(a));
        window.judge(1_000 + age_ms, &policy())
    }

    fn answer(n: u32) -> Answer {
        Answer { latency_us: 900, ok: true, class: Some((n % 10) as u16) }
    }

    #[test]
    fn confirmed_only_when_time_and_answers_are_complete() {
        assert_eq!(judged((0..50).map(answer), 4_999), None);
        assert_eq!(judged((0..49).map(answer), 60_000), None);
        assert_eq!(judged((0..50).map(answer), 5_000), Some(Ok(())));
        assert_eq!(judged(core::iter::empty(), u64::MAX - 1_000), None);
    }

    #[test]
    fn each_fault_has_its_reason_and_needs_evidence() {
        let check = |bad: fn(u32) -> Answer, reason| {
            assert_eq!(judged((0..19).map(bad), 0), None);
            assert_eq!(judged((0..40).map(bad), 0), Some(Err(reason)));
        };
        check(|n| Answer { ok: n % 10 != 0, ..answer(n) }, Reason::HealthErrors);
        check(|n| Answer { latency_us: 20_000, ..answer(n) }, Reason::HealthLatency);
        check(|n| Answer { class: Some(3), ..answer(n) }, Reason::HealthCollapse);
    }

    #[test]
    fn old_answers_leave_the_window() {
        let bad = (0..100).map(|n| Answer { ok: false, ..answer(n) });
        let good = (0..HEALTH_WINDOW_ANSWERS as u32).map(answer);
        assert_eq!(judged(bad.chain(good), 5_000), Some(Ok(())));
    }
}
