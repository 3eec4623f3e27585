//! What a release's manifest says of its health: the operator's policy, and the reference that
//! is made by running samples through the model, in the self-test's child.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use fleetway_engine::GoldenSet;
use fleetway_engine::limits::SAMPLES_BYTES_MAX;
use fleetway_engine::samples::{Sample, SampleSet, Sampled};
use fleetway_engine::selftest::{Candidate, SelfTest};
use fleetway_engine::watch::{are_shares, top_class};
use fleetway_protocol::counters::{Confidence, Scores};
use fleetway_protocol::drift::{REFERENCE_SAMPLES_MIN, Reference, Watch, Watched};
use fleetway_protocol::health::{Health, HealthPolicy};
use fleetway_protocol::limits::{CLASSES_MAX, WATCHED_MAX};

use super::CatalogError;
use super::files::read;

/// Inputs whose mean is watched when the operator names nothing. With the confidence it leaves
/// room for nobody to wonder where the other numbers went.
const INPUTS_WATCHED: usize = 4;
/// Reference samples from which false alarms are rare enough not to be mentioned
/// (`protocol/tests/drift.rs`).
const SAMPLES_PLENTY: usize = 1000;

/// What an importer says of a release's health.
#[derive(Clone, Debug)]
pub struct HealthRequest {
    /// The bounds.
    pub policy: HealthPolicy,
    /// An `.npz` with an array `in.<input>` for each input: what the model shall be fed in use.
    pub reference: Option<PathBuf>,
    /// Numbers to watch; `None` for the mean of each input and the confidence.
    pub watch: Option<Vec<WatchName>>,
    /// Whether the distribution of the classes is watched.
    pub classes: bool,
}

impl Default for HealthRequest {
    fn default() -> Self {
        Self { policy: HealthPolicy::default(), reference: None, watch: None, classes: true }
    }
}

/// A number to watch, as a person names it: `mean(image)`, `spread(image)`, `element(x, 3)`,
/// `confidence`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchName {
    /// Mean over an input.
    Mean(String),
    /// Standard deviation over an input.
    Spread(String),
    /// One element of an input, row-major.
    Element(String, u32),
    /// Confidence of the answer.
    Confidence,
}

/// Not the name of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a watched number is mean(INPUT), spread(INPUT), element(INPUT, N) or confidence")]
pub struct WatchNameError;

impl FromStr for WatchName {
    type Err = WatchNameError;

    fn from_str(text: &str) -> Result<Self, WatchNameError> {
        if text.trim() == "confidence" {
            return Ok(Self::Confidence);
        }
        let call = text.trim().strip_suffix(')').and_then(|text| text.split_once('('));
        let (verb, inside) = call.ok_or(WatchNameError)?;
        let input = inside.trim().to_owned();
        match verb.trim() {
            _ if input.is_empty() => Err(WatchNameError),
            "mean" => Ok(Self::Mean(input)),
            "spread" => Ok(Self::Spread(input)),
            "element" => {
                let (input, at) = inside.rsplit_once(',').ok_or(WatchNameError)?;
                let at = at.trim().parse().map_err(|_| WatchNameError)?;
                Ok(Self::Element(input.trim().to_owned(), at))
            }
            _ => Err(WatchNameError),
        }
    }
}

impl fmt::Display for WatchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mean(input) => write!(f, "mean({input})"),
            Self::Spread(input) => write!(f, "spread({input})"),
            Self::Element(input, at) => write!(f, "element({input}, {at})"),
            Self::Confidence => f.write_str("confidence"),
        }
    }
}

/// What goes into the manifest, and what the importer should know of it.
pub(super) struct Made {
    pub(super) health: Health,
    pub(super) notes: Vec<String>,
}

/// Makes what the manifest says, from the policy, the golden vectors and the reference.
pub(super) fn make(
    request: &HealthRequest,
    onnx: &[u8],
    golden: &GoldenSet,
    test: &SelfTest,
) -> Result<Made, CatalogError> {
    let policy = request.policy;
    let known = scores_of(golden);
    let Some(path) = &request.reference else {
        if let Some(watch) = request.watch.iter().flatten().next() {
            let detail = format!("{watch} is to be watched, and there is nothing to compare with");
            return Err(CatalogError::NoReference { detail });
        }
        let health = Health { policy, scores: known, reference: Reference::default() };
        return Ok(Made { health, notes: Vec::new() });
    };
    let wrong = |detail: String| CatalogError::Reference { path: path.clone(), detail };
    let set = SampleSet::from_npz(&read(path, SAMPLES_BYTES_MAX as u64)?)
        .map_err(|error| wrong(error.to_string()))?;
    if set.len() < REFERENCE_SAMPLES_MIN as usize {
        return Err(wrong(format!(
            "it has {} samples, at least {REFERENCE_SAMPLES_MIN} are needed to tell drift from chance",
            set.len()
        )));
    }
    let watch = places(request, &set, known).map_err(wrong)?;
    let batches = set.batches(&watch).map_err(|error| wrong(error.to_string()))?;
    let mut all = Sampled { watch: Vec::new(), samples: Vec::new() };
    for batch in &batches {
        let more = test
            .sample(Candidate::onnx(onnx), batch)
            .map_err(|source| CatalogError::SelfTest { source })?;
        all.watch = more.watch;
        all.samples.extend(more.samples);
    }
    let mut notes = Vec::new();
    if all.samples.len() < SAMPLES_PLENTY {
        notes.push(format!(
            "{} reference samples: {SAMPLES_PLENTY} or more make false alarms of drift rarer",
            all.samples.len()
        ));
    }
    let scores = known.map(|known| match known {
        Scores::Probabilities if all.samples.iter().all(|s| s.shares) => Scores::Probabilities,
        _ => Scores::Logits,
    });
    let scores = scores.filter(|_| all.samples.iter().all(|sample| sample.class.is_some()));
    let reference = reference(request, &all, scores, &mut notes).map_err(wrong)?;
    Ok(Made { health: Health { policy, scores, reference }, notes })
}

/// What the first output is, by the golden vectors; `None` if it is not one vector of scores.
fn scores_of(golden: &GoldenSet) -> Option<Scores> {
    let mut first = golden.vectors().iter().map(|vector| vector.outputs.first());
    let mut shares = true;
    first.try_for_each(|output| {
        let output = output.filter(|output| top_class(output, 1).is_some())?;
        shares &= are_shares(output);
        Some(())
    })?;
    Some(if shares { Scores::Probabilities } else { Scores::Logits })
}

/// The numbers to watch, with inputs counted as the set does.
fn places(
    request: &HealthRequest,
    set: &SampleSet,
    scores: Option<Scores>,
) -> Result<Vec<Watch>, String> {
    let Some(names) = &request.watch else {
        let means = (0..).take(set.inputs().count().min(INPUTS_WATCHED));
        let means = means.map(|input| Watch::Mean { input });
        return Ok(means.chain(scores.map(|_| Watch::Confidence)).collect());
    };
    if names.len() > WATCHED_MAX {
        return Err(format!("{} numbers to watch, at most {WATCHED_MAX}", names.len()));
    }
    let input = |name: &String| {
        let found = set.inputs().position(|input| input == name);
        found.and_then(|at| u8::try_from(at).ok()).ok_or_else(|| {
            let have: Vec<&str> = set.inputs().collect();
            format!("the watched input {name:?} is none of its inputs: {}", have.join(", "))
        })
    };
    let place = |name: &WatchName| match name {
        WatchName::Mean(name) => Ok(Watch::Mean { input: input(name)? }),
        WatchName::Spread(name) => Ok(Watch::Spread { input: input(name)? }),
        WatchName::Element(name, at) => Ok(Watch::Element { input: input(name)?, at: *at }),
        WatchName::Confidence if scores.is_none() => {
            Err("the confidence cannot be watched: the model's first output is no vector of scores"
                .to_owned())
        }
        WatchName::Confidence => Ok(Watch::Confidence),
    };
    names.iter().map(place).collect()
}

fn reference(
    request: &HealthRequest,
    all: &Sampled,
    scores: Option<Scores>,
    notes: &mut Vec<String>,
) -> Result<Reference, String> {
    let confidence = |sample: &Sample| match scores {
        Some(Scores::Probabilities) => Some(sample.as_probabilities),
        Some(Scores::Logits) => Some(sample.as_logits),
        None => None,
    };
    let mut reference = Reference::default();
    for (at, what) in all.watch.iter().enumerate() {
        let number = |sample: &Sample| match what {
            Watch::Confidence => confidence(sample).map(Confidence::share),
            _ => sample.numbers.get(at).copied().flatten(),
        };
        let numbers: Option<Vec<f32>> = all.samples.iter().map(number).collect();
        let mut numbers = numbers.ok_or_else(|| format!("{what} is not there"))?;
        if !numbers.iter().all(|number| number.is_finite()) {
            return Err(format!("{what} is not a finite number in every sample"));
        }
        numbers.sort_unstable_by(f32::total_cmp);
        match Watched::from_sorted(*what, &numbers) {
            // There are at most so many names.
            Some(watched) => drop(reference.watched.push(watched)),
            None => notes.push(format!("{what} is the same in every sample: not watched")),
        }
    }
    if scores.is_none() {
        return Ok(reference);
    }
    let mean = |sum: u64| Confidence(u16::try_from(sum / all.samples.len() as u64).unwrap_or(0));
    let sum = all.samples.iter().filter_map(confidence).map(|c| u64::from(c.0)).sum();
    reference.confidence = Some(mean(sum));
    if request.classes {
        for class in all.samples.iter().filter_map(|sample| sample.class) {
            let class = usize::from(class).min(CLASSES_MAX - 1);
            if reference.classes.len() <= class {
                let _ = reference.classes.resize(class + 1, 0);
            }
            // No more samples than that.
            reference.classes[class] = reference.classes[class].saturating_add(1);
        }
    }
    Ok(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_numbers() {
        let name = |text: &str| text.parse::<WatchName>();
        assert_eq!(name("mean(image)"), Ok(WatchName::Mean("image".into())));
        assert_eq!(name(" spread( a b ) "), Ok(WatchName::Spread("a b".into())));
        assert_eq!(name("element(x, 3)"), Ok(WatchName::Element("x".into(), 3)));
        assert_eq!(name("confidence"), Ok(WatchName::Confidence));
        for text in ["", "mean", "mean()", "median(x)", "element(x)", "element(x, -1)", "mean(x"] {
            assert_eq!(name(text), Err(WatchNameError), "{text}");
        }
        for text in ["mean(image)", "spread(x)", "element(x, 3)", "confidence"] {
            assert_eq!(name(text).unwrap().to_string(), text);
        }
    }
}
