//! The way in: a token for a session, by a form that needs no JavaScript; or the link that
//! `fleetway web` prints, whose token the browser never sends as part of an address.

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use fleetway_controller::clock;
use serde::Deserialize;

use super::assets;
use super::page::{Wrong, html};
use crate::api::caller::{Door, of_this_site};
use crate::serve::Running;

#[derive(Template)]
#[template(path = "login.html")]
struct View {
    refused: bool,
}

/// What the form sends.
#[derive(Deserialize)]
pub(super) struct Enter {
    token: String,
}

/// `GET /login`.
pub(super) async fn show() -> Result<Html<String>, Wrong> {
    html(&View { refused: false })
}

/// `POST /login`: opens a session, as `POST /v1/session` does.
pub(super) async fn enter(
    State(running): State<Running>,
    door: Door,
    headers: HeaderMap,
    Form(Enter { token }): Form<Enter>,
) -> Result<Response, Wrong> {
    of_this_site(&headers)?;
    let Some((cookie, caller)) = running.access.open(token.trim())? else {
        let page = html(&View { refused: true })?;
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    };
    let life_s = caller.expires_s.unwrap_or_default().saturating_sub(clock::now_s());
    let set = door.set_cookie(&cookie.to_string(), life_s);
    Ok(([(header::SET_COOKIE, set)], Redirect::to("/")).into_response())
}
