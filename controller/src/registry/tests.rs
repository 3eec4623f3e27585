//! Registries that lie: a server of some lines answers what each case says. (One that is real and honest
//! is asked in `tests/tests/e2e_models.rs`.)

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fleetway_protocol::ids::Digest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Reference, Registry, RegistryError};
use crate::ErrorKind;
use crate::catalog::oci::{Artifact, Descriptor, MANIFEST_BYTES_MAX, MODEL_CONFIG, Manifest};

const CONFIG: &[u8] = b"{}";
const MODEL: &[u8] = b"abc";

/// Answers by method and path: a status, headers, and a body.
type Answers = BTreeMap<String, (u16, String, Vec<u8>)>;

struct Liar {
    host: String,
    /// Request lines with the `authorization` that came with them.
    heard: Arc<Mutex<Vec<String>>>,
}

impl Liar {
    /// Listens, and answers what `answers` make of its own address; 404 to all else.
    async fn start(answers: impl FnOnce(&str) -> Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (answers, heard) = (answers(&host), Arc::new(Mutex::new(Vec::new())));
        let books = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap_or(0) == 1
                {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                let asked = head.lines().next().unwrap().replace(" HTTP/1.1", "");
                let token = head.lines().find_map(|line| line.strip_prefix("authorization: "));
                let answer = match (token, answers.get(&asked)) {
                    (Some(_), _) => answers.get(&format!("{asked} with a token")),
                    (None, answer) => answer,
                };
                let nothing = (404, String::new(), Vec::new());
                let (status, headers, body) =
                    answer.or_else(|| answers.get(&asked)).unwrap_or(&nothing);
                books.lock().unwrap().push(format!("{asked} {}", token.unwrap_or("-")));
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n"
                );
                let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { host, heard }
    }

    fn registry(&self) -> Registry {
        Registry::new(format!("oci://{}/d:v1", self.host).parse::<Reference>().unwrap())
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

fn artifact() -> Artifact {
    let manifest = Manifest {
        schema_version: 2,
        media_type: None,
        artifact_type: None,
        config: Descriptor::of(MODEL_CONFIG, CONFIG),
        layers: vec![Descriptor::of("application/vnd.cncf.model.weight.v1.raw", MODEL)],
        annotations: BTreeMap::new(),
    };
    let blobs = [CONFIG, MODEL].map(|bytes| (Digest::of(bytes), bytes.to_vec())).into();
    Artifact { manifest: serde_json::to_vec(&manifest).unwrap(), blobs }
}

fn blob(bytes: &[u8]) -> String {
    format!("GET /v2/d/blobs/sha256:{}", Digest::of(bytes))
}

/// What an honest registry says of [`artifact`].
fn honest() -> Answers {
    let ok = |bytes: &[u8]| (200, String::new(), bytes.to_vec());
    [
        ("GET /v2/d/manifests/v1".to_owned(), ok(&artifact().manifest)),
        (blob(CONFIG), ok(CONFIG)),
        (blob(MODEL), ok(MODEL)),
    ]
    .into()
}

async fn pulled(liar: &Liar) -> Result<Artifact, RegistryError> {
    liar.registry().pull().await.map(|(artifact, _)| artifact)
}

#[tokio::test]
async fn what_is_not_what_was_named_is_not_taken() {
    assert_eq!(pulled(&Liar::start(|_| honest()).await).await.unwrap(), artifact());
    let to = |place: &str| (307, format!("location: {place}\r\n"), Vec::new());
    let cases = [
        ("other bytes", (200_u16, String::new(), b"abd".to_vec()), "was changed or cut"),
        ("fewer bytes", (200, String::new(), b"ab".to_vec()), "was changed or cut"),
        ("more bytes", (200, String::new(), vec![b'a'; 1 << 20]), "is over 3 bytes"),
        ("sent on without TLS", to("http://192.0.2.1/blob"), "without TLS"),
        (
            "sent on in a circle",
            to(&format!("/v2/d/blobs/sha256:{}", Digest::of(MODEL))),
            "says 307",
        ),
        ("sent on to nowhere", to("::"), "no URL"),
        ("an error with a bell", (500, String::new(), b"\x07 no".to_vec()), "says 500"),
    ];
    for (what, answer, says) in cases {
        let liar = Liar::start(|_| {
            let mut answers = honest();
            answers.insert(blob(MODEL), answer);
            answers
        });
        let error = pulled(&liar.await).await.unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains('\x07'), "{what}: {error}");
    }
    let large = (200, String::new(), vec![b' '; MANIFEST_BYTES_MAX as usize + 1]);
    let liar = Liar::start(|_| [("GET /v2/d/manifests/v1".to_owned(), large)].into()).await;
    assert!(pulled(&liar).await.unwrap_err().to_string().contains("over 1048576 bytes"));
    let nothing = pulled(&Liar::start(|_| Answers::new()).await).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::NotFound, "{nothing}");
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_said_with_each_request() {
    let liar = Liar::start(|host| {
        let challenge = format!(
            "www-authenticate: Bearer realm=\"http://{host}/token\",service=\"r\",scope=\"repository:d:pull\"\r\n"
        );
        let mut answers: Answers = honest()
            .into_iter()
            .flat_map(|(asked, answer)| {
                let refused = (401, challenge.clone(), Vec::new());
                [(format!("{asked} with a token"), answer), (asked, refused)]
            })
            .collect();
        let token = (200, String::new(), br#"{"token":"t0k"}"#.to_vec());
        answers.insert("GET /token?service=r&scope=repository%3Ad%3Apull".to_owned(), token);
        answers
    });
    let liar = liar.await;
    assert_eq!(pulled(&liar).await.unwrap(), artifact());
    let heard = liar.heard();
    assert_eq!(heard.len(), 5, "{heard:?}");
    assert!(heard[1].starts_with("GET /token?"), "{heard:?}");
    assert!(heard[2..].iter().all(|line| line.ends_with(" Bearer t0k")), "{heard:?}");
}

#[tokio::test]
async fn nothing_is_uploaded_to_another_host() {
    let elsewhere = Liar::start(|_| Answers::new()).await;
    let place = format!("location: http://{}/upload\r\n", elsewhere.host);
    let liar = Liar::start(|_| {
        [("POST /v2/d/blobs/uploads/".to_owned(), (202, place, Vec::new()))].into()
    });
    let liar = liar.await;
    let error = liar.registry().push(&artifact()).await.unwrap_err().to_string();
    assert!(error.contains("to another host"), "{error}");
    assert!(elsewhere.heard().is_empty());
}
