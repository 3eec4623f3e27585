//! What the device says: one message per turn, the most pressing first. Reports are signed with
//! its own key, and are about what is durable and nothing else. What the link has no room for is
//! said later; a state is said again every minute, because whoever carries it forgets.

use ed25519_dalek::Signer as _;
use fleetway_protocol::codec;
use fleetway_protocol::ids::{Digest, Generation, ShortDigest};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::record::crc32c;
use fleetway_protocol::report::{Ack, Nonce, Presence, Stamp, State, Telemetry, Want};
use fleetway_protocol::serial::Message;
use fleetway_protocol::signed::{self, Algorithm, SignedReport};
use fleetway_protocol::telemetry::Numbered;
use fleetway_protocol::topics::{Piece, Topic};
use fleetway_protocol::transfer::Ask;
use fleetway_protocol::trust_file::TrustFile;
use heapless::Vec;
use serde::Serialize;

use super::Device;
use crate::hardware::{Flash, Uplink};

/// Largest report of this device, bytes: counters of one model, nearly full.
const REPORT_BYTES_MAX: usize = 2048;
/// A report of this device with its signature, and what frames it, bytes.
pub const SIGNED_BYTES_MAX: usize = REPORT_BYTES_MAX + 80;
/// Presence and state are said again after this long, milliseconds.
const REFRESH_MS: u64 = 60_000;
/// Counters are said this often, milliseconds.
const TELEMETRY_MS: u64 = 60_000;
/// The first time after a boot: one has something to tell by then, and a device that starts again every
/// minute is heard of, too.
const TELEMETRY_FIRST_MS: u64 = 10_000;
/// A download's progress is said this often, milliseconds.
const PROGRESS_MS: u64 = 2_000;
/// What could not be stored is asked for again after this long, milliseconds.
const AGAIN_MS: u64 = 5_000;

/// Subscriptions that wait to be given up: a transfer has one or two, and each message that ends
/// one was preceded by many turns. What is more stays until the session ends.
const LEAVING_MAX: usize = 4;

/// What was said, and what is to be.
#[derive(Default)]
pub(super) struct Said {
    seq: u64,
    session: Session,
    /// Checksum of the last state, its stamp and progress left out.
    state: u32,
    telemetry_due_ms: Option<u64>,
    telemetry_number: u64,
    answer: Option<(Generation, Digest, Option<Reason>)>,
    ask: Option<(ShortDigest, Piece, Ask)>,
    /// Subscriptions to give up.
    leaving: Vec<(ShortDigest, Piece), LEAVING_MAX>,
    /// When this boot's nonce was said first.
    nonce_at_ms: Option<u64>,
    /// Times that the engine loaded something in this boot.
    pub(super) load: u32,
    /// 95th percentile of the latency of what served before, microseconds.
    pub(super) before_p95_us: Option<u64>,
}

/// What this session's other end was told.
#[derive(Default)]
struct Session {
    will: bool,
    nonce_at_ms: Option<u64>,
    /// When the order was asked for.
    order_at_ms: Option<u64>,
    order_again: bool,
    /// The version of the keyset that is asked for, and since when.
    keyset: Option<(u64, u64)>,
    keyset_again: bool,
    presence_at_ms: Option<u64>,
    state_at_ms: Option<u64>,
}

impl Said {
    /// The answer to an order; a later one takes its place. What could not be stored comes again.
    pub(super) fn answer(&mut self, generation: Generation, of: Digest, refused: Option<Reason>) {
        self.answer = Some((generation, of, refused));
        self.session.order_again |= refused.is_some_and(Reason::is_transient);
    }

    /// The order is wanted once more.
    pub(super) fn order_again(&mut self) {
        self.session.order_again = true;
    }

    /// The next keyset is wanted once more.
    pub(super) fn keyset_again(&mut self) {
        self.session.keyset_again = true;
    }

    /// Seconds since anybody could know this boot's nonce.
    pub(super) fn nonce_age_s(&self, now_ms: u64) -> u64 {
        self.nonce_at_ms.map_or(0, |said_ms| now_ms.saturating_sub(said_ms) / 1000)
    }

    /// A subscription is not wanted any more.
    pub(super) fn leave(&mut self, of: ShortDigest, piece: Piece) {
        let _ = self.leaving.push((of, piece));
    }

    /// Somebody else listens, or what was said before was lost: everything is said again.
    pub(super) fn say_again(&mut self) {
        self.session = Session::default();
    }

    /// The other end knows nothing, no subscription either.
    pub(super) fn begin(&mut self) {
        self.say_again();
        self.ask = None;
        self.leaving.clear();
    }
}

impl<F: Flash> Device<'_, F> {
    /// Says the most pressing thing, if there is one and the link has room.
    #[inline(never)]
    pub fn report(&mut self, now_ms: u64, link: &mut impl Uplink) {
        if !self.kept_boot {
            return;
        }
        let _ = self.say_will(now_ms, link)
            // Without the broker it would be lost.
            || !self.broker
            || self.say_session(now_ms, link)
            || self.say_answer(now_ms, link)
            || self.say_ask(now_ms, link)
            || self.say_state(now_ms, link)
            || self.say_telemetry(now_ms, link);
    }

    /// What the gateway says for it when it is gone. Each of these gives whether it had its turn.
    fn say_will(&mut self, now_ms: u64, link: &mut impl Uplink) -> bool {
        if self.said.session.will {
            return false;
        }
        let (id, gone) = (self.provision.id.clone(), self.presence(false));
        self.said.session.will = self.say(now_ms, link, Topic::Presence(id), true, &gone);
        true
    }

    /// What a new session's other end must know.
    #[inline(never)]
    fn say_session(&mut self, now_ms: u64, link: &mut impl Uplink) -> bool {
        let id = self.provision.id.clone();
        let keyset = self.keyset_version + 1;
        let session = &self.said.session;
        let order_again = session.order_again && is_due(session.order_at_ms, now_ms, AGAIN_MS);
        let keyset_again = session.keyset_again
            && is_due(session.keyset.map(|(_, at_ms)| at_ms), now_ms, AGAIN_MS);
        // The one before came, and makes room.
        let keyset_left = session.keyset.filter(|(version, _)| *version != keyset);
        if is_due(self.said.session.presence_at_ms, now_ms, REFRESH_MS) {
            let here = self.presence(true);
            if self.say(now_ms, link, Topic::Presence(id), false, &here) {
                self.said.session.presence_at_ms = Some(now_ms);
            }
        } else if let Some((version, _)) = keyset_left {
            let topic = Topic::Trust(TrustFile::KeysetVersion(version));
            if link.send(now_ms, &Message::Unsubscribe(topic)) {
                self.said.session.keyset = None;
            }
        } else if self.said.session.keyset.is_none() || keyset_again {
            let topic = Topic::Trust(TrustFile::KeysetVersion(keyset));
            if link.send(now_ms, &Message::Subscribe(topic)) {
                self.said.session.keyset = Some((keyset, now_ms));
                self.said.session.keyset_again = false;
            }
        } else if self.said.session.nonce_at_ms.is_none() {
            let nonce = Nonce { stamp: self.stamp(), nonce: self.nonce() };
            if self.say(now_ms, link, Topic::Nonce(id), false, &nonce) {
                self.said.session.nonce_at_ms = Some(now_ms);
                self.said.nonce_at_ms.get_or_insert(now_ms);
            }
        } else if self.said.session.order_at_ms.is_none() || order_again {
            if link.send(now_ms, &Message::Subscribe(Topic::Order(id))) {
                self.said.session.order_at_ms = Some(now_ms);
                self.said.session.order_again = false;
            }
        } else {
            return false;
        }
        true
    }

    fn say_answer(&mut self, now_ms: u64, link: &mut impl Uplink) -> bool {
        let Some((generation, order, refused)) = self.said.answer else { return false };
        let ack = Ack { stamp: self.stamp(), generation, order, refused };
        if self.say(now_ms, link, Topic::Ack(self.provision.id.clone()), false, &ack) {
            self.said.answer = None;
        }
        true
    }

    /// What the download wants.
    fn say_ask(&mut self, now_ms: u64, link: &mut impl Uplink) -> bool {
        if self.said.ask.is_none()
            && let Some((of, piece)) = self.said.leaving.first().copied()
        {
            if link.send(now_ms, &Message::Unsubscribe(Topic::Blob(of, piece))) {
                self.said.leaving.remove(0);
            }
            return true;
        }
        self.said.ask = self.said.ask.take().or_else(|| self.ask(now_ms));
        let Some((of, piece, ask)) = self.said.ask else { return false };
        let sent = match ask {
            Ask::Subscribe(_) => link.send(now_ms, &Message::Subscribe(Topic::Blob(of, piece))),
            Ask::Unsubscribe(_) => link.send(now_ms, &Message::Unsubscribe(Topic::Blob(of, piece))),
            Ask::Want(_) => {
                let pieces = [piece].into_iter().collect();
                let want = Want { stamp: self.stamp(), of, pieces };
                self.say(now_ms, link, Topic::Want(self.provision.id.clone()), false, &want)
            }
        };
        if sent {
            self.said.ask = None;
        }
        true
    }

    #[inline(never)]
    fn say_state(&mut self, now_ms: u64, link: &mut impl Uplink) -> bool {
        let pause_ms = if self.fetch.is_some() { PROGRESS_MS } else { REFRESH_MS };
        let state = self.state();
        let changed = checksum(&state) != self.said.state;
        if !changed && !is_due(self.said.session.state_at_ms, now_ms, pause_ms) {
            return false;
        }
        let topic = Topic::State(self.provision.id.clone(), self.provision.model.clone());
        if self.say(now_ms, link, topic, false, &state) {
            (self.said.state, self.said.session.state_at_ms) = (checksum(&state), Some(now_ms));
        }
        true
    }

    #[inline(never)]
    fn say_telemetry(&mut self, now_ms: u64, link: &mut impl Uplink) -> bool {
        let Some(serving) = self.serving.as_ref() else { return false };
        let first_ms = now_ms + TELEMETRY_FIRST_MS;
        if now_ms < *self.said.telemetry_due_ms.get_or_insert(first_ms) {
            return false;
        }
        let number = self.said.telemetry_number + 1;
        let (series, time_s) = (self.kept.epoch, self.kept.time_floor_s);
        let report = Telemetry {
            stamp: self.stamp(),
            // Counters only rise within a boot: a later report has all that a lost one had.
            numbered: Numbered { series, number, first: number, time_s },
            release: serving.release,
            load: self.said.load,
            counters: &serving.counters,
            rss_bytes: None,
            dropped: 0,
        };
        let topic = Topic::Telemetry(self.provision.id.clone(), self.provision.model.clone());
        let mut buf = [0; SIGNED_BYTES_MAX];
        let signed = self.signed(&topic, &report, &mut buf);
        if self.send(now_ms, link, topic, false, signed) {
            (self.said.telemetry_due_ms, self.said.telemetry_number) =
                (Some(now_ms + TELEMETRY_MS), number);
        }
        true
    }

    /// Signs and sends; whether the link took it.
    #[inline(never)]
    fn say<T: Serialize>(
        &mut self,
        now_ms: u64,
        link: &mut impl Uplink,
        topic: Topic,
        is_will: bool,
        report: &T,
    ) -> bool {
        let mut buf = [0; SIGNED_BYTES_MAX];
        let signed = self.signed(&topic, report, &mut buf);
        self.send(now_ms, link, topic, is_will, signed)
    }

    /// A report with its signature; `None` if it is larger than any of ours.
    #[inline(never)]
    fn signed<'b, T: Serialize>(
        &self,
        topic: &Topic,
        report: &T,
        buf: &'b mut [u8; SIGNED_BYTES_MAX],
    ) -> Option<&'b [u8]> {
        let mut plain = [0; REPORT_BYTES_MAX];
        let bytes = codec::encode(report, &mut plain).ok()?;
        self.sign(topic, bytes, buf)
    }

    #[inline(never)]
    fn sign<'b>(
        &self,
        topic: &Topic,
        report: &[u8],
        buf: &'b mut [u8; SIGNED_BYTES_MAX],
    ) -> Option<&'b [u8]> {
        let message = signed::message(&self.provision.ca, Algorithm::Ed25519, topic, report);
        let signature = self.key.sign(&message).to_bytes();
        SignedReport::new(report, Algorithm::Ed25519, &signature)?.encode(buf).ok()
    }

    #[inline(never)]
    fn send(
        &mut self,
        now_ms: u64,
        link: &mut impl Uplink,
        topic: Topic,
        is_will: bool,
        signed: Option<&[u8]>,
    ) -> bool {
        // What is larger than any of ours is never said, and never tried again either.
        let Some(bytes) = signed else { return true };
        let message = match is_will {
            true => Message::Will(topic, bytes),
            false => Message::Publish(topic, bytes),
        };
        let sent = link.send(now_ms, &message);
        self.said.seq += u64::from(sent);
        sent
    }

    /// The stamp of the next report.
    fn stamp(&self) -> Stamp {
        Stamp { epoch: self.kept.epoch, seq: self.said.seq + 1 }
    }

    fn presence(&self, online: bool) -> Presence {
        Presence {
            stamp: self.stamp(),
            online,
            agent: self.provision.firmware.clone(),
            generation: self.kept.generation,
            sandbox: None,
            hardware: Some(self.provision.hardware.clone()),
        }
    }

    /// What is durable, and what is being done about it.
    fn state(&self) -> State {
        let table = &self.kept.table;
        State {
            stamp: self.stamp(),
            generation: self.kept.generation,
            running: self.machine.running().map(|(_, digest)| digest),
            phase: self.machine.phase(),
            target: self.machine.goal().map(|goal| goal.release),
            progress: self.fetch.as_ref().map(|fetch| fetch.progress()).unwrap_or_default(),
            waiting: self.machine.waiting(),
            last: table.last,
            floor: table.version_floor,
            poisoned: table.poison.len() as u8,
            poison_dropped: table.poison_dropped,
            held: self.machine.held(),
            shadow: None,
        }
    }
}

fn is_due(last_ms: Option<u64>, now_ms: u64, pause_ms: u64) -> bool {
    last_ms.is_none_or(|last_ms| now_ms >= last_ms.saturating_add(pause_ms))
}

/// Tells a state from another one, whenever it is said and however far a download is.
fn checksum(state: &State) -> u32 {
    let state = State { stamp: Stamp::default(), progress: Default::default(), ..state.clone() };
    let mut buf = [0; REPORT_BYTES_MAX];
    codec::encode(&state, &mut buf).map_or(0, crc32c)
}
