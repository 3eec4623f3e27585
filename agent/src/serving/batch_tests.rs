//! Requests that meet: one run, the answers of each as if it had been alone, and no failure that
//! is not its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetway_engine::{RunError, Tensor};
use serde_json::{Value, json};

use super::limits::Limits;
use super::settings::ModelSettings;
use super::tap::tap;
use super::testing::*;

/// Doubles; notes the rows of every run, and takes a while, so that others come meanwhile.
fn doubles(notes: &Arc<Mutex<Vec<usize>>>, bad: f32) -> Arc<dyn fleetway_engine::Engine> {
    let notes = notes.clone();
    Fake::rows(move |x| {
        notes.lock().unwrap().push(x.shape()[0]);
        std::thread::sleep(Duration::from_millis(30));
        let x_values = x.as_f32().expect("checked");
        if x_values.contains(&bad) {
            return Err(RunError::Failed("it does not like this".into()));
        }
        let y = x_values.iter().map(|v| v * 2.0).collect();
        Ok(Tensor::from_f32(x.shape(), y).expect("as many"))
    })
}

fn settings(batch_max: usize) -> ModelSettings {
    ModelSettings { batch_max, ..ModelSettings::new(1) }
}

fn rows(values: &[[f32; 3]]) -> Value {
    let flat: Vec<f32> = values.concat();
    let input = json!({"name": "x", "datatype": "FP32", "shape": [values.len(), 3], "data": flat});
    json!({ "inputs": [input] })
}

async fn ask_all(site: &Site, bodies: Vec<Value>) -> Vec<Answer> {
    let mut asked = tokio::task::JoinSet::new();
    for (at, body) in bodies.into_iter().enumerate() {
        let mut client = site.client().await;
        asked.spawn(async move { (at, client.infer(&body).await) });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[tokio::test]
async fn requests_that_meet_share_a_run_and_get_their_own_rows() {
    let notes = Arc::default();
    let site =
        Site::settled(Some(doubles(&notes, f32::MAX)), Limits::default(), 1, settings(8)).await;
    let bodies = (0..9).map(|n| rows(&[[n as f32, 1.0, 2.0]])).collect();
    for (n, answer) in ask_all(&site, bodies).await.into_iter().enumerate() {
        assert_eq!(answer.status, 200, "{}", answer.json);
        let output = &answer.json["outputs"][0];
        assert_eq!(output["shape"], json!([1, 3]));
        assert_eq!(output["data"], json!([2.0 * n as f32, 2.0, 4.0]));
    }
    let runs = notes.lock().unwrap().clone();
    assert_eq!(runs.iter().sum::<usize>(), 9);
    assert!(runs.len() <= 4, "nine requests took the runs {runs:?}");
    let counts = site.live.recorder().snapshot().unwrap().counters;
    assert_eq!((counts.requests, counts.errors), (9, 0));
    let stats = site.client().await.get("/v2/models/m/stats").await.json;
    let stats = &stats["model_stats"][0];
    assert_eq!(
        (&stats["inference_count"], &stats["execution_count"]),
        (&json!(9), &json!(runs.len()))
    );
    let config = site.client().await.get("/v2/models/m/config").await.json;
    assert_eq!(config["dynamic_batching"]["preferred_batch_size"], json!([8]));
    let metadata = site.client().await.get("/v2/models/m").await.json;
    assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 3]));
}

#[tokio::test]
async fn rows_of_one_request_stay_together_and_bounds_hold() {
    let notes = Arc::default();
    let site =
        Site::settled(Some(doubles(&notes, f32::MAX)), Limits::default(), 1, settings(4)).await;
    let bodies = (0..6).map(|n| rows(&[[n as f32; 3], [0.5; 3], [n as f32; 3]])).collect();
    for (n, answer) in ask_all(&site, bodies).await.into_iter().enumerate() {
        let n = 2.0 * n as f32;
        let expected = json!([n, n, n, 1.0, 1.0, 1.0, n, n, n]);
        assert_eq!(answer.json["outputs"][0]["data"], expected, "{}", answer.json);
    }
    assert_eq!(*notes.lock().unwrap(), [3; 6], "two of three rows are more than four");
    let answer = site.client().await.infer(&rows(&[[0.0; 3]; 9])).await;
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("FP32[1, 3], up to 8 rows"), "{}", answer.json);
}

/// A candidate in the shadow sees what is asked, also where runs are shared: each request once,
/// with its own rows and its own answer.
#[tokio::test]
async fn requests_that_share_a_run_are_copied_each_for_itself() {
    let notes = Arc::default();
    let site =
        Site::settled(Some(doubles(&notes, f32::MAX)), Limits::default(), 1, settings(8)).await;
    let (copy_to, copies) = tap(1000);
    site.live.set_tap(Some(copy_to));
    let asked = [vec![[1.0; 3]], vec![[2.0; 3]; 3], vec![[3.0; 3]; 2], vec![[4.0; 3]]];
    ask_all(&site, asked.iter().map(|values| rows(values)).collect()).await;
    assert!(notes.lock().unwrap().iter().any(|rows| *rows > 3), "none shared a run: {notes:?}");
    let mut seen = Vec::new();
    while let Some(copied) = copies.next(Duration::ZERO).unwrap() {
        let (x, y) = (copied.inputs[0].as_f32().unwrap(), copied.outputs[0].as_f32().unwrap());
        assert!(x.iter().map(|v| v * 2.0).eq(y.iter().copied()), "{copied:?}");
        assert_eq!(x.len(), copied.rows * 3, "{copied:?}");
        seen.push((x[0] as u32, copied.rows));
    }
    seen.sort_unstable();
    assert_eq!(seen, [(1, 1), (2, 3), (3, 2), (4, 1)]);
    assert_eq!(copies.take_dropped(), 0);
}

#[tokio::test]
async fn one_bad_request_fails_alone() {
    let notes = Arc::default();
    let site = Site::settled(Some(doubles(&notes, 7.0)), Limits::default(), 1, settings(8)).await;
    let bodies = (4..10).map(|n| rows(&[[n as f32; 3]])).collect();
    for (n, answer) in ask_all(&site, bodies).await.into_iter().enumerate() {
        let expected = if n + 4 == 7 { 500 } else { 200 };
        assert_eq!(answer.status, expected, "{}", answer.json);
        if expected == 500 {
            assert!(answer.head.contains("fleetway-slot: a"), "{}", answer.head);
        }
    }
    let counts = site.live.recorder().snapshot().unwrap().counters;
    assert_eq!((counts.requests, counts.errors), (6, 1));
}

#[tokio::test]
async fn who_asks_alone_does_not_wait() {
    let site = Site::settled(
        Some(Fake::rows(|x| Ok(x.clone()))),
        Limits::default(),
        1,
        ModelSettings { batch_wait: Duration::from_secs(60), ..settings(8) },
    )
    .await;
    let mut client = site.client().await;
    for _ in 0..3 {
        let body = rows(&[[1.0; 3]]);
        let answer = tokio::time::timeout(Duration::from_secs(5), client.infer(&body));
        assert_eq!(answer.await.expect("at once").status, 200);
    }
}

#[tokio::test]
async fn a_batch_that_hangs_is_given_up_for_all_of_its_members() {
    let runs = Arc::new(AtomicUsize::new(0));
    let count = runs.clone();
    let hangs = Fake::rows(move |x| {
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            std::thread::sleep(Duration::from_millis(700));
        }
        Ok(x.clone())
    });
    let limits = Limits { answer: Duration::from_millis(100), ..Limits::default() };
    let settings = ModelSettings { batch_wait: Duration::from_millis(20), ..settings(8) };
    let site = Site::settled(Some(hangs), limits, 1, settings).await;
    let answers = ask_all(&site, vec![rows(&[[1.0; 3]]); 3]).await;
    let late = answers.iter().filter(|answer| answer.status == 504).count();
    assert!((1..=3).contains(&late), "{late}");
    let counts = site.live.recorder().snapshot().unwrap().counters;
    assert_eq!((counts.requests, counts.errors), (3, late as u64));
    assert_eq!(site.client().await.infer(&rows(&[[1.0; 3]])).await.status, 200);
}
