//! Tunnels over hours of virtual time: sessions are renewed without losing a packet, idle ones end, and idle or broken
//! ones come back.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_engine::{Datagrams, Engine, Event, Map, Port, Sink, VNET};
use mesh_proto::{InstanceId, RunnerId};
use mesh_tests::{
    errors,
    pair::{self, Told, address, endpoint, key},
};
use mock_instant::MockClock;

const SECOND: Duration = Duration::from_secs(1);

/// The first byte of a handshake initiation (WireGuard, §5.4.2).
const INITIATION: u8 = 1;

/// Two runners with one instance each, on a wire without delay.
struct Pair {
    engines: [Engine; 2],
    sinks: [Said; 2],
    start: Instant,
    now: Duration,
    /// Whether the wire is cut.
    cut: bool,
    /// The number of initiations and of other datagrams on the wire.
    initiations: usize,
    datagrams: usize,
    /// The destination of each datagram, its sender, and the time.
    log: Vec<(usize, SocketAddr, Duration)>,
}

#[derive(Default)]
struct Said {
    sent: Vec<(SocketAddr, Vec<u8>)>,
    delivered: usize,
}

impl Sink for Said {
    fn send(&mut self, to: SocketAddr, batch: &[u8], stride: usize) {
        self.sent.extend(batch.chunks(stride).map(|datagram| (to, datagram.to_vec())));
    }

    fn deliver(&mut self, _: Port, _: &[u8]) {
        self.delivered += 1;
    }

    fn event(&mut self, _: Event) {}
}

/// The runners are of version 0.1, at these addresses.
fn map_where(runner: usize, endpoints: impl Fn(usize) -> Vec<SocketAddr>) -> Map {
    pair::map(runner, 1344, &[0, 1].map(|number| Told::at(endpoints(number))))
}

const SYN: u8 = 0x02;
const RST_ACK: u8 = 0x14;
const ACK: u8 = 0x10;

/// A segment from one runner's instance to the other's.
fn packet(from: usize, flags: u8) -> Vec<u8> {
    let mut bytes = vec![0; VNET + 40];
    // With a partial checksum.
    bytes[0] = 1;
    let ip = &mut bytes[VNET..];
    (ip[0], ip[3], ip[8], ip[9], ip[32], ip[33]) = (0x45, 40, 64, 6, 0x50, flags);
    ip[12..16].copy_from_slice(&address(from).octets());
    ip[16..20].copy_from_slice(&address(1 - from).octets());
    bytes
}

impl Pair {
    fn new() -> Self {
        let start = Instant::now();
        let engine = |runner| {
            let mut engine = Engine::new(key(runner), [runner as u8; 32], Box::new(vec![0; 1 << 16]), start);
            engine.handle_map(map_where(runner, |number| vec![endpoint(number)]), start, &mut Said::default());
            engine.handle_attach(Port(1), InstanceId(runner as u64));
            engine
        };
        let engines = [engine(0), engine(1)];
        let sinks = Default::default();
        Self { engines, sinks, start, now: Duration::ZERO, cut: false, initiations: 0, datagrams: 0, log: vec![] }
    }

    fn instant(&self) -> Instant {
        self.start + self.now
    }

    /// One end's instance sends a packet of no connection. Returns whether it arrives at once.
    fn send(&mut self, from: usize) -> bool {
        self.send_with(from, RST_ACK)
    }

    fn send_with(&mut self, from: usize, flags: u8) -> bool {
        let (now, before) = (self.instant(), self.sinks[1 - from].delivered);
        self.engines[from].handle_tun(Port(1), &mut packet(from, flags), now, &mut self.sinks[from]);
        self.carry();
        self.sinks[1 - from].delivered > before
    }

    fn carry(&mut self) {
        let now = self.instant();
        loop {
            for end in [0, 1] {
                self.engines[end].flush(&mut self.sinks[end]);
            }
            let Some(from) = [0, 1].into_iter().find(|end| !self.sinks[*end].sent.is_empty()) else { return };
            for (to, datagram) in std::mem::take(&mut self.sinks[from].sent) {
                self.log.push((from, to, self.now));
                self.initiations += usize::from(datagram[0] == INITIATION);
                self.datagrams += 1;
                if !self.cut {
                    let (to, stride) = (1 - from, datagram.len());
                    let received =
                        Datagrams { from: endpoint(from).into(), local: None, bytes: &datagram, stride, skip: 0 };
                    self.engines[to].handle_udp(&received, now, &mut self.sinks[to]);
                }
            }
        }
    }

    /// Lets time pass from timer to timer. Returns how often a timer was due.
    fn wait(&mut self, time: Duration) -> usize {
        let (end, mut due) = (self.now + time, 0);
        loop {
            let next = self.engines.iter().filter_map(|engine| engine.next_timeout()).map(|(at, _)| at).min();
            let next = next.map(|at| at.saturating_duration_since(self.start).max(self.now)).filter(|at| *at <= end);
            let to = next.unwrap_or(end);
            MockClock::advance(to - self.now);
            self.now = to;
            if next.is_none() {
                return due;
            }
            let now = self.instant();
            for end in [0, 1] {
                self.engines[end].handle_timeout(now, &mut self.sinks[end]);
            }
            self.carry();
            due += 1;
        }
    }

    /// How much `count` grows during an action.
    fn counted(&mut self, count: fn(&Self) -> usize, act: impl FnOnce(&mut Self)) -> usize {
        let before = count(self);
        act(self);
        count(self) - before
    }
}

/// No test may log this.
fn without_errors(test: impl FnOnce(&mut Pair)) {
    let ((), errors) = errors::watched(|| test(&mut Pair::new()));
    assert_eq!(errors, [""; 0]);
}

#[test]
fn sessions_are_renewed_without_losing_a_packet() {
    for (both, every) in [(true, SECOND / 4), (true, SECOND * 7), (false, SECOND)] {
        without_errors(|pair| {
            let handshakes = pair.counted(
                |pair| pair.initiations,
                |pair| {
                    while pair.now < 3600 * SECOND {
                        assert!(pair.send(0), "there, at {:?}", pair.now);
                        assert!(!both || pair.send(1), "and back, at {:?}", pair.now);
                        pair.wait(every);
                    }
                },
            );
            // Every two minutes and at the next packet, by one side (WireGuard §6.2).
            assert!((28..=31).contains(&handshakes), "{handshakes} in an hour");
        });
    }
}

#[test]
fn one_side_may_do_all_the_talking() {
    // The responder's side: it can't renew the session, and the initiator has nothing to send.
    without_errors(|pair| {
        assert!(pair.send(0));
        let (mut sent, mut arrived) = (0, 0);
        while pair.now < 3600 * SECOND {
            sent += 1;
            arrived += usize::from(pair.send(1));
            pair.wait(SECOND);
        }
        assert_eq!(arrived, sent);
    });
}

#[test]
fn who_is_idle_is_silent_and_sleeps() {
    without_errors(|pair| {
        assert!(pair.send(0) && pair.send(1));
        pair.wait(30 * SECOND);
        let datagrams = pair.counted(|pair| pair.datagrams, |pair| _ = pair.wait(130 * SECOND));
        assert_eq!(datagrams, 0);
        let due = pair.wait(60 * SECOND);
        assert!(due <= 4, "woken {due} times");
        assert!(pair.engines.iter().all(|engine| engine.next_timeout().is_none()));
        let (now, before) = (pair.instant(), pair.initiations);
        let ages = pair.engines.each_ref().map(|engine| engine.report(now).peers[0].handshake_age);
        assert_eq!(ages, [None, None], "the keys are gone");
        assert_eq!(pair.wait(24 * 3600 * SECOND), 0);
        assert_eq!(pair.initiations, before);
    });
}

#[test]
fn who_was_idle_needs_no_handshake_while_the_session_lasts() {
    without_errors(|pair| {
        assert!(pair.send(0) && pair.send(1));
        for (idle, sender) in [(30, 0), (30, 1)] {
            pair.wait(idle * SECOND);
            let handshakes = pair.counted(
                |pair| pair.initiations,
                |pair| {
                    assert!(pair.send(sender));
                    // The answer takes longer than a tick.
                    pair.wait(SECOND);
                    assert!(pair.send(1 - sender));
                    pair.wait(20 * SECOND);
                },
            );
            assert_eq!(handshakes, 0, "after {idle} s");
        }
    });
}

#[test]
fn whatever_the_silence_the_next_packets_arrive() {
    // (The mock clock doesn't move the wall clock, so that a new tunnel sends older time stamps: both are new.)
    for idle in [1, 14, 16, 59, 119, 121, 160, 200, 539, 541, 700, 86_400] {
        without_errors(|pair| {
            assert!(pair.send(0) && pair.send(1));
            pair.wait(idle * SECOND);
            assert!(pair.send(0), "after {idle} s");
            assert!(pair.send(1), "after {idle} s");
        });
    }
}

#[test]
fn a_cut_heals_within_seconds_and_is_not_hammered() {
    for length in [5, 20, 60, 100] {
        without_errors(|pair| {
            assert!(pair.send(0) && pair.send(1));
            pair.wait(SECOND);
            pair.cut = true;
            let handshakes = pair.counted(
                |pair| pair.initiations,
                |pair| {
                    for _ in 0..length {
                        assert!(!pair.send(0));
                        pair.wait(SECOND);
                    }
                },
            );
            // One in five seconds until patience has run out; then at most one for each second in which a packet is
            // sent, and the packets are rejected.
            assert!(handshakes <= 4 + length / 2, "{handshakes} in {length} s");
            pair.cut = false;
            let start = pair.now;
            while !pair.send(0) {
                pair.wait(SECOND);
                assert!(pair.now - start <= 6 * SECOND, "still cut {:?} after {length} s", pair.now - start);
            }
        });
    }
}

#[test]
fn a_greeting_out_of_long_silence_is_dated_right() {
    without_errors(|pair| {
        assert!(pair.send(0) && pair.send(1));
        pair.wait(150 * SECOND);
        pair.cut = true;
        pair.engines[0].handle_known_endpoint(RunnerId(1), endpoint(1));
        pair.wait(10 * SECOND);
        pair.cut = false;
        assert_eq!(pair.counted(|pair| pair.initiations, |pair| _ = pair.wait(5 * SECOND)), 1, "it is tried again");
        assert!(pair.send(1));
    });
}

#[test]
fn no_runner_is_asked_for_ever() {
    without_errors(|pair| {
        pair.cut = true;
        assert!(!pair.send(0));
        pair.wait(60 * SECOND);
        pair.wait(300 * SECOND);
        assert!(
            pair.engines.iter().all(|engine| engine.next_timeout().is_none()),
            "five minutes after the last packet"
        );
        // A sender that insists gets handshakes as long as it does, but less and less often.
        for _ in 0..300 {
            pair.send(0);
            pair.wait(SECOND);
        }
        pair.cut = false;
        pair.wait(31 * SECOND);
        assert!(pair.send(0));
    });
}

/// A NAT or a stateful firewall between two runners forgets what it lets in after 30 s of silence.
#[test]
fn while_a_connection_stands_both_ends_keep_the_path_open_and_no_longer() {
    without_errors(|pair| {
        assert!(pair.send_with(0, ACK) && pair.send_with(1, ACK));
        let since = pair.now;
        pair.log.clear();
        pair.wait(3600 * SECOND);
        for end in [0, 1] {
            let mut times: Vec<Duration> =
                pair.log.iter().filter(|(from, ..)| *from == end).map(|sent| sent.2).collect();
            assert!(times.len() <= 3600 / 14 + 2 * 60, "{} datagrams in an hour", times.len());
            times.splice(0..0, [since]);
            times.push(pair.now);
            let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max();
            assert!(gap <= Some(25 * SECOND), "end {end} was silent for {gap:?}");
        }
        let now = pair.instant();
        assert!(pair.engines.iter().all(|engine| engine.report(now).peers[0].handshake_age.is_some()));
        assert!(pair.send_with(0, RST_ACK), "it ends");
        pair.wait(120 * SECOND);
        assert_eq!(pair.counted(|pair| pair.datagrams, |pair| _ = pair.wait(24 * 3600 * SECOND)), 0);
    });
}

/// The addresses that a runner names may belong to others.
#[test]
fn whatever_a_runner_names_few_datagrams_go_to_others() {
    let victim = |number: usize| SocketAddr::from(([203, 0, 113, number as u8], 53));
    for named in [1, 3, 16] {
        without_errors(|pair| {
            pair.cut = true;
            let now = pair.instant();
            let map = map_where(0, |_| (0..named).map(victim).collect());
            pair.engines[0].handle_map(map, now, &mut pair.sinks[0]);
            for (minutes, each, all) in [(1, 15, 36), (4, 8, 30), (10, 3, 10)] {
                for _ in 0..minutes {
                    pair.log.clear();
                    for _ in 0..60 {
                        pair.send_with(0, SYN);
                        pair.wait(SECOND);
                    }
                    let to = |number| pair.log.iter().filter(|(_, to, _)| *to == victim(number)).count();
                    let counts: Vec<usize> = (0..named).map(to).collect();
                    assert!(counts.iter().all(|count| *count <= each), "in minute {minutes}: {counts:?}");
                    assert!(counts.iter().sum::<usize>() <= all, "in minute {minutes}: {counts:?}");
                }
            }
        });
    }
}

/// Even if a runner names other addresses every second and answers at its own, the budget holds.
#[test]
fn a_runner_that_names_other_addresses_all_the_time_has_no_more_sent_there() {
    without_errors(|pair| {
        assert!(pair.send(0) && pair.send(1));
        pair.log.clear();
        for second in 0..60_u8 {
            let victim = |number: u8| SocketAddr::from(([203, 0, 113, number], u16::from(second) + 1));
            let now = pair.instant();
            let endpoints = |number: usize| match (number, second % 2) {
                (1, 0) => (0..15).map(victim).chain([endpoint(1)]).collect(),
                (1, _) => (0..16).map(victim).collect(),
                _ => vec![endpoint(0)],
            };
            pair.engines[0].handle_map(map_where(0, endpoints), now, &mut pair.sinks[0]);
            pair.carry();
            pair.send(0);
            pair.wait(SECOND);
        }
        let others = pair.log.iter().filter(|(from, to, _)| *from == 0 && *to != endpoint(1)).count();
        assert!(others <= 60, "{others} datagrams to others in a minute");
    });
}
