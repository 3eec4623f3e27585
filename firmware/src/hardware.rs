//! What a board must bring, as traits: flash, a link, a sensor, a watchdog, a clock. Everything
//! else in this crate is the same on all boards, and on the host that tests it.

use embedded_storage::nor_flash::NorFlash;
use fleetway_protocol::ids::ShortDigest;
use fleetway_protocol::topics::{Piece, Topic};

/// NOR flash that the processor also sees as memory, so that a model runs where it lies.
///
/// An erase makes ones, a program only zeros; either may be cut anywhere. Whether a cell reads
/// the same twice after that is not believed ([`crate::journal`], [`crate::store`]).
pub trait Flash: NorFlash {
    /// All of it, as it reads now.
    fn mapped(&self) -> &[u8];
}

/// What came over the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'m> {
    /// Somebody at the other end listens: from now on, again.
    Up,
    /// Nobody does.
    Down,
    /// The device's order, in its envelope.
    Order(&'m [u8]),
    /// A keyset that may follow the one in force, in its envelope.
    Keyset(&'m [u8]),
    /// A piece of something content-addressed.
    Piece {
        /// Of what.
        of: ShortDigest,
        /// Which.
        piece: Piece,
        /// Its bytes, unchecked.
        bytes: &'m [u8],
    },
}

/// The link to the fleet, by way of a gateway that carries bytes and is not trusted.
pub trait Uplink {
    /// The next message, if a whole one has arrived. Returns at once.
    fn poll(&mut self, now_ms: u64) -> Option<Message<'_>>;

    /// Sends a signed report to its topic. `false`: there is no room now, ask again.
    fn send(&mut self, now_ms: u64, topic: &Topic, report: &[u8]) -> bool;
}

/// Where inputs come from.
pub trait Sensor {
    /// Fills `input` if a new sample is there. Returns within milliseconds.
    fn sample(&mut self, input: &mut [f32]) -> bool;

    /// An answer to the last sample, for whatever the device is for.
    fn answered(&mut self, output: &[f32]);
}

/// Resets the board if it is not fed.
pub trait Watchdog {
    /// Resets the board unless it is fed again within `ms`.
    fn feed(&mut self, ms: u32);
}

/// A clock that starts with the board.
pub trait Clock {
    /// Microseconds since the start.
    fn now_us(&self) -> u64;
}

/// Why the board started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Power came, somebody pressed a button, or the board cannot tell.
    Power,
    /// The watchdog was not fed: what ran last did not come back.
    Watchdog,
}
