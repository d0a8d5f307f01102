//! Numbers that are read when they are asked for.

use std::collections::BTreeMap;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};

/// The labels of one number, with their values.
pub type Labels = Vec<(&'static str, String)>;

/// A number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A whole one.
    Whole(u64),
    /// Another one.
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

/// Metrics with the numbers that they have now.
#[derive(Debug, Default)]
pub struct Snapshot(Vec<Metric>);

#[derive(Debug)]
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    values: Vec<(Labels, Value)>,
}

impl Snapshot {
    /// Without a metric.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a gauge.
    pub fn gauge<V: Into<Value>>(
        &mut self,
        name: &'static str,
        help: &'static str,
        values: impl IntoIterator<Item = (Labels, V)>,
    ) {
        self.add(name, help, MetricType::Gauge, values);
    }

    /// Adds a counter. Its name is without the `_total` that the text adds.
    pub fn counter<V: Into<Value>>(
        &mut self,
        name: &'static str,
        help: &'static str,
        values: impl IntoIterator<Item = (Labels, V)>,
    ) {
        self.add(name, help, MetricType::Counter, values);
    }

    fn add<V: Into<Value>>(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        values: impl IntoIterator<Item = (Labels, V)>,
    ) {
        let values: Vec<_> = values.into_iter().map(|(labels, value)| (labels, value.into())).collect();
        if !values.is_empty() {
            self.0.push(Metric { name, help, kind, values });
        }
    }

    /// The text of these metrics alone.
    #[must_use]
    pub fn into_text(self) -> String {
        crate::text(&[&self.into_registry()])
    }

    /// A registry of these metrics alone.
    #[must_use]
    pub fn into_registry(self) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        registry
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for metric in &self.0 {
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, metric.kind)?;
            for (labels, value) in &metric.values {
                if labels.is_empty() {
                    number(&mut family, metric.kind, *value)?;
                } else {
                    number(&mut family.encode_family(labels)?, metric.kind, *value)?;
                }
            }
        }
        Ok(())
    }
}

fn number(encoder: &mut MetricEncoder<'_>, kind: MetricType, value: Value) -> Result<(), std::fmt::Error> {
    const NONE: Option<&Exemplar<Labels, f64>> = None;
    match (kind, value) {
        (MetricType::Counter, Value::Whole(value)) => encoder.encode_counter(&value, NONE),
        (MetricType::Counter, Value::Real(value)) => encoder.encode_counter(&value, NONE),
        (_, Value::Whole(value)) => encoder.encode_gauge(&value),
        (_, Value::Real(value)) => encoder.encode_gauge(&value),
    }
}

/// The `most` largest values by name, in order of their names; the rest is summed up as `other`. It bounds a label whose
/// values others choose.
#[must_use]
pub fn at_most(most: usize, values: BTreeMap<String, u64>) -> Vec<(String, u64)> {
    if values.len() <= most {
        return values.into_iter().collect();
    }
    let mut all: Vec<(String, u64)> = values.into_iter().collect();
    // Stable, so that equals are kept in order of their names.
    all.sort_by_key(|(_, value)| std::cmp::Reverse(*value));
    let other = all.split_off(most).into_iter().map(|(_, value)| value).sum::<u64>();
    match all.iter_mut().find(|(name, _)| name == OTHER) {
        Some((_, value)) => *value += other,
        None => all.push((OTHER.to_owned(), other)),
    }
    all.sort();
    all
}

const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_prometheus_reads_them() {
        let mut snapshot = Snapshot::new();
        snapshot.gauge("mesh_a", "What it is", [(vec![("kind", "x\"y".to_owned())], 1_u64)]);
        snapshot.counter("mesh_b_seconds", "What it is", [(vec![], 0.5)]);
        snapshot.counter("mesh_none", "Without numbers it isn't mentioned", Vec::<(Labels, u64)>::new());
        let expected = "# HELP mesh_a What it is\n# TYPE mesh_a gauge\nmesh_a{kind=\"x\\\"y\"} 1\n\
             # HELP mesh_b_seconds_total What it is\n# TYPE mesh_b_seconds_total counter\nmesh_b_seconds_total 0.5\n";
        assert_eq!(snapshot.into_text(), expected);
    }

    #[test]
    fn names_that_others_choose_are_bounded_and_sums_stay_right() {
        let of = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<Vec<_>>();
        let all = [("a", 1), ("b", 9), ("c", 5), ("d", 1), ("other", 7)];
        let map = || of(&all).into_iter().collect::<BTreeMap<_, _>>();
        assert_eq!(at_most(5, map()), of(&all));
        assert_eq!(at_most(2, map()), of(&[("b", 9), ("other", 14)]));
        assert_eq!(at_most(1, map()), of(&[("b", 9), ("other", 14)]));
        assert_eq!(at_most(0, map()), of(&[("other", 23)]));
    }
}
