//! The data plane's thread: waits, reads, lets the engine work, and never queues.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::mpsc,
    time::Instant,
};

use mesh_engine::{Engine, Map, Port, Switches, TUN_BUFFER, UDP_BUFFER};
use mesh_proto::InstanceId;
use nix::sys::eventfd::EventFd;
use tokio::sync::oneshot;

use super::{
    DataEvent, Report,
    counters::Counter,
    io::{Io, Reading},
    share::Shares,
};
use crate::sys::{
    epoll::{Poll, Ready},
    tun,
    udp::{Inbox, Message},
};

/// What other threads ask for.
pub(super) enum Command {
    Attach(Port, OwnedFd, InstanceId),
    Detach(Port),
    Ended(InstanceId),
    Map(Box<Map>),
    Switches(Switches),
    Moved,
    Report(oneshot::Sender<Report>),
}

/// How many packets or super-packets one TUN at most, and how many batches of messages the socket, may give in one turn: enough to make
/// full batches of what waits, little enough that the others' turn comes. What is left is told by the next wait. (With 8
/// batches a stream was 7 % slower and a round trip beside it 15 % longer, with 1, or 8 super-packets, it was slower, too.)
const DRAIN: usize = 32;
const RECEIVES: usize = 2;

/// So many failures of the socket in a row, and nothing received between them, are its end.
const FAILURES: u32 = 1000;

/// What epoll tells by; a TUN's token is its port.
const UDP: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

pub(super) struct Worker {
    engine: Engine,
    io: Io,
    poll: Poll,
    commands: mpsc::Receiver<Command>,
    wake: std::sync::Arc<EventFd>,
    switches: Switches,
    inbox: Inbox,
    packet: Box<[u8]>,
    shares: Shares,
    failures: u32,
}

impl Worker {
    pub(super) fn new(
        engine: Engine,
        io: Io,
        commands: mpsc::Receiver<Command>,
        wake: std::sync::Arc<EventFd>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.add(&io.udp, UDP)?;
        poll.add(&*wake, WAKE)?;
        let mut worker = Self {
            engine,
            io,
            poll,
            commands,
            wake,
            switches: Switches::default(),
            inbox: Inbox::new(UDP_BUFFER),
            packet: vec![0; TUN_BUFFER].into(),
            shares: Shares::default(),
            failures: 0,
        };
        worker.set_gro();
        Ok(worker)
    }

    /// Works until the other side is dropped.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        while self.turn(&mut ready)? {}
        Ok(())
    }

    fn turn(&mut self, ready: &mut Vec<Ready>) -> io::Result<bool> {
        let timeout = self.engine.next_timeout().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        self.poll.wait(ready, timeout)?;
        // What has arrived goes before what is to be sent: it frees the sender's window, and its buffer is the one that
        // overflows.
        if ready.iter().any(|ready| ready.token == UDP) {
            self.receive()?;
        }
        let tuns = || ready.iter().filter(|ready| ready.token < WAKE);
        let share = Shares::of(tuns().count());
        for tun in tuns() {
            if let Ok(port) = u32::try_from(tun.token) {
                self.read(Port(port), share, tun.error);
            }
        }
        let now = Instant::now();
        if self.engine.next_timeout().is_some_and(|(at, _)| at <= now) {
            self.engine.handle_timeout(now, &mut self.io);
        }
        let mut running = true;
        if ready.iter().any(|ready| ready.token == WAKE) {
            running = self.obey();
        }
        self.engine.flush(&mut self.io);
        self.bury();
        Ok(running)
    }

    fn receive(&mut self) -> io::Result<()> {
        for _ in 0..RECEIVES {
            match self.io.receive(&mut self.inbox) {
                Ok(()) => self.failures = 0,
                Err(error) => {
                    self.failures += 1;
                    return if self.failures < FAILURES { Ok(()) } else { Err(error) };
                }
            }
            let now = Instant::now();
            for message in self.inbox.messages() {
                if message.truncated {
                    self.io.counters.add(Counter::UdpTruncated, 1);
                } else if message.datagrams.is_empty() {
                    self.io.counters.add(Counter::UdpEmpty, 1);
                } else {
                    let Message { from, local, datagrams, stride, .. } = message;
                    self.engine.handle_udp_at(local, from, datagrams, stride, now, &mut self.io);
                }
            }
            if !self.inbox.is_full() {
                break;
            }
        }
        Ok(())
    }

    fn read(&mut self, port: Port, share: usize, error: bool) {
        let now = Instant::now();
        let mut left = self.shares.begin(port, share);
        for _ in 0..DRAIN {
            if left == 0 {
                return;
            }
            match self.io.read(port, &mut self.packet) {
                Reading::Packet(length) => {
                    if let Some(packet) = self.packet.get_mut(..length) {
                        let segments = self.engine.handle_tun(port, packet, now, &mut self.io);
                        self.shares.owe(port, segments.saturating_sub(left));
                        left = left.saturating_sub(segments);
                    }
                }
                // The kernel says that the device is gone, and there is nothing left to read.
                Reading::Empty if error => return self.io.give_up(port),
                Reading::Empty => return,
            }
        }
    }

    /// Does what was asked for. False: nobody can ask any more.
    fn obey(&mut self) -> bool {
        // Before looking: what is sent after the look wakes us anew.
        let _ = self.wake.read();
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
                self.engine.attach(port, instance);
                if let Err(error) = added {
                    tracing::warn!(%error, "a TUN can't be waited for and is given up");
                    self.io.give_up(port);
                }
            }
            Command::Detach(port) => self.close(port),
            Command::Ended(instance) => self.engine.ended(instance, Instant::now(), &mut self.io),
            Command::Map(map) => {
                let revision = map.revision();
                self.engine.handle_map(*map, Instant::now(), &mut self.io);
                self.io.tell(DataEvent::Applied(revision));
            }
            Command::Switches(switches) => self.switch(switches),
            Command::Moved => self.engine.moved(),
            Command::Report(to) => {
                let report = Report {
                    engine: self.engine.report(Instant::now()),
                    io: self.io.counters.list(),
                    traffic: self.io.traffic,
                    #[cfg(test)]
                    allocations: crate::sys::heap::allocations(),
                };
                // Whoever asked may have given up waiting.
                let _ = to.send(report);
            }
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
        self.engine.set_switches(switches);
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
        self.engine.detach(port, Instant::now(), &mut self.io);
        self.io.remove(port);
        self.shares.forget(port);
    }

    /// Closes what was found gone during this turn.
    fn bury(&mut self) {
        while let Some(port) = self.io.take_gone() {
            self.close(port);
            self.io.tell(DataEvent::Gone(port));
        }
    }
}

/// Switches the offloads of a TUN. False: they are wanted, and it has none.
fn offloads(queue: impl AsFd, on: bool) -> bool {
    let set = tun::set_offloads(queue, on);
    if let Err(error) = &set {
        tracing::debug!(%error, "the offloads of a TUN can't be switched");
    }
    !on || set.unwrap_or(false)
}
