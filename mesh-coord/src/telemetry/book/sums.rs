//! What passed between pairs of services, added up over runners.

use std::{collections::BTreeMap, time::Instant};

use mesh_proto::{
    ServiceId,
    telemetry::{Counts, Pair, Side},
};

/// The counts of a pair, by side.
type Sides = [Counts; 3];

/// The sides, in the order of their numbers.
const SIDES: [Side; 3] = [Side::Both, Side::From, Side::To];

/// What passed between pairs of services, by the side at which it was counted.
#[derive(Debug, Default)]
pub(crate) struct Sums(BTreeMap<(ServiceId, ServiceId), Sum>);

#[derive(Debug, Default)]
struct Sum {
    sides: Sides,
    used: Option<Instant>,
}

impl Sums {
    /// Adds what some runners have counted at one side.
    pub(crate) fn add(&mut self, Pair { caller, callee, side, counts }: Pair, used: Option<Instant>) {
        let sum = self.0.entry((caller, callee)).or_default();
        let of_side = &mut sum.sides[side as usize];
        *of_side = plus(*of_side, counts);
        sum.used = sum.used.max(used);
    }

    /// What was counted at each side.
    pub(crate) fn into_pairs(self) -> impl Iterator<Item = (Pair, Option<Instant>)> {
        self.0.into_iter().flat_map(|((caller, callee), Sum { sides, used })| {
            let pair = move |(side, counts)| (Pair { caller, callee, side, counts }, used);
            SIDES.into_iter().zip(sides).filter(|(_, counts)| *counts != Counts::default()).map(pair)
        })
    }

    /// All pairs, by their callers and callees.
    pub(crate) fn edges(&self) -> Vec<Edge> {
        let edge = |((caller, callee), Sum { sides: [both, from, to], used }): (&(ServiceId, ServiceId), &Sum)| {
            // Both ends report the same connections, unless one of them can't be heard.
            Edge { caller: *caller, callee: *callee, counts: plus(*both, larger(*from, *to)), used: *used }
        };
        self.0.iter().map(edge).collect()
    }
}

/// What passed between two services, at all runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) caller: ServiceId,
    pub(crate) callee: ServiceId,
    pub(crate) counts: Counts,
    /// When it was last in use.
    pub(crate) used: Option<Instant>,
}

/// Counts come from runners: a sum has a limit.
fn each(a: Counts, b: Counts, with: impl Fn(u64, u64) -> u64) -> Counts {
    Counts {
        opened: with(a.opened, b.opened),
        refused: with(a.refused, b.refused),
        unanswered: with(a.unanswered, b.unanswered),
        reset: with(a.reset, b.reset),
        open: with(a.open, b.open),
        sent: with(a.sent, b.sent),
        received: with(a.received, b.received),
    }
}

pub(super) fn plus(a: Counts, b: Counts) -> Counts {
    each(a, b, u64::saturating_add)
}

fn larger(a: Counts, b: Counts) -> Counts {
    each(a, b, u64::max)
}
