//! `fleetway web`: a link that signs the local operator in to the web page.
//!
//! It carries a token of its own, as long-lived as a session, behind the `#`: a browser sends that
//! to nobody, and the page takes it out of the address at once.

use std::process::{Command, Stdio};

use fleetway_controller::access::{Role, SESSION_S};
use fleetway_controller::clock;

use super::Context;
use super::files::{self, Layout};
use super::output::{ago, talk};
use crate::api::client::operator;
use crate::api::failure::Failure;
use crate::api::types::RunFile;
use crate::api::types::access::{TokenCreate, TokenCreated};

/// Of the operator's name in the token's, which has 64 bytes with a time.
const WHO_BYTES_MAX: usize = 40;

/// Where the page is served and how one gets in.
#[derive(serde::Serialize)]
struct Link {
    url: String,
    token_name: String,
    expires_s: u64,
}

pub(super) async fn run(role: Role, open: bool, context: &Context) -> Result<(), Failure> {
    let text = files::read(&Layout::new(&context.data).run_file()).map_err(|failure| {
        failure.mend(format!("start it: `fleetway --data {} serve`", context.data.display()))
    })?;
    let run: RunFile = serde_json::from_str(&text)
        .map_err(|error| Failure::from_error("run.json is not what this version reads", &error))?;
    let Some(url) = run.api_url else {
        return Err(Failure::conflict("the controller serves no page: it is on its socket alone")
            .mend("add `[api]` with `listen = \"127.0.0.1:8885\"` to fleetway.toml and start it again"));
    };
    // A token's name has a smaller alphabet than people's.
    let who = operator().replace(|c: char| !c.is_ascii_alphanumeric(), "");
    let who: String = who.chars().take(WHO_BYTES_MAX).collect();
    let name = format!("web-{who}-{}", clock::now_s());
    let body = TokenCreate { name, role, life_s: SESSION_S };
    let TokenCreated { view, token } = context.client().post("/v1/tokens", &body).await?;
    let link = Link {
        url: format!("{url}/login#{token}"),
        token_name: view.name,
        expires_s: view.expires_s,
    };
    talk(format!(
        "good for {} and a secret; `fleetway token revoke {}` ends it",
        ago(SESSION_S),
        link.token_name
    ));
    if open {
        show(&link.url)?;
    }
    context.output.data(&link, || link.url.clone())
}

/// Has the desktop open it.
fn show(url: &str) -> Result<(), Failure> {
    let mut opener = Command::new("xdg-open");
    let opened = opener.arg(url).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    opened.map(drop).map_err(|error| {
        Failure::from_error("no browser was opened", &error).mend("open the link yourself")
    })
}
