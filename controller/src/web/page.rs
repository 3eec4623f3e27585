//! What all pages share: who looks, what stands around a view, and the fence: which headers a
//! browser is given, whatever the view says.

use askama::Template;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use fleetway_controller::clock;
use http_body_util::{BodyExt as _, Limited};

use super::{assets, words};
use crate::api::caller::{self, Caller};
use crate::api::failure::Failure;

/// Largest page: a rollout of ten thousand devices is cut into pages long before.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// What a browser may load and run here: our own files, and nothing that stands in a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; frame-ancestors 'none'; \
                      base-uri 'none'";

/// The entries of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Overview,
    Devices,
    Rollouts,
    Models,
    Drift,
    Audit,
    Keys,
    System,
    /// None of them: a page about something that went wrong.
    Nowhere,
}

/// All of them, as they are shown.
const TABS: [(Tab, &str, &str); 8] = [
    (Tab::Overview, "/", "Overview"),
    (Tab::Rollouts, "/rollouts", "Rollouts"),
    (Tab::Devices, "/devices", "Devices"),
    (Tab::Models, "/models", "Models"),
    (Tab::Drift, "/drift", "Drift"),
    (Tab::Audit, "/audit", "Audit log"),
    (Tab::Keys, "/keys", "Keys"),
    (Tab::System, "/system", "System"),
];

/// What stands around a view.
pub(super) struct Page {
    pub(super) title: String,
    pub(super) tab: Tab,
    /// Its own address, to be fetched again.
    pub(super) url: String,
    pub(super) now_s: u64,
    /// Whether it has a chart.
    pub(super) charts: bool,
    /// Who looks, if that is known.
    pub(super) who: Option<Caller>,
}

#[cfg(test)]
impl Page {
    pub(super) fn of_test(now_s: u64) -> Self {
        let (title, url) = ("A test".to_owned(), "/".to_owned());
        Self { title, tab: Tab::Overview, url, now_s, charts: false, who: None }
    }
}

impl Page {
    /// The navigation: address, name, whether it is here.
    pub(super) fn tabs(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        let here = self.tab;
        TABS.into_iter().map(move |(tab, url, name)| (url, name, tab == here))
    }

    /// Whether who looks may do that: the API's own table says so.
    pub(super) fn may(&self, method: &str, route: &str) -> bool {
        let role = self.who.as_ref().map(|caller| caller.role);
        let method = method.parse().unwrap_or_default();
        caller::required(&method, route).is_none_or(|least| role >= Some(least))
    }

    /// What a session's requests that change something must carry.
    pub(super) fn csrf(&self) -> &str {
        self.who.as_ref().and_then(|caller| caller.csrf.as_deref()).unwrap_or_default()
    }

    /// Whether they are in a session, which can be ended.
    pub(super) fn in_session(&self) -> bool {
        !self.csrf().is_empty()
    }

    /// The tone of the worst.
    pub(super) fn tone(&self, alerts: &[super::alerts::Alert]) -> words::Tone {
        match alerts.first().map(|alert| alert.tone) {
            Some(tone @ (words::Tone::Bad | words::Tone::Wait)) => tone,
            _ => words::Tone::Good,
        }
    }

    /// A moment in the past.
    pub(super) fn ago(&self, unix_s: impl words::Figure) -> words::Markup {
        words::ago(self.now_s, unix_s.figure())
    }

    /// A moment in the past, or a dash.
    pub(super) fn maybe_ago(&self, unix_s: &Option<u64>) -> words::Markup {
        unix_s.map_or_else(words::dash, |unix_s| self.ago(unix_s))
    }

    /// A moment that comes.
    pub(super) fn until(&self, unix_s: impl words::Figure) -> words::Markup {
        words::until(self.now_s, unix_s.figure())
    }
}

/// A request for a page, of somebody who may see it.
pub(super) struct Ask {
    uri: Uri,
    caller: Caller,
}

impl Ask {
    /// What stands around the answer.
    pub(super) fn page(&self, tab: Tab, title: impl Into<String>) -> Page {
        let url = self.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        Page {
            title: title.into(),
            tab,
            url,
            now_s: clock::now_s(),
            charts: false,
            who: Some(self.caller.clone()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Ask {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        match Caller::of(&parts.extensions) {
            Ok(caller) => Ok(Self { uri: parts.uri.clone(), caller }),
            // A view that is fetched again must not be filled with the login.
            Err(_) if parts.headers.contains_key("hx-request") => {
                Err((StatusCode::UNAUTHORIZED, [("hx-redirect", "/login")]).into_response())
            }
            Err(_) => Err(Redirect::to("/login").into_response()),
        }
    }
}

/// What a view answers.
pub(super) type Shown = Result<Html<String>, Wrong>;

/// Renders a view.
pub(super) fn html(view: &impl Template) -> Shown {
    view.render()
        .map(Html)
        .map_err(|error| Wrong(Failure::from_error("the page cannot be drawn: a bug", &error)))
}

/// What went wrong, as a page.
pub(super) struct Wrong(pub(super) Failure);

impl From<Failure> for Wrong {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

#[derive(Template)]
#[template(path = "wrong.html")]
struct WrongView<'a> {
    page: Page,
    failure: &'a Failure,
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let page = Page {
            title: "That did not work".to_owned(),
            tab: Tab::Nowhere,
            url: "/".to_owned(),
            now_s: clock::now_s(),
            charts: false,
            who: None,
        };
        let view = WrongView { page, failure: &self.0 };
        match view.render() {
            Ok(text) => (status, Html(text)).into_response(),
            Err(_) => (status, self.0.message).into_response(),
        }
    }
}

/// Around every page: what a browser may do with it, and gzip.
pub(super) async fn fence(request: Request, next: Next) -> Response {
    let gzip = assets::takes_gzip(request.headers());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let is_page =
        headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if is_page {
        headers.insert("cache-control", HeaderValue::from_static("no-store"));
        if gzip {
            return zipped(response).await;
        }
    }
    response
}

async fn zipped(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(body) = Limited::new(body, PAGE_BYTES_MAX).collect().await else {
        let failure = Failure::error("the page is larger than a page may be: a bug");
        return Wrong(failure).into_response();
    };
    let body: Bytes = body.to_bytes();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    Response::from_parts(parts, Body::from(assets::packed(&body)))
}
