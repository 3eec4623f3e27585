//! Where applications ask, as a person is told.

use serde::{Deserialize, Serialize};

use crate::serving::listen::Server;

/// Where applications ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// TCP address.
    pub tcp: Option<String>,
    /// Path of the unix socket.
    pub unix: Option<String>,
    /// gRPC's TCP address.
    #[serde(default)]
    pub grpc_tcp: Option<String>,
    /// Path of gRPC's unix socket.
    #[serde(default)]
    pub grpc_unix: Option<String>,
}

impl Serving {
    /// The sockets that a server has.
    pub fn of(server: &Server) -> Self {
        Self {
            tcp: server.tcp().map(|addr| addr.to_string()),
            unix: server.unix().map(|path| path.display().to_string()),
            grpc_tcp: server.grpc_tcp().map(|addr| addr.to_string()),
            grpc_unix: server.grpc_unix().map(|path| path.display().to_string()),
        }
    }
}
