//! A gateway that alters what it carries, as the device and the fleet would see one: it stands
//! between the real gateway and the device, speaks the link with both, and flips a bit in the
//! payload of whatever it passes on while it is told to.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use anyhow::Result;
use fleetway_protocol::serial::{Config, FRAME_WIRE_BYTES_MAX, Link, MESSAGE_BYTES_MAX, Message};

type End = Link<MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX>;

/// Between gateway and device.
pub(crate) struct Tamper {
    pub(crate) addr: SocketAddr,
    /// Whether it alters what it carries.
    pub(crate) alters: Arc<AtomicBool>,
    /// Messages that it altered.
    pub(crate) altered: Arc<AtomicU32>,
    /// Cuts the line, once.
    pub(crate) cut: Arc<AtomicBool>,
}

impl Tamper {
    /// In front of the device at `device`.
    pub(crate) fn start(device: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let (alters, altered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let cut = Arc::new(AtomicBool::new(false));
        let shared = (Arc::clone(&alters), Arc::clone(&altered), Arc::clone(&cut));
        std::thread::spawn(move || {
            for (n, gateway) in (1_u32..).zip(listener.incoming().flatten()) {
                let Ok(device) = TcpStream::connect(device) else { continue };
                let _ = carry(n, [gateway, device], &shared.0, &shared.1, &shared.2);
            }
        });
        Ok(Self { addr, alters, altered, cut })
    }
}

#[allow(clippy::disallowed_methods, reason = "a line has a clock of its own")]
fn carry(
    n: u32,
    mut streams: [TcpStream; 2],
    alters: &AtomicBool,
    altered: &AtomicU32,
    cut: &AtomicBool,
) -> Result<()> {
    for stream in &streams {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_millis(5)))?;
    }
    let config = Config::for_baud(4_000_000, 4);
    let mut ends = [End::new(10 * n, config), End::new(10 * n + 1, config)];
    let started = Instant::now();
    let (mut bytes, mut wire) = ([0; 2048], [0; FRAME_WIRE_BYTES_MAX]);
    while !cut.swap(false, Ordering::Relaxed) {
        for at in 0..2 {
            let now_ms = started.elapsed().as_millis() as u64;
            match streams[at].read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(n) => ends[at].receive(now_ms, &bytes[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(message) = ends[at].message().map(<[u8]>::to_vec)
                && ends[1 - at].is_free()
            {
                ends[at].release();
                let mut message = message;
                let is_payload = matches!(
                    Message::decode(&message),
                    Ok(Message::Publish(..) | Message::Deliver(..))
                );
                if is_payload && alters.load(Ordering::Relaxed) {
                    altered.fetch_add(1, Ordering::Relaxed);
                    if let Some(last) = message.last_mut() {
                        *last ^= 1;
                    }
                }
                ends[1 - at].send(now_ms, &[&message])?;
            }
            for end in 0..2 {
                while let Some(frame) = ends[end].poll_transmit(now_ms, &mut wire) {
                    streams[end].write_all(frame)?;
                }
            }
        }
    }
    Ok(())
}
