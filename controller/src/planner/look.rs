//! When a rollout's metric gates are looked at, and what follows from a look.
//!
//! The counters are only there when they are asked for ([`wanted`]); a look becomes a change of its
//! own, durable with the rollout, and whatever follows is read off the newest look. A class on which
//! the release is surely bad becomes a [`KnownBad`]: nobody of that class is offered it again, by
//! any rollout, until an operator says otherwise.

use std::collections::{BTreeMap, BTreeSet};

use fleetway_protocol::ids::{HardwareClass, RolloutId};

use super::analysis::{GateResult, is_due, look};
use super::cohort::{Cohort, Round, Tally};
use super::facts::{Change, Gate, Input, KnownBad, RolloutFacts, RolloutState, Verdict};
use super::gate::counted;
use super::spec::HaltScope;

/// The rollouts whose gates are to be looked at now: give [`plan`](super::plan()) their
/// [`evidence`](RolloutFacts::evidence). Without it they wait.
pub fn wanted(input: &Input) -> Vec<RolloutId> {
    let round = Round::new(input);
    let running = |r: &&RolloutFacts| matches!(r.state, RolloutState::Running { .. });
    let wants = |r: &&RolloutFacts| is_wanted(&round, r, || Cohort::of(&round, r).tally).is_some();
    input.rollouts.iter().filter(running).filter(wants).map(|r| r.id).collect()
}

/// The phase that a look is wanted in, and whether it is the one at its end.
fn is_wanted(
    round: &Round<'_>,
    rollout: &RolloutFacts,
    tally: impl Fn() -> Tally,
) -> Option<(u32, bool)> {
    let RolloutState::Running { phase } = rollout.state else { return None };
    let input = round.input;
    if rollout.spec.gates_of(phase).is_empty() || looked_now(input, rollout) {
        return None;
    }
    let since_s = rollout.deployments.values().map(|d| d.ordered_s).min()?;
    let at_end = rollout.looks.phase.is_none_or(|looked| looked < phase)
        && counted(round, rollout, &tally(), phase) == Gate::Pass;
    (at_end || is_due(&rollout.looks, since_s, input.now_s)).then_some((phase, at_end))
}

/// Whether a look was made at this very time: what it saw is all there is.
fn looked_now(input: &Input, rollout: &RolloutFacts) -> bool {
    rollout.looks.last.as_ref().is_some_and(|last| last.at_s == input.now_s)
}

/// A look, if one is wanted and what to look at is there.
pub(super) fn look_at(round: &Round<'_>, rollout: &RolloutFacts, tally: &Tally) -> Option<Change> {
    let input = round.input;
    let evidence = rollout.evidence.as_ref()?;
    let (phase, at_end) = is_wanted(round, rollout, || *tally)?;
    let gates = rollout.spec.gates_of(phase);
    let barred = input.known_bad.iter().filter(|bad| bad.bars(rollout));
    let barred: BTreeSet<_> = barred.map(|bad| &bad.class).collect();
    let looked = look(gates, evidence, &barred, rollout.looks.next(), input.now_s);
    Some(Change::Looked { rollout: rollout.id, ended: at_end.then_some(phase), looked })
}

/// Results of the newest look, without those of classes that are known to be bad already.
fn results<'a>(
    input: &'a Input,
    rollout: &'a RolloutFacts,
) -> impl Iterator<Item = &'a GateResult> {
    let results = rollout.looks.last.iter().flat_map(|last| &last.results);
    results.filter(|r| !r.class.as_ref().is_some_and(|class| is_known_bad(input, rollout, class)))
}

fn is_known_bad(input: &Input, rollout: &RolloutFacts, class: &HardwareClass) -> bool {
    known_bad(input, rollout, Some(class)).is_some()
}

/// What is known against a rollout's release on a class.
pub(super) fn known_bad<'a>(
    input: &'a Input,
    rollout: &RolloutFacts,
    class: Option<&HardwareClass>,
) -> Option<&'a KnownBad> {
    let class = class?;
    input.known_bad.iter().find(|bad| bad.bars(rollout) && bad.class == *class)
}

/// Why the newest look stops all of the rollout, if it does.
pub(super) fn failed(input: &Input, rollout: &RolloutFacts) -> Option<String> {
    let stops = |r: &&GateResult| r.halts() && r.class.is_none();
    let whole = results(input, rollout).find(stops).map(|r| r.sentence.clone());
    let bad = || {
        let ours = |b: &&KnownBad| b.bars(rollout) && b.rollout == rollout.id;
        let bad = input.known_bad.iter().find(ours)?;
        (rollout.spec.halt == HaltScope::Rollout).then(|| bad.sentence())
    };
    whole.or_else(bad)
}

/// What the gates say of a phase that is otherwise good.
pub(super) fn at_end(input: &Input, rollout: &RolloutFacts, phase: u32) -> Gate {
    let looked = rollout.looks.phase >= Some(phase) || looked_now(input, rollout);
    if rollout.spec.gates_of(phase).is_empty() || rollout.deployments.is_empty() {
        return Gate::Pass;
    }
    if !looked {
        return Gate::Waiting("the gates are looked at before the phase ends".to_owned());
    }
    match results(input, rollout).find(|r| r.holds() && r.class.is_none()) {
        Some(result) => Gate::Inconclusive(result.sentence.clone()),
        None => Gate::Pass,
    }
}

/// Classes on which the release turned out bad: by the newest look, and, where halts are for a
/// class only, by the devices' own verdicts.
pub(super) fn bad_classes(input: &Input, rollout: &RolloutFacts) -> Vec<Change> {
    let mut found: BTreeMap<HardwareClass, String> = BTreeMap::new();
    for result in results(input, rollout).filter(|r| r.halts()) {
        if let Some(class) = &result.class {
            found.entry(class.clone()).or_insert_with(|| result.sentence.clone());
        }
    }
    if rollout.spec.halt == HaltScope::Class {
        for (class, failed) in failures(input, rollout) {
            let tolerated = rollout.spec.failures_max as usize;
            if failed > tolerated && !is_known_bad(input, rollout, &class) {
                let why = format!("{failed} failed, {tolerated} tolerated");
                found.entry(class).or_insert(why);
            }
        }
    }
    let bad = |(class, why)| KnownBad {
        release: rollout.spec.release,
        class,
        rollout: rollout.id,
        since_s: input.now_s,
        why,
        lifted_s: None,
    };
    found.into_iter().map(bad).map(Change::Bad).collect()
}

/// Devices by class that say of the release that it is bad: not silence, network or disk.
fn failures(input: &Input, rollout: &RolloutFacts) -> BTreeMap<HardwareClass, usize> {
    let mut failures = BTreeMap::new();
    let blames = |verdict| match verdict {
        Some(Verdict::Failed(reason) | Verdict::RolledBack(reason)) => reason.is_verdict(),
        _ => false,
    };
    if !rollout.deployments.values().any(|d| blames(d.verdict)) {
        return failures;
    }
    for device in &input.devices {
        let blamed = rollout.deployments.get(&device.id).is_some_and(|d| blames(d.verdict));
        if let Some(class) = device.hardware.as_ref().filter(|_| blamed) {
            *failures.entry(class.clone()).or_default() += 1;
        }
    }
    failures
}
