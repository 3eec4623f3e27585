//! Real processes on real sockets: what the demo, the bench and the end-to-end tests share.
//!
//! A [`fleet::Fleet`] is a controller, its broker (embedded, or Mosquitto), a bad network
//! ([`crate::proxy`]) and agents, all as processes on free ports and in one temporary
//! directory. Nothing outlives it: processes die when they are dropped, and when their
//! parent dies (`PR_SET_PDEATHSIG`), whatever it died of.
//!
//! Everything is asked from outside, as a person or an application would: the operator's
//! command line with `-o json` ([`cli`], [`views`]), the inference API ([`infer`]), and
//! signals. A wait that does not end says what it waited for, what it saw last, and shows
//! the ends of the logs.
//!
//! Read in this order: [`fleet`]; its parts [`controller`], [`mosquitto`], [`agent`];
//! [`feeder`] with [`infer`] and [`digits`]; [`http`], which asks the controller's API over the network, and [`sink`], which is posted to; then the tools [`process`], [`wait`],
//! [`together`], [`programs`], [`ports`], [`words`]; [`debian`], a box to install packages in, and [`registry`],
//! where models of others lie.

pub mod agent;
pub mod cli;
pub mod controller;
pub mod debian;
pub mod digits;
pub mod feeder;
pub mod fleet;
pub mod http;
pub mod infer;
pub mod mosquitto;
pub mod ports;
pub mod process;
pub mod programs;
pub mod prometheus;
pub mod registry;
pub mod sink;
pub mod together;
pub mod views;
pub mod wait;
pub mod words;

pub use agent::Agent;
pub use cli::Cli;
pub use controller::Controller;
pub use debian::Debian;
pub use digits::Digits;
pub use feeder::Feeder;
pub use fleet::{BrokerKind, Fleet, FleetSpec};
