//! One runner, as seen by another: its tunnel while there is use for it, where it is, and what waits for a session.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_proto::view::Runner;

use crate::{
    Port, Reason,
    drop::Drops,
    limit::{self, Bucket, Limit, Rate},
    outbox::Hop,
    path::Path,
    search::{Ask, GRACE, Search},
    staged::{Full, Queue, Staged},
    tunnel::{CONTROL, SESSION, Tunnel},
};

/// How often the tunnels in use are ticked.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// Without data for this long, a tunnel has nothing to do until its session ends: more than the 15 s after which silence
/// leads to a handshake.
const IDLE: Duration = Duration::from_secs(20);

/// How long a handshake is tried that nobody waits for: four times, 5 s apart, and a moment for the last answer.
const PATIENCE: Duration = Duration::from_secs(18);

/// When an initiation that wasn't answered is sent again, everywhere: a round trip is never this long, and boringtun
/// makes a new one after 5 s only. (The other side takes it once, by its time stamp.)
const AGAIN: Duration = Duration::from_secs(1);

/// At how many addresses that were never proven a runner is looked for at a time.
const AT_A_TIME: usize = 3;

/// Initiations from one runner, which are worth four Diffie-Hellmans each: one in 20 ms, as other WireGuards hold it.
pub(crate) const INITIATIONS: Rate = Rate { each_second: 50, at_once: 5 };

/// Answers to our initiations from one runner, or somebody who has seen one: three Diffie-Hellmans each.
pub(crate) const RESPONSES: Rate = Rate { each_second: 10, at_once: 20 };

/// How long a packet waits for a session: TCP has sent it again by then.
const STAGED_FOR: Duration = Duration::from_secs(10);

/// One runner.
pub(crate) struct Peer {
    /// As the map has it.
    pub(crate) runner: Arc<Runner>,
    pub(crate) path: Path,
    /// Made when there is use for it.
    pub(crate) tunnel: Option<Box<Tunnel>>,
    /// When it wants to be ticked next; `None` while there is nothing to do.
    pub(crate) next_tick: Option<Instant>,
    /// Whether it is on the list of those that are ticked.
    pub(crate) listed: bool,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
    /// When data or a keepalive came from it last.
    pub(crate) heard: Option<Instant>,
    /// When there was data or a handshake last.
    used: Instant,
    /// Made with the first handshake, and given up with the tunnel unless that is unanswered.
    search: Option<Box<Search>>,
    /// Made when there is something to be kept, and given up with the tunnel: most that are known are idle.
    dealings: Option<Box<Dealings>>,
}

/// What is kept of a runner with which there is something to do.
pub(crate) struct Dealings {
    /// For refusals sent to it.
    pub(crate) limit: Limit,
    /// For [`INITIATIONS`] that were right: nobody else can use them up.
    pub(crate) initiations: Bucket,
    /// For [`RESPONSES`], right or wrong.
    pub(crate) responses: Bucket,
    staged: Queue,
    attempt: Option<Attempt>,
}

/// The latest initiation.
struct Attempt {
    message: [u8; CONTROL],
    sent: Instant,
    /// How often it is to be sent again.
    left: usize,
}

impl Default for Dealings {
    fn default() -> Self {
        Self {
            limit: Limit::new(limit::RUNNER),
            initiations: Bucket::full(),
            responses: Bucket::full(),
            staged: Queue::default(),
            attempt: None,
        }
    }
}

impl Peer {
    pub(crate) fn new(runner: Arc<Runner>, now: Instant) -> Self {
        Self {
            runner,
            path: Path::default(),
            tunnel: None,
            next_tick: None,
            listed: false,
            rx_bytes: 0,
            tx_bytes: 0,
            heard: None,
            used: now,
            search: None,
            dealings: None,
        }
    }

    /// Takes what a new map has of it; whether it has to be looked for at other addresses.
    pub(crate) fn offer(&mut self, runner: &Arc<Runner>) -> bool {
        let left = self.path.offer(&self.runner.endpoints, &runner.endpoints);
        let found = self.tunnel.as_ref().is_some_and(|tunnel| tunnel.has_session());
        let renewed = self.runner.endpoints != runner.endpoints && self.is_broken();
        if renewed && let Some(search) = &mut self.search {
            search.renew();
        }
        self.runner = Arc::clone(runner);
        left && found || renewed
    }

    /// Where a handshake is sent: to the address that was proven, and to some of the others in turn (a handshake that
    /// begins goes to no others at first). How often it takes until all have had it comes with it.
    pub(crate) fn targets(&mut self, begins: bool, has_loopback: bool, now: Instant) -> (Vec<Hop>, usize) {
        let can_be = |at: &SocketAddr| has_loopback || !at.ip().is_loopback();
        let unproven: Vec<SocketAddr> = self.path.unproven(&self.runner.endpoints).filter(can_be).collect();
        let proven = self.path.endpoint();
        let search = self.search.get_or_insert_default();
        let alone = begins && proven.is_some() && !search.is_broken();
        let turn = search.turn(unproven.len(), if alone { 0 } else { AT_A_TIME }, now);
        let targets = proven.into_iter().chain(turn.map(|i| unproven[i])).map(|to| self.path.hop_to(to)).collect();
        (targets, unproven.len().div_ceil(AT_A_TIME).max(1))
    }

    /// See [`Path::all`].
    pub(crate) fn all(&self) -> impl Iterator<Item = SocketAddr> {
        self.path.all(&self.runner.endpoints)
    }

    /// What is kept of it, from now on at least.
    pub(crate) fn dealings(&mut self) -> &mut Dealings {
        self.dealings.get_or_insert_default()
    }

    /// Whether it has begun as many handshakes as it may.
    pub(crate) fn has_begun_enough(&self, now: Instant) -> bool {
        self.dealings.as_ref().is_some_and(|dealings| dealings.initiations.is_empty(INITIATIONS, now))
    }

    /// Notes that there was data or a handshake.
    pub(crate) const fn touch(&mut self, now: Instant) {
        self.used = now;
    }

    /// Whether packets can be sent to it at once.
    pub(crate) fn is_ready(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.has_session()) && self.path.endpoint().is_some()
    }

    /// Keeps what was read from the TUN `from` until there is a session.
    ///
    /// # Errors
    /// If too much waits already.
    pub(crate) fn stage(&mut self, from: Port, octets: &[u8], now: Instant, drops: &mut Drops) -> Result<(), Reason> {
        let since = if self.may_ask(true, now) || self.has_hope(now) { Some(now) } else { now.checked_sub(GRACE) };
        let full = if self.is_broken() { Reason::NoHandshake } else { Reason::StagingFull };
        let displaced = self.dealings().staged.push(from, octets, since.unwrap_or(now)).map_err(|Full| full)?;
        (0..displaced).for_each(|_| drops.count(Reason::StagingFull));
        Ok(())
    }

    /// What waited, now that there is a session.
    pub(crate) fn take_staged(&mut self) -> VecDeque<Staged> {
        self.dealings.as_mut().map(|dealings| dealings.staged.take()).unwrap_or_default()
    }

    /// Whether something waits.
    pub(crate) fn has_staged(&self) -> bool {
        self.dealings.as_ref().is_some_and(|dealings| !dealings.staged.is_empty())
    }

    /// Gives up what has waited too long. What waits for a runner that doesn't answer is given back, to be refused.
    pub(crate) fn expire_staged(&mut self, now: Instant, drops: &mut Drops) -> Vec<Staged> {
        let broken = self.is_broken();
        let Some(dealings) = &mut self.dealings else { return vec![] };
        let expired = dealings.staged.expired(if broken { GRACE } else { STAGED_FOR }, now);
        if broken {
            return expired;
        }
        expired.iter().for_each(|_| drops.count(Reason::NoHandshake));
        vec![]
    }

    /// Remembers an initiation that was sent just now, and is to be sent again so often.
    pub(crate) fn attempted(&mut self, message: &[u8; CONTROL], left: usize, now: Instant) {
        self.search.get_or_insert_default().tried(now);
        self.dealings().attempt = Some(Attempt { message: *message, sent: now, left });
    }

    /// The initiation that has to be sent again.
    pub(crate) fn attempt_again(&mut self, now: Instant) -> Option<[u8; CONTROL]> {
        let dealings = self.dealings.as_mut()?;
        if self.tunnel.as_ref().is_none_or(|tunnel| tunnel.asking().is_none()) {
            dealings.attempt = None;
        }
        let attempt = dealings.attempt.as_mut()?;
        if attempt.left == 0 || now.saturating_duration_since(attempt.sent) < AGAIN {
            return None;
        }
        (attempt.left, attempt.sent) = (attempt.left - 1, now);
        Some(attempt.message)
    }

    /// Whether handshakes with it go unanswered.
    #[inline]
    pub(crate) fn is_failing(&self) -> bool {
        self.search.as_ref().is_some_and(|search| search.is_failing())
    }

    /// How many do, and for how long.
    pub(crate) fn failing(&self, now: Instant) -> Option<(u32, Duration)> {
        self.search.as_ref()?.failing(now)
    }

    /// Whether that has been so for so long that traffic for it is refused.
    #[inline]
    pub(crate) fn is_broken(&self) -> bool {
        self.search.as_ref().is_some_and(|search| search.is_broken())
    }

    /// Notes that there is traffic for it.
    pub(crate) fn want(&mut self, now: Instant) {
        self.search.get_or_insert_default().want(now);
    }

    /// Takes account of time: whether traffic for it is refused from now on.
    pub(crate) fn breaks(&mut self, now: Instant) -> bool {
        self.search.as_mut().is_some_and(|search| search.breaks(now))
    }

    /// Notes that it has answered: whether traffic for it was refused.
    pub(crate) fn answered(&mut self) -> bool {
        self.search.as_mut().is_some_and(|search| search.answered())
    }

    /// Whether a handshake may be sent now; `wanted`: for traffic that waits.
    pub(crate) fn may_ask(&self, wanted: bool, now: Instant) -> bool {
        self.next_ask(wanted).is_none_or(|at| at <= now)
    }

    fn next_ask(&self, wanted: bool) -> Option<Instant> {
        let ask = if wanted && self.path.endpoint().is_some() { Ask::Wanted } else { Ask::Chance };
        self.search.as_ref()?.next(ask)
    }

    /// Whether something that waits may still be answered soon.
    fn has_hope(&self, now: Instant) -> bool {
        self.search.as_ref().is_none_or(|search| !search.is_broken() || search.has_hope(now))
    }

    /// Decides when to tick next. A tunnel without use is given up, with its keys: its index is returned.
    pub(crate) fn rest(&mut self, now: Instant) -> Option<u32> {
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
                // What was tried is given up; what is wanted next begins anew.
                self.search = None;
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
        (self.dealings, self.search) = (None, None);
        self.tunnel.take().map(|tunnel| tunnel.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Builder;

    #[test]
    fn a_runner_that_is_known_and_idle_takes_little_beside_the_views_record() {
        let map = Builder::new(1).runner(2).map();
        let peer = Peer::new(Arc::clone(&map.route.runners[0]), Instant::now());
        assert!(peer.dealings.is_none() && peer.tunnel.is_none());
        assert!(size_of::<Peer>() + limit::ADMISSION_OCTETS <= 160, "{}", size_of::<Peer>());
    }
}
