//! A program that asks the controller's API over the network: HTTP, and HTTPS with the authority
//! that it was given, one connection for each request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::{HeaderMap, Method, Request, Response, rt};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Longer than any answer of a healthy controller on a loaded machine.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// Where the API is, and what is shown there with every request.
#[derive(Clone)]
pub struct Web {
    addr: SocketAddr,
    tls: Option<TlsConnector>,
    headers: Vec<(String, String)>,
}

/// One answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; `null` if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Fails with the whole answer if it is another status.
    ///
    /// # Errors
    /// Says what came.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "{status} was expected: {self:?}");
        Ok(self)
    }
}

impl Web {
    /// Of a URL as `run.json` has it; `ca` is the authority of an `https` one, PEM.
    ///
    /// # Errors
    /// If it is no URL of an address.
    pub fn new(url: &str, ca: Option<&str>) -> Result<Self> {
        let (scheme, addr) = url.split_once("://").context("a URL")?;
        let addr = addr.parse().with_context(|| format!("the address in {url}"))?;
        let ca = ca.filter(|_| scheme == "https");
        let tls = ca.map(connector).transpose()?;
        ensure!(tls.is_some() == (scheme == "https"), "{url} needs an authority");
        Ok(Self { addr, tls, headers: Vec::new() })
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut web = self.clone();
        web.headers.push((name.to_owned(), value.to_owned()));
        web
    }

    /// The same with a token.
    #[must_use]
    pub fn bearer(&self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    /// The same with what is shown by another.
    #[must_use]
    pub fn like(&self, other: &Self) -> Self {
        Self { headers: other.headers.clone(), ..self.clone() }
    }

    /// The header with the token, as a program is given it; empty without one.
    pub fn authorization(&self) -> String {
        let token = self.headers.iter().find(|(name, _)| name == "authorization");
        token.map_or_else(String::new, |(_, value)| format!("Authorization: {value}"))
    }

    /// Where it is, for a page's `Origin`.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// Gets something.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> Result<Answer> {
        self.ask(Method::POST, path, body.to_string().into()).await
    }

    /// One request, one whole answer.
    ///
    /// # Errors
    /// If no answer comes in time.
    pub async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Answer> {
        let whole = async {
            let (parts, body) = self.begin(method, path, body).await?.into_parts();
            let (status, headers) = (parts.status.as_u16(), parts.headers);
            Ok(Answer { status, headers, body: body.collect().await?.to_bytes() })
        };
        timeout(ANSWER_TIME, whole).await.with_context(|| format!("no answer to {path} in time"))?
    }

    /// One request; the answer's body is still to be read.
    ///
    /// # Errors
    /// If no answer begins.
    pub async fn begin(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let tcp = TcpStream::connect(self.addr).await.context("nobody listens")?;
        match &self.tls {
            None => self.send(TokioIo::new(tcp), method, path, body).await,
            Some(tls) => {
                let name = ServerName::from(self.addr.ip());
                let stream = tls.connect(name, tcp).await.context("TLS handshake")?;
                self.send(TokioIo::new(stream), method, path, body).await
            }
        }
    }

    async fn send<I: rt::Read + rt::Write + Unpin + Send + 'static>(
        &self,
        io: I,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let (mut sender, connection) = handshake(io).await?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", self.host());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.header("content-type", "application/json").body(Full::new(body))?;
        Ok(sender.send_request(request).await?)
    }
}

fn connector(ca: &str) -> Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).context("the authority")?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
