//! The flags of a rollout for a shadow and for consent.

use super::values;
use crate::api::types::{HoldRequest, ShadowRequest};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "In the shadow of what serves, before it answers")]
pub(crate) struct ShadowArgs {
    /// Run the release beside what serves, on copies of this share of the requests
    #[arg(long = "shadow", value_name = "P%", value_parser = values::permille)]
    share: Option<u16>,
    /// Copies that it must have answered
    #[arg(long, value_name = "N", requires = "share")]
    shadow_answers: Option<u32>,
    /// Share of its answers that must be those of what serves
    #[arg(long = "shadow-agreement", value_name = "P%", value_parser = values::permille, requires = "share")]
    agreement: Option<u16>,
    /// Failed answers that are tolerated
    #[arg(long = "shadow-errors", value_name = "P%", value_parser = values::permille, requires = "share")]
    errors: Option<u16>,
    /// 95th percentile of its latency, in percent of that of what serves; 0 is off
    #[arg(long = "shadow-p95-percent", value_name = "N", requires = "share")]
    p95: Option<u16>,
    /// Time that the copies may take
    #[arg(long = "shadow-time", value_name = "TIME", value_parser = values::seconds, requires = "share")]
    time: Option<u32>,
    /// What is done when there were too few by then
    #[arg(long = "shadow-otherwise", value_name = "WHAT", value_parser = ["proceed", "wait", "fail"], requires = "share")]
    otherwise: Option<String>,
    /// What is done when its inputs or outputs are others than those of what serves
    #[arg(long = "shadow-interface", value_name = "WHAT", value_parser = ["proceed", "fail"], requires = "share")]
    interface: Option<String>,
}

impl ShadowArgs {
    pub(super) fn request(&self) -> Option<ShadowRequest> {
        Some(ShadowRequest {
            share_permille: self.share?,
            answers_min: self.shadow_answers,
            agreement_permille_min: self.agreement,
            error_permille_max: self.errors,
            p95_percent_max: self.p95,
            s_max: self.time,
            otherwise: self.otherwise.clone(),
            interface_differs: self.interface.clone(),
        })
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Consent and safe points")]
pub(crate) struct HoldArgs {
    /// What devices wait for before they activate it: unlocked, idle, mains, unmetered, window
    #[arg(long = "hold", value_name = "CONDITION,..", value_delimiter = ',')]
    activation: Vec<String>,
    /// What they wait for before they fetch it
    #[arg(long = "hold-download", value_name = "CONDITION,..", value_delimiter = ',')]
    download: Vec<String>,
    /// Time without a request after which a device is idle
    #[arg(long = "hold-idle", value_name = "TIME", value_parser = values::seconds)]
    idle: Option<u32>,
    /// The window, in UTC: `mon-fri 02:00-05:00`
    #[arg(long = "hold-window", value_name = "WINDOW")]
    window: Option<String>,
    /// Time after which they go on all the same; a device's own rule still holds
    #[arg(long = "hold-max", value_name = "TIME", value_parser = values::seconds)]
    max: Option<u32>,
    /// Time after which the rollout goes on without a device that is held, one hour unless said
    /// otherwise
    #[arg(long = "hold-aside", value_name = "TIME", value_parser = values::seconds)]
    aside: Option<u32>,
}

impl HoldArgs {
    /// What was given goes before what is there.
    pub(super) fn over(&self, request: &mut HoldRequest) {
        for (words, given) in
            [(&mut request.download, &self.download), (&mut request.activation, &self.activation)]
        {
            if !given.is_empty() {
                words.clone_from(given);
            }
        }
        request.idle_s = self.idle.or(request.idle_s);
        request.s_max = self.max.or(request.s_max);
        request.aside_s = self.aside.or(request.aside_s);
        if self.window.is_some() {
            request.window.clone_from(&self.window);
        }
    }
}
