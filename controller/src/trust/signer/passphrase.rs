//! Where a passphrase (or a token's PIN) comes from: a file for scripts, else the terminal.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use age::secrecy::SecretString;

use super::SignerError;

/// Says the passphrases of keys when they are needed, and not before.
#[derive(Clone, Debug, Default)]
pub struct Passphrase {
    file: Option<PathBuf>,
}

impl Passphrase {
    /// From the first line of this file, or from the terminal.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file }
    }

    /// The passphrase of `what`.
    pub(super) fn of(&self, what: &str) -> Result<SecretString, SignerError> {
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| SignerError::PassphraseFile { path: path.clone(), source })?;
            return Ok(text.lines().next().unwrap_or_default().to_owned().into());
        }
        let no_terminal = || SignerError::NoTerminal { what: what.to_owned() };
        if !std::io::stdin().is_terminal() {
            return Err(no_terminal());
        }
        let asked = rpassword::prompt_password(format!("passphrase of {what}: "));
        asked.map(Into::into).map_err(|_| no_terminal())
    }

    /// A new passphrase for `what`, typed twice.
    ///
    /// # Errors
    /// As for an old one, and if the two differ or there is nothing.
    pub fn choose(&self, what: &str) -> Result<SecretString, SignerError> {
        use age::secrecy::ExposeSecret as _;
        let first = self.of(&format!("the new key {what}"))?;
        if first.expose_secret().is_empty() {
            let why = "an empty passphrase protects nothing".to_owned();
            return Err(SignerError::Age { what: what.to_owned(), why });
        }
        if self.file.is_none() {
            let again = self.of("the same key, once more")?;
            if again.expose_secret() != first.expose_secret() {
                let why = "the two passphrases differ; nothing was written".to_owned();
                return Err(SignerError::Age { what: what.to_owned(), why });
            }
        }
        Ok(first)
    }
}
