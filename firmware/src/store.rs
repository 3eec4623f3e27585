//! The map of the flash, and the only two functions that change it.
//!
//! ```text
//! journal  2 blocks           what the device remembers (`journal`)
//! keysets  2 blocks           the keyset in force, and room for the next
//! slot a, slot b              release | keyset | golden list | golden | model list | model
//! ```
//! A *block* is what one erase clears. Every region is whole blocks, so that nothing that counts
//! ever shares a block with something that is erased. In a slot the regions are written from
//! left to right, so that a cut leaves doubt about the last block written and the one after
//! it, and about no other ([`Store::clear_doubt`]).
//!
//! **The guard.** A slot that serves, or that is the way back, is refused here, below everything
//! that could be wrong about which slot is spare.

use core::ops::Range;

use fleetway_protocol::limits::MCU_PAPER_BYTES;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::SlotId;

use crate::hardware::Flash;

/// Largest unit of programming that a flash may have, bytes.
const WRITE_BYTES_MAX: usize = 64;
/// Bytes of a paper that are written last: a multiple of every unit of programming.
const HEAD_BYTES: usize = WRITE_BYTES_MAX;
/// What a paper begins with: its length.
const LENGTH_BYTES: u32 = 4;

/// Some blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub at: u32,
    /// Bytes.
    pub len: u32,
}

impl Region {
    /// The byte behind the last.
    pub const fn end(self) -> u32 {
        self.at + self.len
    }

    fn range(self) -> Range<usize> {
        self.at as usize..self.end() as usize
    }
}

/// What is stored of a release, in the order in which it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The signed manifest.
    Release,
    /// The keyset under which it was admitted: a rotation never takes away what runs.
    Keyset,
    /// The digests of the golden vectors' chunks.
    GoldenList,
    /// The golden vectors.
    Golden,
    /// The digests of the model's chunks.
    ModelList,
    /// The model.
    Model,
}

/// The regions of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotMap([Region; 6]);

impl SlotMap {
    /// Where a part lies.
    pub fn part(&self, part: Part) -> Region {
        self.0[part as usize]
    }

    /// All of it.
    pub fn whole(&self) -> Region {
        let [first, .., last] = self.0;
        Region { at: first.at, len: last.end() - first.at }
    }
}

/// Where everything lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The journal's two halves.
    pub journal: [Region; 2],
    /// The keyset in force, and room for the next.
    pub keysets: [Region; 2],
    /// The slots.
    pub slots: [SlotMap; 2],
    /// Bytes of one block.
    pub block: u32,
}

impl Layout {
    /// A map from `base` on for a flash with blocks of `block` bytes; each slot has room for
    /// golden vectors and a model of so many bytes.
    pub const fn new(base: u32, block: u32, golden_bytes: u32, model_bytes: u32) -> Self {
        let paper = whole_blocks(MCU_PAPER_BYTES, block);
        let (golden, model) = (whole_blocks(golden_bytes, block), whole_blocks(model_bytes, block));
        let journal = [Region { at: base, len: block }, Region { at: base + block, len: block }];
        let keysets_at = base + 2 * block;
        let keysets =
            [Region { at: keysets_at, len: paper }, Region { at: keysets_at + paper, len: paper }];
        let a = slot_map(keysets_at + 2 * paper, paper, golden, model);
        let b = slot_map(a.0[5].end(), paper, golden, model);
        Self { journal, keysets, slots: [a, b], block }
    }

    /// The byte behind the last one used.
    pub const fn end(&self) -> u32 {
        self.slots[1].0[5].end()
    }

    /// The regions of a slot.
    pub fn slot(&self, slot: SlotId) -> &SlotMap {
        &self.slots[slot as usize]
    }
}

const fn whole_blocks(bytes: u32, block: u32) -> u32 {
    bytes.div_ceil(block) * block
}

const fn slot_map(at: u32, paper: u32, golden: u32, model: u32) -> SlotMap {
    let lengths = [paper, paper, paper, golden, paper, model];
    let mut map = [Region { at, len: paper }; 6];
    let mut part = 1;
    while part < 6 {
        map[part] = Region { at: map[part - 1].end(), len: lengths[part] };
        part += 1;
    }
    SlotMap(map)
}

/// Why the flash was not changed as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The driver says so.
    #[error("the flash failed")]
    Flash,
    /// It does not read back as written.
    #[error("the flash does not read back what was written")]
    ReadBack,
    /// More bytes than there is room for.
    #[error("it does not fit its place")]
    Room,
    /// A slot that serves, or that is the way back: a bug, caught.
    #[error("the slot serves, or is the way back")]
    Guarded,
}

impl From<StoreError> for Reason {
    fn from(_: StoreError) -> Self {
        Self::DiskError
    }
}

/// The flash and its map.
pub struct Store<F> {
    flash: F,
    layout: Layout,
    guarded: [bool; 2],
    erases: u32,
}

impl<F: Flash> Store<F> {
    /// A flash with this map. `None` if the map does not fit the flash.
    pub fn new(flash: F, layout: Layout) -> Option<Self> {
        let block = layout.block as usize;
        let fits = layout.end() as usize <= flash.capacity()
            && block.is_multiple_of(F::ERASE_SIZE)
            && HEAD_BYTES.is_multiple_of(F::WRITE_SIZE);
        fits.then_some(Self { flash, layout, guarded: [false; 2], erases: 0 })
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The flash itself, for whoever owns the board.
    pub fn flash(&self) -> &F {
        &self.flash
    }

    /// Which slots nothing may be done to from now on.
    pub(crate) fn guard(&mut self, guarded: [bool; 2]) {
        self.guarded = guarded;
    }

    /// Blocks erased since the start.
    pub fn erases(&self) -> u32 {
        self.erases
    }

    /// What is there, as it reads now.
    pub fn read(&self, region: Region) -> &[u8] {
        self.flash.mapped().get(region.range()).unwrap_or_default()
    }

    /// The bytes of a paper, as far as its length makes sense.
    pub(crate) fn paper(&self, region: Region) -> Option<&[u8]> {
        let (length, rest) = self.read(region).split_at_checked(LENGTH_BYTES as usize)?;
        let length = u32::from_le_bytes(length.try_into().ok()?);
        rest.get(..length as usize)
    }

    /// Erases whole blocks.
    pub(crate) fn erase(&mut self, region: Region) -> Result<(), StoreError> {
        self.check(region)?;
        self.erases = self.erases.saturating_add(region.len / self.layout.block);
        self.flash.erase(region.at, region.end()).map_err(|_| StoreError::Flash)
    }

    /// Writes `bytes` at `at` into erased cells, and reads them back. What is between their end
    /// and the next unit of programming stays erased.
    pub(crate) fn program(&mut self, at: u32, bytes: &[u8]) -> Result<(), StoreError> {
        let region = Region { at, len: bytes.len() as u32 };
        self.check(region)?;
        let (head, tail) = bytes.split_at(bytes.len() - bytes.len() % F::WRITE_SIZE);
        self.flash.write(at, head).map_err(|_| StoreError::Flash)?;
        if !tail.is_empty() {
            let mut unit = [0xff; WRITE_BYTES_MAX];
            unit[..tail.len()].copy_from_slice(tail);
            let unit = &unit[..F::WRITE_SIZE];
            self.flash.write(at + head.len() as u32, unit).map_err(|_| StoreError::Flash)?;
        }
        if self.read(region) == bytes { Ok(()) } else { Err(StoreError::ReadBack) }
    }

    /// Writes a paper into erased cells, its beginning with the length last.
    pub(crate) fn put_paper(&mut self, region: Region, bytes: &[u8]) -> Result<(), StoreError> {
        if LENGTH_BYTES + bytes.len() as u32 > region.len {
            return Err(StoreError::Room);
        }
        let (first, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES - LENGTH_BYTES as usize));
        let mut head = [0xff; HEAD_BYTES];
        head[..4].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        head[4..4 + first.len()].copy_from_slice(first);
        self.program(region.at + HEAD_BYTES as u32, rest)?;
        self.program(region.at, &head)
    }

    /// Copies a paper into erased cells.
    pub(crate) fn copy_paper(&mut self, from: Region, to: Region) -> Result<(), StoreError> {
        let length = self.paper(from).map_or(0, <[u8]>::len) as u32;
        for offset in (0..LENGTH_BYTES + length).step_by(HEAD_BYTES).rev() {
            let mut piece = [0; HEAD_BYTES];
            let at = Region { at: from.at + offset, len: HEAD_BYTES as u32 };
            piece.copy_from_slice(self.read(at));
            self.program(to.at + offset, &piece)?;
        }
        Ok(())
    }

    /// Erases, in a slot that a cut may have left half written, the last block that is not
    /// blank and the one after it: the only ones that the power can have been cut in. The later
    /// one first, so that a cut in here leaves doubt about the same two.
    pub(crate) fn clear_doubt(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let whole = self.layout.slot(slot).whole();
        let last = self.blocks(whole).rev().find(|block| !self.is_blank(*block));
        let last = last.map_or(whole.at, |block| block.at);
        let end = (last + 2 * self.layout.block).min(whole.end());
        for block in self.blocks(Region { at: last, len: end - last }).rev() {
            self.erase(block)?;
        }
        Ok(())
    }

    /// Makes a slot blank from `at` to its end, the last block first, as in
    /// [`Store::clear_doubt`]. The slot was erased before it was written to, and what a cut left
    /// doubt about, again: what reads as blank is.
    pub(crate) fn clear_from(&mut self, slot: SlotId, at: u32) -> Result<(), StoreError> {
        let end = self.layout.slot(slot).whole().end();
        for block in self.blocks(Region { at, len: end - at }).rev() {
            if !self.is_blank(block) {
                self.erase(block)?;
            }
        }
        Ok(())
    }

    /// Whether every cell reads as erased.
    pub(crate) fn is_blank(&self, region: Region) -> bool {
        self.read(region).iter().all(|byte| *byte == 0xff)
    }

    /// The blocks of a region.
    pub(crate) fn blocks(
        &self,
        region: Region,
    ) -> impl DoubleEndedIterator<Item = Region> + use<F> {
        let len = self.layout.block;
        (0..region.len / len).map(move |n| Region { at: region.at + n * len, len })
    }

    fn check(&self, region: Region) -> Result<(), StoreError> {
        let hits = |slot: SlotId| {
            let whole = self.layout.slot(slot).whole();
            self.guarded[slot as usize] && region.at < whole.end() && whole.at < region.end()
        };
        if SlotId::BOTH.into_iter().any(hits) {
            return Err(StoreError::Guarded);
        }
        let fits = region.end() as usize <= self.flash.capacity();
        if fits { Ok(()) } else { Err(StoreError::Room) }
    }
}
