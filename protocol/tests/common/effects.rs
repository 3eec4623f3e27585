//! What the device does for a command when it works, when it fails, and when the power goes
//! halfway: the effects on slots, table and engine, with the [`Flaw`] where there is one.

use fleetway_protocol::ids::Digest;
use fleetway_protocol::limits::TRIAL_TRIES_MAX;
use fleetway_protocol::machine::{Command, Event};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Place, SlotId, SlotState};

use super::release::{Nature, Release, digest, facts, nature};
use super::{Bytes, Device, Flaw};

impl Device {
    /// Answers the pending command as the device would: `Ok` after its effect, or `with`.
    pub(crate) fn answer(&mut self, with: Result<(), Reason>) {
        let Some(command) = self.pending.take() else { return };
        if let (Some(table), false) = (self.behind.take(), matches!(command, Command::Persist(_))) {
            self.durable = table;
        }
        let event = match with {
            Ok(()) => {
                if let Command::Persist(_) = command {
                    self.promised = self.snapshot.clone();
                }
                self.carry_out(command)
            }
            Err(reason) => self.refuse(command, reason),
        };
        self.answered.push(event.clone());
        self.send(event);
    }

    pub(super) fn carry_out(&mut self, command: Command) -> Event {
        match command {
            Command::Persist(token) => {
                self.write();
                Event::Persisted(token, Ok(()))
            }
            Command::Admit(token) => {
                let release = self.machine.goal().expect("a goal").release.0[0];
                let refused = nature(release) == Nature::Untrusted;
                let result = if refused { Err(Reason::Untrusted) } else { Ok(facts(release)) };
                Event::Admitted(token, result)
            }
            Command::Erase(token, slot) => {
                let wrong = self.flaw == Some(Flaw::ErasesTheOther);
                self.bytes[if wrong { slot.other() } else { slot } as usize] = Bytes::None;
                Event::Done(token, Ok(()))
            }
            Command::Fetch(token, slot) => {
                self.bytes[slot as usize] = Bytes::Whole(self.named(slot));
                Event::Done(token, Ok(()))
            }
            Command::Verify(token, slot) => {
                let release = self.named(slot);
                let good = self.bytes[slot as usize] == Bytes::Whole(release)
                    && nature(release) != Nature::NeverVerifies;
                let good = good || self.flaw == Some(Flaw::VerifiesAnything);
                Event::Done(token, if good { Ok(()) } else { Err(Reason::Verification) })
            }
            Command::SelfTest(token, slot) => {
                let fails = nature(self.named(slot)) == Nature::GoldenFails;
                Event::Done(token, if fails { Err(Reason::Golden) } else { Ok(()) })
            }
            Command::Shadow(token, slot) => {
                let differs = nature(self.named(slot)) == Nature::Disagrees;
                Event::Done(token, if differs { Err(Reason::ShadowDisagrees) } else { Ok(()) })
            }
            Command::Activate(token, place) => Event::Activated(token, self.load(place)),
            Command::Unload(token) => {
                self.engine = None;
                Event::Done(token, Ok(()))
            }
            Command::CancelFetch | Command::Halt => unreachable!("never pending"),
        }
    }

    fn refuse(&mut self, command: Command, reason: Reason) -> Event {
        match command {
            Command::Persist(token) => Event::Persisted(token, Err(reason)),
            Command::Admit(token) => Event::Admitted(token, Err(reason)),
            Command::Activate(token, place) => {
                let confirmed = match place {
                    Place::Slot(slot) => {
                        self.machine.table().slot(slot).state == SlotState::Confirmed
                    }
                    Place::Factory => true,
                };
                // The tests say by this that the bytes cannot be read any more.
                if confirmed && (!reason.is_transient() || reason == Reason::DiskError) {
                    self.net_rotten = true;
                }
                Event::Activated(token, Err(reason))
            }
            Command::Erase(token, _)
            | Command::Fetch(token, _)
            | Command::Verify(token, _)
            | Command::SelfTest(token, _)
            | Command::Shadow(token, _)
            | Command::Unload(token) => Event::Done(token, Err(reason)),
            Command::CancelFetch | Command::Halt => unreachable!("never pending"),
        }
    }

    fn load(&mut self, place: Place) -> Result<Digest, Reason> {
        let release = match place {
            Place::Slot(slot) => match self.bytes[slot as usize] {
                Bytes::Whole(n) if self.named(slot) == n => n,
                _ => return Err(Reason::Corrupt),
            },
            Place::Factory if self.factory_ok => {
                self.machine.table().factory.expect("a factory model").digest.0[0]
            }
            Place::Factory => return Err(Reason::Corrupt),
        };
        if nature(release) == Nature::WillNotLoad {
            return Err(Reason::LoadFailed);
        }
        if self.flaw != Some(Flaw::LoadsNothing) {
            self.engine = Some((place, release));
        }
        Ok(digest(release))
    }

    pub(super) fn carry_out_half(&mut self, command: Command) {
        match command {
            Command::Erase(_, slot) => self.bytes[slot as usize] = Bytes::Rot,
            Command::Fetch(_, slot) => self.bytes[slot as usize] = Bytes::Part(self.named(slot)),
            _ => {} // a torn table is no table: the older copy counts
        }
    }

    pub(super) fn named(&self, slot: SlotId) -> Release {
        self.machine.table().slot(slot).release.map_or(0, |r| r.digest.0[0])
    }

    pub(crate) fn write(&mut self) {
        let mut table = self.snapshot.clone();
        match self.flaw {
            Some(Flaw::KeepsTries) => {
                for slot in &mut table.slots {
                    if let SlotState::Trial { tries_left } = &mut slot.state {
                        *tries_left = TRIAL_TRIES_MAX - 1;
                    }
                }
            }
            Some(Flaw::ForgetsPoison) => table.poison.clear(),
            Some(Flaw::ForgetsFloor) => table.version_floor = 0,
            Some(Flaw::WritesBehind) => {
                self.behind = Some(table);
                return;
            }
            _ => {}
        }
        self.durable = table;
    }
}
