//! Power is cut at every command of every story: before its effect, halfway, after it; once
//! at each place, twice at each pair of places, and many times by seed. After each cut the
//! device goes on from its durable table alone, and [`common::Device`] checks at each step
//! that the promises hold. The last tests break the device on purpose: a checker that sees
//! nothing there would prove nothing here.
//!
//! Read in this order: `story` (what happens, and where the power goes), `cuts`, `anything`
//! (any event in any order), `remembered` (poison and tries), `flawed` (the checker itself).

mod anything;
#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod flawed;
mod remembered;
#[path = "../common/rng.rs"]
mod rng;
mod story;
