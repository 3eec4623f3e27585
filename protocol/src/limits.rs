//! Every bound of the protocol, with its unit in the name and the reason beside it.
//!
//! A bound that two sides must agree on lives here and nowhere else.

/// Length of a device id. 64 keeps the longest topic under the 256 bytes of AWS IoT Core.
pub const DEVICE_ID_BYTES_MAX: usize = 64;
/// Length of a model name; it is a topic level as well.
pub const MODEL_NAME_BYTES_MAX: usize = 64;
/// Length of a delegated role's name; it is part of a topic level and of a file name.
pub const ROLE_NAME_BYTES_MAX: usize = 32;
/// Length of a hardware class; people type it into a device's configuration.
pub const HARDWARE_BYTES_MAX: usize = 32;
/// Hardware classes that one release may name: a product line has a handful.
pub const HARDWARE_MAX: usize = 8;
/// Length of a version label. Only people read it; order comes from the counter.
pub const VERSION_BYTES_MAX: usize = 32;
/// Length of the sentence an operator leaves with an override. One line of a terminal.
pub const NOTE_BYTES_MAX: usize = 120;

/// Longest topic below the root, in bytes: `d/<id>/up/st/<model>`. It fits the one byte that a
/// serial link has for its length.
pub const BARE_TOPIC_BYTES_MAX: usize = 2 + DEVICE_ID_BYTES_MAX + 7 + MODEL_NAME_BYTES_MAX;

/// Chunk size unless the importer says otherwise: four in flight on a 60 s keep-alive
/// need only 4.4 kB/s, so that slow links keep their session.
pub const CHUNK_BYTES_DEFAULT: u32 = 32 * 1024;
/// Largest chunk: with topic and header it stays under 64 000 bytes, which every broker
/// and bridge we know of takes.
pub const CHUNK_BYTES_MAX: u32 = 60 * 1024;
/// Largest chunk that goes to a microcontroller: it takes it into memory whole, and writes it into one
/// block of flash.
pub const MCU_CHUNK_BYTES: u32 = 4096;
/// Room that a microcontroller has for one paper (a release, a keyset) or one chunk list, bytes: 128
/// chunks, which at 4 KiB are a model of half a megabyte.
pub const MCU_PAPER_BYTES: u32 = 4096;
/// Smallest chunk: below this the MQTT framing costs more than a tenth of the bytes.
pub const CHUNK_BYTES_MIN: u32 = 256;
/// Chunks of one artifact: the chunk list (32 bytes each) is then itself one chunk.
pub const CHUNKS_MAX: usize = 1920;
/// Largest artifact in bytes: all chunks at the largest size (112.5 MiB).
pub const ARTIFACT_BYTES_MAX: u32 = CHUNK_BYTES_MAX * CHUNKS_MAX as u32;

/// Numbers that one release may have watched for drift: 100 bytes each in the manifest, 80 in
/// every window of counters.
pub const WATCHED_MAX: usize = 6;
/// Encoded manifest. Holds four variants and a full reference; small enough for a
/// microcontroller's stack.
pub const MANIFEST_BYTES_MAX: usize = 2048;
/// Encoded order of one device, all its models included.
pub const ORDER_BYTES_MAX: usize = 4096;
/// Signatures on one envelope: a threshold over more people than this is not run by hand.
pub const SIGNATURES_MAX: usize = 8;
/// Envelope around the largest payload: 80 bytes a signature and the framing.
pub const ENVELOPE_BYTES_MAX: usize = ORDER_BYTES_MAX + 80 * SIGNATURES_MAX + 16;
/// Keys of one authority.
pub const AUTHORITY_KEYS_MAX: usize = 8;
/// Release keys of a fleet, each with the models it is for: eight people for everything and
/// as many for single teams. In a microcontroller's RAM they are 4 kB.
pub const RELEASE_KEYS_MAX: usize = 16;
/// Encoded keyset: two authorities and the release keys, full, with the longest names.
pub const KEYSET_BYTES_MAX: usize =
    16 + 2 * (2 + 32 * AUTHORITY_KEYS_MAX) + (2 + (34 + MODEL_NAME_BYTES_MAX) * RELEASE_KEYS_MAX);

/// Models on one device. Each costs two slots; more belong on a bigger device.
pub const MODELS_PER_DEVICE_MAX: usize = 8;
/// Forms of one release (`onnx`, `qnn`, and room for hardware-specific ones).
pub const VARIANTS_MAX: usize = 4;
/// Attestations that a manifest names: one of each kind, and room for kinds to come.
pub const ATTESTATIONS_MAX: usize = 4;
/// Releases a device remembers as bad per model. When the list is full the oldest entry
/// goes, and the report counts it: a release that old is below the floor in practice.
pub const POISON_MAX: usize = 16;
/// Ungraceful ends that a release may cause in its trial before it is poisoned as
/// `Interrupted`. Three: one is a power cut, two are bad luck, three are the model.
pub const TRIAL_TRIES_MAX: u8 = 3;
/// Times a download is repeated because the whole file did not match although each chunk
/// did: that is storage rotting, and the third time it is the release.
pub const VERIFY_RETRIES_MAX: u8 = 2;

/// Encoded slot table, in bytes, header and CRC included.
pub const TABLE_BYTES_MAX: usize = 3072;
/// Encoded report (presence, state, telemetry, ack, want).
pub const REPORT_BYTES_MAX: usize = 4096;
/// Signature of a report: ECDSA P-256 (`r || s`) and Ed25519 both have 64 bytes.
pub const REPORT_SIGNATURE_BYTES_MAX: usize = 64;
/// Report with its signature: version, two lengths (2 and 1 bytes) and the algorithm.
pub const SIGNED_REPORT_BYTES_MAX: usize = REPORT_BYTES_MAX + REPORT_SIGNATURE_BYTES_MAX + 5;
/// Greatest number of a telemetry report: 30 million years of one a second, and a double holds it.
pub const REPORT_NUMBER_MAX: u64 = 1 << 50;
/// Spans in the controller's answer to telemetry: what came while a backlog is filled in has a gap
/// per report that was lost on the way; more are said the next time.
pub const HEARD_SPANS_MAX: usize = 8;
/// That answer, encoded: the id and 3 + 2 * 8 numbers of at most 10 bytes.
pub const HEARD_BYTES_MAX: usize = DEVICE_ID_BYTES_MAX + 4 + 10 * (3 + 2 * HEARD_SPANS_MAX);
/// Answer classes that are counted one by one; the rest share the last counter.
pub const CLASSES_MAX: usize = 64;
/// Pieces asked for in one `want` message: what a controller may have in flight for one
/// device, so that a thousand devices cannot make it buffer a gigabyte.
pub const WANT_PIECES_MAX: usize = 8;

/// Chunks in flight at once. Brokers allow at least eight filters in a SUBSCRIBE.
pub const WINDOW_CHUNKS_MAX: usize = 8;
/// First wait for a chunk before it is asked for again, in milliseconds.
pub const CHUNK_TIMEOUT_MS: u64 = 5_000;
/// Longest wait between two asks for the same chunk, in milliseconds.
pub const CHUNK_BACKOFF_MS_MAX: u64 = 60_000;
/// Wait before a step that failed for want of network or disk is tried again, in ms.
pub const STEP_RETRY_MS: u64 = 2_000;
/// Longest such wait, in milliseconds: an operator who frees the disk sees it resume.
pub const STEP_RETRY_MS_MAX: u64 = 60_000;

/// URL in a join string: a host name of 253 bytes is legal, and a QR code is not that large.
pub const JOIN_URL_BYTES_MAX: usize = 160;
/// What a join string holds: two URLs, two digests, the id, the token, the checksum and
/// the lengths between them.
pub const JOIN_BYTES_MAX: usize = 2 * (JOIN_URL_BYTES_MAX + 2) + 2 * 33 + 66 + 16 + 4;
/// A join string: its prefix, then five bits in a character.
pub const JOIN_CHARS_MAX: usize = 10 + JOIN_BYTES_MAX.div_ceil(5) * 8;
/// A certificate signing request for a P-256 key, PEM: about 500 bytes.
pub const CSR_PEM_BYTES_MAX: usize = 2048;
/// A device's certificate, PEM: about 900 bytes.
pub const CERT_PEM_BYTES_MAX: usize = 4096;
/// The configuration that a device gets when it joins: a page of text.
pub const AGENT_CONFIG_BYTES_MAX: usize = 4096;
/// An ECDSA P-256 signature in DER: 72 bytes at most.
pub const PROOF_BYTES_MAX: usize = 80;
/// Any body of the enrolment listener but the root.
pub const ENROLL_BODY_BYTES_MAX: usize = 2 * CERT_PEM_BYTES_MAX + AGENT_CONFIG_BYTES_MAX + 64;
/// The TUF root that a device pins; TUF clients commonly cap it at 512 KiB.
pub const ROOT_JSON_BYTES_MAX: usize = 512 * 1024;
