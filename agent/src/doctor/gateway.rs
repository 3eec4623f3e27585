//! The devices that hang on this one: whether their ports are there and may be used.

use std::io::ErrorKind;

use super::{Agent, Findings};
use crate::config::Config;
use crate::gateway::{Downstream, Place, open_serial};

/// Looks at every port. Where the agent runs it has them, and is asked instead: a port that is
/// opened twice gives each half of the bytes.
pub(super) async fn look(config: &Config, agent: &Agent, found: &mut Findings) {
    if let Agent::Runs(status) = agent {
        for device in &status.gateway {
            let shown = format!("{} on {}", device.device, device.port);
            match (&device.problem, device.up) {
                (Some(problem), _) => found.problem("gateway", format!("{shown}: {problem}"), MEND),
                (None, true) => found.ok("gateway", format!("{shown}: there")),
                (None, false) => {
                    found.warn(
                        "gateway",
                        format!("{shown}: silent"),
                        "see its power, cable and baud",
                    );
                }
            }
        }
        return;
    }
    for Downstream { id, place } in &config.gateway {
        let opened = match place {
            Place::Serial { path, baud } => open_serial(path, *baud).map(drop),
            Place::Tcp(addr) => tokio::net::TcpStream::connect(addr).await.map(drop),
            Place::Unix(path) => tokio::net::UnixStream::connect(path).await.map(drop),
        };
        let shown = format!("{id} on {place}");
        match opened {
            Ok(()) => found.ok("gateway", format!("{shown}: can be opened")),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let mend = "add the agent's user to the port's group (dialout, mostly), and see \
                            docs/gateway.md for the unit's DeviceAllow";
                found.problem("gateway", format!("{shown}: {error}"), mend);
            }
            Err(error) => found.problem("gateway", format!("{shown}: {error}"), MEND),
        }
    }
}

const MEND: &str = "see [[gateway.device]] in agent.toml, and that the adapter is plugged in";
