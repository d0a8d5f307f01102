//! How a world is made: what is between the runners, how far everything is, and how many relays there are.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use mesh_engine::{Engine, Port};
use mesh_proto::{Abilities, InstanceId};

use super::{
    Bug, Scene,
    carry::Said,
    places::{Places, Seat},
    world::{Runner, Seen, World},
};
use crate::{
    Failure,
    nat::{Kind, Nat, Timeouts},
    pair::{Told, key, map},
    relay::{Client, Relay},
    rng::Rng,
};

/// What is between two runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Each is connected in its own way.
    Apart([Kind; 2]),
    /// Both are in one network behind one box.
    OneNetwork(Kind),
    /// Each is in a network of its own behind the same box, which is kept apart from the other one.
    TwoNetworks(Kind, Hairpin),
    /// Each is behind a home router, which is behind a NAT of its carrier.
    Twice([Kind; 2]),
    /// Both have a home router behind the same box of their carrier.
    SameCarrier(Kind, Hairpin),
    /// One has IPv6 only, and the other one IPv4 only.
    Families([Kind; 2]),
    /// Both have IPv6 behind firewalls, and IPv4 in these ways.
    Both([Kind; 2]),
}

/// Whether a box lets its inside ends reach each other by their outside addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hairpin {
    /// It does.
    Yes,
    /// It doesn't.
    No,
}

impl Between {
    /// Whether the runners come to a direct path.
    #[must_use]
    pub fn is_direct(self) -> bool {
        match self {
            Self::Apart([one, other]) => one.is_direct(other),
            Self::OneNetwork(_) | Self::Both(_) => true,
            Self::TwoNetworks(_, hairpin) | Self::SameCarrier(_, hairpin) => hairpin == Hairpin::Yes,
            Self::Twice([one, other]) => worse(one).is_direct(worse(other)),
            Self::Families(_) => false,
        }
    }

    /// Whether there is a box that a stray datagram spoils.
    pub(super) fn is_delicate(self) -> bool {
        match self {
            Self::Apart(kinds) | Self::Twice(kinds) | Self::Families(kinds) => kinds.contains(&Kind::Linux),
            Self::TwoNetworks(kind, _) | Self::SameCarrier(kind, _) => kind == Kind::Linux,
            Self::OneNetwork(_) | Self::Both(_) => false,
        }
    }
}

/// What a home router behind a box of this kind is like.
const fn worse(kind: Kind) -> Kind {
    match kind {
        Kind::Public | Kind::Firewall | Kind::Cone => Kind::Home,
        other => other,
    }
}

/// MTUs of the direct path.
const LINKS: [usize; 4] = [1500, 1500, 1400, 1280];

/// The port of an instance.
const PORT: Port = Port(1);

impl World {
    /// Two runners and some relays. Nothing has happened yet.
    pub(super) fn new(between: Between, relays: usize, seed: u64, scene: Scene, bug: Option<Bug>) -> Self {
        let old = (scene == Scene::Old).then_some(seed as usize % 2);
        let (mut rng, start) = (Rng::new(seed), Instant::now());
        let runner = |number: usize, rng: &mut Rng| {
            let mut engine = Engine::new(key(number), rng.bytes(), Box::new(vec![0; 1 << 16]), start);
            let is_able = bug != Some(Bug::Untold) && (old != Some(number) || bug == Some(Bug::Overstated));
            let can = if is_able { Abilities::ALL } else { Abilities::NONE };
            let told = Told { can, ..Told::default() };
            engine.handle_map(
                map(number, super::world::MTU, &[told.clone(), told.clone()]),
                start,
                &mut Said::default(),
            );
            engine.handle_attach(PORT, InstanceId(number as u64));
            let other = told.clone();
            Runner {
                engine,
                clients: vec![],
                tcp: false,
                relays: vec![],
                relayed: BTreeMap::new(),
                told,
                published: Told::default(),
                other,
            }
        };
        let runners = vec![runner(0, &mut rng), runner(1, &mut rng)];
        let mut world = Self {
            rng,
            bug,
            apart: scene == Scene::NoneShared,
            old,
            start,
            now: Duration::ZERO,
            places: Places::default(),
            relays: vec![],
            runners,
            streams: vec![],
            queue: BTreeMap::new(),
            sequence: 0,
            latest: BTreeMap::new(),
            writes: None,
            next_write: Duration::ZERO,
            patience: Duration::MAX,
            jitter: 50,
            loss: [0; 2],
            longest: 1500,
            away: false,
            seen: Seen::default(),
            trace: vec![],
        };
        world.longest = world.rng.pick(&LINKS).copied().unwrap_or(1500);
        world.put_relays(relays);
        world.put_runners(between);
        let words =
            format!("{between:?}, by relay {:?}, directly {:?}, {relays} relays", world.by_relay(), world.directly());
        world.note(&words);
        world
    }

    fn put_relays(&mut self, count: usize) {
        for number in 0..count {
            let address = IpAddr::V4(Ipv4Addr::new(198, 51, 100, number as u8 + 1));
            let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xfff, 0, 0, 0, 0, number as u16 + 1));
            self.relays.push(Relay::new(address));
            let delay = self.some_delay(2, 30);
            self.places.relays.push((vec![address, v6], delay));
        }
    }

    fn put_runners(&mut self, between: Between) {
        let seats: Vec<Seat> = match between {
            Between::Apart(kinds) => [0, 1_u8].map(|i| self.a_seat(i, kinds[usize::from(i)])).to_vec(),
            Between::OneNetwork(kind) => {
                let site = self.a_box(kind, None, false);
                let public = matches!(kind, Kind::Public | Kind::Firewall);
                let address = |world: &mut Self, i| if public { world.an_address() } else { inside(1, i) };
                [0, 1].map(|i| Places::seat(vec![address(self, i)], Some((site, 1)), Duration::ZERO)).to_vec()
            }
            Between::TwoNetworks(kind, hairpin) => {
                let site = self.a_box(kind, None, hairpin == Hairpin::Yes);
                [0, 1].map(|i| Places::seat(vec![inside(i, 0)], Some((site, i)), Duration::ZERO)).to_vec()
            }
            Between::Twice(kinds) => kinds.map(|kind| self.a_home_within(kind)).to_vec(),
            Between::SameCarrier(kind, hairpin) => {
                let carrier = self.a_box(kind, None, hairpin == Hairpin::Yes);
                [0, 1].map(|_| self.a_home_of(carrier)).to_vec()
            }
            Between::Families(kinds) => {
                let six = self.a_seat_of_six(0, kinds[0]);
                vec![six, self.a_seat(1, kinds[1])]
            }
            Between::Both(kinds) => {
                let seats = [0, 1_u8].map(|i| (self.a_seat(i, kinds[usize::from(i)]), six(i.into())));
                seats.map(|(seat, six)| Seat { addresses: [&seat.addresses[..], &[six]].concat(), ..seat }).to_vec()
            }
        };
        self.places.seats = seats;
        for runner in [0, 1] {
            self.connect_to_relays(runner);
        }
    }

    /// A runner's agent has just started, or is somewhere else: it asks for allocations.
    pub(super) fn connect_to_relays(&mut self, runner: usize) {
        let boxes = self.places.before(runner);
        self.runners[runner].tcp = boxes.iter().any(|site| self.places.boxes[*site].nat.kind() == Kind::Blocked);
        let (now, count) = (self.now, if self.old == Some(runner) { 0 } else { self.relays.len() });
        let apart = self.apart;
        let is_home = |relay: usize| !apart || relay / 2 == runner;
        let client = |relay, seed| if is_home(relay) { Client::new(seed, now) } else { Client::away(seed, now) };
        let seeds: Vec<u64> = (0..count).map(|_| self.rng.next()).collect();
        self.runners[runner].clients = seeds.into_iter().enumerate().map(|(relay, seed)| client(relay, seed)).collect();
        self.flush_clients(runner);
    }

    fn some_delay(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.rng.below(to - from))
    }

    /// A public address that no machine has had.
    pub(super) fn an_address(&mut self) -> IpAddr {
        let number = self.places.next_address();
        Ipv4Addr::new(203, 0, (number / 250) as u8, (number % 250) as u8 + 1).into()
    }

    fn a_box(&mut self, kind: Kind, within: Option<usize>, hairpin: bool) -> usize {
        let outside = if within.is_some() { carrier(self.places.next_address()) } else { self.an_address() };
        let mut nat = Nat::new(kind, outside, self.rng.next());
        if hairpin {
            nat = nat.with_hairpin();
        }
        if self.rng.chance(30) {
            nat = nat.with_timeouts(Timeouts { answered: Duration::from_secs(30), ..Timeouts::LINUX });
        }
        let delay = self.some_delay(5, 40);
        self.places.put(nat, within, delay)
    }

    /// A place with a connection of this kind. Runners at two sites may have the same inside address.
    pub(super) fn a_seat(&mut self, runner: u8, kind: Kind) -> Seat {
        let delay = self.some_delay(5, 40);
        if kind == Kind::Public {
            return Places::seat(vec![self.an_address()], None, delay);
        }
        let site = self.a_box(kind, None, false);
        let same = self.rng.chance(30);
        let address = match kind {
            Kind::Firewall => self.an_address(),
            _ => inside(if same { 1 } else { 1 + runner }, 0),
        };
        Places::seat(vec![address], Some((site, 0)), Duration::ZERO)
    }

    fn a_seat_of_six(&mut self, runner: u16, kind: Kind) -> Seat {
        let delay = self.some_delay(5, 40);
        let within = (kind != Kind::Public).then(|| (self.a_box(kind, None, false), 0));
        Places::seat(vec![six(runner)], within, delay)
    }

    fn a_home_within(&mut self, kind: Kind) -> Seat {
        let carrier = self.a_box(kind, None, false);
        self.a_home_of(carrier)
    }

    fn a_home_of(&mut self, carrier: usize) -> Seat {
        let home = self.a_box(Kind::Home, Some(carrier), false);
        Places::seat(vec![inside(home as u8, 0)], Some((home, 0)), Duration::ZERO)
    }

    /// Both agents have started: they have allocations, and know of each other.
    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        for runner in [0, 1] {
            self.tell(runner)?;
        }
        let far = self.places.relays.iter().map(|relay| relay.1).max().unwrap_or_default();
        let k = 2 * (far + self.places.delay(0).max(self.places.delay(1)));
        if !self.relays.is_empty() {
            self.until(4 * k, "allocations", |world| {
                world
                    .runners
                    .iter()
                    .all(|runner| runner.clients.iter().all(|it| it.is_away() || it.relayed().is_some()))
            })?;
        }
        self.run(Duration::from_millis(100))
    }
}

/// An address in a network behind a box.
fn inside(network: u8, host: u8) -> IpAddr {
    Ipv4Addr::new(192, 168, network, 5 + host).into()
}

/// An address in a carrier's network.
fn carrier(number: usize) -> IpAddr {
    Ipv4Addr::new(100, 64, 0, number as u8).into()
}

fn six(number: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 1).into()
}
