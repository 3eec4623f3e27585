//! The one MQTT link that the agent and the controller share: `rumqttc` behind one trait.
//!
//! A link connects, stays connected, and tells what it sees as [`LinkEvent`]s. Whoever sends never waits for the
//! broker: [`Link::publish`] puts the message into a bounded outbox or says that it is full.
//!
//! What a caller may count on:
//! * QoS 1 messages leave in order and are sent again after a reconnect until the broker acknowledged them. The
//!   acknowledgement means that the *broker* has it, never that the peer does: what matters is acknowledged by the peer.
//! * QoS 0 messages have a lane of their own, so bytes in bulk never stand in front of an order.
//! * Standing and active transient subscriptions are made again on every connection, session present or not.
//! * A connection that makes no progress is thrown away and built again from the outbox.
//!
//! Read in this order: [`message`](Outgoing) (what goes in and out), `config` (what can be set and why),
//! `versions`, `backoff`, `outbox`, `packet_ids`, `subscriptions` (small pure parts, each with a table of tests),
//! `desk` (the state of a link: pure, time is an argument), `wire` (`rumqttc`, once per protocol version),
//! `runner` (the tasks), `handle` (what callers hold), `tls`.
//!
//! Absent on purpose: `rumqttc`'s own memory of a session. A client and its event loop live for exactly one
//! connection, so that neither its stale events, its cleared queue nor its collision livelock can outlive the
//! connection that caused them. The outbox alone knows what is still to be sent.
#![warn(missing_docs)]

mod backoff;
mod clock;
mod config;
mod desk;
mod handle;
mod message;
mod outbox;
mod packet_ids;
mod runner;
mod stats;
mod subscriptions;
mod tls;
mod url;
mod versions;
mod wire;

pub use backoff::BackoffLimits;
pub use config::{
    Credentials, INFLIGHT_MAX, LinkConfig, PACKET_BYTES_MAX, RECEIVE_MAX, Session, StartError,
};
pub use handle::{Link, LinkHandle, start};
pub use message::{
    Asked, FILTERS_MAX, LinkEvent, Outgoing, PublishError, Qos, SubscribeError, Subscription,
    TOPIC_BYTES_MAX, Version, Will,
};
pub use outbox::{LaneLimits, OutboxLimits};
pub use stats::LinkStats;
pub use tls::{TlsError, TlsFiles, TlsIdentity, Validity, client_config_without_identity};
pub use url::{BrokerUrl, EnrollUrl, EnrollUrlError, UrlError};
