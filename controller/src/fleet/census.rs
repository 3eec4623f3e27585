//! Where each device stands, in one word, and how many stand where: what lists are filtered by
//! and what an overview counts.

use std::collections::BTreeMap;

use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::report::State;
use fleetway_protocol::slot::Ending;

use super::{Device, DeviceView, Fleet};

/// Where a device stands with its models. Whether it is online is another question. The first
/// that holds, from the top: what needs a person comes before what goes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Thrown out.
    Revoked,
    /// It refused its last order.
    Refusing,
    /// Its last order ended badly, and what was ordered is not what it runs.
    WentBack,
    /// It waits for consent or a safe point.
    Held,
    /// It works on an order.
    Moving,
    /// It runs a model and has nothing to do.
    Serving,
    /// It runs nothing, as far as it said.
    Empty,
}

impl Standing {
    /// All of them, in that order.
    pub const ALL: [Self; 7] = [
        Self::Revoked,
        Self::Refusing,
        Self::WentBack,
        Self::Held,
        Self::Moving,
        Self::Serving,
        Self::Empty,
    ];

    /// The word, for people and for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Refusing => "refusing",
            Self::WentBack => "went_back",
            Self::Held => "held",
            Self::Moving => "moving",
            Self::Serving => "serving",
            Self::Empty => "empty",
        }
    }

    /// The standing of that word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.word() == word)
    }
}

/// How many devices stand where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Devices of the fleet, revoked ones included.
    pub total: usize,
    /// Of these, the ones that are there.
    pub online: usize,
    /// By where they stand.
    pub standing: BTreeMap<Standing, usize>,
    /// Devices that run a release, by model.
    pub runs: BTreeMap<ModelName, BTreeMap<Digest, usize>>,
}

impl Fleet {
    /// Counts the fleet, without a copy of it.
    pub fn census(&self) -> Census {
        let mut census = Census { total: self.devices.len(), ..Census::default() };
        for device in self.devices.values() {
            census.online += usize::from(device.live.online);
            *census.standing.entry(device.standing()).or_default() += 1;
            for (model, state) in &device.record.states {
                let Some(digest) = state.running.filter(|_| !device.is_revoked()) else { continue };
                *census.runs.entry(model.clone()).or_default().entry(digest).or_default() += 1;
            }
        }
        census
    }

    /// The devices that `wanted` picks, by id: those from `skip` on, at most `take`, and how many
    /// there are in all.
    pub fn find_devices(
        &self,
        wanted: impl Fn(&Candidate<'_>) -> bool,
        skip: usize,
        take: usize,
    ) -> (Vec<DeviceView>, usize) {
        let chosen = self.devices.iter().filter(|(id, device)| wanted(&Candidate { id, device }));
        let mut page = Vec::new();
        let mut total = 0;
        for (id, device) in chosen {
            if total >= skip && page.len() < take {
                page.push(super::queries::device_view(id, device));
            }
            total += 1;
        }
        (page, total)
    }
}

/// A device that a list may show.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    /// Its id.
    pub id: &'a fleetway_protocol::ids::DeviceId,
    device: &'a Device,
}

impl Candidate<'_> {
    /// Its labels.
    pub fn labels(&self) -> &crate::planner::Labels {
        &self.device.record.labels
    }

    /// Whether it is there.
    pub fn online(&self) -> bool {
        self.device.live.online
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        self.device.standing()
    }

    /// Whether it runs that release.
    pub fn runs(&self, release: &Digest) -> bool {
        self.device.record.states.values().any(|state| state.running == Some(*release))
    }
}

impl Device {
    /// Where it stands.
    pub(super) fn standing(&self) -> Standing {
        let any = |is: fn(&State) -> bool| self.record.states.values().any(is);
        if self.is_revoked() {
            Standing::Revoked
        } else if self.live.refused.is_some() {
            Standing::Refusing
        } else if any(went_back) {
            Standing::WentBack
        } else if any(|state| state.phase == Phase::Held) {
            Standing::Held
        } else if any(|state| state.phase != Phase::Idle) {
            Standing::Moving
        } else if any(|state| state.running.is_some()) {
            Standing::Serving
        } else {
            Standing::Empty
        }
    }
}

fn went_back(state: &State) -> bool {
    let bad = |ending: &Ending| matches!(ending, Ending::Failed(_) | Ending::RolledBack(_));
    state.phase == Phase::Idle
        && state
            .last
            .as_ref()
            .is_some_and(|last| bad(&last.result) && state.running != Some(last.release))
}
