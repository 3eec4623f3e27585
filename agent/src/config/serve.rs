//! `[serve]`: sockets for applications, who may open them, and how much each model may take.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleetway_protocol::ids::ModelName;
use toml::Spanned;

use super::{Fault, Serve, check_range, file};
use crate::serving::limits::{BATCH_ROWS_MAX, BATCH_WAIT_MAX};
use crate::serving::listen::{Endpoints, ServeError, UNIX_MODE, UnixEndpoint};
use crate::serving::settings::{ModelSettings, Settings};

/// Where applications find the model unless configured otherwise. gRPC has its socket, and a port
/// only when one is named.
const TCP_DEFAULT: &str = "127.0.0.1:8800";
/// Most inferences at once: more threads than this only wait for each other on an edge box.
const CONCURRENT_MAX: usize = 64;
/// Most threads at one inference: beyond them a layer's parts are too small to be worth a meeting.
const THREADS_MAX: usize = 16;
/// Permissions that a socket can have: nothing to execute, no sticky bits.
const MODES: RangeInclusive<u32> = 0..=0o666;
/// Largest file of groups that is read: some thousand of them.
const GROUP_FILE_BYTES_MAX: u64 = 1 << 20;

pub(super) fn check(serve: file::Serve, dir: &Path, data_dir: &Path) -> Result<Serve, Fault> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let concurrent_max = match &serve.concurrent_max {
        Some(n) => check_range(n, "concurrent_max", 1..=CONCURRENT_MAX)?,
        None => processors.min(CONCURRENT_MAX),
    };
    let threads = match &serve.threads {
        Some(n) => check_range(n, "threads", 1..=THREADS_MAX)?,
        None => 1,
    };
    let tcp = match &serve.tcp {
        Some(text) => check_tcp(text, "serve.tcp", serve.allow_remote)?,
        None => TCP_DEFAULT.parse().ok(),
    };
    let grpc_tcp = match &serve.grpc.tcp {
        Some(text) => check_tcp(text, "serve.grpc.tcp", serve.allow_remote)?,
        None => None,
    };
    let mode = check_mode(serve.unix_mode.as_ref())?.unwrap_or(UNIX_MODE);
    let group = check_group(serve.unix_group.as_ref())?;
    // What is not said for gRPC is as for HTTP: it is the same API.
    let grpc_mode = check_mode(serve.grpc.unix_mode.as_ref())?.unwrap_or(mode);
    let grpc_group = check_group(serve.grpc.unix_group.as_ref())?.or(group);
    let unix = |path: Option<PathBuf>, name: &str, mode, group| match path {
        Some(path) if path.as_os_str() == "off" => None,
        Some(path) => Some(UnixEndpoint { path: dir.join(path), mode, group }),
        None => Some(UnixEndpoint { path: data_dir.join(name), mode, group }),
    };
    let endpoints = Endpoints {
        tcp,
        unix: unix(serve.unix, "serve.sock", mode, group),
        grpc_tcp,
        grpc_unix: unix(serve.grpc.unix, "grpc.sock", grpc_mode, grpc_group),
        allow_remote: serve.allow_remote,
    };
    let models = check_models(&serve.models, ModelSettings::new(concurrent_max))?;
    let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
    Ok(Serve { endpoints, concurrent_max, threads, models })
}

fn check_tcp(
    text: &Spanned<String>,
    key: &str,
    allow_remote: bool,
) -> Result<Option<SocketAddr>, Fault> {
    if text.get_ref() == "off" {
        return Ok(None);
    }
    let form = format!("{key} must be an address and a port such as 127.0.0.1:8800, or \"off\"");
    let addr: SocketAddr = text.get_ref().parse().map_err(|_| Fault::at(text, form))?;
    if !allow_remote && !addr.ip().is_loopback() {
        return Err(Fault::at(text, ServeError::Remote(addr)));
    }
    Ok(Some(addr))
}

fn check_mode(text: Option<&Spanned<String>>) -> Result<Option<u32>, Fault> {
    let Some(text) = text else { return Ok(None) };
    let mode = u32::from_str_radix(text.get_ref(), 8).ok().filter(|mode| MODES.contains(mode));
    let form = "unix_mode must be octal permissions of a socket such as \"0660\"";
    mode.map(Some).ok_or_else(|| Fault::at(text, form))
}

/// A group's number, or its name in `/etc/group`.
fn check_group(group: Option<&Spanned<String>>) -> Result<Option<u32>, Fault> {
    let Some(group) = group else { return Ok(None) };
    if let Ok(number) = group.get_ref().parse() {
        return Ok(Some(number));
    }
    let mut text = String::new();
    let read = std::fs::File::open("/etc/group")
        .and_then(|file| file.take(GROUP_FILE_BYTES_MAX).read_to_string(&mut text));
    let number = read.ok().and_then(|_| group_number(&text, group.get_ref()));
    let missing = || {
        let name = group.get_ref();
        Fault::at(group, format!("there is no group {name:?} here; make it with `groupadd {name}`"))
    };
    number.map(Some).ok_or_else(missing)
}

/// A group's number in the text of `/etc/group`.
fn group_number(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let number = fields.nth(1)?.parse().ok()?;
        found.then_some(number)
    })
}

fn check_models(
    models: &BTreeMap<Spanned<String>, file::Model>,
    usual: ModelSettings,
) -> Result<Settings, Fault> {
    let mut settings = Settings::new(usual);
    for (name, model) in models {
        let wrong = |error| Fault::at(name, format!("model name {error}"));
        let model_name = ModelName::new(name.get_ref()).map_err(wrong)?;
        let mut own = usual;
        if let Some(n) = &model.concurrent_max {
            own.concurrent_max = check_range(n, "concurrent_max", 1..=CONCURRENT_MAX)?;
        }
        if let Some(n) = &model.batch_max {
            own.batch_max = check_range(n, "batch_max", 1..=BATCH_ROWS_MAX)?;
        }
        if let Some(n) = &model.batch_wait_us {
            let max = u64::try_from(BATCH_WAIT_MAX.as_micros()).unwrap_or(u64::MAX);
            own.batch_wait = Duration::from_micros(check_range(n, "batch_wait_us", 0..=max)?);
        }
        settings.own.insert(model_name, own);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_their_whole_name() {
        let text = "root:x:0:\nstaff:x:50:ann,bob\nfleet:x:990:\nbroken\nbad:x:y:\n";
        for (name, number) in [("staff", Some(50)), ("fleet", Some(990)), ("sta", None)] {
            assert_eq!(group_number(text, name), number, "{name}");
        }
        assert_eq!(group_number(text, "bad"), None);
    }
}
