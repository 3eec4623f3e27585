//! Taking releases in: the server believes nothing that the operator's side checked.
//!
//! Blobs come first, each under the digest that it must hash to. Then the envelope: its
//! signatures are checked here and again by the core, every artifact that it names must be
//! there, whole, and cut as the manifest says. Only then is the release published.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use fleetway_controller::fleet::By;
use fleetway_protocol::ids::Digest;
use fleetway_protocol::keyset::ReleaseKeys;
use fleetway_protocol::limits::ARTIFACT_BYTES_MAX;
use fleetway_protocol::manifest::Manifest;
use http_body_util::BodyExt as _;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::block_in_place;
use tracing::info;

use super::caller::Caller;
use super::extract::{Answer, Segments};
use super::failure::{Failure, Kind};
use super::types::{BlobView, ReleaseView};
use super::view::{self, failed};
use crate::serve::Running;
use crate::serve::blobs::BlobError;
use crate::serve::pieces::artifacts;

/// Bytes, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct BlobPath {
    /// SHA-256 of the bytes, hexadecimal.
    digest: String,
}

fn digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("the digest {text:?} {error}")))
}

fn blob_failure(error: BlobError) -> Failure {
    match &error {
        BlobError::Digest { .. } => Failure::trust(error.to_string())
            .mend("the file changed while it was sent, or its disk is failing: publish again"),
        BlobError::Rotten { .. } => {
            Failure::trust(error.to_string()).mend("publish again; the blob is replaced")
        }
        BlobError::TooLarge { .. } => Failure::usage(error.to_string()),
        BlobError::Io { path, source, doing } => Failure::file(doing, path, source),
    }
}

/// `PUT /v1/blobs/{digest}`: the bytes.
pub(super) async fn put_blob(
    State(running): State<Running>,
    Segments(path): Segments<BlobPath>,
    mut body: Body,
) -> Answer<BlobView> {
    let digest = digest(&path.digest)?;
    let begin = || running.blobs.begin(digest, u64::from(ARTIFACT_BYTES_MAX));
    let mut writer = block_in_place(begin).map_err(blob_failure)?;
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::from_error("the upload was cut", &error))?;
        if let Ok(data) = frame.into_data() {
            bytes += data.len() as u64;
            block_in_place(|| writer.write(&data)).map_err(blob_failure)?;
        }
    }
    block_in_place(|| writer.finish()).map_err(blob_failure)?;
    Ok(Json(BlobView { bytes }))
}

/// What an envelope says, if the release authority signed it.
fn open(bytes: &[u8], keys: &ReleaseKeys) -> Result<Manifest, Failure> {
    let refused = |why: String| {
        Failure::trust(format!("not published: {why}"))
            .mend("sign it with this fleet's release key: `fleetway model sign`")
    };
    keys.read(bytes).map(|(manifest, _)| manifest).map_err(|error| refused(error.to_string()))
}

/// `POST /v1/releases`: the signed envelope.
pub(super) async fn publish(
    State(running): State<Running>,
    caller: Caller,
    body: Bytes,
) -> Answer<ReleaseView> {
    let manifest = open(&body, &running.trust.release_keys())?;
    let name = format!("{}@{}", manifest.model, manifest.version);
    for artifact in artifacts(&manifest) {
        if block_in_place(|| running.blobs.len(&artifact.digest)).is_none() {
            return Err(Failure::new(
                Kind::Conflict,
                format!("not published: the bytes {:.12} of {name} are not here", artifact.digest),
            )
            .mend("send them first; `fleetway model publish` does"));
        }
        block_in_place(|| running.blobs.chunk_list(&artifact)).map_err(blob_failure)?;
    }
    let envelope = body.to_vec();
    let (digest, view) = running
        .core
        .ask(move |fleet, now_s| {
            let by = By { who: &caller.name, now_s };
            let digest = fleet.publish_release(by, &envelope).map_err(|e| failed(e.kind(), &e))?;
            let release = fleet.release(&digest).cloned();
            let view = release.map(|release| view::published(fleet, &release));
            view.map(|view| (digest, view))
                .ok_or_else(|| Failure::error("the published release is not there: a bug"))
        })
        .await??;
    running.learn(digest, body.to_vec(), manifest).await;
    info!(release = %name, "published");
    Ok(Json(view))
}
