//! What can be typed. Each verb's long help carries an example that works.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fleetway_link::BrokerUrl;

mod device;
mod rollout;

pub(crate) use super::config::ConfigVerb;
pub(crate) use device::*;
pub(crate) use rollout::*;

pub(crate) use super::trust_args::{DelegateArgs, KeyVerb, SecretArgs, TrustInitArgs, TrustVerb};
use super::values::{self, ReleaseName};

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
    /// Say who may use the API over the network, and as what
    #[command(subcommand, after_long_help = "Example:\n  fleetway token create ci --role operator")]
    Token(super::token::TokenVerb),
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
    /// Host name or address that devices connect to [default: localhost]
    #[arg(long = "name", value_name = "HOST")]
    pub(crate) names: Vec<String>,
    /// Use this broker instead of the embedded one
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Option<BrokerUrl>,
}

/// `model ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelVerb {
    /// Check a model file, run its golden vectors, and keep it as a draft (offline)
    #[command(
        after_long_help = "Example:\n  fleetway model import digits.onnx --name digits --version v1 --golden digits.npz\n  fleetway model import digits.onnx --name digits --version v2 --health policy.toml --reference train.npz\n\nA policy; all of it may be left out, and a bound is switched off with \"off\":\n  samples_min = 20                  # answers before anything is judged\n  window = \"1h\"                     # older answers do not count\n  inconclusive = \"wait\"             # or \"confirm after 1d\", \"roll back after 2h\"\n  errors_max = \"2%\"\n  p95_max = \"20ms\"\n  p95_beside_before_max = \"300%\"    # of the release before, on the same device\n  collapse_max = \"95%\"              # share of the most frequent class\n  psi_max = 0.1                     # drift from --reference\n  confidence_shift_max = 0.15\n  memory_max = \"512MiB\"\n  memory_growth_max = \"256MiB\"\n  crashes_max = 2\n  probation_min = \"10m\"\n  watch = [\"mean(image)\", \"confidence\"]\n  watch_classes = true"
    )]
    Import(Box<ImportArgs>),
    /// Sign a draft as the release authority (offline: no server, no network)
    #[command(
        after_long_help = "Example:\n  fleetway model sign digits@v1 --key /media/usb/release.key"
    )]
    Sign {
        /// Which release
        #[arg(value_name = "MODEL@VERSION")]
        release: ReleaseName,
        /// The key: FILE, ssh-agent:... or pkcs11:... [default: keys/release.key in the data directory]
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        #[command(flatten)]
        secret: SecretArgs,
    },
    /// Hand a signed release to the controller, which checks everything again
    #[command(after_long_help = "Example:\n  fleetway model publish digits@v1")]
    Publish {
        /// Which release
        #[arg(value_name = "MODEL@VERSION")]
        release: ReleaseName,
    },
    /// Write a release with its papers into a directory: manifest, signatures, bill of materials
    #[command(after_long_help = "Example:\n  fleetway model export digits@v1 --dir ./digits-v1")]
    Export {
        /// Which release
        #[arg(value_name = "MODEL@VERSION")]
        release: ReleaseName,
        /// A new or empty directory
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// List the releases that the controller has
    #[command(after_long_help = "Example:\n  fleetway model list -o json")]
    List,
    /// Show one release, published or still a draft
    #[command(after_long_help = "Example:\n  fleetway model show digits@v1")]
    Show {
        /// Which release
        #[arg(value_name = "MODEL@VERSION")]
        release: ReleaseName,
    },
}

/// `model import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The model: an ONNX file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Name of the model, the same for all its versions
    #[arg(long, value_name = "MODEL")]
    pub(crate) name: fleetway_protocol::ids::ModelName,
    /// What people call this release
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: fleetway_protocol::ids::Version,
    /// Golden vectors made with a reference runtime [default: FILE with .golden.npz]
    #[arg(long, value_name = "FILE.npz")]
    pub(crate) golden: Option<PathBuf>,
    /// Place in the order of releases [default: one above the last import]
    #[arg(long, value_name = "N")]
    pub(crate) counter: Option<u64>,
    /// Once confirmed, devices refuse releases below this counter [default: the previous release's]
    #[arg(long, value_name = "N")]
    pub(crate) min_release: Option<u64>,
    /// Hardware class that it is for; repeat it, up to 8 [default: any]
    #[arg(long, value_name = "CLASS")]
    pub(crate) hardware: Vec<fleetway_protocol::ids::HardwareClass>,
    /// A policy: when devices shall call it healthy [default: 2% errors, no class above 95%]
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) health: Option<PathBuf>,
    /// Inputs as applications will send them, to tell drift by: an array in.INPUT for each input
    #[arg(long, value_name = "FILE.npz")]
    pub(crate) reference: Option<PathBuf>,
    /// Size of the pieces that travel
    #[arg(long, value_name = "SIZE", value_parser = values::bytes)]
    pub(crate) chunk_bytes: Option<u32>,
    /// Largest difference to a golden output that is tolerated
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    pub(crate) abs_err: f32,
    /// Take the model although it does not match its golden vectors; the reason travels with it
    #[arg(long, value_name = "REASON")]
    pub(crate) accept_golden_mismatch: Option<String>,
    /// An OpenSSF Model Signing bundle that must vouch for the file; its digest is signed with it
    #[arg(long, value_name = "BUNDLE", requires = "attestation_key")]
    pub(crate) attestation: Option<PathBuf>,
    /// Public key of whoever made that bundle: P-256, P-384 or P-521
    #[arg(long, value_name = "PEM", requires = "attestation")]
    pub(crate) attestation_key: Option<PathBuf>,
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
