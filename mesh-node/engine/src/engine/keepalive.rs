//! Keepalives: while a connection between two runners stands, both send something now and then, so that a NAT or a
//! stateful firewall between them keeps letting datagrams in.
//!
//! Both send, since neither knows what is between them: a NAT counts the datagrams of the runner behind it, and a
//! firewall may be in front of either. Without a connection nothing is sent.

use std::time::{Duration, Instant};

use mesh_proto::RunnerId;

use super::core::Core;
use crate::{Sink, cx::Cx};

/// How often to look for keepalives that are due.
const INTERVAL: Duration = Duration::from_secs(2);

impl Core {
    /// Sends the keepalives that are due.
    pub(super) fn keep_alive<S: Sink>(&mut self, cx: &mut Cx<'_, S>) {
        if self.next_keepalive.is_none_or(|at| at > cx.now) {
            return;
        }
        let linked: Vec<RunnerId> = self.flows.linked().collect();
        for id in &linked {
            if let Some(runner) = self.map.route.runner(*id) {
                self.peers.keep_alive(runner, cx);
            }
        }
        self.next_keepalive = (!linked.is_empty()).then(|| cx.now + INTERVAL);
    }

    /// Schedules keepalives if a flow to another runner stands.
    pub(super) fn expect_keepalives(&mut self, now: Instant) {
        if self.next_keepalive.is_none() && self.flows.linked().next().is_some() {
            self.next_keepalive = Some(now + INTERVAL);
        }
    }
}
