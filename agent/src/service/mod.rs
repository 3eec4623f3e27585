//! The service manager above us: told when we are ready, how we are, and that we still live.
//!
//! Read in this order: this page (what is said, and when), `watchdog` (when a ping is due: pure),
//! `notify` (the socket), [`log`] (where log lines go).
//!
//! - `READY=1` once: the sockets are open, and every model answers or is known not to. What
//!   comes up after us (`After=fleetway-agent.service`) may ask at once.
//! - `STATUS=` in plain words, when they change.
//! - `WATCHDOG=1` from the event loop's own turn, and only if the link's tasks turned too since
//!   the last one. No timer of its own stands behind it: what hangs says nothing, and is restarted.
//! - `STOPPING=1` when the end begins.

pub mod log;
mod notify;
mod watchdog;

use std::time::Duration;

use notify::Notify;
use watchdog::Watchdog;

use crate::status::{Board, Model, Status};

/// Shortest time between two looks at the status once we are ready, milliseconds: people read it.
const LOOK_MS: u64 = 1_000;
/// Longest status, bytes: systemd shows one line.
const STATUS_BYTES_MAX: usize = 240;

/// What the event loop tells the service manager. Silent where there is none.
#[derive(Debug, Default)]
pub(crate) struct Service {
    notify: Option<Notify>,
    watchdog: Option<Watchdog>,
    ready: bool,
    said: String,
    look_at_ms: u64,
}

impl Service {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub(crate) fn from_env() -> Self {
        let variable = |name| std::env::var(name).ok();
        let notify = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let opened = Notify::open(&name);
            opened.inspect_err(|error| tracing::warn!("NOTIFY_SOCKET cannot be used: {error}")).ok()
        });
        let watchdog = watchdog::interval(
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
            std::process::id(),
        );
        Self { notify, watchdog: watchdog.map(Watchdog::new), ..Self::default() }
    }

    /// The loop turned. `link_turns` is [`fleetway_link::LinkStats::turns`].
    pub(crate) fn turned(&mut self, now_ms: u64, link_turns: u64, board: &Board) {
        let Some(notify) = &self.notify else { return };
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.turned(now_ms, link_turns)
        {
            notify.say("WATCHDOG=1");
        }
        if self.ready && now_ms < self.look_at_ms {
            return;
        }
        self.look_at_ms = now_ms + LOOK_MS;
        let status = board.status();
        let becomes_ready = !self.ready && status.models.iter().all(is_settled);
        let sentence = sentence(&status);
        if becomes_ready || sentence != self.said {
            let ready = if becomes_ready { "READY=1\n" } else { "" };
            notify.say(&format!("{ready}STATUS={sentence}"));
            self.ready |= becomes_ready;
            self.said = sentence;
        }
    }

    /// The end begins, and takes `within` at most.
    pub(crate) fn stopping(&self, within: Duration) {
        if let Some(notify) = &self.notify {
            notify.say(&format!("STOPPING=1\nSTATUS=stopping, at most {} s", within.as_secs()));
        }
    }
}

/// Whether it is known what this model does: it answers, or there is nothing that could, or what
/// could waits for something, which may take long and is no reason to hold others up.
fn is_settled(model: &Model) -> bool {
    let comes_up = matches!(model.phase.as_str(), "activation" | "rollback");
    model.running.is_some() || !comes_up || model.waiting.is_some()
}

/// How we are, in one line.
fn sentence(status: &Status) -> String {
    let model = |model: &Model| match &model.running {
        Some(running) if model.phase == "idle" => format!("{} {}", model.name, running.version),
        Some(running) => format!("{} {} ({})", model.name, running.version, model.phase),
        None => format!("{} nothing ({})", model.name, model.phase),
    };
    let serves = match status.models.as_slice() {
        [] => "no model yet".to_owned(),
        models => format!("serves {}", models.iter().map(model).collect::<Vec<_>>().join(", ")),
    };
    let link = if status.link.connected { "connected" } else { "not connected" };
    let problems = match status.problems.len() {
        0 => String::new(),
        1 => format!("; {}", status.problems[0]),
        more => format!("; {more} problems, see `fleetway-agent status`"),
    };
    let text = format!("{serves}; {link}{problems}").replace(['\n', '\r'], " ");
    let end = (0..=STATUS_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Link, Running, Why};

    fn model(phase: &str, runs: Option<&str>) -> Model {
        let running = runs.map(|version| Running { version: version.into(), ..Running::default() });
        Model { name: "digits".into(), phase: phase.into(), running, ..Model::default() }
    }

    #[test]
    fn a_model_is_waited_for_only_while_it_comes_up() {
        assert!(!is_settled(&model("activation", None)));
        assert!(!is_settled(&model("rollback", None)));
        assert!(is_settled(&model("rollback", Some("v1"))));
        assert!(is_settled(&model("idle", None)), "known that there is none");
        assert!(is_settled(&model("download", None)));
        let waits = Model { waiting: Some(Why::default()), ..model("rollback", None) };
        assert!(is_settled(&waits));
    }

    #[test]
    fn the_status_is_one_short_line() {
        let mut status = Status::default();
        assert_eq!(sentence(&status), "no model yet; not connected");
        status.link = Link { connected: true, ..Link::default() };
        status.models = vec![model("idle", Some("v2")), model("self-test", None)];
        assert_eq!(sentence(&status), "serves digits v2, digits nothing (self-test); connected");
        status.problems = vec![format!("é\n{}", "é".repeat(300))];
        let long = sentence(&status);
        assert!(long.len() <= STATUS_BYTES_MAX && !long.contains('\n'), "{long}");
    }
}
