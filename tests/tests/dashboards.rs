//! Files for dashboards that are shipped, against what the controller says: every topic is one of the
//! mirror's, every key is in the shipped schema of its kind, and no key of text is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use fleetway_protocol::topics::ROOT_DEFAULT;
use fleetway_tests::grafana::{Source, boards};
use fleetway_tests::harness::programs::workspace;
use serde_json::Value;

/// Kinds of messages by the word in their topic, and levels below `j/`.
const KINDS: [(&str, &str, usize); 5] = [
    ("on", "online", 2),
    ("st", "state", 3),
    ("tm", "telemetry", 3),
    ("hw", "host", 2),
    ("ev", "event", 2),
];

fn shipped(path: &str) -> String {
    let path = workspace().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Keys of one kind, and whether each is text.
fn keys(schema: &str) -> BTreeMap<String, bool> {
    let schema = shipped(&format!("docs/telemetry/{schema}.schema.json"));
    let schema: Value = serde_json::from_str(&schema).expect("a schema");
    let keys = schema["properties"].as_object().cloned().unwrap_or_default();
    keys.into_iter().map(|(name, key)| (name, key["type"] == "string")).collect()
}

/// The word of a filter's kind, if it is one of the mirror's.
fn kind(filter: &str) -> Option<&'static str> {
    let below = filter.strip_prefix(ROOT_DEFAULT)?.strip_prefix("j/")?;
    let levels: Vec<_> = below.split('/').collect();
    let (word, _, _) = KINDS
        .into_iter()
        .find(|(word, _, count)| levels.get(1) == Some(word) && levels.len() == *count)?;
    let wild = levels.iter().enumerate().all(|(at, level)| at == 1 || *level == "+");
    wild.then_some(word)
}

fn list(value: Option<&toml::Value>) -> Vec<String> {
    let all = value.and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|value| value.as_str().expect("text").to_owned()).collect()
}

/// What a pattern makes of a topic's levels: the place of each name.
fn places(pattern: &str) -> Vec<(usize, &str)> {
    pattern.split('/').enumerate().filter(|(_, name)| *name != "_").collect()
}

fn check_parsing(input: &toml::Value, topics: &[String]) {
    let parsing = input["topic_parsing"].as_array().expect("topic_parsing");
    let parsed: BTreeSet<_> = parsing.iter().filter_map(|one| one["topic"].as_str()).collect();
    assert_eq!(parsed, topics.iter().map(String::as_str).collect(), "topics with their parts");
    for one in parsing {
        let text = |key: &str| one[key].as_str().expect("text");
        let levels: Vec<_> = text("topic").split('/').collect();
        let word = kind(text("topic")).expect("a topic of the mirror");
        for key in ["measurement", "tags"] {
            assert_eq!(text(key).split('/').count(), levels.len(), "{key} of {word}");
        }
        // Telegraf looks fixed levels up by their text: one twice would be lost.
        let fixed: Vec<_> = levels.iter().filter(|level| **level != "+").collect();
        assert_eq!(fixed.iter().collect::<BTreeSet<_>>().len(), fixed.len(), "{levels:?}");
        let measured = places(text("measurement"));
        assert_eq!(measured.len(), 1);
        assert_eq!(levels[measured[0].0], word, "the measurement of {word}");
        let wild: Vec<_> = (0..levels.len()).filter(|at| levels[*at] == "+").collect();
        let names: Vec<_> = wild.into_iter().zip(["device", "model"]).collect();
        assert_eq!(places(text("tags")), names, "tags of {word}");
    }
}

/// Text is a tag or a string field or part of the topic, nothing else is, and nothing is unknown.
fn check_keys(input: &toml::Value, words: &BTreeSet<&str>) {
    let (tags, texts) = (list(input.get("tag_keys")), list(input.get("json_string_fields")));
    let named: Vec<_> = tags.iter().chain(&texts).cloned().collect();
    let all: BTreeSet<_> = named.iter().cloned().collect();
    assert_eq!(all.len(), named.len(), "named twice: {named:?}");
    let kinds = KINDS.iter().filter(|(word, ..)| words.contains(word));
    let (mut wanted, mut time) = (BTreeSet::new(), true);
    for (_, schema, _) in kinds {
        let keys = keys(schema);
        time &= keys.get("ts") == Some(&false);
        wanted.extend(keys.into_iter().filter(|(_, text)| *text).map(|(name, _)| name));
    }
    wanted.remove("device");
    assert_eq!(all, wanted, "keys of text");
    assert!(time && input["json_time_key"].as_str() == Some("ts"));
    assert_eq!(input["json_time_format"].as_str(), Some("unix_ms"));
}

#[test]
fn telegraf_reads_every_kind_with_the_keys_that_it_has() {
    let text = shipped("contrib/telegraf/telegraf.conf");
    assert!(text.contains("Untested with a real Telegraf"));
    let conf: toml::Value = toml::from_str(&text).expect("TOML");
    let (mut seen, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for input in conf["inputs"]["mqtt_consumer"].as_array().expect("inputs") {
        let topics = list(input.get("topics"));
        let words: BTreeSet<_> =
            topics.iter().map(|topic| kind(topic).unwrap_or_else(|| panic!("{topic}"))).collect();
        check_parsing(input, &topics);
        match input["data_format"].as_str() {
            Some("json") => check_keys(input, &words),
            other => {
                assert_eq!((other, words.iter().copied().collect()), (Some("value"), vec!["on"]))
            }
        }
        seen.extend(words);
        assert!(ids.insert(input["client_id"].as_str().expect("an id").to_owned()), "one id twice");
    }
    assert_eq!(seen, KINDS.iter().map(|(word, ..)| *word).collect());
    assert!(ids.iter().all(|id| id.starts_with("viewer.")), "{ids:?}");
    let replaced = conf["processors"]["rename"][0]["replace"].as_array().expect("names").iter();
    let replaced: BTreeMap<_, _> =
        replaced.map(|one| (one["measurement"].as_str(), one["dest"].as_str())).collect();
    let dest: Vec<_> =
        KINDS.iter().map(|(word, name, _)| (Some(*word), format!("fleetway_{name}"))).collect();
    let wanted = dest.iter().map(|(word, name)| (*word, Some(name.as_str()))).collect();
    assert_eq!(replaced, wanted);
}

/// What it does is seen in `e2e_dashboards`; here, that it asks for nothing that nobody says.
#[test]
fn node_red_listens_to_topics_of_the_mirror() {
    let flow = shipped("contrib/node-red/fleetway-flow.json");
    let flow: Value = serde_json::from_str(&flow).expect("JSON");
    let nodes = flow.as_array().expect("nodes").iter();
    let topics: Vec<_> =
        nodes.filter(|node| node["type"] == "mqtt in").map(|n| &n["topic"]).collect();
    assert!(topics.len() >= 3, "{topics:?}");
    for topic in topics {
        assert!(topic.as_str().and_then(kind).is_some(), "{topic} is no topic of the mirror");
    }
}

/// Written down once in `fleetway_tests::grafana::boards`; the queries of Prometheus run in `e2e_dashboards`.
#[test]
fn the_shipped_grafana_dashboards_are_those_of_the_tables() {
    let dir = workspace().join("contrib/grafana");
    let names: BTreeSet<_> =
        boards::ALL.iter().map(|board| format!("{}.json", board.name)).collect();
    for board in boards::ALL {
        let (path, text) = (dir.join(format!("{}.json", board.name)), board.text());
        if std::env::var_os("FLEETWAY_BLESS").is_some() {
            std::fs::write(&path, &text).expect("a directory");
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "{}: run this test with FLEETWAY_BLESS=1", path.display());
    }
    let there = std::fs::read_dir(&dir).expect("a directory").flatten();
    let there: BTreeSet<_> =
        there.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(there, names, "files of dashboards that are no more");
}

#[test]
fn grafana_over_mqtt_shows_keys_that_somebody_says() {
    let live = boards::ALL.into_iter().filter(|board| board.source == Source::Mqtt);
    let panels: Vec<_> = live.flat_map(|board| board.panels).collect();
    assert!(panels.len() > 5);
    for query in panels.iter().flat_map(|panel| panel.queries) {
        let topic = query.ask.replace("$device", "+").replace("$model", "+");
        let word = kind(&format!("{ROOT_DEFAULT}j/{topic}")).unwrap_or_else(|| panic!("{topic}"));
        if word == "on" {
            // A bare number is Grafana's `Value`.
            assert_eq!(query.shows, "Value");
            continue;
        }
        let (_, schema, _) = KINDS.into_iter().find(|(known, ..)| *known == word).expect("a kind");
        let keys = keys(schema);
        let unknown: Vec<_> =
            query.shows.split(", ").filter(|key| !keys.contains_key(*key)).collect();
        assert_eq!(unknown, [""; 0], "{word} has no such key");
    }
}
