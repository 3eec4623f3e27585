//! The wall around files and ports: landlock, which the kernel offers since 5.13 and which grew
//! rules until 6.7.
//!
//! The child needs no file (the model comes by pipe) and no network, so nothing at all is allowed.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};

use super::sandbox::{Fence, Sandbox};

/// Allows no file, no port, and notes what this kernel cannot forbid.
pub(super) fn put_up(sandbox: &mut Sandbox) {
    if let Err(error) = restrict() {
        sandbox.lacks(Fence::Files, &error);
        sandbox.lacks(Fence::Tcp, &error);
        return;
    }
    let hard = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    // Version 3 is the first that also knows truncation.
    if let Err(error) = hard().handle_access(AccessFs::from_all(ABI::V3)) {
        sandbox.lacks(Fence::Files, error);
    }
    if let Err(error) = hard().handle_access(AccessNet::from_all(ABI::V4)) {
        sandbox.lacks(Fence::Tcp, error);
    }
}

/// Everything that this library version and this kernel know, forbidden.
fn restrict() -> Result<(), String> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V6))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(ABI::V6)))
        .and_then(|rules| rules.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(|error| error.to_string())?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("this kernel has no landlock".to_owned()),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// landlock alone, on a thread of its own: it binds whoever asks for it.
    #[test]
    fn landlock_alone_closes_files_and_tcp() {
        use std::io::ErrorKind::PermissionDenied;
        let dir = std::env::temp_dir();
        let inside = std::thread::spawn(move || {
            let mut sandbox = Sandbox::default();
            put_up(&mut sandbox);
            assert_eq!(sandbox.to_string(), "full");
            let kind = |result: std::io::Result<()>| result.map_err(|error| error.kind());
            let tries = [
                kind(std::fs::File::open("/etc/passwd").map(drop)),
                kind(std::fs::write(dir.join("fleetway-escape"), b"!")),
                kind(std::fs::read_dir("/").map(drop)),
                kind(std::net::TcpListener::bind("127.0.0.1:0").map(drop)),
                kind(std::net::TcpStream::connect("127.0.0.1:1").map(drop)),
            ];
            assert_eq!(tries, [Err(PermissionDenied); 5]);
        });
        inside.join().unwrap();
        assert!(std::fs::File::open("/etc/passwd").is_ok(), "only the thread that asked is bound");
    }
}
