//! Where the command line finds its settings: flag, variable, `--config`, the user's file, the
//! system's `conf.d`, the system's file, in this order; the strongest place that says something wins.
//!
//! Pure but for [`gather`], which reads the files and the environment. Not to be confused with
//! `fleetway.toml` in a data directory, which is the controller's.
//!
//! Which controller is meant can be said as a directory (`data`) or as a context, a name for one.
//! Within one place the directory is the narrower word; between places the stronger place wins,
//! whichever of the two it used.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::args::{Format, Global};
use crate::api::failure::Failure;
use crate::config::{one_line, place_of};

/// The system's directory: its file, and `conf.d` for packages and configuration management.
const SYSTEM_DIR: &str = "/etc/fleetway";
/// The user's file, below the directory for configurations.
const USER_FILE: &str = "fleetway/config.toml";

/// A file with settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    /// The context in use.
    context: Option<String>,
    /// Data directory of the controller; relative to the file.
    data: Option<PathBuf>,
    /// Form of what is printed.
    output: Option<Format>,
    /// Whether nothing is asked.
    no_input: Option<bool>,
    /// Controllers by name.
    contexts: BTreeMap<String, Controller>,
}

/// Section `[contexts.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Controller {
    /// Its data directory; relative to the file.
    data: PathBuf,
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Typed.
    Flag(&'static str),
    /// The environment.
    Variable(&'static str),
    /// A file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value, and who said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    /// The value.
    pub(crate) value: T,
    /// Who said it.
    pub(crate) origin: Origin,
}

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The context in use, if the directory comes from one.
    pub(crate) context: Option<Setting<String>>,
    /// The data directory; `None`: as installed.
    pub(crate) data: Option<Setting<PathBuf>>,
    /// Form of what is printed.
    pub(crate) output: Setting<Format>,
    /// Whether nothing is asked.
    pub(crate) no_input: Setting<bool>,
    /// Every context, its directory and the file that names it.
    pub(crate) contexts: BTreeMap<String, Setting<PathBuf>>,
}

/// One place that says something.
#[derive(Debug)]
struct Place {
    said: File,
    origin: fn(&'static str) -> Origin,
    path: Option<PathBuf>,
}

impl Place {
    fn file(path: PathBuf, mut said: File) -> Self {
        // What is relative is so to the file, wherever the command is run.
        let beside = |data: &Path| path.parent().unwrap_or(Path::new("/")).join(data);
        said.data = said.data.as_deref().map(beside);
        said.contexts.values_mut().for_each(|c| c.data = beside(&c.data));
        Self { said, origin: |_| Origin::Default, path: Some(path) }
    }

    fn origin(&self, name: &'static str) -> Origin {
        match &self.path {
            Some(path) => Origin::File(path.clone()),
            None => (self.origin)(name),
        }
    }
}

/// Reads everything that says something.
pub(crate) fn gather(global: &Global) -> Result<Settings, Failure> {
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let output = match variable("FLEETWAY_OUTPUT") {
        None => None,
        Some(text) => Some(<Format as clap::ValueEnum>::from_str(&text, false).map_err(|_| {
            Failure::usage(format!("FLEETWAY_OUTPUT is {text:?}, which is no form of output"))
                .mend("use table, wide, json, yaml, jsonl or name")
        })?),
    };
    let flags = File {
        context: global.context.clone(),
        data: global.data.clone(),
        output: global.output,
        no_input: global.no_input.then_some(true),
        contexts: BTreeMap::new(),
    };
    let variables = File {
        context: variable("FLEETWAY_CONTEXT"),
        data: std::env::var_os("FLEETWAY_DATA").filter(|d| !d.is_empty()).map(PathBuf::from),
        output,
        ..File::default()
    };
    let mut places = vec![
        Place { said: flags, origin: flag, path: None },
        Place { said: variables, origin: of_variable, path: None },
    ];
    let named = global.config.clone().or_else(|| variable("FLEETWAY_CONFIG").map(PathBuf::from));
    if let Some(path) = named {
        let path = super::absolute(&path)?;
        let text = super::files::read(&path)?;
        places.push(Place::file(path.clone(), parse(&text, &path)?));
    }
    for path in user_file().into_iter().chain(system_files(Path::new(SYSTEM_DIR))?) {
        match std::fs::read_to_string(&path) {
            Ok(text) => places.push(Place::file(path.clone(), parse(&text, &path)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::file("read", &path, &error)),
        }
    }
    resolve(&places)
}

fn flag(name: &'static str) -> Origin {
    Origin::Flag(match name {
        "context" => "--context",
        "data" => "--data",
        "output" => "--output",
        _ => "--no-input",
    })
}

fn of_variable(name: &'static str) -> Origin {
    Origin::Variable(match name {
        "context" => "FLEETWAY_CONTEXT",
        "data" => "FLEETWAY_DATA",
        _ => "FLEETWAY_OUTPUT",
    })
}

/// The user's file, whether it is there or not.
pub(crate) fn user_file() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")));
    base.map(|base| base.join(USER_FILE))
}

/// The system's files, the strongest first: of `conf.d` whichever name comes last in the alphabet,
/// then `config.toml`, whether it is there or not.
fn system_files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let drop_ins = dir.join("conf.d");
    let mut files = Vec::new();
    match std::fs::read_dir(&drop_ins) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(|error| Failure::file("read", &drop_ins, &error))?.path();
                files.extend(Some(path).filter(|p| p.extension() == Some("toml".as_ref())));
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::file("read", &drop_ins, &error)),
    }
    files.sort();
    files.reverse();
    files.push(dir.join("config.toml"));
    Ok(files)
}

fn parse(text: &str, path: &Path) -> Result<File, Failure> {
    toml::from_str(text).map_err(|error| {
        let place = place_of(text, error.span().map_or(0, |span| span.start));
        let what = one_line(error.message());
        Failure::usage(format!("{}:{place}: {what}", path.display())).mend(
            "known are context, data, output, no_input and [contexts.NAME] with data; see `fleetway config view`",
        )
    })
}

/// From the strongest place to the weakest.
fn resolve(places: &[Place]) -> Result<Settings, Failure> {
    let mut contexts = BTreeMap::new();
    for place in places.iter().rev() {
        for (name, controller) in &place.said.contexts {
            let setting =
                Setting { value: controller.data.clone(), origin: place.origin("contexts") };
            contexts.insert(name.clone(), setting);
        }
    }
    let (mut context, mut data) = (None, None);
    for place in places {
        if let Some(value) = &place.said.data {
            data = Some(Setting { value: value.clone(), origin: place.origin("data") });
            break;
        }
        if let Some(name) = &place.said.context {
            let origin = place.origin("context");
            let found = contexts.get(name).ok_or_else(|| no_context(name, &origin, &contexts))?;
            data = Some(found.clone());
            context = Some(Setting { value: name.clone(), origin });
            break;
        }
    }
    Ok(Settings {
        context,
        data,
        output: pick(places, "output", |said| said.output, Format::Table),
        no_input: pick(places, "no_input", |said| said.no_input, false),
        contexts,
    })
}

fn pick<T>(
    places: &[Place],
    name: &'static str,
    of: impl Fn(&File) -> Option<T>,
    default: T,
) -> Setting<T> {
    let said =
        |place: &Place| of(&place.said).map(|value| Setting { value, origin: place.origin(name) });
    let found = places.iter().find_map(said);
    found.unwrap_or(Setting { value: default, origin: Origin::Default })
}

fn no_context(
    name: &str,
    origin: &Origin,
    contexts: &BTreeMap<String, Setting<PathBuf>>,
) -> Failure {
    let known: Vec<_> = contexts.keys().map(String::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Failure::not_found(format!("no context {name:?} (from {origin})"))
        .mend(format!("known are: {known}; a context is a section [contexts.NAME] with data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(flags: &str, variables: &str, files: &[&str]) -> Vec<Place> {
        let read = |text: &str| parse(text, Path::new("-")).unwrap();
        let mut places = vec![
            Place { said: read(flags), origin: flag, path: None },
            Place { said: read(variables), origin: of_variable, path: None },
        ];
        for (at, text) in files.iter().enumerate() {
            places.push(Place::file(PathBuf::from(format!("/f{at}/config.toml")), read(text)));
        }
        places
    }

    #[test]
    fn the_stronger_place_wins_whichever_word_it_used() {
        let lab = "[contexts.lab]\ndata = \"lab\"\n";
        let check = |flags: &str, variables: &str, files: &[&str], data: &str, origin: &str| {
            let settings = resolve(&places(flags, variables, files)).unwrap();
            let found = settings.data.unwrap();
            assert_eq!(found.value, Path::new(data), "{flags} {variables} {files:?}");
            let origin_is = settings.context.map_or(found.origin, |context| context.origin);
            assert_eq!(origin_is.to_string(), origin);
        };
        check("data = \"/a\"", "data = \"/b\"", &["data = \"/c\""], "/a", "--data");
        check("", "data = \"/b\"", &["data = \"/c\""], "/b", "FLEETWAY_DATA");
        check("", "", &["", "data = \"c\""], "/f1/c", "/f1/config.toml");
        check("context = \"lab\"", "data = \"/b\"", &[lab], "/f0/lab", "--context");
        check("", "data = \"/b\"", &[&format!("context = \"lab\"\n{lab}")], "/b", "FLEETWAY_DATA");
        check("data = \"/a\"\ncontext = \"lab\"", "", &[], "/a", "--data");
        let there = "[contexts.lab]\ndata = \"there\"\n";
        check("", "context = \"lab\"", &[there, lab], "/f0/there", "FLEETWAY_CONTEXT");
    }

    #[test]
    fn what_is_missing_or_misspelt_is_named_with_its_place() {
        let failure = resolve(&places("context = \"x\"", "", &[])).unwrap_err();
        assert_eq!(failure.message, "no context \"x\" (from --context)");
        let check = |text: &str, expected: &str| {
            let failure = parse(text, Path::new("c.toml")).unwrap_err();
            assert!(failure.message.starts_with(expected), "{}", failure.message);
        };
        check("data = \"/a\"\n  outptu = \"json\"\n", "c.toml:2:3: unknown field `outptu`");
        check("output = \"xml\"\n", "c.toml:1:10: unknown variant `xml`");
        check("[contexts.a]\n", "c.toml:1:1: missing field `data`");
    }

    #[test]
    fn the_last_of_the_system_s_files_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let names = || -> Vec<String> {
            let files = system_files(dir.path()).unwrap();
            let name = |p: &PathBuf| p.strip_prefix(dir.path()).unwrap().display().to_string();
            files.iter().map(name).collect()
        };
        assert_eq!(names(), ["config.toml"], "nothing is there");
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        for name in ["10-site.toml", "90-host.toml", "90-host.toml.dpkg-old", "README"] {
            std::fs::write(dir.path().join("conf.d").join(name), "").unwrap();
        }
        assert_eq!(names(), ["conf.d/90-host.toml", "conf.d/10-site.toml", "config.toml"]);
    }

    #[test]
    fn each_setting_says_who_said_it() {
        let settings = resolve(&places("", "output = \"json\"", &["output = \"name\""])).unwrap();
        assert_eq!(settings.output.value, Format::Json);
        assert_eq!(settings.output.origin.to_string(), "FLEETWAY_OUTPUT");
        assert_eq!(settings.no_input, Setting { value: false, origin: Origin::Default });
        assert_eq!(settings.data, None);
    }
}
