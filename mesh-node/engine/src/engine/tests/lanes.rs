//! Engines with lanes, whose work is done when the test says so.

use std::{collections::VecDeque, net::IpAddr};

use mesh_proto::{Abilities, Ability, Record, RunnerId, view::Runner};

use super::*;
use crate::{Lane, LaneIx, LaneSink, News, Order, order::Said, tunnel};

/// A lane, the orders that it hasn't carried out, and the news that its engine hasn't heard.
struct Station {
    lane: Lane,
    orders: VecDeque<(Order, Vec<u8>)>,
    news: VecDeque<(News, Vec<u8>)>,
    /// It does nothing for now.
    stopped: bool,
    /// How many packets it has sent and received, and how many datagrams it was refused.
    sent: usize,
    received: usize,
}

/// The effects of a lane.
#[derive(Default)]
struct Effects {
    sent: Vec<(SocketAddr, Vec<u8>, usize)>,
    news: Vec<(News, Vec<u8>)>,
    strays: Vec<(SocketAddr, Vec<u8>)>,
}

impl LaneSink for Effects {
    fn send(&mut self, _: Option<IpAddr>, to: SocketAddr, batch: &[u8], stride: usize) {
        self.sent.push((to, batch.to_vec(), stride));
    }

    fn tell(&mut self, news: News, packet: &[u8]) {
        self.news.push((news, packet.to_vec()));
    }

    fn stray(&mut self, from: SocketAddr, _: Option<IpAddr>, datagram: &[u8]) {
        self.strays.push((from, datagram.to_vec()));
    }
}

/// Two runners with lanes.
struct Laned {
    world: World,
    stations: [Vec<Station>; 2],
    /// Packets that wait for the end of a move: their TUN, lane and order.
    waiting: Vec<(usize, Port, LaneIx, Order, Vec<u8>)>,
    /// How many packets have waited.
    waited: usize,
    /// The datagrams that were lost.
    caught: Vec<Vec<u8>>,
}

fn able(runner: u64) -> Builder {
    view(runner).able()
}

impl Laned {
    fn new(lanes: [usize; 2]) -> Self {
        Self::of(lanes, [able(1), able(2)])
    }

    fn of(lanes: [usize; 2], views: [Builder; 2]) -> Self {
        let mut world = World::of(&views);
        for (runner, instance) in [(1, 10), (1, 30), (2, 20), (2, 40)] {
            world.attach(runner, instance);
        }
        for (runner, lanes) in (1..).zip(lanes) {
            world.engine(runner).set_lanes(lanes);
        }
        let stations = [1, 2].map(|runner| {
            let lanes = LaneIx::further(lanes[runner as usize - 1]);
            lanes.map(|lane| Station::new(lane, runner)).collect()
        });
        Self { world, stations, waiting: vec![], waited: 0, caught: vec![] }
    }

    /// A runner reads these bytes from a TUN, and everything happens that follows.
    fn read(&mut self, runner: u64, port: u32, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        self.world.with(runner, |engine, sink, now| engine.handle_tun(Port(port), &mut bytes, now, sink));
        self.take_orders(runner, Some((Port(port), bytes)));
        self.run();
    }

    /// Hands the engine's orders over. The last read goes with the one that is about it.
    fn take_orders(&mut self, runner: u64, mut read: Option<(Port, Vec<u8>)>) {
        let i = runner as usize - 1;
        for (lane, order) in std::mem::take(&mut self.world.sinks[i].orders) {
            match order.packet() {
                None => self.stations[i][usize::from(lane.0) - 1].orders.push_back((order, vec![])),
                Some((_, waits)) => {
                    let (port, bytes) = read.take().expect("an order is about the packet in hand, and there is one");
                    if waits {
                        self.waited += 1;
                        self.waiting.push((i, port, lane, order, bytes));
                    } else {
                        self.stations[i][usize::from(lane.0) - 1].orders.push_back((order, bytes));
                    }
                }
            }
        }
        for (port, by_lane) in std::mem::take(&mut self.world.sinks[i].moved) {
            let Some(at) = self.waiting.iter().position(|held| (held.0, held.1) == (i, port)) else { continue };
            let (_, _, lane, order, mut bytes) = self.waiting.remove(at);
            if by_lane {
                self.stations[i][usize::from(lane.0) - 1].orders.push_back((order, bytes));
            } else {
                let (to, _) = order.packet().unwrap();
                self.world.with(runner, |engine, sink, now| engine.handle_again(port, to, &mut bytes, now, sink));
            }
        }
    }

    /// Lets everything happen that can.
    fn run(&mut self) {
        while self.step() {}
    }

    fn step(&mut self) -> bool {
        let mut active = false;
        for i in 0..2 {
            self.take_orders(i as u64 + 1, None);
            for at in 0..self.stations[i].len() {
                active |= self.work(i, at, |_, _, _| ());
            }
        }
        let Some(datagrams) = self.world.wire.pop_front() else { return active };
        if (self.world.lost)(&datagrams) {
            self.caught.push(datagrams.batch);
        } else {
            self.arrive(datagrams);
        }
        true
    }

    /// Delivers datagrams to the socket that the kernel chooses by the first one.
    fn arrive(&mut self, datagrams: Datagrams) {
        // A round trip of no time would count as unknown.
        self.world.now += Duration::from_micros(1);
        let Datagrams { from, to, batch, stride } = datagrams;
        let Some(i) = self.world.from.iter().position(|at| Hop::Direct(*at) == to) else { return };
        let lane = tunnel::data_index(&batch[..stride]).map_or(LaneIx::FIRST, tunnel::TunnelIx::lane);
        match usize::from(lane.0) {
            0 => self.world.receive(i as u64 + 1, from, &batch, stride),
            at if at <= self.stations[i].len() => {
                let received = crate::Datagrams { from, local: None, bytes: &batch, stride, skip: 0 };
                self.work(i, at - 1, |lane, now, effects| lane.handle_udp(&received, now, effects));
            }
            _ => self.world.receive(i as u64 + 1, from, &batch, stride),
        }
    }

    /// A lane's turn. Returns whether it had something to do.
    fn work(&mut self, i: usize, at: usize, act: impl FnOnce(&mut Lane, Instant, &mut Effects)) -> bool {
        let now = self.world.now;
        let station = &mut self.stations[i][at];
        if station.stopped {
            return false;
        }
        let mut effects = Effects::default();
        act(&mut station.lane, now, &mut effects);
        let mut active = false;
        while let Some((order, mut bytes)) = station.orders.pop_front() {
            station.sent += usize::from(order.packet().is_some());
            station.lane.handle_order(order, &mut bytes, now, &mut effects);
            active = true;
        }
        station.lane.handle_timeout(now, &mut effects);
        station.lane.flush(&mut effects);
        active |= !effects.news.is_empty() || !effects.sent.is_empty();
        station.received += effects.news.iter().filter(|(news, _)| matches!(news.0, Said::Packet(..))).count();
        station.news.extend(effects.news);
        for (to, batch, stride) in effects.sent {
            self.world.wire.push_back(Datagrams { from: self.world.from[i].into(), to: to.into(), batch, stride });
        }
        for (from, datagram) in effects.strays {
            self.world.receive(i as u64 + 1, from, &datagram, datagram.len());
        }
        while let Some((news, mut bytes)) = self.stations[i][at].news.pop_front() {
            let runner = i as u64 + 1;
            self.world.with(runner, |engine, sink, now| engine.handle_lane(&news, &mut bytes, now, sink));
        }
        active
    }

    fn wait(&mut self, time: Duration) {
        let end = self.world.now + time;
        while self.world.now < end {
            self.world.now = end.min(self.world.now + Duration::from_millis(20));
            for runner in [1, 2] {
                self.world.with(runner, |engine, sink, now| engine.handle_timeout(now, sink));
            }
            self.run();
        }
    }

    /// Connection `number` is opened from instance 10 to service 2.
    fn open(&mut self, number: u16) {
        let syn = call().source_port(number).sequence(0).syn();
        self.read(1, 10, &syn.read(1304));
        let answer = Segment { acknowledgment: 1, ..reply().ports(5432, number).sequence(0).flags(SYN_ACK) };
        self.read(2, 20, &answer.read(1304));
        self.read(1, 10, &call().source_port(number).sequence(1).read(1304));
    }

    /// Sends bulk by a connection, which nothing acknowledges.
    fn send(&mut self, number: u16, from: u32, bytes: &[u8]) {
        self.read(1, 10, &call().source_port(number).sequence(from).payload(bytes).read(1304));
    }

    /// Sends enough bulk by connection 1 that lanes are opened, and acknowledges it.
    fn warm(&mut self) -> u32 {
        self.open(1);
        let (mut at, bulk) = (1, vec![7; 60_000]);
        for _ in 0..110 {
            self.send(1, at, &bulk);
            at += bulk.len() as u32;
        }
        self.acknowledge(1, at);
        self.world.delivered_bytes(20);
        at
    }

    fn acknowledge(&mut self, number: u16, up_to: u32) {
        let ack = Segment { acknowledgment: up_to, ..reply().ports(5432, number).sequence(1) };
        self.read(2, 20, &ack.read(1304));
    }

    fn sent(&self, i: usize) -> Vec<usize> {
        self.stations[i].iter().map(|station| station.sent).collect()
    }
}

impl Station {
    fn new(lane: LaneIx, runner: u64) -> Self {
        let lane = Lane::new(lane, &key(runner));
        let (orders, news) = (VecDeque::new(), VecDeque::new());
        Self { lane, orders, news, stopped: false, sent: 0, received: 0 }
    }
}

/// Bytes that show where they belong.
fn pattern(number: u16, at: u32, len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| ((at + i) / 251 + u32::from(number) * 17) as u8).collect()
}

#[test]
fn bulk_goes_by_several_lanes_and_arrives_whole_and_in_order() {
    let mut laned = Laned::new([4, 4]);
    laned.warm();
    assert_eq!(laned.stations[0].iter().map(|station| station.lane.tunnels()).collect::<Vec<_>>(), [1, 1, 1]);
    let connections = 2..14;
    connections.clone().for_each(|number| laned.open(number));
    laned.world.sinks[1].delivered.clear();
    let (mut at, waited) = (1, laned.waited);
    for _ in 0..20 {
        for number in connections.clone() {
            laned.send(number, at, &pattern(number, at, 30_000));
        }
        at += 30_000;
        connections.clone().for_each(|number| laned.acknowledge(number, at));
    }
    let mut expected = [1; 14];
    for (_, bytes) in laned.world.sinks[1].delivered.drain(..) {
        let number = u16::from_be_bytes([bytes[VNET + 20], bytes[VNET + 21]]);
        let sequence = u32::from_be_bytes(bytes[VNET + 24..VNET + 28].try_into().unwrap());
        let next = &mut expected[usize::from(number)];
        assert_eq!(sequence, *next, "connection {number} is in order");
        let payload = &bytes[VNET + 40..];
        assert_eq!(payload, pattern(number, sequence, payload.len()), "connection {number}");
        *next += payload.len() as u32;
    }
    assert_eq!(expected[2..], [at; 12]);
    let sent = laned.sent(0);
    assert!(sent.iter().all(|sent| *sent >= 60), "{sent:?}: each lane carries at least three connections");
    assert_eq!(laned.waited, waited, "nothing was under way when they began");
    let now = laned.world.now;
    let drops: Vec<_> = [1, 2].map(|runner| laned.world.engine(runner).report(now).drops).concat();
    assert_eq!(drops.iter().map(|(_, count)| count).sum::<u64>(), 0, "{drops:?}");
}

#[test]
fn a_lanes_session_takes_at_most_12_kib() {
    // Beside it there are a place in a map, and one in the engine's.
    assert!(size_of::<crate::lane::Entry>() <= 23 << 9, "{}", size_of::<crate::lane::Entry>());
}

#[test]
fn what_has_waited_for_the_first_lanes_session_goes_by_the_first_lane() {
    let mut laned = Laned::new([2, 2]);
    let at = laned.warm();
    (2..6).for_each(|number| laned.open(number));
    (2..6).for_each(|number| laned.send(number, 1, &pattern(number, 1, 30_000)));
    let by_lane = laned.sent(0);
    assert!(by_lane[0] > 0);
    laned.world.sinks[1].delivered.clear();
    // The first lane's session is lost, and the others are not.
    laned.world.engine(1).forget_first_lane(RunnerId(2));
    for number in 2..6 {
        laned.send(number, 30_001, &pattern(number, 30_001, 20_000));
    }
    laned.run();
    assert_eq!(laned.world.delivered_bytes(20).len(), 4 * 20_000, "{at}");
}

#[test]
fn a_small_amount_stays_on_the_first_lane() {
    let mut laned = Laned::new([4, 4]);
    laned.open(1);
    (0..16u32).for_each(|i| laned.send(1, 1 + i * 60_000, &[7; 60_000]));
    assert!(laned.stations.iter().flatten().all(|station| station.lane.tunnels() == 0));
}

#[test]
fn a_runner_that_knows_no_lanes_or_has_fewer_gets_no_more_than_it_has() {
    let without = |runner: u64, lacking: u64| {
        let mut builder = able(runner);
        let there = builder.0.runners().find(|there| there.id == RunnerId(lacking)).unwrap().clone();
        let can = Abilities::ALL.without(Ability::Lanes);
        builder.0.put(Record::Runner(std::sync::Arc::new(Runner { can, ..Runner::clone(&there) })));
        builder
    };
    let mut laned = Laned::of([4, 1], [without(1, 2), able(2)]);
    laned.warm();
    assert_eq!((laned.sent(0), laned.world.dropped(2, Reason::NoLane)), (vec![0, 0, 0], 0));

    let mut laned = Laned::new([4, 2]);
    let at = laned.warm();
    assert_eq!(laned.world.dropped(2, Reason::NoLane), 2);
    laned.wait(Duration::from_secs(2));
    laned.send(1, at, &pattern(1, at, 30_000));
    laned.open(2);
    laned.send(2, 1, &pattern(2, 1, 30_000));
    laned.run();
    assert_eq!(laned.sent(0)[1..], [0, 0], "two lanes don't exist there");
    assert_eq!(laned.sent(0)[0], 1);
    let bytes = laned.world.delivered_bytes(20);
    assert!(bytes.len() >= 60_000);
}

#[test]
fn a_connection_in_full_flow_moves_when_what_is_under_way_has_arrived() {
    let mut laned = Laned::new([2, 2]);
    let at = laned.warm();
    // Its pings and pongs are slow, and so is what it has under way.
    for number in 2..8 {
        laned.open(number);
    }
    laned.acknowledge(1, at);
    let first = laned.sent(0)[0];
    for number in 2..8 {
        // The first one is not acknowledged when the second one is sent, which is the first bulk.
        laned.send(number, 1, &pattern(number, 1, 3000));
        laned.send(number, 3001, &pattern(number, 3001, 30_000));
        laned.send(number, 33_001, &pattern(number, 33_001, 30_000));
    }
    assert!(laned.waited >= 3, "{}", laned.waited);
    assert!(laned.sent(0)[0] - first >= 6, "{:?}", laned.sent(0));
    assert!(laned.waiting.is_empty());
    let mut next = [1u32; 8];
    for (_, bytes) in laned.world.sinks[1].delivered.drain(..).filter(|(_, bytes)| bytes.len() > VNET + 40) {
        let number = usize::from(bytes[VNET + 21]);
        let sequence = u32::from_be_bytes(bytes[VNET + 24..VNET + 28].try_into().unwrap());
        assert_eq!(sequence, next[number]);
        next[number] += (bytes.len() - VNET - 40) as u32;
    }
    assert_eq!(next[2..], [63_001; 6]);
}

#[test]
fn a_connection_whose_move_is_not_answered_stays_and_loses_nothing() {
    let mut laned = Laned::new([2, 2]);
    laned.warm();
    (2..6).for_each(|number| laned.open(number));
    laned.world.sinks[1].delivered.clear();
    // Pings are lost from now on: they are the only short data that runner 1 sends.
    laned.world.lost = |datagrams| datagrams.to == Hop::Direct(endpoint(2)) && datagrams.batch.len() < 100;
    let mut sent = 0;
    for number in 2..6 {
        laned.send(number, 1, &pattern(number, 1, 3000));
        laned.send(number, 3001, &pattern(number, 3001, 30_000));
        sent += 33_000;
        // Its TUN isn't read meanwhile.
        if !laned.waiting.is_empty() {
            break;
        }
    }
    assert_eq!(laned.waiting.len(), 1);
    laned.wait(Duration::from_millis(200));
    assert!(laned.waiting.is_empty());
    assert_eq!(laned.world.delivered_bytes(20).len(), sent);
}

#[test]
fn a_runner_that_is_revoked_loses_its_lanes_and_what_they_bring() {
    let mut laned = Laned::new([3, 3]);
    laned.warm();
    laned.open(2);
    laned.world.sinks[1].delivered.clear();
    laned.stations[1].iter_mut().for_each(|station| station.stopped = true);
    laned.send(2, 1, &pattern(2, 1, 30_000));
    // What is under way arrives after the revocation.
    let revoked = Builder::new(2).runner(2).deployment(2, "acme").service(2, 2).instance(20, 2, 2).able();
    laned.world.map(2, &revoked);
    laned.stations[1].iter_mut().for_each(|station| station.stopped = false);
    laned.run();
    assert!(laned.stations[1].iter().all(|station| station.lane.tunnels() == 0));
    laned.send(2, 30_001, &pattern(2, 30_001, 30_000));
    assert_eq!(laned.world.delivered_bytes(20), b"");
}

#[test]
fn what_a_lane_brings_is_judged_by_the_rules_of_that_moment() {
    let mut laned = Laned::new([2, 2]);
    laned.warm();
    (2..5).for_each(|number| laned.open(number));
    (2..5).for_each(|number| laned.send(number, 1, &pattern(number, 1, 30_000)));
    assert!(laned.sent(0)[0] >= 1 && laned.stations[1][0].received >= 1);
    laned.world.sinks[1].delivered.clear();
    laned.world.map(2, &unrelated(2).able());
    laned.run();
    laned.world.sinks[1].delivered.clear();
    (2..5).for_each(|number| laned.send(number, 30_001, &pattern(number, 30_001, 30_000)));
    let delivered = laned.world.sinks[1].delivered.drain(..);
    assert!(delivered.into_iter().all(|(_, bytes)| bytes.len() <= VNET + 60), "nothing but resets");
    assert!(laned.world.dropped(2, Reason::NoTrust) > 0);
}

#[test]
fn a_runner_that_starts_anew_gets_data_by_the_first_lane_until_the_others_stand_again() {
    let mut laned = Laned::new([2, 2]);
    laned.warm();
    (2..8).for_each(|number| laned.open(number));
    (2..8).for_each(|number| laned.send(number, 1, &pattern(number, 1, 30_000)));
    laned.world.sinks[1].delivered.clear();
    // Its new engine knows nothing, and greets.
    let now = laned.world.now;
    laned.world.engines[1] = Engine::new(key(2), [9; 32], Box::new(vec![0; PINS]), now);
    laned.world.engine(2).set_lanes(2);
    laned.stations[1] = vec![Station::new(LaneIx(1), 2)];
    laned.world.map(2, &able(2));
    [20, 40].into_iter().for_each(|instance| laned.world.attach(2, instance));
    laned.world.engine(2).handle_known_endpoint(RunnerId(1), endpoint(1));
    laned.wait(Duration::from_secs(2));
    (2..8).for_each(|number| laned.send(number, 30_001, &pattern(number, 30_001, 30_000)));
    assert_eq!(laned.world.delivered_bytes(20).len(), 6 * 30_000);
}

#[test]
fn handshakes_for_lanes_have_a_limit_of_their_own() {
    let mut laned = Laned::new([2, 2]);
    // The first initiation for a lane is caught on its way.
    laned.world.lost = |datagrams| datagrams.batch.len() == 148 && datagrams.batch[5] % 8 == 1;
    laned.warm();
    laned.world.lost = |_| false;
    laned.wait(Duration::from_secs(6));
    let initiation = laned.caught.pop().expect("an initiation for lane 1");
    for _ in 0..100 {
        laned.world.receive(2, endpoint(1), &initiation, initiation.len());
    }
    let passed = laned.world.sinks[1].orders.len();
    assert!((1..=10).contains(&passed), "{passed}");
    laned.run();
    // Handshakes of the first lane are still admitted.
    laned.world.engine(1).handle_address_change();
    let before = laned.world.dropped(2, Reason::HandshakeLimited);
    laned.wait(Duration::from_millis(50));
    assert_eq!(laned.world.dropped(2, Reason::HandshakeLimited), before);
}

#[test]
fn each_lane_refuses_what_is_replayed() {
    let mut laned = Laned::new([2, 2]);
    laned.warm();
    (2..4).for_each(|number| laned.open(number));
    laned.stations[1][0].stopped = true;
    let before = laned.world.dropped(2, Reason::Replayed);
    laned.stations[1][0].stopped = false;
    // Everything is delivered twice.
    for number in 2..4 {
        let read = call().source_port(number).sequence(1).payload(&[3; 30_000]).read(1304);
        let mut bytes = read.clone();
        laned.world.with(1, |engine, sink, now| engine.handle_tun(Port(10), &mut bytes, now, sink));
        laned.take_orders(1, Some((Port(10), bytes)));
        laned.work(0, 0, |_, _, _| ());
        let twice: Vec<_> = laned.world.wire.drain(..).flat_map(|one| [one.copy(), one]).collect();
        laned.world.wire.extend(twice);
        laned.run();
    }
    assert!(laned.sent(0)[0] >= 1);
    assert_eq!(laned.world.delivered_bytes(20).len(), 2 * 30_000);
    assert!(laned.world.dropped(2, Reason::Replayed) - before >= 2 * 23);
}

impl Datagrams {
    fn copy(&self) -> Self {
        Self { from: self.from, to: self.to, batch: self.batch.clone(), stride: self.stride }
    }
}
