//! What the agent is made of before it runs: the core's configuration, a place for its sockets.

use fleetway_protocol::ids::Version;
use fleetway_protocol::transfer;

use crate::config::Config;
use crate::device::DeviceConfig;

/// What the core is told once.
pub(crate) fn device_config(config: &Config) -> DeviceConfig {
    // Two devices with one id would also share this; they have a worse problem.
    let seed = fleetway_protocol::record::crc32c(config.device.as_str().as_bytes());
    DeviceConfig {
        id: config.device.clone(),
        root: config.broker.root.clone(),
        trust_root: config.trust_root.clone(),
        hardware: config.hardware.clone(),
        forms: fleetway_engine::load::FORMS,
        hold: config.hold,
        transfer: transfer::Config {
            window_chunks: u8::try_from(config.link.window_chunks).unwrap_or(1),
            bytes_per_s: config.link.bytes_per_s.map_or(0, u32::from),
            seed,
        },
        agent: Version::new(env!("CARGO_PKG_VERSION")).expect("the crate's version is a version"),
        checks: config.checks.iter().map(|(model, check)| (model.clone(), check.rule)).collect(),
        asks_floor: config.enroll.is_some() && config.broker.tls.is_some(),
    }
}

/// Makes the directory of the unix socket where nobody did: under a unit systemd does, by hand root.
pub(super) fn make_socket_dir(config: &Config) {
    let dir = config.serve.endpoints.unix.as_ref().and_then(|unix| unix.path.parent());
    if let Some(dir) = dir.filter(|dir| !dir.exists())
        && let Err(error) = std::fs::create_dir(dir)
    {
        // The server says the rest, when it finds no place for its socket.
        tracing::debug!("{}: {error}", dir.display());
    }
}
