//! A runner: an engine and its lanes, the queues between them, and the TUNs.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_engine::{Engine, Event, Lane, LaneIx, LaneSink, News, Order, Port, Sink};
use mesh_proto::InstanceId;

use super::{network::Batch, plan::Plan};
use crate::{
    pair::{endpoint, key},
    rng::Rng,
    stream::Packet,
    world::pins::Pins,
};

const RECORDS: usize = 1024;

pub(super) struct Runner {
    pub(super) engine: Engine,
    pins: Pins,
    pub(super) lanes: Vec<Station>,
    /// What has come to the engine's socket.
    pub(super) inbox: VecDeque<Batch>,
    /// What the kernels of the instances have put in their TUNs.
    pub(super) tuns: BTreeMap<Port, VecDeque<Packet>>,
    /// Packets that wait, of TUNs that aren't read meanwhile.
    pub(super) held: BTreeMap<Port, Waiting>,
    pub(super) moved: Vec<(Port, bool)>,
    /// The map that the engine has, those that are not in use yet, with the packets that have to be sent before, and the
    /// one that is said to be in use.
    pub(super) revision: u64,
    pub(super) applying: VecDeque<(u64, Vec<u64>)>,
    pub(super) applied: u64,
    /// When the thread does something next because there is work, and because time has passed.
    pub(super) turn: Option<Duration>,
    pub(super) due: Option<Duration>,
    /// A packet whose order is exchanged with another one's.
    pub(super) stash: Option<(LaneIx, Order, Packet)>,
}

pub(super) struct Waiting {
    pub(super) lane: LaneIx,
    pub(super) order: Order,
    pub(super) packet: Packet,
    /// It waits for the end of a move, and not only for room.
    pub(super) moves: bool,
}

/// A lane, and what is between its thread and the engine's.
pub(super) struct Station {
    pub(super) lane: Lane,
    pub(super) jobs: VecDeque<(Order, Packet)>,
    pub(super) tales: VecDeque<Tale>,
    pub(super) inbox: VecDeque<Batch>,
    /// Packets that were handed over, and those of them that are sent.
    pub(super) given: u64,
    pub(super) done: u64,
    /// Until when its thread stands still.
    pub(super) stopped: Duration,
    pub(super) turn: Option<Duration>,
    pub(super) due: Option<Duration>,
}

/// What a lane's thread tells the engine's.
pub(super) enum Tale {
    Done,
    News(News, Packet),
    Stray(SocketAddr, Vec<u8>),
}

/// The effects of an engine.
#[derive(Default)]
pub(super) struct Said {
    pub(super) sent: Vec<(SocketAddr, Vec<u8>, usize)>,
    pub(super) delivered: Vec<(Port, Packet)>,
    pub(super) orders: Vec<(LaneIx, Order)>,
    pub(super) moved: Vec<(Port, bool)>,
}

impl Sink for Said {
    fn send(&mut self, to: SocketAddr, batch: &[u8], stride: usize) {
        self.sent.push((to, batch.to_vec(), stride));
    }

    fn order(&mut self, lane: LaneIx, order: Order) {
        self.orders.push((lane, order));
    }

    fn moved(&mut self, port: Port, by_lane: bool) {
        self.moved.push((port, by_lane));
    }

    fn deliver(&mut self, to: Port, packet: &[u8]) {
        self.delivered.push((to, packet.to_vec()));
    }

    fn event(&mut self, _: Event) {}
}

/// The effects of a lane.
#[derive(Default)]
pub(super) struct Told {
    pub(super) sent: Vec<(SocketAddr, Vec<u8>, usize)>,
    pub(super) tales: Vec<Tale>,
}

impl LaneSink for Told {
    fn send(&mut self, _: Option<IpAddr>, to: SocketAddr, batch: &[u8], stride: usize) {
        self.sent.push((to, batch.to_vec(), stride));
    }

    fn tell(&mut self, news: News, packet: &[u8]) {
        self.tales.push(Tale::News(news, packet.to_vec()));
    }

    fn stray(&mut self, from: SocketAddr, _: Option<IpAddr>, datagram: &[u8]) {
        self.tales.push(Tale::Stray(from, datagram.to_vec()));
    }
}

impl Station {
    fn new(lane: LaneIx, runner: usize) -> Self {
        Self {
            lane: Lane::new(lane, &key(runner)),
            jobs: VecDeque::new(),
            tales: VecDeque::new(),
            inbox: VecDeque::new(),
            given: 0,
            done: 0,
            stopped: Duration::ZERO,
            turn: None,
            due: None,
        }
    }

    /// When its thread does something next.
    pub(super) fn next(&self) -> Option<Duration> {
        let next = [self.turn, self.due].into_iter().flatten().min();
        next.map(|next| next.max(self.stopped))
    }
}

impl Runner {
    pub(super) fn new(runner: usize, plan: &Plan, rng: &mut Rng, now: Instant) -> Self {
        let pins = Pins::default();
        let mut made = Self {
            engine: Engine::new(key(runner), rng.bytes(), pins.lend(RECORDS), now),
            pins,
            lanes: vec![],
            inbox: VecDeque::new(),
            tuns: plan.of(runner).map(|seat| (Plan::port(seat), VecDeque::new())).collect(),
            held: BTreeMap::new(),
            moved: vec![],
            revision: 0,
            applying: VecDeque::new(),
            applied: 0,
            turn: None,
            due: None,
            stash: None,
        };
        made.begin(runner, plan);
        made
    }

    /// The agent starts: the engine knows nothing yet but its number of lanes.
    fn begin(&mut self, runner: usize, plan: &Plan) {
        self.engine.set_lanes(plan.lanes[runner]);
        self.lanes = LaneIx::further(plan.lanes[runner]).map(|lane| Station::new(lane, runner)).collect();
        for seat in plan.of(runner) {
            self.engine.handle_attach(Plan::port(seat), InstanceId(seat as u64));
        }
    }

    /// The agent starts anew. What was under way inside of it is lost.
    pub(super) fn restart(&mut self, runner: usize, plan: &Plan, rng: &mut Rng, now: Instant) {
        // The earlier engine returns the memory.
        self.engine = Engine::new(key(runner), rng.bytes(), Box::new(vec![]), now);
        self.engine = Engine::new(key(runner), rng.bytes(), self.pins.lend(RECORDS), now);
        self.inbox.clear();
        self.held.clear();
        self.moved.clear();
        self.applying.clear();
        self.stash = None;
        self.begin(runner, plan);
        for other in (0..plan.lanes.len()).filter(|other| *other != runner) {
            self.engine.handle_known_endpoint(mesh_proto::RunnerId(other as u64), endpoint(other));
        }
    }
}
