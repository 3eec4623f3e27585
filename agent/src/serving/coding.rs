//! gzip and deflate, both ways. What a compressed body grows to is bounded while it grows: a
//! kilobyte of it can be a megabyte of zeros.

use std::io::{Read, Write as _};

use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use hyper::StatusCode;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue};

use super::body::{Bodies, Body, Share};
use super::limits::{BODY_BYTES_MAX, UNPACK_STEP_BYTES};
use super::refusal::Refusal;

/// How bytes are folded. `deflate` is zlib's format, as RFC 9110 has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Coding {
    #[default]
    Identity,
    Gzip,
    Deflate,
}

impl Coding {
    /// By its name on the wire.
    pub(super) fn named(name: &str) -> Option<Self> {
        let is = |other| name.trim().eq_ignore_ascii_case(other);
        match () {
            () if is("identity") || is("") => Some(Self::Identity),
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("deflate") => Some(Self::Deflate),
            () => None,
        }
    }

    /// Its name on the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// How a request's body is folded, or 415.
    pub(super) fn of_body(headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(Self::Identity) };
        let coding = value.to_str().ok().and_then(Self::named);
        coding.ok_or_else(|| {
            let text = "the body's Content-Encoding is not supported; use gzip, deflate or none";
            Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
        })
    }

    /// How the client wants its answer. Folding costs more than the loopback does, so it is done
    /// for who asks for it by name, and not for `*`.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let lists = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|list| list.to_str().ok());
        let mut best = Self::Identity;
        for item in lists.flat_map(|list| list.split(',')) {
            let (name, quality) = item.split_once(';').unwrap_or((item, ""));
            let refused = quality
                .trim()
                .strip_prefix("q=")
                .is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|quality| quality <= 0.0));
            match Self::named(name).filter(|_| !refused) {
                Some(Self::Gzip) => return Self::Gzip,
                Some(Self::Deflate) => best = Self::Deflate,
                _ => {}
            }
        }
        best
    }

    /// The header field that says so.
    pub(super) fn header(self) -> Option<HeaderValue> {
        (self != Self::Identity).then(|| HeaderValue::from_static(self.name()))
    }

    /// Unfolds a body, within the bound of one and the bound of all.
    pub(super) fn unpack(self, body: Body, bodies: &Bodies) -> Result<Body, Refusal> {
        match self {
            Self::Identity => Ok(body),
            Self::Gzip => unpack(MultiGzDecoder::new(&body.bytes[..]), bodies),
            Self::Deflate => unpack(ZlibDecoder::new(&body.bytes[..]), bodies),
        }
    }

    /// Folds an answer.
    pub(super) fn pack(self, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Identity => Ok(bytes),
            Self::Gzip => {
                let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
                packer.write_all(&bytes)?;
                packer.finish()
            }
            Self::Deflate => {
                let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
                packer.write_all(&bytes)?;
                packer.finish()
            }
        }
    }
}

fn unpack(mut packed: impl Read, bodies: &Bodies) -> Result<Body, Refusal> {
    let mut share = Share::default();
    let mut bytes = Vec::new();
    loop {
        let have = bytes.len();
        // One byte over the bound is read, to see that there is one.
        let step = UNPACK_STEP_BYTES.min(BODY_BYTES_MAX + 1 - have);
        bodies.take(step, &mut share)?;
        bytes.resize(have + step, 0);
        let read = fill(&mut packed, &mut bytes[have..]).map_err(|error| {
            let text = format!("the body is not what its Content-Encoding says: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, text)
        })?;
        bytes.truncate(have + read);
        if bytes.len() > BODY_BYTES_MAX {
            return Err(Refusal::too_large(BODY_BYTES_MAX));
        }
        if read < step {
            return Ok(Body { bytes: bytes.into(), _share: share });
        }
    }
}

/// Until the buffer is full or the source ends.
fn fill(source: &mut impl Read, mut buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while !buffer.is_empty() {
        match source.read(buffer) {
            Ok(0) => break,
            Ok(read) => {
                filled += read;
                buffer = &mut buffer[read..];
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(bytes: Vec<u8>) -> Body {
        Body { bytes: bytes.into(), _share: Share::default() }
    }

    #[test]
    fn what_is_folded_unfolds() {
        let bodies = Bodies::new();
        for coding in [Coding::Identity, Coding::Gzip, Coding::Deflate] {
            for length in [0, 1, UNPACK_STEP_BYTES, 3 * UNPACK_STEP_BYTES + 7] {
                let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
                let packed = coding.pack(bytes.clone()).unwrap();
                let unpacked = coding.unpack(body(packed), &bodies).unwrap();
                assert_eq!(unpacked.bytes, bytes, "{coding:?} {length}");
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_bound_and_gives_its_memory_back() {
        let bodies = Bodies::new();
        for coding in [Coding::Gzip, Coding::Deflate] {
            let bomb = coding.pack(vec![0; 4 * BODY_BYTES_MAX]).unwrap();
            assert!(bomb.len() < 1 << 20);
            let refused = coding.unpack(body(bomb), &bodies).expect_err("too large");
            assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
            let whole = coding.pack(vec![0; BODY_BYTES_MAX]).unwrap();
            assert!(coding.unpack(body(whole), &bodies).is_ok(), "just within the bound");
        }
        for cut in [&b"\x1f\x8b"[..], b"plain", &Coding::Gzip.pack(vec![7; 99]).unwrap()[..20]] {
            let refused = Coding::Gzip.unpack(body(cut.to_vec()), &bodies).expect_err("cut");
            assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn clients_get_what_they_ask_for_by_name() {
        for (asked, wanted) in [
            ("", Coding::Identity),
            ("gzip", Coding::Gzip),
            ("deflate, gzip;q=0.5", Coding::Gzip),
            ("br, DEFLATE", Coding::Deflate),
            ("gzip;q=0, deflate;q=0.0", Coding::Identity),
            ("*, zstd", Coding::Identity),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(asked));
            assert_eq!(Coding::wanted(&headers), wanted, "{asked}");
        }
    }
}
