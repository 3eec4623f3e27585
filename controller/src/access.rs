//! Who may ask the controller for what, over the network: tokens with a role, and the sessions of
//! browsers that were opened with one. Pure: time and random bytes are arguments.
//!
//! A token is 256 random bits; only its SHA-256 is kept, so whoever reads the store gets no token,
//! and nobody guesses one: hashing it slowly, as a password, would buy nothing. The digest is also
//! how it is found, so no comparison can leak its bytes by its time.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use fleetway_protocol::ids::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest name of a token, in bytes: it goes into every line of the audit log.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest life of a token, in seconds: ten years, for a machine that nobody visits.
pub const LIFE_S_MAX: u64 = 3650 * 24 * 3600;
/// Most tokens: people and programs of one fleet, with room.
pub const TOKENS_MAX: usize = 1_000;
/// A session ends after this many seconds, whatever happens: a working day.
pub const SESSION_S: u64 = 12 * 3600;
/// A session that nobody uses ends after this many seconds: a screen that was left.
pub const SESSION_IDLE_S: u64 = 3600;
/// Most sessions at once; the one unused for longest goes. Some hundred bytes each.
pub const SESSIONS_MAX: usize = 1_000;
/// What a token begins with, so that people and scanners of leaked secrets know it.
const PREFIX: &str = "fwt_";

/// What somebody may do; each may all that the ones before it may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Add and label devices, hand releases in, start and steer rollouts.
    Operator,
    /// Say yes where a rollout waits for a person.
    Approver,
    /// Everything: tokens, revocations, the release authority's files.
    Admin,
}

impl Role {
    /// All, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Approver, Self::Admin];

    /// Its name, on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| format!("{text:?} is no role: viewer, operator, approver or admin"))
    }
}

/// 256 random bits that somebody shows: a token, or a session's cookie.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Of random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// What is kept of it.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// Never in a log.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl FromStr for Secret {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let hex = text.strip_prefix(PREFIX).ok_or(())?;
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).map_err(|_| ())?;
        Ok(Self(bytes.try_into().map_err(|_| ())?))
    }
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenView {
    /// Its name: what the audit log shows.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the secret.
    pub digest: Digest,
    /// By whom it was made.
    pub created_by: String,
    /// When, Unix seconds.
    pub created_s: u64,
    /// From when it is good for nothing, Unix seconds.
    pub expires_s: u64,
}

/// Every token that there is, to be found by what is shown.
#[derive(Clone, Debug, Default)]
pub struct Roster(HashMap<Digest, TokenView>);

impl Roster {
    /// Of these tokens.
    pub fn new(tokens: impl IntoIterator<Item = TokenView>) -> Self {
        Self(tokens.into_iter().map(|token| (token.digest, token)).collect())
    }

    /// The token with this digest, if it is still good.
    pub fn find(&self, now_s: u64, digest: &Digest) -> Option<&TokenView> {
        self.0.get(digest).filter(|token| now_s < token.expires_s)
    }
}

/// A browser's session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Digest of the token that it was opened with: it is good no longer than that.
    pub token: Digest,
    /// What every request that changes something must repeat in a header: no page of another
    /// site can read it.
    pub csrf: String,
    /// When it ends, Unix seconds.
    pub expires_s: u64,
    used_s: u64,
}

/// The sessions that are open. In memory alone: a restart ends them all.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<Digest, Session>);

impl Sessions {
    /// Opens one for whoever shows `cookie` from now on.
    pub fn open(
        &mut self,
        now_s: u64,
        cookie: &Secret,
        csrf: &Secret,
        token: &TokenView,
    ) -> Session {
        self.0.retain(|_, session| session.is_open(now_s));
        while self.0.len() >= SESSIONS_MAX {
            let oldest = self.0.iter().min_by_key(|(_, session)| session.used_s);
            let Some(oldest) = oldest.map(|(digest, _)| *digest) else { break };
            self.0.remove(&oldest);
        }
        let session = Session {
            token: token.digest,
            csrf: csrf.digest().to_string(),
            expires_s: now_s.saturating_add(SESSION_S).min(token.expires_s),
            used_s: now_s,
        };
        self.0.insert(cookie.digest(), session.clone());
        session
    }

    /// The session of this cookie, if it is still open.
    pub fn find(&mut self, now_s: u64, cookie: &Secret) -> Option<&Session> {
        let session = self.0.get_mut(&cookie.digest()).filter(|session| session.is_open(now_s))?;
        session.used_s = now_s;
        Some(session)
    }

    /// Ends one.
    pub fn close(&mut self, cookie: &Secret) {
        self.0.remove(&cookie.digest());
    }
}

impl Session {
    fn is_open(&self, now_s: u64) -> bool {
        now_s < self.expires_s && now_s.saturating_sub(self.used_s) < SESSION_IDLE_S
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(expires_s: u64) -> TokenView {
        TokenView {
            name: "ci".into(),
            role: Role::Operator,
            digest: Secret::new([1; 32]).digest(),
            created_by: "ann".into(),
            created_s: 0,
            expires_s,
        }
    }

    #[test]
    fn roles_rise() {
        assert!(Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().unwrap_err().contains("viewer, operator"));
    }

    #[test]
    fn a_secret_reads_back_and_is_not_printed() {
        let secret = Secret::new([0xa5; 32]);
        let text = secret.to_string();
        assert!(text.starts_with("fwt_a5a5") && text.len() == 68, "{text}");
        assert_eq!(text.parse(), Ok(secret.clone()));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        for wrong in ["", "fwt_", "fwt_A5", &text[..67], &text[4..], &format!("{text}00")] {
            assert!(wrong.parse::<Secret>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_good_until_it_expires() {
        let roster = Roster::new([token(100)]);
        let digest = Secret::new([1; 32]).digest();
        assert!(roster.find(99, &digest).is_some());
        assert!(roster.find(100, &digest).is_none());
        assert!(roster.find(99, &Secret::new([2; 32]).digest()).is_none());
    }

    #[test]
    fn a_session_ends_by_time_by_silence_with_its_token_and_by_hand() {
        let (cookie, csrf) = (Secret::new([2; 32]), Secret::new([3; 32]));
        let mut sessions = Sessions::default();
        let opened = sessions.open(0, &cookie, &csrf, &token(u64::MAX));
        assert_eq!(opened.expires_s, SESSION_S);
        assert!(sessions.find(SESSION_IDLE_S - 1, &cookie).is_some());
        assert!(sessions.find(2 * SESSION_IDLE_S - 1, &cookie).is_none(), "silent for an hour");

        let mut sessions = Sessions::default();
        sessions.open(0, &cookie, &csrf, &token(u64::MAX));
        for now_s in (0..SESSION_S).step_by(600) {
            assert!(sessions.find(now_s, &cookie).is_some(), "{now_s}");
        }
        assert!(sessions.find(SESSION_S, &cookie).is_none());

        let opened = sessions.open(0, &cookie, &csrf, &token(10));
        assert_eq!(opened.expires_s, 10, "no longer than its token");
        sessions.close(&cookie);
        assert!(sessions.find(0, &cookie).is_none());
    }

    #[test]
    fn sessions_have_a_bound_and_the_idlest_goes() {
        let mut sessions = Sessions::default();
        let cookie = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            Secret::new(bytes)
        };
        for n in 0..=SESSIONS_MAX {
            sessions.open(n as u64, &cookie(n), &cookie(0), &token(u64::MAX));
        }
        let now_s = SESSIONS_MAX as u64;
        assert!(sessions.find(now_s, &cookie(0)).is_none());
        assert!(sessions.find(now_s, &cookie(1)).is_some());
        assert!(sessions.find(now_s, &cookie(SESSIONS_MAX)).is_some());
    }
}
