//! The configuration of a model as Triton's clients ask for it: what follows from the release and
//! from this device's bounds. Nothing of it can be set here.

use fleetway_engine::{DType, TensorSpec};
use serde::Serialize;

use super::{dims, platform};
use crate::serving::live::Loaded;
use crate::serving::settings::ModelSettings;

/// `GET /v2/models/{m}/config`.
#[derive(Debug, Serialize)]
pub struct ModelConfig<'a> {
    pub(crate) name: &'a str,
    pub(crate) platform: &'static str,
    pub(crate) backend: &'static str,
    /// 0: shapes are whole, the batch axis stands in them.
    pub(crate) max_batch_size: i32,
    pub(crate) input: Vec<TensorConfig<'a>>,
    pub(crate) output: Vec<TensorConfig<'a>>,
    pub(crate) instance_group: [InstanceGroup; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dynamic_batching: Option<DynamicBatching>,
}

/// One input or output.
#[derive(Debug, Serialize)]
pub struct TensorConfig<'a> {
    pub(crate) name: &'a str,
    #[serde(serialize_with = "type_name")]
    pub(crate) data_type: DType,
    pub(crate) dims: Vec<i64>,
}

/// How many run at once.
#[derive(Debug, Serialize)]
pub struct InstanceGroup {
    pub(crate) count: i32,
    pub(crate) kind: &'static str,
}

/// How requests are put together.
#[derive(Debug, Serialize)]
pub struct DynamicBatching {
    pub(crate) preferred_batch_size: [i32; 1],
    pub(crate) max_queue_delay_microseconds: u64,
}

fn type_name<S: serde::Serializer>(dtype: &DType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("TYPE_{}", super::datatype(*dtype)))
}

/// The protocol's number of a type (`model_config.proto`, `DataType`).
pub(crate) fn type_number(dtype: DType) -> i32 {
    match dtype {
        DType::Bool => 1,
        DType::U8 => 2,
        DType::U16 => 3,
        DType::I8 => 6,
        DType::I16 => 7,
        DType::I32 => 8,
        DType::I64 => 9,
        DType::F32 => 11,
        DType::F64 => 12,
    }
}

impl<'a> ModelConfig<'a> {
    /// Of what is loaded.
    pub fn of(loaded: &'a Loaded, settings: &ModelSettings) -> Self {
        let rows_max = loaded.engine.rows_max();
        let batch = rows_max.min(settings.batch_max);
        let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let delay = u64::try_from(settings.batch_wait.as_micros()).unwrap_or(u64::MAX);
        Self {
            name: loaded.model.as_str(),
            platform: platform(loaded),
            backend: loaded.engine.kind(),
            max_batch_size: 0,
            input: tensors(loaded.engine.inputs(), rows_max),
            output: tensors(loaded.engine.outputs(), rows_max),
            instance_group: [InstanceGroup {
                count: number(settings.concurrent_max),
                kind: "KIND_CPU",
            }],
            dynamic_batching: (batch > 1).then(|| DynamicBatching {
                preferred_batch_size: [number(batch)],
                max_queue_delay_microseconds: delay,
            }),
        }
    }
}

fn tensors(specs: &[TensorSpec], rows_max: usize) -> Vec<TensorConfig<'_>> {
    let one = |spec: &'_ TensorSpec| (spec.dtype, dims(&spec.shape, rows_max));
    specs
        .iter()
        .map(|spec| {
            let (data_type, dims) = one(spec);
            TensorConfig { name: &spec.name, data_type, dims }
        })
        .collect()
}
