//! Style sheet, scripts and icon: in the program itself, each under a name with its digest, so
//! that a browser keeps it until it changes. Files of others lie in `web/vendor/` as they were
//! published, with their licences and digests.

use std::io::Write as _;
use std::sync::OnceLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use fleetway_protocol::ids::Digest;

/// One file.
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($name:literal, $kind:literal) => {
        Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!("../../web/", $name)) }
    };
    ($name:literal, $kind:literal, $file:literal) => {
        Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!("../../web/", $file)) }
    };
}

const ASSETS: [Asset; 9] = [
    asset!("style.css", "text/css; charset=utf-8"),
    asset!("page.js", "text/javascript; charset=utf-8"),
    asset!("login.js", "text/javascript; charset=utf-8"),
    asset!("chart.js", "text/javascript; charset=utf-8"),
    asset!("icon.svg", "image/svg+xml"),
    asset!("htmx.js", "text/javascript; charset=utf-8", "vendor/htmx-2.0.11.min.js"),
    asset!("morph.js", "text/javascript; charset=utf-8", "vendor/idiomorph-0.8.0-ext.min.js"),
    asset!("uplot.js", "text/javascript; charset=utf-8", "vendor/uplot-1.6.32.iife.min.js"),
    asset!("uplot.css", "text/css; charset=utf-8", "vendor/uplot-1.6.32.min.css"),
];

/// What is ready to be sent.
struct Ready {
    asset: &'static Asset,
    /// The beginning of its SHA-256, which is in its address.
    version: String,
    packed: Vec<u8>,
}

fn ready() -> &'static [Ready] {
    static READY: OnceLock<Vec<Ready>> = OnceLock::new();
    READY.get_or_init(|| {
        let of = |asset: &'static Asset| Ready {
            asset,
            version: Digest::of(asset.bytes).to_string().chars().take(8).collect(),
            packed: packed(asset.bytes),
        };
        ASSETS.iter().map(of).collect()
    })
}

/// Gzip at its usual strength.
pub(super) fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Into memory: it cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// Whether whoever asks unpacks gzip.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let all = headers.get_all("accept-encoding").iter().filter_map(|value| value.to_str().ok());
    let mut codings = all.flat_map(|value| value.split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim() == "gzip" && weight.trim().trim_end_matches(['0', '.']) != "q="
    })
}

/// Where a file is.
pub(super) fn url(name: &str) -> String {
    let found = ready().iter().find(|ready| ready.asset.name == name);
    format!("/static/{name}?{}", found.map_or("", |ready| ready.version.as_str()))
}

/// `GET /static/{name}`.
pub(super) async fn show(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(ready) = ready().iter().find(|ready| ready.asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // Its address changes when it does.
    let head = [
        (CONTENT_TYPE, ready.asset.kind),
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (VARY, "accept-encoding"),
    ];
    if takes_gzip(&headers) {
        (head, [(CONTENT_ENCODING, "gzip")], ready.packed.as_slice()).into_response()
    } else {
        (head, ready.asset.bytes).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_as_they_published_it() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("web/vendor");
        let sums = std::fs::read_to_string(dir.join("SHA256SUMS")).unwrap();
        let listed: std::collections::BTreeMap<_, _> = sums
            .lines()
            .map(|line| line.split_once("  ").unwrap())
            .map(|(sum, name)| (name.to_owned(), sum.to_owned()))
            .collect();
        for entry in std::fs::read_dir(&dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name == "SHA256SUMS" {
                continue;
            }
            let bytes = std::fs::read(dir.join(&name)).unwrap();
            assert_eq!(listed.get(&name), Some(&Digest::of(&bytes).to_string()), "{name}");
            let project = name.split(['-', '.']).next().unwrap();
            let licence = format!("{project}.LICENSE");
            assert!(listed.contains_key(&licence), "{name} has no {licence}");
        }
    }

    #[test]
    fn gzip_for_those_who_take_it() {
        for (accepted, expected) in [
            ("", false),
            ("gzip", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip;q=0.0", false),
            ("br", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("accept-encoding", accepted.parse().unwrap());
            assert_eq!(takes_gzip(&headers), expected, "{accepted}");
        }
    }
}
