//! What happens, as it happens: server-sent events.
//!
//! Every line of the audit log is an event `audit` with its number as the id, so whoever comes back
//! with `Last-Event-ID` misses none: they are read from the journal. What devices report is no
//! decision and has no number: `devices` and `rollouts` name what has changed, twice a second at
//! most, and whoever comes back reads those again (`hello` says so). A stream ends after some
//! minutes by itself, and browsers come back by themselves: so a token that was revoked sees
//! nothing for longer than that.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use fleetway_controller::audit::chain::Entry;
use fleetway_controller::fleet::Fleet;
use fleetway_protocol::ids::{DeviceId, RolloutId};
use hyper::body::{Body as HttpBody, Frame};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio::time::{sleep, timeout};

use super::failure::Failure;
use super::view::failed;
use crate::serve::Running;

/// Events that a reader may be behind before it is dropped.
const BEHIND_MAX: usize = 1_024;
/// Pieces on their way to one reader.
const PIECES: usize = 16;
/// How a stream goes.
const PACE: Pace = Pace {
    slow: Duration::from_secs(10),
    heartbeat: Duration::from_secs(15),
    life: Duration::from_secs(300),
};
/// Streams at once: screens on walls and open browsers.
const STREAMS_MAX: usize = 256;
/// Lines of the log that are read for somebody who comes back; further behind, all is read again.
const RESUME_MAX: u64 = 1_000;
/// Ids in one event; with more of them it says that anything may have changed.
const IDS_MAX: usize = 500;

/// The times of a stream.
#[derive(Clone, Copy)]
struct Pace {
    /// How long a reader may take nothing.
    slow: Duration,
    /// Between two signs of life, so that proxies keep the connection.
    heartbeat: Duration,
    /// How long a stream lasts.
    life: Duration,
}

/// One event, ready to be sent.
#[derive(Clone, Debug)]
struct Event {
    /// Number of its line in the audit log, if it is one.
    seq: Option<u64>,
    text: Bytes,
}

/// Where events come from. Nobody who watches makes the fleet wait: a full channel drops its
/// slowest reader.
pub(crate) struct Events {
    sender: Mutex<Option<broadcast::Sender<Event>>>,
    streams: Arc<Semaphore>,
}

impl Default for Events {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(BEHIND_MAX);
        Self { sender: Mutex::new(Some(sender)), streams: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }
}

impl Events {
    /// Tells of lines of the log, and of what else has changed.
    pub(crate) fn tell(
        &self,
        lines: &[Entry],
        devices: &BTreeSet<DeviceId>,
        rollouts: &BTreeSet<RolloutId>,
    ) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = sender.as_ref().filter(|sender| sender.receiver_count() > 0) else {
            return;
        };
        let mut events: Vec<Event> = lines.iter().map(line).collect();
        events.extend(changed("devices", devices));
        events.extend(changed("rollouts", rollouts));
        for event in events {
            // Nobody listens any more: nobody misses it.
            let _ = sender.send(event);
        }
    }

    /// Whether anybody would hear of it.
    pub(crate) fn is_heard(&self) -> bool {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// Ends all streams.
    pub(crate) fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn listen(&self) -> Result<(broadcast::Receiver<Event>, OwnedSemaphorePermit), Failure> {
        let place = self.streams.clone().try_acquire_owned().map_err(|_| {
            Failure::unreachable(format!("{STREAMS_MAX} streams are open already"))
                .mend("close some pages, or ask again later")
        })?;
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = sender.as_ref().ok_or_else(|| {
            Failure::unreachable("the controller is shutting down").mend("start it again")
        })?;
        Ok((sender.subscribe(), place))
    }
}

fn line(entry: &Entry) -> Event {
    let data = serde_json::to_string(entry).unwrap_or_default();
    let text = format!("id: {}\nevent: audit\ndata: {data}\n\n", entry.seq);
    Event { seq: Some(entry.seq), text: text.into() }
}

fn changed<T: ToString>(what: &str, ids: &BTreeSet<T>) -> Option<Event> {
    let data = match ids.len() {
        0 => return None,
        1..=IDS_MAX => json!({ "ids": ids.iter().map(T::to_string).collect::<Vec<_>>() }),
        _ => json!({ "all": true }),
    };
    Some(Event { seq: None, text: format!("event: {what}\ndata: {data}\n\n").into() })
}

/// What somebody who comes back has missed; `None` if it is too much, or not there any more.
fn missed(fleet: &Fleet, last: u64) -> Result<Option<Vec<Entry>>, Failure> {
    let head = fleet.audit().head.seq;
    if last > head || head - last > RESUME_MAX {
        return Ok(None);
    }
    let mut lines = Vec::new();
    for seq in last + 1..=head {
        match fleet.audit_entry(seq).map_err(|error| failed(error.kind(), &error))? {
            Some(entry) => lines.push(entry),
            None => return Ok(None),
        }
    }
    Ok(Some(lines))
}

/// `GET /v1/events`.
pub(super) async fn stream(
    State(running): State<Running>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let last = match last.filter(|last| !last.is_empty()) {
        None => None,
        Some(last) => Some(last.parse::<u64>().map_err(|_| {
            Failure::usage(format!("`Last-Event-ID` is {last:?}, and ids are numbers"))
        })?),
    };
    // In this order: nothing can fall between the log and what comes after it.
    let (events, place) = running.events.listen()?;
    let (head, lines) = running
        .core
        .ask(move |fleet, _| {
            let lines = last.map(|last| missed(fleet, last)).transpose()?.flatten();
            Ok::<_, Failure>((fleet.audit().head.seq, lines))
        })
        .await??;
    let hello = json!({ "head": head, "resumed": lines.is_some() });
    // The id goes with it: whoever never hears an `audit` resumes from here.
    let mut begin = format!("retry: 2000\nid: {head}\nevent: hello\ndata: {hello}\n\n");
    if let Some(lines) = lines {
        let mut missed = String::new();
        for entry in &lines {
            missed.push_str(&String::from_utf8_lossy(&line(entry).text));
        }
        begin = missed + &begin;
    }
    let (sender, pieces) = mpsc::channel(PIECES);
    let last_word = Arc::new(OnceLock::new());
    let body = Pieces { pieces, last_word: last_word.clone(), said: false, _place: place };
    tokio::spawn(async move {
        if let Some(word) = feed(&sender, events, begin.into(), head, PACE).await {
            let _ = last_word.set(word);
        }
        // Only now: the body looks for the last word when there are no pieces any more.
        drop(sender);
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((kind, Body::new(body)).into_response())
}

/// Hands events on until the stream ends; what is still to be said then.
async fn feed(
    sender: &mpsc::Sender<Bytes>,
    mut events: broadcast::Receiver<Event>,
    begin: Bytes,
    head: u64,
    pace: Pace,
) -> Option<Bytes> {
    let mut end = std::pin::pin!(sleep(pace.life));
    let mut piece = begin;
    loop {
        match timeout(pace.slow, sender.send(piece)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return None,
            Err(_) => return Some(word("too slow")),
        }
        piece = loop {
            tokio::select! {
                event = events.recv() => match event {
                    // It was in the journal already.
                    Ok(Event { seq: Some(seq), .. }) if seq <= head => {}
                    Ok(event) => break event.text,
                    Err(broadcast::error::RecvError::Lagged(_)) => return Some(word("too slow")),
                    Err(broadcast::error::RecvError::Closed) => return Some(word("stopping")),
                },
                () = sleep(pace.heartbeat) => break Bytes::from_static(b": here\n\n"),
                () = sender.closed() => return None,
                () = &mut end => return Some(word("come back")),
            }
        };
    }
}

fn word(why: &str) -> Bytes {
    format!("event: end\ndata: {}\n\n", json!({ "why": why })).into()
}

/// A stream's body: the pieces, and a last word that no queue can hold up.
struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    last_word: Arc<OnceLock<Bytes>>,
    said: bool,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = std::task::ready!(self.pieces.poll_recv(cx));
        let piece = piece.or_else(|| {
            let said = std::mem::replace(&mut self.said, true);
            self.last_word.get().filter(|_| !said).cloned()
        });
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64) -> Entry {
        Entry {
            seq,
            time_s: 1,
            who: "ann".into(),
            what: "device.add".into(),
            rollout: None,
            device: None,
            key: None,
            text: "two\nlines".into(),
        }
    }

    const QUICK: Pace = Pace {
        slow: Duration::from_millis(50),
        heartbeat: Duration::from_millis(20),
        life: Duration::from_millis(200),
    };

    /// A stream of `events` at this pace: its pieces, and what it says at its end.
    fn open(
        events: &Events,
        head: u64,
        pace: Pace,
    ) -> (mpsc::Receiver<Bytes>, tokio::task::JoinHandle<Option<Bytes>>) {
        let (receiver, _) = events.listen().unwrap();
        let (sender, pieces) = mpsc::channel(PIECES);
        let feeding =
            tokio::spawn(async move { feed(&sender, receiver, "begin".into(), head, pace).await });
        (pieces, feeding)
    }

    async fn read(pieces: &mut mpsc::Receiver<Bytes>) -> String {
        String::from_utf8(pieces.recv().await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn events_come_in_order_once_and_a_line_break_cannot_forge_one() {
        let events = Events::default();
        let (mut pieces, feeding) = open(&events, 7, PACE);
        let devices = BTreeSet::from([DeviceId::new("a").unwrap()]);
        events.tell(&[entry(7), entry(8)], &devices, &BTreeSet::from([3]));
        assert_eq!(read(&mut pieces).await, "begin");
        let audit = read(&mut pieces).await;
        assert!(audit.starts_with("id: 8\nevent: audit\ndata: {"), "7 was in the journal: {audit}");
        assert_eq!(audit.matches('\n').count(), 4, "{audit:?}");
        assert_eq!(read(&mut pieces).await, "event: devices\ndata: {\"ids\":[\"a\"]}\n\n");
        assert_eq!(read(&mut pieces).await, "event: rollouts\ndata: {\"ids\":[\"3\"]}\n\n");
        events.close();
        assert_eq!(feeding.await.unwrap().unwrap(), word("stopping"));
        assert!(events.listen().is_err());
    }

    #[tokio::test]
    async fn who_does_not_read_is_dropped_with_a_word() {
        let events = Events::default();
        let (pieces, feeding) = open(&events, 0, QUICK);
        for seq in 1..=2 * BEHIND_MAX as u64 {
            events.tell(&[entry(seq)], &BTreeSet::new(), &BTreeSet::new());
        }
        assert_eq!(feeding.await.unwrap().unwrap(), word("too slow"));
        drop(pieces);
    }

    #[tokio::test]
    async fn a_stream_shows_signs_of_life_and_ends_by_itself() {
        let events = Events::default();
        let (mut pieces, feeding) = open(&events, 0, QUICK);
        assert_eq!(read(&mut pieces).await, "begin");
        assert_eq!(read(&mut pieces).await, ": here\n\n");
        while pieces.recv().await.is_some() {}
        assert_eq!(feeding.await.unwrap().unwrap(), word("come back"));
    }

    #[test]
    fn streams_have_a_bound() {
        let events = Events::default();
        let open: Vec<_> = (0..STREAMS_MAX).map(|_| events.listen().unwrap()).collect();
        assert!(events.listen().is_err());
        drop(open);
        assert!(events.listen().is_ok());
    }
}
