//! Bounds of serving, with their unit and their reason. One struct, so that tests can make time
//! short; the agent runs with [`Limits::default`].

use std::time::Duration;

/// Largest request body. A 3 x 640 x 640 float image, the largest input that is usual at the
/// edge, is 1.2 million numbers of about 12 characters: 15 MB of JSON.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// All request bodies in memory together: two of the largest. The answer to more is 429.
pub const BODIES_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// What is read and thrown away of a body that nobody wants (too large, or sent to a resource that
/// takes none), so that an ordinary client gets to read the answer instead of a broken pipe.
pub const DISCARD_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// Connections of one listener. Each may buffer [`READ_BUFFER_BYTES_MAX`]; more wait in the
/// kernel's queue. Per listener, so that nobody on TCP keeps the unix socket busy.
pub const CONNECTIONS_MAX: usize = 64;

/// Read buffer of one connection, which is also the largest request head.
pub const READ_BUFFER_BYTES_MAX: usize = 32 << 10;

/// Header lines of one request.
pub const HEADERS_MAX: usize = 64;

/// Requests that may wait for their turn to run, for each one that may run. With two runners that is
/// what a thousand requests a second pile up in 60 ms, the hiccup of a small box that is busy; a
/// queue that is longer than what is served in [`Limits::queue_wait`] only makes answers old.
pub const QUEUE_PER_RUNNER: usize = 32;

/// Rows of different requests that share a run: what engines lay out at most.
pub const BATCH_ROWS_MAX: usize = 8;

/// How long a run waits for requests that are still being read. Half a millisecond is less than
/// a batch saves where it is worth having one, and nobody waits who asks alone.
pub const BATCH_WAIT: Duration = Duration::from_micros(500);

/// Longest wait that can be configured: an answer is wanted within some ten of them.
pub const BATCH_WAIT_MAX: Duration = Duration::from_millis(100);

/// Runs that may keep an async thread to themselves. The agent has two such threads: if a run
/// hangs on one, the other goes on with everything, and nothing more is run there.
pub const INLINE_RUNS_MAX: usize = 1;

/// Longest run, in microseconds, after which a release's next may keep an async thread. To hand
/// the thread's other work over takes some twenty; in a millisecond nobody misses it.
pub const INLINE_RUN_US_MAX: u32 = 1_000;

/// Bytes that are read, packed or unpacked at once where other requests wait for the same thread;
/// about ten microseconds of JSON.
pub const INLINE_BYTES_MAX: usize = 4 << 10;

/// Bytes that are asked for at once while a body grows out of its compression.
pub const UNPACK_STEP_BYTES: usize = 64 << 10;

/// Bytes of a gRPC request that names a model and nothing more.
pub const NAME_MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Requests at once on one gRPC connection: as many as may wait for two runners.
pub const STREAMS_MAX: u32 = 64;

/// Bytes of answers that a gRPC connection holds for its client, for each request.
pub const SEND_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Bytes that a gRPC client may send ahead on one request, and on a connection. Smaller than a
/// body: who sends a large one sees it taken piece by piece.
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// See [`STREAM_WINDOW_BYTES`].
pub const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// Answers kept for the judge of a probation until it fetches them. At 10 000 answers a second
/// and ten fetches a second a thousand are waiting. 128 kB per model.
pub const ANSWERS_QUEUED_MAX: usize = 2_048;

/// Runs past their deadline on one engine, after which it gets no new ones: every such run burns
/// a processor, and a small box has two. Requests then fail at once, which the judge sees.
pub const HUNG_RUNS_MAX: usize = 2;

/// Times that guard a server. See the fields.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the end of one request to the complete head of the next: a slow client, or an idle
    /// one, holds its connection for so long. A minute, because applications ask once a minute.
    pub head: Duration,
    /// For a complete body.
    pub body: Duration,
    /// Without a single byte of an answer being taken by the client.
    pub write_stall: Duration,
    /// For a turn to run. A second: an answer that starts later is not wanted any more.
    pub queue_wait: Duration,
    /// For an answer. Ten seconds is ten times the slowest model that makes sense at the edge.
    /// What takes longer counts as failed.
    pub answer: Duration,
    /// For what is under way when the server stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(60),
            body: Duration::from_secs(20),
            write_stall: Duration::from_secs(20),
            queue_wait: Duration::from_secs(1),
            answer: Duration::from_secs(10),
            grace: Duration::from_secs(5),
        }
    }
}
