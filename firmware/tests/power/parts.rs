//! What a board of this world has beside its flash and its wire.

use fleetway_firmware::hardware::{Clock, Sensor, Watchdog};

/// A sensor that shows other numbers each time.
pub(crate) struct Ramp(pub(crate) u8);

impl Sensor for Ramp {
    fn sample(&mut self, input: &mut [f32]) -> bool {
        self.0 = self.0.wrapping_add(1) % 100;
        for (at, value) in input.iter_mut().enumerate() {
            *value = f32::from(self.0) + at as f32;
        }
        true
    }

    fn answered(&mut self, _output: &[f32]) {}
}

/// A watchdog that [`crate::world`] plays itself.
pub(crate) struct Dog;

impl Watchdog for Dog {
    fn feed(&mut self, _ms: u32) {}
}

/// Time, in milliseconds, as far as the world has let it go.
pub(crate) struct Time(pub(crate) u64);

impl Clock for Time {
    fn now_us(&self) -> u64 {
        self.0 * 1000
    }
}
