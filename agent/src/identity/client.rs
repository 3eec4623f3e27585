//! One request to the enrolment listener: TLS, HTTP/1.1, a deadline, bounded answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleetway_link::EnrollUrl;
use fleetway_protocol::codec;
use fleetway_protocol::enroll::{Answer, Refusal};
use fleetway_protocol::limits::{ENROLL_BODY_BYTES_MAX, ROOT_JSON_BYTES_MAX};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For all of it, on a bad mobile link.
const DEADLINE: Duration = Duration::from_secs(30);

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody there.
    #[error("cannot reach {url} ({why}); check the network, and that the controller runs")]
    Connect {
        /// Where.
        url: EnrollUrl,
        /// What the system says.
        why: String,
    },
    /// Somebody there, and not whom we want to speak to.
    #[error("no TLS with {url} ({why}); check the name in the URL, and this device's clock")]
    Tls {
        /// Where.
        url: EnrollUrl,
        /// What rustls says.
        why: String,
    },
    /// It did not answer, or not in our words.
    #[error(
        "{url} gave no answer that we read ({why}); use the same version of agent and controller"
    )]
    Answer {
        /// Where.
        url: EnrollUrl,
        /// What was wrong.
        why: String,
    },
    /// It said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl AskError {
    /// Whether only a person can mend it.
    pub(super) fn is_hopeless(&self) -> bool {
        matches!(self, Self::Refused(refusal) if !refusal.is_transient() && *refusal != Refusal::NoCertificate)
    }
}

/// The listener, and how we speak to it.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) url: EnrollUrl,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Client {
    /// Asks something.
    pub(super) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, AskError> {
        let mut buf = vec![0; ENROLL_BODY_BYTES_MAX];
        let body = codec::encode(body, &mut buf).map_err(|error| self.answer(&error))?;
        let body = Bytes::copy_from_slice(body);
        let (_, answer) = self.exchange(Method::POST, path, body, ENROLL_BODY_BYTES_MAX).await?;
        let answer: Answer<T> =
            codec::decode(&answer, ENROLL_BODY_BYTES_MAX).map_err(|error| self.answer(&error))?;
        Ok(answer?)
    }

    /// The TUF root's bytes; the caller checks their digest.
    pub(crate) async fn root(&self) -> Result<Bytes, AskError> {
        match self.exchange(Method::GET, "/root", Bytes::new(), ROOT_JSON_BYTES_MAX).await? {
            (true, root) => Ok(root),
            (false, _) => Err(self.answer(&"it has no root.json")),
        }
    }

    fn answer(&self, why: &dyn std::fmt::Display) -> AskError {
        AskError::Answer { url: self.url.clone(), why: why.to_string() }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        bytes_max: usize,
    ) -> Result<(bool, Bytes), AskError> {
        let asked = timeout(DEADLINE, self.ask(method, path, body, bytes_max)).await;
        asked.unwrap_or_else(|_| Err(self.answer(&"too slow")))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        bytes_max: usize,
    ) -> Result<(bool, Bytes), AskError> {
        let url = &self.url;
        let tls =
            |why: &dyn std::fmt::Display| AskError::Tls { url: url.clone(), why: why.to_string() };
        let name = ServerName::try_from(url.host().to_owned()).map_err(|error| tls(&error))?;
        let tcp = TcpStream::connect((url.host(), url.port()))
            .await
            .map_err(|error| AskError::Connect { url: url.clone(), why: error.to_string() })?;
        let connector = TlsConnector::from(self.tls.clone());
        let stream = connector.connect(name, tcp).await.map_err(|error| tls(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.answer(&error))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", url.host())
            .body(Full::new(body))
            .map_err(|error| self.answer(&error))?;
        // In TLS 1.3 a server that refuses our certificate says so only now.
        let response = sender.send_request(request).await.map_err(|error| tls(&error))?;
        let good = response.status().is_success();
        let body = Limited::new(response.into_body(), bytes_max).collect().await;
        let body = body.map_err(|error| self.answer(&error))?;
        driver.abort();
        Ok((good, body.to_bytes()))
    }
}
