//! The operator's side of the API: everything the command line knows of a running
//! controller comes through here. One connection per request, and a deadline on each.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::extract::{LIMIT_MAX, Page};
use super::failure::{Envelope, Failure};

/// How long a request may take. The controller answers from memory or after one fsync; a
/// disk that is slower than this is down.
const REQUEST: Duration = Duration::from_secs(15);
/// The same for an upload: the largest artifact over a slow disk.
const UPLOAD: Duration = Duration::from_secs(120);
/// Largest answer that is read: a rollout of ten thousand devices is about 8 MiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest path of a unix socket on Linux, in bytes.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A client of the controller that serves a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    data: PathBuf,
    socket: PathBuf,
}

/// Where the API's socket is.
pub(crate) fn socket_path(data: &Path) -> PathBuf {
    data.join("api.sock")
}

impl Client {
    /// For the controller of `data`. Nothing is connected yet.
    pub(crate) fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), socket: socket_path(data) }
    }

    /// Gets something.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.json(Method::GET, path, Bytes::new(), REQUEST).await
    }

    /// Gets a list, page by page.
    pub(crate) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Failure> {
        let (mut all, mut cursor) = (Vec::new(), None);
        let separator = if path.contains('?') { '&' } else { '?' };
        loop {
            let from =
                cursor.map_or_else(String::new, |c: String| format!("&cursor={}", escape(&c)));
            let path = format!("{path}{separator}limit={LIMIT_MAX}{from}");
            let Page { items, next } = self.get(&path).await?;
            all.extend(items);
            cursor = next;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// Sends a JSON body.
    pub(crate) async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Failure::from_error("cannot write the request", &error))?;
        self.json(Method::POST, path, body.into(), REQUEST).await
    }

    /// Sends bytes.
    pub(crate) async fn upload<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Failure> {
        self.json(method, path, body, UPLOAD).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<T, Failure> {
        let (status, answer) =
            timeout(limit, self.exchange(method, path, body)).await.map_err(|_| {
                let limit_s = limit.as_secs();
                Failure::unreachable(format!("the controller did not answer within {limit_s} s"))
                    .mend("see its log; a command that was not answered may still have been done")
            })??;
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|error| {
                Failure::from_error(
                    "the controller's answer is not what this version reads",
                    &error,
                )
                .mend("use the same version of fleetway for the command line and `serve`")
            });
        }
        match serde_json::from_slice::<Envelope>(&answer) {
            Ok(envelope) => Err(envelope.error),
            Err(_) => Err(Failure::error(format!("the controller answered {status} to {path}"))
                .mend("use the same version of fleetway for the command line and `serve`")),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let stream = self.connect().await?;
        let lost = |error: &hyper::Error| {
            Failure::unreachable(format!("the connection to the controller broke: {error}")).mend(
                "see whether it still runs; a command that was not answered may have been done",
            )
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| lost(&e))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "fleetway")
            .header("content-type", "application/json")
            .header(super::caller::OPERATOR, operator())
            .body(Full::new(body))
            .map_err(|error| Failure::from_error("cannot form the request", &error))?;
        let response = sender.send_request(request).await.map_err(|e| lost(&e))?;
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let answer = body.collect().await.map_err(|error| {
            Failure::unreachable(format!("the controller's answer was cut: {error}"))
        })?;
        driver.abort();
        Ok((status, answer.to_bytes()))
    }

    async fn connect(&self) -> Result<UnixStream, Failure> {
        UnixStream::connect(&self.socket).await.map_err(|error| {
            let what = format!("no controller answers at {}: {error}", self.socket.display());
            let failure = Failure::unreachable(what);
            match error.kind() {
                std::io::ErrorKind::PermissionDenied => failure.mend(
                    "whoever can open the socket is the operator: run this as the controller's user",
                ),
                _ => failure.mend(format!(
                    "start it with `fleetway --data {} serve`, or name its directory with --data",
                    self.data.display()
                )),
            }
        })
    }
}

/// Who sits at the terminal, for the journal.
pub(crate) fn operator() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let name: String =
        name.unwrap_or_default().chars().filter(char::is_ascii_graphic).take(64).collect();
    if !name.is_empty() {
        return name;
    }
    // A service or a container: the system still knows whose process this is.
    let uid = std::fs::metadata("/proc/self").map(|meta| meta.uid());
    uid.map_or_else(|_| "operator".to_owned(), |uid| format!("uid-{uid}"))
}

/// A text as one segment of a URL's path or value of a query.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_stays_one_segment() {
        assert_eq!(escape("v1.4-rc_1"), "v1.4-rc_1");
        assert_eq!(escape("site=lab,a!=b/c"), "site%3Dlab%2Ca%21%3Db%2Fc");
    }

    #[tokio::test]
    async fn an_absent_controller_is_unreachable_and_says_how_to_start_it() {
        let dir = tempfile::tempdir().unwrap();
        let failure = Client::new(dir.path()).get::<()>("/v1/status").await.unwrap_err();
        assert_eq!(failure.code, super::super::failure::Kind::Unreachable);
        assert!(failure.mend.unwrap().contains("serve"));
    }
}
