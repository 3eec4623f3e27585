//! The superloop: one thread, no interrupts that decide anything, the same order of things for
//! ever. Each turn is bounded; what is not is the model's, and the watchdog bounds that.

use crate::device::Device;
use crate::hardware::{Clock, Flash, Sensor, Uplink, Watchdog};

/// Milliseconds that a turn may take without the model: two erases of a slow flash, a signature
/// to make, one to check.
pub const TURN_MS_MAX: u32 = 2_000;
/// Milliseconds that one answer may take. Longer is a hang, and the board starts again.
pub const ANSWER_MS_MAX: u32 = 1_000;

/// What a board is made of.
pub struct Board<U, S, W, C> {
    /// The link to the gateway.
    pub link: U,
    /// Where inputs come from.
    pub sensor: S,
    /// What brings the board back.
    pub watchdog: W,
    /// The time since the start.
    pub clock: C,
}

/// One turn: a message, time, a piece of work, an answer, a report.
pub fn turn<F: Flash, U: Uplink, S: Sensor, W: Watchdog, C: Clock>(
    device: &mut Device<'_, F>,
    board: &mut Board<U, S, W, C>,
) {
    board.watchdog.feed(TURN_MS_MAX);
    let now_ms = board.clock.now_us() / 1000;
    // The session first: the message is of it, not of the one before.
    if board.link.carry(now_ms) {
        device.handle_session(now_ms);
    }
    board.link.poll(&mut |message| device.handle(now_ms, &message));
    device.tick(now_ms);
    if let Some(ms) = device.work_ms_max() {
        // One golden vector: it may take as long as the whole self-test may.
        board.watchdog.feed(ms);
    }
    device.work(now_ms);
    if device.serves() {
        board.watchdog.feed(ANSWER_MS_MAX);
        device.answer(&mut board.sensor, &board.clock);
    }
    board.watchdog.feed(TURN_MS_MAX);
    if board.link.is_up(now_ms) {
        device.report(now_ms, &mut board.link);
    }
}

/// Turns for ever, with a rest where nothing is left to do.
pub fn run<F: Flash, U: Uplink, S: Sensor, W: Watchdog, C: Clock>(
    device: &mut Device<'_, F>,
    board: &mut Board<U, S, W, C>,
) -> ! {
    loop {
        turn(device, board);
        if !device.is_busy() {
            board.clock.rest();
        }
    }
}
