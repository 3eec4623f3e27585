//! The fleet side: what may run (catalog, keys), what runs where (fleet), what runs next
//! (planner), and the shell around it (broker, API, CLI).
//!
//! The core is synchronous and takes time as an argument; the shell gathers facts, hands
//! them in, and carries out the effects that come back.
//!
//! Read in this order:
//! 1. [`planner`]: facts in, a plan with a reason for every device out; pure;
//!    [`replay`]: what it was told and decided, on file, and decided again;
//! 2. [`fleet`]: operator commands and device reports, each durable before it counts;
//! 3. [`store`]: how it becomes durable; [`catalog`], [`keys`]: releases, and keys in files;
//!    [`attest`]: what others say of a model; [`registry`]: where models lie for everybody;
//!    [`audit`]: what was done, in a chain that shows what was changed; [`mirror`]: what devices say,
//!    for dashboards; [`metrics`]: what the controller counts, as text; [`otlp`]: the same for a collector;
//! 4. [`trust`]: the release authority's files, and who signs them;
//! 5. [`broker`], [`pki`], [`enroll`]: how devices reach us, and how they come in;
//! 6. [`access`]: who may ask for what; `serve`, `api`, `cli`, `config`: the shell.

pub mod access;
pub mod attest;
pub mod audit;
pub mod authorities;
pub mod broker;
pub mod catalog;
pub mod clock;
pub mod enroll;
pub mod fleet;
pub mod keys;
pub mod metrics;
pub mod mirror;
pub mod otlp;
pub mod pki;
pub mod places;
pub mod planner;
pub mod registry;
pub mod replay;
pub mod store;
pub mod trust;

/// What kind of failure an error is: the exit code of the CLI and the status of the API
/// hang on it, the sentence does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller asked for something that makes no sense; nothing was changed.
    Usage,
    /// No such thing.
    NotFound,
    /// It contradicts what is there.
    Conflict,
    /// A signature, a permission or a golden vector does not hold.
    Trust,
    /// A disk, a lock or a peer; trying again may help.
    Unavailable,
    /// A bug in this program.
    Internal,
}
