//! What the loop measures and has reported: counters, the machine, the process's memory.

use super::{Agent, LOOK_MS};
use crate::device::Now;
use crate::host::resident_bytes;

impl Agent {
    /// Reports how the machine does and what every model answered.
    pub(super) fn send_telemetry(&mut self) {
        let now = super::now(&self.clock);
        self.device.handle_host(now, self.host.read());
        let rss_bytes = self.owns_process.then(resident_bytes).flatten();
        for live in self.models.list() {
            if let Some(mut telemetry) = live.recorder().snapshot() {
                telemetry.rss_bytes = rss_bytes;
                self.device.handle_telemetry(now, live.model(), telemetry);
            }
        }
    }

    /// Looks at the process's memory, once a second while a release is on trial. What a program around
    /// the agent takes is no release's.
    pub(super) fn look_at_memory(&mut self, now: Now) {
        if !self.owns_process || !self.device.is_on_trial() || now.ms < self.memory_at_ms + LOOK_MS
        {
            return;
        }
        self.memory_at_ms = now.ms;
        if let Some(bytes) = resident_bytes() {
            self.device.handle_memory(bytes);
        }
    }
}
