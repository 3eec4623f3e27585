//! The words of `key` and `trust`: the ceremony has a page of its own.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use fleetway_protocol::ids::RoleName;
use fleetway_protocol::keyset::Scope;

/// Where passphrases and PINs come from.
#[derive(Clone, Debug, Args)]
pub(crate) struct SecretArgs {
    /// File whose first line is the passphrase or PIN, for scripts [default: ask on the terminal]
    #[arg(long, env = "FLEETWAY_PASSPHRASE_FILE", value_name = "FILE", hide_env_values = true)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// `key ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// Make a key: an encrypted file, and its public half beside it (offline)
    #[command(after_long_help = "Example:\n  fleetway key generate ada --out /media/usb/ada.key")]
    Generate {
        /// Whose key it is, or what it is for
        #[arg(value_name = "NAME")]
        name: String,
        /// Where to write it [default: NAME.key here]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Do not encrypt it: for the server's own keys
        #[arg(long)]
        plain: bool,
        #[command(flatten)]
        secret: SecretArgs,
    },
    /// List all keys and what they may sign
    #[command(after_long_help = "Example:\n  fleetway key list")]
    List,
    /// Stage a change: another key in the place of this one
    #[command(after_long_help = "Example:\n  fleetway key rotate ada --to ada-2=ada-2.key.pub")]
    Rotate {
        /// The key that goes
        #[arg(value_name = "NAME")]
        name: String,
        /// The key that comes: NAME=FILE.pub, or NAME=ssh-agent:..., NAME=pkcs11:...
        #[arg(long, value_name = "NAME=KEY")]
        to: String,
        #[command(flatten)]
        secret: SecretArgs,
    },
    /// Stage a change: this key signs nothing any more
    #[command(after_long_help = "Example:\n  fleetway key revoke ada")]
    Revoke {
        /// The key that goes
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// `trust ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum TrustVerb {
    /// Stage the first root: who may change keys, and who may release models
    #[command(
        after_long_help = "Example:\n  fleetway trust init --root ada=ada.key.pub --root bob=bob.key.pub --root eve=eve.key.pub --root-threshold 2 --targets tia=tia.key.pub\n\nThe server's own keys (snapshot, timestamp, director) are made in keys/."
    )]
    Init(Box<TrustInitArgs>),
    /// Say who can do what, what expires when, and whose signatures are missing
    #[command(after_long_help = "Example:\n  fleetway trust status")]
    Status,
    /// Sign what is staged; with FILES, on a machine that has nothing but them and a key
    #[command(
        after_long_help = "Example:\n  fleetway trust sign 2.root.json 2.keyset --key bob.key --out bob.json\n\nWithout FILES everything staged in the data directory that asks for this key is signed."
    )]
    Sign {
        /// Staged files, brought from trust/staged
        #[arg(value_name = "FILES")]
        files: Vec<PathBuf>,
        /// The key: FILE, ssh-agent:FINGERPRINT-OR-COMMENT or pkcs11:token=T;object=O?module-path=LIB
        #[arg(long, value_name = "KEY")]
        key: String,
        /// Where to write the signatures [default: signatures.json]
        #[arg(long, value_name = "FILE", requires = "files")]
        out: Option<PathBuf>,
        /// What the signer is called in messages [default: KEY]
        #[arg(long, value_name = "NAME", requires = "files")]
        name: Option<String>,
        #[command(flatten)]
        secret: SecretArgs,
    },
    /// Take signatures in that were made on other machines
    #[command(after_long_help = "Example:\n  fleetway trust add-signature bob.json")]
    AddSignature {
        /// What `trust sign` wrote there
        #[arg(value_name = "FILES", required = true)]
        files: Vec<PathBuf>,
    },
    /// Stage a change: let a team release the models with these names
    #[command(
        after_long_help = "Example:\n  fleetway trust delegate vision --models digits --models face-* --team-key vic=vic.key.pub"
    )]
    Delegate(DelegateArgs),
    /// Drop what is staged; what is published stays
    #[command(after_long_help = "Example:\n  fleetway trust unstage")]
    Unstage,
    /// Put what is staged into force, if every signature is there
    #[command(after_long_help = "Example:\n  fleetway trust publish")]
    Publish,
}

/// `trust init`.
#[derive(Debug, Args)]
pub(crate) struct TrustInitArgs {
    /// Who may change keys; repeat it
    #[arg(long, value_name = "NAME=KEY", required = true)]
    pub(crate) root: Vec<String>,
    /// How many of them must agree
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) root_threshold: u8,
    /// Who may release any model; repeat it
    #[arg(long, value_name = "NAME=KEY", required = true)]
    pub(crate) targets: Vec<String>,
    /// How many of them must agree, and how many of a team
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) targets_threshold: u8,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

/// `trust delegate`.
#[derive(Debug, Args)]
pub(crate) struct DelegateArgs {
    /// Name of the team
    #[arg(value_name = "TEAM")]
    pub(crate) team: RoleName,
    /// A model, the beginning of names and a *, or *; repeat it
    #[arg(long, value_name = "MODELS", required = true)]
    pub(crate) models: Vec<Scope>,
    /// A key of the team; repeat it
    #[arg(long = "team-key", value_name = "NAME=KEY", required = true)]
    pub(crate) keys: Vec<String>,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}
