//! The configuration file as it is written: keys, defaults, nothing checked beyond TOML's types.
//!
//! Every value that is checked later keeps its place in the file, so that the error can name it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) device: Spanned<String>,
    pub(super) hardware: Option<Spanned<String>>,
    pub(super) data_dir: Spanned<PathBuf>,
    pub(super) factory_dir: Option<PathBuf>,
    pub(super) broker: Spanned<Broker>,
    pub(super) enroll: Option<Enroll>,
    pub(super) trust: Trust,
    #[serde(default)]
    pub(super) serve: Serve,
    #[serde(default)]
    pub(super) link: Link,
    #[serde(default)]
    pub(super) telemetry: Telemetry,
    #[serde(default)]
    pub(super) hold: super::hold::HoldFile,
    #[serde(default)]
    pub(super) sandbox: Sandbox,
    #[serde(default)]
    pub(super) check: BTreeMap<Spanned<String>, Check>,
    #[serde(default)]
    pub(super) gateway: Gateway,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    #[serde(default)]
    pub(super) device: Vec<Spanned<DownstreamFile>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DownstreamFile {
    pub(super) id: Spanned<String>,
    pub(super) serial: Option<PathBuf>,
    pub(super) baud: Option<Spanned<u32>>,
    pub(super) socket: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Broker {
    pub(super) url: Spanned<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) root: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Enroll {
    pub(super) url: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trust {
    pub(super) root: Spanned<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Serve {
    pub(super) tcp: Option<Spanned<String>>,
    pub(super) unix: Option<PathBuf>,
    pub(super) unix_mode: Option<Spanned<String>>,
    pub(super) unix_group: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) allow_remote: bool,
    pub(super) concurrent_max: Option<Spanned<usize>>,
    pub(super) threads: Option<Spanned<usize>>,
    #[serde(default)]
    pub(super) grpc: Grpc,
    #[serde(default)]
    pub(super) models: BTreeMap<Spanned<String>, Model>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grpc {
    pub(super) tcp: Option<Spanned<String>>,
    pub(super) unix: Option<PathBuf>,
    pub(super) unix_mode: Option<Spanned<String>>,
    pub(super) unix_group: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub(super) concurrent_max: Option<Spanned<usize>>,
    pub(super) batch_max: Option<Spanned<usize>>,
    pub(super) batch_wait_us: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    pub(super) window_chunks: Option<Spanned<usize>>,
    pub(super) bytes_per_s: Option<u32>,
    pub(super) keep_alive_s: Option<Spanned<u64>>,
    pub(super) telemetry_s: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) metered: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Telemetry {
    pub(super) spool_bytes: Option<Spanned<u64>>,
    pub(super) bytes_per_day: Option<Spanned<u64>>,
    pub(super) backfill_per_s: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sandbox {
    pub(super) require: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    pub(super) command: Spanned<Vec<String>>,
    pub(super) timeout_s: Option<Spanned<u64>>,
    pub(super) decides: Option<Spanned<String>>,
}
