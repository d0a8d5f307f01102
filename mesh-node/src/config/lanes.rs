//! How many lanes the agent's data plane has.

use std::{num::NonZeroUsize, str::FromStr, thread};

use mesh_udp::MAX_LANES;
use serde::{Deserialize, Serialize};

/// A number of lanes, each with a thread that seals and opens packets: from 1 to [`MAX_LANES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "usize", try_from = "i64")]
pub(crate) struct LaneCount(usize);

/// What is no such number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a number from 1 to {MAX_LANES}")]
pub(crate) struct ParseLaneCountError;

impl LaneCount {
    /// The number for this machine: half of its processors leaves the others to what the packets are for.
    pub(crate) fn of_machine() -> Self {
        Self::of(thread::available_parallelism().map_or(1, NonZeroUsize::get))
    }

    fn of(processors: usize) -> Self {
        Self((processors / 2).clamp(1, MAX_LANES))
    }

    /// The number.
    pub(crate) const fn get(self) -> usize {
        self.0
    }
}

impl TryFrom<i64> for LaneCount {
    type Error = ParseLaneCountError;

    fn try_from(number: i64) -> Result<Self, ParseLaneCountError> {
        let number = usize::try_from(number).ok().filter(|number| (1..=MAX_LANES).contains(number));
        number.map(Self).ok_or(ParseLaneCountError)
    }
}

impl FromStr for LaneCount {
    type Err = ParseLaneCountError;

    fn from_str(text: &str) -> Result<Self, ParseLaneCountError> {
        text.parse::<i64>().map_err(|_| ParseLaneCountError)?.try_into()
    }
}

impl From<LaneCount> for usize {
    fn from(lanes: LaneCount) -> Self {
        lanes.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_lanes_is_from_1_to_8() {
        for number in 1..=8 {
            assert_eq!(number.to_string().parse(), Ok(LaneCount(number)));
        }
        for text in ["0", "9", "-1", "two", "", "99999999999999999999"] {
            assert_eq!(text.parse::<LaneCount>(), Err(ParseLaneCountError), "{text}");
        }
    }

    #[test]
    fn a_machine_has_half_as_many_as_processors() {
        let of = [0, 1, 2, 3, 4, 5, 6, 15, 16, 17, 256].map(|processors| LaneCount::of(processors).get());
        assert_eq!(of, [1, 1, 1, 1, 2, 2, 3, 7, 8, 8, 8]);
    }
}
