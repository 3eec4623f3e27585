//! Panasonic Grid-EYE (AMG8833) on I2C: a camera of 8x8 temperatures, ten a second. What the
//! digits models take, if somebody writes digits with a warm finger.

use embedded_hal::i2c::I2c;

use crate::hardware::Sensor;

/// The first temperature: 64 of them, two bytes each, low byte first, 12 bits and a sign.
const PIXELS: u8 = 0x80;
/// Numbers in a frame.
const FRAME: usize = 64;
/// Degrees Celsius of one step.
const STEP_C: f32 = 0.25;

/// The sensor.
pub struct GridEye<I> {
    i2c: I,
    address: u8,
    scale: Scale,
}

/// How temperatures become what a model takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The temperature that is 0, degrees Celsius: the background.
    pub cold_c: f32,
    /// The temperature that is `full`: a finger.
    pub warm_c: f32,
    /// The largest number that the model takes.
    pub full: f32,
}

impl<I: I2c> GridEye<I> {
    /// A sensor at `address` (0x68 or 0x69).
    pub fn new(i2c: I, address: u8, scale: Scale) -> Self {
        Self { i2c, address, scale }
    }
}

impl<I: I2c> Sensor for GridEye<I> {
    fn sample(&mut self, input: &mut [f32]) -> bool {
        let mut bytes = [0; 2 * FRAME];
        if input.len() != FRAME || self.i2c.write_read(self.address, &[PIXELS], &mut bytes).is_err()
        {
            return false;
        }
        let Scale { cold_c, warm_c, full } = self.scale;
        for (value, bytes) in input.iter_mut().zip(bytes.as_chunks::<2>().0) {
            // Twelve bits in two's complement: the sign is moved up, and comes back down with it.
            let steps = (i16::from_le_bytes(*bytes) << 4) >> 4;
            let share = (f32::from(steps) * STEP_C - cold_c) / (warm_c - cold_c);
            *value = share.clamp(0.0, 1.0) * full;
        }
        true
    }

    fn answered(&mut self, _output: &[f32]) {}
}
