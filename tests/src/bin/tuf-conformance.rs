//! The client of `fleetway-tuf` for the official suite `tuf-conformance` (docs/conformance.md).
//!
//! It is the product's client with what the suite needs around it: plain HTTP, the directory
//! layout that the suite looks into, downloads of targets, and ECDSA P-256, which the suite signs
//! with. None of that is in the product. It exits with 0 or 1, and says why on stderr.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};
use fleetway_tuf::client::{Client, ROOTS, Shelf, Transport, TrustError};
use fleetway_tuf::floors::Floors;
use fleetway_tuf::limits::Limits;
use fleetway_tuf::provider::Strict;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use p256::ecdsa::signature::Verifier as _;
use sigstore_crypto::{CryptoProvider, HashContext, SigningScheme};
use sigstore_types::HashAlgorithm;

/// Longest body of an answer, bytes: the suite's largest file is far below.
const BODY_BYTES_MAX: usize = 8 << 20;
/// Where the floors lie; the suite looks at `*.json` only.
const FLOORS: &str = "floors";

/// Our provider, and ECDSA P-256.
#[derive(Debug)]
struct WithEcdsa;

impl CryptoProvider for WithEcdsa {
    fn hash(&self, algorithm: HashAlgorithm) -> sigstore_crypto::Result<Box<dyn HashContext>> {
        Strict.hash(algorithm)
    }

    fn verify_raw(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        data: &[u8],
        signature: &[u8],
    ) -> sigstore_crypto::Result<()> {
        if scheme != SigningScheme::EcdsaP256Sha256 {
            return Strict.verify_raw(scheme, key, data, signature);
        }
        let wrong = |what: &str| sigstore_crypto::Error::Verification(format!("ECDSA: {what}"));
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(key).map_err(|_| wrong("key"))?;
        let signature =
            p256::ecdsa::Signature::from_der(signature).map_err(|_| wrong("signature"))?;
        key.verify(data, &signature).map_err(|_| wrong("the signature does not hold"))
    }

    fn verify_prehashed(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        digest: &[u8],
        signature: &[u8],
    ) -> sigstore_crypto::Result<()> {
        Strict.verify_prehashed(scheme, key, digest, signature)
    }
}

/// The suite's directory: files by role, without versions.
struct Dir(PathBuf);

impl Shelf for Dir {
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let named = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let wanted = name.ends_with(".json") && name != "root.json";
            wanted.then(|| std::fs::read(entry.path()).ok().map(|bytes| (name, bytes)))?
        });
        named.collect()
    }

    fn floors(&self) -> Floors {
        let text = std::fs::read(self.0.join(FLOORS)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn put_file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // Only the newest root is kept here, and it is what the next run begins with.
        let name = if name.starts_with(ROOTS) { "root.json" } else { name };
        std::fs::write(self.0.join(name), bytes)
    }

    fn put_floors(&mut self, floors: &Floors) -> io::Result<()> {
        std::fs::write(self.0.join(FLOORS), serde_json::to_vec(floors)?)
    }
}

#[derive(Default)]
struct Args {
    options: BTreeMap<String, String>,
    targets: Vec<String>,
    words: Vec<String>,
}

impl Args {
    fn read() -> Result<Self> {
        let mut args = Self::default();
        let mut given = std::env::args().skip(1);
        while let Some(arg) = given.next() {
            let Some(name) = arg.strip_prefix("--") else {
                args.words.push(arg);
                continue;
            };
            let value = given.next().with_context(|| format!("{arg} needs a value"))?;
            if name == "target-name" {
                args.targets.push(value);
            } else {
                args.options.insert(name.to_owned(), value);
            }
        }
        Ok(args)
    }

    fn get(&self, name: &str) -> Result<&str> {
        self.options.get(name).map(String::as_str).with_context(|| format!("--{name} is missing"))
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    ensure!(sigstore_crypto::install_default_provider(&WithEcdsa).is_ok(), "a provider is there");
    let args = Args::read()?;
    let dir = PathBuf::from(args.get("metadata-dir")?);
    match args.words.as_slice() {
        [verb, root] if verb == "init" => init(&dir, Path::new(root)),
        [verb] if verb == "refresh" => Session::open(&args, dir)?.refresh(),
        [verb] if verb == "download" => {
            let mut session = Session::open(&args, dir)?;
            session.refresh()?;
            args.targets.iter().try_for_each(|name| session.download(&args, name))
        }
        words => bail!("{words:?} is none of init ROOT, refresh, download"),
    }
}

fn init(dir: &Path, root: &Path) -> Result<()> {
    let bytes = std::fs::read(root)?;
    let mut shelf = Dir(dir.to_path_buf());
    Client::open(&bytes, &shelf, Limits::SPECIFICATION, Transport::Pull)?;
    Ok(shelf.put_file("root.json", &bytes)?)
}

struct Session {
    client: Client,
    shelf: Dir,
    url: String,
    now_s: u64,
    runtime: tokio::runtime::Runtime,
}

impl Session {
    #[allow(clippy::disallowed_methods, reason = "the suite sets this process's clock")]
    fn open(args: &Args, dir: PathBuf) -> Result<Self> {
        let shelf = Dir(dir);
        let root = std::fs::read(shelf.0.join("root.json")).context("there was no init")?;
        let client = Client::open(&root, &shelf, Limits::SPECIFICATION, Transport::Pull)?;
        let url = args.get("metadata-url")?.to_owned();
        let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { client, shelf, url, now_s, runtime })
    }

    fn refresh(&mut self) -> Result<()> {
        let first_root = self.client.next_root();
        let last_root = first_root + u64::from(Limits::SPECIFICATION.root_rotations_max);
        loop {
            let name = match self.client.refresh(&mut self.shelf, self.now_s) {
                Err(TrustError::Needs(name)) => name,
                other => return Ok(other?),
            };
            let is_root = name == format!("{}.root.json", self.client.next_root());
            if is_root && self.client.next_root() >= last_root {
                self.client.absent(&name);
                continue;
            }
            self.bring(&name, is_root)?;
        }
    }

    fn bring(&mut self, name: &str, may_lack: bool) -> Result<()> {
        match self.get(&join(&self.url, name))? {
            Some(bytes) => Ok(self.client.offer(name, &bytes)?),
            None if may_lack => {
                self.client.absent(name);
                Ok(())
            }
            None => bail!("{name} is not there"),
        }
    }

    fn download(&mut self, args: &Args, path: &str) -> Result<()> {
        let target = loop {
            match self.client.target(&mut self.shelf, path, self.now_s) {
                Err(TrustError::Needs(name)) => self.bring(&name, false)?,
                other => break other?,
            }
        };
        type Sum = fn(&[u8]) -> String;
        let sums: [(&str, Sum); 2] = [
            ("sha256", |bytes| sigstore_crypto::sha256(bytes).to_hex()),
            ("sha512", |bytes| sigstore_crypto::sha512(bytes).to_hex()),
        ];
        let (sum, hash) = sums
            .iter()
            .find_map(|(name, sum)| Some((sum, target.hashes.get(*name)?)))
            .context("no hash that is known")?;
        let is_right = |bytes: &[u8]| {
            bytes.len() as u64 == target.length && sum(bytes).eq_ignore_ascii_case(hash)
        };
        let to =
            Path::new(args.get("target-dir")?).join(path.replace('%', "%25").replace('/', "%2F"));
        if std::fs::read(&to).is_ok_and(|bytes| is_right(&bytes)) {
            return Ok(());
        }
        let root: serde_json::Value =
            serde_json::from_slice(&std::fs::read(self.shelf.0.join("root.json"))?)?;
        let hashed = root["signed"]["consistent_snapshot"] == true;
        let file = match (path.rsplit_once('/'), hashed) {
            (_, false) => path.to_owned(),
            (Some((dir, name)), true) => format!("{dir}/{hash}.{name}"),
            (None, true) => format!("{hash}.{path}"),
        };
        let bytes = self.get(&join(args.get("target-base-url")?, &file))?;
        let bytes = bytes.with_context(|| format!("{file} is not there"))?;
        ensure!(is_right(&bytes), "{path} is not the file that is listed");
        Ok(std::fs::write(to, bytes)?)
    }

    /// The body at `url`, `None` if there is none.
    fn get(&self, url: &str) -> Result<Option<Vec<u8>>> {
        let uri: Uri = url.parse().with_context(|| url.to_owned())?;
        let host = uri.authority().context("no host")?.to_string();
        let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        self.runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(&host).await?;
            let (mut client, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let connection = tokio::spawn(connection);
            let request = Request::get(path).header(hyper::header::HOST, &host);
            let reply = client.send_request(request.body(Empty::<Bytes>::new())?).await?;
            let status = reply.status();
            let body = Limited::new(reply.into_body(), BODY_BYTES_MAX).collect().await;
            connection.abort();
            let body = body.map_err(|error| anyhow::anyhow!("{url}: {error}"))?;
            match status {
                StatusCode::OK => Ok(Some(body.to_bytes().to_vec())),
                StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
                other => bail!("{url}: HTTP {other}"),
            }
        })
    }
}

fn join(base: &str, file: &str) -> String {
    format!("{}/{file}", base.trim_end_matches('/'))
}
