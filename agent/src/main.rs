//! `fleetway-agent`: the daemon on a device, and what a person at the device asks it.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use fleetway_agent::clock::Clock;
use fleetway_agent::config::Config;
use fleetway_agent::identity::join::join;
use fleetway_agent::{run, status};
use fleetway_engine::selftest;

/// Runs signed models on this device and keeps them healthy.
///
/// The agent takes signed orders over MQTT, fetches and proves models, serves them to
/// applications over the Open Inference Protocol, and goes back by itself when one fails.
#[derive(Parser)]
#[command(name = "fleetway-agent", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the agent until it is asked to stop (SIGTERM or Ctrl-C).
    Run(At),
    /// Make this box a device of a fleet, by the string that `fleetway device enroll` printed.
    ///
    /// Makes a key that never leaves the device, checks that the controller is the one that
    /// the string pins, gets a certificate, and writes the configuration. Can be repeated.
    Join {
        /// The join string; spaces and line breaks do not matter. `-` reads it from stdin.
        #[arg(value_name = "STRING", required = true)]
        string: Vec<String>,
        #[command(flatten)]
        at: At,
    },
    /// Tell what runs on this device, why, and what is wrong.
    Status {
        #[command(flatten)]
        at: At,
        /// How to print it.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Format,
    },
    /// Check the configuration and say what it means; changes nothing.
    Check(At),
}

#[derive(clap::Args)]
struct At {
    /// The configuration that `join` (or `fleetway device add`) writes.
    #[arg(long, env = "FLEETWAY_AGENT_CONFIG", default_value = "/etc/fleetway/agent.toml")]
    config: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

fn main() -> ExitCode {
    // The self-test's child is this executable again; it does nothing else first.
    if selftest::child_requested() {
        return selftest::child_main();
    }
    match act(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(cli: Cli) -> anyhow::Result<()> {
    match cli.verb {
        Verb::Run(at) => {
            let config = Config::load(&at.config)?;
            log_to_stderr();
            let runtime = runtime()?;
            let ended = runtime.block_on(run::run(config));
            // A hung engine must not keep the process: its thread is left behind.
            runtime.shutdown_timeout(Duration::from_secs(1));
            ended?;
        }
        Verb::Join { string, at } => {
            let string = match string.as_slice() {
                [dash] if dash == "-" => read_stdin()?,
                words => words.concat(),
            };
            let clock = Clock::new(0);
            let joined = runtime()?.block_on(join(&string, &at.config, &clock))?;
            let config = joined.config.display();
            println!("joined as {}; broker {}", joined.device, joined.broker);
            if !joined.root {
                println!("no TUF root was pinned: the fleet has none yet");
            }
            println!("next: fleetway-agent run --config {config}");
        }
        Verb::Status { at, output } => {
            let config = Config::load(&at.config)?;
            let socket = config.serve.endpoints.unix.context("the agent has no unix socket")?.path;
            let status = runtime()?.block_on(status::fetch::fetch(&socket))?;
            match output {
                Format::Text => print!("{}", status::render::render(&status)),
                Format::Json => println!("{}", serde_json::to_string_pretty(&status)?),
            }
        }
        Verb::Check(at) => {
            let config = Config::load(&at.config)?;
            println!(
                "{} is a good configuration: device {}, broker {}",
                at.config.display(),
                config.device,
                config.broker.url
            );
        }
    }
    Ok(())
}

/// A join string is far shorter.
const STDIN_BYTES_MAX: u64 = 64 * 1024;

fn read_stdin() -> anyhow::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::io::stdin().take(STDIN_BYTES_MAX).read_to_string(&mut text).context("stdin")?;
    Ok(text)
}

/// Two workers: one for the loop, one for applications; a small box has no more.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads")
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FLEETWAY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
}
