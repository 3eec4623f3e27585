//! A broker in the attacker's hands.
//!
//! Read in this order: [`relay`] (how it gets into the middle, with the broker's own
//! certificate), `kinds` and [`attack`] (what it does there), [`forge`] (what it signs itself), [`mqtt`]
//! (the packets). The test is `tests/e2e_hostile.rs`.

pub mod attack;
mod forge;
mod kinds;
mod mqtt;
pub mod relay;
