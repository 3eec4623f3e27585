//! `cargo xtask package`: Debian packages of what is shipped.
//!
//! A package is a folder and `dpkg-deb --build`; the folder is a table here, and the texts are in
//! `cross/packaging/`. Why not cargo-deb: `docs/decisions/0018-packages.md`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cargo::{self, cargo};
use crate::needs;

/// What is built, and how.
pub(crate) struct Options<'a> {
    /// The cargo profile.
    pub(crate) profile: &'a str,
    /// Take the programs from there instead of building them.
    pub(crate) binaries: Option<&'a Path>,
    /// Where the packages go.
    pub(crate) out: &'a Path,
    /// Their version.
    pub(crate) version: &'a str,
}

/// One package.
struct Package {
    name: &'static str,
    depends: &'static str,
    summary: &'static str,
    /// Lines of the long description.
    about: &'static [&'static str],
    /// Whether it has a unit, a user and maintainer scripts in `cross/packaging/<name>`.
    is_service: bool,
}

const AGENT: Package = Package {
    name: "fleetway-agent",
    depends: "systemd",
    summary: "runs signed machine-learning models on an edge device",
    about: &[
        "The agent takes signed orders over MQTT, fetches and proves models, serves them to",
        "applications over the Open Inference Protocol, and goes back by itself when one fails.",
    ],
    is_service: true,
};

/// The operator's command line. The controller is the same program; who runs it, where and as whom is the
/// operator's choice, so there is no unit.
const CONTROLLER: Package = Package {
    name: "fleetway",
    depends: "",
    summary: "puts machine-learning models on a fleet of edge devices",
    about: &[
        "Controller and command line: imports and signs models, and rolls them out in phases that",
        "stop by themselves. `fleetway init` and `fleetway serve` make and run a fleet.",
    ],
    is_service: false,
};

/// The profile of what is shipped.
const SHIPPED: &str = "dist";

const PACKAGES: [&Package; 2] = [&AGENT, &CONTROLLER];

/// Maintainer scripts, where a package has them.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Builds every package.
pub(crate) fn package(options: &Options<'_>) -> Result<()> {
    if needs::find("dpkg-deb").is_none() {
        bail!("packages are made by dpkg-deb: `apt-get install dpkg`, or build them on Debian");
    }
    let programs = match options.binaries {
        Some(dir) => dir.to_path_buf(),
        None => build(options.profile)?,
    };
    fs::create_dir_all(options.out).with_context(|| options.out.display().to_string())?;
    for package in PACKAGES {
        let path = make(package, &programs, options)?;
        let bytes = fs::metadata(&path)?.len();
        println!("{} ({:.1} MB)", path.display(), bytes as f64 / 1e6);
    }
    Ok(())
}

fn build(profile: &str) -> Result<PathBuf> {
    crate::say(&format!("building what is shipped, profile {profile}"));
    if profile == "dev" {
        cargo::build_programs()?;
        return cargo::program_dir("debug");
    }
    let mut build = cargo(&["build", "--profile", profile, "--bins"]);
    cargo::run(build.args(["-p", "fleetway-agent", "-p", "fleetway-controller"]))?;
    cargo::program_dir(profile)
}

fn make(package: &Package, programs: &Path, options: &Options<'_>) -> Result<PathBuf> {
    let name = package.name;
    let tree = Tree::begin(&options.out.join(format!("{name}.tree")))?;
    let program = programs.join(name);
    let texts = cargo::root().join("cross/packaging").join(name);
    tree.copy(&program, &format!("usr/bin/{name}"), 0o755)?;
    if package.is_service {
        let unit = format!("{name}.service");
        tree.copy(&texts.join(&unit), &format!("usr/lib/systemd/system/{unit}"), 0o644)?;
        let users = format!("usr/lib/sysusers.d/{name}.conf");
        tree.copy(&texts.join("sysusers.conf"), &users, 0o644)?;
    }
    let doc = format!("usr/share/doc/{name}");
    for file in ["cross/packaging/copyright", "LICENSE-APACHE", "LICENSE-MIT"] {
        let file = cargo::root().join(file);
        let last = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tree.copy(&file, &format!("{doc}/{last}"), 0o644)?;
    }
    tree.copy(&cargo::root().join("CHANGELOG.md"), &format!("{doc}/changelog.md"), 0o644)?;
    papers(&tree, &program, name)?;
    // Before the control files, which it does not count.
    tree.sums()?;
    let glibc = newest_glibc(&fs::read(&program)?);
    let control = control(package, options.version, architecture()?, glibc, tree.kib()?);
    tree.write("DEBIAN/control", control.as_bytes(), 0o644)?;
    for script in SCRIPTS.iter().filter(|_| package.is_service) {
        tree.copy(&texts.join(script), &format!("DEBIAN/{script}"), 0o755)?;
    }
    let deb = options.out.join(format!("{name}_{}_{}.deb", options.version, architecture()?));
    // What is shipped is made small; what is made for a test is made soon.
    let is_shipped = options.binaries.is_none() && options.profile == SHIPPED;
    tree.close(&deb, if is_shipped { "-Zxz" } else { "-Znone" })
}

/// The man page and the completions, which the program itself knows best.
fn papers(tree: &Tree, program: &Path, name: &str) -> Result<()> {
    let says = |words: &[&str]| -> Result<Vec<u8>> {
        let output = Command::new(program).args(words).output();
        let output = output.with_context(|| format!("cannot run {}", program.display()))?;
        if !output.status.success() || output.stdout.is_empty() {
            bail!("`{name} {}` prints nothing", words.join(" "));
        }
        Ok(output.stdout)
    };
    tree.write(&format!("usr/share/man/man1/{name}.1"), &says(&["man"])?, 0o644)?;
    let shells = [
        ("bash", format!("usr/share/bash-completion/completions/{name}")),
        ("zsh", format!("usr/share/zsh/vendor-completions/_{name}")),
        ("fish", format!("usr/share/fish/vendor_completions.d/{name}.fish")),
    ];
    for (shell, path) in shells {
        tree.write(&path, &says(&["completions", shell])?, 0o644)?;
    }
    Ok(())
}

fn control(
    package: &Package,
    version: &str,
    architecture: &str,
    glibc: Option<(u32, u32)>,
    kib: u64,
) -> String {
    let Package { name, depends, summary, about, .. } = package;
    let libc = glibc.map(|(major, minor)| format!("libc6 (>= {major}.{minor}), libgcc-s1"));
    let depends = Some((*depends).to_owned()).filter(|depends| !depends.is_empty());
    let depends: Vec<_> = libc.into_iter().chain(depends).collect();
    let depends = match depends.as_slice() {
        [] => String::new(),
        depends => format!("Depends: {}\n", depends.join(", ")),
    };
    let about: String = about.iter().map(|line| format!(" {line}\n")).collect();
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n\
         Maintainer: Fleetway <fleetway@localhost>\nInstalled-Size: {kib}\n\
         {depends}Section: net\nPriority: optional\n\
         Description: {summary}\n{about}"
    )
}

/// Debian's name for the processor that we build for.
fn architecture() -> Result<&'static str> {
    Ok(match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("no Debian name is known here for {other}; add it to cross/src/package.rs"),
    })
}

/// The newest glibc whose symbols a program names: it starts with no older one. `None` if it names
/// none, being linked statically.
fn newest_glibc(program: &[u8]) -> Option<(u32, u32)> {
    const MARK: &str = "GLIBC_";
    // As text, because std looks for text quickly, and we are not optimized.
    let text = String::from_utf8_lossy(program);
    let version = |at: usize| {
        let rest = &text[at + MARK.len()..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let mut parts = rest[..end].split('.').map(str::parse);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    };
    text.match_indices(MARK).filter_map(|(at, _)| version(at)).max()
}

/// The folder that becomes a package.
struct Tree(PathBuf);

impl Tree {
    fn begin(dir: &Path) -> Result<Self> {
        if dir.exists() {
            fs::remove_dir_all(dir).with_context(|| dir.display().to_string())?;
        }
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        Ok(Self(dir.to_path_buf()))
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let bytes = fs::read(from).with_context(|| from.display().to_string())?;
        self.write(to, &bytes, mode)
    }

    fn write(&self, to: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let path = self.0.join(to);
        let mut dir = self.0.clone();
        // Whatever our umask is: directories of a package are open.
        for part in Path::new(to).parent().into_iter().flat_map(Path::iter) {
            dir.push(part);
            if !dir.exists() {
                fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
                fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
            }
        }
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// What `dpkg --verify` compares the installed files with.
    fn sums(&self) -> Result<()> {
        let mut files = Vec::new();
        walk(&self.0, &mut files)?;
        files.sort();
        let mut md5sum = Command::new("md5sum");
        md5sum.args(files.iter().filter_map(|file| file.strip_prefix(&self.0).ok()));
        let output = md5sum.current_dir(&self.0).output().context("cannot start md5sum")?;
        if !output.status.success() {
            bail!("md5sum: {}", String::from_utf8_lossy(&output.stderr));
        }
        self.write("DEBIAN/md5sums", &output.stdout, 0o644)
    }

    fn kib(&self) -> Result<u64> {
        let mut files = Vec::new();
        walk(&self.0, &mut files)?;
        let sizes = files.iter().map(|file| fs::metadata(file).map(|meta| meta.len()));
        Ok(sizes.sum::<std::io::Result<u64>>()?.div_ceil(1024))
    }

    /// Builds the package, and removes the folder.
    fn close(self, deb: &Path, compression: &str) -> Result<PathBuf> {
        let mut build = Command::new("dpkg-deb");
        build.args(["--root-owner-group", compression, "-z1", "--build"]).arg(&self.0).arg(deb);
        if let Some(time) = commit_time() {
            build.env("SOURCE_DATE_EPOCH", time);
        }
        // What it says is talk; our own output is the packages.
        cargo::run(build.stdout(Stdio::null()))?;
        fs::remove_dir_all(&self.0)?;
        Ok(deb.to_path_buf())
    }
}

/// When the newest commit was made: the same commit gives the same package.
fn commit_time() -> Option<String> {
    let mut git = Command::new("git");
    let output =
        git.args(["log", "-1", "--format=%ct"]).current_dir(cargo::root()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_glibc_is_found() {
        let program = b"\0GLIBC_2.2.5\0xGLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE\0GLIBC_";
        assert_eq!(newest_glibc(program), Some((2, 34)));
        assert_eq!(newest_glibc(b"static"), None);
    }

    #[test]
    fn control_files_are_what_dpkg_reads() {
        let text = control(&AGENT, "1.2.3", "arm64", Some((2, 34)), 7);
        assert!(text.contains("\nDepends: libc6 (>= 2.34), libgcc-s1, systemd\n"), "{text}");
        assert!(text.ends_with('\n') && text.lines().all(|line| !line.is_empty()), "{text}");
        let last = text.split("\nDescription: ").nth(1).unwrap();
        assert!(last.lines().skip(1).all(|line| line.starts_with(' ')), "{last}");
        let needs_nothing = control(&CONTROLLER, "1.2.3", "amd64", None, 7);
        assert!(!needs_nothing.contains("Depends"), "{needs_nothing}");
    }
}
