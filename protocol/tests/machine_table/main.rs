//! The slot machine as tables: scripts of events with the commands and the phase that they
//! must give, every reason at every step, every order at every step. A script that does not
//! hold prints what came instead, in the form of the script. [`common::Device`] also checks
//! the rules of the machine at each line.
//!
//! Read `script` first: it says what a line means. Then the scripts, by what happens in them:
//! `orders`, `rollback`, `trial`, `rot`, `held`. Then what holds at every step, whatever the story:
//! `reasons`, `newer`, `unfitting`.

#[path = "../common/mod.rs"]
mod common;

mod held;
mod newer;
mod orders;
mod reasons;
mod rollback;
mod rot;
mod script;
mod trial;
mod unfitting;
