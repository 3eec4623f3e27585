//! The thread on which telemetry leaves ([`crate::telemetry`]): its disk and its clock, and nobody
//! waits for it. The event loop hands reports over by a bounded queue; what does not fit is counted
//! as lost. If its disk hangs, telemetry stops, and nothing else does.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleetway_link::{Link as _, LinkHandle, Outgoing as Message};
use fleetway_protocol::telemetry::Heard;

use super::signing::ReportSigner;
use crate::clock::Clock;
use crate::config::Config;
use crate::fs::RealFs;
use crate::spool::Counts;
use crate::telemetry::{Outlet, Record, Room, Settings};

/// Reports that may wait for the thread: some rounds of eight models and the machine, should the
/// disk be slow.
const QUEUE_MAX: usize = 64;
/// Messages in the outbox above which reports of now wait: on disk they cost no memory.
const OUTBOX_MAX: usize = 32;
/// Longest wait of the thread, milliseconds: a spool that did not open is tried again by then.
const IDLE_MS: u64 = 10_000;
/// How long the end may take until reports that were just made are given up.
const STOP_MAX: Duration = Duration::from_secs(1);

enum Input {
    Record(Record),
    Heard(Box<Heard>),
    /// The link has changed.
    Link,
    Stop(SyncSender<()>),
}

/// How the event loop reaches the thread.
pub(super) struct Telemetry {
    inputs: SyncSender<Input>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Reports that found the queue full.
    missed: AtomicU64,
    /// An update is being fetched.
    fetches: AtomicBool,
    /// The link is there.
    up: AtomicBool,
    /// How often it went away.
    downs: AtomicU64,
    counts: Mutex<Option<Counts>>,
}

impl Telemetry {
    /// Starts the thread. `boot` is the number of this boot.
    pub(super) fn start(
        config: &Config,
        boot: u64,
        clock: &Clock,
        link: LinkHandle,
        signer: Arc<ReportSigner>,
    ) -> io::Result<Self> {
        let (inputs, inbox) = sync_channel(QUEUE_MAX);
        let shared = Arc::new(Shared::default());
        let worker = Worker {
            outlet: None,
            dir: config.data_dir.join("spool"),
            device: config.device.clone(),
            root: config.broker.root.clone(),
            settings: config.telemetry,
            boot,
            clock: clock.clone(),
            link,
            signer,
            shared: Arc::clone(&shared),
            up: false,
            downs: 0,
            problem: String::new(),
        };
        let name = "telemetry".to_owned();
        std::thread::Builder::new().name(name).spawn(move || worker.run(&inbox))?;
        Ok(Self { inputs, shared })
    }

    /// A report was made.
    pub(super) fn record(&self, record: Record) {
        if self.inputs.try_send(Input::Record(record)).is_err() {
            self.shared.missed.fetch_add(1, Relaxed);
        }
    }

    /// The controller said what it has; it says so again if this is lost.
    pub(super) fn heard(&self, heard: Box<Heard>) {
        let _ = self.inputs.try_send(Input::Heard(heard));
    }

    /// The link came up, or is gone.
    pub(super) fn link(&self, up: bool) {
        self.shared.up.store(up, Relaxed);
        self.shared.downs.fetch_add(u64::from(!up), Relaxed);
        // Only to wake the thread: what counts was said.
        let _ = self.inputs.try_send(Input::Link);
    }

    /// Whether an update is being fetched: nothing is filled in then.
    pub(super) fn set_fetches(&self, fetches: bool) {
        self.shared.fetches.store(fetches, Relaxed);
    }

    /// What became of all reports so far; `None` until the spool is open.
    pub(super) fn counts(&self) -> Option<Counts> {
        *self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, not for long, until every report that was handed over is durable.
    pub(super) fn stop(&self) {
        let (done, ended) = sync_channel(1);
        if self.inputs.try_send(Input::Stop(done)).is_ok() {
            let _ = ended.recv_timeout(STOP_MAX);
        }
    }
}

struct Worker {
    outlet: Option<Outlet<RealFs>>,
    dir: PathBuf,
    device: fleetway_protocol::ids::DeviceId,
    root: String,
    settings: Settings,
    boot: u64,
    clock: Clock,
    link: LinkHandle,
    signer: Arc<ReportSigner>,
    shared: Arc<Shared>,
    up: bool,
    downs: u64,
    problem: String,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Input>) {
        self.open();
        loop {
            let now_ms = self.clock.monotonic_ms();
            let due_ms = self.outlet.as_ref().and_then(|outlet| outlet.poll_timeout(now_ms));
            let wait_ms = due_ms.map_or(IDLE_MS, |at_ms| at_ms.saturating_sub(now_ms));
            match inbox.recv_timeout(Duration::from_millis(wait_ms.clamp(1, IDLE_MS))) {
                Ok(Input::Record(record)) => self.record(record),
                Ok(Input::Heard(heard)) => self.heard(*heard),
                Ok(Input::Link) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Input::Stop(done)) => {
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.open();
            self.follow_link();
            self.send();
            let counts = self.outlet.as_ref().map(Outlet::counts);
            *self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
        }
    }

    /// Opens the spool, unless it is; a disk that is full now may not be later.
    fn open(&mut self) {
        if self.outlet.is_some() {
            return;
        }
        let now_ms = self.clock.monotonic_ms();
        let (device, boot) = (self.device.clone(), self.boot);
        let opened = Outlet::open(RealFs, &self.dir, device, self.settings, boot, now_ms);
        self.outlet = self.told(opened);
        self.up = false;
    }

    /// What came of something on the disk; the same trouble is told once.
    fn told<T>(&mut self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.problem.clear();
                Some(value)
            }
            Err(error) => {
                let text = error.to_string();
                if text != self.problem {
                    tracing::warn!("telemetry is lost while its disk refuses it: {text}");
                    self.problem = text;
                }
                None
            }
        }
    }

    fn record(&mut self, record: Record) {
        let Some(outlet) = &mut self.outlet else {
            self.shared.missed.fetch_add(1, Relaxed);
            return;
        };
        outlet.handle_unnumbered(self.shared.missed.swap(0, Relaxed));
        let kept = outlet.handle_record(record);
        self.told(kept);
    }

    fn heard(&mut self, heard: Heard) {
        let Some(outlet) = &mut self.outlet else { return };
        let kept = outlet.handle_heard(heard);
        self.told(kept);
    }

    fn follow_link(&mut self) {
        let (up, downs) = (self.shared.up.load(Relaxed), self.shared.downs.load(Relaxed));
        let Some(outlet) = &mut self.outlet else { return };
        if std::mem::replace(&mut self.downs, downs) != downs || self.up && !up {
            outlet.handle_down();
            self.up = false;
        }
        if up && !self.up {
            outlet.handle_up();
            self.up = true;
        }
    }

    fn send(&mut self) {
        let Some(outlet) = &mut self.outlet else { return };
        loop {
            let waiting = self.link.stats().outbox_messages;
            let idle = waiting == 0 && !self.shared.fetches.load(Relaxed);
            let room = Room { live: waiting < OUTBOX_MAX, idle };
            let Some(report) = outlet.poll(self.clock.monotonic_ms(), room) else { return };
            let topic = report.topic.text(&self.root);
            let sealed = self.signer.seal(&topic, &report.report);
            // What the outbox does not take is filled in later.
            if let Err(error) =
                self.link.publish(Message::new(topic.as_str(), sealed).at_most_once())
            {
                tracing::debug!("{error}");
            }
        }
    }
}
