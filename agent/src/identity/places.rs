//! Where a device's files are: beside the configuration, or where a Linux system expects them.
//!
//! A configuration anywhere but in `/etc/fleetway` has everything beside it, so that a device is
//! one directory that can be moved. The system's own is laid out as its package makes it:
//!
//! ```text
//! /etc/fleetway/          agent.toml, ca.pem, root.json: whom we believe, which is not ours to change
//! /var/lib/fleetway-agent/identity/   device.key, device.pem: the agent's own, renewed by it
//! /var/lib/fleetway-agent/            what it keeps
//! /run/fleetway/{serve,grpc}.sock     where applications ask
//! ```

use std::path::{Path, PathBuf};

use fleetway_link::TlsFiles;

/// The configuration of the system's agent.
pub const SYSTEM_CONFIG: &str = "/etc/fleetway/agent.toml";
/// What the system's agent keeps.
const SYSTEM_DATA: &str = "/var/lib/fleetway-agent";
/// Where the system's agent is asked.
const SYSTEM_SOCKETS: &str = "/run/fleetway";

/// Where the files of one device are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) tls: TlsFiles,
    pub(super) root: PathBuf,
    pub(super) data: PathBuf,
    /// Directory of the sockets; named in the configuration only where it is not `data`.
    pub(super) sockets: Option<PathBuf>,
}

impl Places {
    /// Of the device whose configuration is at this absolute path.
    pub(super) fn of(config: &Path) -> Self {
        let dir = config.parent().unwrap_or(Path::new("/"));
        let is_system = config == Path::new(SYSTEM_CONFIG);
        let data = if is_system { SYSTEM_DATA.into() } else { dir.join("data") };
        let own = if is_system { data.join("identity") } else { dir.to_owned() };
        Self {
            tls: TlsFiles {
                ca: dir.join("ca.pem"),
                cert: own.join("device.pem"),
                key: own.join("device.key"),
            },
            root: dir.join("root.json"),
            data,
            sockets: is_system.then(|| SYSTEM_SOCKETS.into()),
        }
    }

    /// The controller's text for a device, which has everything beside it, with these places in it.
    ///
    /// # Errors
    /// If it is no TOML, or has another shape than ours.
    pub(super) fn put_into(&self, text: &str) -> Option<String> {
        let Some(sockets) = &self.sockets else { return Some(text.to_owned()) };
        let mut table: toml::Table = text.parse().ok()?;
        let put = |table: &mut toml::Table, key: &str, path: &Path| {
            table.insert(key.to_owned(), path.to_str()?.into());
            Some(())
        };
        put(&mut table, "data_dir", &self.data)?;
        let broker = table.get_mut("broker")?.as_table_mut()?;
        put(broker, "cert", &self.tls.cert)?;
        put(broker, "key", &self.tls.key)?;
        let serve = table.get_mut("serve")?.as_table_mut()?;
        put(serve, "unix", &sockets.join("serve.sock"))?;
        let grpc = serve.entry("grpc").or_insert_with(|| toml::Table::new().into());
        put(grpc.as_table_mut()?, "unix", &sockets.join("grpc.sock"))?;
        let text = toml::to_string(&table).ok()?;
        Some(format!(
            "# Written by `fleetway-agent join`. Paths are relative to this file.\n{text}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "device = \"cam-1\"\ndata_dir = \"data\"\n[broker]\nca = \"ca.pem\"\n\
                        cert = \"device.pem\"\nkey = \"device.key\"\n[serve]\ntcp = \"off\"\n";

    #[test]
    fn a_device_is_one_directory_unless_it_is_the_systems() {
        let places = Places::of(Path::new("/srv/cam/agent.toml"));
        assert_eq!(places.tls.key, Path::new("/srv/cam/device.key"));
        assert_eq!((places.data.as_path(), &places.sockets), (Path::new("/srv/cam/data"), &None));
        assert_eq!(places.put_into(TEXT).as_deref(), Some(TEXT));

        let places = Places::of(Path::new(SYSTEM_CONFIG));
        assert_eq!(places.tls.ca, Path::new("/etc/fleetway/ca.pem"));
        let text = places.put_into(TEXT).unwrap();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["data_dir"].as_str(), Some("/var/lib/fleetway-agent"));
        assert_eq!(table["broker"]["ca"].as_str(), Some("ca.pem"));
        let key = "/var/lib/fleetway-agent/identity/device.key";
        assert_eq!(table["broker"]["key"].as_str(), Some(key));
        assert_eq!(table["serve"]["unix"].as_str(), Some("/run/fleetway/serve.sock"));
        assert_eq!(table["serve"]["grpc"]["unix"].as_str(), Some("/run/fleetway/grpc.sock"));
        assert_eq!(table["serve"]["tcp"].as_str(), Some("off"));
        assert_eq!(places.put_into("device = 1"), None);
    }
}
