//! What a file must be before anything runs.
//!
//! Every offset, size and product is checked here, once; a [`Model`] is the proof. Files are signed,
//! but a signature says who made a file, not that it is sane.

use crate::format::{HEADER_WORDS, Header, IO_WORDS, Io, MAGIC, OP_WORDS, Op, VERSION};
use crate::{limits, load_op};

/// Why a file does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It does not begin as our files do.
    #[error("this is not a qnn file")]
    NotQnn,
    /// A later or earlier page of `format`.
    #[error("qnn format {found} is not known here, only {VERSION}: compile the model again")]
    Version {
        /// What the file says.
        found: u32,
    },
    /// A size or count of the header does not fit the file or the bounds.
    #[error("the header is wrong: {what}")]
    Header {
        /// Which number, and why.
        what: &'static str,
    },
    /// An input or output does not fit.
    #[error("input or output {index} is wrong: {what}")]
    Io {
        /// Inputs first, from 0.
        index: u32,
        /// Which number, and why.
        what: &'static str,
    },
    /// An operator does not fit.
    #[error("operator {index} is wrong: {what}")]
    Op {
        /// In the order in which they run, from 0.
        index: u32,
        /// Which number, and why.
        what: &'static str,
    },
}

/// A checked file. Borrowed, not copied: it may lie in flash or in mapped memory.
#[derive(Debug, Clone, Copy)]
pub struct Model<'f> {
    pub(crate) file: &'f [u8],
    header: Header,
    work: u64,
}

impl<'f> Model<'f> {
    /// Checks everything. The file's bytes must not change afterwards.
    pub fn load(file: &'f [u8]) -> Result<Self, LoadError> {
        let wrong = |what| Err(LoadError::Header { what });
        if file.get(..MAGIC.len()) != Some(&MAGIC[..]) {
            return Err(LoadError::NotQnn);
        }
        let Some(words) = words::<HEADER_WORDS>(file, 0) else { return wrong("it is cut off") };
        if words[2] != VERSION {
            return Err(LoadError::Version { found: words[2] });
        }
        let header = Header::from_words(&words);
        if words != header.to_words() {
            return wrong("a reserved word is not 0");
        }
        if file.len() > limits::FILE_BYTES_MAX || header.file_bytes as usize != file.len() {
            return wrong("the file has another length than it says");
        }
        if header.open > 1 {
            return wrong("the batch is neither open nor not");
        }
        if header.arena_bytes as usize > limits::ARENA_BYTES_MAX {
            return wrong("the arena is too large");
        }
        let (inputs, outputs) = (header.inputs as usize, header.outputs as usize);
        if inputs > limits::IO_MAX || outputs > limits::IO_MAX {
            return wrong("too many inputs or outputs");
        }
        if header.ops as usize > limits::OPS_MAX {
            return wrong("too many operators");
        }
        let mut model = Self { file, header, work: 0 };
        if model.ops_at() + header.ops as usize * OP_WORDS * 4 > file.len() {
            return wrong("it is cut off");
        }
        for index in 0..header.inputs + header.outputs {
            check_io(&model, index).map_err(|what| LoadError::Io { index, what })?;
        }
        for index in 0..header.ops {
            let wrong = |what| LoadError::Op { index, what };
            let op = model.op(index).ok_or(wrong("there is no such kind"))?;
            let work = load_op::check(&op, header.arena_bytes, file).map_err(wrong)?;
            model.work = model.work.saturating_add(work);
            if model.work > limits::WORK_MAX {
                return Err(wrong("the model is too much work"));
            }
        }
        Ok(model)
    }

    /// Bytes of memory that [`Model::run`] wants, any alignment.
    pub fn arena_bytes(&self) -> usize {
        self.header.arena_bytes as usize
    }

    /// Whether the first axis of every input was left open: a caller may bring several rows, and runs
    /// them one after the other.
    pub fn is_open(&self) -> bool {
        self.header.open == 1
    }

    /// Multiply-accumulates and moved elements of a run, paddings included.
    pub fn work(&self) -> u64 {
        self.work
    }

    /// The inputs, in the order of the ONNX file, each with its name.
    pub fn inputs(&self) -> impl Iterator<Item = (&'f str, Io)> + '_ {
        (0..self.header.inputs).filter_map(|index| self.named(index))
    }

    /// The outputs, in the order of the ONNX file, each with its name.
    pub fn outputs(&self) -> impl Iterator<Item = (&'f str, Io)> + '_ {
        (0..self.header.outputs).filter_map(|index| self.named(self.header.inputs + index))
    }

    /// The operators, in the order in which they run.
    pub fn ops(&self) -> impl Iterator<Item = Op> + '_ {
        (0..self.header.ops).filter_map(|index| self.op(index))
    }

    fn named(&self, index: u32) -> Option<(&'f str, Io)> {
        let io = self.io(index)?;
        let name = self.data(io.name, io.name_bytes as usize)?;
        Some((core::str::from_utf8(name).ok()?, io))
    }

    fn io(&self, index: u32) -> Option<Io> {
        let at = (HEADER_WORDS + index as usize * IO_WORDS) * 4;
        Io::from_words(&words(self.file, at)?)
    }

    pub(crate) fn op(&self, index: u32) -> Option<Op> {
        Op::from_words(&words(self.file, self.ops_at() + index as usize * OP_WORDS * 4)?)
    }

    pub(crate) fn op_count(&self) -> u32 {
        self.header.ops
    }

    /// Bytes of the file.
    pub(crate) fn data(&self, at: u32, len: usize) -> Option<&'f [u8]> {
        let at = at as usize;
        self.file.get(at..at.checked_add(len)?)
    }

    fn ops_at(&self) -> usize {
        let ios = self.header.inputs as usize + self.header.outputs as usize;
        (HEADER_WORDS + ios * IO_WORDS) * 4
    }
}

/// `N` words of the file.
fn words<const N: usize>(file: &[u8], at: usize) -> Option<[u32; N]> {
    let bytes = file.get(at..at.checked_add(N * 4)?)?;
    let (words, _) = bytes.as_chunks::<4>();
    let mut found = [0; N];
    for (word, bytes) in found.iter_mut().zip(words) {
        *word = u32::from_le_bytes(*bytes);
    }
    Some(found)
}

fn check_io(model: &Model<'_>, index: u32) -> Result<(), &'static str> {
    let io = model.io(index).ok_or("there is no such element type")?;
    if io.rank as usize > limits::RANK_MAX {
        return Err("it has too many axes");
    }
    let product = io.dims.iter().try_fold(1_u64, |product, &dim| {
        let product = product.checked_mul(u64::from(dim));
        product.filter(|&product| product <= limits::ARENA_BYTES_MAX as u64)
    });
    if product != Some(u64::from(io.elements)) {
        return Err("its sizes do not multiply to its length");
    }
    if io.dims.iter().skip(io.rank as usize).any(|&dim| dim != 1) {
        return Err("it has a size behind its last axis");
    }
    if u64::from(io.arena) + u64::from(io.elements) > model.arena_bytes() as u64 {
        return Err("it lies outside the arena");
    }
    if io.zero > 255 || !(io.scale.is_finite() && io.scale > 0.0) {
        return Err("its scale or zero point cannot be");
    }
    if io.name_bytes as usize > limits::NAME_BYTES_MAX {
        return Err("its name is too long");
    }
    let name = model.data(io.name, io.name_bytes as usize).ok_or("its name lies elsewhere")?;
    core::str::from_utf8(name).map(|_| ()).map_err(|_| "its name is no text")
}
