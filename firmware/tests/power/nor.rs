//! A NOR flash that can be cut anywhere.
//!
//! Bits are in one of three states: one, zero, or *weak* (the power went while they changed).
//! A weak bit reads as it likes, anew at every boot, until it is erased whole or programmed to zero.
//! What a correct driver never does is a bug and is kept: making a one of a zero, programming a
//! unit twice, touching the slot that serves.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use fleetway_firmware::hardware::Flash;

use crate::rng::Rng;

pub(crate) const BLOCK: u32 = 4096;
const UNIT: u32 = 4;

/// How much of an operation is done when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Torn {
    /// Nothing of it.
    Nothing,
    /// So many eighths of it, from the beginning.
    Eighths(u8),
    /// Some bits, wherever they are.
    Some,
    /// Every bit that was to change is weak.
    Weak,
    /// All of it, and nobody was told.
    All,
    /// The same, but what changed is weak from the boot after the next one on: whoever believes it
    /// because it reads well once is deceived.
    Fickle,
}

impl Torn {
    pub(crate) const EVERY: [Self; 9] = [
        Self::Nothing,
        Self::Eighths(1),
        Self::Eighths(4),
        Self::Eighths(7),
        Self::Some,
        Self::Some,
        Self::Weak,
        Self::All,
        Self::Fickle,
    ];

    /// One of them.
    pub(crate) fn any(rng: &mut Rng) -> Self {
        Self::EVERY[rng.below(Self::EVERY.len() as u64) as usize]
    }
}

/// What goes wrong at one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The power goes.
    Cut(Torn),
    /// The driver reports an error, after doing so much.
    Error(Torn),
    /// It is done but for one bit, and nobody is told.
    Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

impl NorFlashError for Failed {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

#[derive(Clone)]
pub(crate) struct Nor {
    /// What reads now.
    view: Vec<u8>,
    weak: Vec<u8>,
    /// Bits that read well once more before they are weak.
    fickle: Vec<u8>,
    /// Units programmed since their block was erased.
    programmed: Vec<bool>,
    pub(crate) erases: Vec<u32>,
    /// Operations so far.
    pub(crate) ops: u64,
    /// What goes wrong, by the number of the operation.
    pub(crate) faults: Vec<(u64, Fault)>,
    pub(crate) is_dark: Rc<Cell<bool>>,
    pub(crate) bugs: Vec<String>,
    /// What must not be touched now, set from outside.
    pub(crate) serves: Rc<Cell<(u32, u32)>>,
    rng: Rng,
}

impl Nor {
    pub(crate) fn new(bytes: u32) -> Self {
        let bytes = bytes as usize;
        Self {
            view: vec![0xff; bytes],
            weak: vec![0; bytes],
            fickle: vec![0; bytes],
            programmed: vec![false; bytes / UNIT as usize],
            erases: vec![0; bytes / BLOCK as usize],
            ops: 0,
            faults: Vec::new(),
            is_dark: Rc::default(),
            bugs: Vec::new(),
            serves: Rc::default(),
            rng: Rng::new(1),
        }
    }

    /// Power comes back: weak bits read as they like.
    pub(crate) fn power_up(&mut self, seed: u64) {
        self.is_dark.set(false);
        self.serves.set((0, 0));
        self.rng = Rng::new(seed);
        for at in 0..self.view.len() {
            if self.weak[at] != 0 {
                let noise = self.rng.next() as u8 & self.weak[at];
                self.view[at] = self.view[at] & !self.weak[at] | noise;
            }
            self.weak[at] |= std::mem::take(&mut self.fickle[at]);
        }
    }

    /// A bit flips while nobody looks.
    pub(crate) fn rot(&mut self, at: u32, bit: u32) {
        self.view[at as usize] ^= 1 << bit;
    }

    fn bug(&mut self, text: String) {
        if self.bugs.len() < 4 {
            self.bugs.push(text);
        }
    }

    fn begin(&mut self, range: Range<u32>) -> Result<Option<Fault>, Failed> {
        if self.is_dark.get() {
            return Err(Failed);
        }
        let (from, to) = self.serves.get();
        if range.start < to && from < range.end {
            self.bug(format!("I2: {range:?} serves ({from}..{to})"));
        }
        self.ops += 1;
        let fault = self.faults.iter().find(|(op, _)| *op == self.ops).map(|(_, fault)| *fault);
        self.is_dark.set(matches!(fault, Some(Fault::Cut(_))));
        Ok(fault)
    }

    /// Changes bits towards `to`, as far as `torn` lets it.
    fn change(&mut self, from: u32, to: &[u8], torn: Torn) {
        let done = match torn {
            Torn::Nothing => return,
            Torn::Eighths(n) => to.len() * usize::from(n) / 8,
            Torn::Some | Torn::Weak => 0,
            Torn::All | Torn::Fickle => to.len(),
        };
        for (offset, to) in to.iter().enumerate() {
            let at = from as usize + offset;
            let moving = self.view[at] ^ to | self.weak[at];
            if offset < done {
                self.view[at] = *to;
                self.weak[at] = 0;
                self.fickle[at] = if torn == Torn::Fickle { moving } else { 0 };
            } else if torn == Torn::Weak || offset == done && torn != Torn::Some {
                self.weak[at] |= moving;
            } else if torn == Torn::Some {
                let moved = moving & self.rng.next() as u8;
                let weak = moving & !moved & self.rng.next() as u8 & self.rng.next() as u8;
                self.view[at] = self.view[at] & !moved | to & moved;
                self.weak[at] = self.weak[at] & !moved | weak;
            }
        }
    }

    fn carry_out(
        &mut self,
        from: u32,
        mut to: Vec<u8>,
        fault: Option<Fault>,
    ) -> Result<(), Failed> {
        match fault {
            None => self.change(from, &to, Torn::All),
            Some(Fault::Cut(torn) | Fault::Error(torn)) => {
                self.change(from, &to, torn);
                return Err(Failed);
            }
            Some(Fault::Wrong) => {
                let at = self.rng.below(to.len() as u64) as usize;
                to[at] ^= 1 << self.rng.below(8);
                self.change(from, &to, Torn::All);
            }
        }
        Ok(())
    }
}

impl ErrorType for Nor {
    type Error = Failed;
}

impl ReadNorFlash for Nor {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Failed> {
        bytes.copy_from_slice(&self.view[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.view.len()
    }
}

impl NorFlash for Nor {
    const WRITE_SIZE: usize = UNIT as usize;
    const ERASE_SIZE: usize = BLOCK as usize;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Failed> {
        if !from.is_multiple_of(BLOCK) || !to.is_multiple_of(BLOCK) {
            self.bug(format!("erases {from}..{to}"));
            return Err(Failed);
        }
        for block in (from..to).step_by(BLOCK as usize) {
            let fault = self.begin(block..block + BLOCK)?;
            self.erases[(block / BLOCK) as usize] += 1;
            self.carry_out(block, vec![0xff; BLOCK as usize], fault)?;
            let units = (block / UNIT) as usize..((block + BLOCK) / UNIT) as usize;
            self.programmed[units].fill(false);
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Failed> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset + bytes.len() as u32;
        let whole = offset.is_multiple_of(UNIT) && end.is_multiple_of(UNIT);
        if !whole || end as usize > self.view.len() {
            self.bug(format!("programs {offset}..{end}"));
            return Err(Failed);
        }
        let fault = self.begin(offset..end)?;
        let units = (offset / UNIT) as usize..(end / UNIT) as usize;
        if self.programmed[units.clone()].iter().any(|programmed| *programmed) {
            self.bug(format!("programs a unit of {offset}..{end} twice"));
        }
        let there = self.view[offset as usize..end as usize].to_vec();
        // A program cannot make ones: what would need one stays as it is.
        let to: Vec<u8> = there.iter().zip(bytes).map(|(there, byte)| there & byte).collect();
        self.carry_out(offset, to, fault)?;
        self.programmed[units].fill(true);
        Ok(())
    }
}

impl Flash for Nor {
    fn mapped(&self) -> &[u8] {
        &self.view
    }
}
