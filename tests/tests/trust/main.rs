//! What a device believes of the release authority: the client rule by rule, then a whole
//! device core that is fed with messages.

mod client;
mod device;
