//! The audit log: who did what, when, and by which signature, so that a later change is found.
//!
//! There is one history. Every operator's command and every decision of the planner is an entry of
//! the fleet's journal, written in the very commit of what it tells of ([`crate::fleet`]); the
//! entry is a link of a hash chain ([`chain`]), and the store keeps the newest lines and the head.
//! After the commit the same lines are appended to files ([`mod@file`]) that nothing rewrites.
//!
//! **To add a verb**: in the daemon call [`Fleet::note`](crate::fleet::Fleet::note), or
//! [`Fleet::note_signed`](crate::fleet::Fleet::note_signed) where a signature belongs to it; in an
//! offline verb (key ceremonies) call [`offline::note`]. Nothing else.
//!
//! What is found, by [`verify()`]: a changed, removed, moved, inserted or cut-off line. What is not:
//! a forger who rewrites files *and* store from some line on. Against that, note the head that
//! `fleetway audit verify` prints where the forger cannot reach, and give it back with `--head`.

pub mod chain;
pub mod file;
pub mod offline;
#[cfg(test)]
mod tests;
pub mod verify;

pub use chain::{Entry, Head};
pub use file::{AuditError, AuditFiles, Tail};
pub use verify::{Bounds, Verdict, verify};
