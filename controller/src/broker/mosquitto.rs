//! The same rules in mosquitto's words, for fleets that outgrow the embedded broker.
//!
//! Writes a `mosquitto.conf` and its ACL file for mosquitto 2.0; nothing is started here.
//! What differs from the embedded broker, on purpose or by need:
//! - mosquitto knows the CN of a certificate and not its OU, see `identity`.
//! - `use_username_as_clientid` makes client id and CN one, so that a device cannot take
//!   over another's session. The controller therefore holds exactly one connection there.
//! - A device may read `b/#`, not chunk by chunk: its ACLs have no patterns for hex digits.
//! - A refused SUBSCRIBE is granted and then delivers nothing: SUBACK proves nothing.

use std::fmt::Write as _;
use std::path::Path;

use fleetway_protocol::ids::DeviceId;
use fleetway_protocol::topics;

use super::identity::{CONTROLLER, Identity};

/// Over this many waiting messages per client mosquitto drops *silently, after PUBACK*.
/// The default of 1000 lost 88 % of a telemetry burst in our measurement.
const MAX_QUEUED_MESSAGES: u32 = 20_000;
/// Bounds the same queue in bytes. QoS 0 is not counted by mosquitto.
const MAX_QUEUED_BYTES: u32 = 32 * 1024 * 1024;
/// Two chunks of 60 KiB; no message of ours is larger, and an unknown one is refused early.
const MESSAGE_SIZE_LIMIT: u32 = 128 * 1024;
/// The default of 20 makes round trips the bound of the controller's fan-out.
const MAX_INFLIGHT: u32 = 100;
/// mosquitto writes its database at SIGTERM and at this interval; kill -9 loses the rest.
/// The broker is a cache here, the controller seeds it again.
const AUTOSAVE_S: u32 = 60;

/// What the two files depend on.
#[derive(Debug, Clone)]
pub struct Mosquitto<'a> {
    /// Port of the TLS listener, on all addresses.
    pub port: u16,
    /// Topic root with its closing slash, e.g. `fleetway/v1/`.
    pub root: &'a str,
    /// The fleet CA's certificate (PEM).
    pub ca_file: &'a Path,
    /// The listener's certificate (PEM).
    pub cert_file: &'a Path,
    /// The listener's key (PEM).
    pub key_file: &'a Path,
    /// Where the ACL file will be.
    pub acl_file: &'a Path,
    /// Directory of the persistent store, writable by mosquitto.
    pub persistence_dir: &'a Path,
    /// Names of the dashboards, as they were issued.
    pub viewers: &'a [DeviceId],
    /// Its dynamic-security plugin, so that a revoked device's session ends (`dynsec`).
    pub plugin: Option<Plugin<'a>>,
}

/// mosquitto's dynamic-security plugin.
#[derive(Debug, Clone, Copy)]
pub struct Plugin<'a> {
    /// The shared object.
    pub file: &'a Path,
    /// Where it keeps its state, writable by mosquitto.
    pub state: &'a Path,
}

/// The two texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// `mosquitto.conf`.
    pub conf: String,
    /// The file at `acl_file`.
    pub acl: String,
}

/// What cannot be written into these files.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A path that mosquitto could not read back: not UTF-8, or with a line break.
    #[error("{what} has a path that a mosquitto configuration cannot hold")]
    Path {
        /// Which file.
        what: &'static str,
    },
    /// A root that is not plain levels, each closed by a slash.
    #[error("topic root {0:?} cannot stand in an ACL: plain levels, each ending in '/', no '%'")]
    Root(String),
}

/// Writes configuration and ACL.
pub fn render(m: &Mosquitto<'_>) -> Result<Rendered, RenderError> {
    check_root(m.root)?;
    Ok(Rendered { conf: conf(m)?, acl: acl(m) })
}

fn conf(m: &Mosquitto<'_>) -> Result<String, RenderError> {
    let ca = text(m.ca_file, "the CA certificate")?;
    let cert = text(m.cert_file, "the server certificate")?;
    let key = text(m.key_file, "the server key")?;
    let acl = text(m.acl_file, "the ACL file")?;
    let store = text(m.persistence_dir, "the store")?;
    let port = m.port;
    let plugin = match m.plugin {
        Some(plugin) => {
            let file = text(plugin.file, "the plugin")?;
            let state = text(plugin.state, "the plugin's state")?;
            format!("plugin {file}\nplugin_opt_config_file {state}\n")
        }
        None => String::new(),
    };
    Ok(format!(
        "# Written by fleetway: changes are lost.
per_listener_settings false
allow_anonymous false
allow_zero_length_clientid false
acl_file {acl}
{plugin}
listener {port}
cafile {ca}
certfile {cert}
keyfile {key}
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
use_username_as_clientid true

set_tcp_nodelay true
max_inflight_messages {MAX_INFLIGHT}
max_queued_messages {MAX_QUEUED_MESSAGES}
max_queued_bytes {MAX_QUEUED_BYTES}
message_size_limit {MESSAGE_SIZE_LIMIT}

persistence true
persistence_location {store}/
autosave_interval {AUTOSAVE_S}
persistent_client_expiration 7d
"
    ))
}

fn acl(m: &Mosquitto<'_>) -> String {
    let root = m.root;
    // Patterns hold for every user, `%u` is the CN. mosquitto itself refuses a CN with
    // `+`, `#` or `/` in it, so nobody can widen a pattern by name.
    let mut acl = format!(
        "# Written by fleetway: changes are lost.
pattern write {root}d/%u/up/#
pattern read {root}d/%u/dn/#
pattern read {root}b/#
pattern read {root}t/#

user {CONTROLLER}
topic readwrite {root}#
"
    );
    for viewer in m.viewers {
        let cn = Identity::Viewer(viewer.clone()).common_name();
        let _ = write!(acl, "\nuser {cn}\ntopic read {root}j/#\n");
    }
    acl
}

fn check_root(root: &str) -> Result<(), RenderError> {
    match topics::check_root(root) {
        Ok(()) if !root.contains('%') => Ok(()),
        _ => Err(RenderError::Root(root.to_owned())),
    }
}

fn text<'a>(path: &'a Path, what: &'static str) -> Result<&'a str, RenderError> {
    path.to_str()
        .filter(|text| !text.is_empty() && !text.contains(['\n', '\r']))
        .ok_or(RenderError::Path { what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example<'a>() -> Mosquitto<'a> {
        Mosquitto {
            port: 8883,
            root: "fleetway/v1/",
            ca_file: Path::new("/etc/fleetway/ca.pem"),
            cert_file: Path::new("/etc/fleetway/broker.pem"),
            key_file: Path::new("/etc/fleetway/broker.key"),
            acl_file: Path::new("/etc/mosquitto/fleetway.acl"),
            persistence_dir: Path::new("/var/lib/mosquitto"),
            viewers: &[],
            plugin: None,
        }
    }

    #[test]
    fn the_plugin_stands_beside_the_rules() {
        let plugin = Plugin { file: Path::new("/lib/d.so"), state: Path::new("/var/d.json") };
        let conf = render(&Mosquitto { plugin: Some(plugin), ..example() }).unwrap().conf;
        for line in ["acl_file /etc/mosquitto/fleetway.acl", "plugin /lib/d.so"] {
            assert!(conf.lines().any(|l| l == line), "{line}\n{conf}");
        }
        let plugin = Plugin { file: Path::new("/a\nb"), ..plugin };
        assert!(render(&Mosquitto { plugin: Some(plugin), ..example() }).is_err());
    }

    #[test]
    fn writes_the_rules() {
        let viewers = [DeviceId::new("wall").unwrap()];
        let Rendered { conf, acl } = render(&Mosquitto { viewers: &viewers, ..example() }).unwrap();
        for line in [
            "allow_anonymous false",
            "listener 8883",
            "require_certificate true",
            "use_identity_as_username true",
            "use_username_as_clientid true",
            "max_queued_messages 20000",
            "max_inflight_messages 100",
            "persistence_location /var/lib/mosquitto/",
        ] {
            assert!(conf.lines().any(|l| l == line), "{line}\n{conf}");
        }
        assert_eq!(
            acl,
            "# Written by fleetway: changes are lost.
pattern write fleetway/v1/d/%u/up/#
pattern read fleetway/v1/d/%u/dn/#
pattern read fleetway/v1/b/#
pattern read fleetway/v1/t/#

user controller
topic readwrite fleetway/v1/#

user viewer.wall
topic read fleetway/v1/j/#
"
        );
    }

    #[test]
    fn nothing_can_be_smuggled_in() {
        for root in ["", "fleetway", "+/", "#/", "a b/", "/a/", "%u/", "a\n/", "$SYS/"] {
            let refused = render(&Mosquitto { root, ..example() });
            assert_eq!(refused, Err(RenderError::Root(root.to_owned())));
        }
        let ca_file = Path::new("/etc/ca\nallow_anonymous true");
        let refused = render(&Mosquitto { ca_file, ..example() });
        assert_eq!(refused, Err(RenderError::Path { what: "the CA certificate" }));
    }
}
