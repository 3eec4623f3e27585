//! A device of the world: the real device core on a simulated disk, with made-up engines.

use std::collections::BTreeMap;

use fleetway_agent::device::{Device, DeviceConfig, Output, ShadowJob, Surroundings};
use fleetway_agent::store::Store;
use fleetway_engine::load::FORMS;
use fleetway_protocol::health::Answer;
use fleetway_protocol::hold::Hold;
use fleetway_protocol::ids::{DeviceId, Digest, Version};
use fleetway_protocol::machine::{Phase, Token};
use fleetway_protocol::manifest::VariantKind;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::shadow::Compared;
use fleetway_protocol::slot::Place;
use fleetway_protocol::topics::{ROOT_DEFAULT, Topic};
use fleetway_protocol::transfer;

use super::disk::{Mood, SimFs};
use super::releases::Nature;
use super::{Happening, World};

/// Answers that an application gets between two looks at a probation.
const ANSWERS_PER_WAKE: u32 = 8;

/// One device.
pub struct SimDevice {
    /// Its id.
    pub id: DeviceId,
    /// What survives its power cuts.
    pub fs: SimFs,
    /// The running agent; `None` while it is off.
    pub core: Option<Device<SimFs>>,
    /// Number of its start, in this world.
    pub boot: u64,
    /// Number of its connection; messages of older ones never arrive.
    pub connection: u64,
    /// Connected.
    pub up: bool,
    /// What its owner has every update wait for.
    pub owner: Hold,
    /// The candidate in its shadow.
    pub shadow: Option<(Digest, Token)>,
    /// What its engine has loaded.
    pub serving: Option<Digest>,
    /// How often it ended without being asked to while a release was on trial, by release.
    pub trial_ends: BTreeMap<Digest, u32>,
    answers: u32,
}

impl SimDevice {
    /// A new device, off.
    pub fn new(id: DeviceId, fs: SimFs) -> Self {
        Self {
            id,
            fs,
            core: None,
            boot: 0,
            connection: 0,
            up: false,
            owner: Hold::default(),
            shadow: None,
            serving: None,
            trial_ends: BTreeMap::new(),
            answers: 0,
        }
    }
}

impl World {
    pub(super) fn device_happens(&mut self, happening: Happening) {
        let now = self.now();
        let device = match happening {
            Happening::Boot { device } => return self.device_boots(device),
            Happening::DiskWell { device } => return self.devices[device].fs.set_mood(Mood::Well),
            Happening::LinkUp { device, boot } => return self.link_up(device, boot),
            Happening::Dies { device, boot, release } => {
                let d = &self.devices[device];
                if d.boot == boot && d.serving == Some(release) {
                    self.checker.died_of(&d.id, release);
                    self.power_cut(device);
                }
                return;
            }
            Happening::ToDevice { device, connection, topic, payload } => {
                let d = &mut self.devices[device];
                if d.connection != connection || !d.up {
                    return;
                }
                let Some(core) = &mut d.core else { return };
                core.handle_message(now, &topic, &payload);
                device
            }
            Happening::Wake { device, boot } => {
                if self.devices[device].boot != boot {
                    return;
                }
                self.application_asks(device);
                self.look_around(device);
                if let Some(core) = &mut self.devices[device].core {
                    core.handle_tick(now);
                }
                device
            }
            Happening::SelfTested { device, boot, model, token, result } => {
                let Some(core) = self.alive(device, boot) else { return };
                core.handle_self_test(now, &model, token, result);
                device
            }
            Happening::Activated { device, boot, model, token, result } => {
                if self.devices[device].boot != boot {
                    return;
                }
                if let Ok(digest) = result {
                    self.serve(device, digest);
                }
                let Some(core) = self.alive(device, boot) else { return };
                core.handle_activated(now, &model, token, result);
                device
            }
            Happening::Unloaded { device, boot, model, token } => {
                self.devices[device].serving = None;
                let Some(core) = self.alive(device, boot) else { return };
                core.handle_unloaded(now, &model, token);
                device
            }
            _ => return,
        };
        self.drain(device);
    }

    fn alive(&mut self, device: usize, boot: u64) -> Option<&mut Device<SimFs>> {
        let device = &mut self.devices[device];
        device.core.as_mut().filter(|_| device.boot == boot)
    }

    fn serve(&mut self, device: usize, digest: Digest) {
        let boot = self.devices[device].boot;
        self.devices[device].serving = Some(digest);
        let nature = self.releases.get(&digest).map(|r| r.nature);
        self.checker.serves(&self.devices[device].id, digest, nature);
        if nature == Some(Nature::Crash) {
            let delay = self.rng.u64(1..1_500);
            self.after(delay, Happening::Dies { device, boot, release: digest });
        }
    }

    fn application_asks(&mut self, device: usize) {
        let d = &mut self.devices[device];
        let (Some(core), Some(release)) = (&mut d.core, d.serving) else { return };
        let collapsed = self
            .releases
            .get(&release)
            .is_some_and(|r| matches!(r.nature, Nature::Collapse | Nature::Differs));
        for _ in 0..ANSWERS_PER_WAKE {
            d.answers += 1;
            let class = if collapsed { 0 } else { (d.answers % 10) as u16 };
            let answer = Answer::ok(100, Some(class));
            core.handle_answer(&self.model, release, &answer);
        }
    }

    /// A candidate in the shadow: most run, some have another interface, some cannot be started.
    fn begin_shadow(&mut self, device: usize, job: &ShadowJob) {
        let (now, candidate) = (self.now(), job.manifest.digest());
        let nature = self.releases.get(&candidate).map(|r| r.nature);
        let ended = match self.rng.u8(0..20) {
            0 if nature == Some(Nature::Good) => Some(Reason::ShadowInterface),
            1 | 2 if self.stormy => Some(Reason::Environment),
            _ => None,
        };
        let d = &mut self.devices[device];
        match (ended, &mut d.core) {
            (Some(reason), Some(core)) => {
                core.handle_shadow_ended(now, &job.model, job.token, reason)
            }
            _ => d.shadow = Some((candidate, job.token)),
        }
    }

    /// Copies for a candidate in the shadow, and what its answers are like.
    fn shadow_answers(&mut self, device: usize) {
        let now = self.now();
        let d = &mut self.devices[device];
        let (Some(core), Some((candidate, token))) = (&mut d.core, d.shadow) else { return };
        let differs = self.releases.get(&candidate).is_some_and(|r| r.nature == Nature::Differs);
        let compared = Compared::Answered {
            agrees: !differs,
            diff_millionths: 1,
            serving_us: 100,
            candidate_us: 110,
        };
        core.handle_compared(now, &self.model, token, &[compared; 4], 1);
    }

    /// What a held update waits for: in the calm all is well in the end, in the storm hardly.
    fn look_around(&mut self, device: usize) {
        self.shadow_answers(device);
        let now = self.now();
        let well = !self.stormy || self.rng.u8(0..8) == 0;
        let around = Surroundings {
            time_known: true,
            idle_s: if well { 60 } else { 0 },
            mains: well || self.rng.bool(),
            unmetered: true,
            locked: if well { Vec::new() } else { vec![self.model.clone()] },
        };
        let d = &mut self.devices[device];
        let Some(core) = d.core.as_mut().filter(|core| core.wants_surroundings()) else { return };
        core.handle_surroundings(now, &around);
    }

    fn device_boots(&mut self, device: usize) {
        let now = self.now();
        let d = &mut self.devices[device];
        if d.core.is_some() {
            return;
        }
        d.boot += 1;
        d.serving = None;
        let config = DeviceConfig {
            id: d.id.clone(),
            root: ROOT_DEFAULT.to_owned(),
            trust_root: self.pinned.clone(),
            hardware: None,
            forms: if device.is_multiple_of(2) { FORMS } else { &[VariantKind::Onnx] },
            hold: d.owner,
            transfer: transfer::Config { window_chunks: 4, bytes_per_s: 0, seed: device as u32 },
            agent: Version::new("0.1.0").expect("a version"),
            asks_floor: false,
            checks: Default::default(),
        };
        let store = Store::open(d.fs.clone(), "data".as_ref(), None);
        match store.and_then(|store| Device::open(config, store, now)) {
            Ok(core) => d.core = Some(core),
            // A disk that takes not even the boot's number: tried again later.
            Err(_) => return self.after(5_000, Happening::Boot { device }),
        }
        let boot = d.boot;
        let delay = self.rng.u64(10..3_000);
        self.after(delay, Happening::LinkUp { device, boot });
        self.drain(device);
    }

    fn link_up(&mut self, device: usize, boot: u64) {
        let now = self.now();
        let d = &mut self.devices[device];
        let Some(core) = d.core.as_mut().filter(|_| d.boot == boot && !d.up) else { return };
        (d.up, d.connection) = (true, d.connection + 1);
        core.handle_up(now);
        let id = d.id.clone();
        for topic in [Topic::Order(id.clone()), Topic::Block(id)] {
            self.subscribe(device, topic.text(ROOT_DEFAULT).as_str());
        }
        self.drain(device);
    }

    pub(super) fn link_down(&mut self, device: usize) {
        let now = self.now();
        let d = &mut self.devices[device];
        if !d.up {
            return;
        }
        d.up = false;
        d.connection += 1;
        let boot = d.boot;
        self.broker.disconnect(device);
        if let Some(core) = &mut self.devices[device].core {
            core.handle_down(now);
        }
        let delay = self.rng.u64(100..30_000);
        self.after(delay, Happening::LinkUp { device, boot });
        self.drain(device);
    }

    /// `kill -9`: what was written is there.
    pub(super) fn kill(&mut self, device: usize) {
        let now = self.now();
        let d = &mut self.devices[device];
        let Some(core) = d.core.take() else { return };
        for model in core.status(now) {
            let on_trial = model.table.trial().map(|(slot, _)| model.table.slot(slot).release);
            if let Some(Some(facts)) = on_trial {
                *d.trial_ends.entry(facts.digest).or_default() += 1;
            }
        }
        d.boot += 1;
        d.up = false;
        d.connection += 1;
        d.serving = None;
        d.shadow = None;
        self.broker.disconnect(device);
        let delay = self.rng.u64(500..10_000);
        self.after(delay, Happening::Boot { device });
    }

    /// Power is lost: what was not synced may not be there.
    pub(super) fn power_cut(&mut self, device: usize) {
        self.kill(device);
        self.devices[device].fs.cut(&mut self.rng);
    }

    fn subscribe(&mut self, device: usize, topic: &str) {
        self.broker.subscribe(device, topic);
        if let Some(kept) = self.broker.kept(topic) {
            self.deliver(device, topic, &kept, false);
        }
    }

    /// Carries out what a device wants, and sets its timer.
    pub(super) fn drain(&mut self, device: usize) {
        while let Some(output) = self.devices[device].core.as_mut().and_then(Device::poll) {
            self.carry_out_for(device, output);
        }
        self.look_at(device);
        let now = self.now();
        let d = &self.devices[device];
        let timeout = d.core.as_ref().and_then(|core| core.poll_timeout(now));
        if let Some(at) = timeout {
            let boot = d.boot;
            self.after(at.saturating_sub(self.now_ms).max(1), Happening::Wake { device, boot });
        }
    }

    fn carry_out_for(&mut self, device: usize, output: Output) {
        let boot = self.devices[device].boot;
        match output {
            Output::Publish(publish) if self.devices[device].up => self.device_publishes(publish),
            Output::Publish(_) => {}
            Output::Subscribe(topic) if self.devices[device].up => self.subscribe(device, &topic),
            Output::Subscribe(_) => {}
            Output::Unsubscribe(topic) => self.broker.unsubscribe(device, &topic),
            Output::SelfTest(job) => {
                let nature = self.releases.get(&job.manifest.digest()).map(|r| r.nature);
                let result = match nature {
                    Some(Nature::Golden) => Err(Reason::Golden),
                    _ if self.stormy && self.rng.u8(0..20) == 0 => Err(Reason::Environment),
                    _ => Ok(()),
                };
                let (model, token) = (job.model, job.token);
                let delay = self.rng.u64(20..200);
                self.after(delay, Happening::SelfTested { device, boot, model, token, result });
            }
            Output::Shadow(job) => self.begin_shadow(device, &job),
            Output::EndShadow(_) => self.devices[device].shadow = None,
            Output::Activate(job) => {
                let digest = job.manifest.digest();
                let nature = self.releases.get(&digest).map(|r| r.nature);
                let refused = nature == Some(Nature::NoLoad);
                let result = if refused { Err(Reason::LoadFailed) } else { Ok(digest) };
                let (model, token) = (job.model, job.token);
                let from = match job.place {
                    Place::Slot(_) => 5..50,
                    Place::Factory => 1..5,
                };
                let delay = self.rng.u64(from);
                self.after(delay, Happening::Activated { device, boot, model, token, result });
            }
            Output::Unload(model, token) => {
                self.after(1, Happening::Unloaded { device, boot, model, token });
            }
            // No device here has a check of its own.
            Output::Check(_) => {}
            // The day of link loss has a world of its own (tests/telemetry.rs).
            Output::Telemetry(_) | Output::Heard(_) => {}
            Output::Halt => self.kill(device),
        }
    }

    /// What must be true of a device after every event.
    fn look_at(&mut self, device: usize) {
        let now = self.now();
        let d = &self.devices[device];
        let Some(core) = &d.core else { return };
        for model in core.status(now) {
            let settled = matches!(
                model.phase,
                Phase::Idle
                    | Phase::Eligibility
                    | Phase::Download
                    | Phase::Verification
                    | Phase::SelfTest
                    | Phase::Shadow
                    | Phase::Held
            );
            self.checker.device_seen(&d.id, &model, settled);
        }
    }
}
