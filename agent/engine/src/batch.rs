//! Batches: several rows in one run, where that cannot change an answer.
//!
//! A graph whose first axis is open can be laid out for several rows. Whether a row then has the
//! very bits that it has alone depends on the graph (something may look across rows) and on the
//! kernels that tract picks for a shape (they may add in another order). Neither depends on the
//! data in any way that random data would not show, so it is tried when the model is loaded: a
//! size that differs in one bit of one probe is not used. What is served is then the same
//! whether or not requests met.
//!
//! Not here: waiting for requests to meet (the agent's serving).

use crate::limits::ROWS_MAX;
use crate::tensor::{DType, Tensor, TensorData, TensorSpec, element_count};

/// Rows of the layouts that are tried.
pub(crate) const ROWS: [usize; 3] = [2, 4, ROWS_MAX];

/// Bytes of the largest file that is laid out more than once: every layout packs the weights anew.
pub(crate) const FILE_BYTES_MAX: usize = 4 << 20;

/// Elements of all activations of one layout together (16 MiB of f32): what fits a device once
/// must not run it out of memory eightfold.
pub(crate) const ACTIVATION_ELEMENTS_MAX: usize = 4 << 20;

/// Ranges of the float probes: what is normalised, and grey levels.
const PROBES: [(f32, f32); 2] = [(-1.0, 1.0), (0.0, 255.0)];

/// Whether `many` gives for each of `rows` rows what `single` gives for it alone, bit for bit.
pub(crate) fn is_exact(
    specs: &[TensorSpec],
    rows: usize,
    single: impl Fn(&[Tensor]) -> Option<Vec<Tensor>>,
    many: impl Fn(&[Tensor]) -> Option<Vec<Tensor>>,
) -> bool {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    PROBES.iter().all(|&range| {
        let probe = specs.iter().map(|spec| random.tensor(&spec.with_rows(rows), range));
        let Some(probe) = probe.collect::<Option<Vec<_>>>() else { return false };
        let Some(together) = many(&probe) else { return false };
        (0..rows).all(|at| {
            let row = probe.iter().map(|tensor| tensor.row(at)).collect::<Option<Vec<_>>>();
            let alone = row.and_then(|row| single(&row));
            alone.is_some_and(|alone| {
                alone.len() == together.len()
                    && alone.iter().zip(&together).all(|(alone, all)| same(alone, all, at, rows))
            })
        })
    })
}

fn same(alone: &Tensor, all: &Tensor, at: usize, rows: usize) -> bool {
    all.shape().first() == Some(&rows)
        && all.row(at).is_some_and(|row| {
            row.shape() == alone.shape() && row.to_le_bytes() == alone.to_le_bytes()
        })
}

/// splitmix64: the probes are the same on every device and at every start.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In 0..1.
    #[allow(clippy::cast_precision_loss)]
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Whole numbers stay small where they may be indices; bytes have their whole range.
    #[allow(clippy::cast_possible_truncation)]
    fn tensor(&mut self, spec: &TensorSpec, (low, high): (f32, f32)) -> Option<Tensor> {
        let count = element_count(&spec.shape).ok()?;
        macro_rules! fill {
            ($make:expr) => {
                (0..count).map(|_| $make).collect()
            };
        }
        let mut real = || low + self.unit() * (high - low);
        let data = match spec.dtype {
            DType::F32 => TensorData::F32(fill!(real())),
            DType::F64 => TensorData::F64(fill!(f64::from(real()))),
            DType::I8 => TensorData::I8(fill!(self.next() as i8)),
            DType::U8 => TensorData::U8(fill!(self.next() as u8)),
            DType::I16 => TensorData::I16(fill!((self.next() & 7) as i16)),
            DType::U16 => TensorData::U16(fill!((self.next() & 7) as u16)),
            DType::I32 => TensorData::I32(fill!((self.next() & 7) as i32)),
            DType::I64 => TensorData::I64(fill!((self.next() & 7) as i64)),
            DType::Bool => TensorData::Bool(fill!(self.next() & 1 == 1)),
        };
        Tensor::new(spec.shape.clone(), data).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<TensorSpec> {
        let bytes = TensorSpec { name: "b".into(), dtype: DType::U8, shape: vec![1, 2] };
        let reals = TensorSpec { name: "x".into(), dtype: DType::F32, shape: vec![1, 3] };
        vec![reals, bytes]
    }

    /// Doubles, row by row; `bend` may spoil the answer to many rows.
    fn doubled(inputs: &[Tensor], bend: impl Fn(&mut [f32])) -> Option<Vec<Tensor>> {
        let mut y: Vec<f32> = inputs[0].as_f32()?.iter().map(|x| x * 2.0).collect();
        bend(&mut y);
        Some(vec![Tensor::from_f32(inputs[0].shape(), y).ok()?])
    }

    #[test]
    fn one_bit_of_one_row_is_seen() {
        let exact = |bend: fn(&mut [f32])| {
            is_exact(&specs(), 4, |row| doubled(row, |_| {}), |rows| doubled(rows, bend))
        };
        assert!(exact(|_| {}));
        assert!(!exact(|y| y[11] = f32::from_bits(y[11].to_bits() ^ 1)));
        assert!(!exact(|y| y.swap(0, 3)), "rows that look at each other");
        assert!(!is_exact(&specs(), 2, |row| doubled(row, |_| {}), |_| None));
        let flat = |rows: &[Tensor]| {
            let y = doubled(rows, |_| {})?.remove(0);
            Some(vec![Tensor::new(vec![y.data().len()], y.data().clone()).ok()?])
        };
        assert!(!is_exact(&specs(), 2, |row| doubled(row, |_| {}), flat), "no first axis of rows");
    }
}
