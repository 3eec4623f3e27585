//! What the environment says, in OpenTelemetry's own words ("OpenTelemetry Protocol Exporter", "SDK environment
//! variables" of its specification 1.50). Nothing is sent unless an endpoint is named. What we do not do is
//! refused by name, so that nobody believes in a setting that has no effect.

use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

/// Between two requests, unless told otherwise: the specification's default.
const EVERY: Duration = Duration::from_secs(60);
/// Oftener, and a typing error is a load.
const EVERY_MIN: Duration = Duration::from_millis(100);
/// For one request: the specification's default.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Where metrics go below a base URL.
const PATH: &str = "v1/metrics";
const PREFIX: &str = "OTEL_EXPORTER_OTLP_";

/// Where and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where.
    pub url: Url,
    /// Sent with every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// For connecting, sending and the answer together.
    pub timeout: Duration,
    /// Between two requests.
    pub every: Duration,
    /// Whom an `https` collector's certificate must come from, PEM; `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// Attributes of the resource.
    pub resource: Vec<(String, String)>,
}

/// A collector's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether it is `https`.
    pub tls: bool,
    /// Host, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Host and port as the header `Host` has them.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

/// A setting that cannot be followed. The message says which, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {what}")]
pub struct SettingsError {
    /// Of the variable.
    pub name: String,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Url {
    /// Reads one; `path` is added to a base URL.
    fn parse(text: &str, path: Option<&str>) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "is no URL")?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("is no http or https URL"),
        };
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str().contains('@') {
            return Err("has a name in it; send it as a header");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let given = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = match path {
            Some(path) => format!("{}/{path}", given.trim_end_matches('/')),
            None => given.to_owned(),
        };
        Ok(Self { tls, host, port, authority: authority.to_string(), path })
    }
}

/// The variables of one environment, as the specification reads them: an empty one is none.
struct Vars<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Vars<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Metrics' own one, or the one of all signals; with its name.
    fn otlp(&self, name: &str) -> Option<(String, String)> {
        let names = [format!("{PREFIX}METRICS_{name}"), format!("{PREFIX}{name}")];
        names.into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }
}

fn wrong(name: &str, what: &'static str) -> SettingsError {
    SettingsError { name: name.to_owned(), what }
}

impl Settings {
    /// What the environment says; `None` if nothing is to be sent.
    ///
    /// # Errors
    /// The first variable that cannot be followed.
    pub fn read(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, SettingsError> {
        let vars = Vars(get);
        let off = vars.get("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let exporter = vars.get("OTEL_METRICS_EXPORTER");
        let Some(url) = url(&vars)? else { return Ok(None) };
        match exporter.as_deref() {
            _ if off => return Ok(None),
            Some("none") => return Ok(None),
            None | Some("otlp") => {}
            Some(_) => return Err(wrong("OTEL_METRICS_EXPORTER", "is neither `otlp` nor `none`")),
        }
        refuse(&vars)?;
        Ok(Some(Self {
            url,
            headers: headers(&vars)?,
            gzip: gzip(&vars)?,
            timeout: millis(vars.otlp("TIMEOUT"), Duration::from_millis(1))?.unwrap_or(TIMEOUT),
            every: {
                let name = "OTEL_METRIC_EXPORT_INTERVAL";
                let given = vars.get(name).map(|value| (name.to_owned(), value));
                millis(given, EVERY_MIN)?.unwrap_or(EVERY)
            },
            ca: vars.otlp("CERTIFICATE").map(|(_, path)| path.into()),
            resource: resource(&vars)?,
        }))
    }
}

fn url(vars: &Vars<'_>) -> Result<Option<Url>, SettingsError> {
    // Metrics' own one is taken as it is; the one of all signals is a base.
    let Some((name, text)) = vars.otlp("ENDPOINT") else { return Ok(None) };
    let path = (!name.contains("METRICS")).then_some(PATH);
    Url::parse(&text, path).map(Some).map_err(|what| wrong(&name, what))
}

fn refuse(vars: &Vars<'_>) -> Result<(), SettingsError> {
    if let Some((name, value)) = vars.otlp("PROTOCOL")
        && value != "http/protobuf"
    {
        return Err(wrong(&name, "is not `http/protobuf`, which is all that we speak (port 4318)"));
    }
    for name in ["CLIENT_KEY", "CLIENT_CERTIFICATE"] {
        if let Some((name, _)) = vars.otlp(name) {
            return Err(wrong(&name, "is not followed: client certificates are not supported"));
        }
    }
    for (name, value) in [
        ("TEMPORALITY_PREFERENCE", "cumulative"),
        ("DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram"),
    ] {
        let name = format!("{PREFIX}METRICS_{name}");
        if vars.get(&name).is_some_and(|given| !given.eq_ignore_ascii_case(value)) {
            return Err(wrong(
                &name,
                "asks for another form than we have: cumulative sums and \
                                     exponential histograms",
            ));
        }
    }
    Ok(())
}

fn gzip(vars: &Vars<'_>) -> Result<bool, SettingsError> {
    match vars.otlp("COMPRESSION") {
        None => Ok(false),
        Some((_, value)) if value == "gzip" => Ok(true),
        Some((_, value)) if value == "none" => Ok(false),
        Some((name, _)) => Err(wrong(&name, "is neither `gzip` nor `none`")),
    }
}

fn millis(
    given: Option<(String, String)>,
    least: Duration,
) -> Result<Option<Duration>, SettingsError> {
    let Some((name, value)) = given else { return Ok(None) };
    let parsed = value.parse().map(Duration::from_millis);
    let parsed = parsed.map_err(|_| wrong(&name, "is no number of milliseconds"))?;
    if parsed < least {
        return Err(wrong(&name, "is too short"));
    }
    Ok(Some(parsed))
}

/// `key=value,key=value`, values percent-encoded.
fn pairs(name: &str, text: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').ok_or(wrong(name, "is no list of key=value"))?;
        let value = decoded(value.trim()).ok_or(wrong(name, "has a broken %-sequence"))?;
        Ok((key.trim().to_owned(), value))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

fn headers(vars: &Vars<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, SettingsError> {
    let Some((name, text)) = vars.otlp("HEADERS") else { return Ok(Vec::new()) };
    let header = |(key, value): (String, String)| {
        let key = key.parse().map_err(|_| wrong(&name, "has a name that no header has"))?;
        let mut value: HeaderValue =
            value.parse().map_err(|_| wrong(&name, "has a value that no header has"))?;
        // Keys of collectors travel like this.
        value.set_sensitive(true);
        Ok((key, value))
    };
    pairs(&name, &text)?.into_iter().map(header).collect()
}

fn resource(vars: &Vars<'_>) -> Result<Vec<(String, String)>, SettingsError> {
    let name = "OTEL_RESOURCE_ATTRIBUTES";
    let mut all = match vars.get(name) {
        Some(text) => pairs(name, &text)?,
        None => Vec::new(),
    };
    if let Some(service) = vars.get("OTEL_SERVICE_NAME") {
        all.retain(|(key, _)| key != "service.name");
        all.push(("service.name".into(), service));
    }
    for (key, value) in
        [("service.name", "fleetway"), ("service.version", env!("CARGO_PKG_VERSION"))]
    {
        if !all.iter().any(|(known, _)| known == key) {
            all.push((key.into(), value.into()));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings of an environment written as `NAME=value` lines.
    fn read(text: &str) -> Result<Option<Settings>, SettingsError> {
        let vars: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let get = |name: &str| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::read(&get)
    }

    fn url(text: &str) -> String {
        let url = read(text).unwrap().unwrap().url;
        format!("{} {} {} {}", if url.tls { "tls" } else { "plain" }, url.host, url.port, url.path)
    }

    #[test]
    fn nothing_is_sent_unless_somebody_says_where() {
        let end = "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318";
        for off in ["", "OTEL_EXPORTER_OTLP_ENDPOINT=", "OTEL_METRICS_EXPORTER=otlp"] {
            assert_eq!(read(off), Ok(None), "{off}");
        }
        for off in ["OTEL_SDK_DISABLED=TRUE", "OTEL_METRICS_EXPORTER=none"] {
            assert_eq!(read(&format!("{end}\n{off}")), Ok(None), "{off}");
        }
        assert_eq!(url(end), "plain c 4318 /v1/metrics");
    }

    #[test]
    fn a_base_gets_a_path_and_an_own_endpoint_does_not() {
        let base = "OTEL_EXPORTER_OTLP_ENDPOINT=https://c.example/otlp/";
        assert_eq!(url(base), "tls c.example 443 /otlp/v1/metrics");
        let own = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://[::1]:9/x?y=1";
        assert_eq!(url(&format!("{base}\n{own}")), "plain ::1 9 /x?y=1");
    }

    #[test]
    fn the_rest_is_read_and_metrics_own_words_win() {
        let all = "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318
OTEL_EXPORTER_OTLP_HEADERS=api-key=all
OTEL_EXPORTER_OTLP_METRICS_HEADERS=api-key=a%20b, x-team = fleet ,
OTEL_EXPORTER_OTLP_COMPRESSION=gzip
OTEL_EXPORTER_OTLP_TIMEOUT=2500
OTEL_METRIC_EXPORT_INTERVAL=5000
OTEL_EXPORTER_OTLP_CERTIFICATE=/etc/ca.pem
OTEL_SERVICE_NAME=fleet-a
OTEL_RESOURCE_ATTRIBUTES=service.name=b,deployment.environment.name=lab";
        let all = read(all).unwrap().unwrap();
        let headers: Vec<_> =
            all.headers.iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(headers, [("api-key", "a b"), ("x-team", "fleet")]);
        assert!(all.headers[0].1.is_sensitive() && all.gzip);
        let times = (all.timeout.as_millis(), all.every.as_millis());
        assert_eq!((times, all.ca), ((2500, 5000), Some("/etc/ca.pem".into())));
        let resource: Vec<_> = all.resource.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let version = concat!("service.version=", env!("CARGO_PKG_VERSION"));
        assert_eq!(resource, ["deployment.environment.name=lab", "service.name=fleet-a", version]);
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        for (line, expected) in [
            ("EXPORTER_OTLP_ENDPOINT=c:4318", "EXPORTER_OTLP_ENDPOINT: is no"),
            ("EXPORTER_OTLP_ENDPOINT=ftp://c", "EXPORTER_OTLP_ENDPOINT: is no http"),
            ("EXPORTER_OTLP_ENDPOINT=http://a:b@c", "EXPORTER_OTLP_ENDPOINT: has a name"),
            ("EXPORTER_OTLP_PROTOCOL=grpc", "EXPORTER_OTLP_PROTOCOL: is not `http/protobuf`"),
            ("EXPORTER_OTLP_METRICS_COMPRESSION=zstd", "EXPORTER_OTLP_METRICS_COMPRESSION: is"),
            ("EXPORTER_OTLP_TIMEOUT=10s", "EXPORTER_OTLP_TIMEOUT: is no number"),
            ("METRIC_EXPORT_INTERVAL=1", "METRIC_EXPORT_INTERVAL: is too short"),
            ("EXPORTER_OTLP_HEADERS=key", "EXPORTER_OTLP_HEADERS: is no list"),
            ("EXPORTER_OTLP_HEADERS=k=%zz", "EXPORTER_OTLP_HEADERS: has a broken"),
            ("EXPORTER_OTLP_HEADERS=a b=c", "EXPORTER_OTLP_HEADERS: has a name"),
            ("EXPORTER_OTLP_CLIENT_KEY=k", "EXPORTER_OTLP_CLIENT_KEY: is not followed"),
            ("EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta", "EXPORTER_OTLP_METRICS_TEMP"),
            ("METRICS_EXPORTER=prometheus", "METRICS_EXPORTER: is neither"),
        ] {
            let text = format!("OTEL_{line}\nOTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318");
            let said = read(&text).expect_err(line).to_string();
            assert!(said.starts_with(&format!("OTEL_{expected}")), "{line}: {said}");
        }
    }
}
