//! `[telemetry]`: what it may cost, on disk and on the link.

use std::ops::RangeInclusive;

use super::{Fault, check_range, file};
use crate::telemetry::Settings;

/// Four segments with a report each, to as much as is read at a start without anybody noticing.
const SPOOL_BYTES: RangeInclusive<u64> = 64 << 10..=256 << 20;
/// The largest report leaves once an hour, to a link that nobody counts.
const BYTES_PER_DAY: RangeInclusive<u64> = 128 << 10..=1 << 40;
/// More would be no filling in behind everything else.
const BACKFILL_PER_S: RangeInclusive<u32> = 1..=100;

pub(super) fn check(telemetry: &file::Telemetry) -> Result<Settings, Fault> {
    let default = Settings::default();
    let file::Telemetry { spool_bytes, bytes_per_day, backfill_per_s } = telemetry;
    Ok(Settings {
        spool_bytes: match spool_bytes {
            Some(bytes) => check_range(bytes, "telemetry.spool_bytes", SPOOL_BYTES)?,
            None => default.spool_bytes,
        },
        bytes_per_day: match bytes_per_day {
            Some(bytes) if *bytes.get_ref() == 0 => 0,
            Some(bytes) => {
                check_range(bytes, "telemetry.bytes_per_day", BYTES_PER_DAY).map_err(|fault| {
                    Fault { text: format!("{}, or 0 for no bound", fault.text), ..fault }
                })?
            }
            None => default.bytes_per_day,
        },
        backfill_per_s: match backfill_per_s {
            Some(reports) => check_range(reports, "telemetry.backfill_per_s", BACKFILL_PER_S)?,
            None => default.backfill_per_s,
        },
    })
}
