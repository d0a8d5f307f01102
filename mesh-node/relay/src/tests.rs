//! The client against turn-server-proto, with virtual time and no sockets.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use turn_server_proto::{
    api::{Transmit, TurnServerApi, TurnServerPollRet},
    server::TurnServer,
};
use turn_types::TransportType;
use zeroize::Zeroizing;

use crate::{Allocation, Event, HEADER, Login, Run, Standing, Transport, Wrapped};

mod life;
mod passage;
mod several;
mod streams;

const RELAY: [u8; 4] = [203, 0, 113, 1];

fn login(name: &str) -> Login {
    Login::new(name, Zeroizing::new(format!("password of {name}")))
}

fn relay() -> SocketAddr {
    (RELAY, 3478).into()
}

/// A runner's address, as the relay sees it.
fn runner(n: u8) -> SocketAddr {
    ([198, 51, 100, n], 51820).into()
}

/// The address of a runner's connection, which passes where no datagram does. Each connection has a port of its own.
fn by_stream(n: usize) -> SocketAddr {
    ([198, 51, 100, 200], 40000 + n as u16).into()
}

/// A TURN server, the way to it, and the time.
struct World {
    start: Instant,
    now: Instant,
    server: TurnServer,
    port: u16,
    /// No datagram passes in either direction.
    cut: bool,
    /// What is on its way from the server to runners.
    out: VecDeque<(SocketAddr, Vec<u8>)>,
    /// How many datagrams have reached the server.
    asked: usize,
    /// Who has asked last.
    asker: SocketAddr,
}

impl World {
    fn new() -> Self {
        let start = Instant::now();
        let mut world = Self {
            start,
            now: start,
            server: server(),
            port: 50000,
            cut: false,
            out: VecDeque::new(),
            asked: 0,
            asker: relay(),
        };
        world.restart();
        world
    }

    /// The relay's process ends, and another begins that knows nothing.
    fn restart(&mut self) {
        self.server = server();
    }

    fn time(&self) -> turn_types::Instant {
        turn_types::Instant::from_nanos((self.now - self.start).as_nanos() as i64 + 1_000_000_000)
    }

    /// A datagram reaches the server, or one of its relayed addresses.
    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if self.cut && to == relay() && from.ip() != by_stream(0).ip() {
            return;
        }
        if to == relay() {
            (self.asked, self.asker) = (self.asked + 1, from);
        }
        let time = self.time();
        let answer = self.server.recv(Transmit::new(bytes, TransportType::Udp, from, to), time);
        if let Some(answer) = answer.map(|answer| answer.build()) {
            self.depart(answer.from, answer.to, answer.data);
        }
        while let TurnServerPollRet::AllocateSocket {
            transport,
            listen_addr,
            client_addr,
            allocation_transport,
            family,
        } = self.server.poll(time)
        {
            self.port += 1;
            let given = Ok((RELAY, self.port).into());
            self.server.allocated_socket(
                transport,
                listen_addr,
                client_addr,
                allocation_transport,
                family,
                given,
                time,
            );
        }
        while let Some(transmit) = self.server.poll_transmit(time) {
            self.depart(transmit.from, transmit.to, transmit.data);
        }
    }

    fn depart(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        // turn-server-proto 0.7.3 sends the answer to a Binding to itself.
        let to = if to == relay() { self.asker } else { to };
        if to.ip() == relay().ip() {
            self.arrive(from, to, bytes);
        } else if !self.cut || to.ip() == by_stream(0).ip() {
            self.out.push_back((to, bytes));
        }
    }
}

fn server() -> TurnServer {
    let mut server = TurnServer::new(TransportType::Udp, relay(), "mesh".to_owned());
    for name in ["1", "2", "3", "new"] {
        server.add_user(name.to_owned(), format!("password of {name}"));
    }
    server
}

/// A runner with an allocation, and what it got.
struct Runner {
    at: SocketAddr,
    client: Allocation,
    events: Vec<Event>,
    got: Vec<(SocketAddr, Vec<u8>)>,
}

impl Runner {
    fn new(n: u8, world: &World) -> Self {
        Self::named(n, login(&n.to_string()), None, world)
    }

    fn named(n: u8, login: Login, earlier: Option<Login>, world: &World) -> Self {
        let client = Allocation::new(Transport::Datagram, login, earlier, n.into(), world.now);
        Self { at: runner(n), client, events: vec![], got: vec![] }
    }

    fn relayed(&self) -> SocketAddr {
        self.client.relayed().expect("an allocation")
    }

    fn take(&mut self, received: &[u8], stride: usize, now: Instant) {
        let mut at = 0;
        while let Some(Run { peer, range, stride, skip }) = self.client.unwrap(received, stride, &mut at, now) {
            for datagram in received[range].chunks(stride) {
                self.got.push((peer, datagram[skip..].to_vec()));
            }
        }
    }

    /// Sends datagrams to a peer. Returns how.
    fn send(&mut self, world: &mut World, peer: SocketAddr, datagrams: &[&[u8]]) -> Wrapped {
        let stride = HEADER + datagrams[0].len();
        let mut batch: Vec<u8> = datagrams.iter().flat_map(|data| [&[0; HEADER][..], data].concat()).collect();
        let wrapped = self.client.wrap(peer, &mut batch, stride, world.now);
        for datagram in batch.chunks(stride) {
            match wrapped {
                Wrapped::Batch => world.arrive(self.at, relay(), datagram.to_vec()),
                Wrapped::Singly => {
                    world.arrive(self.at, relay(), self.client.indication(peer, &datagram[HEADER..]));
                }
                Wrapped::Not => {}
            }
        }
        wrapped
    }
}

/// Lets everything that is due happen, without a delay on the way.
fn settle(world: &mut World, runners: &mut [&mut Runner]) {
    loop {
        let mut busy = false;
        for runner in runners.iter_mut() {
            if runner.client.next_timeout().is_some_and(|at| at <= world.now) {
                runner.client.handle_timeout(world.now);
            }
            while let Some(message) = runner.client.poll_transmit() {
                busy = true;
                world.arrive(runner.at, relay(), message);
            }
            runner.events.extend(std::iter::from_fn(|| runner.client.poll_event()));
        }
        while let Some((to, bytes)) = world.out.pop_front() {
            busy = true;
            if let Some(runner) = runners.iter_mut().find(|runner| runner.at == to) {
                runner.take(&bytes, bytes.len(), world.now);
                runner.events.extend(std::iter::from_fn(|| runner.client.poll_event()));
            }
        }
        if !busy {
            return;
        }
    }
}

/// Lets time pass, from one deadline to the next.
fn pass(world: &mut World, runners: &mut [&mut Runner], time: Duration) {
    let end = world.now + time;
    loop {
        settle(world, runners);
        let next = runners.iter().filter_map(|runner| runner.client.next_timeout()).min();
        match next.filter(|next| *next <= end) {
            Some(next) => {
                assert!(next > world.now, "a deadline that is past is dealt with");
                world.now = next;
            }
            None => {
                world.now = end;
                return settle(world, runners);
            }
        }
    }
}

/// Two runners with allocations.
fn pair() -> (World, Runner, Runner) {
    let mut world = World::new();
    let (mut a, mut b) = (Runner::new(1, &world), Runner::new(2, &world));
    settle(&mut world, &mut [&mut a, &mut b]);
    assert_eq!(a.client.standing(), Standing::Allocated(a.relayed()));
    assert_eq!(b.client.standing(), Standing::Allocated(b.relayed()));
    (world, a, b)
}
