//! The status as text: what runs, why, and what is wrong. Pure.

use std::fmt::Write as _;

use fleetway_protocol::machine::Phase;

use super::{Authority, Model, Role, Running, Status, held};
use crate::gateway::DownstreamStatus;

/// Classes shown at most; one line of a terminal.
const CLASSES_SHOWN_MAX: usize = 16;

/// The status for a person, ending in a newline.
pub fn render(status: &Status) -> String {
    let mut text = String::new();
    let Status { device, agent, uptime_s, link, serving, .. } = status;
    line(&mut text, device, &format!("agent {agent}, up {}", age(*uptime_s)));
    let state = if link.connected { "connected to" } else { "NOT connected to" };
    line(&mut text, "link", &format!("{state} {} for {}", link.broker, age(link.for_s)));
    let tcp = serving.tcp.iter().map(|tcp| format!("http://{tcp}/v2"));
    let grpc = [&serving.grpc_tcp, &serving.grpc_unix].into_iter().flatten();
    let grpc = grpc.map(|place| format!("{place} (gRPC)"));
    let places: Vec<_> = tcp.chain(serving.unix.iter().cloned()).chain(grpc).collect();
    line(
        &mut text,
        "answers",
        &if places.is_empty() { "nowhere".into() } else { places.join(", ") },
    );
    if let Some(authority) = &status.authority {
        line(&mut text, "authority", &render_authority(authority));
    }
    if let Some(left_s) = status.certificate.left_s {
        let good = match left_s {
            0 => "has ended".to_owned(),
            left_s => format!("good for {}", age(left_s)),
        };
        line(&mut text, "identity", &format!("certificate {good}"));
    }
    let lacks = match status.sandbox.missing.as_slice() {
        [] => String::new(),
        missing => format!(": lacks {}", missing.join(", ")),
    };
    let sandbox = &status.sandbox;
    let shown = format!("{}{lacks} (required: {})", sandbox.state, sandbox.require);
    line(&mut text, "sandbox", &shown);
    if let Some(reports) = &status.telemetry {
        line(&mut text, "telemetry", &reports.text());
    }
    for lock in &status.locks {
        line(&mut text, "lock", &held::lock_line(lock));
    }
    for model in &status.models {
        text.push('\n');
        render_model(&mut text, model);
    }
    if status.models.is_empty() {
        line(&mut text, "models", "none yet; the first order brings one");
    }
    text.push('\n');
    if !status.refused.is_empty() {
        let counts: Vec<_> = status.refused.iter().map(|(c, n)| format!("{c} {n}")).collect();
        line(&mut text, "refused", &counts.join(", "));
    }
    if !status.late.is_empty() {
        let counts: Vec<_> = status.late.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        line(&mut text, "late", &counts.join(", "));
    }
    for device in &status.gateway {
        line(&mut text, "gateway", &downstream(device));
    }
    match status.problems.as_slice() {
        [] => line(&mut text, "problems", "none"),
        problems => problems.iter().for_each(|problem| line(&mut text, "PROBLEM", problem)),
    }
    text
}

fn render_authority(authority: &Authority) -> String {
    let role = |role: &Role| {
        let until = match role.good_for_s {
            0 => "EXPIRED".to_owned(),
            seconds => format!("good for {}", age(seconds)),
        };
        format!("{} {} {until}", role.role, role.version)
    };
    let roles: Vec<_> = authority.roles.iter().map(role).collect();
    let keyset = authority.keyset.map_or("no keyset yet".to_owned(), |v| format!("keyset {v}"));
    format!("{keyset}; {}", roles.join(", "))
}

/// A device that hangs on this one.
fn downstream(device: &DownstreamStatus) -> String {
    let DownstreamStatus { device: id, port, from_device, to_device, .. } = device;
    let state = match (&device.problem, device.up) {
        (Some(problem), _) => problem.as_str(),
        (None, true) => "there",
        (None, false) => "silent",
    };
    format!("{id} on {port}: {state}; {from_device} messages from it, {to_device} to it")
}

fn line(text: &mut String, head: &str, rest: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{head:<10} {rest}");
}

fn render_model(text: &mut String, model: &Model) {
    let runs = match &model.running {
        Some(running) => {
            let Running { release, version, slot, engine } = running;
            format!("runs {version} on {engine} (release {}, slot {slot})", short(release))
        }
        None => "runs nothing".into(),
    };
    line(text, &model.name, &runs);
    line(text, "", &phase(model));
    held::lines(model).iter().for_each(|held| line(text, "", held));
    let answers = &model.answers;
    let mut counts = format!("{} requests, {} failed", answers.requests, answers.errors);
    if let (Some(p50), Some(p95)) = (answers.p50_us, answers.p95_us) {
        let _ = write!(counts, "; half within {p50} us, 95 % within {p95} us");
    }
    line(text, "", &counts);
    if !answers.classes.is_empty() {
        line(text, "", &classes(&answers.classes));
    }
    if let Some(last) = &model.last {
        let why = last.why.as_ref().map(|why| format!(": {}", why.sentence)).unwrap_or_default();
        let result = last.result.replace('-', " ");
        line(text, "", &format!("last order: release {} {result}{why}", short(&last.release)));
    }
    if model.floor > 0 {
        line(text, "", &format!("refuses releases with a counter below {}", model.floor));
    }
    for bad in &model.poisoned {
        let (release, why) = (short(&bad.release), &bad.why.sentence);
        line(text, "", &format!("remembers {release} as bad: {why}"));
    }
}

fn phase(model: &Model) -> String {
    let mut text = match model.phase.as_str() {
        "idle" => "nothing to do".to_owned(),
        phase => match &model.target {
            Some(target) => format!("{phase} of release {}", short(target)),
            None => phase.to_owned(),
        },
    };
    if let Some(progress) = model.progress {
        let percent = u64::from(progress.have) * 100 / u64::from(progress.total.max(1));
        let _ = write!(text, ", {} of {} chunks ({percent} %)", progress.have, progress.total);
    }
    if let Some(probation) = model.probation {
        let _ = write!(
            text,
            ", {} of {} s and {} of {} answers",
            probation.age_s, probation.needed_s, probation.answers, probation.answers_needed
        );
        if probation.checking {
            text.push_str("; asks the check that agent.toml names");
        }
    }
    // What a held update waits for has a line of its own.
    if let (Some(why), None) = (&model.waiting, &model.held) {
        let _ = write!(text, "; waits: {}", why.sentence);
    }
    text
}

fn classes(counts: &[u32]) -> String {
    let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    let shown = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let share = |count: u32| u64::from(count) * 100 / total.max(1);
    let shares: Vec<_> = shown
        .take(CLASSES_SHOWN_MAX)
        .map(|(class, count)| format!("{class}: {} %", share(*count)))
        .collect();
    format!("classes {}", shares.join(", "))
}

/// Enough of a digest for a person.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..8).unwrap_or(digest)
}

/// Seconds in at most two units.
pub(crate) fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// The phase's name in reports and on the terminal.
pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Idle => "idle",
        Phase::Eligibility => "eligibility",
        Phase::Download => "download",
        Phase::Verification => "verification",
        Phase::SelfTest => "self-test",
        Phase::Activation => "activation",
        Phase::Probation => "probation",
        Phase::Rollback => "rollback",
        Phase::Removal => "removal",
        Phase::Shadow => "shadow",
        Phase::Held => "held",
    }
}
