//! The one task that owns the fleet: commands in by channel, effects out to the link.
//!
//! It is a thread of its own because the core is synchronous and waits for the disk at
//! every change. Whoever asks hears the answer after the change is durable. The planner
//! runs after every command at once, and after reports at most ten times a second, so
//! that a thousand devices that report together cost ten plans and not a thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use fleetway_controller::clock;
use fleetway_controller::fleet::{Effect, Fleet};
use fleetway_link::{Link as _, LinkHandle, Outgoing};
use fleetway_protocol::codec;
use fleetway_protocol::envelope::{self, Context, Envelope, PublicKey};
use fleetway_protocol::ids::{DeviceId, Generation};
use fleetway_protocol::limits::{ENVELOPE_BYTES_MAX, HEARD_BYTES_MAX};
use fleetway_protocol::topics::Topic;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use super::audit::AuditLog;
use super::cut::Cutter;
use super::decisions::Decisions;
use super::pump::{Order as PumpOrder, Pump};
use super::reports::{Report, Said};
use crate::api::events::Events;
use crate::api::failure::Failure;

/// Commands and reports that may wait. When it is full the link stops reading, and the
/// broker's flow control holds the rest back.
const INBOX: usize = 1024;
/// Between two runs of the planner for reports.
const TICK: Duration = Duration::from_millis(100);
/// Longest that orders wait for the broker to have the release that they name. A device
/// that is ordered first subscribes to pieces while they arrive, and gets some twice (as a
/// new message and as a retained one). Below `RESEND_S`, so that nothing is sent again for it.
const SEED_WAIT_MS_MAX: u64 = 20_000;
/// Between two events about what devices reported, milliseconds: a screen needs no more.
const TELL_MS: u64 = 500;
/// Between two runs of the planner when nothing happens.
const TICK_IDLE_MS: u64 = 1_000;

type Job = Box<dyn FnOnce(&mut Fleet, u64) + Send>;

enum Input {
    Job(Job),
    Report(Box<Report>),
    Link(bool),
    Tick,
    Stop,
}

/// The key that orders are signed with, which a new keyset replaces.
#[derive(Clone)]
pub(super) struct Director(Arc<Mutex<SigningKey>>);

impl Director {
    /// This one.
    pub(super) fn new(key: SigningKey) -> Self {
        Self(Arc::new(Mutex::new(key)))
    }

    /// Another from now on.
    pub(super) fn set(&self, key: SigningKey) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }

    /// Id of the key, as people compare it.
    pub(super) fn id(&self) -> String {
        PublicKey::of(&self.get()).id().to_string()
    }

    fn get(&self) -> SigningKey {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How the rest of the controller reaches the fleet.
#[derive(Clone)]
pub(crate) struct Core {
    inputs: mpsc::Sender<Input>,
}

/// What the core's thread needs besides the fleet.
pub(super) struct Outward {
    /// The link that orders leave by.
    pub(super) link: LinkHandle,
    /// Root of all topics.
    pub(super) root: String,
    /// Signs orders.
    pub(super) director: Director,
    /// Seeds and clears model bytes.
    pub(super) pump: Pump,
    /// Ends the sessions of those who may not stay.
    pub(super) cutter: Cutter,
    /// Publishes what dashboards get.
    pub(super) mirror: super::mirror::Publisher,
    /// Tells whoever watches.
    pub(super) events: Arc<Events>,
}

impl Core {
    /// Starts the thread and its ticker.
    pub(super) fn start(
        mut fleet: Fleet,
        audit: AuditLog,
        decisions: Decisions,
        outward: Outward,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (inputs, inbox) = mpsc::channel(INBOX);
        fleet.keep_decisions();
        let worker = Worker {
            fleet,
            audit,
            decisions,
            outward,
            unsent: BTreeMap::new(),
            seeding_since_ms: None,
            dirty: true,
            ticked_ms: 0,
            last_error: String::new(),
            greeted: false,
            told: Told::default(),
        };
        let thread = std::thread::Builder::new()
            .name("fleet-core".into())
            .spawn(move || worker.run(inbox))?;
        let ticks = inputs.clone();
        tokio::spawn(async move {
            let mut every = interval(TICK);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                every.tick().await;
                // A full inbox runs the planner soon enough by itself.
                if let Err(mpsc::error::TrySendError::Closed(_)) = ticks.try_send(Input::Tick) {
                    return;
                }
            }
        });
        Ok((Self { inputs }, thread))
    }

    /// Runs `question` on the fleet; the planner has run when this returns, if it changed
    /// anything.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Fleet, u64) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |fleet, now_s| {
            // Whoever asked may have given up; the change stands.
            let _ = reply.send(question(fleet, now_s));
        });
        let gone =
            || Failure::unreachable("the controller is shutting down").mend("start it again");
        self.inputs.send(Input::Job(job)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Hands a device's report in.
    pub(super) async fn report(&self, report: Report) {
        let _ = self.inputs.send(Input::Report(Box::new(report))).await;
    }

    /// Says whether we are connected.
    pub(super) async fn link(&self, up: bool) {
        let _ = self.inputs.send(Input::Link(up)).await;
    }

    /// Ends the thread after what is in its inbox.
    pub(super) async fn stop(&self) {
        let _ = self.inputs.send(Input::Stop).await;
    }
}

struct Worker {
    fleet: Fleet,
    audit: AuditLog,
    decisions: Decisions,
    outward: Outward,
    /// Orders that wait for their release to be seeded, or that the outbox did not take; the
    /// newest per device.
    unsent: BTreeMap<DeviceId, (Generation, Outgoing)>,
    /// Since when orders wait for the broker to have what they name.
    seeding_since_ms: Option<u64>,
    /// Something was reported since the planner ran.
    dirty: bool,
    ticked_ms: u64,
    last_error: String,
    /// The broker was told once what it need not hold.
    greeted: bool,
    told: Told,
}

/// What watchers were told, and what they are to be told.
#[derive(Default)]
struct Told {
    /// The last line of the audit log that they heard of.
    seq: u64,
    at_ms: u64,
    /// Devices that reported since.
    devices: BTreeSet<DeviceId>,
}

impl Worker {
    fn run(mut self, mut inbox: mpsc::Receiver<Input>) {
        while let Some(input) = inbox.blocking_recv() {
            match input {
                Input::Job(job) => {
                    job(&mut self.fleet, clock::now_s());
                    self.tick();
                }
                Input::Report(report) => self.take(&report),
                Input::Link(up) => self.link(up),
                Input::Tick => {
                    let idle_ms = clock::now_ms().saturating_sub(self.ticked_ms);
                    if self.dirty || idle_ms >= TICK_IDLE_MS {
                        self.tick();
                    }
                }
                Input::Stop => break,
            }
            self.carry_out();
            let idle = self.unsent.is_empty() && !self.outward.pump.is_seeding();
            self.outward.mirror.publish(&mut self.fleet, idle);
            self.tell();
        }
        debug!("the fleet's thread ends");
    }

    fn take(&mut self, report: &Report) {
        let now_s = clock::now_s();
        let fleet = &mut self.fleet;
        let Report { device: id, key, said } = report;
        if !fleet.is_from(id, key.as_ref()) {
            return;
        }
        self.told.devices.insert(id.clone());
        let taken = match said {
            Said::Presence(presence) => fleet.handle_presence(now_s, id, presence),
            Said::State(model, state) => fleet.handle_state(now_s, id, model, state),
            Said::Ack(ack) => fleet.handle_ack(now_s, id, ack),
            Said::Nonce(nonce) => {
                fleet.handle_nonce(now_s, id, nonce);
                Ok(())
            }
            Said::Host(host) => return fleet.handle_host(now_s, id, host),
            Said::Telemetry(model, telemetry) => {
                return fleet.handle_telemetry(now_s, id, model, telemetry);
            }
            Said::Want(want) => {
                if fleet.handle_want(id, want) {
                    self.outward.pump.want(id.clone(), want.clone());
                }
                return;
            }
        };
        self.dirty = true;
        self.note(taken);
    }

    /// Tells watchers what has happened: decisions at once, reports twice a second.
    fn tell(&mut self) {
        let head = self.fleet.audit().head.seq;
        if !self.outward.events.is_heard() {
            self.told = Told { seq: head, ..Told::default() };
            return;
        }
        let now_ms = clock::now_ms();
        let is_due =
            now_ms.saturating_sub(self.told.at_ms) >= TELL_MS && !self.told.devices.is_empty();
        if head == self.told.seq && !is_due {
            return;
        }
        let mut lines = Vec::new();
        for seq in self.told.seq + 1..=head {
            match self.fleet.audit_entry(seq) {
                Ok(entry) => lines.extend(entry),
                // Readers see the gap in the numbers, and that is the truth.
                Err(error) => error!("an event is lost: {error}"),
            }
        }
        self.told.seq = head;
        let mut rollouts: BTreeSet<_> = lines.iter().filter_map(|line| line.rollout).collect();
        let mut devices: BTreeSet<_> =
            lines.iter().filter_map(|line| line.device.clone()).collect();
        if is_due {
            self.told.at_ms = now_ms;
            devices.append(&mut self.told.devices);
        }
        rollouts.extend(self.fleet.rollouts_of(&devices));
        self.outward.events.tell(&lines, &devices, &rollouts);
    }

    fn link(&mut self, up: bool) {
        self.fleet.handle_link(clock::now_s(), up);
        self.dirty = true;
        if up {
            self.unsent.clear();
            self.fleet.resend_all();
            self.fleet.mirror_all(clock::now_s());
            self.carry_out();
            if !std::mem::replace(&mut self.greeted, true) {
                self.outward.pump.tell_blocking(PumpOrder::ClearRest);
            }
        }
    }

    fn tick(&mut self) {
        self.ticked_ms = clock::now_ms();
        self.dirty = false;
        self.audit.take_offline(&mut self.fleet);
        let ticked = self.fleet.tick(clock::now_s());
        self.decisions.note(self.fleet.take_decision());
        self.note(ticked);
        self.answer_telemetry();
    }

    /// Says what has come of telemetry, once that is durable.
    fn answer_telemetry(&mut self) {
        let answers = match self.fleet.settle(clock::now_s()) {
            Ok(answers) => answers,
            Err(failed) => return self.note(Err(failed)),
        };
        let director = self.outward.director.get();
        for heard in answers {
            let mut buf = [0; HEARD_BYTES_MAX];
            let payload = codec::encode(&heard, &mut buf).ok();
            let Some(sealed) = payload.and_then(|p| sealed(&director, Context::Heard, p)) else {
                error!(device = %heard.device, "an answer does not fit its envelope: a bug");
                continue;
            };
            let topic = Topic::Heard(heard.device).text(&self.outward.root).to_string();
            // One that does not leave is given again with the next report.
            if let Err(refused) =
                self.outward.link.publish(Outgoing::new(topic, sealed).at_most_once())
            {
                debug!(%refused, "an answer to telemetry was not taken");
            }
        }
    }

    /// An error that repeats itself is told once.
    fn note(&mut self, result: Result<(), fleetway_controller::fleet::FleetError>) {
        match result {
            Ok(()) if self.last_error.is_empty() => {}
            Ok(()) => {
                info!("the store works again");
                self.last_error.clear();
            }
            Err(failed) => {
                let text = crate::api::failure::chain(&failed);
                if text != self.last_error {
                    error!("{text}");
                    self.last_error = text;
                }
            }
        }
    }

    fn carry_out(&mut self) {
        self.audit.catch_up(&mut self.fleet);
        while let Some(effect) = self.fleet.poll_effect() {
            match effect {
                Effect::Seed(digest) => self.outward.pump.tell_blocking(PumpOrder::Seed(digest)),
                Effect::Unseed(digest) => {
                    self.outward.pump.tell_blocking(PumpOrder::Unseed(digest));
                }
                Effect::SendOrder { device, payload, generation } => {
                    self.send(device, &payload, generation);
                }
                Effect::ClearOrder(device) => {
                    let topic = Topic::Order(device.clone()).text(&self.outward.root).to_string();
                    let clear = Outgoing::new(topic, bytes::Bytes::new()).retained();
                    self.publish(device, 0, clear);
                }
                Effect::Identity(view) => self.outward.cutter.set(&view),
            }
        }
        if self.must_wait_for_seeds() {
            return;
        }
        for (device, (generation, message)) in std::mem::take(&mut self.unsent) {
            self.publish(device, generation, message);
        }
    }

    fn must_wait_for_seeds(&mut self) -> bool {
        if !self.outward.pump.is_seeding() {
            self.seeding_since_ms = None;
            return false;
        }
        let now_ms = clock::now_ms();
        let since_ms = *self.seeding_since_ms.get_or_insert(now_ms);
        now_ms.saturating_sub(since_ms) < SEED_WAIT_MS_MAX
    }

    fn send(&mut self, device: DeviceId, payload: &[u8], generation: Generation) {
        match sealed(&self.outward.director.get(), Context::Order, payload) {
            Some(envelope) => {
                debug!(%device, generation, "order");
                let topic = Topic::Order(device.clone()).text(&self.outward.root).to_string();
                let message = Outgoing::new(topic, envelope).retained();
                self.unsent.insert(device, (generation, message));
            }
            None => error!(%device, generation, "an order does not fit its envelope: a bug"),
        }
    }

    fn publish(&mut self, device: DeviceId, generation: Generation, message: Outgoing) {
        if let Err(refused) = self.outward.link.publish(message.clone()) {
            if self.unsent.is_empty() {
                warn!(%refused, "orders wait for room in the outbox");
            }
            self.unsent.insert(device, (generation, message));
        } else {
            self.unsent.remove(&device);
        }
    }
}

/// `payload` in an envelope with the director's signature.
fn sealed(director: &SigningKey, context: Context, payload: &[u8]) -> Option<Vec<u8>> {
    let mut envelope = Envelope::new(payload);
    envelope.push(envelope::sign(director, context, payload)).ok()?;
    let mut buf = vec![0; ENVELOPE_BYTES_MAX];
    envelope.encode(&mut buf).ok().map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetway_protocol::envelope::{Authority, PublicKey};

    #[test]
    fn orders_open_for_the_director_only() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let bytes = sealed(&key, Context::Order, b"order").unwrap();
        let envelope = Envelope::decode(&bytes).unwrap();
        let authority = Authority::new(&[PublicKey::of(&key)], 1).unwrap();
        assert_eq!(envelope.open(&authority, Context::Order), Ok(&b"order"[..]));
        assert!(envelope.open(&authority, Context::Manifest).is_err());
        assert!(envelope.open(&authority, Context::Heard).is_err());
    }
}
