//! Our messages against the protocol's own description: every field that we write or read has the
//! number and the type that `agent/proto/*.proto` gives it. What is not there we would notice as a
//! client that sees nothing.

use std::collections::BTreeMap;

/// Field name to its number and type, by message.
type Messages = BTreeMap<String, BTreeMap<String, (u32, String)>>;

const PROTOS: [&str; 2] = [
    include_str!("../../../proto/grpc_service.proto"),
    include_str!("../../../proto/model_config.proto"),
];

/// Reads `message` and `enum` blocks; enough of the language for these two files.
fn described() -> Messages {
    let mut messages = Messages::new();
    let mut enums = Vec::new();
    for text in PROTOS {
        let text: String = text
            .lines()
            .map(|line| line.split("//").next().unwrap_or(""))
            .collect::<Vec<_>>()
            .join("\n");
        let spaced = ["{", "}", ";", "=", "<", ">", ","]
            .iter()
            .fold(text, |text, mark| text.replace(mark, &format!(" {mark} ")));
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut open: Vec<(&str, &str)> = Vec::new();
        let mut field: Vec<&str> = Vec::new();
        let mut at = 0;
        while at < words.len() {
            match words[at] {
                kind @ ("message" | "enum" | "oneof" | "service") if field.is_empty() => {
                    open.push((kind, words[at + 1]));
                    if kind == "enum" {
                        enums.push(words[at + 1].to_owned());
                    }
                    at += 1;
                }
                "{" => field.clear(),
                "}" => {
                    field.clear();
                    open.pop();
                }
                ";" => {
                    let owner = open.iter().rev().find(|(kind, _)| *kind == "message");
                    let in_enum = open.last().is_some_and(|(kind, _)| *kind == "enum");
                    if let (Some((_, owner)), false, [kind @ .., name, "=", number]) =
                        (owner, in_enum, field.as_slice())
                    {
                        let kind = kind.join("").replace("repeated", "repeated ");
                        let number = number.parse().expect("a number");
                        let fields = messages.entry((*owner).to_owned()).or_default();
                        fields.insert((*name).to_owned(), (number, kind));
                    }
                    field.clear();
                }
                word => field.push(word),
            }
            at += 1;
        }
    }
    for (_, kind) in messages.values_mut().flat_map(BTreeMap::values_mut) {
        // On the wire an enum is an int32.
        if enums.iter().any(|name| name == kind) {
            "int32".clone_into(kind);
        }
    }
    messages
}

/// What `messages.rs` says, by its attributes.
fn ours() -> Messages {
    let mut messages = Messages::new();
    let (mut owner, mut attribute) = (String::new(), String::new());
    for line in include_str!("messages.rs").lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("pub(super) struct ") {
            owner = rest.trim_end_matches(" {").to_owned();
        } else if let Some(rest) = line.strip_prefix("pub(super) enum Parameter") {
            assert_eq!(rest, " {");
            owner = "InferParameter".to_owned();
        } else if let Some(rest) = line.strip_prefix("#[prost(") {
            attribute = rest.trim_end_matches(")]").to_owned();
        } else if !attribute.is_empty() {
            let said = std::mem::take(&mut attribute);
            if said.starts_with("oneof") {
                continue;
            }
            let number = said.split("tag = \"").nth(1).and_then(|rest| rest.split('"').next());
            let number = number.and_then(|number| number.parse().ok()).expect("a tag");
            let line = line.trim_start_matches("pub(super) ");
            let (name, rust) = line.split_once([':', '(']).expect("a field");
            let name = if name == "StringParam" { "string_param" } else { name };
            let inner = rust.trim().trim_end_matches([',', '>', ')']);
            let inner = inner.rsplit(['<', ' ']).next().expect("a type");
            let kind = match said.split(',').next().expect("a kind") {
                "message" => inner.to_owned(),
                "btree_map = \"string" => format!("map<string,{inner}>"),
                kind => kind.to_owned(),
            };
            let kind = if said.contains("repeated") { format!("repeated {kind}") } else { kind };
            messages.entry(owner.clone()).or_default().insert(name.to_owned(), (number, kind));
        }
    }
    messages
}

#[test]
fn our_messages_are_the_protocols() {
    let (theirs, ours) = (described(), ours());
    assert!(ours.len() >= 20 && theirs.len() > 60, "{} of {}", ours.len(), theirs.len());
    for (message, fields) in &ours {
        let described = theirs.get(message).unwrap_or_else(|| panic!("no message {message}"));
        for (name, field) in fields {
            assert_eq!(Some(field), described.get(name), "{message}.{name}");
        }
    }
    assert_eq!(theirs["ModelInferResponse"]["raw_output_contents"], (6, "repeated bytes".into()));
}

/// The numbers in `wire.rs` and `typed.rs`, which read in place.
#[test]
fn the_request_is_the_protocols() {
    let theirs = described();
    let number = |message: &str, name: &str| theirs[message][name].0;
    let request = ["model_name", "model_version", "id", "parameters", "inputs", "outputs"];
    for (at, name) in (1u32..).zip(request) {
        assert_eq!(number("ModelInferRequest", name), at);
    }
    assert_eq!(number("ModelInferRequest", "raw_input_contents"), 7);
    for (at, name) in (1u32..).zip(["name", "datatype", "shape", "parameters", "contents"]) {
        assert_eq!(number("InferInputTensor", name), at);
    }
    assert_eq!(number("InferRequestedOutputTensor", "name"), 1);
    assert_eq!(number("InferRequestedOutputTensor", "parameters"), 2);
    assert_eq!(number("InferParameter", "int64_param"), 2);
    assert_eq!(number("InferParameter", "uint64_param"), 5);
    let lists = [
        (1, "bool_contents"),
        (2, "int_contents"),
        (3, "int64_contents"),
        (4, "uint_contents"),
        (6, "fp32_contents"),
        (7, "fp64_contents"),
    ];
    for (at, name) in lists {
        assert_eq!(number("InferTensorContents", name), at);
    }
}
