//! `rumqttc`, once per protocol version, behind one pair of traits, so that the loop is written once.
//!
//! A wire lives for one connection: opened, polled until it fails, dropped. Its future is never cancelled except by
//! dropping the whole wire, since `poll()` loses messages when it is interrupted.

mod v3;
mod v5;

use std::io;
use std::time::Duration;

use bytes::Bytes;

use crate::config::LinkConfig;
use crate::message::{Outgoing, Subscription, Version};
use crate::versions::ConnectFailure;

pub(crate) use v3::WireV311;
pub(crate) use v5::WireV5;

/// The half that is polled.
pub(crate) trait Wire: Sized + Send + 'static {
    /// Version it speaks.
    const VERSION: Version;

    /// Prepares a connection; nothing happens before the first poll.
    fn open(config: &LinkConfig) -> (Box<dyn WireSender>, Self);

    /// Waits for the next thing that happens. The first is `Accepted` or a failure. After a failure, never poll again.
    fn poll(&mut self) -> impl Future<Output = Result<WireEvent, WireFailure>> + Send;

    /// After a failure: what was read before it. It may be acknowledged already, so it must not be lost with the wire.
    fn left_over(&mut self) -> Option<WireEvent>;
}

/// The half that takes requests: at once, or not at all (`false`).
pub(crate) trait WireSender: Send {
    fn publish(&self, message: &Outgoing, expires_in: Option<Duration>) -> bool;
    fn subscribe(&self, batch: &[Subscription]) -> bool;
    fn unsubscribe(&self, filter: &str) -> bool;
    fn disconnect(&self) -> bool;
}

/// What the broker granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) session_present: bool,
    pub(crate) packet_bytes_max: Option<u32>,
    /// The inflight limit `rumqttc` works with now.
    pub(crate) inflight_max: u16,
    /// How often it pings now.
    pub(crate) keep_alive: Duration,
}

/// What happens on a connection, whatever its version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WireEvent {
    Accepted(Accepted),
    Message {
        topic: String,
        payload: Bytes,
        retain: bool,
    },
    /// The oldest request that was not written yet is; `id` is 0 for QoS 0.
    Written {
        id: u16,
    },
    PublishAnswered {
        id: u16,
        code: u8,
    },
    SubscribeAnswered {
        id: u16,
        codes: Vec<u8>,
    },
    UnsubscribeAnswered {
        id: u16,
    },
    /// Pings and the like.
    Other,
}

impl WireEvent {
    /// Whether it means that what we send moves on.
    pub(crate) fn is_progress(&self) -> bool {
        !matches!(self, WireEvent::Message { .. } | WireEvent::Other)
    }
}

/// Why a connection failed or ended.
#[derive(Debug)]
pub(crate) struct WireFailure {
    /// What it says about the version, if it happened before the broker accepted.
    pub(crate) class: ConnectFailure,
    pub(crate) reason: String,
}

/// Whether an I/O error means that the other side hung up. TLS alerts come as `InvalidData` and do not.
fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

fn class_of_io(error: &io::Error) -> ConnectFailure {
    if is_hang_up(error) { ConnectFailure::HungUp } else { ConnectFailure::Other }
}

fn network_options(config: &LinkConfig) -> rumqttc::NetworkOptions {
    let mut options = rumqttc::NetworkOptions::new();
    options.set_tcp_nodelay(true);
    options.set_connection_timeout(config.connect_timeout.as_secs());
    options
}

fn transport(config: &LinkConfig) -> rumqttc::Transport {
    match &config.tls {
        Some(tls) if config.url.is_tls() => {
            let tls = rumqttc::TlsConfiguration::Rustls(tls.clone());
            rumqttc::Transport::tls_with_config(tls)
        }
        _ => rumqttc::Transport::tcp(),
    }
}

/// What a person is told, in the same words for both versions.
mod text {
    use std::fmt::{Debug, Display};
    use std::io;

    pub(super) const HUNG_UP: &str = "the broker hung up";
    pub(super) const NO_ANSWER: &str = "no answer in time: check address, port and firewall";
    pub(super) const NO_PING: &str = "no answer to our ping within one keep-alive";
    pub(super) const TAKEN_OVER: &str =
        "another client connected with our client id: give every device its own";

    /// The handshake failed: we do not accept the broker.
    pub(super) fn tls(error: &dyn Display) -> String {
        format!("{error} (check the fleet's CA, the broker's name in the URL, and the clock)")
    }

    /// Reading or writing failed. In TLS 1.3 the broker's "no" to our certificate comes only here.
    pub(super) fn io(error: &io::Error) -> String {
        let tls = error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => {
                format!("the broker does not accept our certificate ({alert:?}): enrol again")
            }
            _ => error.to_string(),
        }
    }

    pub(super) fn refused(code: &dyn Debug) -> String {
        let code = format!("{code:?}");
        let mend = match code.contains("NotAuthorized") {
            true => {
                " (it does not let this identity in; one that was revoked must be enrolled again)"
            }
            false => "",
        };
        format!("the broker refused the connection: {code}{mend}")
    }
}
