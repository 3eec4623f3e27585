//! Metrics between who gathers them (the API, from the fleet and the links) and who writes them down:
//! [`openmetrics`] for whoever scrapes, [`crate::otlp`] for whoever is sent them. Names are `fleet_*` with
//! base units, without the ends that say unit and kind: each form has its own.

pub mod openmetrics;

use prometheus_client::registry::Unit;

use crate::fleet::Answered;

/// Names and values, what tells a sample from others.
pub type Labels = Vec<(&'static str, String)>;

/// One sample.
#[derive(Clone, Debug)]
pub enum Value {
    /// What is so now.
    Gauge(f64),
    /// What only rises while the controller runs.
    Counter(u64),
    /// Latencies of a release's answers.
    Latency(Answered),
}

/// One metric with its samples, all of one kind.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// In a sentence.
    pub help: &'static str,
    /// Of its values.
    pub unit: Option<Unit>,
    /// Its samples.
    pub samples: Vec<(Labels, Value)>,
}

/// What was gathered at one time.
#[derive(Clone, Debug, Default)]
pub struct Gathered(pub Vec<Metric>);

impl Gathered {
    /// One metric more; nothing without samples.
    pub fn push(
        &mut self,
        name: &'static str,
        help: &'static str,
        unit: Option<Unit>,
        samples: Vec<(Labels, Value)>,
    ) {
        if !samples.is_empty() {
            self.0.push(Metric { name, help, unit, samples });
        }
    }

    /// One number that is so now.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.push(name, help, None, vec![(Vec::new(), Value::Gauge(value as f64))]);
    }

    /// One number that only rises.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.push(name, help, None, vec![(Vec::new(), Value::Counter(value))]);
    }
}
