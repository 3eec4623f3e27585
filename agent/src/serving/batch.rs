//! Requests that meet share a run, where the engine takes several rows and gives each the bits
//! that it has alone ([`fleetway_engine::Engine::rows_max`]).
//!
//! The first request opens a batch and waits for a turn; until the turn comes others may join,
//! so a busy device batches by itself and an idle one never waits. Only when a turn is free at
//! once, and other requests of the model are being read, does a batch wait for them, and then
//! [`ModelSettings::batch_wait`](super::settings::ModelSettings) at most. A batch belongs to
//! what is loaded: a swap never mixes two releases in one run.

use std::sync::{Arc, Mutex, OnceLock};

use fleetway_engine::Tensor;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use super::infer::{Gate, supervised};
use super::limits::Limits;
use super::live::{Live, Loaded};
use super::lock;
use super::refusal::Refusal;
use super::run::{Outcome, Run, rows};
use crate::clock::{Clock, Stopwatch};

/// The batch of a release that still takes requests.
#[derive(Default)]
pub(super) struct Batches(Mutex<Option<Arc<Batch>>>);

#[derive(Default)]
struct Batch {
    gathered: Mutex<Gathered>,
    full: Notify,
}

#[derive(Default)]
struct Gathered {
    members: Vec<Member>,
    rows: usize,
    /// It runs, or has run.
    closed: bool,
}

struct Member {
    inputs: Vec<Tensor>,
    tell: oneshot::Sender<Result<Given, Refusal>>,
    waits: Stopwatch,
    _place: OwnedSemaphorePermit,
}

/// What a request gets from its batch.
pub(super) struct Given {
    pub(super) outcome: Outcome,
    pub(super) queue_ns: u64,
    pub(super) infer_ns: u64,
}

/// Rows that may share a run of what is loaded now.
pub(super) fn rows_max(live: &Live) -> usize {
    live.current().map_or(1, |loaded| rows_of(live, &loaded))
}

fn rows_of(live: &Live, loaded: &Loaded) -> usize {
    loaded.engine.rows_max().min(live.settings().batch_max)
}

/// Waits for the answer of a batch.
pub(super) async fn join(
    gate: &Arc<Gate>,
    limits: Limits,
    live: &Arc<Live>,
    loaded: &Arc<Loaded>,
    inputs: Vec<Tensor>,
    place: OwnedSemaphorePermit,
) -> Result<Given, Refusal> {
    let (tell, told) = oneshot::channel();
    let member = Member { inputs, tell, waits: Clock::stopwatch(), _place: place };
    if let Some(batch) = put(loaded, member, rows_of(live, loaded)) {
        let (gate, live, loaded) = (gate.clone(), live.clone(), loaded.clone());
        // Of its own: the batch goes on when the client that opened it has gone.
        tokio::spawn(async move { lead(&gate, limits, live, loaded, &batch).await });
    }
    told.await.unwrap_or_else(|_| Err(Refusal::stopping()))
}

/// Puts a request into the open batch, or opens the one that it gives back.
fn put(loaded: &Loaded, member: Member, rows_max: usize) -> Option<Arc<Batch>> {
    let more = rows(&member.inputs);
    let mut open = lock(&loaded.batches.0);
    if let Some(batch) = &*open {
        let mut gathered = lock(&batch.gathered);
        if !gathered.closed && gathered.rows + more <= rows_max {
            gathered.rows += more;
            gathered.members.push(member);
            if gathered.rows == rows_max {
                batch.full.notify_one();
            }
            return None;
        }
    }
    let gathered = Gathered { members: vec![member], rows: more, closed: false };
    let batch = Arc::new(Batch { gathered: Mutex::new(gathered), full: Notify::new() });
    *open = Some(batch.clone());
    Some(batch)
}

impl Batch {
    fn close(&self) -> Vec<Member> {
        let mut gathered = lock(&self.gathered);
        gathered.closed = true;
        std::mem::take(&mut gathered.members)
    }

    /// Whether somebody may still come: requests are under way that are in no batch yet.
    fn may_grow(&self, live: &Live, rows_max: usize) -> bool {
        let gathered = lock(&self.gathered);
        gathered.rows < rows_max && live.lane().underway() > gathered.members.len()
    }
}

async fn lead(gate: &Gate, limits: Limits, live: Arc<Live>, loaded: Arc<Loaded>, batch: &Batch) {
    let turn = match gate.turn(live.lane(), limits.queue_wait).await {
        Ok(turn) => turn,
        Err(refusal) => return refuse(batch.close(), &refusal),
    };
    let wait = live.settings().batch_wait;
    if !wait.is_zero() && batch.may_grow(&live, rows_of(&live, &loaded)) {
        // Full, or late: either way it runs now.
        let _ = tokio::time::timeout(wait, batch.full.notified()).await;
    }
    let mut members = batch.close();
    let inputs: Vec<_> = members.iter_mut().map(|m| std::mem::take(&mut m.inputs)).collect();
    let queued: Vec<u64> = members.iter().map(|member| member.waits.elapsed_ns()).collect();
    let bytes = inputs.iter().flatten().map(Tensor::len_bytes).sum();
    let seat = gate.seat(Some(&loaded), bytes);
    let run = Arc::new(OnceLock::new());
    let work = {
        let run = run.clone();
        move || {
            let count = inputs.len();
            let run = run.get_or_init(|| Run::begin(live, loaded.clone(), count));
            let outcomes = run.run_together(&inputs);
            let infer_ns = run.elapsed_ns();
            loaded.stats().ran(inputs.iter().map(|inputs| rows(inputs)).sum(), infer_ns);
            (outcomes, infer_ns)
        }
    };
    match supervised(limits.answer, run, turn, seat, work).await {
        Ok((outcomes, infer_ns)) => {
            for ((member, outcome), queue_ns) in members.into_iter().zip(outcomes).zip(queued) {
                // A client that has gone is told nothing.
                let _ = member.tell.send(Ok(Given { outcome, queue_ns, infer_ns }));
            }
        }
        Err(refusal) => refuse(members, &refusal),
    }
}

fn refuse(members: Vec<Member>, refusal: &Refusal) {
    for member in members {
        let _ = member.tell.send(Err(refusal.clone()));
    }
}
