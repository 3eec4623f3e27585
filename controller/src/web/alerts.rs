//! What needs a person, worst first: each with what is so and what to do. Pure: facts in,
//! sentences out. Every fact was judged elsewhere; here it is only chosen and worded.

use fleetway_controller::fleet::{Census, Standing};

use super::words::Tone;
use crate::api::types::{LinkView, ReleaseView, RolloutSummary};
use crate::cli::output::{ago, count};
use crate::cli::trust_status::{Status, WARN_DAYS};

/// A stopped rollout is news for so many seconds: a week. Then it is history.
const STOPPED_S: u64 = 7 * 24 * 3600;

/// Something that needs a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alert {
    pub(super) tone: Tone,
    /// What is so.
    pub(super) text: String,
    /// What to do about it.
    pub(super) mend: String,
    /// Where there is more.
    pub(super) url: String,
}

/// What alerts are made of.
pub(super) struct Facts<'a> {
    pub(super) now_s: u64,
    pub(super) link: &'a LinkView,
    pub(super) bad_messages: u64,
    pub(super) census: &'a Census,
    /// All of them, newest first.
    pub(super) rollouts: &'a [RolloutSummary],
    pub(super) releases: &'a [ReleaseView],
    /// What the release authority's files say, if there are any.
    pub(super) trust: Option<&'a Status>,
}

/// One sentence for all of it.
pub(super) fn verdict(alerts: &[Alert], census: &Census) -> &'static str {
    match alerts.first().map(|alert| alert.tone) {
        Some(Tone::Bad) => "Something is wrong",
        Some(Tone::Wait) => "Something waits for you",
        _ if census.total == 0 => "No devices yet",
        _ => "The fleet is well",
    }
}

/// All that needs a person, worst first.
pub(super) fn alerts(facts: &Facts<'_>) -> Vec<Alert> {
    let mut alerts = Vec::new();
    link(facts, &mut alerts);
    rollouts(facts, &mut alerts);
    devices(facts, &mut alerts);
    drift(facts, &mut alerts);
    trust(facts, &mut alerts);
    // Stable: within a tone the order above stays.
    alerts.sort_by_key(|alert| match alert.tone {
        Tone::Bad => 0,
        Tone::Wait => 1,
        _ => 2,
    });
    alerts
}

fn alert(tone: Tone, text: impl Into<String>, mend: impl Into<String>, url: String) -> Alert {
    Alert { tone, text: text.into(), mend: mend.into(), url }
}

fn link(facts: &Facts<'_>, alerts: &mut Vec<Alert>) {
    let LinkView { up, down_because, since_s, .. } = facts.link;
    if !up {
        let since = ago(facts.now_s.saturating_sub(*since_s));
        let why = down_because.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        let text = format!("The controller has not reached its broker for {since}{why}");
        let mend = "Devices go on serving; nothing new reaches them until it does.";
        alerts.push(alert(Tone::Bad, text, mend, "/system".into()));
    }
    if facts.bad_messages > 0 {
        let text = format!("{} could not be read", count(facts.bad_messages, "message"));
        let mend = "See which device sent them, and which check refused them.";
        alerts.push(alert(Tone::Wait, text, mend, "/system".into()));
    }
}

fn rollouts(facts: &Facts<'_>, alerts: &mut Vec<Alert>) {
    for rollout in facts.rollouts {
        let RolloutSummary { id, model, release, .. } = rollout;
        let what = format!("Rollout {id} of {model}@{}", release.text());
        let why = rollout.reason.as_ref().map_or("", |reason| reason.text.as_str());
        let url = format!("/rollouts/{id}");
        let recent = facts.now_s.saturating_sub(rollout.started_s) < STOPPED_S;
        // One that a later rollout of the model has overtaken is history.
        let overtaken = facts.rollouts.iter().any(|r| r.model == *model && r.id > *id);
        match (rollout.state.as_str(), rollout.gate.as_str()) {
            ("halted", _) if recent && !overtaken => {
                let mend = "No further device gets this release. Publish a corrected one.";
                alerts.push(alert(Tone::Bad, format!("{what} stopped itself: {why}"), mend, url));
            }
            ("paused", "inconclusive") => {
                let mend =
                    "It could not tell whether the release is good: look, then resume or abort.";
                alerts.push(alert(Tone::Wait, format!("{what} waits: {why}"), mend, url));
            }
            ("paused", _) => {
                let mend = "Resume it when you are ready.";
                alerts.push(alert(Tone::Wait, format!("{what} is paused"), mend, url));
            }
            _ if !rollout.over && rollout.counts.silent > 0 => {
                let silent = count(u64::from(rollout.counts.silent), "device");
                let mend = "They count as unknown, never as healthy: the phase waits for them.";
                let text = format!("{what}: {silent} fell silent while at it");
                alerts.push(alert(Tone::Wait, text, mend, url));
            }
            _ => {}
        }
    }
}

fn devices(facts: &Facts<'_>, alerts: &mut Vec<Alert>) {
    let of = |standing| facts.census.standing.get(&standing).copied().unwrap_or(0) as u64;
    let refusing = of(Standing::Refusing);
    if refusing > 0 {
        let text = format!("{} refused the last order", count(refusing, "device"));
        let mend = "Each says why; it goes on with what it runs.";
        alerts.push(alert(Tone::Bad, text, mend, "/devices?standing=refusing".into()));
    }
    let back = of(Standing::WentBack);
    if back > 0 {
        let text = format!("{} did not keep the release last ordered", count(back, "device"));
        let mend = "They serve what they ran before.";
        alerts.push(alert(Tone::Wait, text, mend, "/devices?standing=went_back".into()));
    }
}

fn drift(facts: &Facts<'_>, alerts: &mut Vec<Alert>) {
    for release in facts.releases {
        let found = release.in_use.iter().flat_map(|in_use| &in_use.answers.drift);
        let drifts: Vec<_> = found.filter(|d| d.alarm).map(|d| d.of.as_str()).collect();
        if !drifts.is_empty() {
            let ReleaseView { model, version, .. } = release;
            let text =
                format!("{model}@{version} drifts from its reference: {}", drifts.join(", "));
            let mend = "What it sees in the field is not what it was trained on.";
            alerts.push(alert(Tone::Wait, text, mend, "/drift".into()));
        }
    }
}

fn trust(facts: &Facts<'_>, alerts: &mut Vec<Alert>) {
    let Some(trust) = facts.trust else { return };
    for file in &trust.expires {
        let left_s = file.expires_s.checked_sub(facts.now_s);
        let url = "/keys".to_owned();
        match left_s {
            None => {
                let text = format!("The release authority's {} has expired", file.what);
                let mend = "Devices install nothing new until it is signed anew; see `fleetway trust status`.";
                alerts.push(alert(Tone::Bad, text, mend, url));
            }
            Some(left_s) if !file.by_itself && left_s < WARN_DAYS * 24 * 3600 => {
                let text =
                    format!("The release authority's {} expires in {}", file.what, ago(left_s));
                let mend = "Plan a ceremony; `fleetway trust status` says who has to sign.";
                alerts.push(alert(Tone::Wait, text, mend, url));
            }
            Some(_) => {}
        }
    }
    if !trust.development_keys.is_empty() {
        let keys = trust.development_keys.join(", ");
        let text = format!("Development keys in use: {keys}");
        let mend = "They lie unencrypted on this machine: good for trying out, not for a fleet.";
        alerts.push(alert(Tone::Quiet, text, mend, "/keys".into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{ReasonView, ReleaseRef, RolloutCounts};

    fn rollout(id: u64, state: &str, gate: &str, silent: u32) -> RolloutSummary {
        RolloutSummary {
            id,
            model: "digits".into(),
            release: ReleaseRef { digest: "ab".repeat(32), version: Some(format!("v{id}")) },
            state: state.into(),
            over: matches!(state, "halted" | "aborted" | "succeeded"),
            succeeded: state == "succeeded",
            reason: Some(ReasonView { code: "X".into(), text: "because".into() }),
            phase: 1,
            phases: 2,
            gate: gate.into(),
            gate_text: None,
            counts: RolloutCounts { total: 9, silent, ..RolloutCounts::default() },
            started_by: "ann".into(),
            started_s: 1_000_000,
        }
    }

    fn said(rollouts: &[RolloutSummary], now_s: u64, up: bool) -> Vec<String> {
        let census = Census::default();
        let link = LinkView { up, down_because: Some("refused".into()), ..LinkView::default() };
        let facts = Facts {
            now_s,
            link: &link,
            bad_messages: 0,
            census: &census,
            rollouts,
            releases: &[],
            trust: None,
        };
        alerts(&facts).into_iter().map(|a| format!("{} {}", a.tone.class(), a.text)).collect()
    }

    #[test]
    fn what_needs_a_person_comes_worst_first_and_history_not_at_all() {
        let halted = "bad Rollout 1 of digits@v1 stopped itself: because";
        let paused = "wait Rollout 2 of digits@v2 is paused";
        let now_s = 1_000_100;
        for (rollouts, now_s, expected) in [
            (vec![rollout(1, "running", "waiting", 0)], now_s, vec![]),
            (vec![rollout(1, "halted", "fail", 0)], now_s, vec![halted]),
            (vec![rollout(1, "halted", "fail", 0)], now_s + STOPPED_S, vec![]),
            // A later one of the same model has the say.
            (
                vec![rollout(2, "paused", "waiting", 0), rollout(1, "halted", "fail", 0)],
                now_s,
                vec![paused],
            ),
            (
                vec![rollout(2, "paused", "inconclusive", 0)],
                now_s,
                vec!["wait Rollout 2 of digits@v2 waits: because"],
            ),
            (
                vec![rollout(2, "running", "waiting", 1)],
                now_s,
                vec!["wait Rollout 2 of digits@v2: 1 device fell silent while at it"],
            ),
            (vec![rollout(1, "aborted", "fail", 0)], now_s, vec![]),
        ] {
            assert_eq!(said(&rollouts, now_s, true), expected);
        }
        let down = said(&[rollout(2, "paused", "waiting", 0)], now_s, false);
        assert!(down[0].starts_with("bad The controller has not reached its broker"), "{down:?}");
        assert_eq!(down[1], paused);
    }
}
