//! What can be typed. Each verb's long help carries an example that works.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fleetway_controller::access::Role;
use fleetway_link::BrokerUrl;

mod device;
mod model;
mod rollout;

pub(crate) use super::config::ConfigVerb;
pub(crate) use device::*;
pub(crate) use model::*;
pub(crate) use rollout::*;

pub(crate) use super::trust_args::{DelegateArgs, KeyVerb, SecretArgs, TrustInitArgs, TrustVerb};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "fleetway",
    version,
    about = "fleetway puts machine-learning models on a fleet of edge devices and keeps them healthy there.",
    long_about = "fleetway puts machine-learning models on a fleet of edge devices and keeps them healthy there.\n\n\
        First `init` a data directory and `serve` it; then `device enroll` the devices; then `model import`,\n\
        `model sign` and `model publish` a model; then `rollout start` it and `rollout watch` it arrive.",
    after_help = "Settings come from flags, else FLEETWAY_DATA, _CONTEXT, _OUTPUT and _CONFIG, else files: see `config view`.\n\
        Data goes to stdout, talk to stderr. Exit codes: 0 done, 1 error, 2 usage, 3 rollout failed,\n\
        4 no answer or not in time, 5 not found, 6 conflict, 7 signature or trust.",
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Data directory of the controller
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Controller by its name in the configuration
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "data")]
    pub(crate) context: Option<String>,
    /// Configuration of the command line, before the user's and the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Form of what is printed on stdout [default: table]
    #[arg(short, long, global = true, value_name = "FORM")]
    pub(crate) output: Option<Format>,
    /// Ask nothing: a question is a mistake
    #[arg(long, global = true)]
    pub(crate) no_input: bool,
    /// Answer every question with yes
    #[arg(short = 'y', long, global = true)]
    pub(crate) yes: bool,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people
    Table,
    /// For people with wide terminals
    Wide,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
    /// For programs: one line for each thing
    Jsonl,
    /// For scripts: one name on each line
    Name,
}

impl Format {
    /// As it is typed.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Wide => "wide",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Jsonl => "jsonl",
            Self::Name => "name",
        }
    }
}

/// The first word.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a data directory: configuration, keys, certificates
    #[command(
        after_long_help = "Example:\n  fleetway --data ./fleet init --listen 0.0.0.0:8883 --name fleet.example"
    )]
    Init(InitArgs),
    /// Run the controller: broker, API, rollouts
    #[command(
        after_long_help = "Example:\n  fleetway --data ./fleet serve\n\nThe log goes to stderr; FLEETWAY_LOG=debug or FLEETWAY_LOG=fleetway=debug shows more of it.\nSIGINT and SIGTERM end it in order. Whoever can open DIR/api.sock is the operator."
    )]
    Serve,
    /// Show the controller, its broker, the devices and the rollouts
    #[command(after_long_help = "Example:\n  fleetway status -o json")]
    Status,
    /// Import, sign, publish, list and show models
    #[command(
        subcommand,
        after_long_help = "Example:\n  fleetway model import digits.onnx --name digits --version v1 --golden digits.npz"
    )]
    Model(ModelVerb),
    /// Enroll, revoke, list, show and label devices
    #[command(
        subcommand,
        after_long_help = "Example:\n  fleetway device enroll cam-01 --label site=lab"
    )]
    Device(DeviceVerb),
    /// Write the configuration of an external broker
    #[command(
        subcommand,
        after_long_help = "Example:\n  fleetway broker config mosquitto --dynamic-security"
    )]
    Broker(BrokerVerb),
    /// Show what was done, by whom, and check that nobody changed the record of it
    #[command(subcommand, after_long_help = "Example:\n  fleetway audit verify -o json")]
    Audit(super::audit::AuditVerb),
    /// Make the planner's decisions on file again; exit code 7 at the first that differs
    #[command(
        after_long_help = "Example:\n  fleetway replay\n\nThe controller writes every input of its planner, and what was decided, to DIR/decisions while a\nrollout is open. The oldest files go; each begins with a whole input and can be replayed alone."
    )]
    Replay(super::replay::ReplayArgs),
    /// Say who may use the API over the network, and as what
    #[command(subcommand, after_long_help = "Example:\n  fleetway token create ci --role operator")]
    Token(super::token::TokenVerb),
    /// Print a link that signs you in to the web page
    #[command(
        after_long_help = "Example:\n  fleetway web --open\n  fleetway web --role viewer\n\nThe link carries a token that is good for a session. The page is served where `[api]` in\nfleetway.toml says."
    )]
    Web {
        /// What the link may do: viewer, operator, approver or admin
        #[arg(long, value_name = "ROLE", default_value = "admin")]
        role: Role,
        /// Open it in the desktop's browser too
        #[arg(long)]
        open: bool,
    },
    /// Make, list, rotate and revoke keys
    #[command(
        subcommand,
        after_long_help = "Example:\n  fleetway key generate ada --out /media/usb/ada.key"
    )]
    Key(KeyVerb),
    /// Say who may sign what: the ceremony of the release authority
    #[command(subcommand, after_long_help = "Example:\n  fleetway trust status")]
    Trust(TrustVerb),
    /// Plan, start, watch, steer, undo and repeat rollouts
    #[command(
        subcommand,
        after_long_help = "Example:\n  fleetway rollout start digits@v2 --canary 1 --phase 25% --phase 100%"
    )]
    // By far the longest list of options.
    Rollout(Box<RolloutVerb>),
    /// Show fleet and rollouts live, on the whole terminal
    #[command(
        after_long_help = "Example:\n  fleetway top\n\nArrows or j and k choose a rollout, Enter shows its devices, Esc goes back, q or Ctrl-C ends."
    )]
    Top,
    /// Show what the command line is set to, and choose a controller by name
    #[command(subcommand, after_long_help = "Example:\n  fleetway config view --origin")]
    Config(ConfigVerb),
    /// Print the completions for a shell
    #[command(
        after_long_help = "Example:\n  fleetway completions bash\n\nFor this shell alone: source <(fleetway completions bash)"
    )]
    Completions {
        /// Which shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_long_help = "Example:\n  fleetway man\n\nTo read it: fleetway man | man -l -")]
    Man,
}

/// `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Where the embedded broker listens; port 0 takes a free one at every start
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8883")]
    pub(crate) listen: SocketAddr,
    /// Where devices come for their certificates [default: the next port]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) enroll: Option<SocketAddr>,
    /// Serve the API and the web page there; with TLS, unless it is a loopback address
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) api: Option<SocketAddr>,
    /// Host name or address that devices connect to [default: localhost]
    #[arg(long = "name", value_name = "HOST")]
    pub(crate) names: Vec<String>,
    /// Use this broker instead of the embedded one
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Option<BrokerUrl>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Held down in `help.txt`, because the first page is what a newcomer reads:
    /// `FLEETWAY_BLESS=1` writes it anew.
    #[test]
    fn the_first_page_is_stable() {
        let page = Cli::command().term_width(100).render_help().to_string();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/help.txt");
        if std::env::var_os("FLEETWAY_BLESS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(page, std::fs::read_to_string(path).unwrap());
    }

    #[test]
    fn every_verb_has_an_example() {
        fn visit(command: &clap::Command) {
            for verb in command.get_subcommands() {
                let help = verb.get_after_long_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.starts_with("Example:\n  fleetway "), "{}", verb.get_name());
                // The audit log's test walks the help: a hidden verb would escape it.
                assert!(!verb.is_hide_set(), "{}", verb.get_name());
                let line = help.lines().nth(1).unwrap_or_default().trim();
                let parsed = Cli::try_parse_from(line.split_whitespace());
                assert!(parsed.is_ok(), "{line}: {parsed:?}");
                visit(verb);
            }
        }
        visit(&Cli::command());
    }

    #[test]
    fn ids_and_selectors_are_checked_or_kept() {
        let parse = |line: &str| Cli::try_parse_from(line.split_whitespace());
        for id in ["a/b", "a+", "#", "controller"] {
            let refused = parse(&format!("fleetway device add {id}")).expect_err(id).to_string();
            assert!(refused.contains(id), "{refused}");
        }
        let Ok(cli) = parse("fleetway rollout plan digits@v1 -l site=lab,floor!=2") else {
            panic!("a selector is one argument");
        };
        let Verb::Rollout(verb) = cli.verb else { panic!("rollout") };
        let RolloutVerb::Plan(args) = *verb else { panic!("plan") };
        assert_eq!(args.selector.as_deref(), Some("site=lab,floor!=2"));
        assert!(parse("fleetway status -o xml").is_err());
    }
}
