//! A UART that receives by interrupt into a ring. When that is full nothing is taken any more, and the
//! line waits. (Asked in a loop instead, the processor holds the lock that QEMU needs to hand over the
//! next byte.)

use core::convert::Infallible;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use embedded_io::{ErrorType, Read, ReadReady, Write};
use fleetway_firmware::drivers::ring::Ring;

/// Room for what comes between two turns: [`crate::BAUD`] brings that in 180 ms.
static RING: Ring<2048> = Ring::new();
/// Whether the receiver waits for room.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// The registers of one UART.
pub trait Registers {
    /// The next byte that has come.
    fn take(&self) -> Option<u8>;

    /// Interrupts when something comes, or does not.
    fn interrupts(&self, on: bool);

    /// Sends a byte, as soon as there is room for it.
    fn put(&self, byte: u8);
}

/// What the receiver's interrupt does: into the ring, as long as there is room.
pub fn received(registers: &impl Registers) {
    while !RING.is_full() {
        let Some(byte) = registers.take() else { return };
        RING.put(byte);
    }
    registers.interrupts(false);
    STOPPED.store(true, Ordering::Release);
}

/// The line to the gateway; one of them receives.
pub struct Port<R>(pub R);

impl<R> ErrorType for Port<R> {
    type Error = Infallible;
}

impl<R> ReadReady for Port<R> {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(RING.waiting() > 0)
    }
}

impl<R: Registers> Read for Port<R> {
    /// What is in the ring; it is asked for only when something is.
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        let read = RING.take(bytes);
        if STOPPED.swap(false, Ordering::AcqRel) {
            // What waits in the UART may have interrupted already: it is taken here.
            critical_section::with(|_| {
                self.0.interrupts(true);
                received(&self.0);
            });
        }
        Ok(read)
    }
}

impl<R: Registers> Write for Port<R> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        bytes.iter().for_each(|byte| self.0.put(*byte));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl<R: Registers> fmt::Write for Port<R> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}
