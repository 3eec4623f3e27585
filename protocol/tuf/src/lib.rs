//! The release authority: what may ever run, as TUF 1.0 metadata.
//!
//! The workflow of a TUF client (thresholds, pins, expiry, delegations) is `sigstore-tuf`'s, a
//! library that passes the official conformance suite. This crate is what stands around it: our
//! signatures, our bounds, versions that never fall, and no network, no clock and no runtime.
//!
//! Read in this order:
//! 1. [`limits`]: every bound, with its unit and its reason;
//! 2. [`provider`], [`json`], [`key`]: what a signature is, over which bytes, by whom;
//! 3. [`roles`]: the metadata as an author writes it;
//! 4. [`client`]: what a device believes of it, with [`floors`] and [`desk`] below, and
//!    [`memory`] for those who only ask.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod client;
mod desk;
mod error;
pub mod floors;
pub mod json;
pub mod key;
pub mod limits;
pub mod memory;
pub mod provider;
pub mod roles;
