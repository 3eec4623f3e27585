//! The API over the network, asked from outside: who gets in, as what, and who does not.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod commands;
mod events;
mod metrics;
mod schema;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::http::Web;
use fleetway_tests::harness::views::RunFile;
use fleetway_tests::harness::{Cli, Controller};
use hyper::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A controller whose API is on the network too.
pub(crate) struct Served {
    pub(crate) controller: Controller,
    pub(crate) web: Web,
    _dir: TempDir,
}

impl Served {
    /// Starts one; `api` is the section `[api]`.
    pub(crate) async fn start(api: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut controller = Controller::init(dir.path(), None, false).await?;
        controller.configure_enroll(&format!("\n[api]\n{api}"))?;
        controller.start().await?;
        let web = web(&controller)?;
        Ok(Self { controller, web, _dir: dir })
    }

    /// A token of this role, and the API as it is with it.
    pub(crate) async fn token(&self, name: &str, role: &str) -> Result<Web> {
        Ok(self.web.bearer(&make(&self.controller.cli, name, role).await?))
    }
}

pub(crate) fn web(controller: &Controller) -> Result<Web> {
    let run: RunFile = serde_json::from_slice(&std::fs::read(controller.data().join("run.json"))?)?;
    let ca = std::fs::read_to_string(controller.data().join("pki/ca.pem"))?;
    Web::new(&run.api_url.context("no API on the network")?, Some(&ca))
}

async fn make(cli: &Cli, name: &str, role: &str) -> Result<String> {
    let done = cli.ok(&format!("token create {name} --role {role} --expires 1h")).await?;
    Ok(done.stdout.trim().to_owned())
}

/// An API on loopback.
pub(crate) const PLAIN: &str = "listen = \"127.0.0.1:0\"";

#[tokio::test]
async fn a_role_may_what_it_may_and_no_more() {
    roles().await.unwrap();
}

async fn roles() -> Result<()> {
    let mut served = Served::start(PLAIN).await?;
    let web = served.web.clone();
    web.get("/v1/status").await?.expect(401)?;
    web.bearer("fwt_00").get("/v1/status").await?.expect(401)?;
    // Nobody may call himself somebody over the network.
    web.with("fleetway-operator", "root").get("/v1/status").await?.expect(401)?;
    let device = |id: &str| json!({ "id": id });
    let one = json!({ "name": "x", "role": "admin", "life_s": 60 });
    // Status of: look, add a device, revoke it, make a token.
    let table = [
        ("viewer", [200, 403, 403, 403]),
        ("operator", [200, 200, 403, 403]),
        ("approver", [200, 200, 403, 403]),
        ("admin", [200, 200, 200, 200]),
    ];
    for (role, expected) in table {
        let web = served.token(role, role).await?;
        let name = format!("of-{role}");
        let got = [
            web.get("/v1/devices").await?.status,
            web.post("/v1/devices", &device(&name)).await?.status,
            web.post(&format!("/v1/devices/{name}/revoke"), &json!(null)).await?.status,
            web.post("/v1/tokens", &one).await?.status,
        ];
        ensure!(got == expected, "{role}: {got:?}");
    }
    let cli = served.controller.cli.clone();
    let entries: Vec<Value> = cli.json("audit list --who operator --what device").await?;
    ensure!(entries.iter().any(|e| e["text"] == "added of-operator with no labels"), "{entries:?}");
    // Refused commands are on record under the token's name; a stranger's are not.
    let entries: Vec<Value> = cli.json("audit list --who viewer").await?;
    ensure!(entries.iter().any(|e| e["text"] == "POST /v1/devices: 403 Forbidden"), "{entries:?}");
    lasting(&mut served).await
}

/// Tokens are as durable as all else, their secrets are not kept, and revoking one is the end of it.
async fn lasting(served: &mut Served) -> Result<()> {
    let cli = served.controller.cli.clone();
    let secret = make(&cli, "ann", "admin").await?;
    cli.run("token create ann --role admin").await?.expect_code(6)?;
    cli.run("token create bob --role root").await?.expect_code(2)?;
    served.controller.kill()?;
    served.controller.start().await?;
    let ann = web(&served.controller)?.bearer(&secret);
    let who = ann.get("/v1/session").await?.expect(200)?.json();
    ensure!(who["name"] == "ann" && who["role"] == "admin", "{who}");
    let hex = secret.trim_start_matches("fwt_").to_owned();
    let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes())?;
    for path in files(served.controller.data())? {
        let there = std::fs::read(&path).unwrap_or_default();
        let has = |needle: &[u8]| there.windows(needle.len()).any(|window| window == needle);
        ensure!(!has(hex.as_bytes()) && !has(&bytes), "the secret is in {}", path.display());
    }
    cli.ok("token revoke ann").await?;
    ann.get("/v1/session").await?.expect(401)?;
    let left: Vec<Value> = cli.json("token list").await?;
    ensure!(left.len() == 5 && left.iter().all(|token| token["name"] != "ann"), "{left:?}");
    Ok(())
}

fn files(dir: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push(path),
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_browser_s_session_is_fenced_in() {
    session().await.unwrap();
}

async fn session() -> Result<()> {
    let served = Served::start(PLAIN).await?;
    let secret = make(&served.controller.cli, "ann", "operator").await?;
    let web = &served.web;
    web.post("/v1/session", &json!({ "token": "fwt_00" })).await?.expect(401)?;
    let login = json!({ "token": secret });
    web.with("sec-fetch-site", "cross-site").post("/v1/session", &login).await?.expect(403)?;
    let opened = web.post("/v1/session", &login).await?.expect(200)?;
    let set = opened.header("set-cookie").to_owned();
    ensure!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
    let page = web.with("cookie", set.split(';').next().unwrap());
    page.get("/v1/status").await?.expect(200)?;
    let add = |web: Web, id: &'static str| async move {
        Ok::<_, anyhow::Error>(web.post("/v1/devices", &json!({ "id": id })).await?.status)
    };
    ensure!(add(page.clone(), "a").await? == 403, "a change without the proof");
    let body = opened.json();
    let proved = page.with("fleetway-csrf", body["csrf"].as_str().context("csrf")?);
    ensure!(add(proved.with("origin", "http://evil.example"), "a").await? == 403, "another site");
    let origin = format!("http://{}", web.host());
    ensure!(add(proved.with("origin", &origin), "a").await? == 200, "its own page");
    proved.ask(Method::DELETE, "/v1/session", Default::default()).await?.expect(204)?;
    page.get("/v1/status").await?.expect(401)?;
    Ok(())
}

#[tokio::test]
async fn beyond_loopback_there_is_tls_or_nothing() {
    tls().await.unwrap();
}

async fn tls() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let open = Controller::init(dir.path(), None, false).await?;
    open.configure_enroll("\n[api]\nlisten = \"0.0.0.0:0\"")?;
    let refused = open.cli.run("serve").await?.expect_code(2)?;
    ensure!(refused.stderr.contains("tokens would cross the network"), "{}", refused.stderr);

    let served = Served::start("listen = \"127.0.0.1:0\"\ntls = true").await?;
    let viewer = served.token("wall", "viewer").await?;
    viewer.get("/v1/status").await?.expect(200)?;
    let secret = make(&served.controller.cli, "ann", "viewer").await?;
    let opened = served.web.post("/v1/session", &json!({ "token": secret })).await?.expect(200)?;
    let set = opened.header("set-cookie");
    ensure!(set.starts_with("__Host-fleetway=") && set.contains("; Secure"), "{set}");
    Ok(())
}
