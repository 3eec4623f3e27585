//! Where the broker is: `mqtts://host:port` (TLS) or `mqtt://host:port` (plain).

use std::str::FromStr;

/// Address of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    host: String,
    port: u16,
    tls: bool,
}

/// Why a text is no broker URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not one of our schemes.
    #[error("{0:?} is no broker URL: write mqtts://host:port (TLS) or mqtt://host:port (plain)")]
    Scheme(String),
    /// No host, or something in it that no host has.
    #[error("{0:?} names no host: write mqtts://host:port, without user, password or path")]
    Host(String),
    /// Not a port.
    #[error(
        "{0:?} has no valid port: use 1 to 65535, or leave it out for 8883 (mqtts) and 1883 (mqtt)"
    )]
    Port(String),
    /// `rumqttc` cannot check a certificate against an IPv6 address.
    #[error("{0:?} is TLS to an IPv6 address, which is not supported: use the broker's name")]
    TlsIpv6(String),
}

impl BrokerUrl {
    /// Host name or address; IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the connection is encrypted. Plain is allowed here; whether it is wanted is for the caller to decide.
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

impl std::fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl FromStr for BrokerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (tls, rest) = match text.split_once("://") {
            Some(("mqtts", rest)) => (true, rest),
            Some(("mqtt", rest)) => (false, rest),
            _ => return Err(UrlError::Scheme(text.into())),
        };
        let (host, port) =
            authority(rest, if tls { 8883 } else { 1883 }).map_err(|wrong| match wrong {
                Wrong::Host => UrlError::Host(text.into()),
                Wrong::Port => UrlError::Port(text.into()),
            })?;
        if tls && host.starts_with('[') {
            return Err(UrlError::TlsIpv6(text.into()));
        }
        Ok(Self { host: host.into(), port, tls })
    }
}

enum Wrong {
    Host,
    Port,
}

/// `host[:port][/]`; the host is a name, an IPv4 address, or an IPv6 address in brackets.
fn authority(text: &str, default_port: u16) -> Result<(&str, u16), Wrong> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        None => default_port,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(Wrong::Port)?,
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let valid = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        }
    };
    if valid { Ok((host, port)) } else { Err(Wrong::Host) }
}

/// Where devices get their certificates: `https://host:port`. Always TLS, never a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrollUrl {
    host: String,
    port: u16,
}

/// A text is no enrolment URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no enrolment URL: write https://host:port, with a name or an IPv4 address")]
pub struct EnrollUrlError(String);

impl EnrollUrl {
    /// Port unless said otherwise: the next after the broker's.
    pub const PORT: u16 = 8884;

    /// Host name or IPv4 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl std::fmt::Display for EnrollUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}:{}", self.host, self.port)
    }
}

impl FromStr for EnrollUrl {
    type Err = EnrollUrlError;

    fn from_str(text: &str) -> Result<Self, EnrollUrlError> {
        let wrong = || EnrollUrlError(text.into());
        let rest = text.strip_prefix("https://").ok_or_else(wrong)?;
        let (host, port) = authority(rest, Self::PORT).map_err(|_| wrong())?;
        match host.starts_with('[') {
            true => Err(wrong()),
            false => Ok(Self { host: host.into(), port }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enrolment_urls() {
        for (text, expected) in [
            ("https://fleet.example:1", Some("https://fleet.example:1")),
            ("https://10.0.0.1/", Some("https://10.0.0.1:8884")),
            ("https://[::1]:1", None),
            ("http://fleet.example", None),
            ("https://fleet.example/enroll", None),
            ("https://a@b", None),
            ("https://a:0", None),
        ] {
            let parsed = text.parse::<EnrollUrl>().map(|url| url.to_string()).ok();
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn urls() {
        for (text, expected) in [
            ("mqtts://broker.example:8883", Ok("mqtts://broker.example:8883")),
            ("mqtts://broker.example", Ok("mqtts://broker.example:8883")),
            ("mqtt://127.0.0.1/", Ok("mqtt://127.0.0.1:1883")),
            ("mqtt://[::1]:1884", Ok("mqtt://[::1]:1884")),
            ("mqtt://[::1]", Ok("mqtt://[::1]:1883")),
            ("mqtts://[::1]", Err(UrlError::TlsIpv6("mqtts://[::1]".into()))),
            ("broker:1883", Err(UrlError::Scheme("broker:1883".into()))),
            ("http://broker", Err(UrlError::Scheme("http://broker".into()))),
            ("mqtt://", Err(UrlError::Host("mqtt://".into()))),
            ("mqtt://a@b:1", Err(UrlError::Host("mqtt://a@b:1".into()))),
            ("mqtt://a/b", Err(UrlError::Host("mqtt://a/b".into()))),
            ("mqtt://a:0", Err(UrlError::Port("mqtt://a:0".into()))),
            ("mqtt://a:99999", Err(UrlError::Port("mqtt://a:99999".into()))),
        ] {
            let parsed = text.parse::<BrokerUrl>().map(|url| url.to_string());
            assert_eq!(parsed, expected.map(String::from), "{text}");
        }
    }
}
