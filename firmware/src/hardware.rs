//! What a board must bring, as traits: flash, a link, a sensor, a watchdog, a clock. Everything
//! else in this crate is the same on all boards, and on the host that tests it.

use embedded_storage::nor_flash::NorFlash;
use fleetway_protocol::serial::Message;

/// NOR flash that the processor also sees as memory, so that a model runs where it lies.
///
/// An erase makes ones, a program only zeros; either may be cut anywhere. Whether a cell reads
/// the same twice after that is not believed ([`crate::journal`], [`crate::store`]).
pub trait Flash: NorFlash {
    /// All of it, as it reads now.
    fn mapped(&self) -> &[u8];
}

/// The link to the fleet, by way of a gateway that carries bytes and is not believed.
pub trait Uplink {
    /// Whether somebody is at the other end.
    fn is_up(&self, now_ms: u64) -> bool;

    /// Carries bytes both ways, as many as go at once. Whether a new session began since this was
    /// called the last time: what the other end was told to do for us is forgotten.
    fn carry(&mut self, now_ms: u64) -> bool;

    /// Hands the next message that has arrived to `take`, if there is one.
    fn poll(&mut self, take: &mut dyn FnMut(Message<'_>));

    /// Sends a message. `false`: there is no room now, ask again.
    fn send(&mut self, now_ms: u64, message: &Message<'_>) -> bool;
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

    /// Lets the processor sleep, for at most some milliseconds; what the line brings meanwhile is
    /// kept. A board that cannot sleep comes back at once.
    fn rest(&self) {}
}

/// Why the board started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Power came, somebody pressed a button, or the board cannot tell.
    Power,
    /// The watchdog was not fed: what ran last did not come back.
    Watchdog,
}
