//! Who is speaking: what a certificate's subject says, and under which client ids.
//!
//! The CN is the name and the OU the role. mosquitto knows only the CN, so names of
//! different roles must differ by themselves: device ids never are `controller` or start
//! with `controller-` (`DeviceId` refuses them), and a viewer's CN has a dot, which no
//! device id has.

use std::fmt;

use fleetway_protocol::ids::DeviceId;

/// OU of a device's certificate; the CN is its id.
pub const DEVICE: &str = "device";
/// OU, CN and shortest client id of the controller.
pub const CONTROLLER: &str = "controller";
/// OU of a dashboard, which reads the JSON mirror and nothing else.
pub const VIEWER: &str = "viewer";
/// OU of the broker's listener; never accepted from a client.
pub const SERVER: &str = "server";

/// Who is speaking, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A device, by its id.
    Device(DeviceId),
    /// The controller.
    Controller,
    /// A dashboard, by a name that has the form of a device id.
    Viewer(DeviceId),
}

impl Identity {
    /// From the role (OU) and name (CN) of a verified certificate. `None` for anything that
    /// this fleet's CA does not issue to clients.
    pub fn from_subject(ou: &str, cn: &str) -> Option<Self> {
        match ou {
            DEVICE => DeviceId::new(cn).ok().map(Self::Device),
            CONTROLLER if cn == CONTROLLER => Some(Self::Controller),
            VIEWER => {
                let name = cn.strip_prefix(VIEWER)?.strip_prefix('.')?;
                DeviceId::new(name).ok().map(Self::Viewer)
            }
            _ => None,
        }
    }

    /// Reads what [`Identity`]'s `Display` wrote: the user name on the loopback connection.
    pub fn from_username(username: &str) -> Option<Self> {
        let (ou, cn) = username.split_once('/')?;
        Self::from_subject(ou, cn)
    }

    /// The certificate's OU.
    pub fn role(&self) -> &'static str {
        match self {
            Self::Device(_) => DEVICE,
            Self::Controller => CONTROLLER,
            Self::Viewer(_) => VIEWER,
        }
    }

    /// The certificate's CN: `cam-1`, `controller`, `viewer.wall`.
    pub fn common_name(&self) -> String {
        match self {
            Self::Device(id) => id.to_string(),
            Self::Controller => CONTROLLER.to_owned(),
            Self::Viewer(name) => format!("{VIEWER}.{name}"),
        }
    }

    /// Whether this identity may connect under `client_id`. Client ids are one namespace at
    /// the broker and the newer connection ends the older one, so no two identities may
    /// share any. A device has one; the others may hold several connections, told apart by
    /// what follows: `controller-cli`, `viewer.wall.2`.
    pub fn may_use_client_id(&self, client_id: &str) -> bool {
        let Some(rest) = client_id.strip_prefix(&self.common_name()) else {
            return false;
        };
        let own_suffix = match self {
            Self::Device(_) => false,
            Self::Controller => rest.starts_with('-'),
            Self::Viewer(_) => rest.starts_with('.'),
        };
        rest.is_empty() || own_suffix
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role(), self.common_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str) -> Identity {
        Identity::Device(DeviceId::new(id).unwrap())
    }

    fn viewer(name: &str) -> Identity {
        Identity::Viewer(DeviceId::new(name).unwrap())
    }

    #[test]
    fn subjects_become_identities_only_as_issued() {
        let is = Identity::from_subject;
        assert_eq!(is("device", "cam"), Some(device("cam")));
        assert_eq!(is("controller", "controller"), Some(Identity::Controller));
        assert_eq!(is("viewer", "viewer.a"), Some(viewer("a")));
        for (ou, cn) in [
            ("device", "controller"),
            ("device", "controller-2"),
            ("device", "viewer.a"),
            ("device", "a/b"),
            ("device", ""),
            ("controller", "cam"),
            ("viewer", "cam"),
            ("viewer", "viewer"),
            ("viewer", "viewer.a.b"),
            ("viewer", "viewer-a"),
            ("server", "broker"),
            ("", "cam"),
            ("Device", "cam"),
        ] {
            assert_eq!(is(ou, cn), None, "{ou}/{cn}");
        }
    }

    #[test]
    fn user_names_read_back() {
        for identity in [device("cam"), Identity::Controller, viewer("a")] {
            assert_eq!(Identity::from_username(&identity.to_string()), Some(identity));
        }
        assert_eq!(Identity::from_username("cam"), None);
        assert_eq!(Identity::from_username("device/cam/x"), None);
    }

    #[test]
    fn no_client_id_belongs_to_two() {
        let all = [
            device("cam"),
            device("cam-2"),
            device("viewer-a"),
            device("controller2"),
            Identity::Controller,
            viewer("a"),
            viewer("ab"),
        ];
        for client_id in [
            "cam",
            "cam-2",
            "viewer-a",
            "controller2",
            "controller",
            "controller-cli",
            "viewer.a",
            "viewer.ab",
            "viewer.a.2",
            "viewer.ab.2",
        ] {
            let owners = all.iter().filter(|who| who.may_use_client_id(client_id)).count();
            assert_eq!(owners, 1, "{client_id}");
        }
        for client_id in ["", "controller.x", "viewer", "viewer.", "cam.2", "CAM"] {
            assert!(!all.iter().any(|who| who.may_use_client_id(client_id)), "{client_id}");
        }
    }
}
