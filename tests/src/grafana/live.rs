//! The dashboard over MQTT: topics and keys of the mirror, as they come.

use super::boards::{HALF, ask, panel};
use super::{Board, Kind, Source, Variable};

/// One device as it speaks, without a database: what comes while one looks.
pub(super) const DEVICE_LIVE: Board = Board {
    name: "device-live",
    title: "Fleetway: device, live over MQTT",
    source: Source::Mqtt,
    variables: &[
        Variable { name: "device", choice: "cam-1" },
        Variable { name: "model", choice: "digits" },
    ],
    panels: &[
        panel(
            "There",
            "1: the device is there.",
            Kind::Stat,
            (6, 8),
            "none",
            &[ask("$device/on", "Value")],
        ),
        panel(
            "What runs",
            "And where an update is.",
            Kind::Rows,
            (18, 8),
            "none",
            &[ask(
                "$device/st/$model",
                "phase, version, target_version, progress_pct, waiting_code, result, result_code",
            )],
        ),
        panel(
            "Latency",
            "Since the release was loaded.",
            Kind::Lines,
            HALF,
            "ms",
            &[ask("$device/tm/$model", "lat_p50_ms, lat_p99_ms")],
        ),
        panel(
            "Requests",
            "Over all loads.",
            Kind::Lines,
            HALF,
            "none",
            &[ask("$device/tm/$model", "infer_total, infer_err_total")],
        ),
        panel(
            "Confidence",
            "Mean since the load.",
            Kind::Lines,
            HALF,
            "percentunit",
            &[ask("$device/tm/$model", "confidence")],
        ),
        panel(
            "Drift",
            "Largest PSI against the release's reference.",
            Kind::Lines,
            HALF,
            "none",
            &[ask("$device/tm/$model", "psi_max")],
        ),
        panel(
            "Temperature",
            "The hottest sensor.",
            Kind::Lines,
            HALF,
            "celsius",
            &[ask("$device/hw", "temp_c")],
        ),
        panel(
            "Processor",
            "Time in use.",
            Kind::Lines,
            HALF,
            "percent",
            &[ask("$device/hw", "cpu_pct")],
        ),
        panel(
            "Room",
            "Memory and disk that are free.",
            Kind::Lines,
            HALF,
            "decmbytes",
            &[ask("$device/hw", "mem_free_mb, disk_free_mb")],
        ),
        panel(
            "What happened",
            "As it happens.",
            Kind::Rows,
            HALF,
            "none",
            &[ask("$device/ev", "kind, text, code")],
        ),
    ],
};
