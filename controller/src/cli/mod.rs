//! The operator's command line: what can be typed, what is asked, what is printed.
//!
//! Read in this order: `args` (the words), `values` (texts with a grammar), `output` (the
//! terminal), `settings` (which come from where), `ask` (what is asked first); then one file per noun. Offline verbs (`init`, `model import`, `model sign`)
//! work on the data directory; everything else goes through the API.

pub(crate) mod args;
mod ask;
mod audit;
mod broker;
mod config;
pub(crate) mod device;
pub(crate) mod files;
mod follow;
mod forms;
mod init;
mod key;
mod known_bad;
mod model;
pub(crate) mod output;
mod papers;
mod policy;
mod replay;
mod rollout;
mod settings;
mod show;
mod spec;
mod status;
mod token;
mod top;
mod tree;
pub(crate) mod trust;
mod trust_args;
pub(crate) mod trust_status;
mod values;
mod watch;
mod web;
mod wishes;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::api::client::Client;
use crate::api::failure::{Failure, Kind};
use args::{Cli, Format, Verb};
use output::{Output, report};
use settings::Settings;

/// Where a system-wide installation keeps its data.
const SYSTEM_DATA: &str = "/var/lib/fleetway";

/// What every verb gets.
pub(crate) struct Context {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// How to print.
    pub(crate) output: Output,
    /// What was set, and by whom.
    pub(crate) settings: Settings,
    /// Every question is answered with yes.
    pub(crate) yes: bool,
}

impl Context {
    /// A client of the controller that serves the data directory.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.data)
    }
}

/// Runs what was typed.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    // Until the settings are read, as typed: their own mistakes are told, too.
    let mut output = Output::new(cli.global.output.unwrap_or(Format::Table));
    let done = settings::gather(&cli.global).and_then(|settings| {
        output = Output::new(settings.output.value);
        if settings.no_input.value {
            // Passphrases, too: who asks for one finds no terminal, and says what to do instead.
            silence()?;
        }
        let data = settings.data.as_ref().map(|data| absolute(&data.value));
        let data = data.unwrap_or_else(default_data)?;
        run(cli.verb, &Context { data, output, settings, yes: cli.global.yes })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure, output.is_data());
            ExitCode::from(failure.code.exit_code())
        }
    }
}

/// Nothing is read from stdin from here on.
fn silence() -> Result<(), Failure> {
    let nothing = std::fs::File::open("/dev/null");
    let silent = nothing.and_then(|nothing| Ok(rustix::stdio::dup2_stdin(nothing)?));
    silent.map_err(|error| Failure::from_error("cannot close stdin", &error))
}

fn run(verb: Verb, context: &Context) -> Result<(), Failure> {
    match verb {
        Verb::Init(args) => init::run(args, context),
        Verb::Serve => serve(context),
        Verb::Status => block_on(status::run(context)),
        Verb::Model(verb) => model::run(verb, context),
        Verb::Device(verb) => block_on(device::run(verb, context)),
        Verb::Broker(verb) => broker::run(verb, context),
        Verb::Audit(verb) => audit::run(verb, context),
        Verb::Replay(args) => replay::run(args, context),
        Verb::Token(verb) => block_on(token::run(verb, context)),
        Verb::Web { role, open } => block_on(web::run(role, open, context)),
        Verb::Key(verb) => key::run(verb, context),
        Verb::Trust(verb) => trust::run(verb, context),
        Verb::Rollout(verb) => block_on(rollout::run(*verb, context)),
        Verb::Top => block_on(top::run(context)),
        Verb::Config(verb) => config::run(verb, context),
        Verb::Completions { shell } => papers::completions(shell),
        Verb::Man => papers::man(),
    }
}

/// clap's own errors, in our shape: usage is exit code 2, help is none.
fn refuse(error: &clap::Error) -> ExitCode {
    let is_data = |form: &str| matches!(form, "json" | "jsonl" | "yaml");
    let wants_json = {
        let words: Vec<_> = std::env::args().collect();
        let joined = |word: &str| {
            let form = ["--output=", "-o=", "-o"].iter().find_map(|flag| word.strip_prefix(flag));
            form.is_some_and(is_data)
        };
        words
            .windows(2)
            .any(|pair| matches!(pair[0].as_str(), "-o" | "--output") && is_data(&pair[1]))
            || words.iter().any(|word| joined(word))
    };
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked || !wants_json {
        // Help was asked for on stdout; a complaint goes to stderr. Nobody to talk to is fine.
        let _ = error.print();
        return if asked { ExitCode::SUCCESS } else { ExitCode::from(Kind::Usage.exit_code()) };
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or("wrong usage").trim_start_matches("error: ");
    report(&Failure::usage(first).mend("see `fleetway --help`"), true);
    ExitCode::from(Kind::Usage.exit_code())
}

/// A small runtime, for asking.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::from_error("cannot start", &error))?
        .block_on(work)
}

fn serve(context: &Context) -> Result<(), Failure> {
    use std::io::IsTerminal as _;
    use tracing::Level;
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let asked = std::env::var("FLEETWAY_LOG").ok().map(|asked| asked.parse::<Targets>());
    let wrong = asked.as_ref().and_then(|asked| asked.as_ref().err()).map(ToString::to_string);
    let filter = asked.and_then(Result::ok).unwrap_or_else(|| {
        // mqtt5 tells every session twice; what matters of it we tell ourselves.
        let loud = ["mqtt5", "rumqttc", "sled"].map(|target| (target, Level::WARN));
        Targets::new().with_default(Level::INFO).with_targets(loud)
    });
    let is_colored = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(is_colored);
    tracing_subscriber::registry().with(filter).with(text).init();
    if let Some(wrong) = wrong {
        tracing::warn!(
            "FLEETWAY_LOG is ignored ({wrong}); write `debug`, or `info,fleetway=debug`"
        );
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::from_error("cannot start", &error))?
        .block_on(crate::serve::run(&context.data))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::file("find", path, &error))
}

/// The system's directory if there is one, else the user's own.
fn default_data() -> Result<PathBuf, Failure> {
    use std::os::unix::fs::MetadataExt as _;
    let system = Path::new(SYSTEM_DATA);
    if std::fs::metadata(system).is_ok_and(|meta| meta.is_dir() && meta.uid() == 0) {
        return Ok(system.to_owned());
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = variable("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".local/share")));
    match base {
        Some(base) => absolute(&base.join("fleetway")),
        None => Err(Failure::usage("no data directory: neither HOME nor XDG_DATA_HOME is set")
            .mend("name one with --data DIR or FLEETWAY_DATA")),
    }
}
