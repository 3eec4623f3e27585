//! Messages of the protocol, field by field as in `agent/proto/`; `proto_tests` compares them.
//! Only what is ever sent or asked for here is written out. An inference request is read in place
//! by [`wire`](super::wire) instead.

use std::collections::BTreeMap;

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(super) struct ServerLiveResponse {
    #[prost(bool, tag = "1")]
    pub(super) live: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ServerReadyResponse {
    #[prost(bool, tag = "1")]
    pub(super) ready: bool,
}

/// And every other request that names a model and nothing more.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelReadyRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelReadyResponse {
    #[prost(bool, tag = "1")]
    pub(super) ready: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ServerMetadataResponse {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(string, repeated, tag = "3")]
    pub(super) extensions: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelMetadataResponse {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) versions: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) platform: String,
    #[prost(message, repeated, tag = "4")]
    pub(super) inputs: Vec<TensorMetadata>,
    #[prost(message, repeated, tag = "5")]
    pub(super) outputs: Vec<TensorMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) datatype: String,
    #[prost(int64, repeated, tag = "3")]
    pub(super) shape: Vec<i64>,
}

/// `raw_output_contents` (field 6) is written behind it, without a copy of the tensors.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelInferResponse {
    #[prost(string, tag = "1")]
    pub(super) model_name: String,
    #[prost(string, tag = "2")]
    pub(super) model_version: String,
    #[prost(string, tag = "3")]
    pub(super) id: String,
    #[prost(btree_map = "string, message", tag = "4")]
    pub(super) parameters: BTreeMap<String, InferParameter>,
    #[prost(message, repeated, tag = "5")]
    pub(super) outputs: Vec<InferOutputTensor>,
}

/// The field of [`ModelInferResponse`] that has the tensors' bytes.
pub(super) const RAW_OUTPUT_CONTENTS: u32 = 6;

#[derive(Clone, PartialEq, Message)]
pub(super) struct InferOutputTensor {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) datatype: String,
    #[prost(int64, repeated, tag = "3")]
    pub(super) shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InferParameter {
    #[prost(oneof = "Parameter", tags = "3")]
    pub(super) parameter_choice: Option<Parameter>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Parameter {
    #[prost(string, tag = "3")]
    StringParam(String),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelStatisticsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) model_stats: Vec<ModelStatistics>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelStatistics {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(uint64, tag = "3")]
    pub(super) last_inference: u64,
    #[prost(uint64, tag = "4")]
    pub(super) inference_count: u64,
    #[prost(uint64, tag = "5")]
    pub(super) execution_count: u64,
    #[prost(message, optional, tag = "6")]
    pub(super) inference_stats: Option<InferStatistics>,
    #[prost(message, repeated, tag = "7")]
    pub(super) batch_stats: Vec<InferBatchStatistics>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InferStatistics {
    #[prost(message, optional, tag = "1")]
    pub(super) success: Option<StatisticDuration>,
    #[prost(message, optional, tag = "2")]
    pub(super) fail: Option<StatisticDuration>,
    #[prost(message, optional, tag = "3")]
    pub(super) queue: Option<StatisticDuration>,
    #[prost(message, optional, tag = "4")]
    pub(super) compute_input: Option<StatisticDuration>,
    #[prost(message, optional, tag = "5")]
    pub(super) compute_infer: Option<StatisticDuration>,
    #[prost(message, optional, tag = "6")]
    pub(super) compute_output: Option<StatisticDuration>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InferBatchStatistics {
    #[prost(uint64, tag = "1")]
    pub(super) batch_size: u64,
    #[prost(message, optional, tag = "3")]
    pub(super) compute_infer: Option<StatisticDuration>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatisticDuration {
    #[prost(uint64, tag = "1")]
    pub(super) count: u64,
    #[prost(uint64, tag = "2")]
    pub(super) ns: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RepositoryIndexResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) models: Vec<ModelIndex>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelIndex {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(string, tag = "3")]
    pub(super) state: String,
    #[prost(string, tag = "4")]
    pub(super) reason: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelConfigResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) config: Option<ModelConfig>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelConfig {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) platform: String,
    #[prost(int32, tag = "4")]
    pub(super) max_batch_size: i32,
    #[prost(message, repeated, tag = "5")]
    pub(super) input: Vec<ModelInput>,
    #[prost(message, repeated, tag = "6")]
    pub(super) output: Vec<ModelOutput>,
    #[prost(message, repeated, tag = "7")]
    pub(super) instance_group: Vec<ModelInstanceGroup>,
    #[prost(message, optional, tag = "11")]
    pub(super) dynamic_batching: Option<ModelDynamicBatching>,
    #[prost(string, tag = "17")]
    pub(super) backend: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelInput {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(int64, repeated, tag = "4")]
    pub(super) dims: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelOutput {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(int64, repeated, tag = "3")]
    pub(super) dims: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelInstanceGroup {
    #[prost(int32, tag = "2")]
    pub(super) count: i32,
    #[prost(int32, tag = "4")]
    pub(super) kind: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelDynamicBatching {
    #[prost(int32, repeated, tag = "1")]
    pub(super) preferred_batch_size: Vec<i32>,
    #[prost(uint64, tag = "2")]
    pub(super) max_queue_delay_microseconds: u64,
}
