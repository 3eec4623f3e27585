//! `oci://HOST[:PORT]/REPOSITORY[:TAG|@sha256:DIGEST]`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use fleetway_protocol::ids::Digest;

use super::RegistryError;

/// What every reference begins with.
pub const SCHEME: &str = "oci://";
/// Bytes of a reference: the specification gives a repository 255.
const BYTES_MAX: usize = 512;
/// Bytes of a tag, by the specification.
const TAG_BYTES_MAX: usize = 128;
/// The tag where none is named.
const TAG: &str = "latest";

/// One artifact in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Host, and port where one was named.
    pub host: String,
    /// Path of the repository.
    pub repository: String,
    /// A tag, or `sha256:` and a digest.
    pub tag: String,
}

impl Reference {
    /// Whether a text is meant to be one.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// The digest, where it names one.
    pub fn digest(&self) -> Option<Digest> {
        self.tag.strip_prefix("sha256:")?.parse().ok()
    }

    /// Name of the host, and its port, by which plain HTTP is told from TLS.
    pub fn address(&self) -> (&str, Option<u16>) {
        let split = self.host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let (name, port) =
            split.map_or((self.host.as_str(), None), |(name, port)| (name, port.parse().ok()));
        (name.trim_start_matches('[').trim_end_matches(']'), port)
    }

    /// Whether it is on this machine, where plain HTTP is spoken.
    pub fn is_loopback(&self) -> bool {
        let (name, _) = self.address();
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl FromStr for Reference {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let wrong = |why| {
            let text = text.chars().take(BYTES_MAX).collect();
            RegistryError::Reference { text, why }
        };
        if text.len() > BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let rest =
            text.strip_prefix(SCHEME).ok_or_else(|| wrong("it does not begin with oci://"))?;
        let (host, path) = rest.split_once('/').ok_or_else(|| wrong("it has no repository"))?;
        let (repository, tag) = match path.split_once('@') {
            Some((name, digest)) => (name, digest),
            None => path.rsplit_once(':').unwrap_or((path, TAG)),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let is_host =
            !host.is_empty() && host.bytes().all(|b| plain(b) || matches!(b, b':' | b'[' | b']'));
        if !is_host {
            return Err(wrong("its host is no name or address"));
        }
        let part = |part: &str| {
            part.bytes().all(|b| plain(b) && !b.is_ascii_uppercase())
                && part.bytes().any(|b| b.is_ascii_alphanumeric())
        };
        if !repository.split('/').all(part) {
            return Err(wrong("a repository has small letters, digits, '.', '-', '_' and '/'"));
        }
        let is_digest = tag.strip_prefix("sha256:").is_some_and(|d| d.parse::<Digest>().is_ok());
        let is_tag = (1..=TAG_BYTES_MAX).contains(&tag.len()) && tag.bytes().all(plain);
        if !is_digest && (!is_tag || path.contains('@')) {
            return Err(wrong("its tag or digest is none"));
        }
        let [host, repository, tag] = [host, repository, tag].map(str::to_owned);
        Ok(Self { host, repository, tag })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, repository, tag } = self;
        let sign = if self.digest().is_some() { '@' } else { ':' };
        write!(f, "{SCHEME}{host}/{repository}{sign}{tag}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reference_is() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let good = [
            ("oci://localhost:5000/digits:v1", "localhost:5000", "digits", "v1"),
            ("oci://r.example/team/face", "r.example", "team/face", "latest"),
            ("oci://[::1]:5000/a/b-c_d.e:V1.0", "[::1]:5000", "a/b-c_d.e", "V1.0"),
            (&format!("oci://r.example/a@{digest}"), "r.example", "a", &digest),
        ];
        for (text, host, repository, tag) in good {
            let read: Reference = text.parse().unwrap();
            assert_eq!((&*read.host, &*read.repository, &*read.tag), (host, repository, tag));
            assert_eq!(read.to_string().parse::<Reference>().unwrap(), read);
        }
        let long = format!("oci://h/{}", "a".repeat(BYTES_MAX));
        for text in [
            "",
            "digits",
            "oci://",
            "oci://h",
            "oci:///a",
            "oci://h/",
            "oci://h/A",
            "oci://h/a//b",
            "oci://h/../b",
            "oci://h/a:",
            "oci://h/a:b c",
            "oci://h/a@sha256:12",
            "oci://h/a@v1",
            "oci://u:p@h/a",
            "oci://h/a?b",
            "oci://h\r\nx/a",
            &long,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for (host, here) in [
            ("localhost:5000", true),
            ("127.0.0.1", true),
            ("[::1]:5000", true),
            ("localhost.example", false),
            ("10.0.0.1:5000", false),
            ("r.example", false),
        ] {
            let read: Reference = format!("oci://{host}/a").parse().unwrap();
            assert_eq!(read.is_loopback(), here, "{host}");
        }
    }
}
