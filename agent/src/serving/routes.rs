//! Paths of the HTTP server and the methods that they take.

use hyper::{Method, StatusCode};

use super::refusal::Refusal;

/// The route of a request, if there is one for it.
pub(super) fn find<'p>(path: &'p str, method: &Method) -> Result<Route<'p>, Refusal> {
    let (route, methods) = route(path).ok_or_else(|| {
        let text = "no such resource; GET /v2 and the Open Inference Protocol say what there is";
        Refusal::new(StatusCode::NOT_FOUND, text)
    })?;
    if methods.contains(method) {
        return Ok(route);
    }
    let allowed = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    Err(Refusal::method(method, &allowed))
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'p> {
    Server,
    Live,
    Ready,
    Model(Target<'p>),
    ModelReady(Target<'p>),
    Config(Target<'p>),
    Stats(Target<'p>),
    AllStats,
    Infer(Target<'p>),
    Index,
    Managed,
    Hold,
    Status,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'p> {
    pub(super) model: &'p str,
    pub(super) version: Option<String>,
}

/// The route of a path, and the methods that it takes.
fn route(path: &str) -> Option<(Route<'_>, &'static [Method])> {
    const GET: &[Method] = &[Method::GET, Method::HEAD];
    const POST: &[Method] = &[Method::POST];
    const HOLD: &[Method] = &[Method::POST, Method::DELETE];
    const BOTH: &[Method] = &[Method::GET, Method::HEAD, Method::POST];
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    // The longest route has six levels; what is longer matches none.
    let levels: Vec<&str> = path.split('/').take(8).collect();
    let (target, rest) = match levels.as_slice() {
        ["v2"] => return Some((Route::Server, GET)),
        ["v2", "health", "live"] => return Some((Route::Live, GET)),
        ["v2", "health", "ready"] => return Some((Route::Ready, GET)),
        ["v2", "models", "stats"] => return Some((Route::AllStats, GET)),
        ["v2", "repository", "index"] => return Some((Route::Index, BOTH)),
        ["v2", "repository", "models", _, "load" | "unload"] => {
            return Some((Route::Managed, POST));
        }
        ["fleetway", "v1", "hold"] => return Some((Route::Hold, HOLD)),
        ["fleetway", "v1", "status"] => return Some((Route::Status, GET)),
        ["v2", "models", model, "versions", version, rest @ ..] => {
            (Target { model, version: Some(decode_percent(version)?) }, rest)
        }
        ["v2", "models", model, rest @ ..] => (Target { model, version: None }, rest),
        _ => return None,
    };
    match rest {
        [] => Some((Route::Model(target), GET)),
        ["ready"] => Some((Route::ModelReady(target), GET)),
        ["config"] => Some((Route::Config(target), GET)),
        ["stats"] => Some((Route::Stats(target), GET)),
        ["infer"] => Some((Route::Infer(target), POST)),
        _ => None,
    }
}

/// Versions may hold characters that clients escape (`+`). Model names hold none.
fn decode_percent(level: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(level.len());
    let mut rest = level.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push(u8::try_from(digit(high)? << 4 | digit(low)?).ok()?);
                rest = tail;
            }
            (b'%', _) => return None,
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_their_routes() {
        let target =
            |version: Option<&str>| Target { model: "m", version: version.map(str::to_owned) };
        for (path, expected) in [
            ("/v2", Some(Route::Server)),
            ("/v2/", Some(Route::Server)),
            ("/v2/health/live", Some(Route::Live)),
            ("/v2/health/ready", Some(Route::Ready)),
            ("/v2/models/m", Some(Route::Model(target(None)))),
            ("/v2/models/m/versions/1.0%2Bb", Some(Route::Model(target(Some("1.0+b"))))),
            ("/v2/models/m/ready", Some(Route::ModelReady(target(None)))),
            ("/v2/models/m/versions/v1/ready", Some(Route::ModelReady(target(Some("v1"))))),
            ("/v2/models/m/infer", Some(Route::Infer(target(None)))),
            ("/v2/models/m/versions/v1/infer", Some(Route::Infer(target(Some("v1"))))),
            ("/v2/models/m/config", Some(Route::Config(target(None)))),
            ("/v2/models/m/versions/v1/config", Some(Route::Config(target(Some("v1"))))),
            ("/v2/models/m/stats", Some(Route::Stats(target(None)))),
            ("/v2/models/stats", Some(Route::AllStats)),
            ("/v2/repository/index", Some(Route::Index)),
            ("/v2/repository/models/m/load", Some(Route::Managed)),
            ("/v2/repository/models/m/unload", Some(Route::Managed)),
            ("/fleetway/v1/status", Some(Route::Status)),
            ("/fleetway/v1/hold", Some(Route::Hold)),
            ("/v2/models/m/versions/%zz/infer", None),
            ("/v2/models/m/versions/%f", None),
            ("/v2/models/m/versions/%ff", None),
            ("/v2/models/m/infer/x/y/z/a/b/c", None),
            ("/", None),
            ("*", None),
            ("/v3", None),
        ] {
            assert_eq!(route(path).map(|(route, _)| route), expected, "{path}");
        }
    }
}
