//! Certificate and key: they fit, the key is its owner's alone, the certificate holds.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use fleetway_link::{TlsFiles, TlsIdentity, Validity};
use rustls::ClientConfig;

use super::Findings;
use crate::clock::Clock;
use crate::config::Config;
use crate::status::render::age;

/// The TLS configurations of this device.
pub(super) struct Tls {
    /// With its certificate.
    pub(super) own: Arc<ClientConfig>,
    /// Without: for a listener that takes both.
    pub(super) anonymous: Arc<ClientConfig>,
}

/// Looks at the files; gives what connections are made with, if they can be.
pub(super) fn look(config: &Config, clock: &Clock, found: &mut Findings) -> Option<Tls> {
    let Some(files) = &config.broker.tls else {
        found.warn("identity", "none: the broker's URL is without TLS", "use mqtts://, and join");
        return None;
    };
    look_at_key(&files.key, found);
    let made = files.read().and_then(|identity| {
        let time = Arc::new(clock.clone());
        let own = identity.client_config(Some(time.clone()))?;
        let anonymous =
            fleetway_link::client_config_without_identity(&identity.ca_pem, Some(time))?;
        Ok((identity, Tls { own, anonymous }))
    });
    match made {
        Ok((identity, tls)) => {
            look_at_certificate(&identity, files, config, clock.unix_s(), found);
            Some(tls)
        }
        Err(error) => {
            found.problem("identity", error.to_string(), "if the files are lost, join again");
            None
        }
    }
}

fn look_at_key(path: &Path, found: &mut Findings) {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(meta) if meta.mode() & 0o077 != 0 => found.problem(
            "key",
            format!("{shown} is open to others (mode {:o})", meta.mode() & 0o777),
            format!(
                "chmod 600 {shown}; if somebody may have read it, revoke the device and join anew"
            ),
        ),
        Ok(_) => found.ok("key", format!("{shown}: its owner's alone")),
        // What cannot be read is told of with the certificate.
        Err(_) => {}
    }
}

fn look_at_certificate(
    identity: &TlsIdentity,
    files: &TlsFiles,
    config: &Config,
    now_s: u64,
    found: &mut Findings,
) {
    let shown = files.cert.display();
    let validity = match Validity::of(&identity.cert_pem) {
        Ok(validity) => validity,
        Err(error) => return found.problem("identity", format!("{shown}: {error}"), "join again"),
    };
    let (level, text) = judge(validity, now_s, config.enroll.is_some());
    let text = format!("{shown}: {text}");
    match level {
        Judged::Good => found.ok("identity", text),
        Judged::Late => found.warn("identity", text, "check `enroll` below, and the agent's log"),
        Judged::Ended => found.problem(
            "identity",
            text,
            "a running agent comes back by its key; without [enroll] in agent.toml, join again",
        ),
        Judged::Early => found.problem("identity", text, "set the clock (NTP or by hand)"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    Good,
    Late,
    Ended,
    Early,
}

/// What a certificate is worth at `now_s`; one that is renewed should be so at two thirds.
fn judge(validity: Validity, now_s: u64, is_renewed: bool) -> (Judged, String) {
    let Validity { from_s, to_s } = validity;
    if now_s >= to_s {
        return (Judged::Ended, format!("ended {} ago", age(now_s - to_s)));
    }
    if now_s < from_s {
        return (Judged::Early, format!("holds only in {}", age(from_s - now_s)));
    }
    let (left, life) = (to_s - now_s, to_s - from_s);
    let text = format!("good for {}", age(left));
    // A fifth of the life is more than what renewals are spread over and retried in.
    if left < life / 5 {
        let why = if is_renewed { "should be renewed by now" } else { "nothing renews it" };
        return (Judged::Late, format!("{text}, and {why}"));
    }
    (Judged::Good, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_judged_by_time() {
        let validity = Validity { from_s: 1_000, to_s: 2_000 };
        let table = [
            (999, Judged::Early, "holds only in 1 s"),
            (1_000, Judged::Good, "good for 16 min 40 s"),
            (1_799, Judged::Good, "good for"),
            (1_801, Judged::Late, "should be renewed by now"),
            (2_000, Judged::Ended, "ended 0 s ago"),
        ];
        for (now_s, expected, says) in table {
            let (judged, text) = judge(validity, now_s, true);
            assert!(judged == expected && text.contains(says), "{now_s}: {judged:?} {text}");
        }
        assert!(judge(validity, 1_900, false).1.contains("nothing renews it"));
    }

    #[test]
    fn an_open_key_is_a_problem() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.key");
        fs::write(&path, "").unwrap();
        for (mode, level) in [(0o600, "ok"), (0o640, "problem"), (0o604, "problem")] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let mut found = Findings::default();
            look_at_key(&path, &mut found);
            assert_eq!(serde_json::to_value(found.0[0].level).unwrap(), level, "{mode:o}");
        }
    }
}
