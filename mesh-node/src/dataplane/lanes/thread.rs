//! A lane's thread: it sends what the engine has let pass, and receives what the engine will judge.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError},
    },
    time::{Duration, Instant},
};

use mesh_engine::{Datagrams, Lane, LaneIx, LaneSink, News, Order, Switches, UDP_BUFFER};
use mesh_proto::PrivateKey;
use mesh_udp::{Inbox, Message, Udp};
use nix::sys::eventfd::EventFd;

use super::{Buffer, Job, ROOM, Tale, buffer};
use crate::{
    dataplane::{
        counters::{Counter, Counters},
        gso::Gso,
        reception::{Reception, is_sound},
        report::{LaneReport, Traffic},
    },
    sys::epoll::Poll,
};

/// How many receive calls, and how many packets, are handled before the other ones have their turn.
const RECEIVES: usize = 2;
const PACKETS: usize = 8;

/// The tokens for epoll.
const UDP: u64 = 0;
const WAKE: u64 = 1;

pub(super) struct Thread {
    lane: Lane,
    io: LaneIo,
    poll: Poll,
    inbox: Inbox,
    jobs: Receiver<Job>,
    wake: Arc<EventFd>,
    report: Arc<Mutex<LaneReport>>,
}

/// The socket, and what has to be told.
struct LaneIo {
    udp: Udp,
    gso: Gso,
    counters: Counters,
    traffic: Traffic,
    /// What found no room yet.
    untold: VecDeque<Tale>,
    /// The buffers of packets that are sent with this turn at the latest.
    done: Vec<Buffer>,
    tell: SyncSender<Tale>,
    home: Arc<EventFd>,
    spare: Vec<Buffer>,
    /// Whether the data plane's thread has something new.
    told: bool,
    reception: Reception,
}

impl Thread {
    pub(super) fn new(
        lane: LaneIx,
        udp: Udp,
        key: &PrivateKey,
        jobs: Receiver<Job>,
        tell: SyncSender<Tale>,
        [wake, home]: [Arc<EventFd>; 2],
        report: Arc<Mutex<LaneReport>>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.add(&udp, UDP)?;
        poll.add(&*wake, WAKE)?;
        let io = LaneIo {
            udp,
            gso: Gso::default(),
            counters: Counters::default(),
            traffic: Traffic::default(),
            untold: VecDeque::new(),
            done: vec![],
            tell,
            home,
            spare: vec![],
            told: false,
            reception: Reception::default(),
        };
        let mut thread =
            Self { lane: Lane::new(lane, key), io, poll, inbox: Inbox::new(UDP_BUFFER), jobs, wake, report };
        thread.set_gro(Switches::default());
        Ok(thread)
    }

    /// Runs until the data plane ends.
    pub(super) fn run(mut self) {
        let home = Arc::clone(&self.io.home);
        let tell = self.io.tell.clone();
        let why = match panic::catch_unwind(AssertUnwindSafe(|| self.turns())) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "a lane panicked: please report the message that it printed".to_owned(),
        };
        // There is room: the other thread reads on.
        let _ = tell.send(Tale::Failed(why));
        let _ = home.write(1);
    }

    fn turns(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        let mut more = false;
        let mut receives = true;
        loop {
            // Without room for what it receives, the socket waits, as for an engine that is busy.
            let wanted = self.io.untold.is_empty();
            if wanted != receives {
                self.poll.set_readable(&self.io.udp, UDP, wanted)?;
                receives = wanted;
            }
            let due = self.lane.next_timeout().map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = if more { Some(Duration::ZERO) } else { due };
            self.poll.wait(&mut ready, timeout)?;
            if ready.iter().any(|ready| ready.token == WAKE) {
                let _ = self.wake.read();
            }
            self.io.pass_on();
            if receives && ready.iter().any(|ready| ready.token == UDP) {
                self.receive()?;
            }
            let Some(left) = self.work() else { return Ok(()) };
            more = left;
            let now = Instant::now();
            self.lane.handle_timeout(now, &mut self.io);
            self.lane.flush(&mut self.io);
            self.io.untold.extend(self.io.done.drain(..).map(Tale::Done));
            self.io.pass_on();
            self.io.wake_home();
            self.publish();
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        for _ in 0..RECEIVES {
            self.io.receive(&mut self.inbox)?;
            let now = Instant::now();
            for message in self.inbox.messages() {
                if !is_sound(&message, &mut self.io.counters) {
                    continue;
                }
                let Message { from, local, datagrams, stride, .. } = message;
                let received = Datagrams { from: from.into(), local, bytes: datagrams, stride, skip: 0 };
                self.lane.handle_udp(&received, now, &mut self.io);
            }
            if !self.inbox.is_full() {
                break;
            }
        }
        Ok(())
    }

    /// Does some of the jobs. Returns whether there may be more; `None`: the data plane ends.
    fn work(&mut self) -> Option<bool> {
        let now = Instant::now();
        let mut packets = 0;
        while packets < PACKETS {
            match self.jobs.try_recv() {
                Ok(Job::Order(order, packet)) => match packet {
                    Some((mut bytes, len)) => {
                        packets += 1;
                        self.lane.handle_order(order, bytes.get_mut(..len).unwrap_or_default(), now, &mut self.io);
                        self.io.done.push(bytes);
                    }
                    None => self.lane.handle_order(order, &mut [], now, &mut self.io),
                },
                Ok(Job::Switch(switches)) => {
                    self.io.gso.reset();
                    self.set_gro(switches);
                    self.lane.handle_order(Order::switch(switches), &mut [], now, &mut self.io);
                }
                Ok(Job::Spare(buffer)) => self.io.keep(buffer),
                Err(TryRecvError::Empty) => return Some(false),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
        Some(true)
    }

    fn set_gro(&mut self, switches: Switches) {
        if self.io.udp.set_gro(switches.udp_gro).is_err() {
            self.io.counters.add(Counter::UdpGroUnsupported, 1);
        }
    }

    fn publish(&self) {
        let report = LaneReport {
            traffic: self.io.traffic,
            runners: self.lane.tunnels(),
            counters: self.io.counters.clone(),
            #[cfg(test)]
            allocations: crate::sys::heap::allocations(),
        };
        if let Ok(mut shared) = self.report.lock() {
            *shared = report;
        }
    }
}

impl LaneIo {
    fn receive(&mut self, inbox: &mut Inbox) -> io::Result<()> {
        self.reception.receive(&self.udp, inbox, &mut self.counters, &mut self.traffic)
    }

    fn keep(&mut self, buffer: Buffer) {
        if self.spare.len() < ROOM {
            self.spare.push(buffer);
        }
    }

    /// Tells as much as there is room for.
    fn pass_on(&mut self) {
        while let Some(tale) = self.untold.pop_front() {
            self.told = true;
            if let Err(TrySendError::Full(tale)) = self.tell.try_send(tale) {
                self.untold.push_front(tale);
                break;
            }
        }
    }

    fn wake_home(&mut self) {
        if std::mem::take(&mut self.told) {
            let _ = self.home.write(1);
        }
    }
}

impl LaneSink for LaneIo {
    fn send(&mut self, from: Option<IpAddr>, to: SocketAddr, batch: &[u8], stride: usize) {
        let (udp, sends) = (&self.udp, &mut self.traffic.udp_sends);
        self.gso.send(to, batch, stride, &mut self.counters, |to, bytes, segment| {
            udp.send(from, to, bytes, segment).inspect(|()| sends.add(bytes.len()))
        });
    }

    fn tell(&mut self, news: News, packet: &[u8]) {
        let packet = (!packet.is_empty()).then(|| {
            let mut bytes = self.spare.pop().unwrap_or_else(buffer);
            let len = packet.len().min(bytes.len());
            bytes[..len].copy_from_slice(&packet[..len]);
            (bytes, len)
        });
        self.untold.push_back(Tale::News(news, packet));
    }

    fn stray(&mut self, from: SocketAddr, local: Option<IpAddr>, datagram: &[u8]) {
        self.untold.push_back(Tale::Stray(from, local, datagram.into()));
    }
}
