//! What a device's maker does, by hand: makes the device's key and writes the page that it is born with.
//! Whom it believes and its factory model come from a controller's data directory; its public key, for
//! `fleetway device adopt`, is printed. [docs/gateway.md](../../../docs/gateway.md) says when.
//!
//! ```text
//! cargo run -p fleetway-emulator --example provision -- DATA ID CLASS MODEL@VERSION PAGE
//! ```

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use data_encoding::BASE64;
use fleetway_emulator::{Birth, FactoryModel};
use fleetway_protocol::ids::Digest;

const USAGE: &str = "usage: provision DATA ID CLASS MODEL@VERSION PAGE: the controller's data directory, who the device is, its hardware class, a signed release for its factory model, and the file to write";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, id, class, release, page] = arguments.as_slice() else { return Err(USAGE.into()) };
    let (model, version) = release.split_once('@').ok_or(USAGE)?;
    let data = Path::new(data);
    let keyset = read(&data.join("trust/metadata/1.keyset"))?;
    let catalog = data.join("catalog").join(model).join(version);
    let file = |name: &str| read(&catalog.join(name));
    let (signed, golden, network) =
        (file("release.env")?, file("golden-qnn.bin")?, file("model.qnn")?);
    let factory = FactoryModel::released(signed, keyset.clone(), golden, network);
    let mut seed = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let ca = Digest::of(&certificate(&read(&data.join("pki/ca.pem"))?)?);
    let (id, model, hardware) = (id.parse()?, model.parse()?, class.parse()?);
    let birth = Birth { id, model, hardware, ca, seed, keyset: &keyset };
    fs::write(page, birth.page(&factory)).map_err(|error| format!("{page}: {error}"))?;
    let key = birth.public_key().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    println!("{key}");
    eprintln!("{page} holds the device's secret key: put it into its flash, and keep no copy");
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The certificate in a PEM file.
fn certificate(pem: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let text = std::str::from_utf8(pem)?;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    Ok(BASE64.decode(body.as_bytes())?)
}
