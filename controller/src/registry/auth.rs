//! Who asks: the credentials that `docker login` and its like leave in a file, and the tokens that a
//! registry gives for them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use data_encoding::BASE64;
use serde::Deserialize;

use super::RegistryError;

/// Bytes of a file with credentials.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A challenge of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token from somebody else.
    Bearer {
        /// Where to ask for it.
        realm: String,
        /// What else to say there, by name: `service`, `scope`.
        say: Vec<(String, String)>,
    },
}

impl Challenge {
    /// Reads `WWW-Authenticate`; `None` for what is neither.
    pub fn read(text: &str) -> Option<Self> {
        let (kind, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if kind.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !kind.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut say: Vec<(String, String)> = parameters(rest);
        let at = say.iter().position(|(name, _)| name == "realm")?;
        let (_, realm) = say.remove(at);
        say.retain(|(name, _)| name == "service" || name == "scope");
        Some(Self::Bearer { realm, say })
    }
}

/// `name="value",name="value"`: a value may hold commas.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let Some((value, rest)) = rest.split_once('"') else { break };
        let name = name.trim_start_matches([',', ' ']).to_ascii_lowercase();
        found.push((name, value.to_owned()));
        text = rest;
    }
    found
}

/// What is read of Docker's `config.json`, which podman's `auth.json` and ORAS share.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
}

/// Where such a file is looked for, the first that is there.
fn places() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = variable("HOME");
    [
        variable("REGISTRY_AUTH_FILE"),
        variable("DOCKER_CONFIG").map(|dir| dir.join("config.json")),
        home.map(|home| home.join(".docker/config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The value of a `Basic` header for a host, if somebody logged in there.
///
/// # Errors
/// [`RegistryError::Credentials`]: they are there, and in a form that is not read here.
pub fn basic(host: &str) -> Result<Option<String>, RegistryError> {
    let Some(path) = places().into_iter().find(|path| path.exists()) else { return Ok(None) };
    let wrong = |why: String| RegistryError::Credentials { path: path.display().to_string(), why };
    let read = crate::catalog::source::Given::read(&path, FILE_BYTES_MAX);
    let read = read.map_err(|error| wrong(error.to_string()))?;
    in_config(&read.bytes, host).map_err(wrong)
}

/// The same, of a file's bytes.
///
/// # Errors
/// A sentence.
pub fn in_config(bytes: &[u8], host: &str) -> Result<Option<String>, String> {
    let config: Config = serde_json::from_slice(bytes)
        .map_err(|error| format!("it is no file of credentials: {error}"))?;
    let keys = [host.to_owned(), format!("https://{host}"), format!("https://{host}/")];
    let entry = keys.iter().find_map(|key| config.auths.get(key));
    match entry.and_then(|entry| entry.auth.as_deref()).filter(|auth| !auth.is_empty()) {
        Some(auth) => match BASE64.decode(auth.as_bytes()) {
            Ok(_) => Ok(Some(auth.to_owned())),
            Err(_) => Err(format!("the credentials of {host} are not in base64")),
        },
        None if entry.is_some() && config.creds_store.is_some()
            || config.cred_helpers.contains_key(host) =>
        {
            Err(format!(
                "the credentials of {host} are in a helper, which is not asked; put them into a file of their own and name it in REGISTRY_AUTH_FILE"
            ))
        }
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let text = r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a:pull,push""#;
        let say = [("service", "r.example"), ("scope", "repository:a:pull,push")];
        let say = say.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let realm = "https://auth.example/token".to_owned();
        assert_eq!(Challenge::read(text), Some(Challenge::Bearer { realm, say }));
        assert_eq!(Challenge::read("Basic realm=\"r\""), Some(Challenge::Basic));
        for text in ["", "Digest realm=\"x\"", "Bearer", "Bearer realm=x", "Bearer service=\"x\""] {
            assert_eq!(Challenge::read(text), None, "{text}");
        }
    }

    #[test]
    fn credentials_of_the_host_and_no_other() {
        let file =
            br#"{"auths": {"r.example": {"auth": "dTpw"}, "https://s.example/": {"auth": "eDp5"},
            "t.example": {}}, "credsStore": "desktop", "credHelpers": {"u.example": "pass"}}"#;
        assert_eq!(in_config(file, "r.example"), Ok(Some("dTpw".to_owned())));
        assert_eq!(in_config(file, "s.example"), Ok(Some("eDp5".to_owned())));
        assert_eq!(in_config(file, "other.example"), Ok(None));
        for host in ["t.example", "u.example"] {
            assert!(in_config(file, host).unwrap_err().contains("helper"), "{host}");
        }
        assert!(in_config(b"[", "r.example").is_err());
        assert!(in_config(br#"{"auths": {"r": {"auth": "%"}}}"#, "r").is_err());
    }
}
