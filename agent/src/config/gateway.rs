//! `[[gateway.device]]`: the devices that hang on this one.

use std::path::Path;

use fleetway_protocol::ids::DeviceId;
use toml::Spanned;

use super::file::DownstreamFile;
use super::{Fault, check_range};
use crate::gateway::{BAUD_DEFAULT, BAUD_MAX, BAUD_MIN, DEVICES_MAX, Downstream, Place};

/// Checks them; `own` is this device.
pub(super) fn check(
    devices: &[Spanned<DownstreamFile>],
    own: &DeviceId,
    dir: &Path,
) -> Result<Vec<Downstream>, Fault> {
    let mut checked: Vec<Downstream> = Vec::new();
    for file in devices {
        let device = check_one(file, dir)?;
        if checked.len() == DEVICES_MAX {
            return Err(Fault::at(
                file,
                format_args!(
                    "more than {DEVICES_MAX} devices, and one connection has no room for what more would subscribe to; take the rest to another gateway (a second agent on this box, with an id and a data_dir of its own, is one)"
                ),
            ));
        }
        if device.id == *own || checked.iter().any(|other| other.id == device.id) {
            return Err(Fault::at(&file.get_ref().id, "is the id of another device"));
        }
        if checked.iter().any(|other| same_end(&other.place, &device.place)) {
            return Err(Fault::at(
                file,
                "another device hangs there already; one port has one device",
            ));
        }
        checked.push(device);
    }
    Ok(checked)
}

fn check_one(file: &Spanned<DownstreamFile>, dir: &Path) -> Result<Downstream, Fault> {
    let DownstreamFile { id, serial, baud, socket } = file.get_ref();
    let id = DeviceId::new(id.get_ref())
        .map_err(|error| Fault::at(id, format_args!("device id {error}")))?;
    let place = match (serial, socket, baud) {
        (Some(path), None, baud) => {
            let baud = baud.as_ref().map(|baud| check_range(baud, "baud", BAUD_MIN..=BAUD_MAX));
            Place::Serial { path: dir.join(path), baud: baud.transpose()?.unwrap_or(BAUD_DEFAULT) }
        }
        (None, Some(socket), None) => check_socket(socket, dir)?,
        (None, Some(_), Some(baud)) => {
            return Err(Fault::at(baud, "baud is of a serial port; a socket has none"));
        }
        _ => {
            return Err(Fault::at(
                file,
                "use serial = \"/dev/...\" or socket = \"...\", one of them",
            ));
        }
    };
    Ok(Downstream { id, place })
}

fn check_socket(socket: &Spanned<String>, dir: &Path) -> Result<Place, Fault> {
    let text = socket.get_ref();
    let tcp = text.strip_prefix("tcp:").and_then(|addr| addr.parse().ok()).map(Place::Tcp);
    let unix = || text.strip_prefix("unix:").filter(|path| !path.is_empty());
    tcp.or_else(|| unix().map(|path| Place::Unix(dir.join(path)))).ok_or_else(|| {
        Fault::at(
            socket,
            "is no socket; write tcp:127.0.0.1:5555 (an IP address) or unix:/run/board",
        )
    })
}

fn same_end(a: &Place, b: &Place) -> bool {
    match (a, b) {
        (Place::Serial { path: a, .. }, Place::Serial { path: b, .. }) => a == b,
        (a, b) => a == b,
    }
}
