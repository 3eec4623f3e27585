//! An inference request over HTTP: JSON, or JSON and tensors as bytes behind it (the protocol's
//! binary extension), folded or not.

use fleetway_engine::Tensor;
use hyper::header::{HeaderMap, HeaderName};

use super::body::{Bodies, Body};
use super::coding::Coding;
use super::infer::Dialect;
use super::live::Loaded;
use super::oip::{Asked, Header, Origin, RequestError, answer};
use super::refusal::Refusal;

/// Bytes of JSON before the tensors; of the unfolded body.
pub(super) const JSON_BYTES: HeaderName =
    HeaderName::from_static("inference-header-content-length");

/// A request.
pub(super) struct Rest {
    body: Body,
    json_bytes: Option<usize>,
    coding: Coding,
    wanted: Coding,
}

/// An answer.
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    pub(super) json_bytes: Option<usize>,
    pub(super) coding: Coding,
    pub(super) origin: Origin,
}

impl Rest {
    /// What the header fields say of a request.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let json_bytes = match headers.get(JSON_BYTES) {
            None => None,
            Some(value) => {
                let said = || String::from_utf8_lossy(value.as_bytes()).chars().take(32).collect();
                let number = value.to_str().ok().and_then(|text| text.parse().ok());
                let wrong = || RequestError::HeaderLength { said: said(), have: 0 };
                Some(number.ok_or_else(wrong)?)
            }
        };
        let (coding, wanted) = (Coding::of_body(headers)?, Coding::wanted(headers));
        Ok(Self { body: Body::default(), json_bytes, coding, wanted })
    }

    /// With its body.
    pub(super) fn with(mut self, body: Body) -> Self {
        self.body = body;
        self
    }
}

impl Dialect for Rest {
    type Answer = Answer;

    fn unpack(&mut self, bodies: &Bodies) -> Result<(), Refusal> {
        let packed = std::mem::take(&mut self.body);
        self.body = std::mem::take(&mut self.coding).unpack(packed, bodies)?;
        Ok(())
    }

    fn header(&self) -> Result<Header<'_>, RequestError> {
        match self.json_bytes {
            None => Header::read(&self.body.bytes),
            Some(json_bytes) => Header::read_binary(&self.body.bytes, json_bytes),
        }
    }

    fn len_bytes(&self) -> usize {
        // How much is in a folded body is not known yet: more than fits at once.
        match self.coding {
            Coding::Identity => self.body.bytes.len(),
            _ => usize::MAX,
        }
    }

    fn forget(&mut self) {
        self.body = Body::default();
    }

    fn answer(
        &self,
        loaded: &Loaded,
        asked: &Asked,
        outputs: &[Tensor],
    ) -> Result<Answer, Refusal> {
        let failed = |error: &dyn std::error::Error| Refusal::failed(error.to_string());
        let answer = answer::answer(loaded, asked, outputs).map_err(|e| failed(&e))?;
        let body = self.wanted.pack(answer.body).map_err(|e| failed(&e))?;
        let origin = Origin::of(loaded);
        Ok(Answer { body, json_bytes: answer.json_bytes, coding: self.wanted, origin })
    }
}
