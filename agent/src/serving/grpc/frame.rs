//! What gRPC puts around a message: five bytes before it, and trailers behind the answer.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use hyper::body::{Body as HttpBody, Frame};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::super::body::{Bodies, Body};
use super::super::coding::Coding;
use super::super::http::put_origin;
use super::super::lock;
use super::super::oip::Origin;
use super::super::refusal::Refusal;

/// One byte whether the message is folded, four of its length.
const PREFIX_BYTES: usize = 5;
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPTED: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// Bytes of the sentence that a refusal carries: a header block has a bound of its own.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// The one message of a call, still folded if it came so.
#[derive(Default)]
pub(in super::super) struct Message {
    pub(in super::super) body: Body,
    pub(in super::super) coding: Coding,
}

impl Message {
    /// Takes the message out of a complete body.
    pub(super) fn of(mut body: Body, headers: &HeaderMap) -> Result<Self, Refusal> {
        let wrong = |text: &str| Refusal::new(StatusCode::BAD_REQUEST, text);
        let Some((prefix, message)) = body.bytes.split_first_chunk::<PREFIX_BYTES>() else {
            return Err(wrong("the call has no message"));
        };
        let [is_folded, length @ ..] = *prefix;
        if u32::from_be_bytes(length) as usize != message.len() {
            return Err(wrong("the call must have one message, as long as its prefix says"));
        }
        let coding = match is_folded {
            0 => Coding::Identity,
            1 => {
                let name = headers.get(ENCODING).and_then(|name| name.to_str().ok());
                name.and_then(Coding::named).ok_or_else(|| {
                    let text = "grpc-encoding is not supported; use gzip, deflate or identity";
                    Refusal::new(StatusCode::NOT_IMPLEMENTED, text)
                })?
            }
            _ => return Err(wrong("the message's first byte is neither 0 nor 1")),
        };
        body.bytes.advance(PREFIX_BYTES);
        Ok(Self { body, coding })
    }

    /// Unfolds it.
    pub(in super::super) fn unpack(&mut self, bodies: &Bodies) -> Result<(), Refusal> {
        let packed = std::mem::take(&mut self.body);
        self.body = std::mem::take(&mut self.coding).unpack(packed, bodies)?;
        Ok(())
    }
}

/// Begins a message; [`finish`] gives it its length.
pub(super) fn begin(room: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX_BYTES + room);
    out.resize(PREFIX_BYTES, 0);
    out
}

/// Ends a message that [`begin`] began, folded as the request was.
pub(super) fn finish(mut out: Vec<u8>, coding: Coding) -> Result<Vec<u8>, Refusal> {
    if coding != Coding::Identity {
        let message = out.split_off(PREFIX_BYTES);
        let failed = |error: std::io::Error| Refusal::failed(error.to_string());
        out.extend_from_slice(&coding.pack(message).map_err(failed)?);
        out[0] = 1;
    }
    let length = u32::try_from(out.len() - PREFIX_BYTES);
    let length = length.map_err(|_| Refusal::failed("the answer passes four gigabytes"))?;
    out[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

/// The calls of one connection, so that one that nobody takes the answers from can be told.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Calls that began, ever.
    pub(super) begun: AtomicU64,
    /// Periods of the connection's clock.
    pub(super) period: AtomicU64,
    /// Answers that wait for their client: number of the call, and the period since when.
    waiting: Mutex<BTreeMap<u64, u64>>,
    underway: AtomicU64,
}

impl Calls {
    /// Whether a call is under way.
    pub(super) fn are_underway(&self) -> bool {
        self.underway.load(Ordering::Relaxed) > 0
    }

    /// The longest that an answer has waited, in whole periods.
    pub(super) fn waited_periods(&self) -> u64 {
        let now = self.period.load(Ordering::Relaxed);
        let waiting = lock(&self.waiting);
        let since = waiting.values().copied().min();
        since.map_or(0, |since| now.saturating_sub(since + 1))
    }
}

/// One call, from its head to the end of its answer.
pub(super) struct Call {
    number: u64,
    calls: Arc<Calls>,
}

impl Call {
    pub(super) fn begin(calls: &Arc<Calls>) -> Self {
        calls.underway.fetch_add(1, Ordering::Relaxed);
        let number = calls.begun.fetch_add(1, Ordering::Relaxed);
        Self { number, calls: calls.clone() }
    }

    fn is_answered(&self) {
        let now = self.calls.period.load(Ordering::Relaxed);
        lock(&self.calls.waiting).insert(self.number, now);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        lock(&self.calls.waiting).remove(&self.number);
        self.calls.underway.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer: a message, then trailers.
pub(super) struct Reply {
    message: Option<Bytes>,
    trailers: Option<HeaderMap>,
    _call: Call,
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = self.message.take().map(Frame::data);
        let frame = frame.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && self.trailers.is_none()
    }
}

/// What a call gave: a message, and who made it.
pub(super) struct Given {
    pub(super) message: Vec<u8>,
    pub(super) coding: Coding,
    pub(super) origin: Option<Origin>,
}

/// The answer to a call.
pub(super) fn reply(given: Result<Given, Refusal>, call: Call) -> Response<Reply> {
    let given = match given {
        Ok(given) => given,
        Err(refusal) => return refuse(&refusal, call),
    };
    call.is_answered();
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    let body = Reply { message: Some(given.message.into()), trailers: Some(trailers), _call: call };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    put_head(headers);
    if let Some(coding) = given.coding.header() {
        headers.insert(ENCODING, coding);
    }
    if let Some(origin) = &given.origin {
        put_origin(headers, origin);
    }
    response
}

/// An answer without a message: its trailers are its head.
fn refuse(refusal: &Refusal, call: Call) -> Response<Reply> {
    let mut response = Response::new(Reply { message: None, trailers: None, _call: call });
    let headers = response.headers_mut();
    put_head(headers);
    headers.insert(STATUS, HeaderValue::from(u16::from(refusal.grpc_status())));
    if let Ok(text) = HeaderValue::from_str(&percent(&refusal.text)) {
        headers.insert(MESSAGE, text);
    }
    if let Some(origin) = &refusal.origin {
        put_origin(headers, origin);
    }
    response
}

fn put_head(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(ACCEPTED, HeaderValue::from_static("identity,deflate,gzip"));
}

/// gRPC's escape of a sentence: all but printable ASCII, and `%`.
fn percent(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if out.len() >= MESSAGE_BYTES_MAX {
            break;
        }
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            // A String takes everything.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_survive_header_fields() {
        assert_eq!(percent("no 100 %, \"é\"\n"), "no 100 %25, \"%C3%A9\"%0A");
        assert!(percent(&"é".repeat(9_999)).len() < MESSAGE_BYTES_MAX + 6);
    }

    #[test]
    fn one_message_as_long_as_it_says() {
        let message = |bytes: &'static [u8]| {
            let body = Body { bytes: Bytes::from_static(bytes), ..Body::default() };
            Message::of(body, &HeaderMap::new())
        };
        assert_eq!(message(b"\0\0\0\0\x02hi").ok().unwrap().body.bytes, "hi");
        assert!(message(b"\0\0\0\0\0").ok().unwrap().body.bytes.is_empty());
        for wrong in [
            &b""[..],
            b"\0\0\0\0",
            b"\0\0\0\0\x03hi",
            b"\0\0\0\0\x01hi",
            b"\x02\0\0\0\x02hi",
            b"\x01\0\0\0\x02hi",
            b"\0\xff\xff\xff\xffhi",
        ] {
            assert!(message(wrong).is_err(), "{wrong:?}");
        }
        let mut out = begin(2);
        out.extend_from_slice(b"hi");
        assert_eq!(finish(out, Coding::Identity).unwrap(), b"\0\0\0\0\x02hi");
    }
}
