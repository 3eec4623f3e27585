//! A microcontroller behind a gateway, as far as the fleet can tell: its end of the line is the
//! protocol's own, it believes what firmware believes (its keyset, its nonce, digests), and it
//! fetches every byte of a release. What it leaves out is flash and an engine; those are
//! `firmware/`'s tests.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use anyhow::{Context as _, Result};
use ed25519_dalek::{Signer as _, SigningKey};
use fleetway_protocol::codec;
use fleetway_protocol::envelope::Envelope;
use fleetway_protocol::ids::{DeviceId, Digest, HardwareClass, ModelName};
use fleetway_protocol::keyset::Keyset;
use fleetway_protocol::limits::{REPORT_BYTES_MAX, SIGNED_REPORT_BYTES_MAX};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::manifest::{Artifact, Manifest, VariantKind};
use fleetway_protocol::order::{ModelOrder, OrderView};
use fleetway_protocol::report::{Ack, Nonce, Presence, Progress, Stamp, State};
use fleetway_protocol::serial::{
    Config, FRAME_WIRE_BYTES_MAX, HEAD_BYTES_MAX, Link, MESSAGE_BYTES_MAX, Message,
};
use fleetway_protocol::signed::{Algorithm, SignedReport, message};
use fleetway_protocol::slot::{Ending, Outcome};
use fleetway_protocol::topics::{Piece, Topic};
use fleetway_protocol::trust::{Keyring, OrderError, Target, Verified};

/// What a device is made with.
#[derive(Clone)]
pub(crate) struct Provision {
    pub(crate) id: DeviceId,
    pub(crate) hardware: HardwareClass,
    pub(crate) key: SigningKey,
    /// Digest of the fleet's CA, under which it signs.
    pub(crate) ca: Digest,
    /// The first keyset, in its envelope.
    pub(crate) keyset: Vec<u8>,
}

/// What was seen at the device, for the test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) boots: u64,
    /// Generation of the order that it acts on.
    pub(crate) generation: u64,
    /// Orders, manifests, lists and chunks that are not the fleet's.
    pub(crate) forged: u32,
    /// Orders that are signed, and were made for another boot.
    pub(crate) stale: u32,
    /// Bytes of the artifact that it has fetched and checked last.
    pub(crate) model_bytes: u32,
}

/// One board, that can be reset.
pub(crate) struct Mcu {
    pub(crate) addr: SocketAddr,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

impl Mcu {
    /// Powers it; it runs until the test's process ends.
    pub(crate) fn start(provision: Provision) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever connects anew finds a board that has just started.
                shared.lock().unwrap().boots += 1;
                let mut board = Board::new(provision.clone(), Arc::clone(&shared));
                let _ = board.run(stream);
            }
        });
        Ok(Self { addr, seen })
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

/// A download: what is ordered, its manifest, and what is still to come.
struct Fetch {
    order: ModelOrder,
    artifact: Option<Artifact>,
    list: Vec<u8>,
    next: u32,
}

struct Board {
    provision: Provision,
    seen: Arc<Mutex<Seen>>,
    link: Link<MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX>,
    started: Instant,
    seq: u64,
    nonce: [u8; 16],
    keyring: Keyring,
    out: VecDeque<Vec<u8>>,
    fetch: Option<Fetch>,
    confirmed: Option<ModelOrder>,
}

impl Board {
    fn new(provision: Provision, seen: Arc<Mutex<Seen>>) -> Self {
        let boots = seen.lock().unwrap().boots;
        let pinned = Envelope::decode(&provision.keyset).unwrap().payload_unchecked().to_vec();
        let keyset = Verified::<Keyset>::genesis(&provision.keyset, &Digest::of(&pinned)).unwrap();
        Self {
            keyring: Keyring::of(&keyset),
            nonce: Digest::of(&boots.to_le_bytes()).short().0,
            provision,
            seen,
            link: Link::new(boots as u32, Config::for_baud(4_000_000, 2)),
            started: Instant::now(),
            seq: 0,
            out: VecDeque::new(),
            fetch: None,
            confirmed: None,
        }
    }

    #[allow(clippy::disallowed_methods, reason = "a board has a clock of its own")]
    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn run(&mut self, mut stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_millis(10)))?;
        let (mut bytes, mut wire) = ([0; 2048], [0; FRAME_WIRE_BYTES_MAX]);
        loop {
            match stream.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(n) => self.link.receive(self.now_ms(), &bytes[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(message) = self.link.message().map(<[u8]>::to_vec) {
                self.link.release();
                self.hear(&Message::decode(&message)?)?;
            }
            if self.link.is_free()
                && let Some(message) = self.out.pop_front()
            {
                self.link.send(self.now_ms(), &[&message])?;
            }
            while let Some(frame) = self.link.poll_transmit(self.now_ms(), &mut wire) {
                stream.write_all(frame)?;
            }
        }
    }

    fn say(&mut self, message: &Message<'_>) {
        let mut head = [0; HEAD_BYTES_MAX];
        let (head, payload) = message.parts(&mut head);
        self.out.push_back([head, payload].concat());
    }

    fn report<T: serde::Serialize>(&mut self, topic: Topic, report: &T) -> Result<()> {
        let mut buf = [0; REPORT_BYTES_MAX];
        let body = codec::encode(report, &mut buf)?.to_vec();
        let text = message(&self.provision.ca, Algorithm::Ed25519, &topic, &body);
        let signature = self.provision.key.sign(&text).to_bytes();
        let signed = SignedReport::new(&body, Algorithm::Ed25519, &signature).context("fits")?;
        let mut buf = [0; SIGNED_REPORT_BYTES_MAX];
        let bytes = signed.encode(&mut buf)?.to_vec();
        self.say(&Message::Publish(topic, &bytes));
        Ok(())
    }

    fn stamp(&mut self) -> Stamp {
        self.seq += 1;
        Stamp { epoch: self.seen.lock().unwrap().boots, seq: self.seq }
    }

    fn hear(&mut self, message: &Message<'_>) -> Result<()> {
        match message {
            Message::Broker(true) => self.introduce(),
            Message::Broker(false) => Ok(()),
            Message::Deliver(Topic::Order(_), bytes) => self.take_order(bytes),
            Message::Deliver(Topic::Blob(of, piece), bytes) => {
                let topic = Topic::Blob(*of, *piece);
                if self.fetch.is_none() {
                    return Ok(());
                }
                match self.take_piece(*piece, bytes) {
                    Some(next) => {
                        self.say(&Message::Unsubscribe(topic));
                        let Some(topic) = next else { return self.confirm() };
                        self.say(&Message::Subscribe(topic));
                        Ok(())
                    }
                    None => {
                        self.seen.lock().unwrap().forged += 1;
                        self.say(&Message::Subscribe(topic)); // again
                        Ok(())
                    }
                }
            }
            // Altered on its way, so that it is nothing that a gateway says.
            _ => {
                self.seen.lock().unwrap().forged += 1;
                Ok(())
            }
        }
    }

    fn introduce(&mut self) -> Result<()> {
        let id = || self.provision.id.clone();
        let (presence, nonce) = (Topic::Presence(id()), Topic::Nonce(id()));
        let stamp = self.stamp();
        let said = Nonce { stamp, nonce: self.nonce };
        self.report(nonce, &said)?;
        let stamp = self.stamp();
        let there = Presence {
            stamp,
            online: true,
            agent: "1.0".parse()?,
            generation: self.seen.lock().unwrap().generation,
            sandbox: None,
            hardware: Some(self.provision.hardware.clone()),
        };
        self.report(presence, &there)
    }

    fn take_order(&mut self, bytes: &[u8]) -> Result<()> {
        let seen = self.seen.lock().unwrap().generation;
        let said_s = self.now_ms() / 1000;
        let id = &self.provision.id;
        let (keyring, admit) = (self.keyring.view(), Verified::<OrderView<'_>>::admit_by_nonce);
        let admitted = admit(bytes, keyring, id, seen, &self.nonce, said_s);
        let order = match admitted {
            Ok(order) => order,
            Err(OrderError::Nonce | OrderError::Stale { .. }) => {
                self.seen.lock().unwrap().stale += 1;
                return Ok(());
            }
            Err(_) => {
                self.seen.lock().unwrap().forged += 1;
                // It asks again: who altered it may have gone.
                self.say(&Message::Subscribe(Topic::Order(self.provision.id.clone())));
                return Ok(());
            }
        };
        let OrderView { generation, models, .. } = order.get();
        self.seen.lock().unwrap().generation = *generation;
        let (ack, stamp) = (Topic::Ack(self.provision.id.clone()), self.stamp());
        let said = Ack { stamp, generation: *generation, order: order.digest(), refused: None };
        self.report(ack, &said)?;
        let Some(wish) = models.iter().next() else { return Ok(()) };
        if self.confirmed.as_ref().is_some_and(|done| done.release == wish.release) {
            self.confirmed = Some(wish);
            return self.say_state();
        }
        self.say(&Message::Subscribe(Topic::Blob(wish.release.short(), Piece::Release)));
        self.fetch = Some(Fetch { order: wish, artifact: None, list: Vec::new(), next: 0 });
        Ok(())
    }

    /// Checks a piece: `None` if it is not the fleet's, else what to ask for next, if anything.
    fn take_piece(&mut self, piece: Piece, bytes: &[u8]) -> Option<Option<Topic>> {
        let fetch = self.fetch.as_mut()?;
        if piece == Piece::Release {
            let hardware = Some(&self.provision.hardware);
            let target = Target { hardware, forms: &[VariantKind::Qnn, VariantKind::Onnx] };
            let admitted =
                Verified::<Manifest>::admit(bytes, &self.keyring, &fetch.order, 0, target);
            let (manifest, form) = admitted.ok()?;
            let artifact = manifest.get().variant(form)?.model;
            fetch.artifact = Some(artifact);
            return Some(Some(Topic::Blob(artifact.digest.short(), Piece::ChunkList)));
        }
        let artifact = fetch.artifact?;
        match piece {
            Piece::ChunkList if Digest::of(bytes) == artifact.chunk_list => {
                fetch.list = bytes.to_vec()
            }
            Piece::Chunk(n) if n == fetch.next => {
                let expected = fetch.list.chunks_exact(32).nth(n as usize)?;
                if Digest::of(bytes).0 != *expected {
                    return None;
                }
                fetch.next += 1;
            }
            _ => return None,
        }
        let more = fetch.next < artifact.chunk_count();
        Some(more.then(|| Topic::Blob(artifact.digest.short(), Piece::Chunk(fetch.next))))
    }

    /// Every byte is there.
    fn confirm(&mut self) -> Result<()> {
        let Some(Fetch { order, artifact, .. }) = self.fetch.take() else { return Ok(()) };
        self.seen.lock().unwrap().model_bytes = artifact.map_or(0, |artifact| artifact.bytes);
        self.confirmed = Some(order);
        self.say_state()
    }

    fn say_state(&mut self) -> Result<()> {
        let Some(ModelOrder { release, rollout, model, .. }) = self.confirmed.clone() else {
            return Ok(());
        };
        let stamp = self.stamp();
        let state = State {
            stamp,
            generation: self.seen.lock().unwrap().generation,
            running: Some(release),
            phase: Phase::Idle,
            target: None,
            progress: Progress::default(),
            waiting: None,
            last: Some(Outcome { release, rollout, result: Ending::Confirmed, evidence: None }),
            floor: 0,
            poisoned: 0,
            poison_dropped: 0,
            held: None,
            shadow: None,
        };
        let model: ModelName = model;
        self.report(Topic::State(self.provision.id.clone(), model), &state)
    }
}
