//! The drivers against parts that behave as their data sheets say.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::convert::Infallible;

use embedded_hal::i2c::{self, I2c};
use embedded_hal::spi::{self, Operation, SpiDevice};
use embedded_storage::nor_flash::{NorFlash as _, ReadNorFlash as _};
use fleetway_firmware::drivers::grid_eye::{GridEye, Scale};
use fleetway_firmware::drivers::spi_nor::{SpiNor, SpiNorError};
use fleetway_firmware::hardware::Sensor as _;

const BYTES: usize = 64 * 1024;

/// A serial flash: it takes one command per transaction, programs within a page, and is busy for a
/// while.
struct Chip {
    cells: Vec<u8>,
    enabled: bool,
    busy: u32,
    /// How often it still says that it is busy after a change.
    slow: u32,
}

impl spi::ErrorType for Chip {
    type Error = Infallible;
}

impl Chip {
    fn take(&mut self, sent: &[u8]) {
        let at = |sent: &[u8]| u32::from_be_bytes([0, sent[1], sent[2], sent[3]]) as usize;
        assert!(self.busy == 0 || sent[0] == 0x05, "spoken to while busy: {:x}", sent[0]);
        match sent[0] {
            0x06 => self.enabled = true,
            0x02 if std::mem::take(&mut self.enabled) => {
                let page = at(sent) / 256 * 256;
                for (offset, byte) in sent[4..].iter().enumerate() {
                    self.cells[page + (at(sent) + offset) % 256] &= byte;
                }
                self.busy = self.slow;
            }
            0x20 if std::mem::take(&mut self.enabled) => {
                let block = at(sent) / 4096 * 4096;
                self.cells[block..block + 4096].fill(0xff);
                self.busy = self.slow;
            }
            _ => {}
        }
    }
}

impl SpiDevice for Chip {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Infallible> {
        let mut sent = Vec::new();
        for operation in operations {
            match operation {
                Operation::Write(bytes) => sent.extend_from_slice(bytes),
                Operation::Read(bytes) => match sent[0] {
                    0x03 => {
                        let at = u32::from_be_bytes([0, sent[1], sent[2], sent[3]]) as usize;
                        bytes.copy_from_slice(&self.cells[at..at + bytes.len()]);
                    }
                    0x05 => {
                        bytes.fill(u8::from(self.busy > 0));
                        self.busy = self.busy.saturating_sub(1);
                    }
                    other => panic!("nothing to read after {other:x}"),
                },
                other => panic!("{other:?}"),
            }
        }
        self.take(&sent);
        Ok(())
    }
}

fn flash(slow: u32) -> SpiNor<Chip> {
    let chip = Chip { cells: vec![0; BYTES], enabled: false, busy: 0, slow };
    SpiNor::new(chip, BYTES as u32)
}

#[test]
fn a_serial_flash_takes_what_is_written_across_its_pages() {
    let mut flash = flash(5);
    flash.erase(4096, 12288).unwrap();
    let bytes: Vec<u8> = (0..1000u32).map(|n| (n * 7) as u8).collect();
    flash.write(4096 + 100, &bytes).unwrap();
    let mut read = vec![0; 1202];
    flash.read(4096 - 1, &mut read).unwrap();
    assert_eq!((read[0], read[1], read[100]), (0, 0xff, 0xff));
    assert_eq!(read[101..1101], bytes);
    assert_eq!(read[1101..], [0xff; 101]);
    // Programming only makes zeros.
    flash.write(4096 + 100, &[0xf0]).unwrap();
    flash.read(4096 + 100, &mut read[..1]).unwrap();
    assert_eq!(read[0], bytes[0] & 0xf0);
}

#[test]
fn a_dead_flash_and_a_wrong_place_are_errors() {
    let mut dead = flash(u32::MAX);
    assert_eq!(dead.erase(0, 4096), Err(SpiNorError::Busy));
    let mut flash = flash(0);
    assert!(matches!(flash.erase(1, 4096), Err(SpiNorError::Place(_))));
    assert!(matches!(flash.write(BYTES as u32, &[0]), Err(SpiNorError::Place(_))));
}

/// A Grid-EYE of so many steps in every pixel; `None`: nobody answers.
struct Camera(Option<i16>);

#[derive(Debug)]
struct NoAnswer;

impl i2c::Error for NoAnswer {
    fn kind(&self) -> i2c::ErrorKind {
        i2c::ErrorKind::Other
    }
}

impl i2c::ErrorType for Camera {
    type Error = NoAnswer;
}

impl I2c for Camera {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [i2c::Operation<'_>],
    ) -> Result<(), NoAnswer> {
        assert_eq!(address, 0x69);
        let steps = self.0.ok_or(NoAnswer)? as u16 & 0x0fff;
        let [i2c::Operation::Write([0x80]), i2c::Operation::Read(bytes)] = operations else {
            panic!("{operations:?}");
        };
        for pixel in bytes.as_chunks_mut::<2>().0 {
            *pixel = steps.to_le_bytes();
        }
        Ok(())
    }
}

#[test]
fn temperatures_become_numbers() {
    let scale = Scale { cold_c: 20.0, warm_c: 36.0, full: 16.0 };
    let shown = |steps: Option<i16>| {
        let mut input = [-1.0; 64];
        GridEye::new(Camera(steps), 0x69, scale).sample(&mut input).then_some(input[63])
    };
    assert_eq!(shown(Some(4 * 28)), Some(8.0));
    assert_eq!(shown(Some(4 * 50)), Some(16.0));
    // Below zero, in two's complement of twelve bits.
    assert_eq!(shown(Some(-4 * 5)), Some(0.0));
    assert_eq!(shown(None), None);
    let mut short = [0.0; 63];
    assert!(!GridEye::new(Camera(Some(0)), 0x69, scale).sample(&mut short));
}
