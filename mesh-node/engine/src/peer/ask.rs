//! To whom initiations go, and when they are sent again.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::Peer;
use crate::{
    hop::Way,
    path::{Around, Site},
    tunnel::CONTROL,
};

/// When an unanswered initiation is sent again, to every address: a round trip is never this long, and boringtun makes a
/// new one only after 5 s. (The other side accepts a time stamp once.)
const AGAIN: Duration = Duration::from_secs(1);

/// How much later than the address that a runner had last a relay is tried (RFC 8305 §5).
const RELAY: Duration = Duration::from_millis(250);

/// How many unproven addresses of a runner are tried at a time.
const AT_A_TIME: usize = 3;

/// The latest initiation.
pub(super) struct SentInitiation {
    message: [u8; CONTROL],
    sent: Instant,
    /// How often it will be sent again.
    left: usize,
    /// When it is sent by relays, if that waits.
    relays: Option<Instant>,
}

/// Where an initiation goes.
pub(crate) struct Targets {
    pub(crate) ways: Vec<Way>,
    /// How many rounds it takes to try all addresses.
    pub(crate) rounds: usize,
    /// Whether it goes by relays as well, a moment later.
    pub(crate) relays_later: bool,
}

/// Which sending of an initiation this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// The first one of a handshake that this engine begins.
    First,
    /// The same, by which the runner learns where this one is: by relays as well.
    Greeting,
    /// The first one of a handshake that the tunnel's timers begin.
    Timer,
    /// A later one.
    Again,
    /// By relays only, a moment after the first one.
    Relays,
}

impl Peer {
    /// Where an initiation goes: to the address that is known, by relays, and to some of the other addresses in turn. While
    /// the used path works, or where the runner was seen last, that alone is asked at first.
    pub(crate) fn targets(&mut self, round: Round, site: &Site, now: Instant) -> Targets {
        let around = Around { site, runner: &self.runner };
        let relays = self.link.relayed(around);
        let has_relay = !relays.is_empty();
        let trusted = !has_relay || self.link.is_up() || self.link.is_remembered(around, self.heard, now);
        let begins = matches!(round, Round::First | Round::Greeting);
        let known = self.link.known().filter(|way| trusted || way.to.is_relayed() || !begins);
        let everywhere = around.is_able() && (!has_relay || round == Round::Again);
        let unproven: Vec<SocketAddr> =
            self.link.unproven(around, everywhere).filter(|at| around.can_be(*at)).collect();
        let search = self.search.get_or_insert_default();
        let is_first = match round {
            Round::First | Round::Greeting => true,
            Round::Timer => has_relay && self.link.is_up(),
            Round::Again | Round::Relays => false,
        };
        let alone = is_first && known.is_some() && trusted && !self.link.is_in_doubt() && !search.is_broken();
        let by_relay = known.is_some_and(|way| way.to.is_relayed());
        let mut ways: Vec<Way> = known.into_iter().filter(|_| round != Round::Relays).collect();
        if !alone || round == Round::Greeting {
            ways.extend(relays.into_iter().filter(|way| known.is_none_or(|known| known.to != way.to)));
        }
        if !alone && round != Round::Relays {
            ways.extend(self.link.spare(now));
        }
        let most = if alone || round == Round::Relays { 0 } else { AT_A_TIME };
        let batch = search.next_batch(unproven.len(), most, now);
        ways.extend(batch.map(|i| self.link.way_to(unproven[i])));
        let rounds = unproven.len().div_ceil(AT_A_TIME).max(1);
        Targets { ways, rounds, relays_later: alone && has_relay && !by_relay && round != Round::Greeting }
    }

    /// Remembers an initiation that has just been sent and will be sent again `left` times.
    pub(crate) fn attempted(&mut self, message: &[u8; CONTROL], left: usize, relays_later: bool, now: Instant) {
        self.search.get_or_insert_default().tried(now);
        let relays = relays_later.then(|| now + RELAY);
        self.active().initiation = Some(SentInitiation { message: *message, sent: now, left, relays });
    }

    /// An unanswered initiation goes by relays as well, now that there is one.
    pub(crate) fn ask_by_relays(&mut self, now: Instant) {
        if let Some(search) = &mut self.search {
            search.renew();
        }
        if let Some(initiation) = self.active.as_mut().and_then(|active| active.initiation.as_mut()) {
            initiation.relays = Some(now);
            self.next_tick = self.next_tick.map(|at| at.min(now));
        }
    }

    /// How long ago the latest initiation was sent, if it was sent once.
    pub(crate) fn asked_for(&self, now: Instant) -> Option<Duration> {
        let sent = self.active.as_ref()?.initiation.as_ref()?.sent;
        Some(now.saturating_duration_since(sent))
    }

    /// The initiation, if it has to be sent again now, and how.
    pub(crate) fn attempt_again(&mut self, now: Instant) -> Option<([u8; CONTROL], Round)> {
        let active = self.active.as_mut()?;
        if self.tunnel.as_ref().is_none_or(|tunnel| tunnel.asking().is_none()) {
            active.initiation = None;
        }
        let initiation = active.initiation.as_mut()?;
        if initiation.relays.is_some_and(|at| at <= now) {
            (initiation.relays, initiation.sent) = (None, now);
            return Some((initiation.message, Round::Relays));
        }
        if initiation.left == 0 || now.saturating_duration_since(initiation.sent) < AGAIN {
            return None;
        }
        (initiation.left, initiation.sent) = (initiation.left - 1, now);
        Some((initiation.message, Round::Again))
    }
}
