//! The protocol and the sockets, over real sockets.

use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpStream, UnixStream};

use super::http::Api;
use super::limits::{Limits, QUEUE_PER_RUNNER};
use super::listen::{Endpoints, ServeError, Server, UnixEndpoint};
use super::testing::*;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn the_protocol_on_both_sockets() {
    let site = Site::of(Fake::times(2.0)).await;
    walk(&mut site.client().await).await;
    let addr = site.server.tcp().unwrap();
    assert!(addr.port() != 0);
    walk(&mut Client::on(TcpStream::connect(addr).await.unwrap())).await;
    assert_eq!(site.live.recorder().snapshot().unwrap().counters.requests, 4);
}

/// On one connection, kept alive from the first request to the last.
async fn walk<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(client: &mut Client<S>) {
    let release = digest(1).to_string();
    let origin = json!({"release": release, "slot": "a"});
    let answer = client.get("/v2").await;
    assert_eq!((answer.status, &answer.json["name"]), (200, &json!("fleetway-agent")));
    assert!(answer.head.contains("content-type: application/json"));
    assert_eq!(client.get("/v2/health/live").await.status, 200);
    assert_eq!(client.get("/v2/health/ready").await.status, 200);
    let metadata = client.get("/v2/models/m").await.json;
    let expected = json!({
        "name": "m", "versions": ["v1"], "platform": "fake", "parameters": origin,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3]},
                    {"name": "n", "datatype": "INT64", "shape": [1]}],
    });
    assert_eq!(metadata, expected);
    assert_eq!(client.get("/v2/models/m/versions/v1").await.json, expected);
    let ready = client.get("/v2/models/m/ready").await;
    assert_eq!((ready.status, ready.json), (200, json!({"name": "m", "ready": true})));
    let index = client.ask("POST", "/v2/repository/index", b"{}").await.json;
    assert_eq!(index, json!([{"name": "m", "version": "v1", "state": "READY", "reason": ""}]));

    let answer = client.infer(&x([1.0, 0.5, -3.0])).await;
    let y = json!({"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [2.0, 1.0, -6.0]});
    let n = json!({"name": "n", "datatype": "INT64", "shape": [1], "data": [7]});
    let expected = json!({"model_name": "m", "model_version": "v1", "parameters": origin,
                          "outputs": [y, n]});
    assert_eq!((answer.status, answer.json), (200, expected));
    let body = json!({
        "outputs": [{"name": "n", "parameters": {"binary_data": false}}], "id": "é\n7",
        "parameters": {"any": [1]},
        "inputs": [{"data": [[1, 2, 3]], "shape": [1, 3], "datatype": "FP32", "name": "x",
                    "parameters": {}}],
    });
    let path = "/v2/models/m/versions/v1/infer";
    let answer = client.ask("POST", path, body.to_string().as_bytes()).await;
    let expected = json!({"model_name": "m", "model_version": "v1", "id": "é\n7",
                          "parameters": origin, "outputs": [n]});
    assert_eq!((answer.status, answer.json), (200, expected));

    let status = client.get("/fleetway/v1/status").await;
    assert_eq!((status.status, &status.json["device"]), (200, &json!("cam-01")));
    let mut check = async |method: &str, path: &str, status: u16, said: &str| {
        let answer = client.ask(method, path, b"").await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.json);
        assert!(answer.error().contains(said), "{method} {path}: {}", answer.json);
    };
    check("POST", "/v2/models/m/versions/v2/infer", 404, "\"v2\" of model \"m\" does not run")
        .await;
    check("GET", "/v2/models/m/versions/v2", 404, "\"v1\" does").await;
    check("POST", "/v2/models/other/infer", 404, "there is: m").await;
    check("GET", "/v2/models/M%00/ready", 404, "no model").await;
    check("POST", "/v2/repository/models/m/load", 403, "signed orders").await;
    check("POST", "/v2/repository/models/m/unload", 403, "signed orders").await;
    check("GET", "/v2/models/m/infer", 405, "use POST").await;
    check("DELETE", "/v2/models/m", 405, "use GET, HEAD").await;
    check("GET", "/metrics", 404, "no such resource").await;
}

#[tokio::test]
async fn nothing_loaded_is_503_until_something_is() {
    let site = Site::with(None, Limits::default(), 1).await;
    let mut client = site.client().await;
    for path in ["/v2/health/ready", "/v2/models/m", "/v2/models/m/ready"] {
        assert_eq!(client.get(path).await.status, 503, "{path}");
    }
    assert_eq!(client.infer(&x([0.0; 3])).await.status, 503);
    assert_eq!(client.get("/v2/health/live").await.status, 200);
    let index = client.get("/v2/repository/index").await.json;
    assert_eq!(index[0]["state"], "UNAVAILABLE");
    site.live.swap(Some(loaded(Fake::times(1.0), 2)));
    assert_eq!(client.infer(&x([0.0; 3])).await.status, 200);
    site.models.remove(site.live.model());
    assert_eq!(client.infer(&x([0.0; 3])).await.status, 404);
}

#[tokio::test]
async fn an_application_takes_and_releases_a_lock() {
    let site = Site::of(Fake::times(1.0)).await;
    let mut client = site.client().await;
    let path = "/fleetway/v1/hold";
    let take = br#"{"model":"m","by":"till","ttl_s":60}"#;
    let release = br#"{"model":"m","by":"till"}"#;
    assert_eq!(client.ask("DELETE", path, release).await.status, 404);
    assert_eq!(client.ask("POST", path, take).await.status, 200);
    let held: Vec<_> = site.locks.list(0).into_iter().map(|held| (held.model, held.by)).collect();
    assert_eq!(held, [(site.live.model().clone(), "till".to_owned())]);
    for (body, status, said) in [
        (&br#"{"model":"m","by":"till","ttl_s":99999}"#[..], 400, "use 1 to 3600"),
        (br#"{"model":"m","by":"","ttl_s":9}"#, 400, "must name the application"),
        (br#"{"model":"m","by":"till"}"#, 400, "\"ttl_s\" is 0"),
        (br#"{"model":"n","by":"till","ttl_s":9}"#, 404, "no model \"n\""),
        (br#"{"model":"m","by":"till","ttl":9}"#, 400, "unknown field `ttl`"),
        (b"{", 400, "a hold is JSON"),
        (&[b' '; 2000], 400, "at most 1024 bytes"),
    ] {
        let answer = client.ask("POST", path, body).await;
        assert_eq!(answer.status, status, "{said}");
        assert!(answer.error().contains(said), "{said}: {}", answer.error());
    }
    assert_eq!(client.get(path).await.status, 405);
    // Whoever comes over TCP is nobody known: neither takes nor releases.
    let tcp = TcpStream::connect(site.server.tcp().unwrap()).await.unwrap();
    let mut stranger = Client::on(tcp);
    for (method, body) in [("POST", &take[..]), ("DELETE", release)] {
        let answer = stranger.ask(method, path, body).await;
        assert_eq!(answer.status, 403, "{method}");
        assert!(answer.error().contains("unix socket"), "{}", answer.error());
    }
    assert_eq!(site.locks.list(0).len(), 1);
    assert_eq!(client.ask("DELETE", path, release).await.status, 200);
    assert!(site.locks.list(0).is_empty());
}

/// An engine that runs until the test lets it.
fn held() -> (std::sync::Arc<dyn fleetway_engine::Engine>, std::sync::mpsc::Sender<()>) {
    let (go, wait) = channel();
    let wait: Mutex<Receiver<()>> = Mutex::new(wait);
    let engine = Fake::with_x(move |x| {
        wait.lock().unwrap().recv().ok();
        x.to_vec()
    });
    (engine, go)
}

#[tokio::test]
async fn more_than_the_bound_is_429_and_the_queue_moves_on() {
    let (engine, go) = held();
    let limits = Limits { queue_wait: Duration::from_millis(150), ..Limits::default() };
    let site = Site::with(Some(engine), limits, 1).await;
    let ask = || {
        let client = site.client();
        async { client.await.infer(&x([0.0; 3])).await }
    };
    let (mut first, mut second) = (Box::pin(ask()), Box::pin(ask()));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut first).await.is_err());
    // Its turn does not come in time.
    let answer = (&mut second).await;
    assert_eq!(answer.status, 429);
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    assert!(answer.error().contains("no turn in time"));
    // The queue takes so many for the one that runs; one more is refused at once.
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..=QUEUE_PER_RUNNER {
        let mut client = site.client().await;
        waiting.spawn(async move { client.infer(&x([0.0; 3])).await });
    }
    let mut full = 0;
    while let Some(answer) = waiting.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 429);
        full += usize::from(answer.error().contains("the queue is full"));
    }
    assert_eq!(full, 1);
    go.send(()).unwrap();
    assert_eq!(first.await.status, 200);
    go.send(()).unwrap();
    assert_eq!(ask().await.status, 200);
    let counts = site.live.recorder().snapshot().unwrap().counters;
    assert_eq!((counts.requests, counts.errors), (2, 0), "who never ran is not counted");
}

#[tokio::test]
async fn a_stop_lets_answers_end_and_removes_the_socket() {
    let (engine, go) = held();
    let site = Site::with(Some(engine), Limits::default(), 1).await;
    let (mut busy, mut idle) = (site.client().await, site.client().await);
    assert_eq!(idle.get("/v2").await.status, 200);
    let body = x([1.0, 2.0, 3.0]).to_string();
    let head =
        format!("POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
    busy.send(&head, body.as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let Site { server, dir, .. } = site;
    let stop = tokio::spawn(server.shutdown());
    assert!(idle.is_cut(SOON).await, "an idle connection does not hold up the end");
    assert!(UnixStream::connect(dir.path().join("s")).await.is_err());
    go.send(()).unwrap();
    assert_eq!(busy.answer().await.unwrap().status, 200);
    tokio::time::timeout(SOON, stop).await.unwrap().unwrap();
    assert!(!dir.path().join("s").exists());
}

#[tokio::test]
async fn a_stop_waits_for_nobody_for_ever() {
    let (engine, go) = held();
    let limits = Limits { grace: Duration::from_millis(100), ..Limits::default() };
    let site = Site::with(Some(engine), limits, 1).await;
    let mut busy = site.client().await;
    let body = x([0.0; 3]).to_string();
    let head =
        format!("POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
    busy.send(&head, body.as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    tokio::time::timeout(SOON, site.server.shutdown()).await.expect("ends");
    assert!(busy.is_cut(SOON).await);
    drop(go);
}

fn api() -> Api {
    Api::new(Default::default(), std::sync::Arc::new(Default::default), 1)
}

async fn refused(endpoints: Endpoints) -> ServeError {
    Server::start(&endpoints, api()).await.map(drop).expect_err("refused")
}

#[tokio::test]
async fn a_socket_belongs_to_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("serve.sock");
    let on = |path: &std::path::Path| Endpoints {
        unix: Some(UnixEndpoint::new(path)),
        ..Endpoints::default()
    };
    let first = Server::start(&on(&path), api()).await.unwrap();
    assert_eq!(first.unix(), Some(path.as_path()));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let said = refused(on(&path)).await.to_string();
    assert!(said.contains("another server answers on"), "{said}");
    UnixStream::connect(&path).await.expect("the first one still answers");
    drop(first);

    // Left over by a power cut.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(Server::start(&on(&path), api()).await.expect("takes it over"));
    // Of a program without our lock.
    let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(refused(on(&path)).await, ServeError::Taken(_)));
    drop(other);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(refused(on(&path)).await, ServeError::NoSocket(_)));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let long = dir.path().join("x".repeat(120));
    assert!(matches!(refused(on(&long)).await, ServeError::TooLong(_)));
    let absent = dir.path().join("absent/s");
    assert!(matches!(refused(on(&absent)).await, ServeError::Unix { .. }));
}

#[tokio::test]
async fn tcp_stays_on_the_loopback_and_on_free_ports() {
    let on = |addr: &str, allow_remote| Endpoints {
        tcp: addr.parse().ok(),
        allow_remote,
        ..Endpoints::default()
    };
    let said = refused(on("0.0.0.0:0", false)).await.to_string();
    assert!(said.contains("allow_remote"), "{said}");
    drop(Server::start(&on("0.0.0.0:0", true), api()).await.expect("said so"));
    let first = Server::start(&on("127.0.0.1:0", false), api()).await.unwrap();
    let again = on(&first.tcp().unwrap().to_string(), false);
    assert!(matches!(refused(again).await, ServeError::Tcp { .. }));
}
