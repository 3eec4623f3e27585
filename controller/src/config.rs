//! `fleetway.toml`: where things are, never what to roll out.
//!
//! Unknown keys are errors, and every error names the line: a misspelt key that is
//! silently ignored is the kind of mistake that is found in production. Values that have
//! a grammar (addresses, URLs, the topic root) are checked while reading, so that their
//! errors carry the line as well. Everything an operator *does* goes through the API and
//! the store instead.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fleetway_controller::catalog::fit::Classes;
use fleetway_controller::mirror::home_assistant::HomeAssistant;
use fleetway_link::{BrokerUrl, EnrollUrl};
use fleetway_protocol::topics;
use serde::{Deserialize, Deserializer, de};

use super::api::failure::{Failure, Kind};

/// Name of the file in the data directory.
pub(crate) const FILE: &str = "fleetway.toml";

/// Connections to the embedded broker unless configured otherwise. Past some thousand
/// devices an external broker takes its place.
const CLIENTS_MAX: usize = 4096;
/// Chunks on their way to the broker at once, in bytes. Sixteen chunks of the largest size:
/// enough to fill a fast link, little enough that an order never waits behind more.
const BLOB_BYTES_IN_FLIGHT: usize = 1024 * 1024;

/// A device may be off for some weeks and still come back by its certificate; a stolen one
/// is of use for no longer than this.
const CERTIFICATE_LIFE_S: u64 = 30 * 24 * 3600;
/// Shorter, and devices do nothing but renew. The server's own clock is not that exact.
const CERTIFICATE_LIFE_S_MIN: u64 = 10;
/// Longer is no short-lived certificate.
const CERTIFICATE_LIFE_S_MAX: u64 = 3650 * 24 * 3600;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Where the embedded broker listens for devices (mutual TLS).
    pub(crate) listen: SocketAddr,
    /// Host names and addresses in the broker's certificate: what devices connect to.
    pub(crate) names: Vec<String>,
    /// An external broker. The embedded one does not start then.
    #[serde(deserialize_with = "broker_url")]
    pub(crate) broker: Option<BrokerUrl>,
    /// The broker's URL as devices see it, where that differs (NAT, a proxy).
    #[serde(deserialize_with = "broker_url")]
    pub(crate) advertise: Option<BrokerUrl>,
    /// Root of all topics.
    #[serde(deserialize_with = "root")]
    pub(crate) root: String,
    /// Most connections to the embedded broker.
    pub(crate) clients_max: usize,
    /// Who may sign releases.
    pub(crate) trust: Trust,
    /// How model bytes leave.
    pub(crate) blobs: Blobs,
    /// How devices get their certificates.
    pub(crate) enroll: Enroll,
    /// The external broker is a mosquitto with its dynamic-security plugin, configured by
    /// `fleetway broker config mosquitto --dynamic-security`.
    pub(crate) dynamic_security: bool,
    /// Whether what devices say is published for dashboards, as flat JSON below `j/`.
    pub(crate) mirror: bool,
    /// The API over the network.
    pub(crate) api: Api,
    /// Who else is told what the mirror says.
    pub(crate) bridge: Bridge,
    /// What classes of microcontrollers have room for.
    pub(crate) hardware: Classes,
}

/// Section `[trust]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Trust {
    /// Files with public keys of the release authority, below the data directory.
    pub(crate) release_keys: Vec<PathBuf>,
    /// How many of them must have signed a release.
    pub(crate) release_threshold: u8,
}

/// Section `[enroll]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Enroll {
    /// Where devices come for certificates. `None`: the next port after `listen`.
    pub(crate) listen: Option<SocketAddr>,
    /// Its URL as devices see it, where that differs.
    #[serde(deserialize_with = "enroll_url")]
    pub(crate) advertise: Option<EnrollUrl>,
    /// Seconds that a device's certificate is good for.
    pub(crate) certificate_life_s: u64,
}

/// Section `[api]`. Without it the API is on its unix socket alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Api {
    /// Where it listens for operators. Plain HTTP on a loopback address, TLS everywhere else.
    pub(crate) listen: Option<SocketAddr>,
    /// TLS with a certificate of the fleet's own CA, for `names`.
    pub(crate) tls: bool,
    /// TLS with this certificate and what leads to its root: PEM, below the data directory.
    pub(crate) certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub(crate) key: Option<PathBuf>,
}

impl Api {
    /// What is wrong with it, and the mend.
    fn wrong(&self) -> Option<(&'static str, &'static str)> {
        let tls = self.tls || self.certificate.is_some();
        if self.certificate.is_some() != self.key.is_some() {
            return Some((
                "`[api]` has a certificate without a key, or the other way round",
                "name both `certificate` and `key`",
            ));
        }
        match self.listen {
            None if tls => {
                Some(("`[api]` has TLS and nowhere to listen", "add `listen = \"0.0.0.0:8885\"`"))
            }
            Some(listen) if !listen.ip().is_loopback() && !tls => Some((
                "`api.listen` is not a loopback address, and there is no TLS: tokens would cross the network in the open",
                "name `certificate` and `key`, or set `tls = true` for a certificate of the fleet's own CA",
            )),
            _ => None,
        }
    }
}

/// Section `[bridge]`: nobody, unless it says otherwise.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bridge {
    /// Home Assistant. The section switches it on.
    pub(crate) home_assistant: Option<BridgeHomeAssistant>,
}

/// Section `[bridge.home_assistant]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BridgeHomeAssistant {
    /// URL of the web page, for a link on each device.
    pub(crate) page: Option<String>,
}

impl Bridge {
    /// What is wrong with it, and the mend.
    fn wrong(&self, mirror: bool) -> Option<(&'static str, &'static str)> {
        let home_assistant = self.home_assistant.as_ref()?;
        let is_url = |page: &str| page.starts_with("http://") || page.starts_with("https://");
        if !mirror {
            return Some((
                "`[bridge.home_assistant]` tells of the mirror, which is off",
                "take `mirror = false` away, or the section",
            ));
        }
        home_assistant.page.as_deref().is_some_and(|page| !is_url(page)).then_some((
            "`bridge.home_assistant.page` is no http or https URL",
            "write it as `page = \"https://fleet.example:8885\"`",
        ))
    }
}

/// Section `[blobs]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Blobs {
    /// Bytes of chunks that wait for the broker at once, all devices together.
    pub(crate) bytes_in_flight_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8883)),
            names: vec!["localhost".into()],
            broker: None,
            advertise: None,
            root: topics::ROOT_DEFAULT.into(),
            clients_max: CLIENTS_MAX,
            trust: Trust::default(),
            blobs: Blobs::default(),
            enroll: Enroll::default(),
            dynamic_security: false,
            mirror: true,
            api: Api::default(),
            bridge: Bridge::default(),
            hardware: Classes::new(),
        }
    }
}

impl Default for Enroll {
    fn default() -> Self {
        Self { listen: None, advertise: None, certificate_life_s: CERTIFICATE_LIFE_S }
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self { release_keys: vec!["keys/release.key.pub".into()], release_threshold: 1 }
    }
}

impl Default for Blobs {
    fn default() -> Self {
        Self { bytes_in_flight_max: BLOB_BYTES_IN_FLIGHT }
    }
}

fn enroll_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<EnrollUrl>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(de::Error::custom)
}

fn broker_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BrokerUrl>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(de::Error::custom)
}

fn root<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    topics::check_root(&text).map_err(de::Error::custom)?;
    Ok(text)
}

impl Config {
    /// Reads the configuration of a data directory.
    pub(crate) fn load(data: &Path) -> Result<Self, Failure> {
        let path = data.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::not_found(format!(
                "no {FILE} in {}",
                data.display()
            ))
            .mend(format!(
                "make one with `fleetway --data {} init`, or name the right directory with --data",
                data.display()
            )),
            _ => Failure::file("read", &path, &error),
        })?;
        Self::parse(&text, &path)
    }

    /// Reads the text of a configuration; `path` is for the errors.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let place = place_of(text, error.span().map_or(0, |span| span.start));
            Failure::usage(format!("{}:{place}: {}", path.display(), one_line(error.message())))
                .mend("correct it there; `fleetway init` in an empty directory writes an example")
        })?;
        config.check(path)?;
        Ok(config)
    }

    /// What one value alone cannot say.
    fn check(&self, path: &Path) -> Result<(), Failure> {
        let wrong = |what: &str, mend: &str| {
            Err(Failure::usage(format!("{}: {what}", path.display())).mend(mend))
        };
        if self.names.is_empty() {
            return wrong("`names` is empty", "name the host that devices connect to");
        }
        if self.clients_max == 0 {
            return wrong("`clients_max` is 0", "allow at least one connection");
        }
        if self.trust.release_keys.is_empty() || self.trust.release_threshold == 0 {
            return wrong(
                "`[trust]` lets nobody sign, or anybody",
                "name at least one release key and a threshold of at least 1",
            );
        }
        let life_s = CERTIFICATE_LIFE_S_MIN..=CERTIFICATE_LIFE_S_MAX;
        if !life_s.contains(&self.enroll.certificate_life_s) {
            return wrong(
                "`enroll.certificate_life_s` is out of bounds",
                "use 10 seconds to ten years; 2592000 is 30 days",
            );
        }
        if self.dynamic_security && self.broker.is_none() {
            return wrong(
                "`dynamic_security` is of an external broker, and there is none",
                "name it with `broker`, or take the line away: the embedded one needs no plugin",
            );
        }
        if let Some((what, mend)) = self.api.wrong().or_else(|| self.bridge.wrong(self.mirror)) {
            return wrong(what, mend);
        }
        if self.blobs.bytes_in_flight_max < 2 * fleetway_protocol::report::BLOCK_BYTES_MAX {
            return wrong(
                "`blobs.bytes_in_flight_max` is below two chunks",
                "use at least 131072 bytes",
            );
        }
        Ok(())
    }

    /// The classes of microcontrollers that a data directory knows. One without a configuration (a catalog
    /// beside an offline key) knows none.
    pub(crate) fn classes(data: &Path) -> Result<Classes, Failure> {
        match Self::load(data) {
            Ok(config) => Ok(config.hardware),
            Err(failure) if failure.code == Kind::NotFound => Ok(Classes::new()),
            Err(failure) => Err(failure),
        }
    }

    /// Where devices come for certificates.
    pub(crate) fn enroll_listen(&self) -> SocketAddr {
        self.enroll.listen.unwrap_or_else(|| {
            let port = match self.listen.port() {
                0 => 0,
                port => port.checked_add(1).unwrap_or(EnrollUrl::PORT),
            };
            SocketAddr::new(self.listen.ip(), port)
        })
    }

    /// The bridge to Home Assistant, if there is one.
    pub(crate) fn home_assistant(&self) -> Option<HomeAssistant> {
        let BridgeHomeAssistant { page } = self.bridge.home_assistant.clone()?;
        let page = page.map(|page| page.trim_end_matches('/').to_owned());
        Some(HomeAssistant { root: self.root.clone(), page })
    }

    /// The text of a new configuration, with what can be changed explained in place.
    pub(crate) fn template(
        listen: &SocketAddr,
        enroll: Option<&SocketAddr>,
        api: Option<&SocketAddr>,
        names: &[String],
        broker: Option<&str>,
    ) -> String {
        let enroll = match enroll {
            Some(addr) => format!("listen = {:?}", addr.to_string()),
            None => "# listen = \"0.0.0.0:8884\"".into(),
        };
        let api = match api {
            // Where it needs TLS, it has it from the beginning.
            Some(addr) if !addr.ip().is_loopback() => {
                format!("[api]\nlisten = \"{addr}\"\ntls = true")
            }
            Some(addr) => format!("[api]\nlisten = \"{addr}\""),
            None => "# [api]\n# listen = \"127.0.0.1:8885\"".into(),
        };
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        let broker = match broker {
            Some(url) => format!("broker = {url:?}"),
            None => "# broker = \"mqtts://broker.example:8883\"".into(),
        };
        format!(
            "# Fleetway's controller. Read at the start of `fleetway serve`.\n\n\
             # Where the embedded broker listens for devices (mutual TLS).\n\
             listen = \"{listen}\"\n\
             # What devices connect to; goes into the broker's certificate.\n\
             names = [{names}]\n\n\
             # An external broker instead of the embedded one.\n\
             {broker}\n\
             # The URL that devices get, where it differs (NAT, a proxy).\n\
             # advertise = \"mqtts://fleet.example:8883\"\n\
             # It is a mosquitto with `fleetway broker config mosquitto --dynamic-security`.\n\
             # dynamic_security = true\n\
             # Root of all topics.\n\
             # root = \"{root}\"\n\
             # Flat JSON for dashboards below j/ (docs/telemetry).\n\
             # mirror = true\n\n\
             [trust]\n\
             # Public keys of the release authority, and how many of them must have signed.\n\
             release_keys = [\"keys/release.key.pub\"]\n\
             release_threshold = 1\n\n\
             [enroll]\n\
             # Where devices come for their certificates; else the next port after the above.\n\
             {enroll}\n\
             # The URL that devices get, where it differs (NAT, a proxy).\n\
             # advertise = \"https://fleet.example:8884\"\n\
             # Seconds that a certificate is good for; devices renew at two thirds of it.\n\
             # certificate_life_s = {CERTIFICATE_LIFE_S}\n\n\
             # The API for tokens (`fleetway token create`) and the web page (`fleetway web`); else\n\
             # the API is on DIR/api.sock alone, and there is no page.\n\
             {api}\n\
             # Anywhere but on a loopback address it wants TLS: of the fleet's own CA, or yours.\n\
             # tls = true\n\
             # certificate = \"tls/api.pem\"\n\
             # key = \"tls/api.key\"\n\n\
             # Home Assistant finds the devices by itself (docs/dashboards/home-assistant.md).\n\
             # [bridge.home_assistant]\n\
             # page = \"https://fleet.example:8885\"\n\n\
             # Room on a class of microcontrollers: releases for it are checked before they are signed\n\
             # (docs/gateway.md; a board's figures are in firmware/boards/*/hardware.toml).\n\
             # [hardware.mps2-an386]\n\
             # model_bytes = 524288\n\
             # golden_bytes = 65536\n\
             # arena_bytes = 131072\n\
             # input_values = 27648\n\
             # output_values = 256\n\
             # work = 4_000_000_000\n",
            names = names.join(", "),
            root = topics::ROOT_DEFAULT,
        )
    }
}

/// Where byte `offset` of a text is: `line:column`, both from 1; columns count characters.
pub(crate) fn place_of(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{line}:{column}")
}

pub(crate) fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
