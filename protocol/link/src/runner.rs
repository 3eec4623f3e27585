//! The tasks of a link. One *poller* per connection owns `rumqttc` and does nothing but poll it; the *supervisor* starts
//! it, throws it away when nothing moves, waits, and starts the next. Nothing of a connection survives it but the desk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use crate::backoff::Backoff;
use crate::clock;
use crate::config::LinkConfig;
use crate::desk::Desk;
use crate::message::{LinkEvent, Version};
use crate::versions::{ConnectFailure, VersionChoice};
use crate::wire::{Wire, WireEvent, WireSender, WireV5, WireV311};

/// How often the supervisor looks whether the connection is stuck.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it looks whether the outbox is empty, at the end.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the broker may take to hang up after our DISCONNECT.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// What the handles want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The link.
    Link,
    /// What is in the outbox sent, for so long at most, and then the end.
    Drained(Duration),
}

/// What handles and tasks share.
#[derive(Clone)]
pub(crate) struct Shared {
    desk: Arc<Mutex<Desk>>,
    /// The connection shall be made anew.
    pub(crate) again: Arc<Notify>,
    pub(crate) config: Arc<LinkConfig>,
}

/// What only the tasks have.
#[derive(Clone)]
pub(crate) struct Tasks {
    pub(crate) shared: Shared,
    pub(crate) events: mpsc::Sender<LinkEvent>,
    pub(crate) wanted: watch::Receiver<Wanted>,
}

/// How a connection ended.
struct Ended {
    reason: String,
    /// How long the broker had accepted us, or why it never did; `None` if it ended because it should.
    accepted: Option<Result<Duration, ConnectFailure>>,
}

impl Shared {
    pub(crate) fn new(config: LinkConfig) -> Self {
        let desk = Arc::new(Mutex::new(Desk::new(&config)));
        Self { desk, again: Arc::default(), config: Arc::new(config) }
    }

    /// The desk. `rumqttc` never panics under this lock, and a panic of ours must not take the callers along.
    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tasks {
    /// Asks the desk, then passes on what it says.
    async fn tell_all(&self, ask: impl FnOnce(&mut Desk) -> Vec<LinkEvent>) {
        let events = ask(&mut self.shared.desk());
        for event in events {
            self.tell(event).await;
        }
    }

    /// Passes an event on. Waits for a slow receiver while the link is wanted, never afterwards.
    async fn tell(&self, event: LinkEvent) {
        let event = match self.events.try_send(event) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.shared.desk().stats.events_lost += 1;
                return;
            }
            Err(mpsc::error::TrySendError::Full(event)) => event,
        };
        self.shared.desk().waits_for_receiver(true, clock::now());
        let taken = tokio::select! {
            sent = self.events.send(event) => sent.is_ok(),
            _ = self.unwanted() => false,
        };
        let mut desk = self.shared.desk();
        desk.waits_for_receiver(false, clock::now());
        desk.stats.events_lost += u64::from(!taken);
    }

    /// Waits until the link is not wanted any more. Returns for how long it may drain; `None` when all handles are gone.
    async fn unwanted(&self) -> Option<Duration> {
        match self.wanted.clone().wait_for(|wanted| *wanted != Wanted::Link).await.as_deref() {
            Ok(Wanted::Drained(limit)) => Some(*limit),
            _ => None,
        }
    }
}

/// The supervisor: runs until the link is shut down or the last handle is gone.
pub(crate) async fn run(tasks: Tasks) {
    let shared = &tasks.shared;
    let mut versions = VersionChoice::new(shared.config.version);
    let mut backoff = Backoff::new(shared.config.backoff);
    loop {
        let version = versions.next();
        let ended = match version {
            Version::V5 => connection::<WireV5>(&tasks).await,
            Version::V311 => connection::<WireV311>(&tasks).await,
        };
        shared.desk().disconnected();
        match ended.accepted {
            Some(Ok(lasted)) => {
                versions.accepted();
                backoff.connection_lasted(lasted);
            }
            Some(Err(why)) => versions.failed(why),
            None => return,
        }
        let retry_in = backoff.next_wait(fastrand::f64());
        let reason = format!("{} with {version}: {}", shared.config.url, ended.reason);
        tracing::debug!(reason, ?retry_in, "link down");
        tasks.tell(LinkEvent::Down { reason, retry_in }).await;
        tokio::select! {
            () = wait(shared, retry_in) => {}
            // The reason for which the last attempt failed may be gone.
            () = shared.again.notified() => {}
            _ = tasks.unwanted() => return,
        }
    }
}

/// Waits, and shows meanwhile that it does not hang.
async fn wait(shared: &Shared, time: Duration) {
    let until = clock::now() + time;
    while clock::now() < until {
        shared.desk().stats.turns += 1;
        tokio::time::sleep_until(until.min(clock::now() + LOOK_EVERY)).await;
    }
}

/// Aborts the poller, and with it drops the connection, whenever the supervisor goes away.
struct Poller(JoinHandle<Ended>);

impl Drop for Poller {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Poller {
    /// Throws the connection away.
    async fn abort(&mut self) {
        self.0.abort();
        // whatever it returns, it is gone now
        let _ = (&mut self.0).await;
    }
}

/// One connection, from its first byte to its last.
async fn connection<W: Wire>(tasks: &Tasks) -> Ended {
    let (sender, wire) = W::open(&tasks.shared.config);
    let opened = clock::now();
    let mut poller = Poller(tokio::spawn(poll(tasks.clone(), sender, wire)));
    let mut look = tokio::time::interval(LOOK_EVERY);
    // what is known when the poller cannot tell any more
    let accepted = || match tasks.shared.desk().is_up() {
        true => Some(Ok(clock::now().saturating_duration_since(opened))),
        false => Some(Err(ConnectFailure::Other)),
    };
    loop {
        tokio::select! {
            ended = &mut poller.0 => {
                return ended.unwrap_or_else(|error| {
                    Ended { reason: format!("rumqttc failed: {error}"), accepted: accepted() }
                });
            }
            drain_for = tasks.unwanted() => {
                if let Some(limit) = drain_for {
                    drain(&tasks.shared, &poller, limit).await;
                }
                poller.abort().await;
                return Ended { reason: String::new(), accepted: None };
            }
            () = tasks.shared.again.notified() => {
                let accepted = accepted();
                goodbye(&tasks.shared, &poller).await;
                poller.abort().await;
                return Ended { reason: "asked to connect anew".into(), accepted };
            }
            _ = look.tick() => {
                tasks.shared.desk().stats.turns += 1;
                let stalled = tasks.shared.desk().stalled(clock::now());
                if let Some(reason) = stalled {
                    tasks.shared.desk().stats.stalls += 1;
                    let accepted = accepted();
                    poller.abort().await;
                    return Ended { reason, accepted };
                }
            }
        }
    }
}

/// Sends what there is, also if that needs the connection that is just being made, and says good-bye.
async fn drain(shared: &Shared, poller: &Poller, limit: Duration) {
    let until = clock::now() + limit;
    while shared.desk().unsent() > 0 && !poller.0.is_finished() && clock::now() < until {
        tokio::time::sleep(DRAIN_LOOK_EVERY).await;
    }
    goodbye(shared, poller).await;
}

/// Says good-bye, so that the broker forgets the will.
async fn goodbye(shared: &Shared, poller: &Poller) {
    if shared.desk().say_disconnect() {
        // polled until the broker hangs up: closing with unread bytes would reset what we have just written
        let until = clock::now() + GOODBYE_MAX;
        while !poller.0.is_finished() && clock::now() < until {
            tokio::time::sleep(DRAIN_LOOK_EVERY).await;
        }
    }
}

/// The poller: polls to the end of the connection, and never anything but polls.
async fn poll<W: Wire>(tasks: Tasks, sender: Box<dyn WireSender>, mut wire: W) -> Ended {
    let accepted = match wire.poll().await {
        Ok(WireEvent::Accepted(accepted)) => accepted,
        Ok(other) => {
            let reason = format!("{other:?} instead of CONNACK");
            return Ended { reason, accepted: Some(Err(ConnectFailure::HungUp)) };
        }
        Err(failure) => {
            return Ended { reason: failure.reason, accepted: Some(Err(failure.class)) };
        }
    };
    let since = clock::now();
    tasks.tell_all(|desk| desk.connected(W::VERSION, sender, &accepted, since)).await;
    let failure = loop {
        match wire.poll().await {
            Ok(event) => tasks.tell_all(|desk| desk.arrived(event, clock::now())).await,
            Err(failure) => break failure,
        }
    };
    let lasted = clock::now().saturating_duration_since(since);
    while let Some(event) = wire.left_over() {
        tasks.tell_all(|desk| desk.arrived(event, clock::now())).await;
    }
    Ended { reason: failure.reason, accepted: Some(Ok(lasted)) }
}
