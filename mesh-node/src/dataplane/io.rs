//! Turns the engine's effects into system calls.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    time::Instant,
};

use mesh_engine::{Event, LaneIx, Order, Port, Sink, TUN_BUFFER};
use mesh_proto::RelayId;
use mesh_relay_client::Relays;
use mesh_udp::{Inbox, Udp};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    counters::{Counter, Counters},
    event::DataEvent,
    gso::Gso,
    pings::{Pings, Pong},
    reception::Reception,
    report::{LaneReport, Traffic},
    streams::Streams,
};

/// The descriptors and their state.
#[derive(Debug)]
pub(super) struct Io {
    pub(super) udp: Udp,
    pub(super) gso: Gso,
    pub(super) counters: Counters,
    pub(super) traffic: Traffic,
    events: UnboundedSender<DataEvent>,
    tuns: HashMap<Port, File>,
    /// TUNs that were found gone in this turn.
    gone: Vec<Port>,
    /// For super-packets that have to be cut.
    scratch: Box<[u8]>,
    /// The relays, at which datagrams from some addresses are from other runners.
    pub(super) relays: Relays,
    pub(super) pings: Pings,
    /// The connections with relays.
    pub(super) streams: Streams,
    reception: Reception,
    /// What other lanes have to do, and the moves that have ended.
    pub(super) orders: Vec<(LaneIx, Order)>,
    pub(super) moved: Vec<(Port, bool)>,
}

/// The outcome of reading a TUN.
pub(super) enum Reading {
    /// A packet of this length in bytes.
    Packet(usize),
    /// No packet for now.
    Empty,
}

impl Io {
    pub(super) fn new(udp: Udp, events: UnboundedSender<DataEvent>, relays: Relays) -> Self {
        Self {
            udp,
            gso: Gso::default(),
            counters: Counters::default(),
            traffic: Traffic::default(),
            events,
            tuns: HashMap::new(),
            gone: Vec::new(),
            pings: Pings::default(),
            scratch: vec![0; TUN_BUFFER].into(),
            relays,
            streams: Streams::default(),
            reception: Reception::default(),
            orders: Vec::new(),
            moved: Vec::new(),
        }
    }

    pub(super) fn insert(&mut self, port: Port, tun: OwnedFd) {
        self.tuns.insert(port, tun.into());
    }

    pub(super) fn remove(&mut self, port: Port) {
        self.tuns.remove(&port);
    }

    pub(super) fn queue(&self, port: Port) -> Option<&File> {
        self.tuns.get(&port)
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = &File> {
        self.tuns.values()
    }

    /// The report of the engine's own lane, which has sessions with so many runners.
    pub(super) fn lane_report(&self, runners: usize) -> LaneReport {
        LaneReport {
            traffic: self.traffic,
            runners,
            counters: self.counters.clone(),
            #[cfg(test)]
            allocations: crate::sys::heap::allocations(),
        }
    }

    /// Marks a TUN as gone for good.
    pub(super) fn give_up(&mut self, port: Port) {
        if !self.gone.contains(&port) {
            self.gone.push(port);
        }
    }

    /// Removes and returns a TUN that was given up.
    pub(super) fn take_gone(&mut self) -> Option<Port> {
        self.gone.pop()
    }

    /// Notifies the owner. An owner that no longer listens is about to end the data plane.
    pub(super) fn notify(&self, event: DataEvent) {
        let _ = self.events.send(event);
    }

    /// Reads a packet from a TUN, `virtio_net_hdr` first. A TUN that fails is given up and empty from then on.
    pub(super) fn read(&mut self, port: Port, packet: &mut [u8]) -> Reading {
        let Some(mut tun) = self.tuns.get(&port) else { return Reading::Empty };
        loop {
            match tun.read(packet) {
                Ok(0) => return Reading::Empty,
                Ok(length) => {
                    self.traffic.tun_reads.add(length);
                    return Reading::Packet(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Reading::Empty,
                Err(error) => {
                    // EBADFD: the device is gone. Other errors are treated alike, since epoll would report them without
                    // end.
                    if error.raw_os_error() != Some(libc::EBADFD) {
                        self.counters.add(Counter::TunReadFailed, 1);
                        tracing::warn!(%error, "a TUN can't be read any more and is given up");
                    }
                    self.give_up(port);
                    return Reading::Empty;
                }
            }
        }
    }

    /// Receives into `inbox`: see [`Reception::receive`].
    pub(super) fn receive(&mut self, inbox: &mut Inbox) -> io::Result<()> {
        self.reception.receive(&self.udp, inbox, &mut self.counters, &mut self.traffic)
    }

    fn count_write(&mut self, error: &io::Error, to: Port) {
        let counter = match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Counter::TunFull,
            Some(libc::EIO) => Counter::TunDown,
            Some(libc::EBADFD) => {
                self.give_up(to);
                Counter::TunUnknown
            }
            _ => Counter::TunWriteFailed,
        };
        self.counters.add(counter, 1);
    }

    /// Cuts a super-packet that the TUN refused, and writes its segments.
    fn deliver_singly(&mut self, to: Port, packet: &[u8]) {
        let Some((mut tun, scratch)) = self.tuns.get(&to).zip(self.scratch.get_mut(..packet.len())) else { return };
        scratch.copy_from_slice(packet);
        let (mut refused, mut lost) = (None, 0);
        mesh_engine::split(scratch, |segment| match write(&mut tun, segment) {
            Ok(()) => self.traffic.tun_writes.add(segment.len()),
            Err(error) => {
                refused = Some(error);
                lost += 1;
            }
        });
        match refused {
            None => self.counters.add(Counter::TunGsoRefused, 1),
            Some(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.counters.add(Counter::TunWriteFailed, lost);
            }
            Some(error) => self.count_write(&error, to),
        }
    }
}

impl Sink for Io {
    fn send(&mut self, to: SocketAddr, batch: &[u8], stride: usize) {
        self.send_from(None, to, batch, stride);
    }

    fn send_from(&mut self, from: Option<IpAddr>, to: SocketAddr, batch: &[u8], stride: usize) {
        let (udp, sends) = (&self.udp, &mut self.traffic.udp_sends);
        self.gso.send(to, batch, stride, &mut self.counters, |to, bytes, segment| {
            udp.send(from, to, bytes, segment).inspect(|()| sends.add(bytes.len()))
        });
    }

    fn send_whole(&mut self, from: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) {
        // What is too long for the interface is lost like what is too long for a link behind it.
        if self.udp.send_whole(from, to, datagram).is_ok() {
            self.traffic.udp_sends.add(datagram.len());
        }
    }

    fn send_relayed(&mut self, relay: RelayId, peer: SocketAddr, batch: &mut [u8], stride: usize, whole: bool) {
        self.send_by_relay(relay, peer, batch, stride, whole);
    }

    fn deliver(&mut self, to: Port, packet: &[u8]) {
        let Some(mut tun) = self.tuns.get(&to) else { return self.counters.add(Counter::TunUnknown, 1) };
        match write(&mut tun, packet) {
            Ok(()) => self.traffic.tun_writes.add(packet.len()),
            // Linux 6.6.44 and similar versions refuse valid super-packets (torvalds e269d79c7d35).
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.deliver_singly(to, packet),
            Err(error) => self.count_write(&error, to),
        }
    }

    fn order(&mut self, lane: LaneIx, order: Order) {
        self.orders.push((lane, order));
    }

    fn moved(&mut self, port: Port, by_lane: bool) {
        self.moved.push((port, by_lane));
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Endpoint { runner, endpoint } => self.notify(DataEvent::Endpoint { runner, endpoint }),
            Event::Unreachable { runner } => self.notify(DataEvent::Unreachable(runner)),
            Event::Reachable { runner } => self.notify(DataEvent::Reachable(runner)),
            Event::NeedRelay { relay, .. } => self.relays.need(relay, Instant::now()),
            Event::Ping { ticket, path, rtt, mtu, .. } => self.pings.answer(ticket, Pong { path, rtt, mtu }),
        }
    }
}

fn write(tun: &mut &File, packet: &[u8]) -> io::Result<()> {
    loop {
        match tun.write(packet) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}
