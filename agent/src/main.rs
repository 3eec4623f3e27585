//! `fleetway-agent`: the daemon on a device, and what a person at the device asks it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use fleetway_agent::clock::Clock;
use fleetway_agent::config::Config;
use fleetway_agent::identity::join::join;
use fleetway_agent::identity::places::SYSTEM_CONFIG;
use fleetway_agent::{doctor, run, service, status};
use fleetway_engine::selftest;

/// What it is called.
const NAME: &str = "fleetway-agent";

/// Runs signed models on this device and keeps them healthy.
///
/// The agent takes signed orders over MQTT, fetches and proves models, serves them to
/// applications over the Open Inference Protocol, and goes back by itself when one fails.
#[derive(Parser)]
#[command(name = NAME, version, max_term_width = 100)]
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
    /// Hold updates of a model back that ask for consent, until `release` or until the time ends.
    Hold {
        /// The model.
        model: String,
        /// Who holds it; `release` must say the same.
        #[arg(long, default_value = "fleetway-agent hold")]
        by: String,
        /// Seconds until the lock ends by itself, at most an hour.
        #[arg(long, value_name = "SECONDS", default_value = "600")]
        ttl: u32,
        #[command(flatten)]
        at: At,
    },
    /// Release what `hold` took.
    Release {
        /// The model.
        model: String,
        /// Who held it.
        #[arg(long, default_value = "fleetway-agent hold")]
        by: String,
        #[command(flatten)]
        at: At,
    },
    /// Look at everything that can be wrong here, and say how it is mended; changes nothing.
    ///
    /// Can be run beside a running agent. Exit codes: 0 all well, 1 warnings, 2 problems.
    Doctor {
        #[command(flatten)]
        at: At,
        /// How to print it.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Format,
    },
    /// Print the completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the man page; packages are made with it.
    #[command(hide = true)]
    Man,
}

#[derive(clap::Args)]
struct At {
    /// The configuration that `join` (or `fleetway device add`) writes.
    #[arg(long, env = "FLEETWAY_AGENT_CONFIG", default_value = SYSTEM_CONFIG)]
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
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.verb {
        Verb::Run(at) => {
            let config = Config::load(&at.config)?;
            service::log::init();
            let runtime = runtime()?;
            let ended = runtime.block_on(run::run(config));
            if let Ok(run::Ended::Again) = ended {
                return Err(run::again::become_again()).context("cannot start anew");
            }
            // A hung engine must not keep the process: its thread is left behind.
            runtime.shutdown_timeout(Duration::from_secs(1));
            let _ = ended?;
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
            match joined.config == Path::new(SYSTEM_CONFIG) {
                true => println!("next: systemctl start fleetway-agent"),
                false => println!("next: fleetway-agent run --config {config}"),
            }
        }
        Verb::Status { at, output } => {
            let status = runtime()?.block_on(status::fetch::fetch(&socket(&at)?))?;
            match output {
                Format::Text => print!("{}", status::render::render(&status)),
                Format::Json => println!("{}", serde_json::to_string_pretty(&status)?),
            }
        }
        Verb::Hold { model, by, ttl, at } => {
            runtime()?.block_on(status::fetch::hold(&socket(&at)?, &model, &by, Some(ttl)))?;
            println!("holds updates of {model} that ask for consent, for {ttl} s");
        }
        Verb::Release { model, by, at } => {
            runtime()?.block_on(status::fetch::hold(&socket(&at)?, &model, &by, None))?;
            println!("released {model}");
        }
        Verb::Doctor { at, output } => {
            let report = runtime()?.block_on(doctor::examine(&at.config));
            match output {
                Format::Text => print!("{}", doctor::render(&report)),
                Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
            }
            return Ok(ExitCode::from(report.worst.exit_code()));
        }
        Verb::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, NAME, &mut std::io::stdout());
        }
        Verb::Man => print_man()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// One page: the program, then each verb with its options.
fn print_man() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let command = Cli::command();
    clap_mangen::Man::new(command.clone()).render(&mut out)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let page =
            clap_mangen::Man::new(verb.clone().display_name(format!("{NAME} {}", verb.get_name())));
        page.render_synopsis_section(&mut out)?;
        page.render_description_section(&mut out)?;
        page.render_options_section(&mut out)?;
    }
    Ok(())
}

/// Where the running agent answers.
fn socket(at: &At) -> anyhow::Result<PathBuf> {
    let config = Config::load(&at.config)?;
    Ok(config.serve.endpoints.unix.context("the agent has no unix socket")?.path)
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
