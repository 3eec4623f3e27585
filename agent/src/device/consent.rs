//! What a held update waits for, told to the machines: the shell looks around, the machines decide.

use fleetway_protocol::hold::Facts;
use fleetway_protocol::ids::ModelName;
use fleetway_protocol::machine::Event;

use super::{Device, Model, Now};
use crate::fs::Fs;

/// How often a held update is looked at, milliseconds: an application that releases its lock
/// sees the swap begin at once, and a window opens on time.
const LOOK_MS: u64 = 500;

/// How the device is, as far as an update may have to wait for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Whether the system's clock is not behind what was signed.
    pub time_known: bool,
    /// Seconds since an application last asked, or since the start.
    pub idle_s: u32,
    /// Whether it is on mains power.
    pub mains: bool,
    /// Whether its link costs nothing by the byte.
    pub unmetered: bool,
    /// Models that an application holds a lock on.
    pub locked: Vec<ModelName>,
}

/// When to tell them again.
pub(super) fn due_ms(model: &Model, now: Now) -> Option<u64> {
    model.machine.wants_facts().then_some(now.ms + LOOK_MS)
}

impl<F: Fs> Device<F> {
    /// Whether anything waits for how the device is: then [`Device::handle_surroundings`].
    pub fn wants_surroundings(&self) -> bool {
        self.models.iter().any(|model| model.machine.wants_facts())
    }

    /// How the device is now.
    pub fn handle_surroundings(&mut self, now: Now, around: &Surroundings) {
        for model in &mut self.models {
            let facts = Facts {
                unix_s: now.unix_s,
                time_known: around.time_known,
                locked: around.locked.contains(&model.name),
                idle_s: around.idle_s,
                mains: around.mains,
                unmetered: around.unmetered,
            };
            model.machine.handle(now.ms, Event::Facts(facts));
        }
        self.drive(now);
    }
}
