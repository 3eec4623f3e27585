//! OTLP: the controller's metrics pushed to an OpenTelemetry collector, as protobuf over HTTP.
//!
//! Pure: settings from the environment's words ([`settings`]), a request from metrics ([`encode`]), and what
//! follows from an answer ([`answer`]). `serve/otlp.rs` sends. Nothing waits anywhere: everything counted is
//! cumulative, so a try after a failure sends what is true by then, and a collector that is down costs one
//! connection attempt now and then.
//!
//! The messages ([`messages`]) are written by hand: the twelve of them that we send.

pub mod answer;
pub mod encode;
pub mod messages;
pub mod settings;

pub use answer::{Answer, Pace};
pub use encode::{Origin, request};
pub use settings::{Settings, SettingsError, Url};
