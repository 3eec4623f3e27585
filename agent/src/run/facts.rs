//! What the event loop hears, told to the device core: messages, answers of jobs, the floor.

use fleetway_engine::Sandbox;
use fleetway_link::LinkEvent;
use fleetway_protocol::enroll::Floor;
use fleetway_protocol::reason::Reason;

use super::jobs::Answer;
use super::{Agent, link, now};

impl Agent {
    pub(super) fn link_event(&mut self, event: LinkEvent) {
        let now = now(&self.clock);
        match event {
            LinkEvent::Up { version, .. } => {
                tracing::info!(%version, "connected");
                self.board.link_up();
                self.telemetry.link(true);
                self.gateway.handle_link(true);
                self.device.handle_up(now);
            }
            LinkEvent::Down { reason, retry_in } => {
                tracing::warn!(%reason, retry_s = retry_in.as_secs_f32(), "not connected");
                self.board.link_down(reason);
                self.telemetry.link(false);
                self.gateway.handle_link(false);
                self.device.handle_down(now);
            }
            LinkEvent::Message { topic, payload, .. } => {
                if self.gateway.handle_message(&topic, &payload) {
                    return;
                }
                self.device.handle_message(now, &topic, &payload);
                self.clock.raise_floor(self.device.time_floor_s());
            }
            LinkEvent::Refused { topic, .. } if self.gateway.handle_refused(&topic) => {}
            LinkEvent::Refused { topic, code, .. } => {
                let text = format!(
                    "the broker refused {topic} with code {code:#04x}; check that its rules know this device's certificate"
                );
                tracing::warn!("{text}");
                self.link_problem = Some(text);
            }
        }
    }

    pub(super) fn floor_told(&mut self, floor: Floor) {
        if let Err(error) = self.device.handle_floor(now(&self.clock), floor) {
            tracing::error!("which orders are old cannot be stored ({error}); asking again");
            link::ask_floor(self.question.as_ref(), &self.device, &self.floors);
        }
    }

    fn sandbox_is(&mut self, sandbox: &Sandbox) {
        self.board.set_sandbox(sandbox);
        self.device.handle_sandbox(now(&self.clock), sandbox.report(self.require));
    }

    pub(super) fn job_ended(&mut self, answer: Answer) {
        let now = now(&self.clock);
        match answer {
            Answer::SelfTested { model, token, result } => {
                let result = result.map(|sandbox| self.sandbox_is(&sandbox));
                self.device.handle_self_test(now, &model, token, result);
            }
            Answer::Compared { model, token, compared, dropped } => {
                self.device.handle_compared(now, &model, token, &compared, dropped);
            }
            Answer::ShadowEnded { model, token, reason } => {
                self.device.handle_shadow_ended(now, &model, token, reason);
            }
            Answer::Probed(sandbox) => {
                if let Some(sandbox) = sandbox {
                    tracing::info!(%sandbox, "self-tests are fenced in");
                    self.sandbox_is(&sandbox);
                }
            }
            Answer::Loaded { model, token, result } => {
                // The counters of the release that goes: nobody asks for them later.
                self.send_telemetry();
                let result = result.and_then(|loaded| {
                    let release = loaded.release;
                    let live = self.models.add(&model).map_err(|error| {
                        tracing::error!("{error}");
                        Reason::ActivationFailed
                    })?;
                    // The one moment of the swap: requests under way end on the old engine.
                    self.again.went(live.swap(Some(loaded)));
                    Ok(release)
                });
                self.device.handle_activated(now, &model, token, result);
            }
            Answer::Checked(job, answer) => self.device.handle_check(now, &job, answer),
        }
    }
}
