//! `fleetway broker config`: what an external broker needs to enforce the fleet's rules; `fleetway
//! broker viewer`: what a dashboard needs to read the JSON mirror, and no more.
//!
//! One directory, complete: configuration, access rules, certificates, and the plugin's first
//! state. It is to be brought to the broker's host as it is; paths in it are those of `--dir`.

use std::path::PathBuf;

use fleetway_controller::broker::dynsec;
use fleetway_controller::broker::mosquitto::{Mosquitto, Plugin, RenderError, render};
use serde::Serialize;

use super::args::{BrokerConfigArgs, BrokerProgram, BrokerVerb, BrokerViewerArgs};
use super::files::{self, Layout, PUBLIC, SECRET};
use super::output::facts;
use super::{Context, absolute, trust};
use crate::api::failure::{Failure, chain};
use crate::config::Config;
use crate::serve::connect::{load_ca, now, server_names};

/// What was written.
#[derive(Serialize)]
struct Written {
    dir: String,
    config: String,
    port: u16,
    dynamic_security: bool,
}

pub(super) fn run(verb: BrokerVerb, context: &Context) -> Result<(), Failure> {
    match verb {
        BrokerVerb::Config(args) => match args.broker {
            BrokerProgram::Mosquitto => mosquitto(args, context),
        },
        BrokerVerb::Viewer(args) => viewer(args, context),
    }
}

/// What was made for a dashboard.
#[derive(Serialize)]
struct Viewer {
    dir: String,
    common_name: String,
    filter: String,
}

fn viewer(args: BrokerViewerArgs, context: &Context) -> Result<(), Failure> {
    let config = Config::load(&context.data)?;
    let ca = load_ca(&Layout::new(&context.data))?;
    let BrokerViewerArgs { name, days, out } = args;
    let out = out.unwrap_or_else(|| context.data.join("viewers").join(name.as_str()));
    let out = absolute(&out)?;
    let issued = ca
        .issue_viewer(name.as_str(), days, now())
        .map_err(|error| Failure::usage(format!("no certificate: {}", chain(&error))))?;
    files::make_dir(&out)?;
    files::write(&out.join("ca.pem"), PUBLIC, ca.cert_pem().as_bytes())?;
    files::write(&out.join("viewer.key"), SECRET, issued.key_pem.as_bytes())?;
    files::write(&out.join("viewer.pem"), PUBLIC, issued.cert_pem.as_bytes())?;
    let text = format!("issued the certificate of the dashboard {name} for {days} days");
    trust::note(context, "broker.viewer", Some(ca.id()), &text);
    let written = Viewer {
        dir: out.display().to_string(),
        common_name: format!("viewer.{name}"),
        filter: format!("{}j/#", config.root),
    };
    context.output.data(&written, || {
        facts(&[
            ("directory", written.dir.clone()),
            ("client id", format!("{} or {0}.SOMETHING", written.common_name)),
            ("subscribe to", written.filter.clone()),
            ("mosquitto", format!("wants `--viewer {name}` in `broker config mosquitto`")),
        ])
    })
}

fn mosquitto(args: BrokerConfigArgs, context: &Context) -> Result<(), Failure> {
    let config = Config::load(&context.data)?;
    let layout = Layout::new(&context.data);
    let out = absolute(&args.out.unwrap_or_else(|| context.data.join("mosquitto")))?;
    let there: PathBuf = args.dir.unwrap_or_else(|| out.clone());
    let port = config.broker.as_ref().map_or(config.listen.port(), fleetway_link::BrokerUrl::port);
    let state = there.join("dynamic-security.json");
    let rendered = render(&Mosquitto {
        port,
        root: &config.root,
        ca_file: &there.join("ca.pem"),
        cert_file: &there.join("server.pem"),
        key_file: &there.join("server.key"),
        acl_file: &there.join("fleetway.acl"),
        persistence_dir: &there.join("store"),
        viewers: &args.viewers,
        plugin: args.dynamic_security.then_some(Plugin { file: &args.plugin, state: &state }),
    })
    .map_err(|error: RenderError| {
        Failure::usage(error.to_string())
            .mend("use other paths, or another `root` in fleetway.toml")
    })?;
    let ca = load_ca(&layout)?;
    let mut names = server_names(&config);
    if let Some(broker) = &config.broker {
        names.insert(0, broker.host().to_owned());
    }
    let server = ca
        .issue_server(&names, now())
        .map_err(|error| Failure::usage(format!("no certificate: {}", chain(&error))))?;

    files::make_dir(&out)?;
    files::make_dir(&out.join("store"))?;
    files::write(&out.join("ca.pem"), PUBLIC, ca.cert_pem().as_bytes())?;
    files::write(&out.join("server.pem"), PUBLIC, server.cert_pem.as_bytes())?;
    files::write(&out.join("server.key"), SECRET, server.key_pem.as_bytes())?;
    files::write(&out.join("fleetway.acl"), SECRET, rendered.acl.as_bytes())?;
    let state = out.join("dynamic-security.json");
    // mosquitto writes this file itself, and knows better by then.
    if args.dynamic_security && !state.exists() {
        files::write(&state, SECRET, dynsec::initial_state().as_bytes())?;
    }
    let file = out.join("mosquitto.conf");
    files::write(&file, PUBLIC, rendered.conf.as_bytes())?;
    let text = format!("wrote a configuration and a server's certificate into {}", out.display());
    trust::note(context, "broker.config", Some(ca.id()), &text);
    let written = Written {
        dir: out.display().to_string(),
        config: file.display().to_string(),
        port,
        dynamic_security: args.dynamic_security,
    };
    context.output.data(&written, || {
        let next = match args.dynamic_security {
            true => "set `dynamic_security = true` in fleetway.toml; then",
            false => "without --dynamic-security a revoked device keeps its session until its certificate ends;",
        };
        facts(&[
            ("directory", format!("{} (everything in it must belong to mosquitto's user)", written.dir)),
            ("port", port.to_string()),
            ("next", format!("{next} mosquitto -c {}", there.join("mosquitto.conf").display())),
        ])
    })
}
