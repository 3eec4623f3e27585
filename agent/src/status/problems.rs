//! What is wrong, in sentences: pure, from a status.
//!
//! A problem is what a person should know of now. What went wrong once and was undone is history,
//! and stands with its model.

use super::render::{age, short};
use super::{Model, Status};

/// Everything wrong with `status`, worst first.
pub(super) fn find(status: &Status, clock_is_behind: bool) -> Vec<String> {
    let mut found: Vec<String> = status.models.iter().flat_map(find_in_model).collect();
    let link = &status.link;
    if !link.connected {
        let error = link.last_error.as_deref().unwrap_or("not connected yet");
        let runs = match status.models.iter().any(|model| model.running.is_some()) {
            true => "; what runs keeps serving",
            false => "",
        };
        found.push(format!(
            "broker {} unreachable for {}: {error}{runs}",
            link.broker,
            age(link.for_s)
        ));
    }
    if let Some(problem) = status.authority.as_ref().and_then(|a| a.problem.as_ref()) {
        let effect = "nothing new is installed until then, what runs keeps serving";
        found.push(format!("release authority: {problem}; {effect}"));
    }
    found.extend(status.certificate.problem.clone());
    let sandbox = &status.sandbox;
    if !sandbox.met {
        found.push(format!(
            "no new model is tried: the sandbox is {} and agent.toml requires `{}`; it lacks {}",
            sandbox.state,
            sandbox.require,
            sandbox.missing.join(", ")
        ));
    }
    if clock_is_behind {
        found.push("the system clock is behind what was signed; set it (NTP or by hand)".into());
    }
    found
}

fn find_in_model(model: &Model) -> Vec<String> {
    let name = &model.name;
    let mut found = Vec::new();
    if model.answers.hung_runs > 0 {
        let runs = model.answers.hung_runs;
        found.push(format!(
            "{name}: {runs} runs hang and each takes a processor; restart the agent"
        ));
    }
    if model.running.is_none() && !is_removed(model) {
        found.push(format!("{name}: nothing is loaded, so requests are refused"));
    }
    // Somebody wants it held: that is no problem.
    if let (Some(why), None) = (&model.waiting, &model.held) {
        found.push(format!("{name}: {} waits: {}", model.phase, why.sentence));
    }
    if model.poison_dropped > 0 {
        let count = model.poison_dropped;
        found.push(format!("{name}: {count} bad releases were forgotten because the list is full"));
    }
    if let Some(probation) = &model.probation
        && probation.age_s >= probation.needed_s
        && probation.answers < u64::from(probation.answers_needed)
    {
        let missing = u64::from(probation.answers_needed) - probation.answers;
        found.push(format!("{name}: is not confirmed before {missing} more requests are answered"));
    }
    if let (Some(last), Some(running), Some(target)) = (&model.last, &model.running, &model.target)
        && let Some(why) = &last.why
        && last.release == *target
        && running.release != *target
    {
        let (target, sentence) = (short(target), &why.sentence);
        found.push(format!("{name}: the ordered release {target} does not run: {sentence}"));
    }
    found
}

fn is_removed(model: &Model) -> bool {
    model.last.as_ref().is_some_and(|last| last.result == "removed")
}
