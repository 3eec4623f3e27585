//! Clients, engines and bodies that mean no good: a clear answer, nothing held, nothing dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetway_engine::tensor::TensorData;
use fleetway_engine::{DType, RunError, Tensor};
use serde_json::{Value, json};

use super::limits::{BODY_BYTES_MAX, Limits};
use super::stats::ModelStats;
use super::testing::*;

const SOON: Duration = Duration::from_secs(5);

/// Every body, the status and the words that it must be answered with.
#[tokio::test]
async fn a_bad_body_is_told_what_is_wrong_with_it() {
    let site = Site::of(Fake::times(1.0)).await;
    let mut client = site.client().await;
    let mut check = async |body: &str, said: &str| {
        let shown: String = body.chars().take(120).collect();
        let answer = client.ask("POST", "/v2/models/m/infer", body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{shown}: {}", answer.json);
        assert!(answer.error().contains(said), "{shown}: {} without {said:?}", answer.json);
        assert!(answer.error().len() < 600, "{shown}: {}", answer.error().len());
    };
    let input = |shape: &str, data: &str| {
        format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":{shape},"data":{data}}}]}}"#)
    };
    let whole = input("[1,3]", "[1,2,3]");
    for cut in 0..whole.len() {
        check(&whole[..cut], "").await;
    }
    check("", "EOF while parsing a value at line 1 column 0").await;
    check("[]", "not an inference request").await;
    check("{}", "missing field `inputs`").await;
    check("\u{0}\u{1}", "expected value").await;
    check(&(whole.clone() + "x"), "trailing characters").await;
    check(&whole.replace("1,2,3", "1,NaN,3"), "expected value").await;
    check(&whole.replace("1,2,3", "1,Infinity,3"), "expected value").await;
    check(&whole.replace("1,2,3", "1,1e999,3"), "out of range").await;
    check(&whole.replace("1,2,3", "1,1e39,3"), "1e39, which is no FP32").await;
    check(&whole.replace("1,2,3", "1,null,3"), "expected a number").await;
    check(&whole.replace("1,2,3", "1,\"2\",3"), "expected a number").await;
    check(&whole.replace("1,2,3", "1,true,3"), "holds true, which is no FP32").await;
    check(&whole.replace("1,2,3", "1,{},3"), "expected a number").await;
    check(&whole.replace("1,2,3", "1,2"), "has 2 elements, shape [1, 3] needs 3").await;
    check(&whole.replace("1,2,3", "1,2,3,4"), "more than the 3 elements").await;
    check(&whole.replace("[1,2,3]", "7"), "expected a list of numbers").await;
    check(&whole.replace("[1,2,3]", "[[1,2],[3]]"), "a list of 2").await;
    check(&whole.replace("[1,2,3]", "[1,[2],3]"), "neither flat nor nested").await;
    check(&whole.replace("[1,2,3]", "[[[1,2,3]]]"), "nested deeper than its shape").await;
    check(&whole.replace("[1,2,3]", &"[".repeat(100_000)), "").await;
    check(&whole.replace("\"inputs\"", &format!("\"z\":{},\"inputs\"", "[".repeat(100_000))), "")
        .await;
    check(&input("[3,1]", "[1,2,3]"), "is FP32[3, 1]; the model takes FP32[1, 3]").await;
    check(&input("[18446744073709551615,18446744073709551615]", "[1]"), "takes FP32[1, 3]").await;
    check(&input("[18446744073709551616]", "[1]"), "").await;
    check(&input("[-1,3]", "[1,2,3]"), "invalid value").await;
    check(&input("[1.5,3]", "[1,2,3]"), "").await;
    check(&input("[1,1,1,1,1,1,1,1,3]", "[1,2,3]"), "a list of at most 8").await;
    check(&input(&format!("[{}1]", "1,".repeat(1_000_000)), "[1]"), "a list of at most 8").await;
    check(&whole.replace("FP32", "INT8"), "is INT8[1, 3]; the model takes FP32[1, 3]").await;
    check(&whole.replace("FP32", "FP16"), "is FP16[1, 3]").await;
    check(&whole.replace("FP32", &"F".repeat(9_999)), "…").await;
    check(&whole.replace("\"x\"", "\"z\""), "no input \"z\"; the model takes \"x\" FP32[1, 3]")
        .await;
    check(&whole.replace("\"x\"", &format!("\"{}\"", "z".repeat(9_999))), "…").await;
    check(&whole.replace("\"data\"", "\"dat\""), "has no \"data\" and no").await;
    check(&whole.replace("\"data\":", "\"data\":[1,2,3],\"data\":"), "duplicate field").await;
    check(r#"{"inputs":[]}"#, "input \"x\" FP32[1, 3] is missing").await;
    check(
        &format!("{{\"inputs\":[{}]}}", [&whole[11..whole.len() - 2]; 2].join(",")),
        "given twice",
    )
    .await;
    check(
        &whole.replace("}]}", "}],\"outputs\":[{\"name\":\"q\"}]}"),
        "no output \"q\"; the model gives",
    )
    .await;
    check(&whole.replace("}]}", "}],\"id\":7}"), "").await;
    let many = json!({ "inputs": vec![json!({"name": "x", "datatype": "", "shape": [], "data": []}); 65] });
    check(&many.to_string(), "a list of at most 64").await;
    assert_eq!(
        site.live.recorder().snapshot().unwrap().counters.requests,
        0,
        "the model never ran"
    );
    assert_eq!(client.infer(&x([1.0, 2.0, 3.0])).await.status, 200);
}

#[tokio::test]
async fn every_type_goes_in_and_out_and_only_its_own_numbers() {
    for (dtype, name, good, bad) in [
        (DType::F32, "FP32", json!([0.1, -2]), json!([true, 0])),
        (DType::F64, "FP64", json!([0.1, 1e300]), json!([false, 0])),
        (DType::I8, "INT8", json!([-128, 127]), json!([128, 0])),
        (DType::U8, "UINT8", json!([0, 255]), json!([-1, 0])),
        (DType::I16, "INT16", json!([-32768, 32767]), json!([32768, 0])),
        (DType::U16, "UINT16", json!([0, 65535]), json!([65536, 0])),
        (DType::I32, "INT32", json!([i32::MIN, i32::MAX]), json!([1.5, 0])),
        (DType::I64, "INT64", json!([i64::MIN, i64::MAX]), json!([u64::MAX, 0])),
        (DType::Bool, "BOOL", json!([true, false]), json!([2, 0])),
    ] {
        let specs = |name| vec![spec(name, dtype, &[2])];
        let echo = Fake::of(specs("in"), specs("out"), |inputs| Ok(inputs.to_vec()));
        let site = Site::of(echo).await;
        let mut client = site.client().await;
        let request = |data: &Value| json!({"inputs": [{"name": "in", "datatype": name, "shape": [2], "data": data}]});
        let answer = client.infer(&request(&good)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.json);
        let output = &answer.json["outputs"][0];
        assert_eq!(output["datatype"], name);
        let same = |(a, b): (&Value, &Value)| a == b || a.as_f64() == b.as_f64();
        let (came, went) = (output["data"].as_array().unwrap(), good.as_array().unwrap());
        assert!(came.iter().zip(went).all(same), "{name}: {output}");
        let answer = client.infer(&request(&bad)).await;
        assert_eq!(answer.status, 400, "{name}");
        assert!(answer.error().contains(&format!("which is no {name}")), "{}", answer.json);
    }
}

#[tokio::test]
async fn a_body_over_the_bound_is_413_whether_it_says_its_length_or_not() {
    let site = Site::of(Fake::times(1.0)).await;
    let big = vec![b' '; BODY_BYTES_MAX + 1];
    let answer = site.client().await.ask("POST", "/v2/models/m/infer", &big).await;
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("16777216"));
    let mut client = site.client().await;
    let head = "POST /v2/models/m/infer HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    client.send(head, format!("{:x}\r\n", big.len()).as_bytes()).await;
    client.send("", &big).await;
    client.send("\r\n0\r\n\r\n", b"").await;
    assert_eq!(client.answer().await.unwrap().status, 413);
    // As large as allowed, and JSON: all white space.
    let mut client = site.client().await;
    let answer = client.ask("POST", "/v2/models/m/infer", &big[1..]).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn what_is_no_http_or_not_supported_is_refused() {
    let site = Site::of(Fake::times(1.0)).await;
    let post = "POST /v2/models/m/infer HTTP/1.1\r\n";
    for (head, status) in [
        ("\0\0\0\0\r\n\r\n".to_owned(), 400),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(60_000)), 431),
        (format!("GET /v2 HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100)), 431),
        (format!("{post}content-length: -1\r\n\r\n"), 400),
        (format!("{post}content-length: 99999999999999999999\r\n\r\n"), 400),
        (format!("{post}transfer-encoding: chunked\r\n\r\nzz\r\n"), 400),
        (format!("{post}content-encoding: br\r\ncontent-length: 0\r\n\r\n"), 415),
        (format!("{post}content-encoding: gzip, gzip\r\ncontent-length: 0\r\n\r\n"), 415),
        (format!("{post}content-encoding: gzip\r\ncontent-length: 0\r\n\r\n"), 400),
        (format!("{post}inference-header-content-length: 2\r\ncontent-length: 0\r\n\r\n"), 400),
    ] {
        let mut client = site.client().await;
        client.send(&head, b"").await;
        let shown: String = head.chars().take(80).collect();
        let answer = tokio::time::timeout(SOON, client.answer()).await.expect(&shown);
        assert_eq!(answer.map(|a| a.status), Some(status), "{shown}");
    }
    assert_eq!(site.client().await.get("/v2").await.status, 200);
}

#[tokio::test]
async fn slow_clients_are_cut() {
    let short = Duration::from_millis(200);
    let limits = Limits { head: short, body: short, write_stall: short, ..Limits::default() };
    let big = Fake::of(
        vec![spec("x", DType::F32, &[1, 3])],
        vec![spec("y", DType::F32, &[1_000_000])],
        |_| Ok(vec![Tensor::from_f32(&[1_000_000], vec![0.5; 1_000_000]).expect("a million")]),
    );
    let site = Site::with(Some(big), limits, 2).await;
    // Says nothing, or half a head.
    for said in ["", "GET /v2 HTTP/1.1\r\nhost:"] {
        let mut client = site.client().await;
        client.send(said, b"").await;
        assert!(client.is_cut(SOON).await, "{said:?}");
    }
    // Drips header lines for ever.
    let mut client = site.client().await;
    client.send("GET /v2 HTTP/1.1\r\n", b"").await;
    let drip = async {
        loop {
            tokio::time::sleep(short / 4).await;
            client.send("a: b\r\n", b"").await;
            if client.is_cut(Duration::from_millis(1)).await {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, drip).await.expect("cut while dripping");
    // Half a body.
    let mut client = site.client().await;
    client.send("POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: 9\r\n\r\n{", b"").await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.error()), (408, "the body did not come within 0 s"));
    // Asks for four megabytes and does not read them.
    let mut client = site.client().await;
    let body = x([0.0; 3]).to_string();
    let head =
        format!("POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
    client.send(&head, body.as_bytes()).await;
    let release = site.live.current().unwrap();
    while ModelStats::of(&release).inference_stats.success.count == 0 {
        tokio::time::sleep(short).await;
    }
    tokio::time::sleep(6 * short).await;
    assert!(client.answer().await.is_none(), "the answer was cut off");
    // One that reads gets all of it.
    let answer = site.client().await.infer(&x([0.0; 3])).await;
    assert_eq!(answer.json["outputs"][0]["data"].as_array().unwrap().len(), 1_000_000);
}

#[tokio::test]
async fn more_connections_than_places_wait_and_are_served() {
    let limits = Limits { head: Duration::from_millis(300), ..Limits::default() };
    let site = Site::with(Some(Fake::times(1.0)), limits, 1).await;
    let mut idle = Vec::new();
    for _ in 0..super::limits::CONNECTIONS_MAX + 8 {
        idle.push(site.client().await);
    }
    let mut client = site.client().await;
    let answer = tokio::time::timeout(SOON, client.get("/v2")).await;
    assert_eq!(answer.expect("the idle ones were cut").status, 200);
    // TCP has places of its own.
    let tcp = tokio::net::TcpStream::connect(site.server.tcp().unwrap()).await.unwrap();
    assert_eq!(Client::on(tcp).get("/v2").await.status, 200);
}

#[tokio::test]
async fn a_broken_engine_is_a_failed_answer() {
    let site = Site::of(Fake::with_x(|x| match x[0] as u32 {
        1 => panic!("weights of doom"),
        2 => vec![0.0, f32::NAN, 0.0],
        3 => vec![0.0, f32::NEG_INFINITY, 0.0],
        _ => vec![0.0, 5.0, 5.0],
    }))
    .await;
    let mut client = site.client().await;
    for (what, said) in
        [(1.0, "version v1: the engine panicked: weights of doom"), (2.0, "`y`"), (3.0, "`y`")]
    {
        let answer = client.infer(&x([what, 0.0, 0.0])).await;
        assert_eq!(answer.status, 500);
        assert!(answer.error().contains(said), "{}", answer.json);
    }
    assert_eq!(client.infer(&x([0.0; 3])).await.status, 200);
    let counts = site.live.recorder().snapshot().unwrap().counters;
    assert_eq!((counts.requests, counts.errors), (4, 3));
    assert_eq!(counts.classes, [0, 1], "the first of the largest");
    let answers = site.live.recorder().drain(9);
    let oks: Vec<_> = answers.iter().map(|(release, a)| (*release == digest(1), a.ok)).collect();
    assert_eq!(oks, [(true, false), (true, false), (true, false), (true, true)]);
}

#[tokio::test]
async fn a_hanging_engine_fails_answers_and_a_swap_mends_it() {
    let go = Arc::new(AtomicBool::new(false));
    let wait = go.clone();
    let hangs = Fake::with_x(move |x| {
        while !wait.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        x.to_vec()
    });
    let limits = Limits { answer: Duration::from_millis(100), ..Limits::default() };
    let site = Site::with(Some(hangs), limits, 1).await;
    let mut client = site.client().await;
    for _ in 0..2 {
        let answer = client.infer(&x([0.0; 3])).await;
        assert_eq!((answer.status, answer.error()), (504, "no answer within 100 ms"));
    }
    let old = site.live.current().unwrap();
    assert_eq!(old.hung_runs(), 2);
    // Not run any more, but still answered, and still counted against the release.
    let answer = client.infer(&x([0.0; 3])).await;
    assert_eq!(answer.status, 500);
    assert!(answer.error().contains("earlier runs of version v1 hang"), "{}", answer.json);
    let counts = site.live.recorder().snapshot().unwrap().counters;
    assert_eq!((counts.requests, counts.errors), (3, 3));
    site.live.swap(Some(loaded(Fake::times(1.0), 2)));
    assert_eq!(client.infer(&x([0.0; 3])).await.status, 200);
    go.store(true, Ordering::Relaxed);
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if old.hung_runs() == 0 {
            break;
        }
    }
    assert_eq!(old.hung_runs(), 0, "slow, not hung");
    assert_eq!(site.live.recorder().before().unwrap().counters.requests, 3, "counted once");
}

#[tokio::test]
async fn a_client_that_hangs_up_hides_no_failure() {
    let slow = Fake::with_x(|_| {
        std::thread::sleep(Duration::from_millis(100));
        panic!("nobody hears this");
    });
    let site = Site::with(Some(slow), Limits::default(), 1).await;
    let body = x([0.0; 3]).to_string();
    let head =
        format!("POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut client = site.client().await;
    client.send(&head, body.as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(client);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(site.live.recorder().snapshot().unwrap().counters.errors, 1);
}

#[tokio::test]
async fn a_release_that_changed_its_inputs_is_judged_for_it() {
    let site = Site::of(Fake::times(1.0)).await;
    let outputs = vec![spec("y", DType::F32, &[1])];
    let one = |_: &[Tensor]| -> Result<Vec<Tensor>, RunError> {
        Ok(vec![Tensor::new(vec![1], TensorData::F32(vec![1.0])).expect("one")])
    };
    site.live.swap(Some(loaded(Fake::of(vec![spec("x", DType::F32, &[1, 4])], outputs, one), 2)));
    let mut client = site.client().await;
    let answer = client.infer(&x([0.0; 3])).await;
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("takes FP32[1, 4]"), "{}", answer.json);
    // Wrong for both: the caller's own.
    let mut wrong = x([0.0; 3]);
    wrong["inputs"][0]["name"] = json!("z");
    assert_eq!(client.infer(&wrong).await.status, 400);
    let counts = site.live.recorder().snapshot().unwrap().counters;
    assert_eq!((counts.requests, counts.errors), (1, 1));
}

/// On two async threads, as in the agent: a release that has been quick runs on one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quick_engine_that_hangs_at_last_holds_up_nobody_else() {
    let go = Arc::new(AtomicBool::new(false));
    let wait = go.clone();
    let hangs = Fake::with_x(move |x| {
        while x[0] > 5.0 && !wait.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        x.to_vec()
    });
    let limits = Limits { answer: Duration::from_millis(200), ..Limits::default() };
    let site = Site::with(Some(hangs), limits, 2).await;
    let mut client = site.client().await;
    for _ in 0..20 {
        assert_eq!(client.infer(&x([0.0; 3])).await.status, 200);
    }
    let old = site.live.current().unwrap();
    assert!(old.is_quick());
    let answer = client.infer(&x([9.0; 3])).await;
    assert_eq!((answer.status, answer.error()), (504, "no answer within 200 ms"));
    assert!(!old.is_quick());
    // One is left over: everything goes on, also what hangs again.
    for _ in 0..20 {
        assert_eq!(client.infer(&x([0.0; 3])).await.status, 200);
        assert_eq!(client.get("/v2").await.status, 200);
    }
    assert_eq!(client.infer(&x([9.0; 3])).await.status, 504);
    assert_eq!(client.infer(&x([0.0; 3])).await.status, 500, "two hang: not run any more");
    site.live.swap(Some(loaded(Fake::times(1.0), 2)));
    for _ in 0..20 {
        assert_eq!(client.infer(&x([0.0; 3])).await.status, 200);
    }
    go.store(true, Ordering::Relaxed);
}
