//! How a candidate is judged that runs in the shadow of what serves: it gets copies of real
//! requests, its answers are compared with those that applications got, and go nowhere else.
//!
//! The judge looks at agreement, at failed answers, and at the 95th percentile of the latency
//! beside that of the serving release, over the copies that both answered. It passes when there is
//! enough evidence and every bound holds; it refuses as soon as a bound cannot be kept any
//! more, whatever the rest of the evidence would say. When time is up without enough evidence,
//! the policy says what then.

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::ids::Digest;
use crate::reason::Reason;

/// What is done when there is nothing to judge by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Otherwise {
    /// Goes on without the shadow's word: probation judges.
    Proceed,
    /// Waits for more evidence, for as long as it takes.
    Wait,
    /// Ends the update. Says nothing about the release: another order may try again.
    Fail,
}

/// How a candidate runs in the shadow, and how it is judged there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowPolicy {
    /// Share of the requests that are copied, per thousand.
    pub share_permille: u16,
    /// Copies that must have been answered, failed ones included.
    pub answers_min: u32,
    /// Share of the answers that must agree, per thousand.
    pub agreement_permille_min: u16,
    /// Failed answers per thousand that are tolerated.
    pub error_permille_max: u16,
    /// 95th percentile of the candidate's latency that is tolerated, in percent of that of
    /// the serving release. 0: off.
    pub p95_percent_max: u16,
    /// Seconds that the evidence may take.
    pub s_max: u32,
    /// What then.
    pub otherwise: Otherwise,
    /// What is done when the candidate takes or gives other tensors than what serves:
    /// [`Otherwise::Wait`] makes no sense there, and counts as [`Otherwise::Fail`].
    pub interface_differs: Otherwise,
}

impl Default for ShadowPolicy {
    /// Every tenth request, 200 answers within an hour, 98 % agreement, 1 % errors, at most
    /// twice as slow; without evidence the update ends.
    fn default() -> Self {
        Self {
            share_permille: 100,
            answers_min: 200,
            agreement_permille_min: 980,
            error_permille_max: 10,
            p95_percent_max: 200,
            s_max: 3600,
            otherwise: Otherwise::Fail,
            interface_differs: Otherwise::Fail,
        }
    }
}

/// What came of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Both answered.
    Answered {
        /// Whether the candidate's answer is the same, by the golden rule of its manifest.
        agrees: bool,
        /// Largest absolute difference of any element, millionths.
        diff_millionths: u32,
        /// How long what serves took, microseconds.
        serving_us: u32,
        /// How long the candidate took, microseconds.
        candidate_us: u32,
    },
    /// The candidate gave no answer.
    Failed,
}

/// The numbers of a candidate in the shadow, as they are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowReport {
    /// The candidate.
    pub release: Digest,
    /// Copies that both answered.
    pub compared: u32,
    /// Of these, the ones that agree.
    pub agreed: u32,
    /// Copies that the candidate gave no answer to.
    pub failed: u32,
    /// Copies that were not made because the candidate did not keep up.
    pub dropped: u32,
    /// Largest absolute difference seen, millionths.
    pub diff_millionths_max: u32,
    /// Median of the candidate's latency, microseconds; 0: nothing compared yet.
    pub p50_us: u32,
    /// 95th percentile of the candidate's latency, microseconds.
    pub p95_us: u32,
    /// 95th percentile of what serves, over the same requests.
    pub serving_p95_us: u32,
    /// How it ended, if it has: passed, or why not.
    pub ended: Option<Result<(), Reason>>,
}

/// What was seen of a candidate so far.
#[derive(Clone, Debug)]
pub struct Shadow {
    release: Digest,
    started_ms: u64,
    agreed: u32,
    compared: u32,
    failed: u32,
    dropped: u32,
    diff_millionths_max: u32,
    candidate: Histogram,
    serving: Histogram,
    ended: Option<Result<(), Reason>>,
}

impl Shadow {
    /// Nothing seen yet, from now on (monotonic milliseconds).
    pub fn new(release: Digest, now_ms: u64) -> Self {
        Self {
            release,
            started_ms: now_ms,
            agreed: 0,
            compared: 0,
            failed: 0,
            dropped: 0,
            diff_millionths_max: 0,
            candidate: Histogram::new(),
            serving: Histogram::new(),
            ended: None,
        }
    }

    /// Counts what came of a copy.
    pub fn record(&mut self, of: Compared) {
        match of {
            Compared::Failed => self.failed = self.failed.saturating_add(1),
            Compared::Answered { agrees, diff_millionths, serving_us, candidate_us } => {
                self.compared = self.compared.saturating_add(1);
                self.agreed = self.agreed.saturating_add(agrees.into());
                self.diff_millionths_max = self.diff_millionths_max.max(diff_millionths);
                self.candidate.record(candidate_us.into());
                self.serving.record(serving_us.into());
            }
        }
    }

    /// Counts copies that were not made.
    pub fn record_dropped(&mut self, copies: u32) {
        self.dropped = self.dropped.saturating_add(copies);
    }

    /// The verdict by `policy`, `None` while there is none.
    pub fn judge(&self, now_ms: u64, policy: &ShadowPolicy) -> Option<Result<(), Reason>> {
        if let Some(reason) = self.refuse(policy) {
            return Some(Err(reason));
        }
        if self.answers() >= u64::from(policy.answers_min) {
            return Some(Ok(()));
        }
        match policy.otherwise {
            _ if !self.is_late(now_ms, policy) => None,
            Otherwise::Proceed => Some(Ok(())),
            Otherwise::Wait => None,
            Otherwise::Fail => Some(Err(Reason::ShadowInconclusive)),
        }
    }

    /// Whether time is up.
    pub fn is_late(&self, now_ms: u64, policy: &ShadowPolicy) -> bool {
        now_ms.saturating_sub(self.started_ms) >= u64::from(policy.s_max) * 1000
    }

    fn answers(&self) -> u64 {
        u64::from(self.compared) + u64::from(self.failed)
    }

    /// The bound that does not hold, or cannot any more by the time there is enough evidence.
    fn refuse(&self, policy: &ShadowPolicy) -> Option<Reason> {
        let whole = self.answers().max(policy.answers_min.into());
        let allowed = |permille: u16| whole * u64::from(permille.min(1000)) / 1000;
        if u64::from(self.failed) > allowed(policy.error_permille_max) {
            return Some(Reason::ShadowErrors);
        }
        let differ = u64::from(self.compared - self.agreed);
        if differ > allowed(1000 - policy.agreement_permille_min.min(1000)) {
            return Some(Reason::ShadowDisagrees);
        }
        // A few slow answers at the start say nothing about a percentile.
        if self.answers() < u64::from(policy.answers_min) || policy.p95_percent_max == 0 {
            return None;
        }
        let (candidate, serving) =
            (self.candidate.quantile_us(950)?, self.serving.quantile_us(950)?);
        let slow = candidate * 100 > serving * u64::from(policy.p95_percent_max);
        slow.then_some(Reason::ShadowSlow)
    }

    /// It is over; what is seen from now on does not count.
    pub fn end(&mut self, verdict: Result<(), Reason>) {
        self.ended = Some(verdict);
    }

    /// The numbers.
    pub fn report(&self) -> ShadowReport {
        let quantile = |histogram: &Histogram, permille| {
            histogram.quantile_us(permille).map_or(0, |us| u32::try_from(us).unwrap_or(u32::MAX))
        };
        ShadowReport {
            release: self.release,
            compared: self.compared,
            agreed: self.agreed,
            failed: self.failed,
            dropped: self.dropped,
            diff_millionths_max: self.diff_millionths_max,
            p50_us: quantile(&self.candidate, 500),
            p95_us: quantile(&self.candidate, 950),
            serving_p95_us: quantile(&self.serving, 950),
            ended: self.ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: ShadowPolicy = ShadowPolicy {
        share_permille: 100,
        answers_min: 100,
        agreement_permille_min: 950,
        error_permille_max: 20,
        p95_percent_max: 200,
        s_max: 60,
        otherwise: Otherwise::Fail,
        interface_differs: Otherwise::Fail,
    };

    fn answered(agrees: bool) -> Compared {
        Compared::Answered { agrees, diff_millionths: 3, serving_us: 1_000, candidate_us: 1_100 }
    }

    fn judged(
        seen: &[(usize, Compared)],
        age_ms: u64,
        policy: &ShadowPolicy,
    ) -> Option<Result<(), Reason>> {
        let mut shadow = Shadow::new(Digest([1; 32]), 1_000);
        for (times, of) in seen {
            (0..*times).for_each(|_| shadow.record(*of));
        }
        shadow.judge(1_000 + age_ms, policy)
    }

    #[test]
    fn passes_with_enough_that_agrees() {
        let check =
            |seen: &[_], expected| assert_eq!(judged(seen, 0, &POLICY), expected, "{seen:?}");
        check(&[(99, answered(true))], None);
        check(&[(100, answered(true))], Some(Ok(())));
        check(&[(95, answered(true)), (5, answered(false))], Some(Ok(())));
        check(&[(98, answered(true)), (2, Compared::Failed)], Some(Ok(())));
    }

    #[test]
    fn refuses_as_soon_as_a_bound_cannot_be_kept() {
        let check = |seen: &[_], reason| {
            assert_eq!(judged(seen, 0, &POLICY), Some(Err(reason)), "{seen:?}");
        };
        assert_eq!(judged(&[(5, answered(false))], 0, &POLICY), None);
        check(&[(6, answered(false))], Reason::ShadowDisagrees);
        assert_eq!(judged(&[(2, Compared::Failed)], 0, &POLICY), None);
        check(&[(3, Compared::Failed)], Reason::ShadowErrors);
        let slow = Compared::Answered {
            agrees: true,
            diff_millionths: 0,
            serving_us: 1_000,
            candidate_us: 3_000,
        };
        assert_eq!(judged(&[(99, slow)], 0, &POLICY), None);
        check(&[(100, slow)], Reason::ShadowSlow);
        let off = ShadowPolicy { p95_percent_max: 0, ..POLICY };
        assert_eq!(judged(&[(100, slow)], 0, &off), Some(Ok(())));
    }

    #[test]
    fn too_little_evidence_is_what_the_policy_says() {
        let check = |otherwise, age_ms, expected| {
            let policy = ShadowPolicy { otherwise, ..POLICY };
            assert_eq!(judged(&[(99, answered(true))], age_ms, &policy), expected);
        };
        check(Otherwise::Fail, 59_999, None);
        check(Otherwise::Fail, 60_000, Some(Err(Reason::ShadowInconclusive)));
        check(Otherwise::Proceed, 60_000, Some(Ok(())));
        check(Otherwise::Wait, u64::MAX - 1_000, None);
    }

    #[test]
    fn what_disagrees_is_refused_when_time_is_up_too() {
        let policy = ShadowPolicy { otherwise: Otherwise::Proceed, ..POLICY };
        let seen = [(6, answered(false))];
        assert_eq!(judged(&seen, 60_000, &policy), Some(Err(Reason::ShadowDisagrees)));
    }

    #[test]
    fn the_report_has_the_numbers() {
        let mut shadow = Shadow::new(Digest([1; 32]), 0);
        (0..9).for_each(|_| shadow.record(answered(true)));
        shadow.record(answered(false));
        shadow.record(Compared::Failed);
        shadow.record_dropped(4);
        shadow.end(Err(Reason::ShadowDisagrees));
        let report = shadow.report();
        assert_eq!((report.compared, report.agreed, report.failed), (10, 9, 1));
        assert_eq!((report.dropped, report.diff_millionths_max), (4, 3));
        assert!(report.serving_p95_us >= 1_000 && report.serving_p95_us <= report.p95_us);
        assert_eq!(report.ended, Some(Err(Reason::ShadowDisagrees)));
    }
}
