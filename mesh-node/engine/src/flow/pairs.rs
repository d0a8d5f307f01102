//! What passed between each pair of services, in absolute counters of this engine's life: for reports, never for a
//! decision.

use mesh_proto::ServiceId;

use super::{
    end::{Location, Phase, Role},
    pins::Pin,
};
use crate::{
    PairReport, Side,
    flow::{Flow, Resolved},
    index::{IxVec, PairIx, ServiceIx},
    number::NumberMap,
    route::Route,
};

/// How many pairs are told apart. Everything beyond is counted together.
const MOST: usize = 16_384;

impl PairIx {
    /// The pair of everything that isn't told apart.
    pub(super) const OTHER: Self = Self(0);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    caller: ServiceId,
    callee: ServiceId,
    side: Side,
}

#[derive(Debug, Clone, Default)]
struct Pair {
    /// `None` for [`PairIx::OTHER`].
    key: Option<Key>,
    opened: u64,
    refused: u64,
    unanswered: u64,
    reset: u64,
    open: u32,
}

/// What an attempt or a connection has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Opened,
    Refused,
    Unanswered,
    Reset,
}

#[derive(Debug)]
pub(super) struct Pairs {
    pairs: IxVec<PairIx, Pair>,
    /// Bytes of TCP payload from each end, without what was sent again. They are apart because each packet touches them.
    bytes: IxVec<PairIx, [u64; 2]>,
    index: NumberMap<Key, PairIx>,
    /// The identifiers of the current map's services.
    services: IxVec<ServiceIx, ServiceId>,
}

impl Default for Pairs {
    fn default() -> Self {
        let (pairs, bytes) = (std::iter::once(Pair::default()).collect(), std::iter::once([0; 2]).collect());
        Self { pairs, bytes, index: NumberMap::default(), services: IxVec::new() }
    }
}

impl Pairs {
    /// Begins a new map: no connection is open until it is looked up there. Where many pairs are told apart, those whose
    /// services are gone are forgotten. Returns whether pairs have other positions now.
    pub(super) fn begin_map(&mut self, route: &Route) -> bool {
        self.services = route.services.values().map(|service| service.id).collect();
        self.pairs.values_mut().for_each(|pair| pair.open = 0);
        if self.pairs.len() < MOST / 2 {
            return false;
        }
        let known = |service| route.services.find_by(&service, |s| s.id).is_some();
        let stays = |key: Key| known(key.caller) && known(key.callee);
        let bytes = std::mem::take(&mut self.bytes).into_values();
        let all = std::mem::take(&mut self.pairs).into_values().zip(bytes);
        let (pairs, bytes): (Vec<_>, Vec<_>) = all.filter(|(pair, _)| pair.key.is_none_or(stays)).unzip();
        (self.pairs, self.bytes) = (pairs.into_iter().collect(), bytes.into_iter().collect());
        let keys = self.pairs.iter().filter_map(|(at, pair)| Some((pair.key?, at)));
        self.index = keys.collect();
        true
    }

    /// The pair of a flow that is found in the current map. Called once a flow and map.
    pub(super) fn find(&mut self, resolved: &Resolved, pin: &Pin) -> PairIx {
        let [Some(caller_service), Some(callee_service)] = resolved.services.map(|at| self.services.get(at).copied())
        else {
            return PairIx::OTHER;
        };
        let side = match (pin.caller_location, pin.callee_location) {
            (Location::Here(_), Location::Here(_)) => Side::Both,
            (Location::Here(_), Location::There(_)) => Side::From,
            (Location::There(_), _) => Side::To,
        };
        let key = Key { caller: caller_service, callee: callee_service, side };
        if let Some(at) = self.index.get(&key) {
            return *at;
        }
        if self.pairs.len() >= MOST {
            return PairIx::OTHER;
        }
        let at = self.pairs.push(Pair { key: Some(key), ..Pair::default() });
        self.bytes.push([0; 2]);
        self.index.insert(key, at);
        at
    }

    /// One end of a flow has sent this many bytes that it hadn't sent before.
    #[inline]
    pub(super) fn carried(&mut self, pair: PairIx, from: Role, bytes: u32) {
        if let Some(carried) = self.bytes.get_mut(pair) {
            carried[from as usize] += u64::from(bytes);
        }
    }

    pub(super) fn enter(&mut self, flow: &Flow) {
        if flow.phase() == Phase::Open
            && let Some(pair) = self.pairs.get_mut(flow.pair)
        {
            pair.open += 1;
        }
    }

    pub(super) fn leave(&mut self, flow: &Flow) {
        if flow.phase() == Phase::Open
            && let Some(pair) = self.pairs.get_mut(flow.pair)
        {
            pair.open = pair.open.saturating_sub(1);
        }
    }

    pub(super) fn note(&mut self, pair: PairIx, outcome: Outcome) {
        let Some(pair) = self.pairs.get_mut(pair) else { return };
        let count = match outcome {
            Outcome::Opened => &mut pair.opened,
            Outcome::Refused => &mut pair.refused,
            Outcome::Unanswered => &mut pair.unanswered,
            Outcome::Reset => &mut pair.reset,
        };
        *count += 1;
    }

    /// Every pair that has carried or refused anything.
    pub(super) fn reports(&self) -> impl Iterator<Item = PairReport> {
        self.pairs.values().zip(self.bytes.values()).filter_map(|(pair, bytes)| {
            let report = PairReport {
                services: pair.key.map(|key| (key.caller, key.callee)),
                side: pair.key.map_or(Side::Both, |key| key.side),
                opened: pair.opened,
                refused: pair.refused,
                unanswered: pair.unanswered,
                reset: pair.reset,
                open: pair.open,
                sent: bytes[Role::Caller as usize],
                received: bytes[Role::Callee as usize],
            };
            report.has_any().then_some(report)
        })
    }
}
