//! What the rounds come to.

use serde_json::{Value, json};

use crate::{contender::Contender, measure::Sample};

/// A contender and all that was measured of it.
pub(crate) struct Figures {
    pub(crate) name: &'static str,
    pub(crate) mtu: u16,
    pub(crate) samples: Vec<Sample>,
}

/// Something that is measured in every round.
pub(crate) type Quantity = fn(&Sample) -> f64;

/// The median and the extremes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Figures {
    pub(crate) fn new(contender: &Contender, samples: Vec<Sample>) -> Self {
        Self { name: contender.name, mtu: contender.mtu, samples }
    }

    pub(crate) fn spread(&self, quantity: Quantity) -> Spread {
        Spread::of(self.samples.iter().map(quantity).collect())
    }

    pub(crate) fn json(&self) -> Value {
        let rounds: Vec<Value> = self.samples.iter().map(Sample::json).collect();
        json!({ "name": self.name, "mtu": self.mtu, "rounds": rounds })
    }
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (middle, last) = (values.len() / 2, values.len() - 1);
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Self { median, least: values[0], most: values[last] }
    }
}

/// How two contenders compare: the ratio of the medians, and the extremes of the rounds' own ratios.
pub(crate) fn ratio(of: &Figures, to: &Figures, quantity: Quantity) -> Spread {
    let rounds = of.samples.iter().zip(&to.samples).map(|(of, to)| quantity(of) / quantity(to));
    let Spread { least, most, .. } = Spread::of(rounds.collect());
    Spread { median: of.spread(quantity).median / to.spread(quantity).median, least, most }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        let of = |values: &[f64]| Spread::of(values.to_vec());
        assert_eq!(of(&[3.0, 1.0, 2.0]), Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, least: 1.0, most: 4.0 });
        assert_eq!(of(&[7.0]), Spread { median: 7.0, least: 7.0, most: 7.0 });
    }
}
