//! `fleetway init`: everything that a first `fleetway serve` needs, on one machine.

use std::net::SocketAddr;
use std::path::PathBuf;

use fleetway_controller::keys;
use fleetway_controller::pki::{FleetCa, Issued, PkiError};
use serde::Serialize;

use super::args::InitArgs;
use super::files::{self, Layout, PUBLIC, SECRET};
use super::output::{facts, talk};
use super::{Context, model::key_id};
use crate::api::failure::{Failure, Kind};
use crate::api::view::failed;
use crate::config::{self, Config};
use crate::serve::connect::{self, now, server_names, store_issued};

/// What was made.
#[derive(Serialize)]
struct Made {
    data: String,
    config: String,
    listen: SocketAddr,
    release_key: String,
    director_key: String,
    development_keys: bool,
}

pub(super) fn run(args: InitArgs, context: &Context) -> Result<(), Failure> {
    let data = &context.data;
    let layout = Layout::new(data);
    refuse_to_overwrite(&layout)?;
    let names = if args.names.is_empty() { vec!["localhost".into()] } else { args.names };
    let broker = args.broker.as_ref().map(ToString::to_string);
    let text = Config::template(&args.listen, args.enroll.as_ref(), &names, broker.as_deref());
    let config = Config::parse(&text, &data.join(config::FILE))?;

    connect::device_url(&config, config.listen.port().max(1))?;
    // Before anything is written: what can be refused is refused here.
    let certificates = Certificates::make(&config)?;

    for dir in [data, &data.join("keys"), &data.join("pki")] {
        files::make_dir(dir)?;
    }
    let key = |path: PathBuf| keys::create(&path).map_err(|error| failed(error.kind(), &error));
    let release = key(layout.release_key())?;
    let director = key(layout.director_key())?;
    certificates.write(&layout)?;
    // Last: a directory with this file is complete.
    files::write(&data.join(config::FILE), PUBLIC, text.as_bytes())?;

    talk(
        "DEVELOPMENT KEYS: the release key and the director key lie together on this machine.\n\
         Whoever takes it over can sign any model for the whole fleet. For a real fleet move\n\
         keys/release.key to an offline machine or a removable disk before the first device\n\
         is added, and sign there: `fleetway model sign MODEL@VERSION --key FILE`.",
    );
    let made = Made {
        data: data.display().to_string(),
        config: data.join(config::FILE).display().to_string(),
        listen: args.listen,
        release_key: key_id(&release),
        director_key: key_id(&director),
        development_keys: true,
    };
    context.output.data(&made, || {
        facts(&[
            ("data", made.data.clone()),
            ("config", made.config.clone()),
            ("release key", made.release_key.clone()),
            ("director key", made.director_key.clone()),
            ("next", format!("fleetway --data {} serve", made.data)),
        ])
    })
}

fn refuse_to_overwrite(layout: &Layout) -> Result<(), Failure> {
    let there = [
        layout.root().join(config::FILE),
        layout.release_key(),
        layout.director_key(),
        layout.certificate_key("ca"),
        layout.root().join("store"),
    ];
    match there.iter().find(|path| path.exists()) {
        None => Ok(()),
        Some(path) => {
            Err(Failure::new(Kind::Conflict, format!("{} exists already", path.display()))
                .mend("use another --data directory; nothing was changed"))
        }
    }
}

/// All certificates of a fleet on its first day.
struct Certificates {
    ca: FleetCa,
    server: Issued,
    controller: Issued,
}

impl Certificates {
    fn make(config: &Config) -> Result<Self, Failure> {
        let refused = |error: PkiError| {
            Failure::usage(crate::api::failure::chain(&error))
                .mend("use host names and IP addresses for --name")
        };
        let ca = FleetCa::create("fleetway", now()).map_err(refused)?;
        let server = ca.issue_server(&server_names(config), now()).map_err(refused)?;
        let controller = ca.issue_controller(now()).map_err(refused)?;
        Ok(Self { ca, server, controller })
    }

    fn write(&self, layout: &Layout) -> Result<(), Failure> {
        files::write(&layout.certificate_key("ca"), SECRET, self.ca.key_pem().as_bytes())?;
        files::write(&layout.certificate("ca"), PUBLIC, self.ca.cert_pem().as_bytes())?;
        store_issued(layout, "server", &self.server)?;
        store_issued(layout, "controller", &self.controller)
    }
}
