//! `fleetway config`: what the command line is set to, and by whom.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::Context;
use super::files::{self, PUBLIC};
use super::output::{or_dash, table};
use super::settings::{self, Origin};
use crate::api::failure::Failure;

/// `config ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Show the settings of the command line
    #[command(
        after_long_help = "Example:\n  fleetway config view --origin\n\nThe strongest wins: flag, FLEETWAY_* variable, --config FILE, ~/.config/fleetway/config.toml,\n/etc/fleetway/conf.d/*.toml (the last name first), /etc/fleetway/config.toml. A file:\n  context = \"lab\"        # the context in use\n  output = \"wide\"\n  no_input = false\n\n  [contexts.lab]\n  data = \"/srv/fleet-lab\""
    )]
    View {
        /// Say where each of them comes from
        #[arg(long)]
        origin: bool,
    },
    /// List the contexts: controllers by name
    #[command(after_long_help = "Example:\n  fleetway config contexts")]
    Contexts,
    /// Use a context from now on: writes it into your own file
    #[command(after_long_help = "Example:\n  fleetway config use lab")]
    Use {
        /// Which context
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// One setting.
#[derive(Serialize)]
struct Line {
    name: &'static str,
    value: Option<String>,
    origin: String,
}

/// One context.
#[derive(Serialize)]
struct ContextLine {
    id: String,
    data: PathBuf,
    current: bool,
    origin: String,
}

pub(super) fn run(verb: ConfigVerb, context: &Context) -> Result<(), Failure> {
    match verb {
        ConfigVerb::View { origin } => view(origin, context),
        ConfigVerb::Contexts => contexts(context),
        ConfigVerb::Use { name } => use_context(&name, context),
    }
}

fn view(origin: bool, context: &Context) -> Result<(), Failure> {
    let set = &context.settings;
    let of = |name, value: Option<String>, origin: Option<&Origin>| Line {
        name,
        value,
        origin: origin.unwrap_or(&Origin::Default).to_string(),
    };
    let data = context.data.display().to_string();
    let lines = [
        of(
            "context",
            set.context.as_ref().map(|c| c.value.clone()),
            set.context.as_ref().map(|c| &c.origin),
        ),
        of("data", Some(data), set.data.as_ref().map(|d| &d.origin)),
        of("output", Some(set.output.value.word().into()), Some(&set.output.origin)),
        of("no_input", Some(set.no_input.value.to_string()), Some(&set.no_input.origin)),
    ];
    context.output.data(&lines, || {
        let value = |line: &Line| or_dash(line.value.as_ref());
        if origin {
            let row = |line: &Line| [line.name.to_owned(), value(line), line.origin.clone()];
            table(["setting", "value", "origin"], lines.iter().map(row))
        } else {
            let row = |line: &Line| [line.name.to_owned(), value(line)];
            table(["setting", "value"], lines.iter().map(row))
        }
    })
}

fn contexts(context: &Context) -> Result<(), Failure> {
    let current = context.settings.context.as_ref().map(|c| &c.value);
    let contexts = context.settings.contexts.iter().map(|(name, data)| ContextLine {
        id: name.clone(),
        data: data.value.clone(),
        current: current == Some(name),
        origin: data.origin.to_string(),
    });
    let contexts: Vec<_> = contexts.collect();
    context.output.data(&contexts, || {
        let row = |line: &ContextLine| {
            let mark = if line.current { "*" } else { "" };
            [mark.into(), line.id.clone(), line.data.display().to_string(), line.origin.clone()]
        };
        table(["", "context", "data", "origin"], contexts.iter().map(row))
    })
}

fn use_context(name: &str, context: &Context) -> Result<(), Failure> {
    if !context.settings.contexts.contains_key(name) {
        return Err(Failure::not_found(format!("no context {name:?}"))
            .mend("see `fleetway config contexts`; a context is a section [contexts.NAME]"));
    }
    let path = settings::user_file().ok_or_else(|| {
        Failure::usage("no file of your own: neither HOME nor XDG_CONFIG_HOME is set")
            .mend("set one of them, or give --context each time")
    })?;
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::file("read", &path, &error)),
    };
    if let Some(dir) = path.parent() {
        files::make_dir(dir)?;
    }
    files::write(&path, PUBLIC, with_context(&text, name).as_bytes())?;
    let done = serde_json::json!({ "context": name, "file": path });
    context.output.data(&done, || format!("uses {name} from now on ({})", path.display()))
}

/// The text of a file with another context in use; everything else stays, comments too.
fn with_context(text: &str, name: &str) -> String {
    let line = format!("context = {name:?}");
    let end = text.lines().position(|l| l.trim_start().starts_with('[')).unwrap_or(usize::MAX);
    let is_it = |l: &str| {
        l.trim_start()
            .strip_prefix("context")
            .is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let at = text.lines().take(end).position(is_it);
    let mut lines: Vec<&str> = text.lines().collect();
    match at {
        Some(at) => lines[at] = &line,
        None => lines.insert(0, &line),
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_context_in_use_changes() {
        let check = |before: &str, after: &str| assert_eq!(with_context(before, "lab"), after);
        check("", "context = \"lab\"\n");
        check("# mine\ncontext = \"x\"\n", "# mine\ncontext = \"lab\"\n");
        check(
            "output = \"json\"\n[contexts.lab]\ncontext = 1\n",
            "context = \"lab\"\noutput = \"json\"\n[contexts.lab]\ncontext = 1\n",
        );
    }
}
