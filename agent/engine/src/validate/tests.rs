//! Every rule, as data: one fault in an otherwise sound file, and the number of the reason.

use super::*;
use std::path::PathBuf;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{
    AttributeProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
};

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/digits")
}

fn number(bytes: &[u8]) -> Option<u16> {
    validate(bytes).err().map(|refused| refused.number())
}

#[test]
fn sound_models_pass() {
    for name in ["digits-v1", "digits-v2", "digits-v3", "digits-v4", "softmax-tail"] {
        let model = validate(&std::fs::read(dir().join(format!("{name}.onnx"))).unwrap()).unwrap();
        assert_eq!(model.inputs()[0].to_string(), "`image` f32[1, 1, 8, 8]");
        assert_eq!(model.outputs(), ["scores"]);
    }
}

#[test]
fn hostile_files_are_refused_for_the_right_reason() {
    let reasons = [
        ("empty", 3),
        ("random", 2),
        ("truncated", 2),
        ("cycle", 13),
        ("dims-huge", 9),
        ("external-data", 7),
        ("duplicate-output-names", 12),
        ("output-names-nothing", 14),
        ("unknown-op", 16),
        ("long-chain", 5),
        ("conv-pads-huge", 18),
        ("conv-pads-large", 18),
        ("conv-stride-zero", 18),
        ("maxpool-kernel-huge", 18),
        ("maxpool-kernel-zero", 18),
        ("transpose-bad-perm", 18),
        ("flatten-axis-9", 21),
        ("constantofshape-huge", 22),
        ("constantofshape-negative", 22),
        ("onehot-depth-huge", 22),
        ("range-step-zero", 22),
        ("resize-huge", 22),
        ("tile-huge", 22),
        ("scale-nan", 20),
        ("scale-zero", 20),
        ("scale-wrong-length", 20),
        ("div-by-zero-at-run", 24),
    ];
    for (name, want) in reasons {
        let bytes = std::fs::read(dir().join("hostile").join(format!("{name}.onnx"))).unwrap();
        assert_eq!(number(&bytes), Some(want), "{name}");
    }
    let files = std::fs::read_dir(dir().join("hostile")).unwrap();
    let files = files
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|ext| ext == "onnx"));
    assert_eq!(files.count(), reasons.len(), "a hostile file without an expected reason");
}

/// `image` f32[1,1,8,8] -> one node -> `scores`, with a few constants to choose from.
fn one_node(node: NodeProto) -> ModelProto {
    let mut model =
        ModelProto::decode(&std::fs::read(dir().join("digits-v2.onnx")).unwrap()[..]).unwrap();
    let graph = model.graph.as_mut().unwrap();
    graph.node = vec![node];
    graph.initializer = vec![
        ints("ints", &[2, 3]),
        ints("zero", &[0]),
        ints("many", &[1 << 20, 1 << 20]),
        floats("floats", &[1.0, 2.0]),
        floats("kernel", &[0.5; 9]),
    ];
    graph.initializer[4].dims = vec![1, 1, 3, 3];
    model
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    let (dims, data_type) = (vec![values.len() as i64], DataType::Int64 as i32);
    TensorProto {
        name: name.into(),
        dims,
        data_type,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn floats(name: &str, values: &[f32]) -> TensorProto {
    let (dims, data_type) = (vec![values.len() as i64], DataType::Float as i32);
    TensorProto {
        name: name.into(),
        dims,
        data_type,
        float_data: values.to_vec(),
        ..Default::default()
    }
}

/// `Op(image, a, b; attribute = 1 2 3)`.
fn node(op: &str, inputs: &[&str], attributes: &[(&str, &[i64])]) -> NodeProto {
    let attribute = attributes.iter().map(|(name, values)| AttributeProto {
        name: (*name).to_owned(),
        r#type: if values.len() == 1 { AttributeType::Int } else { AttributeType::Ints } as i32,
        i: if values.len() == 1 { values[0] } else { 0 },
        ints: if values.len() == 1 { vec![] } else { values.to_vec() },
        ..Default::default()
    });
    NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec!["scores".into()],
        attribute: attribute.collect(),
        ..Default::default()
    }
}

#[test]
fn one_rule_for_each_kind_of_node() {
    type Case<'a> = (Option<u16>, &'a str, &'a [&'a str], &'a [(&'a str, &'a [i64])]);
    let cases: &[Case] = &[
        (None, "Relu", &["image"], &[]),
        (None, "Conv", &["image", "kernel"], &[("pads", &[1, 1, 1, 1]), ("strides", &[2, 2])]),
        (None, "Transpose", &["image"], &[("perm", &[0, 2, 3, 1])]),
        (None, "Softmax", &["image"], &[("axis", &[-4])]),
        (None, "Reshape", &["image", "ints"], &[]),
        (None, "TopK", &["image", "ints"], &[]),
        (Some(13), "Add", &["image", "nothing"], &[]),
        (Some(17), "If", &["image"], &[]),
        (Some(17), "RandomNormalLike", &["image"], &[]),
        (Some(18), "Conv", &["image", "kernel"], &[("dilations", &[1, 0])]),
        (Some(18), "Conv", &["image", "kernel"], &[("kernel_shape", &[5, 5])]),
        (Some(18), "Conv", &["image", "kernel"], &[("group", &[0])]),
        (Some(22), "Conv", &["image", "kernel"], &[("group", &[2])]),
        (Some(22), "Conv", &["image", "ints"], &[]),
        (Some(23), "Conv", &["image"], &[]),
        (Some(18), "Conv", &["image", "kernel"], &[("pads", &[1, 1, 1])]),
        (Some(18), "Conv", &["image", "kernel"], &[("pads", &[1, 1]), ("strides", &[1, 1])]),
        (Some(18), "MaxPool", &["image"], &[]),
        (Some(18), "Relu", &["image"], &[("whatever", &[1 << 40])]),
        (Some(18), "Relu", &["image"], &[("same", &[1]), ("same", &[1])]),
        (Some(18), "Transpose", &["image"], &[("perm", &[1, 0])]),
        (Some(18), "DepthToSpace", &["image"], &[("blocksize", &[0])]),
        (Some(21), "Softmax", &["image"], &[("axis", &[9])]),
        (Some(21), "Concat", &["image", "image"], &[("axis", &[4])]),
        (Some(19), "ConstantOfShape", &["image"], &[]),
        (Some(19), "Tile", &["image", "image"], &[]),
        (Some(22), "Expand", &["image", "many"], &[]),
        (Some(22), "ConstantOfShape", &["zero"], &[]),
        (Some(22), "TopK", &["image", "zero"], &[]),
        (Some(22), "Pad", &["image", "many"], &[]),
        (Some(22), "Slice", &["image", "zero", "zero", "zero", "zero"], &[]),
        (Some(19), "Resize", &["image", "", "ints"], &[]),
        (Some(24), "Mod", &["image", "zero"], &[]),
        (Some(20), "QuantizeLinear", &["image", "ints"], &[]),
        (Some(20), "QuantizeLinear", &["image", "floats"], &[("axis", &[1])]),
        (Some(20), "DequantizeLinear", &["image", "floats"], &[("axis", &[9])]),
        (Some(23), "QuantizeLinear", &["image"], &[]),
        (Some(19), "QuantizeLinear", &["image", "image"], &[]),
    ];
    for (want, op, inputs, attributes) in cases {
        let model = one_node(node(op, inputs, attributes));
        let got = validate(&model.encode_to_vec());
        assert_eq!(
            got.as_ref().err().map(Refused::number),
            *want,
            "{op} {inputs:?} {attributes:?}: {got:?}"
        );
    }
}

#[test]
fn one_rule_for_each_part_of_the_file() {
    type Fault = fn(&mut ModelProto);
    fn graph(model: &mut ModelProto) -> &mut GraphProto {
        model.graph.as_mut().unwrap()
    }
    fn shape(model: &mut ModelProto) -> &mut tensor_shape_proto::Dimension {
        let Some(type_proto::Value::TensorType(tensor)) =
            &mut graph(model).input[0].r#type.as_mut().unwrap().value
        else {
            panic!("no tensor")
        };
        &mut tensor.shape.as_mut().unwrap().dim[2]
    }
    let faults: [(u16, Fault); 20] = [
        (3, |m| m.graph = None),
        (4, |m| m.opset_import[0].version = 8),
        (4, |m| m.opset_import[0].version = 99),
        (4, |m| m.opset_import.clear()),
        (5, |m| graph(m).output = vec![Default::default(); 65]),
        (6, |m| m.functions.push(Default::default())),
        (6, |m| m.opset_import.push(OperatorSetIdProto { version: 13, ..Default::default() })),
        (6, |m| graph(m).sparse_initializer.push(Default::default())),
        (6, |m| graph(m).node[0].output.clear()),
        (7, |m| graph(m).initializer[0].external_data.push(StringStringEntryProto::default())),
        (8, |m| graph(m).initializer[0].data_type = DataType::Bfloat16 as i32),
        (8, |m| graph(m).initializer[0].data_type = 99),
        (9, |m| graph(m).initializer[0].dims = vec![-2]),
        (9, |m| graph(m).initializer[0].dims = vec![1; 9]),
        (10, |m| graph(m).initializer[0].dims = vec![3]),
        (11, |m| graph(m).initializer[0].name = "x".repeat(2_000)),
        (12, |m| graph(m).initializer[0].name = "zero".into()),
        (15, |m| shape(m).value = Some(Dim::DimParam("width".into()))),
        (15, |m| shape(m).value = Some(Dim::DimValue(1 << 40))),
        (16, |m| graph(m).node[0].domain = "com.example".into()),
    ];
    for (at, (want, fault)) in faults.into_iter().enumerate() {
        let mut model = one_node(node("Relu", &["image"], &[]));
        fault(&mut model);
        let got = validate(&model.encode_to_vec());
        assert_eq!(got.as_ref().err().map(Refused::number), Some(want), "fault {at}: {got:?}");
    }
    assert_eq!(number(&vec![0; limits::MODEL_BYTES_MAX + 1]), Some(1));
}

#[test]
fn an_open_batch_axis_becomes_one() {
    for open in
        [None, Some(Dim::DimParam("N".into())), Some(Dim::DimValue(-1)), Some(Dim::DimValue(0))]
    {
        let mut model = one_node(node("Relu", &["image"], &[]));
        let input = &mut model.graph.as_mut().unwrap().input[0];
        let Some(type_proto::Value::TensorType(tensor)) = &mut input.r#type.as_mut().unwrap().value
        else {
            panic!()
        };
        tensor.shape.as_mut().unwrap().dim[0].value = open;
        assert_eq!(validate(&model.encode_to_vec()).unwrap().inputs()[0].shape, [1, 1, 8, 8]);
    }
}

#[test]
fn messages_name_the_thing_and_the_mend() {
    let message = |node| validate(&one_node(node).encode_to_vec()).unwrap_err().to_string();
    let text = message(node("Conv", &["image", "kernel"], &[("strides", &[0, 1])]));
    assert_eq!(text, "node `scores` (Conv): attribute `strides` has 0, allowed are 1 to 4096");
    let text = message(node("Tile", &["image", "image"], &[]));
    assert!(
        text.ends_with(
            "fold constants (onnxsim, or onnxruntime's basic optimization) and export again"
        ),
        "{text}"
    );
}
