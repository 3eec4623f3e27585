//! Who gets which release next, and why the others wait. Pure: no clock, no store, no
//! randomness, no device order.
//!
//! [`plan`] repeats one step (verdicts by silence, then rollout states, then orders, newest
//! rollout first) until nothing changes, on a copy of its input; hence applying a plan and
//! planning again gives nothing new, by construction. The bound of a phase is on devices
//! *offered* the release, whichever they are: devices that join, leave or change labels
//! never widen a canary. Every device that does not move has a [`Why`]. [`check`] says,
//! without looking at how a plan was made, whether any plan is sane.
//!
//! Read in this order: [`spec`] and [`selector`] (what is asked for), [`facts`] (in and
//! out), [`why`], `cohort` and `tally` (where each device stands), `allowance` (how many may move), `gate`,
//! [`analysis`] and `look` (what the model does on the devices), `plan`, `report`, `check`.

mod allowance;
pub mod analysis;
mod check;
mod cohort;
mod estimate;
pub mod facts;
mod gate;
mod look;
mod plan;
mod report;
pub mod selector;
pub mod spec;
mod tally;
#[cfg(test)]
mod tests;
pub mod why;

pub use check::{Insane, check};
pub(crate) use cohort::UNKNOWN_RELEASE;
pub use estimate::{Estimate, estimate};
pub use facts::{
    Assignment, Change, Deployment, DeviceFacts, DeviceReport, Gate, Input, KnownBad, Labels,
    ModelFacts, PausedBy, Plan, Previous, ReleaseFacts, RolloutFacts, RolloutReport, RolloutState,
    Verdict, Wish,
};
pub use look::wanted;
pub(crate) use plan::deployment_after;
pub use plan::{apply, plan, plan_and_check};
pub use report::survey;
pub(crate) use report::{Preview, preview};
pub use selector::{LabelError, Selector, SelectorError, Target, check_label};
pub use spec::{
    Budget, HaltScope, LocalWindow, Membership, OnAbort, Opening, PhaseSpec, Ramp, Rate, Retry,
    RetryOn, RolloutSpec, Schedule, Size, SpecError, Unwise, unwise,
};
pub use why::Why;
