//! Who asks, and may they: the two checks that stand in front of every route.
//!
//! [`identify`] finds out who asks and puts it with the request, on every route there is. Whoever
//! comes by the unix socket owns it and is admin; over the network it takes a token
//! (`Authorization: Bearer ...`) or the cookie of a session that was opened with one. [`allow`]
//! then holds that against [`required`], the one table of roles.
//!
//! **Cross-site requests.** A browser sends its cookie with whatever another page makes it send, so
//! a session's request that changes something must also carry the session's `fleetway-csrf`, which
//! no other site can read; and it must not say of itself that it comes from another site
//! (`Sec-Fetch-Site`, `Origin`). `SameSite=Strict` on the cookie is the third fence.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError, RwLock};

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use fleetway_controller::access::{Role, Roster, Secret, Session, Sessions, TokenView};
use fleetway_controller::clock;
use tracing::warn;

use super::failure::{Failure, Kind};
use crate::serve::Running;

/// The header that names the operator on the unix socket, and nowhere else.
pub(crate) const OPERATOR: &str = "fleetway-operator";
/// The header with a session's proof that its own page asks.
pub(crate) const CSRF: &str = "fleetway-csrf";
/// Longest name of an operator that is put into the journal, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Between two lines in the log about strangers, milliseconds.
const STRANGERS_MS: u64 = 60_000;

/// Where a request came in. Its listener says so; no header can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// The unix socket: whoever can open it is the operator.
    Socket,
    /// The network.
    Network {
        /// Under TLS.
        tls: bool,
        /// From where.
        from: IpAddr,
    },
}

impl Door {
    /// The session cookie's name. Under TLS browsers hold it to this very host, by its name.
    fn cookie(self) -> &'static str {
        match self {
            Self::Network { tls: true, .. } => "__Host-fleetway",
            _ => "fleetway",
        }
    }

    /// The `Set-Cookie` of a session, good for `life_s`; 0 takes it away.
    pub(crate) fn set_cookie(self, value: &str, life_s: u64) -> String {
        let secure = if matches!(self, Self::Network { tls: true, .. }) { "; Secure" } else { "" };
        let name = self.cookie();
        format!("{name}={value}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}")
    }

    /// The session's cookie in a request.
    pub(crate) fn cookie_of(self, headers: &HeaderMap) -> Option<Secret> {
        let all = headers.get_all(header::COOKIE).iter();
        let pairs = all.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
        let mut found = pairs.filter_map(|pair| pair.trim().split_once('='));
        found.find(|(name, _)| *name == self.cookie())?.1.parse().ok()
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The token's name, or what the operator at the socket calls himself.
    pub(crate) name: String,
    /// What they may do.
    pub(crate) role: Role,
    /// In a session: what its requests that change something must carry.
    pub(crate) csrf: Option<String>,
    /// In a session: when it ends, Unix seconds.
    pub(crate) expires_s: Option<u64>,
}

/// Tokens and sessions, at hand for every request. The fleet's thread is not asked: a request of
/// somebody who may not ask costs it nothing.
#[derive(Default)]
pub(crate) struct Access {
    roster: RwLock<Roster>,
    sessions: Mutex<Sessions>,
    /// When strangers were last told of in the log, and how many came since.
    strangers: Mutex<(Option<u64>, u64)>,
}

impl Access {
    /// These are the tokens from now on.
    pub(crate) fn set(&self, tokens: Vec<TokenView>) {
        *self.roster.write().unwrap_or_else(PoisonError::into_inner) = Roster::new(tokens);
    }

    /// The token that was shown, if it is good.
    fn token(&self, shown: &str) -> Option<TokenView> {
        let digest = shown.parse::<Secret>().ok()?.digest();
        let roster = self.roster.read().unwrap_or_else(PoisonError::into_inner);
        roster.find(clock::now_s(), &digest).cloned()
    }

    /// Opens a session with a token; `None` if it is not good. What the browser keeps comes with it.
    pub(crate) fn open(&self, token: &str) -> Result<Option<(Secret, Caller)>, Failure> {
        let Some(token) = self.token(token) else { return Ok(None) };
        let (cookie, csrf) = (secret()?, secret()?);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.open(clock::now_s(), &cookie, &csrf, &token);
        Ok(Some((cookie, Caller::in_session(session, token))))
    }

    /// Ends a session.
    pub(crate) fn close(&self, cookie: &Secret) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).close(cookie);
    }

    fn session(&self, cookie: &Secret) -> Option<(Session, TokenView)> {
        let now_s = clock::now_s();
        let session = {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.find(now_s, cookie)?.clone()
        };
        let roster = self.roster.read().unwrap_or_else(PoisonError::into_inner);
        let token = roster.find(now_s, &session.token)?.clone();
        Some((session, token))
    }

    /// Somebody was turned away. Said in the log once a minute: whoever knocks must not fill it.
    fn stranger(&self, from: IpAddr) {
        let now_ms = clock::now_ms();
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let (told_ms, count) = &mut *strangers;
        *count += 1;
        if told_ms.is_none_or(|told_ms| now_ms.saturating_sub(told_ms) >= STRANGERS_MS) {
            warn!(%from, requests = *count, "requests without a token or session that is good");
            (*told_ms, *count) = (Some(now_ms), 0);
        }
    }

    fn find(&self, door: Door, method: &Method, headers: &HeaderMap) -> Result<Caller, Failure> {
        if let Some(line) = headers.get(header::AUTHORIZATION) {
            let token = line.to_str().ok().and_then(|line| line.strip_prefix("Bearer "));
            let token = token.and_then(|token| self.token(token.trim()));
            let Some(TokenView { name, role, .. }) = token else {
                return Err(stranger("the token is not known here, was revoked or has expired"));
            };
            return Ok(Caller { name, role, csrf: None, expires_s: None });
        }
        if door == Door::Socket {
            let (csrf, expires_s) = (None, None);
            return Ok(Caller { name: operator(headers), role: Role::Admin, csrf, expires_s });
        }
        if !method.is_safe() {
            of_this_site(headers)?;
        }
        let found = door.cookie_of(headers).and_then(|cookie| self.session(&cookie));
        let Some((session, token)) = found else {
            return Err(stranger("it takes a token, or a session that is still open"));
        };
        let proof = headers.get(CSRF).and_then(|proof| proof.to_str().ok());
        if !method.is_safe() && proof != Some(session.csrf.as_str()) {
            let text = format!("a session's request that changes something needs `{CSRF}`");
            return Err(Failure::new(Kind::Forbidden, text).mend("load the page again"));
        }
        Ok(Caller::in_session(session, token))
    }
}

/// 256 bits from the system.
pub(crate) fn secret() -> Result<Secret, Failure> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::error(format!("no randomness from the system: {error}")))?;
    Ok(Secret::new(random))
}

fn stranger(why: &str) -> Failure {
    Failure::new(Kind::Unauthenticated, why)
        .mend("send `Authorization: Bearer <token>`; `fleetway token create` makes one")
}

/// Whether a browser says that the request comes from another site. Programs say nothing.
pub(crate) fn of_this_site(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let fetched = text("sec-fetch-site");
    let origin = text("origin").map(|origin| origin.split_once("://").map(|(_, host)| host));
    let is_ours = fetched.is_none_or(|site| matches!(site, "same-origin" | "none"))
        && origin.is_none_or(|host| host.is_some() && host == text("host"));
    if is_ours {
        return Ok(());
    }
    Err(Failure::new(Kind::Forbidden, "the request comes from a page of another site")
        .mend("use the controller's own page, or a token"))
}

/// The operator's name at the socket. Not a proof: whoever opens the socket is the operator.
fn operator(headers: &HeaderMap) -> String {
    let name = headers.get(OPERATOR).and_then(|name| name.to_str().ok());
    let name = name.filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX);
    name.unwrap_or("operator").to_owned()
}

/// What [`identify`] found.
#[derive(Clone)]
struct Found(Result<Caller, Failure>);

/// Finds out who asks, for all that comes after.
pub(crate) async fn identify(
    State(running): State<Running>,
    mut request: Request,
    next: Next,
) -> Response {
    let door = request.extensions().get::<Door>().copied();
    // A listener that forgot to say so is a bug; nobody gets in by it.
    let found = match door {
        Some(door) => running.access.find(door, request.method(), request.headers()),
        None => Err(Failure::error("a listener did not say which it is: a bug")),
    };
    if let (Err(_), Some(Door::Network { from, .. })) = (&found, door) {
        running.access.stranger(from);
    }
    request.extensions_mut().insert(Found(found));
    next.run(request).await
}

/// Lets through who may.
pub(crate) async fn allow(request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or_else(|| request.uri().path(), MatchedPath::as_str);
    let Some(role) = required(request.method(), path) else { return next.run(request).await };
    let found = request.extensions().get::<Found>().map(|found| found.0.clone());
    match found.unwrap_or_else(|| Err(stranger("nobody asked who asks: a bug"))) {
        Ok(caller) if caller.role >= role => next.run(request).await,
        Ok(Caller { name, role: has, .. }) => Failure::new(
            Kind::Forbidden,
            format!("{name} may do what a {has} may, and this takes a role of {role}"),
        )
        .mend("ask somebody with that role, or for a token of it")
        .into_response(),
        Err(failure) => failure.into_response(),
    }
}

/// The least role for a route; `None` for what anybody may ask. The OpenAPI document shows it.
pub(crate) fn required(method: &Method, path: &str) -> Option<Role> {
    Some(match (method.as_str(), path) {
        ("GET", "/v1/openapi.json") | ("POST", "/v1/session") => return None,
        ("DELETE", "/v1/session") | ("POST", "/v1/rollouts/plan") => Role::Viewer,
        (_, "/v1/tokens" | "/v1/tokens/{name}/revoke") => Role::Admin,
        ("POST", "/v1/rollouts/{id}/approve") => Role::Approver,
        ("POST", "/v1/trust/publish" | "/v1/devices/{id}/revoke") => Role::Admin,
        _ if method.is_safe() => Role::Viewer,
        _ => Role::Operator,
    })
}

impl Caller {
    fn in_session(session: Session, token: TokenView) -> Self {
        let (csrf, expires_s) = (Some(session.csrf), Some(session.expires_s));
        Self { name: token.name, role: token.role, csrf, expires_s }
    }

    /// Who asks, as far as it was found out.
    pub(crate) fn of(parts: &axum::http::Extensions) -> Result<Self, Failure> {
        let found = parts.get::<Found>().map(|found| found.0.clone());
        found.unwrap_or_else(|| Err(stranger("nobody asked who asks: a bug")))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Self::of(&parts.extensions)
    }
}

impl<S: Sync> FromRequestParts<S> for Door {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let door = parts.extensions.get::<Self>().copied();
        door.ok_or_else(|| Failure::error("a listener did not say which it is: a bug"))
    }
}

#[cfg(test)]
#[path = "caller_tests.rs"]
mod tests;
