//! `cargo xtask`: the project's verbs, the same for people and for CI.
//!
//! Light on purpose (it is built before anything else, in seconds): it finds out what is
//! missing, calls cargo, and says in the end what happened. What it starts runs in the
//! terminal's process group, or takes this process's place, so that Ctrl-C reaches it.
//!
//! Read in this order: [`needs`] (what a machine must have), [`cargo`] (how cargo is
//! called), [`mod@test`] and [`lanes`] (test programs side by side), [`emulated`] and [`mod@bochs`] (kernels on
//! other processors), [`lint`], [`run`] (demo, bench, sim,
//! soak), [`mod@cross`] and [`targets`] (what is built for which device), [`mod@package`] (Debian packages), [`mod@bindings`] (the library for other languages),
//! [`inference`] (int8 engines side by side), [`firmware`] (an emulated board), and [`fuzz`]
//! (libFuzzer and Miri).

mod bindings;
mod bochs;
mod cargo;
mod cross;
mod emulated;
mod firmware;
mod flash;
mod fuzz;
mod inference;
mod lanes;
mod lint;
mod needs;
mod package;
mod run;
mod targets;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// The project's verbs.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The project's verbs: show it, test it, measure it.",
    after_help = "A newcomer runs `cargo xtask demo`, then `cargo xtask test`.",
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Watch a fleet of eight take a model, take a better one, refuse a bad one and keep working
    Demo {
        /// A microcontroller instead: the firmware on an emulated board, behind an agent
        #[arg(long)]
        mcu: bool,
        /// Leave the fleet up afterwards, to play with
        #[arg(long)]
        stay: bool,
    },
    /// Install what the tests need, build everything, run all tests
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test -p fleetway-protocol\n  cargo xtask test --test e2e_rollout -- --nocapture"
    )]
    Test {
        /// Passed on to `cargo test`; without any, the whole workspace is tested
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Measure memory, sizes, times and bytes on the wire with real processes
    Bench(BenchArgs),
    /// Run the simulated world on many seeds
    Sim(SimArgs),
    /// Kill processes at random moments, with fresh seeds, for as long as you like
    #[command(
        after_help = "Examples:\n  cargo xtask soak --minutes 10\n  cargo xtask soak firmware --runs 10000 --kills 50"
    )]
    Soak(SoakArgs),
    /// Feed parsers rubbish under libFuzzer (needs a C++ compiler)
    #[command(
        after_help = "Examples:\n  cargo xtask fuzz\n  cargo xtask fuzz manifest --time 600\n\nThe first build takes some ten minutes. The same targets run, without coverage, in every `cargo xtask test`."
    )]
    Fuzz {
        /// Which parser; without one all of them, one after the other
        #[arg(value_name = "TARGET")]
        target: Option<String>,
        /// For how long each, in seconds
        #[arg(long, value_name = "S", default_value_t = 60)]
        time: u64,
    },
    /// Build the agent, the library and the firmware for every kind of device, and say how large they are
    #[command(
        after_help = "Examples:\n  cargo xtask cross\n  cargo xtask cross musl mps2\n\nAll of it takes half an hour of compilers. What is built for which target, and how large it may be: cross/src/targets.rs."
    )]
    Cross {
        /// Only what has this in its name
        #[arg(value_name = "NAME")]
        only: Vec<String>,
    },
    /// Make Debian packages of what is shipped
    #[command(
        after_help = "Examples:\n  cargo xtask package\n  cargo xtask package --profile dev --out /tmp/debs"
    )]
    Package(PackageArgs),
    /// Build the agent as a shared library, its C header, and Kotlin, Swift and Python for it
    Bindings {
        /// Where the bindings go
        #[arg(long, value_name = "DIR", default_value = "target/bindings")]
        out: PathBuf,
    },
    /// Test the int8 kernels on processors that this machine is not: AArch64, Cortex-M4, AVX-512
    Emulated,
    /// Run the tests of the protocol and the int8 runtime under Miri (needs a nightly toolchain with miri)
    Miri,
    /// Check format, clippy, documentation, licences, and that the protocol builds without std
    Lint,
}

#[derive(Debug, Args)]
struct SoakArgs {
    /// For how long, in minutes
    #[arg(long, value_name = "N", default_value_t = 60)]
    minutes: u64,
    /// `firmware` instead: cut the power of a simulated flash, plant bugs, kill an emulated board
    #[arg(value_name = "WHAT", value_parser = ["firmware"])]
    what: Option<String>,
    /// Runs of the firmware on a simulated flash
    #[arg(long, value_name = "N", default_value_t = 100_000, requires = "what")]
    runs: u64,
    /// Kills of the emulated boards, together
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "what")]
    kills: u64,
}

#[derive(Debug, Args)]
struct BenchArgs {
    /// Write the figures there too, as one flat JSON object
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Do not build the shipped binaries (minutes of link-time optimization); their sizes are left out then
    #[arg(long)]
    no_dist: bool,
    /// Where `inference` and `firmware` find further models: *.onnx, each perhaps with a .tflite beside it
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// How many threads `inference` measures beside one
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Measure these only: memory, cold-start, swap, rollback, wire, confirm-8, confirm-100;
    /// or by itself `inference` (int8 models on qnn, onnxruntime and LiteRT) or `firmware` (its boards)
    #[arg(value_name = "WHAT")]
    only: Vec<String>,
}

#[derive(Debug, Args)]
struct PackageArgs {
    /// The cargo profile of the programs
    #[arg(long, value_name = "NAME", default_value = "dist")]
    profile: String,
    /// Take the programs from this directory instead of building them
    #[arg(long, value_name = "DIR", conflicts_with = "profile")]
    binaries: Option<PathBuf>,
    /// Where the packages go
    #[arg(long, value_name = "DIR", default_value = "target/packages")]
    out: PathBuf,
    /// Their version
    #[arg(long, value_name = "V", default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
}

#[derive(Debug, Args)]
struct SimArgs {
    /// Number of seeds
    #[arg(long, value_name = "N", default_value_t = 1000)]
    seeds: u64,
    /// This seed alone, with its story
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Rollouts over a simple fleet instead: how often they stop by mistake, and when they should
    #[arg(long, conflicts_with = "seed")]
    rollouts: bool,
    /// The first seed of those
    #[arg(long, value_name = "N", default_value_t = 1, requires = "rollouts")]
    first: u64,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Demo { mcu, stay } => run::demo(mcu, stay),
        Verb::Test { args } => test::test(&args),
        Verb::Bench(args) if args.only == ["inference"] => {
            inference::bench(args.json.as_deref(), args.models.as_deref(), args.threads)
        }
        Verb::Bench(args) if args.only == ["firmware"] => {
            firmware::bench(args.json.as_deref(), args.models.as_deref())
        }
        Verb::Bench(args) => run::bench(args.json.as_deref(), args.no_dist, &args.only),
        Verb::Sim(args) if args.rollouts => run::rollouts(args.seeds, args.first),
        Verb::Sim(args) => run::sim(args.seeds, args.seed),
        Verb::Soak(args) if args.what.is_some() => firmware::soak(args.runs, args.kills),
        Verb::Soak(args) => run::soak(Duration::from_secs(args.minutes * 60)),
        Verb::Fuzz { target, time } => fuzz::fuzz(target.as_deref(), time),
        Verb::Bindings { out } => bindings::bindings(&out),
        Verb::Emulated => emulated::all(),
        Verb::Cross { only } => cross::cross(&only),
        Verb::Miri => fuzz::miri(),
        Verb::Package(args) => package::package(&package::Options {
            profile: &args.profile,
            binaries: args.binaries.as_deref(),
            out: &args.out,
            version: &args.version,
        }),
        Verb::Lint => lint::lint(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A heading, so that a long log can be scanned.
fn say(text: &str) {
    eprintln!("\n== {text}");
}
