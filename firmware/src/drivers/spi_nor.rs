//! A serial NOR flash behind SPI: the commands that all of them share (JEDEC JESD216 calls them
//! basic), three address bytes, blocks of 4 KiB.

use embedded_hal::spi::{Operation, SpiDevice};
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_write,
};

const READ: u8 = 0x03;
const WRITE_ENABLE: u8 = 0x06;
const PAGE_PROGRAM: u8 = 0x02;
const BLOCK_ERASE: u8 = 0x20;
const READ_STATUS: u8 = 0x05;
/// In the status: a program or an erase is going on.
const BUSY: u8 = 1;
/// Bytes that one command programs; it wraps around at their end.
const PAGE_BYTES: u32 = 256;
/// Times that the status is read until the flash counts as dead. An erase takes up to 400 ms, and
/// a read of the status at 20 MHz nearly a microsecond.
const LOOKS_MAX: u32 = 2_000_000;

/// The flash.
pub struct SpiNor<S> {
    spi: S,
    bytes: u32,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiNorError {
    /// The bus.
    #[error("the bus failed")]
    Bus,
    /// The flash never got ready.
    #[error("the flash stays busy")]
    Busy,
    /// Not whole units, or past the end.
    #[error("no whole units, or past the end")]
    Place(NorFlashErrorKind),
}

impl NorFlashError for SpiNorError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Place(kind) => *kind,
            _ => NorFlashErrorKind::Other,
        }
    }
}

impl<S: SpiDevice> SpiNor<S> {
    /// A flash of `bytes` bytes.
    pub fn new(spi: S, bytes: u32) -> Self {
        Self { spi, bytes }
    }

    fn write_enable(&mut self) -> Result<(), SpiNorError> {
        self.spi.write(&[WRITE_ENABLE]).map_err(|_| SpiNorError::Bus)
    }

    fn wait(&mut self) -> Result<(), SpiNorError> {
        for _ in 0..LOOKS_MAX {
            let mut status = [0];
            let look = &mut [Operation::Write(&[READ_STATUS]), Operation::Read(&mut status)];
            self.spi.transaction(look).map_err(|_| SpiNorError::Bus)?;
            if status[0] & BUSY == 0 {
                return Ok(());
            }
        }
        Err(SpiNorError::Busy)
    }
}

fn command(code: u8, at: u32) -> [u8; 4] {
    let [_, high, middle, low] = at.to_be_bytes();
    [code, high, middle, low]
}

impl<S: SpiDevice> ErrorType for SpiNor<S> {
    type Error = SpiNorError;
}

impl<S: SpiDevice> ReadNorFlash for SpiNor<S> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), SpiNorError> {
        let command = command(READ, offset);
        let read = &mut [Operation::Write(&command), Operation::Read(bytes)];
        self.spi.transaction(read).map_err(|_| SpiNorError::Bus)
    }

    fn capacity(&self) -> usize {
        self.bytes as usize
    }
}

impl<S: SpiDevice> NorFlash for SpiNor<S> {
    const WRITE_SIZE: usize = 1;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), SpiNorError> {
        check_erase(self, from, to).map_err(SpiNorError::Place)?;
        for at in (from..to).step_by(Self::ERASE_SIZE) {
            self.write_enable()?;
            self.spi.write(&command(BLOCK_ERASE, at)).map_err(|_| SpiNorError::Bus)?;
            self.wait()?;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), SpiNorError> {
        check_write(self, offset, bytes.len()).map_err(SpiNorError::Place)?;
        let (mut at, mut left) = (offset, bytes);
        while !left.is_empty() {
            let room = (PAGE_BYTES - at % PAGE_BYTES) as usize;
            let (page, rest) = left.split_at(room.min(left.len()));
            self.write_enable()?;
            let program =
                &mut [Operation::Write(&command(PAGE_PROGRAM, at)), Operation::Write(page)];
            self.spi.transaction(program).map_err(|_| SpiNorError::Bus)?;
            self.wait()?;
            (at, left) = (at + page.len() as u32, rest);
        }
        Ok(())
    }
}
