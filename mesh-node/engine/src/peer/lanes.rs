//! The further lanes of a runner, as the engine knows them.

use std::time::{Duration, Instant};

use crate::{
    index::TunnelIx,
    lane_set::{LANES, LaneIx, LaneSet},
    limit::Bucket,
};

/// How long a runner takes to answer at most: connections are assigned to lanes only when it is known which ones there are.
const SETTLE: Duration = Duration::from_secs(1);

/// The further lanes of a runner.
#[derive(Default)]
pub(crate) struct Lanes {
    pub(crate) states: [LaneState; LANES],
    /// The bytes that were carried since then.
    pub(crate) carried: usize,
    pub(crate) since: Option<Instant>,
    /// When lanes were asked for last.
    pub(crate) asked: Option<Instant>,
    /// When a further lane has carried something last.
    pub(crate) used: Option<Instant>,
    /// For [`INITIATIONS`] of further lanes, authentic or not.
    pub(crate) initiations: Bucket,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaneState {
    #[default]
    Closed,
    Asked(TunnelIx),
    Up(TunnelIx),
}

impl LaneState {
    pub(crate) const fn index(self) -> Option<TunnelIx> {
        match self {
            Self::Closed => None,
            Self::Asked(index) | Self::Up(index) => Some(index),
        }
    }
}

impl Lanes {
    pub(crate) fn up(&self) -> LaneSet {
        let all = LaneIx::further(LANES).filter(|lane| matches!(self.states[lane.0 as usize], LaneState::Up(_)));
        all.fold(LaneSet::FIRST, LaneSet::with)
    }

    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        let waits = self.states.iter().any(|state| matches!(state, LaneState::Asked(_)));
        !waits || self.asked.is_none_or(|then| now.saturating_duration_since(then) >= SETTLE)
    }

    /// The indices of its tunnels.
    pub(crate) fn indices(&self) -> impl Iterator<Item = TunnelIx> {
        self.states.iter().filter_map(|state| state.index())
    }
}
