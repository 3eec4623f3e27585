//! What callers hold.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::config::{LinkConfig, StartError};
use crate::message::{LinkEvent, Outgoing, PublishError, SubscribeError, Subscription};
use crate::runner::{Shared, Tasks, Wanted, run};
use crate::stats::LinkStats;

/// What the rest of Fleetway needs from a broker; tests put something else behind it. No call ever waits.
pub trait Link: Send + Sync {
    /// Takes a message for sending, or says why not. Also while down: then it waits, within the bounds of the outbox.
    fn publish(&self, message: Outgoing) -> Result<(), PublishError>;

    /// Adds a transient filter, until it is unsubscribed, across reconnects. Repeating it brings retained messages again.
    fn subscribe(&self, subscription: Subscription) -> Result<(), SubscribeError>;

    /// Drops a transient filter. Messages that are on their way may still come.
    fn unsubscribe(&self, filter: &str);

    /// Counters and gauges.
    fn stats(&self) -> LinkStats;
}

/// A running link. It lives until [`LinkHandle::shutdown`] or until its last handle is dropped, which looks to the broker
/// like a crash, so that it publishes the will.
#[derive(Clone)]
pub struct LinkHandle {
    shared: Shared,
    wanted: Arc<watch::Sender<Wanted>>,
    /// Closed when the supervisor is gone.
    gone: watch::Receiver<()>,
}

/// Starts a link. Events must be read: when [`LinkConfig::events_max`] of them wait, the link stops reading.
pub fn start(config: LinkConfig) -> Result<(LinkHandle, mpsc::Receiver<LinkEvent>), StartError> {
    config.check()?;
    let runtime = tokio::runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
    let (events, receiver) = mpsc::channel(config.events_max.max(1));
    let (wanted, wanted_receiver) = watch::channel(Wanted::Link);
    let (alive, gone) = watch::channel(());
    let shared = Shared::new(config);
    let tasks = Tasks { shared: shared.clone(), events, wanted: wanted_receiver };
    runtime.spawn(async move {
        let _alive = alive;
        run(tasks).await;
    });
    Ok((LinkHandle { shared, wanted: Arc::new(wanted), gone }, receiver))
}

impl Link for LinkHandle {
    fn publish(&self, message: Outgoing) -> Result<(), PublishError> {
        self.shared.desk().publish(message, clock::now())
    }

    fn subscribe(&self, subscription: Subscription) -> Result<(), SubscribeError> {
        self.shared.desk().subscribe(subscription, clock::now())
    }

    fn unsubscribe(&self, filter: &str) {
        self.shared.desk().unsubscribe(filter, clock::now());
    }

    fn stats(&self) -> LinkStats {
        self.shared.desk().stats()
    }
}

impl LinkHandle {
    /// Ends the connection in good order (the broker publishes no will) and makes the next one soon: with the
    /// certificate that the TLS configuration shows by then. Nothing that waits is lost.
    pub fn reconnect(&self) {
        self.shared.again.notify_one();
    }

    /// Takes nothing new, sends what is in the outbox for `drain` at most, says DISCONNECT, and waits until all is over.
    /// The broker forgets the will: publish its replacement first. Returns how many messages were left unsent: all of them
    /// when there is neither a connection nor one being made.
    pub async fn shutdown(&self, drain: Duration) -> usize {
        self.shared.desk().close();
        self.wanted.send_replace(Wanted::Drained(drain));
        let mut gone = self.gone.clone();
        while gone.changed().await.is_ok() {}
        self.shared.desk().unsent()
    }
}

impl std::fmt::Debug for LinkHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkHandle")
            .field("url", &self.shared.config.url)
            .field("client_id", &self.shared.config.client_id)
            .finish_non_exhaustive()
    }
}
