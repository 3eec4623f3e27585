//! What can be typed about rollouts.

use std::time::Duration;

use clap::{Args, Subcommand};
use fleetway_controller::planner::Size;

use crate::cli::follow::{FollowArgs, LastArgs, RollbackArgs};
use crate::cli::values::{self, ReleaseName};

/// `rollout ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutVerb {
    /// Show what a rollout would do, and why devices would not move
    #[command(
        after_long_help = "Example:\n  fleetway rollout plan digits@v2 -l site=lab --canary 1 --phase 100%"
    )]
    Plan(RolloutArgs),
    /// Start a rollout
    #[command(
        after_long_help = "Example:\n  fleetway rollout start digits@v2 --canary 1 --phase 25% --phase 100% --soak 10m"
    )]
    Start(RolloutArgs),
    /// Show a rollout; with --wait or --timeout, wait for its end
    #[command(
        after_long_help = "Example:\n  fleetway rollout status 3 --timeout 10m\n\nExit code 0: it succeeded, or goes on and was not waited for; 3: it halted or was aborted;\n4: it was not over in time."
    )]
    Status {
        /// Which rollout
        #[arg(value_name = "ID")]
        id: u64,
        /// Wait until it ends or halts
        #[arg(long)]
        wait: bool,
        /// Wait at most this long
        #[arg(long, value_name = "TIME", value_parser = values::duration)]
        timeout: Option<Duration>,
    },
    /// List rollouts
    #[command(after_long_help = "Example:\n  fleetway rollout list")]
    List,
    /// Watch a rollout until it ends; Ctrl-C leaves it running
    #[command(after_long_help = "Example:\n  fleetway rollout watch 3")]
    Watch {
        /// Which rollout
        #[arg(value_name = "ID")]
        id: u64,
    },
    /// Start nothing new until it is resumed
    #[command(after_long_help = "Example:\n  fleetway rollout pause 3")]
    Pause {
        /// Which rollout
        #[arg(value_name = "ID")]
        id: u64,
    },
    /// Go on with a paused or halted rollout
    #[command(after_long_help = "Example:\n  fleetway rollout resume 3")]
    Resume {
        /// Which rollout
        #[arg(value_name = "ID")]
        id: u64,
    },
    /// End it for good; devices that have the release keep it
    #[command(after_long_help = "Example:\n  fleetway rollout abort 3")]
    Abort {
        /// Which rollout
        #[arg(value_name = "ID")]
        id: u64,
    },
    /// Go on with the next phase now, whatever the gate waits for
    #[command(
        after_long_help = "Example:\n  fleetway rollout promote 3\n\nIt ends a soak or a wait early; a paused rollout goes on. The bounds on failures and on\ndevices on the move hold as before."
    )]
    Promote {
        /// Which rollout
        #[arg(value_name = "ID")]
        id: u64,
        /// To the last phase, not to the next
        #[arg(long)]
        full: bool,
    },
    /// Bring the devices of a rollout that is over back to what each ran before
    #[command(
        after_long_help = "Example:\n  fleetway rollout undo 3 --dry-run\n\nThe way back is a rollout of its own, with the phases and bounds of the one that is undone;\nof several, if devices ran different releases before."
    )]
    Undo(FollowArgs),
    /// Offer the release again to the devices on which the rollout failed
    #[command(
        after_long_help = "Example:\n  fleetway rollout retry 3\n\nA device that remembers the release as bad does not try it again: publish the bytes under a\nnew counter for that."
    )]
    Retry(FollowArgs),
    /// Bring all devices that run a newer release back to this one
    #[command(
        after_long_help = "Example:\n  fleetway rollout rollback digits@v1 --canary 1 --phase 100% --soak 1m\n\nA rollout of its own. Devices whose version floor is above the release stay, and it says so."
    )]
    Rollback(RollbackArgs),
    /// Show what happened in a rollout, when, and by whom
    #[command(after_long_help = "Example:\n  fleetway rollout history 3")]
    History {
        /// Which rollout
        #[arg(value_name = "ID")]
        id: u64,
        #[command(flatten)]
        last: LastArgs,
    },
}

/// What a rollout is.
#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    /// Which release
    #[arg(value_name = "MODEL@VERSION")]
    pub(crate) release: ReleaseName,
    /// Only devices with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// First phase: the canary
    #[arg(long, value_name = "N|P%")]
    pub(crate) canary: Option<Size>,
    /// A further phase, counted from the beginning; repeat it. All devices come last by themselves
    #[arg(long = "phase", value_name = "N|P%")]
    pub(crate) phases: Vec<Size>,
    /// Time that a finished phase is watched before the next begins
    #[arg(long, value_name = "TIME", value_parser = values::seconds)]
    pub(crate) soak: Option<u32>,
    /// Failed devices that are tolerated
    #[arg(long, value_name = "N")]
    pub(crate) failures_max: Option<u32>,
    /// Share of a phase that must have succeeded before the next begins
    #[arg(long, value_name = "P%", value_parser = values::percent)]
    pub(crate) success: Option<u8>,
    /// Devices that may be on the move or silent at once
    #[arg(long, value_name = "N|P%")]
    pub(crate) max_unavailable: Option<Size>,
    /// How long a device tries the release before it keeps it
    #[arg(long, value_name = "TIME", value_parser = values::seconds)]
    pub(crate) probation: Option<u32>,
    /// Real answers that a device must have given with it before it keeps it
    #[arg(long, value_name = "N")]
    pub(crate) answers: Option<u32>,
    /// 95th percentile of the latency that is tolerated, in milliseconds; 0 is off
    #[arg(long, value_name = "X", value_parser = values::millis_as_us)]
    pub(crate) p95_ms: Option<u32>,
    /// Failed answers that are tolerated
    #[arg(long, value_name = "X", value_parser = values::permille)]
    pub(crate) error_percent: Option<u16>,
    /// Share of the most frequent class that is tolerated; 100 is off
    #[arg(long, value_name = "X", value_parser = values::permille)]
    pub(crate) collapse_percent: Option<u16>,
    #[command(flatten)]
    pub(crate) shadow: crate::cli::wishes::ShadowArgs,
    #[command(flatten)]
    pub(crate) hold: crate::cli::wishes::HoldArgs,
    /// Time after which a device that is not done counts as failed
    #[arg(long, value_name = "TIME", value_parser = values::seconds)]
    pub(crate) device_timeout: Option<u32>,
}
