//! What hangs in an engine cannot be stopped: its thread, and the processor under it, are free only
//! when the process ends. So the agent ends and takes its own place, with the same arguments, the
//! same process id (the service manager notices nothing) and everything durable.
//!
//! - On trial, one hung run is a verdict ([`Device::handle_hang`](crate::device::Device::handle_hang)).
//!   The release is poisoned and what was confirmed answers; that is durable and in force, and only
//!   then the process is replaced. A boot after that cannot try the release again, so this cannot loop.
//! - A confirmed release is nobody's to judge any more. When it gets no requests because too many
//!   runs hang ([`Loaded::is_stuck`]), a new process is worth a try, but not more than one in
//!   [`STUCK_AGAIN_MS`].
//!
//! If the process dies before that, it is the same: the next start goes on from the tables.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;

use super::{Agent, Ended};
use crate::device::Now;
use crate::serving::live::Loaded;

/// Shortest life of a process that is replaced because a confirmed release hangs, milliseconds: a
/// release that hangs at once is asked a few times a minute, not in a loop.
const STUCK_AGAIN_MS: u64 = 60_000;

/// Whether the process is to be replaced.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Again {
    wanted: bool,
    begun: bool,
}

impl Again {
    /// An engine was taken out of service.
    pub(super) fn went(&mut self, loaded: Option<Arc<Loaded>>) {
        let hung = loaded.map_or(0, |loaded| loaded.hung_runs());
        if hung > 0 {
            tracing::warn!(hung, "what was replaced hangs: only a new process frees its threads");
            self.wanted = true;
        }
    }

    /// Somebody asked the process to stop: it shall.
    pub(super) fn cancel(&mut self) {
        *self = Self::default();
    }

    pub(super) fn has_begun(self) -> bool {
        self.begun
    }

    pub(super) fn ended(self) -> Ended {
        if self.begun { Ended::Again } else { Ended::Stopped }
    }
}

impl Agent {
    /// Tells the core of runs that hang, and begins a new process where one is needed.
    pub(super) fn look_for_hangs(&mut self, now: Now) {
        for live in self.models.list() {
            let Some(loaded) = live.current() else { continue };
            if loaded.hung_runs() > 0 {
                self.device.handle_hang(now, live.model(), loaded.release);
            }
            if !self.again.wanted
                && loaded.is_stuck()
                && is_worth_a_try(now.ms, self.device.is_on_trial())
            {
                let (model, version) = (&loaded.model, &loaded.version);
                tracing::warn!(%model, %version, "its runs hang: only a new process frees their threads");
                self.again.wanted = true;
            }
        }
        // A program around the agent is not ours to replace: its processor stays lost, and the status
        // says so.
        if self.again.wanted && !self.again.begun && self.owns_process {
            self.again.begun = true;
            tracing::warn!("this process starts anew");
            // As asked to: a trial of another model is not blamed for it.
            self.device.handle_stop(now);
        }
    }
}

/// Whether a process of this age is replaced because a confirmed release hangs in it. A trial goes first:
/// its verdict may be the mend, and it must not be cut short.
fn is_worth_a_try(age_ms: u64, is_on_trial: bool) -> bool {
    age_ms >= STUCK_AGAIN_MS && !is_on_trial
}

/// Becomes this program again. Returns only if that is impossible.
pub fn become_again() -> std::io::Error {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    // By its path, so that it keeps its name. After an upgrade that path is gone for us (the kernel
    // says "(deleted)"), and this link still is this very program.
    let path = std::env::current_exe().ok().filter(|path| path.exists());
    let path = path.unwrap_or_else(|| "/proc/self/exe".into());
    Command::new(path).arg0(name).args(args).exec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A release that hangs at once takes the process with it as often as its age allows; here it asks a
    /// hundred times a second for ten minutes.
    #[test]
    fn a_release_that_hangs_at_once_costs_a_process_a_minute() {
        let (mut started_ms, mut processes) = (0, 0);
        for now_ms in (0..600_000).step_by(10) {
            if is_worth_a_try(now_ms - started_ms, false) {
                (started_ms, processes) = (now_ms, processes + 1);
            }
        }
        assert_eq!(processes, 9, "the tenth minute is not over");
        assert!(!is_worth_a_try(u64::MAX, true), "nobody's trial is cut short");
    }
}
