//! Tokens and sessions: made, listed, taken back.

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{Operation, Response as Described};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, NoContent, Response};
use fleetway_controller::access::TokenView as Token;
use fleetway_controller::clock;
use fleetway_controller::fleet::{By, Fleet, TokenError};
use schemars::JsonSchema;
use serde::Deserialize;

use super::caller::{Caller, Door, of_this_site, secret};
use super::extract::{Answer, Body, Page, PageParams, Params, Segments, limit};
use super::failure::{Failure, Kind};
use super::types::Done;
use super::types::access::{SessionOpen, SessionView, TokenCreate, TokenCreated, TokenView};
use super::view::failed;
use crate::serve::Running;

fn view(token: Token, now_s: u64) -> TokenView {
    let Token { name, role, created_by, created_s, expires_s, .. } = token;
    TokenView { name, role, created_by, created_s, expires_s, expired: now_s >= expires_s }
}

impl SessionView {
    fn of(caller: Caller) -> Self {
        let Caller { name, role, csrf, expires_s } = caller;
        Self { name, role, csrf, expires_s }
    }
}

/// Runs a command on tokens, and lets every request from then on know of it.
async fn change<T: Send + 'static>(
    running: &Running,
    command: impl FnOnce(&mut Fleet, u64) -> Result<T, TokenError> + Send + 'static,
) -> Result<T, Failure> {
    let access = running.access.clone();
    let changed = running.core.ask(move |fleet, now_s| {
        let changed = command(fleet, now_s)?;
        // Here, so that of two commands the later one has the last word.
        access.set(fleet.tokens());
        Ok(changed)
    });
    changed.await?.map_err(|error: TokenError| failed(error.kind(), &error))
}

/// `POST /v1/tokens`.
pub(super) async fn create(
    State(running): State<Running>,
    caller: Caller,
    Body(TokenCreate { name, role, life_s }): Body<TokenCreate>,
) -> Answer<TokenCreated> {
    let secret = secret()?;
    let digest = secret.digest();
    let created = change(&running, move |fleet, now_s| {
        let by = By { who: &caller.name, now_s };
        Ok(view(fleet.create_token(by, &name, role, digest, life_s)?, now_s))
    });
    Ok(Json(TokenCreated { view: created.await?, token: secret.to_string() }))
}

/// `GET /v1/tokens`.
pub(super) async fn list(
    State(running): State<Running>,
    Params(asked): Params<PageParams>,
) -> Answer<Page<TokenView>> {
    let (limit, cursor) = (limit(asked.limit)?, asked.cursor);
    let page = running.core.ask(move |fleet, now_s| {
        let is_after = |token: &Token| cursor.as_ref().is_none_or(|after| token.name > *after);
        let Page { items, next } = Page::of(fleet.tokens(), |t| t.name.clone(), is_after, limit);
        Page { items: items.into_iter().map(|token| view(token, now_s)).collect(), next }
    });
    Ok(Json(page.await?))
}

/// A token, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct TokenPath {
    /// Its name.
    name: String,
}

/// `POST /v1/tokens/{name}/revoke`.
pub(super) async fn revoke(
    State(running): State<Running>,
    Segments(TokenPath { name }): Segments<TokenPath>,
    caller: Caller,
) -> Answer<Done> {
    let done =
        format!("token {name} and the sessions that it opened are good for nothing any more");
    change(&running, move |fleet, now_s| {
        fleet.revoke_token(By { who: &caller.name, now_s }, &name)
    })
    .await?;
    Ok(Json(Done { done }))
}

/// `GET /v1/session`: who asks.
pub(super) async fn who(caller: Caller) -> Answer<SessionView> {
    Ok(Json(SessionView::of(caller)))
}

/// `POST /v1/session`: a browser's session for a token.
pub(super) async fn open(
    State(running): State<Running>,
    door: Door,
    headers: HeaderMap,
    Body(SessionOpen { token }): Body<SessionOpen>,
) -> Result<Opened, Failure> {
    of_this_site(&headers)?;
    let opened = running.access.open(&token)?;
    let Some((cookie, caller)) = opened else {
        let why = "that is no token of this controller, or no longer";
        return Err(
            Failure::new(Kind::Unauthenticated, why).mend("`fleetway token create` makes one")
        );
    };
    let life_s = caller.expires_s.unwrap_or_default().saturating_sub(clock::now_s());
    Ok(Opened(door.set_cookie(&cookie.to_string(), life_s), SessionView::of(caller)))
}

/// A session that was opened: its cookie, and who it is of.
pub(super) struct Opened(String, SessionView);

impl IntoResponse for Opened {
    fn into_response(self) -> Response {
        (AppendHeaders([(header::SET_COOKIE, self.0)]), Json(self.1)).into_response()
    }
}

impl OperationOutput for Opened {
    type Inner = SessionView;

    fn inferred_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Described)> {
        Json::<SessionView>::inferred_responses(ctx, operation)
    }
}

/// `DELETE /v1/session`.
pub(super) async fn close(
    State(running): State<Running>,
    door: Door,
    headers: HeaderMap,
) -> Closed {
    if let Some(cookie) = door.cookie_of(&headers) {
        running.access.close(&cookie);
    }
    Closed(door.set_cookie("", 0))
}

/// A session that is over: its cookie is taken away.
pub(super) struct Closed(String);

impl IntoResponse for Closed {
    fn into_response(self) -> Response {
        (StatusCode::NO_CONTENT, AppendHeaders([(header::SET_COOKIE, self.0)])).into_response()
    }
}

impl OperationOutput for Closed {
    type Inner = ();

    fn inferred_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Described)> {
        NoContent::inferred_responses(ctx, operation)
    }
}
