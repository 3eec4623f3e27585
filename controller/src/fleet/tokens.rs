//! Tokens of the API: made, listed and revoked. Durable before they count, like everything here;
//! what they look like and how they are found is [`crate::access`]'s.

use fleetway_protocol::ids::Digest;

use super::errors::TokenError;
use super::records::AccessRecord;
use super::txn::{About, Txn};
use super::{By, Fleet};
use crate::access::{LIFE_S_MAX, NAME_BYTES_MAX, Role, TOKENS_MAX, TokenView};

impl Fleet {
    /// Makes a token; `digest` is of the secret, which nobody here ever sees.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn create_token(
        &mut self,
        by: By<'_>,
        name: &str,
        role: Role,
        digest: Digest,
        life_s: u64,
    ) -> Result<TokenView, TokenError> {
        if !is_name(name) {
            return Err(TokenError::Name(name.to_owned()));
        }
        if !(1..=LIFE_S_MAX).contains(&life_s) {
            return Err(TokenError::Life);
        }
        if self.tokens.contains_key(name) {
            return Err(TokenError::Exists(name.to_owned()));
        }
        if self.tokens.len() >= TOKENS_MAX {
            return Err(TokenError::TooMany);
        }
        let record = AccessRecord {
            role,
            digest,
            created_by: by.who.to_owned(),
            created_s: by.now_s,
            expires_s: by.now_s.saturating_add(life_s),
        };
        let view = view(name, &record);
        let mut txn = Txn::default();
        txn.tokens.insert(name.to_owned(), Some(record));
        let text = format!("token {name} may do what a {role} may, for {life_s} s");
        txn.note(by.now_s, by.who, "token.create", About::default(), text);
        self.commit(txn)?;
        Ok(view)
    }

    /// Takes a token back, and with it every session that it opened.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn revoke_token(&mut self, by: By<'_>, name: &str) -> Result<(), TokenError> {
        if !self.tokens.contains_key(name) {
            return Err(TokenError::NotFound(name.to_owned()));
        }
        let mut txn = Txn::default();
        txn.tokens.insert(name.to_owned(), None);
        let text = format!("token {name} is good for nothing any more");
        txn.note(by.now_s, by.who, "token.revoke", About::default(), text);
        Ok(self.commit(txn)?)
    }

    /// Every token, by name; expired ones too, until they are revoked.
    pub fn tokens(&self) -> Vec<TokenView> {
        self.tokens.iter().map(|(name, record)| view(name, record)).collect()
    }
}

fn view(name: &str, record: &AccessRecord) -> TokenView {
    let AccessRecord { role, digest, created_by, created_s, expires_s } = record.clone();
    TokenView { name: name.to_owned(), role, digest, created_by, created_s, expires_s }
}

/// What can stand in a line of a log and in a URL as it is.
pub(super) fn is_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}
