//! ONNX files whose tensors lie in files beside them, made one file.
//!
//! Exporters write so by default (MLflow every tensor of 1 KiB and more), and a release is one file
//! whose every byte is signed. The caller reads the files, within its own directory and bounds; here
//! only bytes are put where they belong. Tensors inside the bodies of control flow stay outside, and
//! the validator refuses such a file, as it refuses control flow.

use std::collections::BTreeMap;

use prost::Message as _;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{ModelProto, TensorProto};

use crate::limits::{self, bounded};
use crate::validate::Refused;

/// A file with tensors outside of it.
#[derive(Debug)]
pub struct External {
    proto: ModelProto,
}

/// Why the tensors could not be brought in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExternalError {
    /// No file, offset or length that can be.
    #[error(
        "tensor `{tensor}` lies outside of the file, and its {what} cannot be read: export again"
    )]
    Entry {
        /// Its name.
        tensor: String,
        /// Which entry.
        what: &'static str,
    },
    /// The file ends before the tensor does.
    #[error(
        "tensor `{tensor}` lies in {file} at {offset}, which ends before it does: copy all files of the model"
    )]
    Short {
        /// Its name.
        tensor: String,
        /// The file.
        file: String,
        /// Where it should begin, bytes.
        offset: usize,
    },
    /// More than one file may have.
    #[error("its tensors have more than {} bytes together", limits::MODEL_BYTES_MAX)]
    TooLarge,
}

impl External {
    /// Decodes a file; `None` if all its tensors are in it.
    ///
    /// # Errors
    /// [`Refused`], if it is no ONNX file or over the bound.
    pub fn find(bytes: &[u8]) -> Result<Option<Self>, Refused> {
        if bytes.len() > limits::MODEL_BYTES_MAX {
            return Err(Refused::FileTooLarge { bytes: bytes.len() });
        }
        let mut proto = ModelProto::decode(bytes)
            .map_err(|e| Refused::NotOnnx { detail: bounded(e.to_string()) })?;
        let has = tensors(&mut proto).any(|tensor| is_outside(tensor));
        Ok(has.then_some(Self { proto }))
    }

    /// The files that are named, each once, as they are written.
    pub fn locations(&self) -> Vec<&str> {
        let graph = self.proto.graph.iter();
        let stored = graph.clone().flat_map(|graph| graph.initializer.iter());
        let given = graph.flat_map(|graph| &graph.node).flat_map(|node| &node.attribute);
        let all = stored.chain(given.filter_map(|attribute| attribute.t.as_ref()));
        let mut names: Vec<&str> =
            all.filter(|tensor| is_outside(tensor)).filter_map(|t| entry(t, "location")).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The model in one file, with the bytes of `files`, by name.
    ///
    /// # Errors
    /// [`ExternalError`].
    pub fn inline(mut self, files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, ExternalError> {
        let mut total = 0usize;
        for tensor in tensors(&mut self.proto).filter(|tensor| is_outside(tensor)) {
            let data = data_of(tensor, files)?;
            // Several tensors may name the same bytes: a small file could become a huge one.
            total = total.saturating_add(data.len());
            if total > limits::MODEL_BYTES_MAX {
                return Err(ExternalError::TooLarge);
            }
            tensor.raw_data = data.to_vec();
            tensor.external_data.clear();
            tensor.data_location = None;
        }
        Ok(self.proto.encode_to_vec())
    }
}

/// Every tensor of the main graph.
fn tensors(proto: &mut ModelProto) -> impl Iterator<Item = &mut TensorProto> {
    let graph = proto.graph.as_mut();
    let (stored, nodes) = graph.map(|graph| (&mut graph.initializer, &mut graph.node)).unzip();
    let given = nodes.into_iter().flatten().flat_map(|node| &mut node.attribute);
    let given = given.filter_map(|attribute| attribute.t.as_mut());
    stored.into_iter().flatten().chain(given)
}

fn is_outside(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32)
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

/// The tensor's bytes in the file that it names.
fn data_of<'a>(
    tensor: &TensorProto,
    files: &'a BTreeMap<String, Vec<u8>>,
) -> Result<&'a [u8], ExternalError> {
    let name = || bounded(tensor.name.clone());
    let wrong = |what| ExternalError::Entry { tensor: name(), what };
    let number = |key| entry(tensor, key).map(str::parse::<usize>).transpose();
    let location = entry(tensor, "location").ok_or_else(|| wrong("location"))?;
    let file = files.get(location).ok_or_else(|| wrong("location"))?;
    let offset = number("offset").map_err(|_| wrong("offset"))?.unwrap_or(0);
    let length = number("length").map_err(|_| wrong("length"))?;
    let end = length.map_or(Some(file.len()), |length| offset.checked_add(length));
    let short =
        || ExternalError::Short { tensor: name(), file: bounded(location.to_owned()), offset };
    end.and_then(|end| file.get(offset..end)).ok_or_else(short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{GraphProto, StringStringEntryProto};

    fn outside(name: &str, entries: &[(&str, &str)]) -> TensorProto {
        let entries = entries.iter().map(|(key, value)| StringStringEntryProto {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        });
        TensorProto {
            name: name.to_owned(),
            dims: vec![2],
            data_type: 1,
            data_location: Some(DataLocation::External as i32),
            external_data: entries.collect(),
            ..TensorProto::default()
        }
    }

    fn file(tensors: Vec<TensorProto>) -> Vec<u8> {
        let graph = GraphProto { initializer: tensors, ..GraphProto::default() };
        ModelProto { graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
    }

    fn inline(entries: &[(&str, &str)]) -> Result<Vec<u8>, ExternalError> {
        let found = External::find(&file(vec![outside("w", entries)])).unwrap().unwrap();
        let beside: Vec<u8> = (0..16).collect();
        found.inline(&[("w.bin".to_owned(), beside)].into())
    }

    #[test]
    fn bytes_come_from_where_the_entries_say() {
        let whole = inline(&[("location", "w.bin"), ("offset", "4"), ("length", "8")]).unwrap();
        let proto = ModelProto::decode(&whole[..]).unwrap();
        assert_eq!(proto.graph.unwrap().initializer[0].raw_data, (4..12).collect::<Vec<u8>>());
        assert!(External::find(&whole).unwrap().is_none(), "nothing is left outside");
        let whole = inline(&[("location", "w.bin")]).unwrap();
        let proto = ModelProto::decode(&whole[..]).unwrap();
        assert_eq!(proto.graph.unwrap().initializer[0].raw_data.len(), 16, "all of it");
    }

    #[test]
    fn entries_that_cannot_be_are_told() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[("offset", "0")], "location cannot be read"),
            (&[("location", "other.bin")], "location cannot be read"),
            (&[("location", "w.bin"), ("offset", "-1")], "offset cannot be read"),
            (&[("location", "w.bin"), ("offset", "9"), ("length", "8")], "ends before it"),
            (&[("location", "w.bin"), ("offset", "17")], "ends before it"),
            (&[("location", "w.bin"), ("offset", "1"), ("length", "18446744073709551615")], "ends"),
        ];
        for (entries, expected) in cases {
            let error = inline(entries).unwrap_err().to_string();
            assert!(error.contains(expected), "{entries:?}: {error}");
        }
    }

    #[test]
    fn one_file_named_a_thousand_times_does_not_grow_without_end() {
        let tensor = outside("w", &[("location", "w.bin")]);
        let found = External::find(&file(vec![tensor; 300])).unwrap().unwrap();
        assert_eq!(found.locations(), ["w.bin"]);
        let files = [("w.bin".to_owned(), vec![0; 1 << 20])].into();
        assert_eq!(found.inline(&files), Err(ExternalError::TooLarge));
    }
}
