//! Who the other runners are.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Instant};

use mesh_proto::RunnerId;

use super::{Peers, Turn};
use crate::{Reason, Sink, drop::Drops, peer::Peer, route::Route};

impl Peers {
    /// Takes the runners of a new map. Who isn't in it is forgotten; who has another key is somebody else.
    pub(crate) fn remap<S: Sink>(&mut self, route: &Route, mtu: usize, turn: &mut Turn<'_, S>) {
        self.outbox.flush(turn.sink);
        (self.mtu, self.has_loopback) = (mtu, route.has_loopback);
        let mut old: BTreeMap<RunnerId, Peer> =
            std::mem::take(&mut self.list).into_iter().map(|peer| (peer.runner.id, peer)).collect();
        for runner in &route.runners {
            let known = old.remove(&runner.id);
            let mut peer = match known {
                Some(peer) if peer.runner.public_key == runner.public_key => peer,
                known => {
                    count_staged(known, turn.drops);
                    Peer::new(Arc::clone(runner), turn.now)
                }
            };
            // What is sent to where it was would be lost until its silence is noticed.
            if peer.offer(runner) {
                self.greet.push(runner.id);
            }
            if let Some(endpoint) = self.recalled.remove(&runner.id) {
                peer.path.recall(endpoint);
                self.greet.push(runner.id);
            }
            self.list.push(peer);
        }
        for peer in old.into_values() {
            // Should it come back, it may still hold the session that ends here.
            if let Some(endpoint) = peer.path.authenticated().filter(|_| peer.tunnel.is_some()) {
                self.recalled.insert(peer.runner.id, endpoint);
            }
            self.departed.keys.note(peer.runner.public_key, turn.now);
            if let Some(tunnel) = &peer.tunnel {
                self.departed.sessions.note(tunnel.index(), turn.now);
            }
            count_staged(Some(peer), turn.drops);
        }

        let listed = || self.list.iter().zip(0..);
        self.indexes = listed().filter_map(|(peer, i)| Some((peer.tunnel.as_ref()?.index(), i))).collect();
        self.awake = listed().filter(|(peer, _)| peer.listed).map(|(_, i)| i).collect();
        self.next_tick = self.list.iter().filter_map(|peer| peer.next_tick).min();
        self.admissions.know(self.list.iter().flat_map(Peer::all).map(|at| at.ip()));
        self.greet(turn);
    }

    /// Notes where a runner was in an earlier run: it is greeted there, with the next tick or map.
    pub(crate) fn recall(&mut self, runner: RunnerId, endpoint: SocketAddr, now: Instant) {
        match self.list.binary_search_by_key(&runner, |peer| peer.runner.id) {
            Ok(known) => {
                self.list[known].path.recall(endpoint);
                self.greet.push(runner);
                self.next_tick = Some(now);
            }
            Err(_) => {
                self.recalled.insert(runner, endpoint);
            }
        }
    }

    /// Our own addresses have changed: everyone with whom we have or had a session is greeted with the next tick, so that
    /// they learn where we are now from us, whether or not the coordinator can tell them. (Who has been idle for long would
    /// look for us where we were.)
    pub(crate) fn greet_all(&mut self, now: Instant) {
        self.list.iter_mut().for_each(|peer| peer.path.forget_local());
        let known = self.list.iter().filter(|peer| peer.tunnel.is_some() || peer.path.is_known());
        self.greet.extend(known.map(|peer| peer.runner.id));
        self.next_tick = Some(now);
    }

    /// Begins a handshake with those that were known before: they may hold a session that we have no part in any more.
    pub(super) fn greet<S: Sink>(&mut self, turn: &mut Turn<'_, S>) {
        for id in std::mem::take(&mut self.greet) {
            if let Ok(runner) = self.list.binary_search_by_key(&id, |peer| peer.runner.id) {
                self.begin(runner as u32, turn);
            }
        }
    }
}

fn count_staged(peer: Option<Peer>, drops: &mut Drops) {
    if let Some(mut peer) = peer {
        peer.take_staged().iter().for_each(|_| drops.count(Reason::RunnerGone));
    }
}
