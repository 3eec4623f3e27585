//! python-tuf and we read each other: a repository that it wrote by our client, and one that we
//! wrote by its `ngclient` over HTTP.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use fleetway_protocol::envelope::PublicKey;
use fleetway_protocol::ids::{Digest, ModelName, Version};
use fleetway_tests::authority::{Authority, NOW_S, Team, key};
use fleetway_tests::harness::Cli;
use fleetway_tests::harness::digits::model_dir;
use fleetway_tests::python;
use fleetway_tuf::client::{Client, Release, Shelf, Transport, TrustError};
use fleetway_tuf::floors::Floors;
use fleetway_tuf::key::Key;
use fleetway_tuf::limits::Limits;
use fleetway_tuf::roles::TargetFile;
use serde_json::{Value, json};

/// 2999-01-01, so that the test does not expire.
const LATE_S: u64 = 32_472_144_000;

/// Nothing is kept: everything comes from the repository.
struct Forgetful;

impl Shelf for Forgetful {
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
    fn floors(&self) -> Floors {
        Floors::default()
    }
    fn put_file(&mut self, _: &str, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn put_floors(&mut self, _: &Floors) -> io::Result<()> {
        Ok(())
    }
}

/// Asks `client` until it needs no more files of `dir`.
fn with_files<T>(
    dir: &Path,
    client: &mut Client,
    mut ask: impl FnMut(&mut Client) -> Result<T, TrustError>,
) -> Result<T, TrustError> {
    loop {
        let name = match ask(client) {
            Err(TrustError::Needs(name)) => name,
            other => return other,
        };
        match std::fs::read(dir.join(&name)) {
            Ok(bytes) => client.offer(&name, &bytes)?,
            Err(_) if name.ends_with(".root.json") => client.absent(&name),
            Err(_) => return Err(TrustError::Needs(name)),
        }
    }
}

fn release<'a>(
    model: &'a ModelName,
    version: &'a Version,
    counter: u64,
    bytes: &[u8],
) -> Release<'a> {
    Release { model, version, counter, digest: Digest::of(bytes), length: bytes.len() as u64 }
}

#[test]
fn our_client_reads_what_python_tuf_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let said = python::script("author.py", &[dir.path().as_os_str()]).unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    let ours = Key::new(&PublicKey::of(&key(8)).to_bytes()).id();
    assert_eq!(said["keyid"], json!(ours), "both name a key alike");

    let metadata = dir.path().join("metadata");
    let pinned = std::fs::read(metadata.join("1.root.json")).unwrap();
    let mut client =
        Client::open(&pinned, &Forgetful, Limits::DEVICE, Transport::Pull).expect("its root");
    with_files(&metadata, &mut client, |c| c.refresh(&mut Forgetful, NOW_S)).expect("refreshed");
    assert_eq!(client.next_root(), 3, "the rotation was followed");
    let (digits, vision) = (ModelName::new("digits").unwrap(), ModelName::new("vision-a").unwrap());
    let version = Version::new("v1").unwrap();
    let mut check = |release: Release<'_>| {
        with_files(&metadata, &mut client, |c| c.authorize(&mut Forgetful, &release, NOW_S))
    };
    check(release(&digits, &version, 1, b"the manifest")).expect("listed");
    check(release(&vision, &version, 3, b"a team's manifest")).expect("listed by its team");
    let refused = check(release(&vision, &version, 3, b"the manifest"));
    assert!(matches!(refused, Err(TrustError::NotATarget(_))), "{refused:?}");
    let expired = with_files(&metadata, &mut client, |c| c.refresh(&mut Forgetful, LATE_S + 1));
    assert!(matches!(expired, Err(TrustError::Expired { .. })), "{expired:?}");
}

#[test]
fn python_tuf_reads_what_we_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let (metadata, targets) = (dir.path().join("metadata"), dir.path().join("targets"));
    let mut authority = Authority { expires_s: [LATE_S; 4], ..Authority::default() };
    let pinned = authority.publish_root(&[]);
    authority.rotate(|a| a.root_keys.rotate_left(1));
    authority.list("digits/v1", b"the manifest", 1);
    let listed = TargetFile::new(Digest::of(b"theirs"), 6, Some(json!({ "counter": 3 })));
    let team = Team {
        key: key(30),
        paths: vec!["vision-*/*".to_owned()],
        targets: BTreeMap::from([("vision-a/v1".to_owned(), listed)]),
        version: 1,
    };
    authority.teams.insert("vision".to_owned(), team);
    authority.publish();
    std::fs::create_dir_all(&metadata).unwrap();
    for (name, bytes) in &authority.files {
        std::fs::write(metadata.join(name), bytes).unwrap();
    }
    for (model, name, bytes) in
        [("digits", "v1", &b"the manifest"[..]), ("vision-a", "v1", &b"theirs"[..])]
    {
        std::fs::create_dir_all(targets.join(model)).unwrap();
        let file = targets.join(model).join(format!("{}.{name}", Digest::of(bytes)));
        std::fs::write(file, bytes).unwrap();
    }
    let root = dir.path().join("pinned.json");
    std::fs::write(&root, pinned).unwrap();
    let paths = ["digits/v1", "vision-a/v1", "vision-a/v2"].map(AsRef::as_ref);
    let args = [&[dir.path().as_os_str(), root.as_os_str()][..], &paths[..]].concat();
    let said: Value = serde_json::from_str(&python::script("read.py", &args).unwrap()).unwrap();
    let expected = json!({
        "digits/v1": { "text": "the manifest", "custom": { "counter": 1 } },
        "vision-a/v1": { "text": "theirs", "custom": { "counter": 3 } },
        "vision-a/v2": null,
        "root": 2,
    });
    assert_eq!(said, expected);

    // And it sees a bit that is not ours.
    let file = metadata.join("1.targets.json");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(python::script("read.py", &args).is_err());
}

/// Not our types this time but the whole program: what an operator's commands leave in the trust
/// directory is a TUF repository for any client.
#[tokio::test]
async fn python_tuf_reads_what_an_operator_published() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("fleet");
    let cli = Cli::new(&data);
    let models = model_dir();
    let import = format!(
        "model import '{0}/digits-v1.onnx' --name digits --version v1 --golden '{0}/digits-v1.golden.npz'",
        models.display()
    );
    let lines = ["init --listen 127.0.0.1:8883", &import, "model sign digits@v1", "trust publish"];
    for line in lines {
        cli.ok(line).await.unwrap();
    }
    let trust = data.join("trust");
    let root = trust.join("metadata/1.root.json");
    let paths = ["digits/v1", "fleetway/keyset", "digits/v2"].map(AsRef::as_ref);
    let args = [&[trust.as_os_str(), root.as_os_str()][..], &paths[..]].concat();
    let said: Value = serde_json::from_str(&python::script("read.py", &args).unwrap()).unwrap();
    assert_eq!(said["digits/v1"]["custom"], json!({ "counter": 1 }), "{said}");
    assert!(said["fleetway/keyset"].is_object() && said["digits/v2"].is_null(), "{said}");
    assert_eq!(said["root"], json!(1));
}
