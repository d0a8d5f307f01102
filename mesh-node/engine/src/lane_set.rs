//! Numbers of lanes.

/// The most lanes. A lane's number is in the low bits of its tunnels' indices.
pub const LANES: usize = 8;

/// The number of a lane. The first one, 0, is the engine itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneIx(pub u8);

impl LaneIx {
    /// The engine's own.
    pub const FIRST: Self = Self(0);

    /// Those that are not the engine's, of so many.
    pub fn further(lanes: usize) -> impl Iterator<Item = Self> {
        (1..lanes.min(LANES) as u8).map(Self)
    }
}

/// The lanes by which a runner can be sent packets. The first one is always among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaneSet(u8);

impl LaneSet {
    pub(crate) const FIRST: Self = Self(1);

    pub(crate) const fn with(self, lane: LaneIx) -> Self {
        Self(self.0 | 1 << lane.0)
    }

    #[inline]
    pub(crate) const fn has(self, lane: LaneIx) -> bool {
        self.0 & 1 << lane.0 != 0
    }

    pub(crate) const fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = LaneIx> {
        (0..LANES as u8).map(LaneIx).filter(move |lane| self.has(*lane))
    }
}
