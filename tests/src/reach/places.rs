//! Where runners and relays are, what boxes are before them, and how a datagram gets from one to the other.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::nat::{Ends, Nat, Passed};

/// The port of tunnels, and that of relays.
pub(super) const TUNNEL: u16 = 51820;
pub(super) const RELAY: u16 = 3478;

/// Between two ends that the Internet isn't between.
const NEAR: Duration = Duration::from_micros(200);

/// A box, and where its outside is.
pub(super) struct Placed {
    pub(super) nat: Nat,
    /// The box whose inside it is on; `None`: on the Internet, so far from its middle.
    within: Option<usize>,
    delay: Duration,
}

/// A runner's place.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    /// Its own addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// The box that it is behind, and the network there.
    pub(super) within: Option<(usize, u8)>,
    /// How far it is from the middle of the Internet, where it isn't behind a box.
    pub(super) delay: Duration,
}

/// Where a datagram is after all that a box has done with it.
pub(super) enum Way {
    /// It crosses the Internet, which takes so long one way.
    Internet(Ends, Duration),
    /// It has arrived at a runner.
    Here(usize, Ends, Duration),
}

/// Who gets a datagram from the Internet.
pub(super) enum Taker {
    Runner(usize, Ends),
    Relay(usize, Ends),
}

#[derive(Default)]
pub(super) struct Places {
    pub(super) boxes: Vec<Placed>,
    pub(super) seats: Vec<Seat>,
    /// The addresses of each relay, and how far it is from the middle of the Internet.
    pub(super) relays: Vec<(Vec<IpAddr>, Duration)>,
    /// How many addresses were given out.
    given: usize,
}

impl Seat {
    /// Its own address in the family of another one.
    pub(super) fn own(&self, to: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|own| own.is_ipv4() == to.is_ipv4())
    }
}

impl Places {
    /// The number of a new address.
    pub(super) const fn next_address(&mut self) -> usize {
        self.given += 1;
        self.given
    }

    /// Puts a box on the Internet, or within another one.
    pub(super) fn put(&mut self, nat: Nat, within: Option<usize>, delay: Duration) -> usize {
        self.boxes.push(Placed { nat, within, delay });
        self.boxes.len() - 1
    }

    /// A seat on the Internet, or behind a box.
    pub(super) const fn seat(addresses: Vec<IpAddr>, within: Option<(usize, u8)>, delay: Duration) -> Seat {
        Seat { addresses, within, delay }
    }

    /// The boxes before a runner, the nearest first.
    pub(super) fn before(&self, runner: usize) -> Vec<usize> {
        let first = self.seats[runner].within.map(|(site, _)| site);
        std::iter::successors(first, |site| self.boxes[*site].within).collect()
    }

    /// How far a runner is from the middle of the Internet.
    pub(super) fn delay(&self, runner: usize) -> Duration {
        self.before(runner).last().map_or(self.seats[runner].delay, |last| self.boxes[*last].delay)
    }

    /// A runner sends to an address.
    pub(super) fn leave(&mut self, runner: usize, to: SocketAddr, now: Duration) -> Option<Way> {
        let seat = self.seats[runner].clone();
        let mut ends = Ends { from: (seat.own(to.ip())?, TUNNEL).into(), to };
        let is_beside = |other: &Seat| {
            other.addresses.contains(&to.ip()) && (other.within.is_some() && other.within == seat.within)
        };
        let beside = self.seats.iter().position(is_beside);
        if let Some(to) = if seat.addresses.contains(&to.ip()) { Some(runner) } else { beside } {
            return Some(Way::Here(to, ends, NEAR));
        }
        // Networks behind the same box are kept apart.
        let site = seat.within.map(|within| within.0);
        let is_apart = |other: &Seat| other.addresses.contains(&to.ip()) && other.within.map(|within| within.0) == site;
        if site.is_some() && self.seats.iter().any(is_apart) {
            return None;
        }
        for site in self.before(runner) {
            match self.boxes[site].nat.leave(ends, now)? {
                Passed::Outwards(out) => ends = out,
                Passed::Inwards(back) => {
                    let (to, ends) = self.enter(site, back, now)?;
                    return Some(Way::Here(to, ends, NEAR));
                }
            }
        }
        Some(Way::Internet(ends, self.delay(runner) + self.distance(ends.to.ip())?))
    }

    /// A datagram from the Internet.
    pub(super) fn arrive(&mut self, ends: Ends, now: Duration) -> Option<Taker> {
        let to = ends.to.ip();
        if let Some(relay) = self.relays.iter().position(|(addresses, _)| addresses.contains(&to)) {
            return (ends.to.port() == RELAY).then_some(Taker::Relay(relay, ends));
        }
        if let Some(site) = self.outermost(to) {
            let Passed::Inwards(inwards) = self.boxes[site].nat.enter(ends, now)? else { return None };
            return self.enter(site, inwards, now).map(|(runner, ends)| Taker::Runner(runner, ends));
        }
        let runner = self.public(to)?;
        let mut ends = ends;
        for site in self.before(runner).into_iter().rev() {
            let Passed::Inwards(inwards) = self.boxes[site].nat.enter(ends, now)? else { return None };
            ends = inwards;
        }
        (ends.to.port() == TUNNEL).then_some(Taker::Runner(runner, ends))
    }

    /// A datagram is on the inside of a box.
    fn enter(&mut self, site: usize, ends: Ends, now: Duration) -> Option<(usize, Ends)> {
        let to = ends.to.ip();
        let is_there = |seat: &Seat| seat.addresses.contains(&to) && seat.within.is_some_and(|within| within.0 == site);
        if let Some(runner) = self.seats.iter().position(is_there) {
            return (ends.to.port() == TUNNEL).then_some((runner, ends));
        }
        let inner = self.boxes.iter().position(|inner| inner.within == Some(site) && inner.nat.outside() == to)?;
        match self.boxes[inner].nat.enter(ends, now)? {
            Passed::Inwards(ends) => self.enter(inner, ends, now),
            Passed::Outwards(_) => None,
        }
    }

    /// Whether a box is on the Internet.
    pub(super) fn is_outermost(&self, site: usize) -> bool {
        self.boxes[site].within.is_none()
    }

    fn outermost(&self, address: IpAddr) -> Option<usize> {
        self.boxes.iter().position(|placed| placed.within.is_none() && placed.nat.outside() == address)
    }

    /// How long a datagram of a relay takes to an address.
    pub(super) fn delay_from_relay(&self, relay: usize, to: IpAddr) -> Option<Duration> {
        Some(self.relays[relay].1 + self.distance(to)?)
    }

    /// The runner that has this public address.
    fn public(&self, address: IpAddr) -> Option<usize> {
        let is_public = match address {
            IpAddr::V4(v4) => !v4.is_private() && !in_carrier(v4),
            IpAddr::V6(_) => true,
        };
        self.seats.iter().position(|seat| is_public && seat.addresses.contains(&address))
    }

    /// How far an address is from the middle of the Internet, if it is on it.
    fn distance(&self, address: IpAddr) -> Option<Duration> {
        let relay = self.relays.iter().find(|(addresses, _)| addresses.contains(&address));
        relay
            .map(|relay| relay.1)
            .or_else(|| self.outermost(address).map(|site| self.boxes[site].delay))
            .or_else(|| self.public(address).map(|runner| self.delay(runner)))
    }
}

/// Whether an address is of a carrier's inside (RFC 6598).
const fn in_carrier(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 100 && second >= 64 && second < 128
}
