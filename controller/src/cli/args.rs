//! What can be typed. Each verb's long help carries an example that works.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fleetway_controller::planner::Size;
use fleetway_link::BrokerUrl;

mod device;

pub(crate) use device::*;

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
    after_help = "Data goes to stdout, talk to stderr. Exit codes: 0 done, 1 error, 2 usage, 3 rollout failed,\n\
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
    #[arg(long, global = true, env = "FLEETWAY_DATA", value_name = "DIR", hide_env_values = true)]
    pub(crate) data: Option<PathBuf>,
    /// Form of what is printed on stdout
    #[arg(short, long, global = true, value_name = "FORM", default_value = "table")]
    pub(crate) output: Format,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
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
    /// Plan, start, watch, pause, resume and abort rollouts
    #[command(
        subcommand,
        after_long_help = "Example:\n  fleetway rollout start digits@v2 --canary 1 --phase 25% --phase 100%"
    )]
    // By far the longest list of options.
    Rollout(Box<RolloutVerb>),
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

/// `rollout ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutVerb {
    /// Say what is wrong or unwise in a rollout's file, with line and column
    #[command(after_long_help = "Example:\n  fleetway rollout lint digits-v2.toml")]
    Lint {
        /// A rollout as a file: .toml or .json
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Show what a rollout would do, and why devices would not move
    #[command(
        after_long_help = "Example:\n  fleetway rollout plan digits@v2 -l site=lab --canary 1 --phase 100%"
    )]
    Plan(RolloutArgs),
    /// Start a rollout
    #[command(
        after_long_help = "Example:\n  fleetway rollout start digits@v2 --canary 1 --phase 25% --phase 100% --soak 10m"
    )]
    Start {
        #[command(flatten)]
        rollout: RolloutArgs,
        /// Only if the plan is still the one that `rollout plan` showed with this hash
        #[arg(long, value_name = "HASH")]
        plan: Option<String>,
        /// Although the plan is not the one that was shown
        #[arg(long, requires = "plan")]
        even_if_changed: bool,
    },
    /// Show a rollout; with --wait, wait for its end
    #[command(after_long_help = "Example:\n  fleetway rollout status 3 --wait --timeout 10m")]
    Status {
        /// Which rollout
        #[arg(value_name = "ID")]
        id: u64,
        /// Wait until it ends or halts
        #[arg(long)]
        wait: bool,
        /// Give up waiting after this time
        #[arg(long, value_name = "TIME", value_parser = values::duration, requires = "wait")]
        timeout: Option<Duration>,
    },
    /// List rollouts
    #[command(after_long_help = "Example:\n  fleetway rollout list")]
    List,
    /// Watch a rollout until it ends; Ctrl-C leaves it running
    #[command(after_long_help = "Example:\n  fleetway rollout watch 3")]
    Watch {
        /// Which rollout
        #[arg(value_name = "ID")]
        id: u64,
    },
    /// Start nothing new until it is resumed
    #[command(after_long_help = "Example:\n  fleetway rollout pause 3")]
    Pause {
        /// Which rollout
        #[arg(value_name = "ID")]
        id: u64,
    },
    /// Go on with a paused or halted rollout
    #[command(after_long_help = "Example:\n  fleetway rollout resume 3")]
    Resume {
        /// Which rollout
        #[arg(value_name = "ID")]
        id: u64,
    },
    /// Let the phase begin that waits for it
    #[command(after_long_help = "Example:\n  fleetway rollout approve 3")]
    Approve {
        /// Which rollout
        #[arg(value_name = "ID")]
        id: u64,
    },
    /// End it for good; devices that have the release keep it
    #[command(after_long_help = "Example:\n  fleetway rollout abort 3")]
    Abort {
        /// Which rollout
        #[arg(value_name = "ID")]
        id: u64,
    },
}

/// What a rollout is.
#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    /// Which release [default: the one that the file names]
    #[arg(value_name = "MODEL@VERSION", required_unless_present = "file")]
    pub(crate) release: Option<ReleaseName>,
    /// A rollout as a file, .toml or .json; flags go before what it says
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Only devices with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// First phase: the canary
    #[arg(long, value_name = "N|P%")]
    pub(crate) canary: Option<Size>,
    /// A further phase, counted from the beginning; repeat it. All devices come last by themselves
    #[arg(long = "phase", value_name = "N|P%")]
    pub(crate) phases: Vec<Size>,
    /// Time that a finished phase is watched before the next begins
    #[arg(long, value_name = "TIME", value_parser = values::seconds)]
    pub(crate) soak: Option<u32>,
    /// Failed devices that are tolerated
    #[arg(long, value_name = "N")]
    pub(crate) failures_max: Option<u32>,
    /// Share of a phase that must have succeeded before the next begins
    #[arg(long, value_name = "P%", value_parser = values::percent)]
    pub(crate) success: Option<u8>,
    /// Devices that may be on the move or silent at once
    #[arg(long, value_name = "N|P%")]
    pub(crate) max_unavailable: Option<Size>,
    /// How long a device tries the release before it keeps it
    #[arg(long, value_name = "TIME", value_parser = values::seconds)]
    pub(crate) probation: Option<u32>,
    /// Real answers that a device must have given with it before it keeps it
    #[arg(long, value_name = "N")]
    pub(crate) answers: Option<u32>,
    /// 95th percentile of the latency that is tolerated, in milliseconds; 0 is off
    #[arg(long, value_name = "X", value_parser = values::millis_as_us)]
    pub(crate) p95_ms: Option<u32>,
    /// Failed answers that are tolerated
    #[arg(long, value_name = "X", value_parser = values::permille)]
    pub(crate) error_percent: Option<u16>,
    /// Share of the most frequent class that is tolerated; 100 is off
    #[arg(long, value_name = "X", value_parser = values::permille)]
    pub(crate) collapse_percent: Option<u16>,
    #[command(flatten)]
    pub(crate) shadow: super::wishes::ShadowArgs,
    #[command(flatten)]
    pub(crate) hold: super::wishes::HoldArgs,
    /// Time after which a device that is not done counts as failed
    #[arg(long, value_name = "TIME", value_parser = values::seconds)]
    pub(crate) device_timeout: Option<u32>,
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
    /// `UPDATE_HELP=1 cargo test -p fleetway-controller help` writes it anew.
    #[test]
    fn the_first_page_is_stable() {
        let page = Cli::command().term_width(100).render_help().to_string();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/help.txt");
        if std::env::var_os("UPDATE_HELP").is_some() {
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
        assert!(parse("fleetway rollout status 3 --timeout 5s").is_err(), "--timeout needs --wait");
        assert!(parse("fleetway status -o yaml").is_err());
    }
}
