//! A device that is born with a factory model: the copy of a slot, in whichever form its agent runs,
//! served without a network; and every way in which it can be none, each with its own sentence.

use super::*;
use fleetway_protocol::slot::Place;
use std::fs;

const QNN: &[VariantKind] = &[VariantKind::Qnn];
const ONNX: &[VariantKind] = &[VariantKind::Onnx];

/// What a new device makes of the slot of one that runs `slot_of`, after `spoil` was at it: what it
/// serves, or what it says.
fn born(
    slot_of: &'static [VariantKind],
    forms: &'static [VariantKind],
    spoil: impl Fn(&Path),
) -> Result<(VariantKind, Digest), String> {
    let (bench, _) = Box::running_forms(slot_of).run_one();
    let (factory, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let to = factory.path().join("digits");
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(bench.dir.path().join("models/digits/slot-a")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    spoil(&to);
    let store = Store::open(RealFs, data.path(), Some(factory.path())).unwrap();
    let mut device = Device::open(config(&bench.pinned, forms, false), store, bench.now).unwrap();
    let job = loop {
        match device.poll() {
            Some(Output::Activate(job)) => break job,
            Some(_) => {}
            None => {
                let said = device.factory_problems().collect::<Vec<_>>().join("\n");
                assert_eq!(device.stored()[0].no_factory.is_some(), !said.is_empty());
                return Err(said);
            }
        }
    };
    assert_eq!((job.place, device.factory_problems().count()), (Place::Factory, 0));
    let (variant, release) = (job.variant, job.manifest.digest());
    device.handle_activated(bench.now, &job.model, job.token, Ok(release));
    assert_eq!(device.status(bench.now)[0].running, Some((Place::Factory, release)));
    Ok((variant, release))
}

#[test]
fn it_is_served_in_the_form_that_lies_there() {
    let (_, one) = Box::running_one();
    let whole = |_: &Path| {};
    assert_eq!(born(QNN, QNN, whole), Ok((VariantKind::Qnn, one.digest)), "an agent without tract");
    assert_eq!(born(QNN, FORMS, whole), Ok((VariantKind::Qnn, one.digest)));
    assert_eq!(born(ONNX, FORMS, whole), Ok((VariantKind::Onnx, one.digest)));
    let shorter = |dir: &Path| fs::remove_file(dir.join("golden")).unwrap();
    assert_eq!(
        born(QNN, QNN, shorter),
        Err(String::new()),
        "bytes are checked where they are served"
    );
}

#[test]
fn what_cannot_be_served_is_said_with_its_mend() {
    let refused = |slot_of, forms, spoil: &dyn Fn(&Path), expected: &str| {
        let said = born(slot_of, forms, spoil).unwrap_err();
        let expected = format!("the factory model of digits is not served: {expected}");
        assert!(said.starts_with(&expected), "{said}");
        assert!(said.contains("; "), "a mend: {said}");
    };
    refused(ONNX, QNN, &|_| {}, "it is an ONNX file, and this agent has no tract");
    refused(QNN, ONNX, &|_| {}, "this agent runs no models of the form Qnn");
    let gone = |name: &'static str| move |dir: &Path| fs::remove_file(dir.join(name)).unwrap();
    refused(QNN, QNN, &gone("release"), "there is no signed release beside it");
    refused(QNN, QNN, &gone("keyset"), "nobody whom this device believes signed");
    refused(QNN, QNN, &gone("model"), "its file `model` cannot be read (");
    let cut = |dir: &Path| {
        let file = fs::File::options().write(true).open(dir.join("model")).unwrap();
        file.set_len(900).unwrap();
    };
    refused(QNN, QNN, &cut, "its file `model` (900 bytes) is no form of the release");
    let altered = |dir: &Path| {
        let mut bytes = fs::read(dir.join("model")).unwrap();
        bytes[0] ^= 1;
        fs::write(dir.join("model"), bytes).unwrap();
    };
    refused(QNN, QNN, &altered, "its file `model` (");
    // A directory without anything in it is no factory model, and nothing to speak of.
    let empty = |dir: &Path| {
        for entry in fs::read_dir(dir).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    };
    assert_eq!(born(QNN, QNN, empty), Err(String::new()));
}
