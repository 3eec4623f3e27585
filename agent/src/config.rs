//! The agent's configuration: read once, checked once, typed from there on.
//!
//! A person wrote the file, so every error names file, line and column, and the mend. An unknown
//! key is an error: a misspelt one that is silently ignored is found on a roof, a year later.
//! Relative paths are relative to the file.

mod check;
mod file;
mod gateway;
mod hold;
mod serve;
mod telemetry;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleetway_engine::Require;
use fleetway_link::TlsFiles;
use fleetway_link::{BrokerUrl, EnrollUrl};
use fleetway_protocol::hold::Hold;
use fleetway_protocol::ids::{DeviceId, HardwareClass, ModelName};
use fleetway_protocol::limits::WINDOW_CHUNKS_MAX;
use fleetway_protocol::topics::{ROOT_DEFAULT, check_root};
use toml::Spanned;

pub use check::Check;

use crate::gateway::Downstream;
use crate::serving::listen::Endpoints;
use crate::serving::settings::Settings;

/// Largest configuration file: it is a page of text.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// What MQTT and rumqttc take, seconds.
const KEEP_ALIVE_S: RangeInclusive<u64> = 5..=65_535;
/// Below a second reports would cost more than what they report; after an hour nobody looks.
const TELEMETRY_S: RangeInclusive<u64> = 1..=3_600;

/// Everything an agent is told by its file.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this device is.
    pub device: DeviceId,
    /// What hardware it is, if releases shall be told apart by it.
    pub hardware: Option<HardwareClass>,
    /// What the agent keeps lives here.
    pub data_dir: PathBuf,
    /// Read-only factory models, if the device carries some.
    pub factory_dir: Option<PathBuf>,
    /// Where orders come from.
    pub broker: Broker,
    /// Where the certificate is renewed, if anywhere.
    pub enroll: Option<EnrollUrl>,
    /// The root of the release authority, its bytes; whom else the device believes follows.
    pub trust_root: Vec<u8>,
    /// Where applications ask.
    pub serve: Serve,
    /// How the link behaves.
    pub link: Link,
    /// What telemetry may cost.
    pub telemetry: crate::telemetry::Settings,
    /// What the owner has every update wait for.
    pub hold: Hold,
    /// How well a self-test must be fenced in before it may look at a model.
    pub sandbox: Require,
    /// Checks of this box's own, by model.
    pub checks: BTreeMap<ModelName, Check>,
    /// Devices that hang on this one.
    pub gateway: Vec<Downstream>,
}

/// Where orders come from.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Its address.
    pub url: BrokerUrl,
    /// Certificates; always there for `mqtts://`.
    pub tls: Option<TlsFiles>,
    /// Root of all topics, ends in `/`.
    pub root: String,
}

/// Where applications ask.
#[derive(Clone, Debug)]
pub struct Serve {
    /// Sockets.
    pub endpoints: Endpoints,
    /// Inferences at once.
    pub concurrent_max: usize,
    /// Threads that share one inference of a large compiled network.
    pub threads: NonZeroUsize,
    /// How much of it each model may take.
    pub models: Settings,
}

/// How the link behaves.
#[derive(Clone, Debug)]
pub struct Link {
    /// Chunks in flight at once.
    pub window_chunks: usize,
    /// Most bytes of artifacts per second; `None`: as fast as it goes.
    pub bytes_per_s: Option<NonZeroU32>,
    /// Silence after which the broker is pinged.
    pub keep_alive: Duration,
    /// Time between two telemetry reports.
    pub telemetry: Duration,
    /// Whether its bytes are paid for one by one.
    pub metered: bool,
}

/// Why there is no configuration. Shown as `file:line:column: what is wrong; what to do`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: cannot be read; check --config, or make one with `fleetway-agent join`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no text, or far too long.
    #[error("{path}: is no configuration; it must be TOML of at most {FILE_BYTES_MAX} bytes")]
    NoText {
        /// The file.
        path: PathBuf,
    },
    /// Something in it is wrong.
    #[error("{path}:{line}:{column}: {text}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// What is wrong and how to mend it.
        text: String,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing that is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        use std::io::Read as _;
        let read = |source| ConfigError::Read { path: path.into(), source };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(read)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read)?;
        let text = String::from_utf8(bytes).ok().filter(|t| t.len() as u64 <= FILE_BYTES_MAX);
        let text = text.ok_or_else(|| ConfigError::NoText { path: path.into() })?;
        Self::check(&text, path)
    }

    /// Checks a text that is, or is going to be, the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing that is wrong.
    pub fn check(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.into(), source };
        let absolute = std::path::absolute(path).map_err(read)?;
        Self::parse(text, absolute.parent().unwrap_or(Path::new("/"))).map_err(|fault| {
            let (line, column) = position(text, fault.at.start);
            ConfigError::Value { path: path.into(), line, column, text: fault.text }
        })
    }

    /// Checks a file's text; relative paths are relative to `dir`.
    fn parse(text: &str, dir: &Path) -> Result<Self, Fault> {
        let file: file::File = toml::from_str(text).map_err(|error| Fault {
            at: error.span().unwrap_or_default(),
            text: error.message().to_owned(),
        })?;
        let device = DeviceId::new(file.device.get_ref())
            .map_err(|error| Fault::at(&file.device, format!("device id {error}")))?;
        if file.data_dir.get_ref().as_os_str().is_empty() {
            return Err(Fault::at(&file.data_dir, "data_dir is empty; name a directory"));
        }
        let data_dir = dir.join(file.data_dir.get_ref());
        Ok(Self {
            hardware: file.hardware.as_ref().map(check_hardware).transpose()?,
            factory_dir: file.factory_dir.map(|path| dir.join(path)),
            broker: check_broker(&file.broker, dir)?,
            enroll: file.enroll.as_ref().map(check_enroll).transpose()?,
            trust_root: check_root_file(&file.trust.root, dir)?,
            serve: serve::check(file.serve, dir, &data_dir)?,
            link: check_link(&file.link)?,
            telemetry: telemetry::check(&file.telemetry)?,
            hold: hold::check(&file.hold)?,
            sandbox: check_sandbox(&file.sandbox)?,
            checks: check::check(file.check)?,
            gateway: gateway::check(&file.gateway.device, &device, dir)?,
            device,
            data_dir,
        })
    }
}

/// What is wrong, and where in the text.
#[derive(Debug)]
struct Fault {
    at: Range<usize>,
    text: String,
}

impl Fault {
    fn at<T>(value: &Spanned<T>, text: impl fmt::Display) -> Self {
        Self { at: value.span(), text: text.to_string() }
    }
}

fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

fn check_broker(broker: &Spanned<file::Broker>, dir: &Path) -> Result<Broker, Fault> {
    let file::Broker { url, ca, cert, key, root } = broker.get_ref();
    let place = url;
    let url: BrokerUrl = url.get_ref().parse().map_err(|error| Fault::at(place, error))?;
    let tls = match (ca, cert, key) {
        (Some(ca), Some(cert), Some(key)) => {
            Some(TlsFiles { ca: dir.join(ca), cert: dir.join(cert), key: dir.join(key) })
        }
        (None, None, None) if !url.is_tls() => None,
        _ => {
            let text = "ca, cert and key belong together, and mqtts:// needs them; \
                        `fleetway device add` writes all three";
            return Err(Fault::at(place, text));
        }
    };
    if let Some(root) = root {
        check_root(root.get_ref()).map_err(|error| Fault::at(root, error))?;
    }
    let root = root.as_ref().map_or(ROOT_DEFAULT, |root| root.get_ref());
    Ok(Broker { url, tls, root: root.to_owned() })
}

fn check_hardware(class: &Spanned<String>) -> Result<HardwareClass, Fault> {
    let wrong = |error| Fault::at(class, format_args!("hardware class {error}"));
    HardwareClass::new(class.get_ref()).map_err(wrong)
}

fn check_enroll(enroll: &file::Enroll) -> Result<EnrollUrl, Fault> {
    enroll.url.get_ref().parse().map_err(|error| Fault::at(&enroll.url, error))
}

/// The root of the release authority, which is where trust begins: checked before it is used.
fn check_root_file(root: &Spanned<PathBuf>, dir: &Path) -> Result<Vec<u8>, Fault> {
    use std::io::Read as _;
    let path = dir.join(root.get_ref());
    let mend = "copy it from the controller's trust directory (metadata/<N>.root.json)";
    let wrong = |what: &dyn fmt::Display| {
        Fault::at(root, format_args!("{}: {what}; {mend}", path.display()))
    };
    let bytes_max = fleetway_tuf::limits::Limits::DEVICE.root_bytes_max as u64;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(&path).map_err(|error| wrong(&error))?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
    fleetway_tuf::client::check_root(&bytes).map_err(|error| wrong(&error))?;
    Ok(bytes)
}

fn check_link(link: &file::Link) -> Result<Link, Fault> {
    let seconds = |value: &Option<Spanned<u64>>, default, key, range| match value {
        Some(value) => check_range(value, key, range).map(Duration::from_secs),
        None => Ok(Duration::from_secs(default)),
    };
    Ok(Link {
        window_chunks: match &link.window_chunks {
            Some(n) => check_range(n, "window_chunks", 1..=WINDOW_CHUNKS_MAX)?,
            None => 4,
        },
        metered: link.metered,
        bytes_per_s: link.bytes_per_s.and_then(NonZeroU32::new),
        keep_alive: seconds(&link.keep_alive_s, 60, "keep_alive_s", KEEP_ALIVE_S)?,
        telemetry: seconds(&link.telemetry_s, 10, "telemetry_s", TELEMETRY_S)?,
    })
}

fn check_sandbox(sandbox: &file::Sandbox) -> Result<Require, Fault> {
    let Some(text) = &sandbox.require else { return Ok(Require::default()) };
    text.get_ref().parse().map_err(|error| Fault::at(text, format_args!("sandbox.require {error}")))
}

fn check_range<T: Copy + PartialOrd + fmt::Display>(
    value: &Spanned<T>,
    key: &str,
    range: RangeInclusive<T>,
) -> Result<T, Fault> {
    let got = *value.get_ref();
    if range.contains(&got) {
        return Ok(got);
    }
    let (low, high) = range.into_inner();
    Err(Fault::at(value, format_args!("{key} is {got}; use {low} to {high}")))
}
