//! `fleetway model ...`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::trust_args::SecretArgs;
use crate::cli::values::{self, ReleaseName};

/// `model ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelVerb {
    /// Check a model, run its golden vectors, and keep it as a draft; or take a signed release in
    #[command(
        after_long_help = "Example:\n  fleetway model import digits.onnx --name digits --version v1 --golden digits.npz\n  fleetway model import digits.onnx --name digits --version v2 --health policy.toml --reference train.npz\n  fleetway model import ./mlruns/1/model --name digits --version v3 --golden digits.npz\n  fleetway model import ./hf --file onnx/model_int8.onnx --name face --version v1 --golden face.npz\n  fleetway model import oci://registry.example/models/digits:v1\n  fleetway model import digits-v1.oci.tar\n\nA policy; all of it may be left out, and a bound is switched off with \"off\":\n  samples_min = 20                  # answers before anything is judged\n  window = \"1h\"                     # older answers do not count\n  inconclusive = \"wait\"             # or \"confirm after 1d\", \"roll back after 2h\"\n  errors_max = \"2%\"\n  p95_max = \"20ms\"\n  p95_beside_before_max = \"300%\"    # of the release before, on the same device\n  collapse_max = \"95%\"              # share of the most frequent class\n  psi_max = 0.1                     # drift from --reference\n  confidence_shift_max = 0.15\n  memory_max = \"512MiB\"\n  memory_growth_max = \"256MiB\"\n  crashes_max = 2\n  probation_min = \"10m\"\n  watch = [\"mean(image)\", \"confidence\"]\n  watch_classes = true"
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
    /// Write a release for another place: all that proves it in one file or a registry, or its papers in a directory
    #[command(
        after_long_help = "Example:\n  fleetway model export digits@v1 --to digits-v1.oci.tar\n  fleetway model export digits@v1 --to oci://registry.example/models/digits:v1\n  fleetway model export digits@v1 --dir ./digits-v1\n\nThe other side: fleetway model import digits-v1.oci.tar"
    )]
    Export {
        /// Which release
        #[arg(value_name = "MODEL@VERSION")]
        release: ReleaseName,
        /// One new file, or oci://HOST/REPOSITORY:TAG
        #[arg(long, value_name = "FILE|oci://...", required_unless_present = "dir")]
        to: Option<String>,
        /// A new or empty directory, for its files as they are
        #[arg(long, value_name = "DIR", conflicts_with = "to")]
        dir: Option<PathBuf>,
    },
    /// Show what differs between two releases: interface, precision, weights, sizes, health (offline)
    #[command(
        after_long_help = "Example:\n  fleetway model diff digits@v1 digits@v2\n  fleetway model diff digits@v1 digits@v2 -o json\n\nBoth must lie in this machine's catalog, imported here or brought here."
    )]
    Diff {
        /// The release that is there
        #[arg(value_name = "MODEL@VERSION")]
        from: ReleaseName,
        /// The release that would come
        #[arg(value_name = "MODEL@VERSION")]
        to: ReleaseName,
    },
    /// Compile an int8 ONNX file, to look at what comes out (`model import` does it by itself)
    #[command(
        after_long_help = "Example:\n  fleetway model compile kws.onnx --to kws.qnn\n  fleetway model compile kws.onnx --for mps2-an386\n\n--for says what the model needs of what the class has, and fails if that is too much. A graph that is int8 only in parts becomes an ONNX file again, its int8 parts compiled: --to kws.onnx."
    )]
    Compile {
        /// An ONNX file
        #[arg(value_name = "FILE.onnx")]
        model: PathBuf,
        /// A new file
        #[arg(long, value_name = "FILE", required_unless_present = "class")]
        to: Option<PathBuf>,
        /// A class of microcontrollers of fleetway.toml that it must fit
        #[arg(long = "for", value_name = "CLASS")]
        class: Option<fleetway_protocol::ids::HardwareClass>,
    },
    /// Show what a model is compiled to: layers, multiply-accumulates, flash and RAM; or why it is not
    #[command(
        after_long_help = "Example:\n  fleetway model inspect kws.onnx\n  fleetway model inspect kws.qnn -o json\n  fleetway model inspect digits@v2"
    )]
    Inspect {
        /// An ONNX file, a compiled one, or MODEL@VERSION of this machine's catalog
        #[arg(value_name = "FILE|MODEL@VERSION")]
        model: String,
    },
    /// List the releases that the controller has
    #[command(after_long_help = "Example:\n  fleetway model list -o json")]
    List,
    /// List releases that turned out bad on a class of hardware, and are not offered to it
    #[command(after_long_help = "Example:\n  fleetway model bad -o json")]
    Bad,
    /// Let a release be offered again to hardware that it was found to be bad on
    #[command(
        after_long_help = "Example:\n  fleetway model allow digits@v2 --hardware pi5 --reason new-driver"
    )]
    Allow {
        /// Which release
        #[arg(value_name = "MODEL@VERSION")]
        release: ReleaseName,
        /// To which hardware
        #[arg(long, value_name = "CLASS")]
        hardware: fleetway_protocol::ids::HardwareClass,
        /// Why; it is kept in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
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
    /// An ONNX file; a directory: MLflow's, what `hf download` leaves, an OCI layout; a file by
    /// `model export --to`; or oci://HOST/REPOSITORY:TAG
    #[arg(value_name = "SOURCE")]
    pub(crate) source: PathBuf,
    /// Which ONNX file of the source, where it has several
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<String>,
    /// Name of the model, the same for all its versions [a signed release has its own]
    #[arg(long, value_name = "MODEL")]
    pub(crate) name: Option<fleetway_protocol::ids::ModelName>,
    /// What people call this release [a signed release has its own]
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<fleetway_protocol::ids::Version>,
    /// Root of the release authority that signed it, where that is not this place's own
    #[arg(long, value_name = "ROOT.json")]
    pub(crate) trust_root: Option<PathBuf>,
    /// Golden vectors made with a reference runtime [default: the ONNX file's name with .golden.npz]
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
    /// Leave the compiled form out: devices run the ONNX file, and microcontrollers nothing
    #[arg(long)]
    pub(crate) onnx_only: bool,
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
