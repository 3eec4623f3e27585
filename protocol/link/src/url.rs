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
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let port = match port {
            None if tls => 8883,
            None => 1883,
            Some(port) => {
                port.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Port(text.into()))?
            }
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let valid = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
            }
        };
        if !valid {
            return Err(UrlError::Host(text.into()));
        }
        if tls && bracketed.is_some() {
            return Err(UrlError::TlsIpv6(text.into()));
        }
        Ok(Self { host: host.into(), port, tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
