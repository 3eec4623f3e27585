//! `fleetway token`: who may use the API over the network, and as what.

use std::time::Duration;

use clap::Subcommand;
use fleetway_controller::access::Role;
use fleetway_controller::clock;

use super::output::{ago, table, talk};
use super::{Context, values};
use crate::api::client::escape;
use crate::api::failure::Failure;
use crate::api::types::Done;
use crate::api::types::access::{TokenCreate, TokenCreated, TokenView};

/// `token ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a token; it is shown once, and only its hash is kept
    #[command(
        after_long_help = "Example:\n  fleetway token create ci --role operator --expires 90d\n\nviewer looks; operator also adds devices and starts and steers rollouts; approver also says yes\nwhere a rollout waits for a person; admin also makes tokens, revokes devices and publishes what is\nstaged. The audit log shows the token's name."
    )]
    Create {
        /// Who will use it: 1 to 64 letters, digits and - _ . @
        #[arg(value_name = "NAME")]
        name: String,
        /// What it may do: viewer, operator, approver or admin
        #[arg(long, value_name = "ROLE")]
        role: Role,
        /// How long it is good for
        #[arg(long, value_name = "TIME", default_value = "90d", value_parser = values::duration)]
        expires: Duration,
    },
    /// List tokens
    #[command(after_long_help = "Example:\n  fleetway token list -o json")]
    List,
    /// Take a token back, and the sessions that it opened
    #[command(after_long_help = "Example:\n  fleetway token revoke ci")]
    Revoke {
        /// Which one
        #[arg(value_name = "NAME")]
        name: String,
    },
}

pub(super) async fn run(verb: TokenVerb, context: &Context) -> Result<(), Failure> {
    let client = context.client();
    match verb {
        TokenVerb::Create { name, role, expires } => {
            let body = TokenCreate { name, role, life_s: expires.as_secs() };
            let created: TokenCreated = client.post("/v1/tokens", &body).await?;
            // The token alone on stdout, so that a script can take it.
            context.output.data(&created, || {
                let TokenView { name, role, .. } = &created.view;
                talk(format!("token of {name}, {role}: a secret, and shown this once"));
                created.token.clone()
            })
        }
        TokenVerb::List => {
            let all: Vec<TokenView> = client.list("/v1/tokens").await?;
            context.output.data(&all, || list_text(&all, clock::now_s()))
        }
        TokenVerb::Revoke { name } => {
            let path = format!("/v1/tokens/{}/revoke", escape(&name));
            let done: Done = client.post(&path, &()).await?;
            context.output.data(&done, || done.done.clone())
        }
    }
}

fn list_text(all: &[TokenView], now_s: u64) -> String {
    if all.is_empty() {
        return "no tokens: the API is for the owner of its socket alone".into();
    }
    let row = |token: &TokenView| {
        let expires = match token.expired {
            true => "expired".into(),
            false => format!("in {}", ago(token.expires_s.saturating_sub(now_s))),
        };
        [token.name.clone(), token.role.to_string(), expires, token.created_by.clone()]
    };
    table(["name", "role", "expires", "made by"], all.iter().map(row))
}
