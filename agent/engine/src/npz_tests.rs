//! Hostile and unusual `.npz` files.

use super::*;
use std::io::Write;
use zip::write::SimpleFileOptions;

fn npz(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}

fn header(descr: &str, fortran: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n")
}

#[test]
fn a_plain_file() {
    let bytes = npz(&[("in.x.npy", &npy(&header("|u1", "False", "(2, 3)"), &[1, 2, 3, 4, 5, 6]))]);
    let arrays = read_npz(&bytes).unwrap();
    assert_eq!(arrays[0].0, "in.x");
    assert_eq!(
        arrays[0].1,
        Tensor::from_le_bytes(DType::U8, &[2, 3], &[1, 2, 3, 4, 5, 6]).unwrap()
    );
}

#[test]
fn everything_else_is_refused() {
    let nested = format!("{}1{}", "(".repeat(60_000), ")".repeat(5));
    let cases: [(&str, Vec<u8>); 9] = [
        ("Fortran order", npy(&header("|u1", "True", "(2, 3)"), &[0; 6])),
        ("element type", npy(&header("<c8", "False", "(1,)"), &[0; 8])),
        ("element type", npy(&header(">f4", "False", "(1,)"), &[0; 4])),
        ("are not the", npy(&header("<f4", "False", "(2,)"), &[0; 4])),
        ("more than", npy(&header("<f4", "False", "(9000000000000000000, 9)"), &[0; 4])),
        ("header of", npy(&nested, &[])),
        ("no npy file", b"short".to_vec()),
        ("no npy file", b"something quite different".to_vec()),
        ("no boolean", npy(&header("|b1", "False", "(1,)"), &[2])),
    ];
    for (want, content) in cases {
        let error = read_npz(&npz(&[("a.npy", &content)])).unwrap_err().to_string();
        assert!(error.contains(want), "`{want}` is missing in: {error}");
    }
    assert!(matches!(read_npz(b"PK, but no zip"), Err(NpzError::Zip(_))));
}

#[test]
fn a_zip_bomb_stops_at_the_bound() {
    let zeros = vec![0; NPZ_BYTES_MAX / 2 + 1_000];
    let array = npy(&header("|u1", "False", &format!("({},)", zeros.len())), &zeros);
    let bytes = npz(&[("a.npy", &array), ("b.npy", &array)]);
    assert!(bytes.len() < 1 << 20, "it should be small: {}", bytes.len());
    assert!(matches!(read_npz(&bytes), Err(NpzError::TooLarge { .. })));
}
