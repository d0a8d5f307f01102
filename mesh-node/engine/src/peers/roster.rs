//! Keeps the list of runners up to date.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use mesh_proto::{RelayId, RunnerId};

use super::Peers;
use crate::{
    Reason, Sink,
    cx::Cx,
    drop::Drops,
    hop::{Hop, canonical},
    index::{IxVec, RunnerIx, TunnelIx},
    path::Around,
    peer::{Lanes, Peer, Round},
    route::Route,
};

impl Peers {
    /// Takes the runners of a new map. Runners that it doesn't hold are forgotten; a runner with another key starts
    /// anew.
    pub(crate) fn remap<S: Sink>(&mut self, route: &Route, mtu: usize, cx: &mut Cx<'_, S>) {
        self.outbox.flush(cx.sink);
        (self.site.mtu, self.site.has_loopback) = (mtu, route.has_loopback);
        (self.site.runner, self.site.range) = (route.runner, route.range);
        let list: IxVec<RunnerIx, Peer> = std::mem::take(&mut self.list);
        let mut old: BTreeMap<RunnerId, Peer> = list.into_values().map(|peer| (peer.runner.id, peer)).collect();
        for runner in route.runners.values() {
            let known = old.remove(&runner.id);
            let mut peer = match known {
                Some(peer) if peer.runner.public_key == runner.public_key => peer,
                known => {
                    let lanes = known.as_ref().and_then(Peer::lanes);
                    lanes.into_iter().for_each(|lanes| self.close_lanes(lanes.indices(), cx.sink));
                    count_staged(known, cx.drops);
                    Peer::new(Arc::clone(runner), cx.now)
                }
            };
            // Packets to its former endpoint would be lost until its silence is noticed.
            if peer.offer(runner, &self.site, cx.now) {
                self.greet.push(runner.id);
            }
            if let Some(endpoint) = self.recalled.remove(&runner.id) {
                peer.link.recall(endpoint);
                self.greet.push(runner.id);
            }
            self.list.push(peer);
        }
        for peer in old.into_values() {
            // If the runner comes back, it may still hold the session that ends here.
            if let Some(endpoint) = peer.link.authenticated().filter(|_| peer.tunnel.is_some()) {
                self.recalled.insert(peer.runner.id, endpoint);
            }
            self.departed.keys.note(peer.runner.public_key, cx.now);
            if let Some(tunnel) = &peer.tunnel {
                self.departed.sessions.note(tunnel.index(), cx.now);
            }
            peer.lanes().into_iter().for_each(|lanes| self.close_lanes(lanes.indices(), cx.sink));
            count_staged(Some(peer), cx.drops);
        }

        let indices = |peer: &Peer| -> Vec<TunnelIx> {
            let first = peer.tunnel.as_ref().map(|tunnel| tunnel.index());
            first.into_iter().chain(peer.lanes().into_iter().flat_map(Lanes::indices)).collect()
        };
        let all = self.list.iter().flat_map(|(i, peer)| indices(peer).into_iter().map(move |index| (index, i)));
        self.by_tunnel = all.collect();
        self.awake = self.list.iter().filter(|(_, peer)| peer.listed).map(|(i, _)| i).collect();
        self.next_tick = self.list.values().filter_map(|peer| peer.next_tick).min();
        let direct = self.list.values().flat_map(|peer| peer.all(&self.site)).map(Hop::Direct);
        let relayed = route.runners.values().flat_map(|runner| &runner.relayed);
        let relayed = relayed.map(|at| Hop::Relayed { relay: at.relay, peer: canonical(at.address) });
        let sources: Vec<IpAddr> = direct.chain(relayed).map(|hop| self.admissions.source(hop)).collect();
        self.admissions.set_known(sources.into_iter());
        self.greet(cx);
    }

    /// Notes where a runner was in an earlier run. It gets a handshake there with the next tick or map.
    pub(crate) fn recall(&mut self, runner: RunnerId, endpoint: SocketAddr, now: Instant) {
        match self.list.find_by(&runner, |peer| peer.runner.id) {
            Some(known) => {
                self.list[known].link.recall(endpoint);
                self.greet.push(runner);
                self.next_tick = Some(now);
            }
            None => {
                self.recalled.insert(runner, endpoint);
            }
        }
    }

    /// The machine's own addresses have changed: every runner with a present or past session gets a handshake with the
    /// next tick and learns the new address by it, even if the coordinator can't be reached. (An idle runner would
    /// otherwise send to the old address.)
    pub(crate) fn greet_all(&mut self, now: Instant) {
        self.list.values_mut().for_each(|peer| peer.link.forget_local());
        let known = self.list.values().filter(|peer| peer.tunnel.is_some() || peer.link.is_known());
        self.greet.extend(known.map(|peer| peer.runner.id));
        self.next_tick = Some(now);
    }

    /// The relays at which this runner has an allocation. Runners that are reached by another one get a handshake with the
    /// next tick, and so do those that don't answer.
    pub(crate) fn set_relays(&mut self, relays: &[RelayId], now: Instant) {
        let had = std::mem::replace(&mut self.site.relays, relays.to_vec());
        let is_new = relays.iter().any(|relay| !had.contains(relay));
        for peer in self.list.values_mut() {
            let Peer { link, runner, .. } = peer;
            let stranded = link.change_relays(Around { site: &self.site, runner }, now);
            if is_new && peer.is_failing() {
                peer.ask_by_relays(now);
            }
            if stranded || is_new && peer.is_failing() {
                self.greet.push(peer.runner.id);
                self.next_tick = Some(now);
            }
        }
    }

    /// This runner's own addresses, as others see them too. Runners that are reached by a relay are told.
    pub(crate) fn set_own_addresses(&mut self, own: &[SocketAddr], now: Instant) {
        let own: Vec<SocketAddr> = own.iter().map(|at| canonical(*at)).collect();
        if self.site.own != own {
            self.site.own = own;
            self.list.values_mut().for_each(|peer| peer.link.renew_meetings(now));
        }
    }

    /// Starts handshakes with runners that may hold a session that this engine doesn't have.
    pub(super) fn greet<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        for id in std::mem::take(&mut self.greet) {
            if let Some(runner) = self.list.find_by(&id, |peer| peer.runner.id) {
                self.begin_with(Round::Greeting, runner, cx);
            }
        }
    }
}

fn count_staged(peer: Option<Peer>, drops: &mut Drops) {
    if let Some(mut peer) = peer {
        peer.take_staged().iter().for_each(|_| drops.count(Reason::RunnerGone));
    }
}
