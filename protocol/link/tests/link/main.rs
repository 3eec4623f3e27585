//! The link against a broker that misbehaves on purpose, over real sockets. What a good broker does is tested
//! elsewhere, with a real one.
//!
//! Read `broker` first: a test gives it a function that answers packets, or says that the default answer is fine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod broker;
mod delivery;
mod lifecycle;
mod tls;
mod versions;

use std::time::Duration;

use fleetway_link::{BackoffLimits, BrokerUrl, LinkConfig, LinkEvent, LinkHandle, start};
use tokio::sync::mpsc::Receiver;

/// A configuration that retries quickly.
fn config(url: &str) -> LinkConfig {
    let mut config = LinkConfig::new(url.parse::<BrokerUrl>().unwrap(), "dev-1");
    config.backoff = BackoffLimits { min: millis(5), max: millis(20) };
    config
}

fn link(url: &str, change: impl FnOnce(&mut LinkConfig)) -> (LinkHandle, Events) {
    let mut config = config(url);
    change(&mut config);
    let (handle, receiver) = start(config).unwrap();
    (handle, Events(receiver))
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The events of a link, with a limit to patience.
struct Events(Receiver<LinkEvent>);

impl Events {
    async fn next(&mut self) -> Option<LinkEvent> {
        tokio::time::timeout(Duration::from_secs(10), self.0.recv()).await.expect("an event")
    }

    /// Skips events until `pick` takes one; not for ever, because a link that fails tells so again and again.
    async fn find<T>(&mut self, pick: impl Fn(&LinkEvent) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.next().await.expect("the link goes on");
                if let Some(picked) = pick(&event) {
                    return picked;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), found).await.expect("the event looked for")
    }

    async fn up(&mut self) -> LinkEvent {
        self.find(|event| matches!(event, LinkEvent::Up { .. }).then(|| event.clone())).await
    }

    async fn down(&mut self) -> String {
        self.find(|event| match event {
            LinkEvent::Down { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    /// The payload of the next message.
    async fn message(&mut self) -> String {
        self.find(|event| match event {
            LinkEvent::Message { payload, .. } => {
                Some(String::from_utf8_lossy(payload).into_owned())
            }
            _ => None,
        })
        .await
    }
}
