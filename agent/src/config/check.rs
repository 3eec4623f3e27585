//! `[check.<model>]`: the program of this box that has a word before a release of the model is
//! confirmed. The list of what may be run is this file; nothing that comes over the wire adds to it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use fleetway_protocol::ids::ModelName;
use toml::Spanned;

use super::{Fault, check_range, file};
use crate::device::CheckRule;

/// Seconds that a check may take unless configured otherwise.
const TIMEOUT_S: u64 = 30;
/// A check that moves something and looks at it takes minutes; one of an hour hangs.
const TIMEOUTS_S: RangeInclusive<u64> = 1..=3_600;

/// A program and what its answer may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Absolute path; run without a shell.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// After which it is killed.
    pub timeout: Duration,
    /// What its yes may do.
    pub rule: CheckRule,
}

pub(super) fn check(
    checks: BTreeMap<Spanned<String>, file::Check>,
) -> Result<BTreeMap<ModelName, Check>, Fault> {
    checks.into_iter().map(|(model, check)| Ok((name(&model)?, one(check)?))).collect()
}

fn name(model: &Spanned<String>) -> Result<ModelName, Fault> {
    ModelName::new(model.get_ref())
        .map_err(|error| Fault::at(model, format_args!("model name {error}")))
}

fn one(check: file::Check) -> Result<Check, Fault> {
    let program = check.command.get_ref().first().map(PathBuf::from);
    let Some(program) = program.filter(|program| program.is_absolute()) else {
        let text = "command must be a list that begins with an absolute path, such as \
                    [\"/usr/lib/gate/check\", \"--quick\"]; no shell reads it";
        return Err(Fault::at(&check.command, text));
    };
    let timeout_s = match &check.timeout_s {
        Some(value) => check_range(value, "timeout_s", TIMEOUTS_S)?,
        None => TIMEOUT_S,
    };
    let may_confirm = match check.decides.as_ref().map(|text| (text, text.get_ref().as_str())) {
        None | Some((_, "veto")) => false,
        Some((_, "confirm")) => true,
        Some((text, _)) => {
            let text_is = "decides is \"veto\" (its no sends a release back), or \"confirm\" (its \
                           yes also stands in for answers that are missing)";
            return Err(Fault::at(text, text_is));
        }
    };
    let args = check.command.into_inner().split_off(1);
    let rule = CheckRule { may_confirm };
    Ok(Check { program, args, timeout: Duration::from_secs(timeout_s), rule })
}
