//! The dashboards of Prometheus: what each panel asks, and how it shows; and the list of all dashboards.

use super::live::DEVICE_LIVE;
use super::{Board, Kind, Panel, Query, Source, Variable};

/// All of them.
pub const ALL: [&Board; 4] = [&FLEET, &ROLLOUT, &DEVICES, &DEVICE_LIVE];

pub(super) const fn panel(
    title: &'static str,
    about: &'static str,
    kind: Kind,
    size: (u64, u64),
    unit: &'static str,
    queries: &'static [Query],
) -> Panel {
    Panel { title, about, kind, size, unit, queries, empty: None }
}

pub(super) const fn ask(ask: &'static str, shows: &'static str) -> Query {
    Query { ask, shows }
}

impl Panel {
    /// Nothing is right here, for this reason.
    const fn may_be_empty(self, why: &'static str) -> Self {
        Self { empty: Some(why), ..self }
    }
}

const SMALL: (u64, u64) = (4, 4);
pub(super) const HALF: (u64, u64) = (12, 8);
const WHOLE: (u64, u64) = (24, 8);

/// The fleet at a glance.
const FLEET: Board = Board {
    name: "fleet",
    title: "Fleetway: fleet",
    source: Source::Prometheus,
    variables: &[],
    panels: &[
        panel(
            "Online",
            "Devices that are there.",
            Kind::Stat,
            SMALL,
            "none",
            &[ask("sum(fleet_devices{state=\"online\"})", "online")],
        ),
        panel(
            "Away",
            "Devices that are not heard.",
            Kind::Stat,
            SMALL,
            "none",
            &[ask("sum(fleet_devices{state=\"offline\"})", "away")],
        ),
        panel(
            "Rollouts",
            "By their state.",
            Kind::Stat,
            SMALL,
            "none",
            &[ask("sum by (state) (fleet_rollouts)", "{{state}}")],
        ),
        panel(
            "Halted",
            "Rollouts that stopped themselves.",
            Kind::Stat,
            SMALL,
            "none",
            &[ask("sum(fleet_rollouts{state=\"halted\"}) or vector(0)", "halted")],
        ),
        panel(
            "Broker",
            "1: the controller is connected to it.",
            Kind::Stat,
            SMALL,
            "none",
            &[ask("min(fleet_mqtt_up)", "connected")],
        ),
        panel(
            "Up since",
            "When the controller started.",
            Kind::Stat,
            SMALL,
            "s",
            &[ask("time() - min(fleet_start_time_seconds)", "controller")],
        ),
        panel(
            "Devices",
            "There and away, over time.",
            Kind::Stacked,
            HALF,
            "none",
            &[ask("sum by (state) (fleet_devices)", "{{state}}")],
        ),
        panel(
            "What runs",
            "Devices that last reported each release.",
            Kind::Stacked,
            HALF,
            "none",
            &[ask("sum by (model, version) (fleet_model_devices)", "{{model}} {{version}}")],
        ),
        panel(
            "Requests",
            "Answered and failed, as devices report them.",
            Kind::Lines,
            HALF,
            "reqps",
            &[ask(
                "sum by (model, version) (rate(fleet_model_requests_total[$__rate_interval]))",
                "{{model}} {{version}}",
            )],
        ),
        panel(
            "Failed",
            "Share of requests that failed.",
            Kind::Lines,
            HALF,
            "percentunit",
            &[ask(
                "sum by (model, version) (rate(fleet_model_errors_total[$__rate_interval])) / \
                 sum by (model, version) (rate(fleet_model_requests_total[$__rate_interval]))",
                "{{model}} {{version}}",
            )],
        ),
        panel(
            "Latency",
            "Of answers: half of them, and 99 of 100, take no longer.",
            Kind::Lines,
            HALF,
            "s",
            &[
                ask(
                    "histogram_quantile(0.5, sum by (model, version, le) \
                 (rate(fleet_model_infer_latency_seconds_bucket[$__rate_interval])))",
                    "{{model}} {{version}} p50",
                ),
                ask(
                    "histogram_quantile(0.99, sum by (model, version, le) \
                 (rate(fleet_model_infer_latency_seconds_bucket[$__rate_interval])))",
                    "{{model}} {{version}} p99",
                ),
            ],
        ),
        panel(
            "Telemetry",
            "Reports that came, and that never will, of devices there are.",
            Kind::Lines,
            HALF,
            "none",
            &[
                ask("sum(fleet_telemetry_reports_delivered)", "came"),
                ask("sum(fleet_telemetry_reports_lost)", "lost"),
            ],
        ),
        panel(
            "Messages",
            "Between controller and broker.",
            Kind::Lines,
            HALF,
            "cps",
            &[
                ask("sum(rate(fleet_mqtt_messages_in_total[$__rate_interval]))", "in"),
                ask("sum(rate(fleet_mqtt_messages_out_total[$__rate_interval]))", "out"),
                ask("sum(rate(fleet_orders_resent_total[$__rate_interval]))", "orders sent again"),
            ],
        ),
        panel(
            "Waiting",
            "What the broker does not have yet.",
            Kind::Lines,
            HALF,
            "none",
            &[
                ask("sum(fleet_mqtt_outbox_messages)", "messages"),
                ask("sum(fleet_blob_pieces_waiting)", "pieces of models"),
            ],
        ),
        panel(
            "Bytes of models",
            "To the broker.",
            Kind::Lines,
            HALF,
            "Bps",
            &[ask("sum(rate(fleet_blob_bytes_out_total[$__rate_interval]))", "sent")],
        ),
        panel(
            "On record",
            "The audit log's newest line.",
            Kind::Lines,
            HALF,
            "none",
            &[ask("max(fleet_audit_lines)", "lines")],
        ),
    ],
};

/// One rollout, beside what it replaces.
const ROLLOUT: Board = Board {
    name: "rollout",
    title: "Fleetway: rollout",
    source: Source::Prometheus,
    variables: &[
        Variable { name: "rollout", choice: "label_values(fleet_rollout_devices, rollout)" },
        Variable { name: "model", choice: "label_values(fleet_model_devices, model)" },
    ],
    panels: &[
        panel(
            "Now",
            "Devices of the rollout, by where they are.",
            Kind::Bars,
            (8, 8),
            "none",
            &[ask("sum by (state) (fleet_rollout_devices{rollout=\"$rollout\"})", "{{state}}")],
        ),
        panel(
            "Done",
            "Share of its devices that confirmed the release.",
            Kind::Stat,
            (4, 8),
            "percentunit",
            &[ask(
                "sum(fleet_rollout_devices{rollout=\"$rollout\",state=\"confirmed\"}) / \
                 sum(fleet_rollout_devices{rollout=\"$rollout\"})",
                "confirmed",
            )],
        ),
        panel(
            "Over time",
            "The same devices.",
            Kind::Stacked,
            HALF,
            "none",
            &[ask("sum by (state) (fleet_rollout_devices{rollout=\"$rollout\"})", "{{state}}")],
        ),
        panel(
            "Went back",
            "Devices that failed or rolled back.",
            Kind::Lines,
            HALF,
            "none",
            &[ask("sum(fleet_rollout_devices{rollout=\"$rollout\",state=\"failed\"})", "failed")],
        ),
        panel(
            "What runs",
            "Devices by release of the model.",
            Kind::Stacked,
            HALF,
            "none",
            &[ask("sum by (version) (fleet_model_devices{model=\"$model\"})", "{{version}}")],
        ),
        panel(
            "Requests by release",
            "The new one beside the others.",
            Kind::Lines,
            HALF,
            "reqps",
            &[ask(
                "sum by (version) (rate(fleet_model_requests_total{model=\"$model\"}[$__rate_interval]))",
                "{{version}}",
            )],
        ),
        panel(
            "Failed by release",
            "Share of requests that failed.",
            Kind::Lines,
            HALF,
            "percentunit",
            &[ask(
                "sum by (version) (rate(fleet_model_errors_total{model=\"$model\"}[$__rate_interval])) / \
                 sum by (version) (rate(fleet_model_requests_total{model=\"$model\"}[$__rate_interval]))",
                "{{version}}",
            )],
        ),
        panel(
            "Latency by release",
            "99 of 100 answers take no longer.",
            Kind::Lines,
            WHOLE,
            "s",
            &[ask(
                "histogram_quantile(0.99, sum by (version, le) \
                 (rate(fleet_model_infer_latency_seconds_bucket{model=\"$model\"}[$__rate_interval])))",
                "{{version}}",
            )],
        ),
        panel(
            "Alerts",
            "Of our rules, that ring.",
            Kind::States,
            (24, 6),
            "none",
            &[ask("ALERTS{alertname=~\"Fleetway.*\"}", "{{alertname}} {{alertstate}}")],
        )
        .may_be_empty("no rule rings on a fleet on which all is well"),
    ],
};

/// Single devices, of those that are scraped one by one.
const DEVICES: Board = Board {
    name: "devices",
    title: "Fleetway: devices",
    source: Source::Prometheus,
    variables: &[Variable { name: "device", choice: "label_values(fleet_device_online, device)" }],
    panels: &[
        panel(
            "There",
            "1: the device is there.",
            Kind::States,
            WHOLE,
            "none",
            &[ask("fleet_device_online", "{{device}}")],
        ),
        panel(
            "Online",
            "The chosen one.",
            Kind::Stat,
            (6, 6),
            "none",
            &[ask("fleet_device_online{device=\"$device\"}", "{{device}}")],
        ),
        panel(
            "Silent for",
            "Since it was last heard.",
            Kind::Stat,
            (6, 6),
            "s",
            &[ask("time() - fleet_device_heard_time_seconds{device=\"$device\"}", "{{device}}")],
        ),
        panel(
            "Share of time online",
            "Over the range shown.",
            Kind::Stat,
            (6, 6),
            "percentunit",
            &[ask(
                "avg_over_time(fleet_device_online{device=\"$device\"}[$__range])",
                "{{device}}",
            )],
        ),
        panel(
            "Lost reports",
            "That will never come.",
            Kind::Stat,
            (6, 6),
            "none",
            &[ask("fleet_device_reports_lost{device=\"$device\"}", "{{device}}")],
        ),
        panel(
            "Longest silent",
            "Ten devices.",
            Kind::Bars,
            WHOLE,
            "s",
            &[ask("topk(10, time() - fleet_device_heard_time_seconds)", "{{device}}")],
        ),
    ],
};
