//! What others say of a model: a signature by whoever made it (OpenSSF Model Signing, [`bundle`]),
//! and what we say to whoever buys it (a CycloneDX bill of materials, [`bom`]).
//!
//! Both are documents beside a release, bound to it by their digests in the signed manifest, so
//! that an auditor can tell years later which bundle was looked at. Neither lets a model run: a
//! bundle says who made the bytes, not that this fleet may have them, nor that they are the newest.

pub mod bom;
pub mod bundle;
#[cfg(test)]
mod tests;

pub use bundle::{AttestationKey, BundleError, Verified};
