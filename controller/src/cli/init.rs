//! `fleetway init`: everything that a first `fleetway serve` needs, on one machine.
//!
//! Where people held their ceremony first (`fleetway trust init ... publish`), their keys are
//! kept and nothing is made beside them; else it makes development keys and says so.

use std::net::SocketAddr;

use fleetway_controller::clock;
use fleetway_controller::pki::{FleetCa, Issued, PkiError};
use fleetway_controller::trust::Repo;
use fleetway_controller::trust::files::TrustDir;
use fleetway_controller::trust::repo::NamedKey;
use fleetway_controller::trust::signer::PlainFile;
use fleetway_controller::trust::stage::Setup;
use serde::Serialize;

use super::args::InitArgs;
use super::files::{self, Layout, PUBLIC, SECRET};
use super::output::{facts, talk};
use super::{Context, trust, trust_status};
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
    /// The keys that were made; none where a ceremony was held before.
    #[serde(flatten)]
    keys: Option<QuickKeys>,
    development_keys: bool,
}

pub(super) fn run(args: InitArgs, context: &Context) -> Result<(), Failure> {
    let data = &context.data;
    let layout = Layout::new(data);
    refuse_to_overwrite(&layout)?;
    let names = if args.names.is_empty() { vec!["localhost".into()] } else { args.names };
    let broker = args.broker.as_ref().map(ToString::to_string);
    let text = Config::template(
        &args.listen,
        args.enroll.as_ref(),
        args.api.as_ref(),
        &names,
        broker.as_deref(),
    );
    let config = Config::parse(&text, &data.join(config::FILE))?;

    connect::device_url(&config, config.listen.port().max(1))?;
    // Before anything is written: what can be refused is refused here.
    let certificates = Certificates::make(&config)?;

    for dir in [data, &data.join("keys"), &data.join("pki")] {
        files::make_dir(dir)?;
    }
    let held = TrustDir::new(layout.root()).exists();
    let keys = if held { None } else { Some(quick_start(&layout, context)?) };
    certificates.write(&layout)?;
    // Last: a directory with this file is complete.
    files::write(&data.join(config::FILE), PUBLIC, text.as_bytes())?;

    let mut ids = vec![certificates.ca.id()];
    if let Some(QuickKeys { root_key, release_key, director_key }) = &keys {
        ids.extend([root_key, release_key, director_key].map(Clone::clone));
    }
    trust::note(context, "init", Some(ids.join(" ")), "made a fleet and its certificate authority");
    if !held {
        talk(trust_status::shout(&["root".to_owned(), "release".to_owned()]));
    }
    let made = Made {
        data: data.display().to_string(),
        config: data.join(config::FILE).display().to_string(),
        listen: args.listen,
        keys,
        development_keys: !held,
    };
    context.output.data(&made, || {
        let mut lines = vec![("data", made.data.clone()), ("config", made.config.clone())];
        match &made.keys {
            Some(keys) => lines.extend([
                ("root key", keys.root_key.clone()),
                ("release key", keys.release_key.clone()),
                ("director key", keys.director_key.clone()),
            ]),
            None => lines.push(("keys", "those of the trust directory, kept".to_owned())),
        }
        lines.push(("next", format!("fleetway --data {} serve", made.data)));
        facts(&lines)
    })
}

/// Ids of the keys of a first day.
#[derive(Serialize)]
struct QuickKeys {
    root_key: String,
    release_key: String,
    director_key: String,
}

/// Keys for everything, and a trust directory that they have signed: one person, one machine.
fn quick_start(layout: &Layout, context: &Context) -> Result<QuickKeys, Failure> {
    let [root, release, snapshot, timestamp, director] =
        ["root", "release", "snapshot", "timestamp", "director"]
            .map(|name| trust::server_key(layout, name));
    let (root, release, director) = (root?, release?, director?);
    let setup = Setup {
        root: vec![root.clone()],
        root_threshold: 1,
        targets: vec![release.clone()],
        targets_threshold: 1,
        snapshot: snapshot?,
        timestamp: timestamp?,
        director: director.clone(),
    };
    let now_s = clock::now_s();
    let mut repo = Repo::begin(&setup, now_s).map_err(trust::refused)?;
    for name in ["root", "release"] {
        let signer = PlainFile::open(&layout.key(name));
        let signer = signer.map_err(|error| failed(error.kind(), &error))?;
        repo.sign(&signer, now_s).map_err(trust::refused)?;
    }
    TrustDir::new(layout.root()).save_staged(&repo).map_err(trust::refused)?;
    trust::publish_here(context)?;
    let id = |named: &NamedKey| named.key.id().to_string();
    Ok(QuickKeys { root_key: id(&root), release_key: id(&release), director_key: id(&director) })
}

fn refuse_to_overwrite(layout: &Layout) -> Result<(), Failure> {
    let mut there = vec![
        layout.root().join(config::FILE),
        layout.certificate_key("ca"),
        layout.root().join("store"),
    ];
    let trust = TrustDir::new(layout.root());
    if !trust.exists() {
        there.extend([layout.release_key(), layout.director_key()]);
    } else if trust.load().map_err(trust::refused)?.published.keyset.is_none() {
        let text = format!("the ceremony in {} is not over", layout.root().display());
        return Err(Failure::new(Kind::Conflict, text)
            .mend("sign and publish what is staged (`fleetway trust status` says who is missing); nothing was changed"));
    }
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
