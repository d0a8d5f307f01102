//! Another runner: its tunnel while that is in use, its addresses, and the packets that wait for a session.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_proto::{Ability, view::Runner};

use crate::{
    PathReport, Port, Reason,
    drop::Drops,
    lane_set::LaneIx,
    limit::{self, Bucket, Limit, Rate},
    path::{Around, Link, Site},
    search::{Ask, GRACE, Search},
    staged::{Full, Queue, Staged},
    tunnel::{SESSION, Tunnel, TunnelIx},
};

mod ask;
mod copies;
mod lanes;

use self::{ask::SentInitiation, copies::Copies};
pub(crate) use self::{
    ask::{Round, Targets},
    lanes::{LaneState, Lanes},
};

/// How often the tunnels in use are ticked.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// After this long without data, a tunnel needs no ticks until its session ends: more than the 15 s after which silence
/// leads to a handshake.
const IDLE: Duration = Duration::from_secs(20);

/// How long a handshake is tried when no packet waits for it: four times, 5 s apart, and time for the last answer.
const PATIENCE: Duration = Duration::from_secs(18);

/// Initiations from one runner, which cost four Diffie-Hellmans each: one in 20 ms, as in other implementations of
/// WireGuard.
pub(crate) const INITIATIONS: Rate = Rate { each_second: 50, at_once: 5 };

/// Responses from one runner, or from an attacker that has seen an initiation: three Diffie-Hellmans each.
pub(crate) const RESPONSES: Rate = Rate { each_second: 10, at_once: 20 };

/// How long a packet waits for a session: TCP has retransmitted it by then.
const STAGED_FOR: Duration = Duration::from_secs(10);

/// One runner.
pub(crate) struct Peer {
    /// As the map has it.
    pub(crate) runner: Arc<Runner>,
    pub(crate) link: Link,
    /// Made when it is needed.
    pub(crate) tunnel: Option<Box<Tunnel>>,
    /// When its next tick is due; `None` while it needs none.
    pub(crate) next_tick: Option<Instant>,
    /// Whether it is on the list of peers that need ticks.
    pub(crate) listed: bool,
    /// Whether it answers pings.
    pub(crate) can_pong: bool,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
    /// When the last data or keepalive arrived.
    pub(crate) heard: Option<Instant>,
    /// When the last data or handshake was handled.
    used: Instant,
    /// Made with the first handshake, and dropped with the tunnel unless a handshake is unanswered.
    search: Option<Box<Search>>,
    /// Made when it is needed, and dropped with the tunnel: most runners are idle.
    active: Option<Box<ActiveState>>,
}

/// The state of a runner that isn't idle.
pub(crate) struct ActiveState {
    /// For rejects that are sent to it.
    pub(crate) reject_limit: Limit,
    /// For authentic [`INITIATIONS`], so that an attacker can't use them up.
    pub(crate) initiations: Bucket,
    /// For [`RESPONSES`], authentic or not.
    pub(crate) responses: Bucket,
    staged: Queue,
    initiation: Option<SentInitiation>,
    pub(crate) lanes: Option<Box<Lanes>>,
    /// The other end's index of the first lane's tunnel: it changes only when that runner starts anew, or was idle.
    pub(crate) theirs: Option<TunnelIx>,
    pub(crate) copies: Copies,
}

impl Default for ActiveState {
    fn default() -> Self {
        Self {
            reject_limit: Limit::new(limit::RUNNER),
            initiations: Bucket::full(),
            responses: Bucket::full(),
            staged: Queue::default(),
            initiation: None,
            lanes: None,
            theirs: None,
            copies: Copies::default(),
        }
    }
}

impl Peer {
    pub(crate) fn new(runner: Arc<Runner>, now: Instant) -> Self {
        Self {
            can_pong: runner.can.has(Ability::Paths),
            runner,
            link: Link::default(),
            tunnel: None,
            next_tick: None,
            listed: false,
            rx_bytes: 0,
            tx_bytes: 0,
            heard: None,
            used: now,
            search: None,
            active: None,
        }
    }

    /// Takes its record in a new map. Returns whether it has to be searched at other addresses.
    pub(crate) fn offer(&mut self, runner: &Arc<Runner>, site: &Site, now: Instant) -> bool {
        let (before, after) = (Around { site, runner: &self.runner }, Around { site, runner });
        let left = self.link.offer(before, after, now);
        let found = self.tunnel.as_ref().is_some_and(|tunnel| tunnel.has_session());
        let moved = self.runner.endpoints != runner.endpoints
            || self.runner.reflexive != runner.reflexive
            || self.runner.relayed != runner.relayed;
        let renewed = moved && self.is_broken();
        if renewed && let Some(search) = &mut self.search {
            search.renew();
        }
        self.runner = Arc::clone(runner);
        self.can_pong = runner.can.has(Ability::Paths);
        if !self.can_pong {
            self.link.forget_reach();
        }
        left && found || renewed
    }

    /// All its direct addresses.
    pub(crate) fn all<'a>(&'a self, site: &'a Site) -> impl Iterator<Item = SocketAddr> {
        self.link.all(Around { site, runner: &self.runner })
    }

    /// The path for data, if there is a session.
    pub(crate) fn path_report(&self, now: Instant) -> Option<PathReport> {
        let used = self.link.used().filter(|_| self.is_ready())?;
        let since = used.since.map(|since| now.saturating_duration_since(since));
        Some(PathReport { hop: used.hop, rtt: used.rtt, mtu: used.cut, since: since.unwrap_or_default() })
    }

    /// Its further lanes, if there was ever enough to carry.
    #[inline]
    pub(crate) fn lanes(&self) -> Option<&Lanes> {
        self.active.as_ref()?.lanes.as_deref()
    }

    /// Whether an initiation of it can be one for a further lane: the first lane has a tunnel, and its indices say the lane. (An
    /// older agent may have taken the place of one with lanes while the coordinator is away.)
    pub(crate) fn speaks_of_lanes(&self) -> bool {
        let theirs = self.active.as_ref().and_then(|active| active.theirs);
        self.runner.can.has(Ability::Lanes) && theirs.is_some_and(|theirs| theirs.lane() == LaneIx::FIRST)
    }

    /// Its active state, which is made if there is none.
    pub(crate) fn active(&mut self) -> &mut ActiveState {
        self.active.get_or_insert_default()
    }

    /// Whether it has started as many handshakes as it may.
    pub(crate) fn has_begun_enough(&self, now: Instant) -> bool {
        self.active.as_ref().is_some_and(|active| active.initiations.is_empty(INITIATIONS, now))
    }

    /// Notes that there was data or a handshake.
    pub(crate) const fn touch(&mut self, now: Instant) {
        self.used = now;
    }

    /// Whether there was data or a handshake lately.
    pub(crate) fn is_used(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) < IDLE
    }

    /// Whether something has to be found out with the next data: how far the path reaches, or whether there is a direct one.
    #[inline]
    pub(crate) fn waits_for_data(&self) -> bool {
        self.can_pong && self.link.waits_for_data()
    }

    /// Whether packets can be sent at once.
    pub(crate) fn is_ready(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.has_session()) && self.link.way().is_some()
    }

    /// Keeps a packet from the TUN `from` until there is a session.
    ///
    /// # Errors
    /// If too much waits already.
    pub(crate) fn stage(&mut self, from: Port, bytes: &[u8], now: Instant, drops: &mut Drops) -> Result<(), Reason> {
        let since = if self.may_ask(true, now) || self.has_hope(now) { Some(now) } else { now.checked_sub(GRACE) };
        let full = if self.is_broken() { Reason::NoHandshake } else { Reason::StagingFull };
        let displaced = self.active().staged.push(from, bytes, since.unwrap_or(now)).map_err(|Full| full)?;
        (0..displaced).for_each(|_| drops.count(Reason::StagingFull));
        Ok(())
    }

    /// Removes and returns the packets that wait.
    pub(crate) fn take_staged(&mut self) -> VecDeque<Staged> {
        self.active.as_mut().map(|active| active.staged.take()).unwrap_or_default()
    }

    /// Whether packets wait.
    pub(crate) fn has_staged(&self) -> bool {
        self.active.as_ref().is_some_and(|active| !active.staged.is_empty())
    }

    /// Drops the packets that have waited too long. If the runner doesn't answer, they are returned instead, to be
    /// rejected.
    pub(crate) fn expire_staged(&mut self, now: Instant, drops: &mut Drops) -> Vec<Staged> {
        let broken = self.is_broken();
        let Some(active) = &mut self.active else { return vec![] };
        let expired = active.staged.expired(if broken { GRACE } else { STAGED_FOR }, now);
        if broken {
            return expired;
        }
        expired.iter().for_each(|_| drops.count(Reason::NoHandshake));
        vec![]
    }

    /// Whether handshakes go unanswered.
    #[inline]
    pub(crate) fn is_failing(&self) -> bool {
        self.search.as_ref().is_some_and(|search| search.is_failing())
    }

    /// How many handshakes are unanswered, and for how long.
    pub(crate) fn failing(&self, now: Instant) -> Option<(u32, Duration)> {
        self.search.as_ref()?.failing(now)
    }

    /// Whether handshakes have been unanswered for so long that traffic is rejected.
    #[inline]
    pub(crate) fn is_broken(&self) -> bool {
        self.search.as_ref().is_some_and(|search| search.is_broken())
    }

    /// Notes that there is traffic for it.
    pub(crate) fn want(&mut self, now: Instant) {
        self.search.get_or_insert_default().want(now);
    }

    /// Returns whether patience has just run out, so that traffic is rejected from now on.
    pub(crate) fn breaks(&mut self, now: Instant) -> bool {
        self.search.as_mut().is_some_and(|search| search.breaks(now))
    }

    /// Notes that it has answered. Returns whether traffic was rejected before.
    pub(crate) fn answered(&mut self) -> bool {
        self.search.as_mut().is_some_and(|search| search.answered())
    }

    /// Whether a handshake may be sent now. `wanted`: for packets that wait.
    pub(crate) fn may_ask(&self, wanted: bool, now: Instant) -> bool {
        self.next_ask(wanted).is_none_or(|at| at <= now)
    }

    fn next_ask(&self, wanted: bool) -> Option<Instant> {
        let ask = if wanted && self.link.known().is_some() { Ask::Wanted } else { Ask::Chance };
        self.search.as_ref()?.next(ask)
    }

    /// Whether an answer may still arrive soon.
    fn has_hope(&self, now: Instant) -> bool {
        self.search.as_ref().is_none_or(|search| !search.is_broken() || search.has_hope(now))
    }

    /// Decides when the next tick is due. An unused tunnel is dropped with its keys, and its index is returned, with the
    /// further lanes, which are to be closed.
    pub(crate) fn rest(&mut self, now: Instant) -> Option<(TunnelIx, Option<Box<Lanes>>)> {
        let since = |then: Instant| now.saturating_duration_since(then);
        if self.is_broken() {
            let over = self.search.as_ref().is_some_and(|search| search.is_over(now));
            if self.has_staged() || !over {
                let soon = now + TICK;
                let next = if self.has_staged() { None } else { self.next_ask(false) };
                self.next_tick = Some(next.map_or(soon, |next| next.max(soon)));
                return None;
            }
            self.search = None;
        }
        let Some(tunnel) = &self.tunnel else {
            self.next_tick = self.has_staged().then(|| now + TICK);
            if self.next_tick.is_none() {
                // The next traffic starts a new search.
                self.search = None;
                self.link.sleep();
            }
            return None;
        };
        let age = tunnel.youngest_session(now).filter(|age| *age < SESSION);
        let rest = match (tunnel.asking(), age) {
            _ if self.has_staged() => Some(TICK),
            (Some(asking), None) => (since(asking) < PATIENCE).then_some(TICK),
            (Some(_), Some(_)) => Some(TICK),
            (None, _) if since(self.used) < IDLE => Some(TICK),
            (None, age) => age.map(|age| (SESSION - age).max(TICK)),
        };
        self.next_tick = rest.map(|rest| now + rest);
        if rest.is_some() {
            return None;
        }
        let lanes = self.active.take().and_then(|active| active.lanes);
        self.search = None;
        self.link.sleep();
        self.tunnel.take().map(|tunnel| (tunnel.index(), lanes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Builder;

    #[test]
    fn a_runner_that_is_known_and_idle_takes_little_beside_the_views_record() {
        let map = Builder::new(1).runner(2).map();
        let peer = Peer::new(Arc::clone(&map.route.runners[crate::index::RunnerIx(0)]), Instant::now());
        assert!(peer.active.is_none() && peer.tunnel.is_none());
        assert!(size_of::<Peer>() + limit::ADMISSION_BYTES <= 160, "{}", size_of::<Peer>());
    }
}
