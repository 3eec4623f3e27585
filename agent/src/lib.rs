//! The device side of Fleetway: takes signed orders, fetches and proves models, serves
//! them, keeps them or goes back by itself.
//!
//! Read in this order:
//! 1. [`device`]: the synchronous core that the daemon and the simulated world share;
//! 2. [`fs`], [`store`], [`spool`]: what is durable, and how; [`telemetry`]: how reports leave;
//! 3. [`identity`]: how it joins the fleet, and keeps its certificate;
//!    [`serving`]: how an application gets its answers;
//! 4. [`config`], [`clock`], [`run`], [`status`], [`service`]: the thin shell around them;
//!    [`doctor`]: what is wrong where nobody sees it;
//! 5. [`embed`]: the same loop inside another program; [`gateway`]: devices that hang on this one.
#![warn(missing_docs)]

pub mod clock;
pub mod config;
pub mod device;
pub mod doctor;
pub mod embed;
pub mod fs;
pub mod gateway;
pub mod host;
pub mod identity;
pub mod run;
pub mod service;
pub mod serving;
pub mod spool;
pub mod status;
pub mod store;
pub mod telemetry;

pub use embed::Agent;
