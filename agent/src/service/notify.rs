//! `sd_notify` in forty lines of std: one datagram per message to the socket that the service
//! manager names. A name that begins with `@` is in the abstract namespace.

use std::ffi::OsStr;
use std::io;
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt as _;
#[cfg(not(target_os = "android"))]
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager's socket.
#[derive(Debug)]
pub(super) struct Notify {
    socket: UnixDatagram,
}

impl Notify {
    /// Connects to the socket of this name.
    pub(super) fn open(name: &OsStr) -> io::Result<Self> {
        let addr = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                let text = "it must begin with / or @";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&addr)?;
        // A manager that does not read must not stop the loop: its queue full, the message is lost.
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Says it. What is lost is said again: pings by the next one, a status by the next change.
    pub(super) fn say(&self, message: &str) {
        if let Err(error) = self.socket.send(message.as_bytes()) {
            tracing::debug!("the service manager was not told: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn both_kinds_of_names_are_heard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Notify::open(path.as_os_str()).unwrap().say("READY=1");
        assert_eq!(heard(&socket), "READY=1");

        let name = format!("fleetway-test-{}", std::process::id());
        let addr = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&addr).unwrap();
        Notify::open(OsStr::new(&format!("@{name}"))).unwrap().say("STATUS=well");
        assert_eq!(heard(&socket), "STATUS=well");
    }

    #[test]
    fn what_is_no_socket_is_an_error_and_a_full_queue_is_none() {
        assert!(Notify::open(OsStr::new("vsock:2:1")).is_err());
        assert!(Notify::open(OsStr::new("/nonexistent/notify")).is_err());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::open(path.as_os_str()).unwrap();
        (0..10_000).for_each(|_| notify.say("WATCHDOG=1"));
    }
}
