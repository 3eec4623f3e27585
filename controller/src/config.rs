//! `fleetway.toml`: where things are, never what to roll out.
//!
//! Unknown keys are errors, and every error names the line: a misspelt key that is
//! silently ignored is the kind of mistake that is found in production. Values that have
//! a grammar (addresses, URLs, the topic root) are checked while reading, so that their
//! errors carry the line as well. Everything an operator *does* goes through the API and
//! the store instead.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fleetway_link::BrokerUrl;
use fleetway_protocol::topics;
use serde::{Deserialize, Deserializer, de};

use crate::api::failure::Failure;

/// Name of the file in the data directory.
pub(crate) const FILE: &str = "fleetway.toml";

/// Connections to the embedded broker unless configured otherwise. Past some thousand
/// devices an external broker takes its place.
const CLIENTS_MAX: usize = 4096;
/// Chunks on their way to the broker at once, in bytes. Sixteen chunks of the largest size:
/// enough to fill a fast link, little enough that an order never waits behind more.
const BLOB_BYTES_IN_FLIGHT: usize = 1024 * 1024;

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
        }
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
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            Failure::usage(format!("{}:{line}: {}", path.display(), one_line(error.message())))
                .mend(format!(
                    "correct line {line}; `fleetway init` in an empty directory writes an example"
                ))
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
        if self.blobs.bytes_in_flight_max < 2 * fleetway_protocol::report::BLOCK_BYTES_MAX {
            return wrong(
                "`blobs.bytes_in_flight_max` is below two chunks",
                "use at least 131072 bytes",
            );
        }
        Ok(())
    }

    /// The text of a new configuration, with what can be changed explained in place.
    pub(crate) fn template(listen: &SocketAddr, names: &[String], broker: Option<&str>) -> String {
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
             # Root of all topics.\n\
             # root = \"{root}\"\n\n\
             [trust]\n\
             # Public keys of the release authority, and how many of them must have signed.\n\
             release_keys = [\"keys/release.key.pub\"]\n\
             release_threshold = 1\n",
            names = names.join(", "),
            root = topics::ROOT_DEFAULT,
        )
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let failure = Config::parse(text, Path::new("f.toml")).expect_err(text);
        assert!(failure.message.starts_with(expected), "{:?} for {text:?}", failure.message);
        assert!(failure.mend.is_some(), "{text:?}");
    }

    #[test]
    fn errors_name_the_line() {
        check("listen = \"127.0.0.1:1\"\nlisen = 1\n", "f.toml:2: unknown field `lisen`");
        check("\n\n[trust]\nkeys = []\n", "f.toml:4: unknown field `keys`");
        check("listen = \"here\"\n", "f.toml:1: invalid socket address");
        check("\nbroker = \"broker:1\"\n", "f.toml:2: \"broker:1\" is no broker URL");
        check("\n\nroot = \"/x\"\n", "f.toml:3: a topic root ends in '/'");
        check("clients_max = \"many\"\n", "f.toml:1: invalid type");
        check("names = [\n", "f.toml:");
        check("names = []\n", "f.toml: `names` is empty");
        check("[trust]\nrelease_threshold = 0\n", "f.toml: `[trust]`");
    }

    #[test]
    fn what_init_writes_reads_back() {
        let listen: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let names = ["a.example".to_owned(), "10.0.0.1".to_owned()];
        let text = Config::template(&listen, &names, Some("mqtts://b:8883"));
        let config = Config::parse(&text, Path::new("f.toml")).unwrap();
        assert_eq!((config.listen, config.names), (listen, names.to_vec()));
        assert_eq!(config.broker.unwrap().to_string(), "mqtts://b:8883");
        let text = Config::template(&listen, &["x".into()], None);
        assert_eq!(Config::parse(&text, Path::new("f")).unwrap().broker, None);
    }
}
