//! What a request carries and what an answer is, as types: axum reads them, and the OpenAPI
//! document is made from the very same ones. A refusal is always our own envelope.

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{Operation, Response as Described};
use aide::operation::OperationInput;
use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fleetway_protocol::ids::Digest;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::caller::{Caller, Door};
use super::failure::{Envelope, Failure, Kind};
use crate::serve::Running;

/// What a route answers.
pub(super) type Answer<T> = Result<Json<T>, Failure>;

/// Items of a page, unless the request says otherwise.
const LIMIT: u32 = 100;
/// Most items of a page: some MiB of JSON.
pub(crate) const LIMIT_MAX: u32 = 1_000;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Running> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &Running) -> Result<Self, Failure> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| Failure::usage(format!("the body: {error}")))?;
        let wrong = |error| {
            Failure::usage(format!("the request is not what is expected here: {error}"))
                .mend("use the same version of fleetway for the command line and `serve`")
        };
        serde_json::from_slice(&bytes).map(Self).map_err(wrong)
    }
}

impl<T: JsonSchema> OperationInput for Body<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        Json::<T>::operation_input(ctx, operation);
    }
}

/// What stands in the path.
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Running> for Segments<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &Running) -> Result<Self, Failure> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(path)| Self(path)).map_err(|error| Failure::usage(error.body_text()))
    }
}

impl<T: JsonSchema> OperationInput for Segments<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        Path::<T>::operation_input(ctx, operation);
    }
}

/// What stands behind the question mark.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Running> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &Running) -> Result<Self, Failure> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|error| Failure::usage(error.body_text()))
    }
}

impl<T: JsonSchema> OperationInput for Params<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        Query::<T>::operation_input(ctx, operation);
    }
}

impl OperationInput for Caller {}
impl OperationInput for Door {}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.http_status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(Envelope { error: self })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl OperationOutput for Failure {
    type Inner = Envelope;
}

/// A device, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct DevicePath {
    /// The device's id.
    pub(super) id: String,
}

/// A rollout, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct RolloutPath {
    /// The rollout's number.
    pub(super) id: u64,
}

/// A page that is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct PageParams {
    /// Most items of the page, 1 to 1000.
    #[serde(default)]
    pub(super) limit: Option<u32>,
    /// Where the page begins: `next` of the one before.
    #[serde(default)]
    pub(super) cursor: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Page<T> {
    /// Its items.
    pub(crate) items: Vec<T>,
    /// The `cursor` of the next page; `null` at the end.
    pub(crate) next: Option<String>,
}

impl<T> Page<T> {
    /// The page that begins after `cursor`, of items in the order of their keys. What is added or
    /// removed meanwhile moves nothing: a page begins after a key, not at a number.
    pub(super) fn of(
        items: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> String,
        is_after: impl Fn(&T) -> bool,
        limit: usize,
    ) -> Self {
        let mut rest = items.into_iter().filter(is_after);
        let items: Vec<T> = rest.by_ref().take(limit).collect();
        let next = rest.next().and(items.last().map(key));
        Self { items, next }
    }
}

/// How many items a page has.
pub(super) fn limit(asked: Option<u32>) -> Result<usize, Failure> {
    match asked.unwrap_or(LIMIT) {
        limit @ 1..=LIMIT_MAX => Ok(limit as usize),
        limit => Err(Failure::usage(format!("a page has 1 to {LIMIT_MAX} items, not {limit}"))),
    }
}

/// Which state of a thing somebody saw: everything about it that operators decide, hashed. What
/// devices report is not in it, or no precondition would ever hold during a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag(String);

impl Tag {
    /// Of whatever makes the state.
    pub(crate) fn of(state: &impl Serialize) -> Self {
        // Everything that is hashed here serializes; were it not so, no two would be the same.
        let bytes = postcard::to_allocvec(state).unwrap_or_default();
        Self(format!("\"{:.16}\"", Digest::of(&bytes)))
    }
}

/// An answer with the state that it shows.
pub(super) struct Tagged<T>(pub(super) Tag, pub(super) T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let Self(tag, body) = self;
        let mut response = Json(body).into_response();
        if let Ok(tag) = HeaderValue::from_str(&tag.0) {
            response.headers_mut().insert(ETAG, tag);
        }
        response
    }
}

impl<T: JsonSchema> OperationOutput for Tagged<T> {
    type Inner = T;

    fn operation_response(ctx: &mut GenContext, operation: &mut Operation) -> Option<Described> {
        Json::<T>::operation_response(ctx, operation)
    }

    fn inferred_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Described)> {
        Json::<T>::inferred_responses(ctx, operation)
    }
}

/// The state that a command is meant for, if it says so.
pub(super) struct IfMatch(Option<String>);

impl IfMatch {
    /// Whether it is the state that is there.
    pub(super) fn check(&self, now: &Tag) -> Result<(), Failure> {
        let Some(asked) = &self.0 else { return Ok(()) };
        if asked.split(',').any(|tag| tag.trim() == "*" || tag.trim() == now.0) {
            return Ok(());
        }
        let Tag(now) = now;
        Err(Failure::new(
            Kind::Stale,
            format!("it has changed since: it is {now} now, not {asked}"),
        )
        .mend("look at it again, then decide again; nothing was changed"))
    }
}

impl FromRequestParts<Running> for IfMatch {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Running) -> Result<Self, Failure> {
        let Some(value) = parts.headers.get(IF_MATCH) else { return Ok(Self(None)) };
        let text = value.to_str().map_err(|_| Failure::usage("`If-Match` is no text"))?;
        Ok(Self(Some(text.to_owned())))
    }
}

/// In the document it stands with the other headers: see `openapi`.
impl OperationInput for IfMatch {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        super::openapi::header(
            ctx,
            operation,
            "If-Match",
            "The `ETag` that the command is meant for",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_on_after_a_key_whatever_was_added_or_removed() {
        let page = |items: &[u32], after: u32, limit| {
            Page::of(items.to_vec(), |n| n.to_string(), |n| *n > after, limit)
        };
        let first = page(&[1, 3, 5, 7], 0, 2);
        assert_eq!((first.items, first.next), (vec![1, 3], Some("3".into())));
        // 3 went, 2 and 4 came.
        let second = page(&[1, 2, 4, 5, 7], 3, 2);
        assert_eq!((second.items, second.next), (vec![4, 5], Some("5".into())));
        let last = page(&[1, 2, 4, 5, 7], 5, 2);
        assert_eq!((last.items, last.next), (vec![7], None));
        let exact = page(&[1, 2], 0, 2);
        assert_eq!(exact.next, None, "no page that is empty");
        assert!(limit(Some(0)).is_err() && limit(Some(1001)).is_err());
        assert_eq!(limit(None).unwrap(), 100);
    }

    #[test]
    fn a_command_is_held_to_the_state_that_it_names() {
        let (a, b) = (Tag::of(&"a"), Tag::of(&"b"));
        assert_ne!(a, b);
        let Tag(text) = a.clone();
        let asks = |text: &str| IfMatch(Some(text.to_owned())).check(&a).map_err(|f| f.code);
        assert!(IfMatch(None).check(&a).is_ok());
        assert_eq!(asks(&text), Ok(()));
        assert_eq!(asks(&format!("\"0\", {text}")), Ok(()));
        assert_eq!(asks("*"), Ok(()));
        // A weak tag promises less than is asked here.
        for wrong in ["", "\"0\"", &format!("W/{text}"), text.trim_matches('"'), &b.0] {
            assert_eq!(asks(wrong), Err(Kind::Stale), "{wrong}");
        }
    }
}
