//! What packages are made with: the completions of shells, and the manual page.

use std::io::Write as _;

use clap::{Command, CommandFactory as _};

use super::args::Cli;
use crate::api::failure::Failure;

/// Name of the program.
const NAME: &str = "fleetway";

pub(super) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut out);
    print(&out)
}

/// One page: the program, then each verb with its options and its example.
pub(super) fn man() -> Result<(), Failure> {
    let mut out = Vec::new();
    let command = Cli::command();
    let written = clap_mangen::Man::new(command.clone())
        .render(&mut out)
        .and_then(|()| verbs(&command, NAME, &mut out));
    written.map_err(|error| Failure::from_error("cannot make the page", &error))?;
    print(&out)
}

fn verbs(command: &Command, path: &str, out: &mut Vec<u8>) -> std::io::Result<()> {
    for verb in command.get_subcommands() {
        let path = format!("{path} {}", verb.get_name());
        if verb.has_subcommands() {
            verbs(verb, &path, out)?;
            continue;
        }
        let page = clap_mangen::Man::new(verb.clone().display_name(&path).bin_name(&path));
        page.render_synopsis_section(out)?;
        page.render_description_section(out)?;
        page.render_options_section(out)?;
        page.render_extra_section(out)?;
    }
    Ok(())
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::from_error("cannot write to stdout", &error))
        }
        _ => Ok(()),
    }
}
