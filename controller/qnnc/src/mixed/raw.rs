//! Protobuf as it stands: what is kept of a file is copied byte for byte.
//!
//! The compiler decodes a part of ONNX only. A graph that it rewrites has other fields, too, which must
//! come through unchanged.

use crate::error::CompileError;

/// A field of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    /// With its key.
    pub(super) whole: &'a [u8],
    /// What is in it, if that is bytes.
    pub(super) body: &'a [u8],
}

/// The fields of a message, in their order.
pub(super) fn fields(message: &[u8]) -> Result<Vec<Field<'_>>, CompileError> {
    let (mut found, mut rest) = (Vec::new(), message);
    while !rest.is_empty() {
        let next = field(rest).ok_or_else(|| CompileError::NotOnnx("it is cut off".to_owned()))?;
        rest = &rest[next.whole.len()..];
        found.push(next);
    }
    Ok(found)
}

fn field(bytes: &[u8]) -> Option<Field<'_>> {
    let (key, head) = varint(bytes)?;
    let rest = bytes.get(head..)?;
    let (skip, len) = match key & 7 {
        0 => (varint(rest)?.1, 0),
        1 => (8, 0),
        2 => {
            let (len, size) = varint(rest)?;
            (size, usize::try_from(len).ok()?)
        }
        5 => (4, 0),
        _ => return None,
    };
    let start = head + skip;
    let end = start.checked_add(len)?;
    Some(Field { number: key >> 3, whole: bytes.get(..end)?, body: bytes.get(start..end)? })
}

/// A number and the bytes that it takes.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    None
}

/// Appends a field of bytes.
pub(super) fn put(out: &mut Vec<u8>, number: u64, body: &[u8]) {
    for mut value in [number << 3 | 2, body.len() as u64] {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }
    out.extend_from_slice(body);
}

/// The text in the field `number` of a message: names are fields of their own kind everywhere.
pub(super) fn text(message: &[u8], number: u64) -> Result<&str, CompileError> {
    let fields = fields(message)?;
    let body = fields.iter().rev().find(|field| field.number == number).map_or(&[][..], |f| f.body);
    std::str::from_utf8(body).map_err(|e| CompileError::NotOnnx(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_they_were_put() {
        let long = vec![7; 300];
        let mut message = vec![8, 150, 1]; // field 1, a varint
        put(&mut message, 5, b"abc");
        put(&mut message, 2_000, &long);
        message.extend([0x1d, 1, 2, 3, 4]); // field 3, four bytes
        let found = fields(&message).unwrap();
        let seen: Vec<_> = found.iter().map(|field| (field.number, field.body)).collect();
        assert_eq!(seen, [(1, &[][..]), (5, b"abc"), (2_000, &long), (3, &[])]);
        assert_eq!(found.iter().flat_map(|field| field.whole).count(), message.len());
        assert_eq!(text(&message, 5).unwrap(), "abc");
        for len in 1..message.len() {
            let parts = fields(&message[..len]);
            assert!(parts.is_err() || parts.unwrap().len() < 4, "{len}");
        }
    }
}
