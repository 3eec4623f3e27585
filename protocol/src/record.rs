//! Durable records: two copies, written in turn, the newest valid one wins.
//!
//! A copy is `magic, seq, length, body, crc32c`. The copy that is being overwritten is
//! always the older one, so that a cut at any byte leaves the newer one whole. On Linux a
//! copy is a file, on a microcontroller a flash sector; this module only knows bytes.

use crc::{CRC_32_ISCSI, Crc};
use serde::{Serialize, de::DeserializeOwned};

use crate::codec;

/// CRC32C (Castagnoli, RFC 3720): detects every burst of up to 32 bits.
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
const MAGIC: [u8; 4] = *b"FWR1";
/// Bytes around the body: magic 4, seq 8, length 4, crc 4.
pub const RECORD_OVERHEAD_BYTES: usize = 20;

/// CRC32C of `bytes`, for other durable formats.
pub fn crc32c(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

/// The value does not fit the buffer.
pub use crate::codec::EncodeError;

/// Writes one copy of `value` with sequence number `seq` into `buf`.
///
/// # Errors
/// [`EncodeError`] if `buf` is too small.
pub fn write<'a, T: Serialize>(
    seq: u64,
    value: &T,
    buf: &'a mut [u8],
) -> Result<&'a [u8], EncodeError> {
    let max = buf.len();
    let short = EncodeError { max };
    let body = buf.get_mut(16..).ok_or(short)?;
    let len = codec::encode(value, body)?.len();
    let end = 16 + len;
    if max < end + 4 {
        return Err(short);
    }
    buf[..4].copy_from_slice(&MAGIC);
    buf[4..12].copy_from_slice(&seq.to_le_bytes());
    buf[12..16].copy_from_slice(&(len as u32).to_le_bytes());
    let crc = CRC.checksum(&buf[..end]);
    buf[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    Ok(&buf[..end + 4])
}

/// Reads one copy: its sequence number and value, `None` if it is torn, rotten or absent.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<(u64, T)> {
    let magic = bytes.get(..4)?;
    let seq = u64::from_le_bytes(bytes.get(4..12)?.try_into().ok()?);
    let len = u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?) as usize;
    let end = 16usize.checked_add(len)?;
    let crc = u32::from_le_bytes(bytes.get(end..end.checked_add(4)?)?.try_into().ok()?);
    if magic != MAGIC || crc != CRC.checksum(&bytes[..end]) {
        return None;
    }
    let value = codec::decode(&bytes[16..end], len).ok()?;
    Some((seq, value))
}

/// The newer of two copies, and the place (0 or 1) where the next one is to be written.
pub fn newest<T>(copies: [Option<(u64, T)>; 2]) -> (Option<(u64, T)>, usize) {
    match copies {
        [Some(a), Some(b)] if a.0 >= b.0 => (Some(a), 1),
        [Some(_), Some(b)] => (Some(b), 0),
        [Some(a), None] => (Some(a), 1),
        [None, Some(b)] => (Some(b), 0),
        [None, None] => (None, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_or_flipped_copy_is_never_read() {
        let mut buf = [0; 64];
        let bytes = write(7, &[1u8, 2, 3, 4], &mut buf).map(<[u8]>::to_vec);
        let bytes = bytes.expect("fits");
        assert_eq!(read::<[u8; 4]>(&bytes), Some((7, [1, 2, 3, 4])));
        for cut in 0..bytes.len() {
            assert_eq!(read::<[u8; 4]>(&bytes[..cut]), None, "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read::<[u8; 4]>(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn the_newest_wins_and_the_older_place_is_written_next() {
        assert_eq!(newest([Some((3, 'a')), Some((4, 'b'))]), (Some((4, 'b')), 0));
        assert_eq!(newest([Some((5, 'a')), Some((4, 'b'))]), (Some((5, 'a')), 1));
        assert_eq!(newest([None, Some((4, 'b'))]), (Some((4, 'b')), 0));
        assert_eq!(newest::<char>([None, None]), (None, 0));
    }
}
