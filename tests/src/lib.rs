//! The whole project from outside: a simulated world, and real processes on a bad network.
//!
//! Read in this order: [`world`] (a fleet in one process, from one seed) and [`rollouts`] (the planner alone, from many:
//! [`seeds`]); [`harness`] (a
//! fleet as processes) and [`proxy`] (the bad network); [`hostile`] (a broker in the attacker's
//! hands), [`attacks`] and [`faults`] (bad models) and [`mod@fuzz`] (bad bytes); [`authority`] (who says what may run,
//! in memory; [`proof`], for one file) and [`python`] (what others say about it); [`npm`] (programs of others: [`browser`], who looks at the
//! page, and [`node_red`], who reads what dashboards get); [`library`] (the agent
//! inside other programs); [`mcu`] (a microcontroller behind an agent); [`demo`] (the main job, told) and
//! [`mod@bench`] (the figures in the README). The scenarios themselves are in `tests/tests/`.

pub mod attacks;
pub mod authority;
pub mod bench;
pub mod browser;
pub mod demo;
pub mod faults;
pub mod fuzz;
pub mod grafana;
pub mod harness;
pub mod hostile;
pub mod library;
pub mod mcu;
pub mod node_red;
pub mod npm;
pub mod proof;
#[path = "../../protocol/tests/common/fuzz.rs"]
mod protocol_fuzz;
pub mod proxy;
pub mod python;
pub mod rollouts;
#[path = "../../protocol/tests/common/samples.rs"]
mod samples;
pub mod seeds;
pub mod world;
