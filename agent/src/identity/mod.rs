//! Who this device is to its fleet: a key that never leaves it, and a certificate for it.
//!
//! [`join`] gets both once, by a join string, and trusts nothing that the string does not
//! pin. From then on [`renew`] keeps the certificate fresh while the agent runs: at two
//! thirds of its life ([`schedule`], pure) by the certificate itself, and after it has ended
//! by a signature of the enrolled key. [`shown`] is what TLS shows, so that a new
//! certificate is used without a restart; the models never notice. [`floor`] asks the same
//! listener which orders are old, where the device has forgotten it.
//!
//! The files are plain PEM, where [`places`] says: `ca.pem`, `device.pem`, `device.key`.
//! A renewal replaces `device.pem` alone, in one rename.

pub(crate) mod client;
mod files;
pub mod floor;
pub mod join;
mod pin;
pub mod places;
pub mod renew;
pub mod schedule;
pub mod shown;
