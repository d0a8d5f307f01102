//! The channels to peers (RFC 8656 §12). A peer keeps its number for as long as it is known, and for five minutes after
//! the relay has forgotten the channel, so that a late datagram is never taken for another peer's.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::frame::CHANNELS;

/// How long the relay keeps a channel, and how long before that it is asked for again.
const LIFE: Duration = Duration::from_secs(600);
const EARLY: Duration = Duration::from_secs(60);

/// How long the number of a channel that has ended must not go to another peer.
const COOLING: Duration = Duration::from_secs(300);

/// How long after a failure a channel is asked for again.
const RETRY: Duration = Duration::from_secs(5);

/// The index of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ix(u16);

impl Ix {
    pub(crate) fn number(self) -> u16 {
        CHANNELS.start + self.0
    }

    fn of(number: u16) -> Self {
        Self(number.wrapping_sub(CHANNELS.start))
    }

    fn at(self) -> usize {
        self.0.into()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be asked for.
    Wanted,
    /// Asked for.
    Asked,
    /// The relay knows it until then.
    Bound { until: Instant },
    /// The same, and it was asked to keep it for longer.
    Renewing { until: Instant },
    /// Not there, and asked for again with the first datagram after this.
    Failed { again: Instant },
}

#[derive(Debug)]
struct Channel {
    peer: SocketAddr,
    state: State,
    /// When a datagram was last sent to the peer.
    used: Instant,
    /// Until then the relay may send by this channel.
    lives: Instant,
}

/// The channels of one allocation.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    slots: Vec<Option<Channel>>,
    by_peer: HashMap<SocketAddr, Ix>,
}

impl Channels {
    /// The number of the channel to a peer, if it is bound. If not, it is wanted from now on. At most 4,096 peers have
    /// one, and the others do without.
    #[inline]
    pub(crate) fn number(&mut self, peer: SocketAddr, now: Instant) -> Option<u16> {
        let Some(&ix) = self.by_peer.get(&peer) else {
            self.add(peer, now);
            return None;
        };
        let channel = self.slots.get_mut(ix.at())?.as_mut()?;
        channel.used = now;
        match channel.state {
            State::Bound { until } | State::Renewing { until } if now < until => return Some(ix.number()),
            State::Failed { again } if now < again => {}
            State::Failed { .. } | State::Bound { .. } => channel.state = State::Wanted,
            State::Wanted | State::Asked | State::Renewing { .. } => {}
        }
        None
    }

    #[cold]
    fn add(&mut self, peer: SocketAddr, now: Instant) {
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        let Some(ix) = u16::try_from(free).ok().map(Ix).filter(|_| free < CHANNELS.len()) else { return };
        let channel = Some(Channel { peer, state: State::Wanted, used: now, lives: now });
        match self.slots.get_mut(free) {
            Some(slot) => *slot = channel,
            None => self.slots.push(channel),
        }
        self.by_peer.insert(peer, ix);
    }

    /// The peer of a channel, from which a datagram may come.
    #[inline]
    pub(crate) fn peer(&self, number: u16) -> Option<SocketAddr> {
        let channel = self.slots.get(Ix::of(number).at())?.as_ref()?;
        // One that was asked for may be used before its answer is here.
        (channel.state != State::Wanted).then_some(channel.peer)
    }

    /// A channel that has to be asked for, which is then taken to be.
    pub(crate) fn ask(&mut self) -> Option<(Ix, SocketAddr)> {
        let at = self.slots.iter().position(|slot| slot.as_ref().is_some_and(|c| c.state == State::Wanted))?;
        let channel = self.slots.get_mut(at)?.as_mut()?;
        channel.state = State::Asked;
        Some((Ix(u16::try_from(at).ok()?), channel.peer))
    }

    /// The same for one that is asked for by another message again.
    pub(crate) fn peer_of(&self, ix: Ix) -> Option<SocketAddr> {
        Some(self.slots.get(ix.at())?.as_ref()?.peer)
    }

    /// The relay has bound a channel.
    pub(crate) fn bound(&mut self, ix: Ix, now: Instant) {
        if let Some(Some(channel)) = self.slots.get_mut(ix.at()) {
            channel.state = State::Bound { until: now + LIFE };
            channel.lives = now + LIFE;
        }
    }

    /// The relay has refused a channel, or said nothing.
    pub(crate) fn failed(&mut self, ix: Ix, now: Instant) {
        if let Some(Some(channel)) = self.slots.get_mut(ix.at()) {
            channel.state = match channel.state {
                State::Renewing { until } => State::Bound { until },
                _ => State::Failed { again: now + RETRY },
            };
        }
    }

    /// The allocation has ended, and its channels with it.
    pub(crate) fn unbind(&mut self, now: Instant) {
        for channel in self.slots.iter_mut().flatten() {
            channel.state = State::Failed { again: now };
        }
    }

    /// Renews channels that are in use, and forgets those that are not. Returns one that has to be asked for; there may be
    /// more.
    pub(crate) fn sweep(&mut self, now: Instant) -> Option<(Ix, SocketAddr)> {
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let Some(channel) = slot else { continue };
            let idle = now.saturating_duration_since(channel.used) >= LIFE;
            match channel.state {
                State::Bound { until } if now + EARLY >= until && now < until && !idle => {
                    channel.state = State::Renewing { until };
                    return Some((Ix(u16::try_from(at).ok()?), channel.peer));
                }
                _ if idle && now >= channel.lives + COOLING => {
                    self.by_peer.remove(&channel.peer);
                    *slot = None;
                }
                _ => {}
            }
        }
        None
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_peer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn bound(channels: &mut Channels, port: u16, now: Instant) -> u16 {
        assert_eq!(channels.number(peer(port), now), None);
        let (ix, _) = channels.ask().unwrap();
        channels.bound(ix, now);
        channels.number(peer(port), now).unwrap()
    }

    #[test]
    fn a_channel_in_use_is_renewed_and_another_ends() {
        let (mut channels, start) = (Channels::default(), Instant::now());
        let (used, idle) = (bound(&mut channels, 1, start), bound(&mut channels, 2, start));
        assert_ne!(used, idle);
        let later = start + Duration::from_secs(545);
        assert_eq!(channels.number(peer(1), later), Some(used));
        let (ix, whose) = channels.sweep(later).unwrap();
        assert_eq!((ix.number(), whose), (used, peer(1)));
        channels.bound(ix, later);
        let at_the_end = start + Duration::from_secs(601);
        assert_eq!(channels.number(peer(1), at_the_end), Some(used));
        assert_eq!(channels.sweep(at_the_end), None);
        assert_eq!(channels.number(peer(2), at_the_end), None, "it has to be asked for anew");
        assert_eq!(channels.ask().map(|(ix, _)| ix.number()), Some(idle), "by the number that it had");
    }

    #[test]
    fn a_number_goes_to_another_peer_only_five_minutes_after_its_end() {
        let (mut channels, start) = (Channels::default(), Instant::now());
        let first = bound(&mut channels, 1, start);
        let cooling = start + Duration::from_secs(899);
        assert_eq!(channels.sweep(cooling), None);
        assert_ne!(bound(&mut channels, 2, cooling), first);
        assert_eq!(channels.peer(first), Some(peer(1)), "a late datagram is still this peer's");
        let cold = start + Duration::from_secs(900);
        assert_eq!(channels.sweep(cold), None);
        assert_eq!(channels.peer(first), None);
        assert_eq!(bound(&mut channels, 3, cold), first);
    }

    #[test]
    fn more_peers_than_numbers_are_no_harm() {
        let (mut channels, now) = (Channels::default(), Instant::now());
        for port in 0..5000 {
            assert_eq!(channels.number(peer(port), now), None);
        }
        assert_eq!(std::iter::from_fn(|| channels.ask()).count(), 4096);
        assert!(CHANNELS.contains(&bound_last(&channels)));
    }

    fn bound_last(channels: &Channels) -> u16 {
        channels.by_peer.values().map(|ix| ix.number()).max().unwrap()
    }

    #[test]
    fn a_refused_channel_is_asked_for_again_later() {
        let (mut channels, now) = (Channels::default(), Instant::now());
        assert_eq!(channels.number(peer(1), now), None);
        let (ix, _) = channels.ask().unwrap();
        channels.failed(ix, now);
        assert_eq!((channels.number(peer(1), now), channels.ask()), (None, None));
        assert_eq!(channels.number(peer(1), now + RETRY), None);
        assert_eq!(channels.ask(), Some((ix, peer(1))));
    }
}
