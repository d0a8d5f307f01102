//! The data plane's thread: it waits, reads, calls the engine, and never queues.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use mesh_dns::Directory;
use mesh_engine::{Datagrams, Engine, Map, Port, Switches, UDP_BUFFER};
use mesh_link::Carrier;
use mesh_proto::{InstanceId, RelayId, RunnerId, relay::Relayed};
use mesh_relay_client::Inflow;
use mesh_udp::{Inbox, Message};
use nix::sys::eventfd::EventFd;
use tokio::sync::oneshot;

use super::{
    counters::{Counter, Counters},
    event::DataEvent,
    io::{Io, Reading},
    lanes::{Buffer, Lanes, Read, buffer},
    pings::Pong,
    reception::is_sound,
    relay,
    report::{Report, Traffic},
    resolver::Resolver,
    share::Shares,
};
use crate::sys::{
    epoll::{Poll, Ready},
    tun,
};

/// A request of another thread.
pub(super) enum Command {
    Attach(Port, OwnedFd, InstanceId),
    Detach(Port),
    Ended(InstanceId),
    Map(Box<Map>),
    Directory(Arc<Directory>),
    Switches(Switches),
    Moved,
    Relays(Vec<mesh_relay_client::Config>),
    OwnAddresses(Vec<SocketAddr>),
    Ping(RunnerId, oneshot::Sender<Pong>),
    Connected(RelayId, Option<Box<Carrier>>),
    Report(oneshot::Sender<Report>),
}

/// The most packets or super-packets of one TUN in a turn, and the most receive calls: enough to fill batches, and few
/// enough to keep the turn short. The next wait reports what is left. (With 8 receive calls a stream was 7 % slower and a
/// round trip beside it 15 % longer; with 1, or with 8 super-packets, the stream was slower as well.)
const DRAIN: usize = 32;
const RECEIVES: usize = 2;

/// The tokens of the socket and the wake-up for epoll. A TUN's token is its port.
const UDP: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

pub(super) struct Worker {
    pub(super) engine: Engine,
    pub(super) io: Io,
    resolver: Resolver,
    pub(super) poll: Poll,
    commands: mpsc::Receiver<Command>,
    wake: Arc<EventFd>,
    switches: Switches,
    inbox: Inbox,
    pub(super) packet: Buffer,
    pub(super) lanes: Lanes,
    shares: Shares,
    /// Whether lanes may have more to say than they were asked for in the last turn.
    pub(super) unheard: bool,
    /// The latest addresses at relays.
    relayed: BTreeMap<RelayId, SocketAddr>,
    /// What has come by connections with relays, as far as it is no whole message.
    inflows: BTreeMap<RelayId, Inflow>,
}

impl Worker {
    pub(super) fn new(
        engine: Engine,
        io: Io,
        resolver: Resolver,
        commands: mpsc::Receiver<Command>,
        wake: Arc<EventFd>,
        lanes: Lanes,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.add(&io.udp, UDP)?;
        poll.add(&*wake, WAKE)?;
        let mut worker = Self {
            engine,
            io,
            resolver,
            poll,
            commands,
            wake,
            switches: Switches::default(),
            inbox: Inbox::new(UDP_BUFFER),
            packet: buffer(),
            lanes,
            shares: Shares::default(),
            unheard: false,
            relayed: BTreeMap::new(),
            inflows: BTreeMap::new(),
        };
        worker.set_gro();
        Ok(worker)
    }

    /// Runs until the handle is dropped.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        while self.turn(&mut ready)? {}
        Ok(())
    }

    fn turn(&mut self, ready: &mut Vec<Ready>) -> io::Result<bool> {
        let engine = self.engine.next_timeout().map(|(at, _)| at);
        let next = [engine, self.io.relays.next_timeout(), self.resolver.next_timeout()];
        let timeout = next.into_iter().flatten().min().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = if self.unheard { Some(Duration::ZERO) } else { timeout };
        self.poll.wait(ready, timeout)?;
        let woken = ready.iter().any(|ready| ready.token == WAKE);
        if woken {
            // First, so that what is said or asked after the last look causes another wake-up.
            let _ = self.wake.read();
        }
        if woken || self.unheard {
            self.listen_to_lanes()?;
        }
        // Receiving comes before sending: it frees the sender's window, and the receive buffer is the one that overflows.
        if ready.iter().any(|ready| ready.token == UDP) {
            self.receive()?;
        }
        for stream in ready.iter().filter(|ready| ready.token < WAKE) {
            if let Some(relay) = self.io.streams.at(stream.token) {
                self.receive_stream(relay);
            }
        }
        let tuns = || ready.iter().filter_map(|ready| Some((Port(u32::try_from(ready.token).ok()?), ready.error)));
        let share = Shares::of(tuns().count());
        for (port, error) in tuns() {
            self.read(port, share, error);
        }
        let now = Instant::now();
        if self.engine.next_timeout().is_some_and(|(at, _)| at <= now) {
            self.engine.handle_timeout(now, &mut self.io);
        }
        self.resolver.handle_timeout(now, &mut self.io);
        let mut running = true;
        if woken {
            running = self.execute_requests();
        }
        self.engine.flush(&mut self.io);
        self.tend_relays(now);
        self.close_gone();
        self.tend_lanes();
        Ok(running)
    }

    /// Receives from a relay by a connection.
    fn receive_stream(&mut self, relay: RelayId) {
        let Some(inflow) = self.inflows.get_mut(&relay) else { return };
        let received = relay::receive_stream(&mut self.engine, &mut self.io, relay, inflow, &mut self.packet);
        if received.is_err() {
            self.disconnect(relay);
        }
    }

    /// Uses a connection with a relay, or learns that there is none.
    fn connect(&mut self, relay: RelayId, carrier: Option<Box<Carrier>>) {
        let now = Instant::now();
        let Some(carrier) = carrier else { return self.io.relays.handle_disconnected(relay, now) };
        if !self.io.relays.handle_connected(relay, now) {
            return;
        }
        self.inflows.insert(relay, Inflow::default());
        if self.io.streams.open(relay, *carrier, &self.poll).is_err() {
            self.disconnect(relay);
        }
    }

    fn disconnect(&mut self, relay: RelayId) {
        self.io.streams.close(relay);
        self.inflows.remove(&relay);
        self.io.relays.handle_disconnected(relay, Instant::now());
    }

    fn receive(&mut self) -> io::Result<()> {
        for _ in 0..RECEIVES {
            self.io.receive(&mut self.inbox)?;
            let now = Instant::now();
            for message in self.inbox.messages() {
                if !is_sound(&message, &mut self.io.counters) {
                    continue;
                }
                if !self.io.relays.is_empty()
                    && let Some(relay) = self.io.relays.at(message.from)
                {
                    let received = (&*message.datagrams, message.stride);
                    relay::receive(&mut self.engine, &mut self.io, relay, received, now);
                } else {
                    let Message { from, local, datagrams: bytes, stride, .. } = message;
                    let received = Datagrams { from: from.into(), local, bytes, stride, skip: 0 };
                    self.engine.handle_udp(&received, now, &mut self.io);
                }
            }
            if !self.inbox.is_full() {
                break;
            }
        }
        Ok(())
    }

    fn read(&mut self, port: Port, share: usize, error: bool) {
        if self.lanes.held.has(port) {
            if error {
                self.io.give_up(port);
            }
            return;
        }
        let now = Instant::now();
        let mut left = self.shares.begin(port, share);
        for _ in 0..DRAIN {
            if left == 0 {
                return;
            }
            match self.io.read(port, &mut self.packet) {
                Reading::Packet(length) => {
                    if let Some(packet) = self.packet.get_mut(..length) {
                        let segments = match self.resolver.handle(port, packet, now, &mut self.io) {
                            Some(work) => work,
                            None => self.engine.handle_tun(port, packet, now, &mut self.io),
                        };
                        self.shares.owe(port, segments.saturating_sub(left));
                        left = left.saturating_sub(segments);
                        if self.pass_orders(Some(Read { port, length, segments })) {
                            return;
                        }
                    }
                }
                // The kernel reports that the device is gone, and nothing is left to read.
                Reading::Empty if error => return self.io.give_up(port),
                Reading::Empty => return,
            }
        }
    }

    /// Executes the requests. Returns false when the handle is gone.
    fn execute_requests(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.execute(command),
                Err(mpsc::TryRecvError::Empty) => return true,
                Err(mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Attach(port, queue, instance) => {
                self.set_offloads(&queue);
                let added = self.poll.add(&queue, port.0.into());
                self.io.insert(port, queue);
                self.engine.handle_attach(port, instance);
                self.resolver.attach(port, instance);
                if let Err(error) = added {
                    tracing::warn!(%error, "epoll doesn't accept a TUN, which is given up");
                    self.io.give_up(port);
                }
            }
            Command::Detach(port) => self.close(port),
            Command::Ended(instance) => self.engine.handle_ended(instance, Instant::now(), &mut self.io),
            Command::Map(map) => {
                let revision = map.revision();
                self.engine.handle_map(*map, Instant::now(), &mut self.io);
                self.judge_held_again();
                self.lanes.note_map(revision);
            }
            Command::Directory(directory) => self.resolver.set(directory),
            Command::Switches(switches) => self.switch(switches),
            Command::Moved => self.engine.handle_address_change(),
            Command::Relays(relays) => self.io.relays.set(relays, Instant::now()),
            Command::OwnAddresses(addresses) => self.engine.handle_own_addresses(&addresses, Instant::now()),
            Command::Ping(runner, to) => {
                let ticket = self.io.pings.ask(to);
                self.engine.handle_ping(runner, ticket, Instant::now(), &mut self.io);
            }
            Command::Connected(relay, carrier) => self.connect(relay, carrier),
            Command::Report(to) => {
                self.io.count_relays();
                let engine = self.engine.report(Instant::now());
                let sessions = engine.peers.iter().filter(|peer| peer.handshake_age.is_some()).count();
                let lanes: Vec<_> = [self.io.lane_report(sessions)].into_iter().chain(self.lanes.reports()).collect();
                let (mut traffic, mut counters) = (Traffic::default(), Counters::default());
                for lane in &lanes {
                    traffic.add(&lane.traffic);
                    counters.add_all(&lane.counters);
                }
                let report = Report {
                    engine,
                    io: counters.list(),
                    traffic,
                    lanes,
                    relays: self.io.relays.reports().collect(),
                    #[cfg(test)]
                    allocations: crate::sys::heap::allocations(),
                };
                // The caller may have stopped waiting.
                let _ = to.send(report);
            }
        }
    }

    /// Does what is due with relays. The engine sends by those at which there is an allocation.
    fn tend_relays(&mut self, now: Instant) {
        if let Some(news) = self.io.tend_relays(now) {
            let standing: Vec<RelayId> = news.relayed.iter().map(|relayed| relayed.relay).collect();
            self.engine.handle_relays(&standing, now);
            // Peers learn another address there as they learn that the machine has moved: by a handshake.
            let moved = |at: &Relayed| self.relayed.insert(at.relay, at.address).is_some_and(|old| old != at.address);
            if news.relayed.iter().map(moved).fold(false, |any, one| any | one) {
                self.engine.handle_address_change();
            }
            self.io.notify(DataEvent::Relays(news));
        }
        // After everything that this turn has sent.
        for relay in self.io.streams.tend(&self.poll) {
            self.disconnect(relay);
        }
    }

    fn switch(&mut self, switches: Switches) {
        let before = std::mem::replace(&mut self.switches, switches);
        if switches.udp_gso && !before.udp_gso {
            self.io.gso.reset();
        }
        if switches.udp_gro != before.udp_gro {
            self.set_gro();
        }
        if switches.tun_gso != before.tun_gso {
            let lacking = self.io.queues().filter(|queue| !offloads(queue, switches.tun_gso)).count();
            self.io.counters.add(Counter::TunGsoUnsupported, lacking as u64);
        }
        self.engine.handle_switches(switches);
        self.lanes.switch(switches);
    }

    fn set_gro(&mut self) {
        if let Err(error) = self.io.udp.set_gro(self.switches.udp_gro) {
            self.io.counters.add(Counter::UdpGroUnsupported, 1);
            tracing::warn!(%error, "the kernel can't receive datagrams in batches (UDP_GRO, Linux 5.0)");
        }
    }

    fn set_offloads(&mut self, queue: impl AsFd) {
        if !offloads(queue, self.switches.tun_gso) {
            self.io.counters.add(Counter::TunGsoUnsupported, 1);
        }
    }

    fn close(&mut self, port: Port) {
        self.engine.handle_detach(port, Instant::now(), &mut self.io);
        self.resolver.detach(port);
        self.io.remove(port);
        self.shares.forget(port);
        self.lanes.forget(port);
    }

    /// Closes the TUNs that were found gone in this turn.
    fn close_gone(&mut self) {
        while let Some(port) = self.io.take_gone() {
            self.close(port);
            self.io.notify(DataEvent::Gone(port));
        }
    }
}

/// Switches the offloads of a TUN. Returns false if they are wanted and it has none.
fn offloads(queue: impl AsFd, on: bool) -> bool {
    let set = tun::set_offloads(queue, on);
    if let Err(error) = &set {
        tracing::debug!(%error, "the offloads of a TUN can't be switched");
    }
    !on || set.unwrap_or(false)
}
