//! `fleetway device ...`.

use std::collections::BTreeMap;

use fleetway_controller::clock;
use fleetway_controller::fleet::By;
use fleetway_link::{BrokerUrl, EnrollUrl};
use fleetway_protocol::enroll::Floor;
use fleetway_protocol::ids::DeviceId;
use serde::Serialize;

use super::args::{AddArgs, DeviceVerb};
use super::files::{self, Layout, PUBLIC, SECRET};
use super::output::{facts, talk};
use super::show::{device_text, devices_text, devices_wide, labels_text};
use super::values::LabelEdit;
use super::{Context, follow};
use crate::api::client::{escape, operator};
use crate::api::failure::{Failure, Kind};
use crate::api::types::{
    DeviceAdd, DeviceAdded, DeviceAdopt, DeviceEnroll, DeviceKeyAdd, DeviceView, Done, JoinView,
    LabelEdits, RunFile,
};
use crate::api::view::failed;
use crate::config::Config;
use crate::serve::connect;
use crate::serve::enroll::pinned_root;
use crate::serve::open::open_fleet;

pub(super) async fn run(verb: DeviceVerb, context: &Context) -> Result<(), Failure> {
    let client = context.client();
    match verb {
        DeviceVerb::Add(args) => add(args, context).await,
        DeviceVerb::List { selector } => {
            let path = match selector {
                Some(selector) => format!("/v1/devices?selector={}", escape(&selector)),
                None => "/v1/devices".into(),
            };
            let devices: Vec<DeviceView> = client.list(&path).await?;
            let text = if context.output.is_wide() { devices_wide } else { devices_text };
            context.output.data(&devices, || text(&devices, clock::now_s()))
        }
        DeviceVerb::Show { id } => {
            let device: DeviceView = client.get(&format!("/v1/devices/{id}")).await?;
            context.output.data(&device, || device_text(&device, clock::now_s()))
        }
        DeviceVerb::Enroll { id, labels, qr } => {
            let body = DeviceEnroll { labels: labels.into_iter().collect() };
            let join: JoinView = client.post(&format!("/v1/devices/{id}/enroll"), &body).await?;
            context.output.data(&join, || join_text(&join))?;
            if qr {
                talk(qr_code(&join.join)?)
            }
            Ok(())
        }
        DeviceVerb::Adopt { id, via, hardware, key, labels } => {
            let (via, labels) = (via.to_string(), labels.into_iter().collect());
            let body = DeviceAdopt { via, hardware, key, labels };
            let done: Done = client.post(&format!("/v1/devices/{id}/adopt"), &body).await?;
            context.output.data(&done, || done.done.clone())
        }
        DeviceVerb::History { id, last } => {
            follow::history(&format!("/v1/devices/{id}"), last, context).await
        }
        DeviceVerb::Revoke { id } => {
            context.confirm(&format!("take {id} out of the fleet at once?"))?;
            let done: Done = client.post(&format!("/v1/devices/{id}/revoke"), &()).await?;
            context.output.data(&done, || done.done.clone())
        }
        DeviceVerb::Label { id, edits } => {
            let mut body = LabelEdits::default();
            for edit in edits {
                match edit {
                    LabelEdit::Set(key, value) => {
                        body.set.insert(key, value);
                    }
                    LabelEdit::Unset(key) => body.unset.push(key),
                }
            }
            let device: DeviceView =
                client.post(&format!("/v1/devices/{id}/labels"), &body).await?;
            let text = || format!("{id}  {}", labels_text(&device.labels));
            context.output.data(&device, text)
        }
    }
}

/// The string alone on stdout, so that a script can take it; what to do with it beside.
fn join_text(join: &JoinView) -> String {
    talk(
        "on the device, within 24 hours (the string is a secret, and good once):\n\n  \
         fleetway-agent join <STRING>\n",
    );
    if join.root.is_none() {
        talk("no TUF root is pinned: this fleet has none yet");
    }
    join.join.clone()
}

/// A QR code for a terminal: two rows in a line of half blocks. Dark on light whatever the
/// terminal's colours are, because most readers want it so.
fn qr_code(text: &str) -> Result<String, Failure> {
    use qrcode::render::unicode::Dense1x2;
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L)
        .map_err(|error| Failure::error(format!("the join string makes no QR code: {error}")))?;
    let drawn =
        code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Ok(drawn)
}

/// What `device add` prints.
#[derive(Serialize)]
struct Added {
    id: String,
    dir: String,
    config: String,
    broker: String,
    certificate_days: u32,
}

async fn add(args: AddArgs, context: &Context) -> Result<(), Failure> {
    let config = Config::load(&context.data)?;
    let layout = Layout::new(&context.data);
    let id = args.id;
    let dir = args.out.unwrap_or_else(|| layout.devices()).join(id.as_str());
    let dir = super::absolute(&dir)?;
    let file = dir.join("agent.toml");
    if file.exists() {
        return Err(Failure::conflict(format!("{} exists already", file.display()))
            .mend("use another --out, or move it away first; nothing was changed"));
    }
    let broker = match args.broker {
        Some(url) => url,
        None => device_broker(&config, &layout)?,
    };
    let ca = connect::load_ca(&layout)?;
    let issued = ca
        .issue_device(id.as_str(), args.days, connect::now())
        .map_err(|error| Failure::usage(crate::api::failure::chain(&error)))?;
    let root = pinned_root(&layout).ok_or_else(|| {
        Failure::conflict("this fleet has no release authority that a device could believe")
            .mend("make one with `fleetway trust init`, sign it and publish it")
    })?;
    let agent_file = AgentFile::new(&config, &broker, device_enroll(&config, &layout).as_ref());
    let key = DeviceKeyAdd {
        point: issued.public_point.clone(),
        certificate_ends_s: clock::now_s() + u64::from(args.days) * 24 * 3600,
    };

    // First: whoever hears of a conflict shall find nothing written.
    let floor = register(&id, args.labels.into_iter().collect(), key, &config, context).await?;
    files::make_dir(&dir)?;
    let data = dir.join("data");
    files::make_dir(&data)?;
    files::write(&data.join(Floor::FILE), PUBLIC, floor.text().as_bytes())?;
    files::write(&dir.join("ca.pem"), PUBLIC, ca.cert_pem().as_bytes())?;
    files::write(&dir.join("device.pem"), PUBLIC, issued.cert_pem.as_bytes())?;
    files::write(&dir.join("device.key"), SECRET, issued.key_pem.as_bytes())?;
    files::write(&dir.join("root.json"), PUBLIC, &root)?;
    let text = agent_file.text(&id, args.serve_port);
    // Last: a directory with this file is complete.
    files::write(&file, PUBLIC, text.as_bytes())?;
    let added = Added {
        id: id.to_string(),
        dir: dir.display().to_string(),
        config: file.display().to_string(),
        broker: broker.to_string(),
        certificate_days: args.days,
    };
    context.output.data(&added, || {
        facts(&[
            ("device", added.id.clone()),
            ("broker", added.broker.clone()),
            ("directory", format!("{} (bring it to the device as it is)", added.dir)),
            ("next", format!("fleetway-agent run --config {}", added.config)),
        ])
    })
}

/// The broker as devices see it.
fn device_broker(config: &Config, layout: &Layout) -> Result<BrokerUrl, Failure> {
    if let Some(url) = config.advertise.as_ref().or(config.broker.as_ref()) {
        return Ok(url.clone());
    }
    if config.listen.port() != 0 {
        return connect::device_url(config, config.listen.port());
    }
    run_file(layout).and_then(|run| run.broker.parse().ok()).ok_or_else(|| {
        Failure::conflict("`listen` has port 0, and no controller runs that has taken one").mend(
            "start `fleetway serve` first, or name the broker with --broker mqtts://host:port",
        )
    })
}

/// The enrolment listener as devices see it; `None` where only a running controller knows.
fn device_enroll(config: &Config, layout: &Layout) -> Option<EnrollUrl> {
    match config.enroll_listen().port() {
        0 => run_file(layout).and_then(|run| run.enroll.parse().ok()),
        port => connect::enroll_url(config, port).ok(),
    }
}

fn run_file(layout: &Layout) -> Option<RunFile> {
    std::fs::read(layout.run_file()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

/// Adds the device to the fleet, through the API, or directly if no controller runs; says where
/// its orders begin.
async fn register(
    id: &DeviceId,
    labels: BTreeMap<String, String>,
    key: DeviceKeyAdd,
    config: &Config,
    context: &Context,
) -> Result<Floor, Failure> {
    let body = DeviceAdd { id: id.to_string(), labels: labels.clone(), key: Some(key.clone()) };
    match context.client().post::<_, DeviceAdded>("/v1/devices", &body).await {
        Ok(added) => return Ok(Floor { generation: added.generation, ..Floor::default() }),
        Err(failure) if failure.code != Kind::Unreachable => return Err(failure),
        Err(_) => {}
    }
    talk("no controller runs: adding the device to its store directly");
    let mut opened = open_fleet(&context.data, config)?;
    let who = operator();
    let by = By { who: &who, now_s: clock::now_s() };
    opened.fleet.add_device(by, id, &labels).map_err(|error| failed(error.kind(), &error))?;
    crate::api::identities::register(&mut opened.fleet, by, id, Some(&key))
}

/// What an agent's configuration is made from; `device add` and enrolment write the same.
pub(crate) struct AgentFile {
    broker: BrokerUrl,
    enroll: Option<EnrollUrl>,
    root: String,
}

impl AgentFile {
    /// For devices that reach us at these URLs.
    pub(crate) fn new(config: &Config, broker: &BrokerUrl, enroll: Option<&EnrollUrl>) -> Self {
        Self { broker: broker.clone(), enroll: enroll.cloned(), root: config.root.clone() }
    }

    /// The file's text.
    pub(crate) fn text(&self, id: &DeviceId, serve_port: u16) -> String {
        let enroll = self.enroll.as_ref().map_or_else(String::new, |url| {
            format!("[enroll]\n# Where the certificate is renewed.\nurl = \"{url}\"\n\n")
        });
        format!(
            "# Written by the controller. Paths are relative to this file.\n\
             device = {id:?}\n\
             data_dir = \"data\"\n\n\
             [broker]\n\
             url = \"{broker}\"\n\
             ca = \"ca.pem\"\n\
             cert = \"device.pem\"\n\
             key = \"device.key\"\n\
             root = {root:?}\n\n\
             {enroll}\
             [trust]\n\
             # The root of the release authority. Whom else this device believes follows from it.\n\
             root = \"root.json\"\n\n\
             [serve]\n\
             # Where applications ask the model; also data/serve.sock.\n\
             tcp = \"127.0.0.1:{serve_port}\"\n",
            broker = self.broker,
            root = self.root,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_configuration_is_toml_with_the_agreed_keys() {
        let id = DeviceId::new("cam-01").unwrap();
        let file = AgentFile {
            broker: "mqtts://b:1".parse().unwrap(),
            enroll: Some("https://b:2".parse().unwrap()),
            root: Config::default().root,
        };
        let parsed: toml::Table = file.text(&id, 0).parse().unwrap();
        assert_eq!(parsed["device"].as_str(), Some("cam-01"));
        assert_eq!(parsed["broker"]["url"].as_str(), Some("mqtts://b:1"));
        assert_eq!(parsed["enroll"]["url"].as_str(), Some("https://b:2"));
        assert_eq!(parsed["trust"]["root"].as_str(), Some("root.json"));
        assert_eq!(parsed["serve"]["tcp"].as_str(), Some("127.0.0.1:0"));
    }

    #[test]
    fn the_longest_join_string_makes_a_qr_code() {
        let text = "A".repeat(fleetway_protocol::limits::JOIN_CHARS_MAX);
        let drawn = qr_code(&text).unwrap();
        let widths: Vec<_> = drawn.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]) && widths[0] <= 120, "{widths:?}");
    }

    #[test]
    fn a_free_port_needs_a_running_controller_or_a_url() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
        assert_eq!(device_broker(&config, &layout).unwrap_err().code, Kind::Conflict);
        let run = r#"{"pid":1,"broker":"mqtts://localhost:7","api":"x","started_s":0}"#;
        std::fs::write(layout.run_file(), run).unwrap();
        assert_eq!(device_broker(&config, &layout).unwrap().port(), 7);
    }
}
