//! Keepalives: while a connection stands between two runners, both send something now and then, so that a NAT or a
//! stateful firewall in between goes on to let the other's datagrams in.
//!
//! Both do, since neither knows what stands between them: it is the datagrams of the one behind the NAT that count, and
//! a firewall may stand before either. Where no connection stands nothing is sent.

use std::time::{Duration, Instant};

use mesh_proto::RunnerId;

use super::Engine;
use crate::{Sink, peers::Turn};

/// How often it is seen whether one is due.
const LOOK: Duration = Duration::from_secs(2);

impl Engine {
    /// Sends the keepalives that are due.
    pub(super) fn keep_alive(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.next_keepalive.is_none_or(|at| at > now) {
            return;
        }
        let linked: Vec<RunnerId> = self.flows.linked().collect();
        for id in &linked {
            if let Some(runner) = self.map.route.runner(*id) {
                self.peers.keep_alive(runner, &mut Turn { now, sink, drops: &mut self.drops });
            }
        }
        self.next_keepalive = (!linked.is_empty()).then(|| now + LOOK);
    }

    /// Sees to it that keepalives are looked after while a flow stands with another runner.
    pub(super) fn expect_keepalives(&mut self, now: Instant) {
        if self.next_keepalive.is_none() && self.flows.linked().next().is_some() {
            self.next_keepalive = Some(now + LOOK);
        }
    }
}
