//! What can be typed about devices, and about the broker that they use.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use fleetway_link::BrokerUrl;
use fleetway_protocol::ids::DeviceId;

use crate::cli::values::{self, LabelEdit};

/// `broker ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum BrokerVerb {
    /// Write a configuration that enforces the fleet's rules
    #[command(
        after_long_help = "Example:\n  fleetway broker config mosquitto --dynamic-security --out ./mosquitto"
    )]
    Config(BrokerConfigArgs),
    /// Make the certificate of a dashboard that may read the JSON mirror
    #[command(after_long_help = "Example:\n  fleetway broker viewer wall --out ./wall")]
    Viewer(BrokerViewerArgs),
}

/// `broker viewer`.
#[derive(Debug, Args)]
pub(crate) struct BrokerViewerArgs {
    /// Its name; the certificate's is viewer.NAME
    #[arg(value_name = "NAME")]
    pub(crate) name: DeviceId,
    /// Days that the certificate is good for
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    pub(crate) days: u32,
    /// Where to write it [default: viewers/NAME in the data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// `broker config`.
#[derive(Debug, Args)]
pub(crate) struct BrokerConfigArgs {
    /// Which broker
    #[arg(value_name = "BROKER")]
    pub(crate) broker: BrokerProgram,
    /// With the plugin that lets `device revoke` end live sessions
    #[arg(long)]
    pub(crate) dynamic_security: bool,
    /// Where the plugin is on the broker's host
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so"
    )]
    pub(crate) plugin: PathBuf,
    /// Where to write it [default: mosquitto in the data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Where it will be on the broker's host [default: where it is written]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Dashboards that may read the JSON mirror, by name
    #[arg(long = "viewer", value_name = "NAME")]
    pub(crate) viewers: Vec<DeviceId>,
}

/// Brokers that we write configurations for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BrokerProgram {
    /// Eclipse mosquitto 2.0 or newer
    Mosquitto,
}

/// `device ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceVerb {
    /// Write the configuration and certificate of a device
    #[command(
        after_long_help = "Example:\n  fleetway device add cam-01 --out ./devices --label site=lab"
    )]
    Add(AddArgs),
    /// List devices
    #[command(after_long_help = "Example:\n  fleetway device list -l site=lab")]
    List {
        /// Only devices with these labels
        #[arg(short = 'l', long, value_name = "SELECTOR")]
        selector: Option<String>,
    },
    /// Let a device in: print the join string for `fleetway-agent join`
    #[command(
        after_long_help = "Example:\n  fleetway device enroll cam-01 --label site=lab --qr\n\nThe string is good once, for this device, for 24 hours. A device that is in the fleet\nalready may be set up anew with it; a revoked one comes back by it."
    )]
    Enroll {
        /// Its id: 1 to 64 of a-z 0-9 -
        #[arg(value_name = "ID")]
        id: DeviceId,
        /// Labels to begin with
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = values::label)]
        labels: Vec<(String, String)>,
        /// Also as a QR code
        #[arg(long)]
        qr: bool,
    },
    /// Take in a device without a connection of its own, which hangs on another one
    #[command(
        after_long_help = "Example:\n  fleetway device adopt mcu-01 --via cam-01 --hardware mps2-an386 --key 9f2c...\n\nThe gateway needs a [[gateway.device]] of this id in its agent.toml. The same again with\nanother --via moves the device there."
    )]
    Adopt {
        /// Its id: 1 to 64 of a-z 0-9 -
        #[arg(value_name = "ID")]
        id: DeviceId,
        /// The device that it hangs on
        #[arg(long, value_name = "GATEWAY")]
        via: DeviceId,
        /// What hardware it is
        #[arg(long, value_name = "CLASS")]
        hardware: String,
        /// The public half of its Ed25519 key, 64 hexadecimal digits
        #[arg(long, value_name = "HEX")]
        key: String,
        /// Labels to begin with
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = values::label)]
        labels: Vec<(String, String)>,
    },
    /// Take a device out at once: its session, its orders, its certificate's renewal
    #[command(after_long_help = "Example:\n  fleetway device revoke cam-01")]
    Revoke {
        /// Which device
        #[arg(value_name = "ID")]
        id: DeviceId,
    },
    /// Show one device: what runs, why, and how it does
    #[command(after_long_help = "Example:\n  fleetway device show cam-01")]
    Show {
        /// Which device
        #[arg(value_name = "ID")]
        id: DeviceId,
    },
    /// Show what happened to a device, when, and by whom
    #[command(after_long_help = "Example:\n  fleetway device history cam-01 --last 20")]
    History {
        /// Which device
        #[arg(value_name = "ID")]
        id: DeviceId,
        #[command(flatten)]
        last: crate::cli::follow::LastArgs,
    },
    /// Set and take away labels
    #[command(after_long_help = "Example:\n  fleetway device label cam-01 site=lab floor-")]
    Label {
        /// Which device
        #[arg(value_name = "ID")]
        id: DeviceId,
        /// key=value sets a label, key- takes it away
        #[arg(value_name = "EDIT", required = true, allow_hyphen_values = false)]
        edits: Vec<LabelEdit>,
    },
}

/// `device add`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Its id: 1 to 64 of a-z 0-9 -
    #[arg(value_name = "ID")]
    pub(crate) id: DeviceId,
    /// Where to make the directory ID [default: devices in the data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// The broker as this device sees it [default: from fleetway.toml, or the running controller]
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Option<BrokerUrl>,
    /// Labels to begin with
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = values::label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Port on which the device serves its models to applications; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) serve_port: u16,
    /// Days until its certificate ends
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,
}
