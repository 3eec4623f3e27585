//! A ring between an interrupt that receives and the superloop that takes: what comes while the
//! model runs is kept. One side puts, one takes; neither waits for the other.

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Room for `N` bytes.
pub struct Ring<const N: usize> {
    bytes: [AtomicU8; N],
    /// Bytes put in, and taken out, since the start.
    put: AtomicUsize,
    taken: AtomicUsize,
}

impl<const N: usize> Ring<N> {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "it is made where nothing runs yet")]
    pub const fn new() -> Self {
        // The counts come round; the place of a byte must not jump then.
        assert!(N.is_power_of_two());
        Self {
            bytes: [const { AtomicU8::new(0) }; N],
            put: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        }
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.put.load(Ordering::Acquire).wrapping_sub(self.taken.load(Ordering::Acquire))
    }

    /// Whether nothing more goes in.
    pub fn is_full(&self) -> bool {
        self.waiting() == N
    }

    /// Puts a byte in. Only one caller at a time, and not if it [`Ring::is_full`]: the line waits.
    pub fn put(&self, byte: u8) {
        let put = self.put.load(Ordering::Acquire);
        self.bytes[put % N].store(byte, Ordering::Release);
        self.put.store(put.wrapping_add(1), Ordering::Release);
    }

    /// Takes as many bytes as wait and fit. Only one caller at a time.
    pub fn take(&self, bytes: &mut [u8]) -> usize {
        let (len, taken) = (self.waiting().min(bytes.len()), self.taken.load(Ordering::Acquire));
        for (at, byte) in bytes.iter_mut().take(len).enumerate() {
            *byte = self.bytes[taken.wrapping_add(at) % N].load(Ordering::Acquire);
        }
        self.taken.store(taken.wrapping_add(len), Ordering::Release);
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_comes_out_once_and_in_order() {
        static RING: Ring<8> = Ring::new();
        let total = 10_000u32;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..total {
                    while RING.is_full() {
                        std::thread::yield_now();
                    }
                    RING.put(n as u8);
                }
            });
            let mut next = 0;
            while next < total {
                let mut bytes = [0; 5];
                let len = RING.take(&mut bytes);
                for byte in &bytes[..len] {
                    assert_eq!(*byte, next as u8);
                    next += 1;
                }
            }
        });
        assert_eq!(RING.waiting(), 0);
    }
}
