//! Directories as other tools make them, and as an attacker would.

use std::fs;
use std::path::Path;

use super::*;
use crate::ErrorKind;

/// Made by the real MLflow; `tests/models/mlflow/README.md` says how.
fn mlflow_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/mlflow/model")
}

fn digits() -> Vec<u8> {
    let path = "../tests/models/digits/digits-v1.onnx";
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn fact<'a>(candidate: &'a Candidate, name: &str) -> &'a str {
    let found = candidate.papers.annotations.iter().find(|fact| fact.name == name);
    found.map_or("", |fact| fact.value.as_str())
}

fn names(candidate: &Candidate) -> Vec<&str> {
    candidate.papers.documents.iter().map(|document| document.name.as_str()).collect()
}

/// A directory with these files in it.
fn dir(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn refused(path: &Path, chosen: Option<&str>, kind: ErrorKind, says: &str) {
    let error = open(path, chosen).unwrap_err();
    assert!(error.to_string().contains(says), "{error}");
    assert_eq!(error.kind(), kind, "{error}");
}

#[test]
fn a_model_that_mlflow_wrote() {
    let found = open(&mlflow_model(), None).unwrap();
    assert_eq!(found.kind, "an MLflow model");
    assert_eq!(fact(&found, "mlflow:model_uuid"), "b7ea676e52d342f4a57280f7cde3517b");
    assert_eq!(fact(&found, "mlflow:version"), "3.17.2");
    assert_eq!(fact(&found, "mlflow:metadata:dataset"), "digits");
    assert!(fact(&found, "mlflow:signature_inputs").contains(r#""name": "image""#));
    assert_eq!(names(&found), ["MLmodel"]);
    // MLflow put the tensors beside it; they come back to where they were.
    assert!(found.notes[0].contains("18048 bytes of tensors beside "), "{:?}", found.notes);
    let (whole, once) = (&found.onnx.bytes, digits());
    let [whole, once] =
        [whole, &once].map(|bytes| fleetway_engine::validate::validate(bytes).unwrap());
    assert_eq!(whole.outline().tensors, once.outline().tensors);
}

#[test]
fn an_mlmodel_without_onnx_or_with_a_way_out_is_refused() {
    let digits = digits();
    let with = |text: &str| dir(&[("MLmodel", text.as_bytes()), ("model.onnx", &digits)]);
    let none = with("flavors:\n  sklearn: {}\n  python_function: {}\nrun_id: a\n");
    refused(none.path(), None, ErrorKind::Usage, "only python_function, sklearn");
    refused(with("flavors: {onnx: {}}").path(), None, ErrorKind::Usage, "names no `data`");
    refused(with("flavors: [").path(), None, ErrorKind::Usage, "no MLmodel that can be read");
    for named in ["/etc/passwd", "../secret.onnx", "a/../../secret.onnx"] {
        let text = format!("flavors: {{onnx: {{data: {named}}}}}");
        refused(with(&text).path(), None, ErrorKind::Trust, "not inside of it");
    }
    let linked = with("flavors: {onnx: {data: link.onnx}}");
    std::os::unix::fs::symlink("/etc/hostname", linked.path().join("link.onnx")).unwrap();
    refused(linked.path(), None, ErrorKind::Trust, "not inside of it");
    let good = with("flavors: {onnx: {data: model.onnx, onnx_version: 1.19}}");
    assert_eq!(open(good.path(), None).unwrap().onnx.bytes, digits);
    refused(good.path(), Some("other.onnx"), ErrorKind::NotFound, "it has model.onnx");
}

/// Ten aliases of ten aliases, and so on: the billion laughs.
#[test]
fn yaml_that_multiplies_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    let error = yaml::<serde_json::Value>(text.as_bytes()).unwrap_err();
    assert!(error.len() < 500, "{error}");
    assert!(yaml::<serde_json::Value>("[".repeat(100_000).as_bytes()).is_err());
}

const CARD: &[u8] =
    b"---\nlicense: apache-2.0\nbase_model: [a/b, c/d]\ntags:\n- onnx\n---\n# A model\n";

#[test]
fn a_directory_that_hf_downloaded() {
    let (digits, commit) = (digits(), "0123456789abcdef0123456789abcdef01234567");
    let note = format!("{commit}\n\"etag\"\n1700000000.0\n");
    let dir = dir(&[
        ("README.md", CARD),
        ("config.json", br#"{"model_type": "vit", "architectures": ["ViT"], "hidden": 1}"#),
        ("onnx/model.onnx", &digits),
        ("onnx/model_int8.onnx", &digits),
        (".cache/huggingface/download/onnx/model_int8.onnx.metadata", note.as_bytes()),
        (".cache/hidden.onnx", &digits),
        ("preprocessor_config.json", b"{}"),
        ("weights.safetensors", b"not taken"),
    ]);
    let all = "2 ONNX files in ";
    refused(dir.path(), None, ErrorKind::Usage, all);
    refused(dir.path(), None, ErrorKind::Usage, "onnx/model.onnx, onnx/model_int8.onnx; choose");
    refused(dir.path(), Some("model.onnx"), ErrorKind::NotFound, "it has onnx/model.onnx, onnx/");
    let found = open(dir.path(), Some("onnx/model_int8.onnx")).unwrap();
    assert_eq!(found.onnx.bytes, digits);
    assert_eq!(found.onnx.path, dir.path().join("onnx/model_int8.onnx"));
    assert_eq!(names(&found), ["README.md", "config.json", "preprocessor_config.json"]);
    for (name, value) in [
        ("huggingface:revision", commit),
        ("source:file", "onnx/model_int8.onnx"),
        ("huggingface:license", "apache-2.0"),
        ("huggingface:base_model", "a/b, c/d"),
        ("huggingface:model_type", "vit"),
        ("huggingface:architectures", "ViT"),
    ] {
        assert_eq!(fact(&found, name), value, "{name}");
    }
    assert!(found.notes.is_empty(), "{:?}", found.notes);
}

#[test]
fn what_is_wrong_with_a_document_keeps_no_model_out() {
    let digits = digits();
    let files: [(&str, &[u8]); 3] =
        [("m.onnx", &digits), ("README.md", b"---\nlicense: [\n---\n"), ("config.json", b"{")];
    let dir = dir(&files);
    fs::write(dir.path().join("LICENSE"), vec![b'x'; DOCUMENT_BYTES_MAX as usize + 1]).unwrap();
    let found = open(dir.path(), None).unwrap();
    assert_eq!(found.notes.len(), 3, "{:?}", found.notes);
    assert_eq!(names(&found), ["README.md", "config.json"]);
}

#[test]
fn a_source_that_is_none() {
    let nothing = dir(&[("weights.safetensors", b"")]);
    refused(nothing.path(), None, ErrorKind::NotFound, "export the model to ONNX first");
    refused(&nothing.path().join("absent"), None, ErrorKind::NotFound, "absent");
    refused(
        &nothing.path().join("weights.safetensors"),
        Some("a"),
        ErrorKind::Usage,
        "is one file",
    );
}

#[test]
fn facts_are_bounded() {
    let mut papers = Papers::default();
    papers.note("long", &"ä".repeat(ANNOTATION_BYTES_MAX));
    papers.note("lines", "a\nb\u{1b}[31m");
    papers.note("empty", "  ");
    assert!(papers.annotations[0].value.len() <= ANNOTATION_BYTES_MAX);
    assert_eq!(papers.annotations[1].value, "a b [31m");
    (0..100).for_each(|at| papers.note(&format!("n{at}"), "x"));
    assert_eq!(papers.annotations.len(), ANNOTATIONS_MAX);
    for (name, good) in
        [("README.md", true), ("..", false), (".x", false), ("a/b", false), ("", false)]
    {
        assert_eq!(is_document_name(name), good, "{name}");
    }
}
