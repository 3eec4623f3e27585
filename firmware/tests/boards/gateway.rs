//! The other end of a board's line: it hears what the board says, and says what it asks for.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use fleetway_emulator::Board;
use fleetway_protocol::codec;
use fleetway_protocol::report::{Ack, Nonce, State, Want};
use fleetway_protocol::serial::{
    Config, FRAME_WIRE_BYTES_MAX, HEAD_BYTES_MAX, Link, MESSAGE_BYTES_MAX, Message,
};
use fleetway_protocol::slot::Ending;
use fleetway_protocol::topics::Topic;
use fleetway_protocol::trust_file::TrustFile;

use crate::fleet::{Fleet, Wish, id, opened};

/// As the agent's gateway takes a socket to be.
const SOCKET_BAUD: u32 = 4_000_000;
/// Longest wait for anything, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) struct Gateway<'f> {
    fleet: &'f Fleet,
    line: UnixStream,
    link: Link<MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX>,
    down: VecDeque<(Topic, Vec<u8>)>,
    /// A session began, and the board has not been told that there is a broker.
    greets: bool,
    nonce: Option<[u8; 16]>,
    /// What the fleet wants, and the order for it once there is a nonce.
    wish: Option<Wish>,
    order: Option<(u64, Vec<u8>)>,
    generation: u64,
    accepted: u64,
    state: Option<State>,
    began: Instant,
}

impl<'f> Gateway<'f> {
    pub(crate) fn new(fleet: &'f Fleet, board: &mut Board) -> Self {
        Self {
            fleet,
            line: line(board),
            link: Link::new(1, Config::for_baud(SOCKET_BAUD, 8)),
            down: VecDeque::new(),
            greets: false,
            nonce: None,
            wish: None,
            order: None,
            generation: 0,
            accepted: 0,
            state: None,
            began: now(),
        }
    }

    /// The board was off: the line is another one.
    pub(crate) fn connect(&mut self, board: &mut Board) {
        self.line = line(board);
    }

    /// The fleet wants this from now on.
    pub(crate) fn wants(&mut self, wish: Wish) {
        if self.wish.replace(wish) != Some(wish) {
            self.order = None;
            self.sign();
        }
    }

    /// Orders, and waits until the board reports this end of it.
    pub(crate) fn order(&mut self, board: &mut Board, wish: Wish, ending: Ending) -> Duration {
        let began = now();
        self.wants(wish);
        self.until(board, &format!("{wish:?} to end as {ending:?}"), |gateway| {
            let last = gateway.state.as_ref().and_then(|state| state.last);
            last.is_some_and(|last| last.rollout == gateway.generation && last.result == ending)
        });
        began.elapsed()
    }

    /// Waits until the board reports that it serves this release.
    pub(crate) fn runs(&mut self, board: &mut Board, release: usize) {
        let digest = self.fleet.releases[release].digest;
        self.until(board, &format!("release {release} to serve"), |gateway| {
            gateway.state.as_ref().is_some_and(|state| state.running == Some(digest))
        });
    }

    /// Waits until the board, just started, reports that it serves something.
    pub(crate) fn serves_something(&mut self, board: &mut Board) {
        self.state = None;
        self.until(board, "anything to serve", |gateway| {
            gateway.state.as_ref().is_some_and(|state| state.running.is_some())
        });
    }

    /// Waits, and says how long it was.
    fn until(&mut self, board: &mut Board, what: &str, done: impl Fn(&Self) -> bool) {
        let began = now();
        while !done(self) {
            self.carry(Duration::from_millis(5));
            let (state, text) = (&self.state, board.text());
            assert!(began.elapsed() < PATIENCE, "waited for {what}: {state:?}\n{text}");
        }
        println!("{what}: after {:?}, line {:?}", began.elapsed(), self.link.counts());
    }

    /// Carries bytes for a while.
    pub(crate) fn carry(&mut self, time: Duration) {
        let began = now();
        loop {
            self.carry_once();
            if began.elapsed() >= time {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn carry_once(&mut self) {
        let now_ms = self.began.elapsed().as_millis() as u64;
        let mut bytes = [0; 4096];
        match self.line.read(&mut bytes) {
            Ok(read) => self.link.receive(now_ms, &bytes[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("the line: {error}"),
        }
        if self.link.poll_begun() {
            self.down.clear();
            self.greets = true;
        }
        if let Some(message) = self.link.message().map(<[u8]>::to_vec) {
            self.link.release();
            self.hear(&message);
        }
        if !self.link.is_free() {
            // One message at a time.
        } else if std::mem::take(&mut self.greets) {
            self.send(now_ms, &Message::Broker(true));
        } else if let Some((topic, bytes)) = self.down.pop_front() {
            self.send(now_ms, &Message::Deliver(topic, &bytes));
        }
        let mut wire = [0; FRAME_WIRE_BYTES_MAX];
        while let Some(frame) = self.link.poll_transmit(now_ms, &mut wire) {
            write_all(&mut self.line, frame);
        }
    }

    fn send(&mut self, now_ms: u64, message: &Message<'_>) {
        let mut head = [0; HEAD_BYTES_MAX];
        let (head, payload) = message.parts(&mut head);
        self.link.send(now_ms, &[head, payload]).unwrap();
    }

    fn hear(&mut self, message: &[u8]) {
        match Message::decode(message).unwrap() {
            Message::Publish(topic, report) => {
                let report = opened(&topic, report).expect("signed by the device");
                self.report(&topic, &report);
            }
            Message::Subscribe(topic) => self.deliver(topic),
            _ => {}
        }
    }

    fn report(&mut self, topic: &Topic, report: &[u8]) {
        match topic {
            Topic::Nonce(_) => {
                let nonce: Nonce = codec::decode(report, 4096).unwrap();
                self.nonce = Some(nonce.nonce);
                // What was signed for another boot and never taken is signed anew.
                if self.generation > self.accepted {
                    self.order = None;
                }
                self.sign();
            }
            Topic::State(..) => self.state = Some(codec::decode(report, 4096).unwrap()),
            Topic::Ack(_) => {
                let ack: Ack = codec::decode(report, 4096).unwrap();
                if ack.refused.is_none() {
                    self.accepted = self.accepted.max(ack.generation);
                }
            }
            Topic::Want(_) => {
                let want: Want = codec::decode(report, 4096).unwrap();
                for piece in want.pieces {
                    self.deliver(Topic::Blob(want.of, piece));
                }
            }
            _ => {}
        }
    }

    /// Signs what the fleet wants for the board's nonce, and says it.
    fn sign(&mut self) {
        let (Some(nonce), Some(wish)) = (self.nonce, self.wish) else { return };
        if self.order.is_none() {
            self.generation += 1;
            let bytes = self.fleet.order(0, self.generation, wish, Some(nonce));
            self.order = Some((self.generation, bytes));
            self.deliver(Topic::Order(id()));
        }
    }

    fn deliver(&mut self, topic: Topic) {
        let bytes = match &topic {
            Topic::Order(_) => self.order.as_ref().map(|(_, bytes)| bytes.as_slice()),
            Topic::Blob(of, piece) => self.fleet.piece(*of, *piece),
            Topic::Trust(TrustFile::KeysetVersion(1)) => {
                self.fleet.keysets.first().map(Vec::as_slice)
            }
            _ => None,
        };
        self.down.extend(bytes.map(|bytes| (topic.clone(), bytes.to_vec())));
    }
}

fn line(board: &mut Board) -> UnixStream {
    let line = board.connect().unwrap();
    line.set_nonblocking(true).unwrap();
    line
}

/// The clock of the person who waits.
#[expect(clippy::disallowed_methods, reason = "a test waits in real time")]
fn now() -> Instant {
    Instant::now()
}

/// Writes all of a frame; the board's UART takes its time.
fn write_all(line: &mut UnixStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match line.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("the line: {error}"),
        }
    }
}
