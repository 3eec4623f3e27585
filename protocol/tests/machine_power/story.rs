//! Stories: what happens to a device when nothing is cut, and what must serve in the end
//! whatever was cut. [`Story::play`] plays one with cuts at given places; [`must`] fails with
//! the log of what happened.

use fleetway_protocol::limits::TRIAL_TRIES_MAX;
use fleetway_protocol::machine::Event;
use fleetway_protocol::order::Action::{self, Remove, Rollback, Run};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::SlotId;

use Scene::{Give, GiveAt, Rot, Stop, StopAt};

use crate::common::release::{Release, order};
use crate::common::text::summary;
use crate::common::{Bytes, Cut, Device};

/// What happens, when nothing is cut.
#[derive(Clone, Copy)]
pub(crate) enum Scene {
    Give(Action, Release),
    /// Give it while the device is at this command of the one before.
    GiveAt(u32, Action, Release),
    Stop,
    StopAt(u32),
    /// The bytes of a slot rot while the device is off, and it boots.
    Rot(SlotId),
}

#[derive(Clone, Copy)]
pub(crate) struct Story<'a> {
    name: &'a str,
    factory: Option<Release>,
    confirmed: &'a [Release],
    scenes: &'a [Scene],
    /// What serves in the end, whatever was cut (fewer than three times in a trial).
    serves: Option<Release>,
    /// What may serve instead, where it depends on the cuts what was confirmed before.
    pub(crate) or: Option<Release>,
}

pub(crate) const STORIES: &[Story<'static>] = &[
    story("first install", None, &[], &[Give(Run, 1)], Some(1)),
    story("first install over a factory model", Some(0), &[], &[Give(Run, 1)], Some(1)),
    story("upgrade", None, &[1], &[Give(Run, 2)], Some(2)),
    story("two upgrades", Some(0), &[1], &[Give(Run, 2), Give(Run, 3)], Some(3)),
    story("golden vectors fail", None, &[1], &[Give(Run, 4)], Some(1)),
    story("unhealthy", None, &[1], &[Give(Run, 5)], Some(1)),
    story("crashes", None, &[1], &[Give(Run, 6)], Some(1)),
    story("crashes, over a factory model", Some(0), &[], &[Give(Run, 6)], Some(0)),
    story("will not load", None, &[1], &[Give(Run, 7)], Some(1)),
    story("never verifies", None, &[1], &[Give(Run, 8)], Some(1)),
    story("untrusted", None, &[1], &[Give(Run, 9)], Some(1)),
    story("unhealthy, then the next", None, &[1], &[Give(Run, 5), Give(Run, 10)], Some(10)),
    story("back to the slot before", None, &[1, 2], &[Give(Rollback, 1)], Some(1)),
    story("back and forth", None, &[1, 2], &[Give(Rollback, 1), Give(Run, 2)], Some(2)),
    story("back to the factory model", Some(0), &[1], &[Give(Rollback, 0)], Some(0)),
    story("back to nothing known", None, &[1], &[Give(Rollback, 3)], Some(1)),
    story("removed", None, &[1, 2], &[Give(Remove, 2)], None),
    story("removed over a factory model", Some(0), &[1], &[Give(Remove, 1)], None),
    story("removed and back", Some(0), &[1], &[Give(Remove, 1), Give(Run, 2)], Some(2)),
    story("rot, then fetched again", None, &[1, 2], &[Rot(SlotId::B), Give(Run, 2)], Some(2)),
    story("rot of all", Some(0), &[1, 2], &[Rot(SlotId::A), Rot(SlotId::B), Give(Run, 3)], Some(3)),
    story("stopped in rest", None, &[1], &[Stop, Give(Run, 2), Stop], Some(2)),
    story("stopped in the download", None, &[1], &[Give(Run, 2), StopAt(5)], Some(2)),
    story("stopped in the trial", None, &[1], &[Give(Run, 2), StopAt(10)], Some(2)),
    story("superseded in the download", None, &[1], &[Give(Run, 2), GiveAt(4, Run, 3)], Some(3)),
    story("superseded in the trial", None, &[1], &[Give(Run, 2), GiveAt(10, Run, 3)], Some(3)),
    story("aborted in the trial", Some(0), &[1], &[Give(Run, 2), GiveAt(10, Rollback, 1)], Some(1)),
    story("held", Some(0), &[1], &[Give(Run, 11)], Some(11)),
    story("in the shadow", None, &[1], &[Give(Run, 12)], Some(12)),
    story("held and in the shadow", None, &[1], &[Give(Run, 13)], Some(13)),
    story("disagrees in the shadow", None, &[1], &[Give(Run, 14)], Some(1)),
    story("first install, held", None, &[], &[Give(Run, 13)], Some(13)),
    story("superseded while held", None, &[1], &[Give(Run, 11), GiveAt(9, Run, 3)], Some(3)),
    story("superseded in the shadow", None, &[1], &[Give(Run, 12), GiveAt(8, Run, 3)], Some(3)),
    story("back while held", None, &[1, 2], &[Give(Run, 11), GiveAt(9, Rollback, 2)], Some(2)),
    story("stopped while held", None, &[1], &[Give(Run, 13), StopAt(10)], Some(13)),
    story("removed in the trial", None, &[1], &[Give(Run, 2), GiveAt(10, Remove, 2)], None),
];

pub(crate) const fn story<'a>(
    name: &'a str,
    factory: Option<Release>,
    confirmed: &'a [Release],
    scenes: &'a [Scene],
    serves: Option<Release>,
) -> Story<'a> {
    Story { name, factory, confirmed, scenes, serves, or: serves }
}

/// How many commands and verdicts came, and where the power goes.
struct Power<'a> {
    at: u32,
    cuts: &'a [(u32, Cut)],
    in_trial: u32,
}

impl Power<'_> {
    fn boundary(&mut self, device: &Device) -> Option<Cut> {
        self.at += 1;
        let cut = self.cuts.iter().find(|c| c.0 == self.at).map(|c| c.1);
        self.in_trial += u32::from(cut.is_some() && on_trial(device, cut));
        cut
    }
}

/// Whether a cut here is an ungraceful end of a trial.
fn on_trial(device: &Device, cut: Option<Cut>) -> bool {
    device.durable.trial().is_some()
        || cut == Some(Cut::After) && device.machine.table().trial().is_some()
}

impl Story<'_> {
    pub(crate) fn device(&self) -> Device {
        Device::confirmed(self.factory, self.confirmed)
    }

    /// Plays the story with these cuts; the number of places where one was possible.
    pub(crate) fn play(&self, device: &mut Device, cuts: &[(u32, Cut)]) -> Result<u32, String> {
        let mut power = Power { at: 0, cuts, in_trial: 0 };
        for (at, scene) in self.scenes.iter().enumerate() {
            match *scene {
                Give(action, release) | GiveAt(_, action, release) => {
                    device.give(order(action, release, 10 + at as u64));
                }
                Stop | StopAt(_) => device.send(Event::Stopping),
                Rot(slot) => {
                    device.bytes[slot as usize] = Bytes::Rot;
                    device.net_rotten = true;
                    device.cut(Cut::Before);
                }
            }
            match self.scenes.get(at + 1) {
                Some(GiveAt(n, ..) | StopAt(n)) => advance(device, *n, &mut power)?,
                _ => device.settle(&mut |d| power.boundary(d))?,
            }
        }
        self.check_end(device, power.in_trial)?;
        Ok(power.at)
    }

    fn check_end(&self, device: &Device, cuts_in_trial: u32) -> Result<(), String> {
        let serves = device.engine.map(|e| e.1);
        // Three ends in one trial are the release's fault, as far as the device can know.
        let interrupted = cuts_in_trial >= u32::from(TRIAL_TRIES_MAX)
            && device.durable.poison.iter().any(|p| p.reason == Reason::Interrupted);
        if ![self.serves, self.or].contains(&serves) && !interrupted {
            let table = summary(&device.durable);
            return Err(format!("serves {serves:?}, not {:?}: {table}", self.serves));
        }
        if device.machine.table() != &device.durable {
            return Err("at rest, and the table is not durable".into());
        }
        Ok(())
    }
}

/// Goes on for `n` steps, or to the end.
fn advance(device: &mut Device, n: u32, power: &mut Power<'_>) -> Result<(), String> {
    for _ in 0..n {
        if !device.told && device.order.is_some() {
            device.tell();
        }
        match power.boundary(device) {
            Some(cut) => device.cut(cut),
            None => drop(device.step()),
        }
        if let Some(broken) = &device.broken {
            return Err(broken.clone());
        }
    }
    Ok(())
}

pub(crate) fn must(story: &Story<'_>, device: &Device, cuts: &[(u32, Cut)]) -> u32 {
    story.play(&mut device.clone(), cuts).unwrap_or_else(|problem| {
        // The same once more, for the log that tells what happened.
        let mut again = device.clone();
        again.log = Some(Vec::new());
        let _ = story.play(&mut again, cuts);
        let log = again.log.unwrap_or_default().join("\n");
        panic!("{}, cuts {cuts:?}: {problem}\n{log}", story.name)
    })
}
