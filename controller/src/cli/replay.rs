//! `fleetway replay`: the decisions on file, made again. Offline: it reads files and asks nobody.

use std::path::PathBuf;

use clap::Args;
use fleetway_controller::replay::{self, ReplayError, replay};

use super::Context;
use super::output::facts;
use crate::api::failure::{Failure, Kind, chain};

/// `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A file of decisions, or a directory of them [default: those of the data directory]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(args: ReplayArgs, context: &Context) -> Result<(), Failure> {
    let path = args.file.unwrap_or_else(|| replay::dir(&context.data));
    let found = replay(&path).map_err(|error| {
        let kind = match &error {
            ReplayError::Io { .. } => Kind::Error,
            ReplayError::Nothing { .. } => Kind::NotFound,
            ReplayError::Foreign { .. } => Kind::Usage,
            ReplayError::Damaged { .. } | ReplayError::Differs { .. } => Kind::Trust,
        };
        Failure::new(kind, chain(&error))
    })?;
    context.output.data(&found, || {
        let text = |n: u64| n.to_string();
        facts(&[
            ("decisions", format!("{}, all the same", found.decisions)),
            ("acted", format!("{}, with {} orders", found.acted, found.orders)),
            ("files", found.files.to_string()),
            ("from, to", format!("{} to {} (Unix seconds)", found.from_s, found.to_s)),
            ("lost", text(found.lost)),
            ("torn bytes", text(found.torn_bytes)),
        ])
    })
}
