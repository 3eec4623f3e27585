//! The controller's API: HTTP and JSON over a unix socket.
//!
//! **Who may use it.** The socket is `<data>/api.sock`, mode 0600, in a directory of mode
//! 0700: whoever can open it is the operator. That is no weaker than a password would be,
//! because the same user can read the director's key that lies beside it, and it needs no
//! secret that could leak into a shell history. Over the network there is nothing to
//! attack: remote operators come by ssh, which brings its own identities.
//!
//! Read in this order: [`types`] (what travels), [`failure`] (how it fails), [`client`]
//! (all that the command line uses), [`server`] (the routes; the larger ones in `releases`,
//! `rollouts` and `identities`), [`view`] (from the core's words to these) and
//! `measured` (what was measured, and what healthy means).

pub(crate) mod client;
pub(crate) mod failure;
pub(crate) mod identities;
mod measured;
mod releases;
mod rollouts;
pub(crate) mod server;
pub(crate) mod spec;
pub(crate) mod types;
pub(crate) mod view;
mod wishes;
