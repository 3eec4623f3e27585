//! Where models come from: files of other tools, and artifacts that somebody else packed.

use fleetway_controller::catalog::oci::carry::Carried;
use fleetway_controller::catalog::oci::{
    Artifact, Descriptor, LAYERS_MAX, MODEL_CONFIG, Manifest, archive, layout, unpack,
};
use fleetway_controller::catalog::source::{
    ANNOTATION_BYTES_MAX, ANNOTATIONS_MAX, Papers, huggingface, mlflow,
};
use fleetway_controller::registry::Reference;
use fleetway_controller::registry::auth::{Challenge, in_config};
use fleetway_engine::external::External;
use fleetway_protocol::ids::Digest;

/// `MLmodel`, the head of a model card, `config.json`: whatever is taken from them is bounded.
pub(super) fn source(bytes: &[u8]) -> bool {
    let mut papers = Papers::default();
    let mlmodel = mlflow::read(bytes);
    if let Ok(read) = &mlmodel {
        let _ = read.data();
        read.annotate(&mut papers);
    }
    let card = huggingface::read_card(bytes, &mut papers);
    let config = huggingface::read_config(bytes, &mut papers);
    assert!(papers.annotations.len() <= ANNOTATIONS_MAX);
    for fact in &papers.annotations {
        assert!(fact.value.len() <= ANNOTATION_BYTES_MAX && !fact.value.contains(char::is_control));
    }
    mlmodel.is_ok() || card.is_ok() && !papers.annotations.is_empty() || config.is_ok()
}

pub(super) fn source_samples() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../../models/mlflow/model/MLmodel").to_vec(),
        b"---\nlicense: apache-2.0\nbase_model:\n- a/b\n---\n# A model\n".to_vec(),
        br#"{"model_type": "vit", "architectures": ["ViT"]}"#.to_vec(),
    ]
}

/// An artifact in one file, and what its manifest, its index and its configuration say.
pub(super) fn artifact(bytes: &[u8]) -> bool {
    let manifest = Manifest::read(bytes);
    if let Ok(manifest) = &manifest {
        assert!(manifest.layers.len() <= LAYERS_MAX);
        let _ = manifest.wanted();
    }
    let index = layout::the_one(bytes);
    let config = unpack::read_config(bytes);
    let file = archive::read(bytes);
    if let Ok((artifact, _)) = &file {
        // Whoever reads it finds the bytes that were named, or nothing.
        let read = artifact.read().expect("it was read");
        read.layers.iter().for_each(|layer| drop(artifact.blob(layer)));
        assert!(Carried::read(artifact).is_err(), "no release is in the sample");
    }
    manifest.is_ok() || index.is_ok() || config.is_ok() || file.is_ok()
}

pub(super) fn artifact_samples() -> Vec<Vec<u8>> {
    let config = br#"{"descriptor":{"name":"d"},"config":{"format":"onnx"}}"#.to_vec();
    let layer = Descriptor::of("application/vnd.cncf.model.weight.v1.raw", b"x").named("m.onnx");
    let manifest = Manifest {
        schema_version: 2,
        media_type: None,
        artifact_type: None,
        config: Descriptor::of(MODEL_CONFIG, &config),
        layers: vec![layer],
        annotations: Default::default(),
    };
    let manifest = serde_json::to_vec(&manifest).expect("encodes");
    let blobs = [config.clone(), b"x".to_vec()].map(|bytes| (Digest::of(&bytes), bytes)).into();
    let artifact = Artifact { manifest: manifest.clone(), blobs };
    let mut file = Vec::new();
    archive::write(&artifact, "v1", &mut file).expect("memory");
    vec![file, layout::index_of(&manifest, "v1"), manifest, config]
}

/// What a person types, and what a registry and a login leave: texts.
pub(super) fn registry(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    let reference = text.parse::<Reference>();
    if let Ok(reference) = &reference {
        assert_eq!(reference.to_string().parse::<Reference>().ok().as_ref(), Some(reference));
        assert!(!reference.repository.contains("..") || !reference.repository.contains("/../"));
    }
    let challenge = Challenge::read(text);
    let credentials = in_config(bytes, "r.example");
    reference.is_ok() || challenge.is_some() || credentials.is_ok()
}

pub(super) fn registry_samples() -> Vec<Vec<u8>> {
    [
        "oci://localhost:5000/team/digits:v1",
        r#"Bearer realm="https://a.example/token",service="r",scope="repository:a:pull""#,
        r#"{"auths": {"r.example": {"auth": "dTpw"}}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// An ONNX file whose tensors may lie elsewhere: brought in or refused, none stays outside.
pub(super) fn external(bytes: &[u8]) -> bool {
    let Ok(Some(external)) = External::find(bytes) else { return false };
    let names = external.locations().into_iter().map(str::to_owned);
    let files = names.map(|name| (name, vec![0; 1 << 16])).collect();
    let Ok(whole) = external.inline(&files) else { return false };
    assert!(matches!(External::find(&whole), Ok(None)));
    true
}

pub(super) fn external_samples() -> Vec<Vec<u8>> {
    vec![include_bytes!("../../models/mlflow/model/model.onnx").to_vec()]
}
