//! What may stand between a runner and the Internet: NATs and firewalls as state machines without a clock. A datagram's
//! ends and the time go in; its ends on the other side come out, or nothing.
//!
//! A box follows flows as Linux does (`nf_conntrack`): each has the ends of its first datagram and those of the answers,
//! which is all that is needed to rewrite both directions. What the kinds do was compared with nftables (`nat/tests.rs`).

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::rng::Rng;

/// Both ends of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

impl Ends {
    const fn back(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

/// How a runner is connected to the Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// By a public address that everyone can send to.
    Public,
    /// By a public address behind a firewall that lets only answers in.
    Firewall,
    /// By a home router: one outside port for each inside port, only answers come in, and it is silent to strangers.
    Home,
    /// By a Linux host that masquerades and takes datagrams to its own address for its own: a stray one makes a flow, and
    /// the port is taken for everything that goes to where the stray one came from.
    Linux,
    /// By a full cone: one outside port for each inside port, to which everyone can send.
    Cone,
    /// By a NAT that has another outside port for each destination.
    Symmetric,
    /// By a firewall that drops all UDP.
    Blocked,
}

impl Kind {
    /// All of them, in the order of the matrix.
    pub const ALL: [Self; 7] =
        [Self::Public, Self::Firewall, Self::Home, Self::Linux, Self::Cone, Self::Symmetric, Self::Blocked];

    /// Whether two runners come to a direct path.
    #[must_use]
    pub fn is_direct(self, other: Self) -> bool {
        use Kind::{Blocked, Cone, Public, Symmetric};
        match (self, other) {
            (Blocked, _) | (_, Blocked) => false,
            (Symmetric, other) | (other, Symmetric) => matches!(other, Public | Cone),
            _ => true,
        }
    }

    const fn translates(self) -> bool {
        matches!(self, Self::Home | Self::Linux | Self::Cone | Self::Symmetric)
    }
}

/// After how long without a datagram a flow is forgotten.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// If nothing has come back.
    pub(crate) unanswered: Duration,
    pub(crate) answered: Duration,
}

impl Timeouts {
    /// Linux's.
    pub(crate) const LINUX: Self = Self { unanswered: Duration::from_secs(30), answered: Duration::from_secs(120) };
}

/// Where a datagram goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    Inwards(Ends),
    Outwards(Ends),
}

#[derive(Debug)]
struct Flow {
    /// The ends of its first datagram as it came, and those of the answers as they come.
    original: Ends,
    reply: Ends,
    /// The inside end that an outside port stands for.
    port: Option<(u16, SocketAddr)>,
    /// Whether both ends are inside.
    is_hairpin: bool,
    is_answered: bool,
    seen: Duration,
}

/// One box, with an inside and an outside.
#[derive(Debug)]
pub(crate) struct Nat {
    kind: Kind,
    /// Its own address outside. Datagrams of the other family are only filtered.
    outside: IpAddr,
    /// Whether inside ends reach each other by their outside ports.
    hairpin: bool,
    timeouts: Timeouts,
    flows: Vec<Flow>,
    rng: Rng,
}

impl Nat {
    pub(crate) fn new(kind: Kind, outside: IpAddr, seed: u64) -> Self {
        Self { kind, outside, hairpin: false, timeouts: Timeouts::LINUX, flows: vec![], rng: Rng::new(seed) }
    }

    pub(crate) const fn with_hairpin(mut self) -> Self {
        self.hairpin = true;
        self
    }

    pub(crate) const fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its own address outside.
    pub(crate) const fn outside(&self) -> IpAddr {
        self.outside
    }

    /// All flows are forgotten, as by `conntrack -F`.
    pub(crate) fn flush(&mut self) {
        self.flows.clear();
    }

    /// It gets another address outside.
    pub(crate) fn renumber(&mut self, outside: IpAddr) {
        self.outside = outside;
        self.flush();
    }

    /// A datagram comes from inside.
    pub(crate) fn leave(&mut self, ends: Ends, now: Duration) -> Option<Passed> {
        if self.kind == Kind::Blocked {
            return None;
        }
        self.expire(now);
        if let Some((known, is_hairpin)) = self.follow(ends, now) {
            return Some(if is_hairpin { Passed::Inwards(known) } else { Passed::Outwards(known) });
        }
        if !self.rewrites(ends.from) {
            return Some(Passed::Outwards(self.begin(ends, ends.back(), None, now)));
        }
        // Its own address, by which another inside end may be meant.
        let target = if ends.to.ip() == self.outside { self.meant_by(ends.to.port())? } else { ends.to };
        let port = self.port_for(ends.from, target);
        let reply = Ends { from: target, to: (self.outside, port).into() };
        let passed = self.begin(ends, reply, Some((port, ends.from)), now);
        if target == ends.to {
            return Some(Passed::Outwards(passed));
        }
        self.flows.last_mut().into_iter().for_each(|flow| flow.is_hairpin = true);
        Some(Passed::Inwards(passed))
    }

    /// A datagram comes from outside.
    pub(crate) fn enter(&mut self, ends: Ends, now: Duration) -> Option<Passed> {
        if self.kind == Kind::Blocked {
            return None;
        }
        self.expire(now);
        if let Some((known, _)) = self.follow(ends, now) {
            // A flow of the box itself ends here.
            return (known.to != ends.to || !self.rewrites(ends.to)).then_some(Passed::Inwards(known));
        }
        match self.kind {
            Kind::Linux if ends.to.ip() == self.outside => {
                self.begin(ends, ends.back(), None, now);
                None
            }
            Kind::Cone if ends.to.ip() == self.outside => {
                let (port, inside) = self.ports().find(|(port, _)| *port == ends.to.port())?;
                let reply = Ends { from: inside, to: ends.from };
                Some(Passed::Inwards(self.begin(ends, reply, Some((port, inside)), now)))
            }
            _ => None,
        }
    }

    /// Whether the address of an inside end is rewritten.
    fn rewrites(&self, end: SocketAddr) -> bool {
        self.kind.translates() && end.is_ipv4() == self.outside.is_ipv4()
    }

    fn ports(&self) -> impl Iterator<Item = (u16, SocketAddr)> {
        self.flows.iter().filter_map(|flow| flow.port)
    }

    /// The inside end behind a port of the box, for another inside end.
    fn meant_by(&self, port: u16) -> Option<SocketAddr> {
        self.hairpin.then(|| self.ports().find(|known| known.0 == port))?.map(|(_, inside)| inside)
    }

    /// The outside port of an inside end for a destination.
    fn port_for(&mut self, inside: SocketAddr, to: SocketAddr) -> u16 {
        let same = self.ports().find(|known| known.1 == inside).map(|known| known.0);
        let (kind, outside) = (self.kind, self.outside);
        let mut rng = Rng::new(self.rng.next());
        let is_free = |port: u16| match kind {
            // None twice. (Linux draws one that it has given already now and then, and a peer that knows that one gets
            // through by luck: 1 in 64,512, which is no kind of its own.)
            Kind::Symmetric => self.ports().all(|known| known.0 != port),
            // Any, if the answers can be told apart from those of other flows.
            Kind::Linux => {
                let answers = Ends { from: to, to: (outside, port).into() };
                self.flows.iter().all(|flow| flow.original != answers && flow.reply != answers)
            }
            _ => self.ports().all(|known| known.0 != port || known.1 == inside),
        };
        let preferred = match kind {
            Kind::Symmetric => None,
            Kind::Linux => Some(inside.port()),
            _ => same.or(Some(inside.port())),
        };
        if let Some(preferred) = preferred.filter(|port| is_free(*port)) {
            return preferred;
        }
        std::iter::repeat_with(|| 1024 + rng.below(64_512) as u16).find(|port| is_free(*port)).unwrap_or(inside.port())
    }

    /// A datagram of a known flow, as it goes on, and whether both ends are inside.
    fn follow(&mut self, ends: Ends, now: Duration) -> Option<(Ends, bool)> {
        let flow = self.flows.iter_mut().find(|flow| flow.original == ends || flow.reply == ends)?;
        flow.seen = now;
        if flow.original == ends {
            return Some((flow.reply.back(), flow.is_hairpin));
        }
        flow.is_answered = true;
        Some((flow.original.back(), flow.is_hairpin))
    }

    /// Begins a flow, and returns its first datagram as it goes on.
    fn begin(&mut self, original: Ends, reply: Ends, port: Option<(u16, SocketAddr)>, now: Duration) -> Ends {
        self.flows.push(Flow { original, reply, port, is_hairpin: false, is_answered: false, seen: now });
        reply.back()
    }

    fn expire(&mut self, now: Duration) {
        let Timeouts { unanswered, answered } = self.timeouts;
        self.flows.retain(|flow| now - flow.seen < if flow.is_answered { answered } else { unanswered });
    }
}

#[cfg(test)]
mod tests;
