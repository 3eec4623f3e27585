//! The gateway: devices without a network of their own, on a serial port of this box, become
//! devices of the fleet ([`docs/gateway.md`](../../../docs/gateway.md)).
//!
//! It carries bytes and is not believed: `carrier` (pure) says what a device may ask for and how
//! much may wait, `port` opens where it hangs, and here is one task for each. A device that is
//! silent, floods its line or is not known to the controller costs its own task, and nobody else
//! anything.

mod carrier;
mod port;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fleetway_link::{Link as _, LinkHandle};
use fleetway_protocol::ids::DeviceId;
use fleetway_protocol::serial::FRAME_WIRE_BYTES_MAX;
use fleetway_protocol::topics::Topic;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use carrier::{Carrier, Output};
pub use port::Place;
pub(crate) use port::serial as open_serial;

/// Devices on one gateway: with what each may subscribe to they stay within one connection, at the
/// strictest broker that we know.
pub const DEVICES_MAX: usize = 8;
/// What the agent is subscribed to itself: three standing filters, three files of the release
/// authority, a window of four chunks. While it fetches more at once it asks for some a little later.
const OWN_FILTERS: usize = 3 + 3 + 4;
const _: () =
    assert!(DEVICES_MAX * carrier::SUBSCRIPTIONS_MAX + OWN_FILTERS <= fleetway_link::FILTERS_MAX);
/// Slowest line: a chunk of 4 KiB takes 35 s.
pub const BAUD_MIN: u32 = 1_200;
/// Quickest line that adapters do.
pub const BAUD_MAX: u32 = 4_000_000;
/// What boards speak unless told otherwise.
pub const BAUD_DEFAULT: u32 = 115_200;
/// Messages between the agent's loop and a device's task: what comes while the task writes.
const INBOX_MAX: usize = 64;
/// Between two tries to open a port.
const REOPEN: Duration = Duration::from_secs(2);
/// How long a task may take to end: none waits for its port then.
const STOP_MAX: Duration = Duration::from_secs(1);
/// Bytes read at once.
const READ_BYTES: usize = 2_048;

/// A device behind this one, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downstream {
    /// Its id.
    pub id: DeviceId,
    /// Where it hangs.
    pub place: Place,
}

/// A device behind this one, for whoever asks how it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownstreamStatus {
    /// Its id.
    pub device: String,
    /// Where it hangs.
    pub port: String,
    /// Whether it is heard.
    pub up: bool,
    /// Sessions on its line since the agent started.
    pub sessions: u32,
    /// Messages from it, published.
    pub from_device: u64,
    /// Messages to it, delivered.
    pub to_device: u64,
    /// Frames that came broken.
    pub broken: u32,
    /// Times that something was sent again.
    pub again: u32,
    /// What it asked for and was not given.
    pub refused: u64,
    /// What was for it and was dropped.
    pub dropped: u64,
    /// What is wrong, if anything.
    pub problem: Option<String>,
}

/// News for a device's task.
#[derive(Clone, Debug)]
enum News {
    Link(bool),
    Message(Topic, Bytes),
    Refused(String),
}

struct Line {
    id: DeviceId,
    news: mpsc::Sender<News>,
    status: Arc<Mutex<DownstreamStatus>>,
    /// News that its task had no room for.
    lost: AtomicU64,
    task: JoinHandle<()>,
}

/// All devices behind this one. Dropping it ends their tasks.
#[derive(Default)]
pub(crate) struct Gateway {
    root: String,
    lines: Vec<Line>,
}

impl Gateway {
    /// Starts a task for each.
    pub(crate) fn start(
        devices: &[Downstream],
        root: &str,
        link: &LinkHandle,
        clock: &Clock,
    ) -> Self {
        let start = |device: &Downstream| {
            let (news, inbox) = mpsc::channel(INBOX_MAX);
            let status = Arc::new(Mutex::new(DownstreamStatus {
                device: device.id.to_string(),
                port: device.place.to_string(),
                ..DownstreamStatus::default()
            }));
            let task = Task {
                carrier: Carrier::new(device.id.clone(), root, device.place.baud(), session()),
                place: device.place.clone(),
                inbox,
                link: link.clone(),
                clock: clock.clone(),
                status: Arc::clone(&status),
            };
            let task = tokio::spawn(task.run());
            Line { id: device.id.clone(), news, status, lost: AtomicU64::new(0), task }
        };
        Self { root: root.to_owned(), lines: devices.iter().map(start).collect() }
    }

    /// Whether the broker is there.
    pub(crate) fn handle_link(&self, up: bool) {
        self.lines.iter().for_each(|line| line.tell(News::Link(up)));
    }

    /// A message of the broker; whether it was for a device behind this one alone.
    pub(crate) fn handle_message(&self, topic: &str, payload: &Bytes) -> bool {
        if self.lines.is_empty() {
            return false;
        }
        let Some(topic) = Topic::parse(&self.root, topic) else { return false };
        let of = match &topic {
            Topic::Order(id) | Topic::Block(id) | Topic::Heard(id) => Some(id),
            _ => None,
        };
        let mut is_theirs = false;
        for line in self.lines.iter().filter(|line| of.is_none_or(|id| line.id == *id)) {
            line.tell(News::Message(topic.clone(), payload.clone()));
            is_theirs = of.is_some();
        }
        is_theirs
    }

    /// The broker refused a topic; whether it is one of a device behind this one.
    pub(crate) fn handle_refused(&self, topic: &str) -> bool {
        let of = topic.strip_prefix(&self.root).and_then(|rest| rest.strip_prefix("d/"));
        let of = of.and_then(|rest| rest.split('/').next());
        let line = self.lines.iter().find(|line| Some(line.id.as_str()) == of);
        line.map(|line| line.tell(News::Refused(topic.to_owned()))).is_some()
    }

    /// How they are.
    pub(crate) fn status(&self) -> Vec<DownstreamStatus> {
        let copy = |line: &Line| {
            let mut status = line.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
            status.dropped += line.lost.load(Ordering::Relaxed);
            status
        };
        self.lines.iter().map(copy).collect()
    }

    /// Ends the tasks; what the devices want said when they are gone is with the link then.
    pub(crate) async fn stop(&mut self) {
        for Line { news, task, .. } in self.lines.drain(..) {
            drop(news);
            let _ = tokio::time::timeout(STOP_MAX, task).await;
        }
    }
}

impl Line {
    /// The agent's loop waits for nobody: what a task that is stuck does not take is lost, and is
    /// asked for again.
    fn tell(&self, news: News) {
        if self.news.try_send(news).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Another number at every start: no device remembers a session that never was.
fn session() -> u32 {
    fastrand::u32(1..)
}

/// One device's task.
struct Task {
    carrier: Carrier,
    place: Place,
    inbox: mpsc::Receiver<News>,
    link: LinkHandle,
    clock: Clock,
    status: Arc<Mutex<DownstreamStatus>>,
}

impl Task {
    /// Until the gateway is dropped.
    async fn run(mut self) {
        loop {
            let problem = match port::open(&self.place).await {
                Ok((reader, writer)) => {
                    self.note(None);
                    match self.carry(reader, writer).await {
                        Ok(()) => break,
                        Err(error) => format!("closed: {error}"),
                    }
                }
                Err(error) => format!("cannot be opened: {error}"),
            };
            tracing::warn!(port = %self.place, "{problem}");
            self.note(Some(problem));
            if !self.wait().await {
                break;
            }
        }
        self.carrier.close();
        self.carry_out();
    }

    /// Bytes and messages both ways, until the port fails (the error) or the gateway ends.
    async fn carry(
        &mut self,
        mut reader: port::Reader,
        mut writer: port::Writer,
    ) -> std::io::Result<()> {
        let mut read = [0; READ_BYTES];
        let mut wire = [0; FRAME_WIRE_BYTES_MAX];
        let mut unwritten: Vec<u8> = Vec::with_capacity(FRAME_WIRE_BYTES_MAX);
        loop {
            let now_ms = self.clock.monotonic_ms();
            if unwritten.is_empty() {
                let frame = self.carrier.poll_transmit(now_ms, &mut wire);
                unwritten.extend_from_slice(frame.unwrap_or_default());
            }
            self.carry_out();
            let wait_ms = self.carrier.poll_timeout().saturating_sub(now_ms).max(1);
            let sleep = tokio::time::sleep(Duration::from_millis(wait_ms.min(1_000)));
            tokio::select! {
                got = reader.read(&mut read) => match got? {
                    0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                    n => self.carrier.receive(self.clock.monotonic_ms(), &read[..n]),
                },
                put = writer.write(&unwritten), if !unwritten.is_empty() => {
                    let written = put?;
                    unwritten.drain(..written);
                }
                news = self.inbox.recv() => match news {
                    Some(news) => self.hear(news),
                    None => return Ok(()),
                },
                () = sleep, if unwritten.is_empty() => self.note(None),
            }
        }
    }

    /// Until the port is tried again; `false` if the gateway ended.
    async fn wait(&mut self) -> bool {
        let until = tokio::time::sleep(REOPEN);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return true,
                news = self.inbox.recv() => match news {
                    Some(news) => self.hear(news),
                    None => return false,
                },
            }
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Link(up) => self.carrier.handle_link(up),
            News::Message(topic, payload) => self.carrier.handle_message(&topic, &payload),
            News::Refused(topic) => {
                self.carrier.handle_refused(self.clock.monotonic_ms(), &topic);
            }
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.carrier.poll() {
            let problem = match output {
                Output::Publish(message) => self.link.publish(message).err().map(|e| e.to_string()),
                Output::Subscribe(to) => self.link.subscribe(to).err().map(|e| e.to_string()),
                Output::Unsubscribe(topic) => {
                    self.link.unsubscribe(&topic);
                    None
                }
            };
            if let Some(problem) = problem {
                // As with reports of our own: what matters is said again.
                tracing::debug!(port = %self.place, "{problem}");
            }
        }
    }

    /// How it is now; `problem` is the port's.
    fn note(&self, problem: Option<String>) {
        let (line, carried) = self.carrier.counts();
        let up = problem.is_none() && self.carrier.is_up(self.clock.monotonic_ms());
        let unknown = self.carrier.is_refused().then(|| {
            "the broker refuses what is this device's: `fleetway device adopt` makes it known"
                .to_owned()
        });
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.up = up;
        status.sessions = line.sessions;
        (status.broken, status.again) = (line.broken, line.again);
        (status.from_device, status.to_device) = (carried.up, carried.down);
        status.refused = carried.refused;
        status.dropped = carried.dropped + u64::from(line.too_long);
        status.problem = problem.or(unknown);
    }
}
