//! Each of these was tried with nftables in network namespaces, 20 ms from each other.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::*;

const ONE_WAY: Duration = Duration::from_millis(20);
/// When the pings of a meeting go, in milliseconds.
const PINGS: [u64; 5] = [0, 40, 100, 200, 400];

fn end(address: [u8; 4], port: u16) -> SocketAddr {
    (address, port).into()
}

fn inside(side: usize) -> SocketAddr {
    end([192, 168, 1 + side as u8, 5], 51820)
}

fn outside(side: usize) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, 1 + side as u8).into()
}

const STUN: [u8; 4] = [198, 51, 100, 1];

fn stun() -> SocketAddr {
    end(STUN, 3478)
}

fn outwards(passed: Option<Passed>) -> Ends {
    let Some(Passed::Outwards(ends)) = passed else { panic!("{passed:?}") };
    ends
}

/// Two runners that want to reach each other, each behind its box or none.
struct Pair {
    boxes: [Option<Nat>; 2],
    reflexive: [SocketAddr; 2],
    queue: BTreeMap<(Duration, u32), (usize, Ends)>,
    sent: u32,
    /// Whether each has got something from the other.
    got: [bool; 2],
}

impl Pair {
    fn new(kinds: [Kind; 2]) -> Self {
        let new = |side: usize| Nat::new(kinds[side], outside(side), side as u64 + 1);
        Self::behind([0, 1].map(|side| (kinds[side] != Kind::Public).then(|| new(side))))
    }

    fn behind(boxes: [Option<Nat>; 2]) -> Self {
        let mut pair = Self { boxes, reflexive: [0, 1].map(inside), queue: BTreeMap::new(), sent: 0, got: [false; 2] };
        for side in [0, 1] {
            pair.reflexive[side] = pair.leave(side, stun(), Duration::ZERO).map_or(inside(side), |ends| ends.from);
        }
        pair
    }

    fn leave(&mut self, side: usize, to: SocketAddr, now: Duration) -> Option<Ends> {
        let own = Ends { from: inside(side), to };
        let Some(nat) = &mut self.boxes[side] else { return Some(own) };
        nat.leave(own, now).map(|passed| outwards(Some(passed)))
    }

    fn send(&mut self, side: usize, to: SocketAddr, now: Duration) {
        if let Some(ends) = self.leave(side, to, now) {
            self.sent += 1;
            self.queue.insert((now + ONE_WAY, self.sent), (1 - side, ends));
        }
    }

    /// Each sends its pings, and answers what it gets. `starts`: when each begins, in milliseconds.
    fn punch(&mut self, starts: [u64; 2]) -> bool {
        let at = |side: usize| PINGS.map(|after| (Duration::from_millis(starts[side] + after), side));
        let mut pings: Vec<_> = [at(0), at(1)].concat();
        pings.sort_unstable();
        let (mut pings, mut answers) = (pings.into_iter().peekable(), 0);
        loop {
            let arrival = self.queue.keys().next().copied();
            let ping = pings.peek().copied();
            match (ping, arrival) {
                (Some((now, side)), arrival) if arrival.is_none_or(|(at, _)| at > now) => {
                    pings.next();
                    self.send(side, self.reflexive[1 - side], now);
                }
                (_, Some(at)) => {
                    let (to, ends) = self.queue.remove(&at).expect("it is there");
                    if let Some(arrived) = self.enter(to, ends, at.0) {
                        self.got[to] = true;
                        answers += 1;
                        if answers < 100 {
                            self.send(to, arrived.from, at.0);
                        }
                    }
                }
                _ => return self.got == [true; 2],
            }
        }
    }

    fn enter(&mut self, side: usize, ends: Ends, now: Duration) -> Option<Ends> {
        let Some(nat) = &mut self.boxes[side] else { return (ends.to == inside(side)).then_some(ends) };
        match nat.enter(ends, now)? {
            Passed::Inwards(ends) if ends.to == inside(side) => Some(ends),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn one_port_for_three_destinations_or_three_ports() {
    let ports = |kind| {
        let mut nat = Nat::new(kind, outside(0), 1);
        let port = |to| outwards(nat.leave(Ends { from: inside(0), to }, Duration::ZERO)).from.port();
        let ports = [1, 2, 3].map(|last| end([198, 51, 100, last], 3478)).map(port);
        std::collections::BTreeSet::from(ports).len()
    };
    for kind in [Kind::Home, Kind::Linux, Kind::Cone] {
        assert_eq!(ports(kind), 1, "{kind:?}");
    }
    assert_eq!(ports(Kind::Symmetric), 3);
}

/// Every pair comes to what the matrix says, if both begin at once.
#[test]
fn punching_succeeds_as_the_matrix_says() {
    for one in Kind::ALL {
        for other in Kind::ALL {
            assert_eq!(Pair::new([one, other]).punch([1000, 1000]), one.is_direct(other), "{one:?} and {other:?}");
        }
    }
}

/// Of two Linux hosts neither may hear the other before it has sent itself. A box that drops strangers doesn't care.
#[test]
fn linux_hosts_have_to_begin_within_the_one_way_delay() {
    for (skew, succeeds) in [(0, true), (10, true), (15, true), (25, false), (40, false)] {
        for starts in [[1000, 1000 + skew], [1000 + skew, 1000]] {
            assert_eq!(Pair::new([Kind::Linux, Kind::Linux]).punch(starts), succeeds, "{skew} ms");
            assert!(Pair::new([Kind::Home, Kind::Home]).punch(starts), "{skew} ms");
        }
    }
}

#[test]
fn a_stray_datagram_takes_the_port_until_it_was_quiet() {
    let poisoned = |then: u64| {
        let mut pair = Pair::new([Kind::Linux, Kind::Home]);
        let stray = Ends { from: pair.reflexive[1], to: pair.reflexive[0] };
        assert_eq!(pair.enter(0, stray, Duration::from_millis(1000)), None);
        pair.punch([1000 + then, 1000 + then])
    };
    assert!(!poisoned(1200));
    assert!(!poisoned(29_000));
    assert!(poisoned(31_000));
}

#[test]
fn who_keeps_sending_to_a_taken_port_keeps_it_taken() {
    let mut pair = Pair::new([Kind::Linux, Kind::Linux]);
    assert!(!pair.punch([1000, 1040]));
    for again in [10_000, 20_000, 30_000, 45_000] {
        assert!(!pair.punch([again, again]), "after {again} ms");
    }
    assert!(pair.punch([45_400 + 31_000, 45_400 + 31_000]), "30 s of quiet");
}

#[test]
fn a_public_runner_finds_one_behind_a_taken_port() {
    let mut pair = Pair::new([Kind::Linux, Kind::Public]);
    pair.send(1, pair.reflexive[0], Duration::from_millis(1000));
    assert!(pair.punch([2000, 2000]));
}

/// Two subnets behind one box.
#[test]
fn inside_ends_reach_each_other_by_their_outside_ports_with_hairpin_only() {
    for kind in [Kind::Home, Kind::Linux, Kind::Cone] {
        for hairpin in [false, true] {
            let mut nat = Nat::new(kind, outside(0), 1);
            if hairpin {
                nat = nat.with_hairpin();
            }
            let ports = [0, 1].map(|i| outwards(nat.leave(Ends { from: inside(i), to: stun() }, ONE_WAY)).from);
            assert_ne!(ports[0], ports[1], "{kind:?}");
            for (from, to) in [(0, 1), (1, 0)] {
                let passed = nat.leave(Ends { from: inside(from), to: ports[to] }, ONE_WAY);
                match passed {
                    Some(Passed::Inwards(ends)) if hairpin => {
                        assert_eq!(ends.to, inside(to), "{kind:?}");
                        let back = nat.leave(Ends { from: inside(to), to: ends.from }, ONE_WAY);
                        assert_eq!(back, Some(Passed::Inwards(Ends { from: ports[to], to: inside(from) })), "{kind:?}");
                    }
                    passed => assert!(passed.is_none() && !hairpin, "{kind:?}: {passed:?}"),
                }
            }
        }
    }
}

#[test]
fn what_is_silent_for_too_long_is_forgotten() {
    let second = Duration::from_secs(1);
    let open = |nat: &mut Nat, at| nat.enter(Ends { from: stun(), to: end([203, 0, 113, 1], 51820) }, at).is_some();
    for (timeouts, answered, lasts) in [
        (Timeouts::LINUX, true, 120),
        (Timeouts::LINUX, false, 30),
        (Timeouts { answered: 30 * second, ..Timeouts::LINUX }, true, 30),
    ] {
        for (after, stays) in [(lasts - 1, true), (lasts + 1, false)] {
            let mut nat = Nat::new(Kind::Home, outside(0), 1).with_timeouts(timeouts);
            outwards(nat.leave(Ends { from: inside(0), to: stun() }, second));
            assert!(!answered || open(&mut nat, second));
            assert_eq!(open(&mut nat, second * (1 + after)), stays, "after {after} s");
        }
    }
}

#[test]
fn after_a_flush_answers_come_in_again_once_something_has_gone_out() {
    let mut nat = Nat::new(Kind::Home, outside(0), 1);
    let (out, back) = (Ends { from: inside(0), to: stun() }, Ends { from: stun(), to: (outside(0), 51820).into() });
    outwards(nat.leave(out, ONE_WAY));
    assert!(nat.enter(back, ONE_WAY).is_some());
    nat.flush();
    assert_eq!(nat.enter(back, ONE_WAY), None);
    assert_eq!(outwards(nat.leave(out, ONE_WAY)), back.back());
    assert!(nat.enter(back, ONE_WAY).is_some());
    nat.renumber(outside(1));
    assert_eq!(outwards(nat.leave(out, ONE_WAY)).from, (outside(1), 51820).into());
}

/// Its port is taken by what came in first, as with a stray datagram.
#[test]
fn a_flushed_linux_host_takes_the_next_datagram_for_a_strangers() {
    let mut nat = Nat::new(Kind::Linux, outside(0), 1);
    let (out, back) = (Ends { from: inside(0), to: stun() }, Ends { from: stun(), to: (outside(0), 51820).into() });
    assert_eq!(outwards(nat.leave(out, ONE_WAY)), back.back());
    nat.flush();
    assert_eq!(nat.enter(back, ONE_WAY), None);
    assert_ne!(outwards(nat.leave(out, ONE_WAY)).from.port(), 51820);
}

/// A NAT of IPv4 is a firewall of IPv6.
#[test]
fn the_other_family_is_filtered_only() {
    let v6 = |last: u16| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 51820));
    let out = Ends { from: v6(1), to: v6(2) };
    for kind in [Kind::Firewall, Kind::Home, Kind::Linux, Kind::Cone, Kind::Symmetric] {
        let mut nat = Nat::new(kind, outside(0), 1);
        assert_eq!(nat.enter(out.back(), ONE_WAY), None, "{kind:?}");
        assert_eq!(nat.leave(out, ONE_WAY), Some(Passed::Outwards(out)), "{kind:?}");
        assert_eq!(nat.enter(out.back(), ONE_WAY), Some(Passed::Inwards(out.back())), "{kind:?}");
    }
}
