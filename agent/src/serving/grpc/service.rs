//! The calls of `inference.GRPCInferenceService`.

use std::convert::Infallible;
use std::sync::Arc;

use fleetway_engine::Tensor;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use tokio::time::Instant;

use super::super::body::{self, Bodies};
use super::super::coding::Coding;
use super::super::http::Api;
use super::super::infer::{Dialect, Job, infer};
use super::super::limits::NAME_MESSAGE_BYTES_MAX;
use super::super::live::Loaded;
use super::super::oip::answer::shown;
use super::super::oip::config::{ModelConfig, TensorConfig, type_number};
use super::super::oip::{Asked, Header, ModelMetadata, Origin, RequestError, ServerMetadata};
use super::super::oip::{IndexEntry, TensorMetadata};
use super::super::refusal::Refusal;
use super::super::stats::{ModelStats, Timed};
use super::frame::{self, Call, Calls, Given, Message, Reply};
use super::messages as pb;
use super::wire;

const SERVICE: &str = "/inference.GRPCInferenceService/";
/// `ModelInstanceGroup.Kind` in `model_config.proto`.
const KIND_CPU: i32 = 2;

/// Answers one call.
pub(super) async fn handle(
    api: Arc<Api>,
    calls: Arc<Calls>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let call = Call::begin(&calls);
    let (head, mut body) = request.into_parts();
    let is_grpc = head.headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind == b"application/grpc" || kind.starts_with(b"application/grpc+proto")
    });
    if !is_grpc || head.method != Method::POST {
        let text = "this is gRPC; HTTP has a socket of its own";
        let refusal = Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
        let mut response = frame::reply(Err(refusal), call);
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Ok(response);
    }
    let given = answer(&api, head.uri.path(), &head.headers, &mut body).await;
    Ok(frame::reply(given, call))
}

async fn answer(
    api: &Api,
    path: &str,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Given, Refusal> {
    let unknown = || {
        let path: String = path.chars().take(128).collect();
        let text = format!("no call {path:?} here; {SERVICE} has ModelInfer and what describes it");
        Refusal::new(StatusCode::NOT_IMPLEMENTED, text)
    };
    let name = path.strip_prefix(SERVICE).ok_or_else(unknown)?;
    match name {
        "ModelInfer" => {
            let message = Message::of(read(api, body).await?, headers)?;
            return answer_infer(api, message).await;
        }
        "RepositoryModelLoad" | "RepositoryModelUnload" => return Err(Refusal::managed()),
        "ServerLive" => return given(&pb::ServerLiveResponse { live: true }),
        "ServerReady" => return given(&pb::ServerReadyResponse { ready: api.is_ready() }),
        "ServerMetadata" => return given(&server()),
        "RepositoryIndex" => {
            let models = api.index().into_iter().map(index).collect();
            return given(&pb::RepositoryIndexResponse { models });
        }
        "ModelReady" | "ModelMetadata" | "ModelConfig" | "ModelStatistics" => {}
        _ => return Err(unknown()),
    }
    let mut message = Message::of(read(api, body).await?, headers)?;
    message.unpack(&api.gate.bodies)?;
    let bytes = message.body.bytes;
    if bytes.len() > NAME_MESSAGE_BYTES_MAX {
        return Err(Refusal::too_large(NAME_MESSAGE_BYTES_MAX));
    }
    let wrong = |error| Refusal::new(StatusCode::BAD_REQUEST, format!("not a request: {error}"));
    let asked = pb::ModelReadyRequest::decode(bytes).map_err(wrong)?;
    let version = Some(asked.version.as_str()).filter(|version| !version.is_empty());
    if name == "ModelStatistics" && asked.name.is_empty() {
        let model_stats = api.all_stats().into_iter().map(statistics).collect();
        return given(&pb::ModelStatisticsResponse { model_stats });
    }
    if name == "ModelReady" {
        // A model that is known is not ready; one that is not is an error.
        let live = api.live(&asked.name)?;
        let ready = super::super::infer::current(&live, version).is_ok();
        return given(&pb::ModelReadyResponse { ready });
    }
    let (live, loaded) = api.loaded(&asked.name, version)?;
    let mut answer = match name {
        "ModelMetadata" => given(&metadata(&ModelMetadata::of(&loaded))),
        "ModelConfig" => {
            let config = Some(config(&ModelConfig::of(&loaded, live.settings())));
            given(&pb::ModelConfigResponse { config })
        }
        _ => {
            let model_stats = vec![statistics(ModelStats::of(&loaded))];
            given(&pb::ModelStatisticsResponse { model_stats })
        }
    }?;
    answer.origin = Some(Origin::of(&loaded));
    Ok(answer)
}

/// The whole body, within the bounds of REST.
async fn read(api: &Api, body: &mut Incoming) -> Result<body::Body, Refusal> {
    let by = Instant::now() + api.limits.body;
    if body.is_end_stream() {
        return Ok(body::Body::default());
    }
    let read = body::read(&api.gate.bodies, body);
    tokio::time::timeout_at(by, read).await.unwrap_or_else(|_| {
        let text = format!("the message did not come within {} s", api.limits.body.as_secs());
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, text))
    })
}

async fn answer_infer(api: &Api, mut message: Message) -> Result<Given, Refusal> {
    let reply_coding = message.coding;
    if message.coding != Coding::Identity {
        // Who is asked stands in the folded part.
        let bodies = api.gate.bodies.clone();
        let unpack = move || message.unpack(&bodies).map(|()| message);
        message = super::super::infer::off_thread(unpack).await??;
    }
    let (model, version) = wire::target(&message.body.bytes)?;
    let live = api.live(&model)?;
    let version = Some(version.into_owned()).filter(|version| !version.is_empty());
    let job = Job { live, version, dialect: Grpc { message, reply_coding } };
    infer(&api.gate, api.limits, job).await
}

/// An inference request.
struct Grpc {
    message: Message,
    /// Who folds is answered alike.
    reply_coding: Coding,
}

impl Dialect for Grpc {
    type Answer = Given;

    fn unpack(&mut self, _: &Bodies) -> Result<(), Refusal> {
        Ok(())
    }

    fn header(&self) -> Result<Header<'_>, RequestError> {
        wire::read(&self.message.body.bytes).map(|request| request.header)
    }

    fn len_bytes(&self) -> usize {
        self.message.body.bytes.len()
    }

    fn forget(&mut self) {
        self.message = Message::default();
    }

    fn answer(&self, loaded: &Loaded, asked: &Asked, outputs: &[Tensor]) -> Result<Given, Refusal> {
        let origin = Origin::of(loaded);
        let text = |text: &str| pb::InferParameter {
            parameter_choice: Some(pb::Parameter::StringParam(text.to_owned())),
        };
        let shown: Vec<_> = shown(loaded, asked, outputs).collect();
        let output = |name: &str, datatype: &str, shape: &[usize]| pb::InferOutputTensor {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.iter().map(|dim| i64::try_from(*dim).unwrap_or(i64::MAX)).collect(),
        };
        let head = pb::ModelInferResponse {
            model_name: loaded.model.as_str().to_owned(),
            model_version: loaded.version.clone(),
            id: asked.id.clone().unwrap_or_default(),
            parameters: [("release", text(&origin.release)), ("slot", text(origin.slot))]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            outputs: shown
                .iter()
                .map(|(name, _, s)| output(name, s.datatype(), s.shape()))
                .collect(),
        };
        let raw_bytes: usize = shown.iter().map(|(_, _, shown)| 11 + shown.len_bytes()).sum();
        let mut message = frame::begin(head.encoded_len() + raw_bytes);
        // A Vec takes everything.
        let _ = head.encode(&mut message);
        for (_, _, shown) in &shown {
            encode_key(pb::RAW_OUTPUT_CONTENTS, WireType::LengthDelimited, &mut message);
            encode_varint(shown.len_bytes() as u64, &mut message);
            shown.put(&mut message);
        }
        let message = frame::finish(message, self.reply_coding)?;
        Ok(Given { message, coding: self.reply_coding, origin: Some(origin) })
    }
}

fn given(answer: &impl prost::Message) -> Result<Given, Refusal> {
    let mut message = frame::begin(answer.encoded_len());
    let _ = answer.encode(&mut message);
    let message = frame::finish(message, Coding::Identity)?;
    Ok(Given { message, coding: Coding::Identity, origin: None })
}

fn server() -> pb::ServerMetadataResponse {
    let ServerMetadata { name, version, extensions } = ServerMetadata::new();
    pb::ServerMetadataResponse {
        name: name.to_owned(),
        version: version.to_owned(),
        extensions: extensions.map(str::to_owned).into(),
    }
}

fn metadata(of: &ModelMetadata<'_>) -> pb::ModelMetadataResponse {
    let tensor = |tensor: &TensorMetadata<'_>| pb::TensorMetadata {
        name: tensor.name.to_owned(),
        datatype: tensor.datatype.to_owned(),
        shape: tensor.shape.clone(),
    };
    pb::ModelMetadataResponse {
        name: of.name.to_owned(),
        versions: of.versions.map(str::to_owned).into(),
        platform: of.platform.to_owned(),
        inputs: of.inputs.iter().map(tensor).collect(),
        outputs: of.outputs.iter().map(tensor).collect(),
    }
}

fn index(entry: IndexEntry) -> pb::ModelIndex {
    let IndexEntry { name, version, state, reason } = entry;
    pb::ModelIndex { name, version, state: state.to_owned(), reason: reason.to_owned() }
}

fn statistics(of: ModelStats) -> pb::ModelStatistics {
    let timed = |Timed { count, ns }| Some(pb::StatisticDuration { count, ns });
    let stats = of.inference_stats;
    pb::ModelStatistics {
        name: of.name,
        version: of.version,
        last_inference: of.last_inference,
        inference_count: of.inference_count,
        execution_count: of.execution_count,
        inference_stats: Some(pb::InferStatistics {
            success: timed(stats.success),
            fail: timed(stats.fail),
            queue: timed(stats.queue),
            compute_input: timed(stats.compute_input),
            compute_infer: timed(stats.compute_infer),
            compute_output: timed(stats.compute_output),
        }),
        batch_stats: of
            .batch_stats
            .into_iter()
            .map(|batch| pb::InferBatchStatistics {
                batch_size: batch.batch_size,
                compute_infer: timed(batch.compute_infer),
            })
            .collect(),
    }
}

fn config(of: &ModelConfig<'_>) -> pb::ModelConfig {
    let input = |tensor: &TensorConfig<'_>| pb::ModelInput {
        name: tensor.name.to_owned(),
        data_type: type_number(tensor.data_type),
        dims: tensor.dims.clone(),
    };
    let output = |tensor: &TensorConfig<'_>| pb::ModelOutput {
        name: tensor.name.to_owned(),
        data_type: type_number(tensor.data_type),
        dims: tensor.dims.clone(),
    };
    pb::ModelConfig {
        name: of.name.to_owned(),
        platform: of.platform.to_owned(),
        max_batch_size: of.max_batch_size,
        input: of.input.iter().map(input).collect(),
        output: of.output.iter().map(output).collect(),
        instance_group: of
            .instance_group
            .iter()
            .map(|group| pb::ModelInstanceGroup { count: group.count, kind: KIND_CPU })
            .collect(),
        dynamic_batching: of.dynamic_batching.as_ref().map(|batching| pb::ModelDynamicBatching {
            preferred_batch_size: batching.preferred_batch_size.into(),
            max_queue_delay_microseconds: batching.max_queue_delay_microseconds,
        }),
        backend: of.backend.to_owned(),
    }
}
