//! Pull and push.

use std::collections::btree_map::Entry;

use bytes::Bytes;
use fleetway_protocol::ids::Digest;
use hyper::{Method, StatusCode, Uri};

use super::auth::{self, Challenge};
use super::wire::{self, ANSWER_BYTES_MAX, Answer, Ask, authority};
use super::{Reference, RegistryError};
use crate::catalog::oci::{
    Artifact, Descriptor, IMAGE_INDEX, IMAGE_MANIFEST, MANIFEST_BYTES_MAX, Manifest, OciError,
};

/// Other hosts that are asked for one blob: a registry sends one on to its storage, and that to a cache.
const REDIRECTS_MAX: usize = 4;
/// Characters of a registry's own words that are shown.
const SAID_CHARS_MAX: usize = 200;

/// One repository of a registry, on behalf of whoever runs this.
#[derive(Debug)]
pub struct Registry {
    reference: Reference,
    /// The `Authorization` header, once one was needed.
    authorization: Option<String>,
}

/// The token service's answer.
#[derive(serde::Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

impl Registry {
    /// For what a reference names. Nothing is connected yet.
    pub fn new(reference: Reference) -> Self {
        Self { reference, authorization: None }
    }

    /// Pulls the artifact; what was left out of it, one sentence each.
    ///
    /// # Errors
    /// [`RegistryError`]; bytes that are not what their digest says are [`RegistryError::Oci`].
    pub async fn pull(&mut self) -> Result<(Artifact, Vec<String>), RegistryError> {
        let tag = self.reference.tag.clone();
        let accept = format!("{IMAGE_MANIFEST}, {IMAGE_INDEX}");
        let mut ask = self.ask(Method::GET, &format!("manifests/{tag}"))?;
        ask.headers.push(("accept", accept));
        ask.bytes_max = MANIFEST_BYTES_MAX;
        let doing = format!("the question for {}", self.reference);
        let manifest = self.send(ask, &doing, StatusCode::OK).await?.body.to_vec();
        if self.reference.digest().is_some_and(|named| Digest::of(&manifest) != named) {
            let (expected, size) = (tag, manifest.len() as u64);
            return Err(OciError::Digest { what: "the manifest".into(), expected, size }.into());
        }
        let read = Manifest::read(&manifest)?;
        let (wanted, left_out) = read.wanted()?;
        let mut artifact = Artifact { manifest, blobs: Default::default() };
        for descriptor in wanted {
            // Two layers may have the same bytes.
            if let Entry::Vacant(place) = artifact.blobs.entry(descriptor.sha256()?) {
                place.insert(self.blob(descriptor).await?.to_vec());
            }
        }
        Ok((artifact, left_out))
    }

    /// Pushes an artifact under the reference's tag: blobs first, the manifest that names them last.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn push(&mut self, artifact: &Artifact) -> Result<(), RegistryError> {
        if self.reference.digest().is_some() {
            let text = self.reference.to_string();
            return Err(RegistryError::Reference { text, why: "what is pushed has a tag" });
        }
        for (digest, bytes) in &artifact.blobs {
            if !self.has(digest).await? {
                self.upload(digest, bytes.clone().into()).await?;
            }
        }
        let mut ask = self.ask(Method::PUT, &format!("manifests/{}", self.reference.tag))?;
        ask.headers.push(("content-type", IMAGE_MANIFEST.to_owned()));
        ask.body = artifact.manifest.clone().into();
        let doing = format!("the manifest of {}", self.reference);
        self.send(ask, &doing, StatusCode::CREATED).await.map(drop)
    }

    async fn has(&mut self, digest: &Digest) -> Result<bool, RegistryError> {
        let ask = self.ask(Method::HEAD, &format!("blobs/sha256:{digest}"))?;
        Ok(self.try_send(ask).await?.status == StatusCode::OK)
    }

    /// In one piece: models are not large enough for more.
    async fn upload(&mut self, digest: &Digest, bytes: Bytes) -> Result<(), RegistryError> {
        let doing = format!("an upload of {:.12}", digest.to_string());
        let ask = self.ask(Method::POST, "blobs/uploads/")?;
        let begun = self.send(ask, &doing, StatusCode::ACCEPTED).await?;
        let place =
            begun.header("location").ok_or_else(|| self.protocol("no place to upload to"))?;
        let sign = if place.contains('?') { '&' } else { '?' };
        let place = self.resolve(&self.base()?, &format!("{place}{sign}digest=sha256:{digest}"))?;
        // Our credentials go where the registry itself is, and nowhere that it names.
        if authority(&place) != authority(&self.base()?) {
            return Err(self.protocol("it wants uploads to go to another host"));
        }
        let mut ask = Ask { uri: place, ..self.ask(Method::PUT, "")? };
        ask.headers.push(("content-type", "application/octet-stream".to_owned()));
        ask.body = bytes;
        self.send(ask, &doing, StatusCode::CREATED).await.map(drop)
    }

    /// A blob, from wherever the registry sends us, checked.
    async fn blob(&mut self, descriptor: &Descriptor) -> Result<Bytes, RegistryError> {
        let mut ask = self.ask(Method::GET, &format!("blobs/{}", descriptor.digest))?;
        ask.bytes_max = descriptor.size;
        let doing = format!("the question for {}", descriptor.what());
        let mut answer = self.try_send(ask.clone()).await?;
        for _ in 0..REDIRECTS_MAX {
            if !answer.status.is_redirection() {
                break;
            }
            let place = answer.header("location").unwrap_or_default();
            let next = self.resolve(&ask.uri, place)?;
            let here = authority(&next) == authority(&self.base()?);
            if next.scheme_str() != Some("https") && !here {
                return Err(self.protocol("it sends us on to a place without TLS"));
            }
            ask.uri = next;
            // Another host gets no credentials of ours.
            answer = if here {
                self.try_send(ask.clone()).await?
            } else {
                wire::send(ask.clone()).await?
            };
        }
        let answer = self.expect(answer, &doing, StatusCode::OK)?;
        descriptor.check(&answer.body)?;
        Ok(answer.body)
    }

    fn base(&self) -> Result<Uri, RegistryError> {
        let scheme = if self.reference.is_loopback() { "http" } else { "https" };
        let text = format!("{scheme}://{}/v2/{}/", self.reference.host, self.reference.repository);
        text.parse().map_err(|_| self.protocol("the address cannot be written as a URL"))
    }

    fn ask(&self, method: Method, below: &str) -> Result<Ask, RegistryError> {
        let uri = format!("{}{below}", self.base()?);
        let uri =
            uri.parse().map_err(|_| self.protocol("the address cannot be written as a URL"))?;
        Ok(Ask {
            method,
            uri,
            headers: Vec::new(),
            body: Bytes::new(),
            bytes_max: ANSWER_BYTES_MAX,
        })
    }

    /// A location that may leave out scheme and host.
    fn resolve(&self, from: &Uri, place: &str) -> Result<Uri, RegistryError> {
        let whole = match place.starts_with('/') {
            true => {
                format!("{}://{}{place}", from.scheme_str().unwrap_or("https"), authority(from))
            }
            false => place.to_owned(),
        };
        let uri: Uri = whole.parse().map_err(|_| self.protocol("a location that is no URL"))?;
        match uri.scheme().is_some() && uri.host().is_some() {
            true => Ok(uri),
            false => Err(self.protocol("a location that is no URL")),
        }
    }

    async fn send(
        &mut self,
        ask: Ask,
        doing: &str,
        expected: StatusCode,
    ) -> Result<Answer, RegistryError> {
        let answer = self.try_send(ask).await?;
        self.expect(answer, doing, expected)
    }

    fn expect(
        &self,
        answer: Answer,
        doing: &str,
        expected: StatusCode,
    ) -> Result<Answer, RegistryError> {
        if answer.status == expected {
            return Ok(answer);
        }
        let mend = match answer.status.as_u16() {
            401 | 403 => {
                "log in with a tool that writes Docker's config.json, or name such a file in REGISTRY_AUTH_FILE"
            }
            404 => "check repository and tag",
            429 => "it is asked too often: try again later",
            _ => "try again, and see the registry's log",
        };
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        let visible = said.chars().filter(|c| !c.is_control()).take(SAID_CHARS_MAX);
        let said: String = visible.collect();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        Err(RegistryError::Status {
            host: self.reference.host.clone(),
            status: answer.status.as_u16(),
            doing: doing.to_owned(),
            said,
            mend,
        })
    }

    /// Sends it; asked who we are, says so and sends it again.
    async fn try_send(&mut self, ask: Ask) -> Result<Answer, RegistryError> {
        let with = |ask: &Ask, authorization: &Option<String>| {
            let mut ask = ask.clone();
            ask.headers.extend(authorization.clone().map(|value| ("authorization", value)));
            ask
        };
        let answer = wire::send(with(&ask, &self.authorization)).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let challenge = answer.header("www-authenticate").and_then(Challenge::read);
        match challenge {
            Some(challenge) => match self.authorize(challenge).await? {
                Some(authorization) => self.authorization = Some(authorization),
                None => return Ok(answer),
            },
            None => return Ok(answer),
        }
        wire::send(with(&ask, &self.authorization)).await
    }

    async fn authorize(&self, challenge: Challenge) -> Result<Option<String>, RegistryError> {
        let basic = auth::basic(&self.reference.host)?.map(|value| format!("Basic {value}"));
        let Challenge::Bearer { realm, say } = challenge else { return Ok(basic) };
        let query: Vec<String> =
            say.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let sign = if realm.contains('?') { '&' } else { '?' };
        let uri = self.resolve(&self.base()?, &format!("{realm}{sign}{}", query.join("&")))?;
        if uri.scheme_str() != Some("https") && !self.reference.is_loopback() {
            return Err(self.protocol("it wants credentials to go over a line without TLS"));
        }
        let headers = basic.map(|value| ("authorization", value)).into_iter().collect();
        let (body, bytes_max) = (Bytes::new(), ANSWER_BYTES_MAX);
        let answer = wire::send(Ask { method: Method::GET, uri, headers, body, bytes_max }).await?;
        let answer = self.expect(answer, "the question for a token", StatusCode::OK)?;
        let token: Token = serde_json::from_slice(&answer.body)
            .map_err(|_| self.protocol("a token that does not read"))?;
        Ok(Some(format!("Bearer {}", token.token)))
    }

    fn protocol(&self, why: &str) -> RegistryError {
        RegistryError::Protocol { host: self.reference.host.clone(), why: why.to_owned() }
    }
}

/// A value in a query.
fn escaped(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let byte = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    value.bytes().map(byte).collect()
}
