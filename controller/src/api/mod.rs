//! The controller's API: HTTP and JSON, over a unix socket and, where it is configured, over the network.
//!
//! **Who may use it.** The socket is `<data>/api.sock`, mode 0600, in a directory of mode
//! 0700: whoever can open it is the operator, and admin. That is no weaker than a password would be,
//! because the same user can read the director's key that lies beside it, and it needs no
//! secret that could leak into a shell history. Over the network it takes a token with a role, or a
//! browser's session that was opened with one; plain HTTP is for loopback addresses alone.
//!
//! Read in this order: [`types`] (what travels), [`failure`] (how it fails), [`client`]
//! (all that the command line uses), [`caller`] (who asks, and may they), `extract` (what a request carries, as types that
//! `openapi` describes), `idempotency`, [`events`], [`server`] (the routes; the larger ones in `devices`,
//! `releases`, `rollouts`, `follow`, `identities`, `tokens` and `audit`), [`view`] (from the core's words
//! to these) and `measured` (what was measured, and what healthy means). `serve/http.rs` listens.

mod audit;
pub(crate) mod caller;
pub(crate) mod client;
mod devices;
pub(crate) mod events;
mod extract;
pub(crate) mod failure;
mod follow;
mod gates;
mod idempotency;
pub(crate) mod identities;
mod known_bad;
mod measured;
pub(crate) mod metrics;
mod openapi;
mod releases;
pub(crate) mod rollouts;
pub(crate) mod server;
pub(crate) mod spec;
mod tokens;
pub(crate) mod types;
pub(crate) mod view;
mod wishes;
