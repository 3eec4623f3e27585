//! `fleetway status`: the controller at a glance.

use fleetway_controller::clock;

use super::Context;
use super::output::{ago, bytes, count, facts};
use super::rollout;
use crate::api::failure::Failure;
use crate::api::types::{LinkView, StatusView};

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let status: StatusView = context.client().get("/v1/status").await?;
    context.output.data(&status, || text(&status))
}

fn text(status: &StatusView) -> String {
    let now_s = clock::now_s();
    let sessions = match status.broker.sessions {
        Some(sessions) => format!(", {}", count(sessions, "session")),
        None => String::new(),
    };
    let mut lines = vec![
        (
            "controller",
            format!(
                "{}, process {}, for {}",
                status.version,
                status.pid,
                ago(now_s.saturating_sub(status.started_s))
            ),
        ),
        ("data", status.data.clone()),
        ("broker", format!("{} ({}{sessions})", status.broker.url, status.broker.kind)),
        ("link", link(&status.link, now_s)),
        ("devices", format!("{} online of {}", status.devices.online, status.devices.total)),
        (
            "models",
            format!(
                "{} on the broker, {} pieces waiting, {} sent",
                count(status.blobs.seeded_releases, "release"),
                status.blobs.pieces_waiting,
                bytes(status.blobs.bytes_out)
            ),
        ),
    ];
    let bad: u64 = status.bad_messages.values().sum();
    if bad > 0 {
        let devices: Vec<_> = status.bad_messages.keys().take(5).cloned().collect();
        lines.push(("refused", format!("{bad} messages, as of {}", devices.join(", "))));
    }
    if !status.reports_refused.is_empty() {
        let checks = status.reports_refused.iter();
        let checks: Vec<_> = checks.map(|(check, count)| format!("{check} {count}")).collect();
        lines.push(("  by check", checks.join(", ")));
    }
    let mut text = facts(&lines);
    if !status.rollouts.is_empty() {
        text.push_str("\n\n");
        text.push_str(&rollout::list_text(&status.rollouts));
    }
    text
}

fn link(link: &LinkView, now_s: u64) -> String {
    let since = ago(now_s.saturating_sub(link.since_s));
    if link.up {
        let protocol = link.protocol.as_deref().unwrap_or("MQTT");
        return format!("up for {since}, {protocol}, {} messages waiting", link.outbox_messages);
    }
    match &link.down_because {
        Some(reason) => format!("down for {since}: {reason}"),
        None => "connecting".into(),
    }
}
