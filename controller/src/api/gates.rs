//! Metric gates, from the request's words to the rollout's.

use fleetway_controller::planner::RolloutSpec;
use fleetway_controller::planner::analysis::GateSpec;

use super::types::GateRequest;

/// Puts what was asked for in place of the defaults: of the rollout, or of one phase (from 1).
pub(super) fn gates(spec: &mut RolloutSpec, requests: &[GateRequest]) {
    for request in requests.iter().filter(|request| request.phase.is_none()) {
        replace(&mut spec.gates, request);
    }
    for request in requests {
        let Some(phase) = request.phase else { continue };
        let all = spec.gates.clone();
        let of_phase = spec.gates_in.entry(phase.get() - 1).or_insert(all);
        replace(of_phase, request);
    }
}

fn replace(gates: &mut Vec<GateSpec>, request: &GateRequest) {
    let default = GateSpec::of(request.metric);
    let millionths = |permille: Option<u32>, default: u32| {
        permille.map_or(default, |permille| permille.saturating_mul(1_000))
    };
    let gate = GateSpec {
        metric: request.metric,
        mode: request.mode.unwrap_or(default.mode),
        tolerated: millionths(request.tolerated_permille, default.tolerated),
        excluded: millionths(request.excluded_permille, default.excluded),
        devices_min: request.devices_min.unwrap_or(default.devices_min),
        answers_min: request.answers_min.unwrap_or(default.answers_min),
    };
    match gates.iter_mut().find(|gate| gate.metric == request.metric) {
        Some(found) => *found = gate,
        None => gates.push(gate),
    }
}
