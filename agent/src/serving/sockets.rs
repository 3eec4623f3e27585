//! Binding sockets: the loopback's ports, and files with an owner, a group and a mode.
//!
//! A lock file beside a unix socket says whether a server holds it, so that a socket left over by
//! a power cut is told from one in use.

use std::fs::{File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Gid, flock};
use tokio::net::{TcpListener, UnixListener, UnixSocket, UnixStream};

use super::listen::{ServeError, UnixEndpoint};

/// Longest path that the kernel takes for a unix socket.
pub(super) const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Connections that wait in the kernel.
const BACKLOG: u32 = 128;

pub(super) async fn bind_tcp(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let bound = async {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok((listener, addr))
    };
    bound.await.map_err(|source| ServeError::Tcp { addr, source })
}

/// The socket's file and the lock that says it is ours; both go with the server.
#[derive(Debug)]
pub(super) struct SocketFile {
    pub(super) path: PathBuf,
    _lock: File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Ours while we hold the lock. The lock file stays: removing it would let two servers
        // lock two files of one name.
        let _ = std::fs::remove_file(&self.path);
    }
}

pub(super) async fn bind_unix(
    endpoint: &UnixEndpoint,
) -> Result<(UnixListener, SocketFile), ServeError> {
    let path = endpoint.path.as_path();
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(ServeError::TooLong(path.into()));
    }
    let failed = |source| ServeError::Unix { path: path.into(), source };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(PathBuf::from(name))
        .map_err(failed)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(ServeError::Taken(path.into())),
        Err(error) => return Err(failed(error.into())),
    }
    remove_stale(path).await?;
    let listener = (|| {
        let socket = UnixSocket::new_stream().map_err(failed)?;
        socket.bind(path).map_err(failed)?;
        // Before `listen`: nobody connects under the wider permissions of the umask, nor before
        // the group is the one that was named.
        std::fs::set_permissions(path, Permissions::from_mode(endpoint.mode)).map_err(failed)?;
        if let Some(group) = endpoint.group
            && let Err(error) = rustix::fs::chown(path, None, Some(Gid::from_raw(group)))
        {
            let _ = std::fs::remove_file(path);
            return Err(ServeError::Group { path: path.into(), group, source: error.into() });
        }
        socket.listen(BACKLOG).map_err(failed)
    })();
    let listener = listener?;
    Ok((listener, SocketFile { path: path.into(), _lock: lock }))
}

/// Removes a socket that nobody answers on, and nothing else.
async fn remove_stale(path: &Path) -> Result<(), ServeError> {
    let failed = |source| ServeError::Unix { path: path.into(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ServeError::NoSocket(path.into()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        // A full queue or a forbidden socket is somebody's too.
        Ok(_) | Err(_) => Err(ServeError::Taken(path.into())),
    }
}
