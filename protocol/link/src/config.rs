//! What can be set on a link, the defaults, and the reasons for them.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::BackoffLimits;
use crate::message::{FILTERS_MAX, Subscription, Version, Will, is_filter, is_topic};
use crate::outbox::OutboxLimits;
use crate::url::BrokerUrl;

/// Largest packet we send or accept. `rumqttc` drops the connection on anything above its default of 10 KiB; chunks are
/// 60 KiB at most, so this leaves room and still bounds what a hostile broker can make us hold.
pub const PACKET_BYTES_MAX: u32 = 256 * 1024;

/// Packet ids in use at most: 20 is what mosquitto allows by default, and without a limit `rumqttc` allocates 13.85 MB
/// per v5 client for all 65 535.
pub const INFLIGHT_MAX: u16 = 20;

/// Unacknowledged QoS 1 messages a v5 broker may have on its way to us.
pub const RECEIVE_MAX: u16 = 16;

/// `rumqttc` refuses to ping more often.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(5);

/// What the broker remembers about us between connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// It queues QoS 1 messages for this long (v5; 3.1.1 brokers decide themselves). For agents.
    Persistent(Duration),
    /// It forgets us at once. For dashboards.
    Clean,
}

/// User name and password, for brokers that want them besides or instead of a certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password; never shown.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Everything a link is told at its start.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// The broker.
    pub url: BrokerUrl,
    /// MQTT client id; one per connection in the whole fleet.
    pub client_id: String,
    /// TLS, needed for `mqtts://` and ignored for `mqtt://`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// User name and password.
    pub credentials: Option<Credentials>,
    /// What the broker publishes when we vanish.
    pub will: Option<Will>,
    /// Subscribed on every connection.
    pub standing: Vec<Subscription>,
    /// What the broker remembers between connections.
    pub session: Session,
    /// Silence after which we ping, at least 5 s. `rumqttc` pings regardless of traffic and gives up when the answer
    /// queues behind data for one keep-alive, so keep window x chunk below rate x keep-alive / 2.
    pub keep_alive: Duration,
    /// Limit for connecting (name, TCP, TLS and CONNACK together) and, in 3.1.1, for each write.
    pub connect_timeout: Duration,
    /// Rebuild the connection when something is to be sent and nothing moved for this long.
    /// `None`: twice the keep-alive.
    pub stall_timeout: Option<Duration>,
    /// Waits between attempts.
    pub backoff: BackoffLimits,
    /// Bounds of the outbox.
    pub outbox: OutboxLimits,
    /// Events that may wait for the receiver. When it is full the link stops reading, so the broker's flow control
    /// holds the rest back; a receiver that stays away for long is then disconnected by the broker. 64 events of
    /// 60 KiB are 4 MiB.
    pub events_max: usize,
    /// This version and no other. `None`: 5.0 first, 3.1.1 when the broker lacks it.
    pub version: Option<Version>,
}

impl LinkConfig {
    /// The defaults for `client_id` at the broker.
    pub fn new(url: BrokerUrl, client_id: impl Into<String>) -> Self {
        Self {
            url,
            client_id: client_id.into(),
            tls: None,
            credentials: None,
            will: None,
            standing: Vec::new(),
            session: Session::Persistent(Duration::from_secs(24 * 60 * 60)),
            keep_alive: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(30),
            stall_timeout: None,
            backoff: BackoffLimits::default(),
            outbox: OutboxLimits::default(),
            events_max: 64,
            version: None,
        }
    }

    /// Refuses what `rumqttc` would panic on and what no broker accepts.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        if self.url.is_tls() && self.tls.is_none() {
            return Err(StartError::NoTls(self.url.clone()));
        }
        if self.client_id.is_empty() || self.client_id.len() > usize::from(u16::MAX) {
            return Err(StartError::BadClientId(self.client_id.clone()));
        }
        if self.keep_alive < KEEP_ALIVE_MIN || self.keep_alive.as_secs() > u64::from(u16::MAX) {
            return Err(StartError::BadKeepAlive(self.keep_alive));
        }
        if self.connect_timeout < Duration::from_secs(1) {
            return Err(StartError::BadConnectTimeout(self.connect_timeout));
        }
        if let Some(will) = &self.will
            && (!is_topic(&will.topic) || will.payload.len() > usize::from(u16::MAX))
        {
            return Err(StartError::BadWill(will.topic.clone()));
        }
        if self.standing.len() > FILTERS_MAX {
            return Err(StartError::TooManyFilters(self.standing.len()));
        }
        match self.standing.iter().find(|subscription| !is_filter(&subscription.filter)) {
            Some(subscription) => Err(StartError::BadFilter(subscription.filter.clone())),
            None => Ok(()),
        }
    }
}

/// Why a link cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// `mqtts://` without TLS.
    #[error(
        "{0} wants TLS but no CA was given: pass a TLS configuration, or use mqtt:// if plain is what you want"
    )]
    NoTls(BrokerUrl),
    /// No usable client id.
    #[error("client id {0:?} is empty or too long: use the device id")]
    BadClientId(String),
    /// Outside of what MQTT and `rumqttc` take.
    #[error("keep-alive of {0:?} does not work: use 5 to 65535 seconds")]
    BadKeepAlive(Duration),
    /// Too short to connect at all.
    #[error("connect timeout of {0:?} does not work: use one second or more")]
    BadConnectTimeout(Duration),
    /// Not a topic, or the payload is above 65535 bytes.
    #[error(
        "will for {0:?} does not work: use a topic without wildcards and at most 65535 bytes of payload"
    )]
    BadWill(String),
    /// More than a broker may allow.
    #[error("{0} standing filters are too many: use at most {FILTERS_MAX}, with wildcards")]
    TooManyFilters(usize),
    /// Not a filter.
    #[error(
        "standing filter {0:?} is no topic filter: use '+' and '#' only as whole levels, '#' only last"
    )]
    BadFilter(String),
    /// Not called from within a tokio runtime.
    #[error("a link needs a tokio runtime: start it from async code")]
    NoRuntime,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Qos;

    fn check(change: impl FnOnce(&mut LinkConfig), expected: &str) {
        let mut config = LinkConfig::new("mqtt://broker".parse().unwrap(), "dev-1");
        change(&mut config);
        let said = config.check().map_or_else(|error| error.to_string(), |()| "ok".into());
        assert!(said.starts_with(expected), "{said:?} instead of {expected:?}");
    }

    #[test]
    fn nonsense_is_refused_before_rumqttc_sees_it() {
        check(|_| (), "ok");
        check(|c| c.url = "mqtts://broker".parse().unwrap(), "mqtts://broker:8883 wants TLS");
        check(|c| c.client_id.clear(), "client id");
        check(|c| c.keep_alive = Duration::from_secs(4), "keep-alive");
        check(|c| c.connect_timeout = Duration::ZERO, "connect timeout");
        check(|c| c.standing = vec![Subscription::new("a#", Qos::AtLeastOnce)], "standing filter");
        check(
            |c| c.standing = vec![Subscription::new("a", Qos::AtLeastOnce); FILTERS_MAX + 1],
            "51 standing filters",
        );
        let will = Will {
            topic: "a/+".into(),
            payload: Default::default(),
            qos: Qos::AtLeastOnce,
            retain: true,
            delay: Duration::ZERO,
        };
        check(|c| c.will = Some(will), "will for");
    }

    #[test]
    fn a_password_is_never_shown() {
        let credentials = Credentials { username: "dev-1".into(), password: "secret".into() };
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
