//! How a release on trial is judged, over the last answers it gave to real requests. The same
//! code on Linux and on a microcontroller, offline if need be.
//!
//! [`HealthPolicy`] (in the signed manifest) holds a bound for each fault: failed answers, slow
//! answers (absolute, or beside the release before), answers collapsed to one class, drift of
//! what comes in and goes out, a shift of the confidence, memory. Each gate needs evidence before
//! it says anything: enough answers of its kind, none older than the window. One gate that fails
//! undoes the release at once; it is confirmed when its time is over and every gate that is on
//! has seen enough; until then it is inconclusive, and the policy says what that means
//! ([`Inconclusive`]). Crashes are counted by the machine, across boots
//! ([`HealthPolicy::crashes_max`]).
//!
//! The window is two panes of counters, each half of it long: the older one is dropped whole. So
//! it spans between half and all of the policy's time, costs the same for ten answers as for a
//! million, and is made of the counters that also go into reports ([`Counters`]).

mod finding;
mod gates;
mod policy;
#[cfg(test)]
mod tests;

pub use crate::counters::Answer;
pub use finding::{Evidence, Finding, Subject};
pub use policy::{
    Health, HealthError, HealthPolicy, HealthView, Inconclusive, PSI_MILLI_MIN, WHOLE_PERMILLE,
};

use crate::counters::Counters;
use crate::order::Terms;
use crate::reason::Reason;
pub use gates::drifts;
use gates::{Gate, gates};

/// Looks at the memory that must all be above a bound: a large request that comes and goes is
/// no leak.
const MEMORY_LOOKS: usize = 4;

/// What is known of a release on trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Healthy,
    /// It goes.
    Unhealthy(Finding),
    /// Not known yet.
    Inconclusive(Missing),
}

/// What a judgement waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The probation's time.
    Time {
        /// Milliseconds since it began.
        have_ms: u64,
        /// Milliseconds needed.
        need_ms: u64,
    },
    /// Answers that tell something of `of`.
    Answers {
        /// Of what.
        of: Subject,
        /// Answers counted.
        have: u32,
        /// Answers needed.
        need: u32,
    },
}

/// The answers that a judgement looks at, and what else is known since the probation began.
#[derive(Clone, Debug)]
pub struct HealthWindow {
    started_ms: u64,
    pane_ms: u64,
    now: Counters,
    before: Counters,
    /// All answers since the start; the panes hold the last of them.
    total: u64,
    /// 95th percentile of the release before, microseconds.
    p95_before_us: Option<u64>,
    memory_start: Option<u64>,
    memory: [Option<u64>; MEMORY_LOOKS],
}

impl HealthWindow {
    /// A window that starts now (monotonic milliseconds). `p95_before_us` is the 95th percentile
    /// of the latency of the release before, if it gave enough answers to know.
    pub fn new(now_ms: u64, p95_before_us: Option<u64>) -> Self {
        Self {
            started_ms: now_ms,
            pane_ms: now_ms,
            now: Counters::new(),
            before: Counters::new(),
            total: 0,
            p95_before_us,
            memory_start: None,
            memory: [None; MEMORY_LOOKS],
        }
    }

    /// Counts an answer.
    pub fn record(&mut self, answer: &Answer) {
        self.now.record(answer);
        self.total = self.total.saturating_add(1);
    }

    /// Notes the resident memory of the process, in bytes. Once a second or so.
    pub fn note_memory(&mut self, resident_bytes: u64) {
        self.memory_start.get_or_insert(resident_bytes);
        self.memory.rotate_right(1);
        self.memory[0] = Some(resident_bytes);
    }

    /// Answers since the start.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Milliseconds since the start.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.started_ms)
    }

    /// The verdict by what the manifest says and what the order adds. Call it often: it also
    /// drops what is too old.
    pub fn judge(&mut self, now_ms: u64, health: &Health, terms: &Terms) -> Verdict {
        let policy = health.policy.tightened(terms);
        self.advance(now_ms, policy.window_s);
        let age_ms = self.age_ms(now_ms);
        match self.missing(age_ms, health, &policy, terms) {
            Err(finding) => Verdict::Unhealthy(finding),
            Ok(None) => Verdict::Healthy,
            Ok(Some(missing)) => inconclusive(age_ms, &policy, missing),
        }
    }

    fn advance(&mut self, now_ms: u64, window_s: u32) {
        let half_ms = u64::from(window_s) * 1000 / 2;
        let age_ms = now_ms.saturating_sub(self.pane_ms);
        if age_ms < half_ms {
            return;
        }
        let passed = core::mem::take(&mut self.now);
        self.before = if age_ms < 2 * half_ms { passed } else { Counters::new() };
        self.pane_ms = now_ms;
    }

    /// What is still to be seen before the release is healthy, or what is wrong with it.
    fn missing(
        &self,
        age_ms: u64,
        health: &Health,
        policy: &HealthPolicy,
        terms: &Terms,
    ) -> Result<Option<Missing>, Finding> {
        let mut seen = self.before.clone();
        seen.merge(&self.now);
        let mut missing = None;
        for gate in gates(&seen, health, policy, self.p95_before_us)
            .into_iter()
            .chain(self.memory_gates(policy))
        {
            let Gate { reason, evidence, needed, required } = gate;
            if evidence.samples >= needed {
                if evidence.measured > evidence.bound {
                    return Err(Finding { reason, evidence: Some(evidence) });
                }
            } else if required {
                let (of, have) = (evidence.of, evidence.samples);
                missing = missing.or(Some(Missing::Answers { of, have, need: needed }));
            }
        }
        let need = policy.samples_min.max(terms.probation_answers);
        if self.total < u64::from(need) {
            let have = self.total as u32;
            missing = Some(Missing::Answers { of: Subject::Whole, have, need });
        }
        let need_ms = u64::from(policy.probation_s_min) * 1000;
        if age_ms < need_ms {
            missing = Some(Missing::Time { have_ms: age_ms, need_ms });
        }
        Ok(missing)
    }

    /// What the process holds now at least, and by how much that is more than at the start.
    fn memory_gates(&self, policy: &HealthPolicy) -> impl Iterator<Item = Gate> + use<> {
        let held = self.memory.iter().copied().min().flatten();
        let grown = held.zip(self.memory_start).map(|(now, start)| now.saturating_sub(start));
        let gate = |of, bytes: Option<u64>, bound: u32| {
            let measured = u32::try_from(bytes? >> 20).unwrap_or(u32::MAX);
            let evidence = Evidence { of, measured, bound, samples: MEMORY_LOOKS as u32 };
            (bound > 0).then_some(Gate::always(Reason::HealthMemory, evidence))
        };
        let gates = [
            gate(Subject::Whole, held, policy.memory_mib_max),
            gate(Subject::Growth, grown, policy.memory_growth_mib_max),
        ];
        gates.into_iter().flatten()
    }
}

/// What the policy makes of too little evidence. Time that is not over is waited for.
fn inconclusive(age_ms: u64, policy: &HealthPolicy, missing: Missing) -> Verdict {
    let Missing::Answers { of, have, need } = missing else {
        return Verdict::Inconclusive(missing);
    };
    let over = |after_s: u32| age_ms >= u64::from(after_s) * 1000;
    match policy.inconclusive {
        Inconclusive::Confirm { after_s } if over(after_s) => Verdict::Healthy,
        Inconclusive::RollBack { after_s } if over(after_s) => {
            let evidence = Evidence { of, measured: have, bound: need, samples: have };
            let reason = Reason::HealthInconclusive;
            Verdict::Unhealthy(Finding { reason, evidence: Some(evidence) })
        }
        _ => Verdict::Inconclusive(missing),
    }
}
