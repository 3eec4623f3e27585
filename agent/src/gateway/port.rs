//! Where a device's line ends: a serial port, or a socket (a board in an emulator, a terminal
//! server). Both become bytes that can be waited for.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::termios::{OptionalActions, isatty, tcgetattr, tcsetattr};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A serial port, eight bits, no parity, one stop bit, no hardware flow control.
    Serial {
        /// The device file.
        path: PathBuf,
        /// Bits per second.
        baud: u32,
    },
    /// A TCP server.
    Tcp(SocketAddr),
    /// A unix socket that somebody listens on.
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial { path, baud } => write!(f, "{} at {baud} baud", path.display()),
            Self::Tcp(addr) => write!(f, "tcp:{addr}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Place {
    /// Bits per second, for how long an answer may take. A socket is as quick as the quickest
    /// port.
    pub(super) fn baud(&self) -> u32 {
        match self {
            Self::Serial { baud, .. } => *baud,
            Self::Tcp(_) | Self::Unix(_) => super::BAUD_MAX,
        }
    }
}

pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Opens it. A serial port is ours alone from then on, as far as others ask.
///
/// # Errors
/// The system's.
pub(super) async fn open(place: &Place) -> io::Result<(Reader, Writer)> {
    Ok(match place {
        Place::Serial { path, baud } => {
            let port = serial(path, *baud)?;
            // A terminal can be waited for like a pipe.
            let reader = pipe::Receiver::from_file_unchecked(port.try_clone()?)?;
            (Box::new(reader), Box::new(pipe::Sender::from_file_unchecked(port)?))
        }
        Place::Tcp(addr) => {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            let (reader, writer) = stream.into_split();
            (Box::new(reader), Box::new(writer))
        }
        Place::Unix(path) => {
            let (reader, writer) = UnixStream::connect(path).await?.into_split();
            (Box::new(reader), Box::new(writer))
        }
    })
}

/// A serial port as it is needed: every byte as it is.
pub(crate) fn serial(path: &Path, baud: u32) -> io::Result<File> {
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
    let port =
        OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(path)?;
    if !isatty(&port) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no serial port"));
    }
    let mut settings = tcgetattr(&port)?;
    settings.make_raw();
    settings.set_speed(baud)?;
    tcsetattr(&port, OptionalActions::Now, &settings)?;
    Ok(port)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// The other end of a terminal: says its name, and back what it hears.
    const ECHO: &str = "import os\nm, s = os.openpty()\nprint(os.ttyname(s), flush=True)\nwhile True:\n b = os.read(m, 256)\n while b: b = b[os.write(m, b):]\n";

    #[tokio::test]
    async fn a_terminal_carries_every_byte_as_it_is() {
        let python = Command::new("python3").args(["-c", ECHO]).stdout(Stdio::piped()).spawn();
        let mut python = python.unwrap();
        let mut path = String::new();
        BufReader::new(python.stdout.take().unwrap()).read_line(&mut path).unwrap();
        let place = Place::Serial { path: path.trim().into(), baud: 115_200 };
        let (mut reader, mut writer) = open(&place).await.unwrap();
        let bytes: Vec<u8> = (0..=255).collect();
        writer.write_all(&bytes).await.unwrap();
        let mut back = vec![0; 256];
        reader.read_exact(&mut back).await.unwrap();
        assert_eq!(back, bytes, "nothing is translated, there or back");
        // Pulled out: its end is an error, not silence.
        python.kill().unwrap();
        python.wait().unwrap();
        assert!(!matches!(reader.read(&mut back).await, Ok(1..)));
    }

    #[tokio::test]
    async fn what_is_no_port_is_not_opened() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let place = Place::Serial { path: file.path().to_owned(), baud: 9_600 };
        let error = open(&place).await.map(drop).unwrap_err();
        assert!(error.to_string().contains("no serial port"), "{error}");
        let gone = Place::Unix("/nonexistent/socket".into());
        assert!(open(&gone).await.is_err());
    }
}
