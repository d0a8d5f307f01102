//! The other lanes, as the data plane's thread sees them: their queues, the buffers on their way, and the packets that wait
//! for room or for the end of a move.
//!
//! Nothing here blocks and nothing is dropped for want of room: a TUN whose packet has no room isn't read until there is.

mod held;
mod queue;
mod thread;

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread::JoinHandle,
};

use mesh_engine::{LaneIx, News, Order, Port, Switches, TUN_BUFFER};
use mesh_proto::{PrivateKey, Revision};
use mesh_udp::Udp;
use nix::sys::eventfd::{EfdFlags, EventFd};

pub(super) use self::held::{Held, Waiting};
use self::{queue::Queue, thread::Thread};
use super::report::LaneReport;

/// Buffers that are kept, and a quarter of what a lane may have to tell: enough to keep both threads busy.
const ROOM: usize = 32;

/// Orders without packets that wait beside them.
const ORDERS: usize = 1024;

// The kernel and the engine tell as many lanes apart.
const _: () = assert!(mesh_udp::MAX_LANES == mesh_engine::LANES);

/// A buffer for one packet or super-packet.
pub(super) type Buffer = Box<[u8]>;

pub(super) fn buffer() -> Buffer {
    vec![0; TUN_BUFFER].into()
}

/// The packet in hand.
pub(super) struct Read {
    /// The TUN that it came from.
    pub(super) port: Port,
    /// In bytes.
    pub(super) length: usize,
    /// The number of its segments.
    pub(super) segments: usize,
}

/// What the data plane's thread tells a lane's.
enum Job {
    /// An order, and the packet that it is about.
    Order(Order, Option<(Buffer, usize)>),
    Switch(Switches),
    /// A buffer that has been read.
    Spare(Buffer),
}

/// What a lane's thread tells the data plane's.
pub(super) enum Tale {
    /// A packet is sent; its buffer comes back.
    Done(Buffer),
    /// For [`mesh_engine::Engine::handle_lane`], with the packet's length.
    News(News, Option<(Buffer, usize)>),
    /// A datagram that isn't the lane's.
    Stray(SocketAddr, Option<IpAddr>, Box<[u8]>),
    /// The thread has ended for this reason.
    Failed(String),
}

/// All lanes but the engine's own.
pub(super) struct Lanes {
    lanes: Vec<Handle>,
    /// Buffers for reading TUNs.
    spare: Vec<Buffer>,
    pub(super) held: Held,
    /// The lane that was listened to last.
    turn: usize,
    /// Maps that are in use once these lanes have sent what was judged before.
    applying: VecDeque<(Revision, Vec<u64>)>,
}

struct Handle {
    jobs: Option<SyncSender<Job>>,
    tales: Receiver<Tale>,
    wake: Arc<EventFd>,
    /// Orders that found no room.
    backlog: VecDeque<Order>,
    /// The packets that were handed over and aren't sent yet.
    queue: Queue,
    /// What it has told since it was woken for that.
    heard: usize,
    /// Whether there is something new for the thread.
    touched: bool,
    report: Arc<Mutex<LaneReport>>,
    thread: Option<JoinHandle<()>>,
}

impl Lanes {
    /// Starts a thread for each of these sockets. `home` wakes the data plane's thread.
    ///
    /// # Errors
    /// If the system lacks a resource.
    pub(super) fn start(sockets: Vec<Udp>, key: &PrivateKey, home: &Arc<EventFd>) -> io::Result<Self> {
        let lanes = (1..).zip(sockets).map(|(number, udp)| Handle::start(LaneIx(number), udp, key, home));
        let lanes = lanes.collect::<io::Result<Vec<_>>>()?;
        Ok(Self { lanes, spare: vec![], held: Held::default(), turn: 0, applying: VecDeque::new() })
    }

    /// A buffer for the next read in exchange for one that is given away.
    pub(super) fn take_spare(&mut self) -> Buffer {
        self.spare.pop().unwrap_or_else(buffer)
    }

    /// A buffer that isn't needed.
    pub(super) fn give_spare(&mut self, buffer: Buffer) {
        if self.spare.len() < ROOM {
            self.spare.push(buffer);
        }
    }

    /// Hands a packet of a TUN over. It is returned if there is no room for it; a `fresh` one, that was just read, also if others
    /// wait for room.
    pub(super) fn give(&mut self, port: Port, waiting: Waiting, fresh: bool) -> Option<Waiting> {
        let Self { lanes, held, .. } = self;
        let handle = lanes.get_mut(place(waiting.lane))?;
        let Waiting { lane, order, packet, segments, moves } = waiting;
        if !handle.queue.has_room() || fresh && held.has_waiting(lane) || !handle.push_backlog() {
            return Some(Waiting { lane, order, packet, segments, moves });
        }
        if let Some(Job::Order(order, Some(packet))) = handle.push(Job::Order(order, Some(packet))) {
            return Some(Waiting { lane, order, packet, segments, moves });
        }
        handle.queue.add(port, segments);
        None
    }

    /// The next TUN whose packet has room now.
    pub(super) fn next_with_room(&self) -> Option<Port> {
        let start = |(port, lane): (Port, LaneIx)| {
            let queue = &self.lanes.get(place(lane))?.queue;
            queue.has_room().then(|| (queue.start(port), port))
        };
        self.held.for_room().filter_map(start).min().map(|(_, port)| port)
    }

    /// A TUN is gone.
    pub(super) fn forget(&mut self, port: Port) {
        if let Some(waiting) = self.held.forget(port) {
            self.give_spare(waiting.packet.0);
        }
        self.lanes.iter_mut().for_each(|handle| handle.queue.forget(port));
    }

    /// Hands an order over that is about no packet.
    pub(super) fn command(&mut self, lane: LaneIx, order: Order) {
        let Some(handle) = self.lanes.get_mut(place(lane)) else { return };
        if handle.backlog.len() < ORDERS {
            handle.backlog.push_back(order);
            handle.push_backlog();
        }
    }

    pub(super) fn switch(&mut self, switches: Switches) {
        for handle in &mut self.lanes {
            // It has a place of its own: commands are rare.
            let _ = handle.push(Job::Switch(switches));
        }
    }

    /// What one of the lanes has to say.
    pub(super) fn next_tale(&mut self) -> Option<(LaneIx, Tale)> {
        for _ in 0..self.lanes.len() {
            // Each has its turn.
            self.turn = (self.turn + 1) % self.lanes.len();
            let handle = self.lanes.get_mut(self.turn)?;
            if let Ok(tale) = handle.tales.try_recv() {
                if matches!(tale, Tale::Done(_)) {
                    handle.queue.remove();
                }
                // It may have been without room to tell more.
                handle.heard += 1;
                if handle.heard >= ROOM {
                    (handle.heard, handle.touched) = (0, true);
                }
                return Some((LaneIx(self.turn as u8 + 1), tale));
            }
        }
        None
    }

    /// Returns the buffer of some news to its lane.
    pub(super) fn give_back(&mut self, lane: LaneIx, buffer: Buffer) {
        if let Some(handle) = self.lanes.get_mut(place(lane)) {
            let _ = handle.push(Job::Spare(buffer));
        }
    }

    /// Notes that a map has been taken. Packets that were judged by an earlier one may still be under way.
    pub(super) fn note_map(&mut self, revision: Revision) {
        self.applying.push_back((revision, self.lanes.iter().map(|lane| lane.queue.given()).collect()));
    }

    /// A map by which everything is judged that is sent from now on.
    pub(super) fn take_applied(&mut self) -> Option<Revision> {
        let (_, given) = self.applying.front()?;
        let over = given.iter().zip(&self.lanes).all(|(given, lane)| lane.queue.done() >= *given);
        if over { self.applying.pop_front().map(|(revision, _)| revision) } else { None }
    }

    /// Wakes the lanes that have something to do.
    pub(super) fn wake(&mut self) {
        for handle in &mut self.lanes {
            handle.push_backlog();
            if std::mem::take(&mut handle.touched) {
                let _ = handle.wake.write(1);
            }
        }
    }

    pub(super) fn reports(&self) -> impl Iterator<Item = LaneReport> {
        self.lanes.iter().map(|lane| {
            lane.report.lock().map_or_else(|poisoned| poisoned.into_inner().clone(), |report| report.clone())
        })
    }
}

/// The place of a lane among those that are not the engine's own.
fn place(lane: LaneIx) -> usize {
    usize::from(lane.0).wrapping_sub(1)
}

impl Handle {
    fn start(lane: LaneIx, udp: Udp, key: &PrivateKey, home: &Arc<EventFd>) -> io::Result<Self> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        // Packets, buffers on their way back, and some orders.
        let (jobs, todo) = mpsc::sync_channel(8 * ROOM);
        let (tell, tales) = mpsc::sync_channel(4 * ROOM);
        let report = Arc::new(Mutex::new(LaneReport::default()));
        let thread = Thread::new(lane, udp, key, todo, tell, [&wake, home].map(Arc::clone), Arc::clone(&report))?;
        let thread = std::thread::Builder::new().name(format!("lane-{}", lane.0)).spawn(move || thread.run())?;
        let thread = Some(thread);
        Ok(Self {
            jobs: Some(jobs),
            tales,
            wake,
            backlog: VecDeque::new(),
            queue: Queue::default(),
            heard: 0,
            touched: false,
            report,
            thread,
        })
    }

    /// Returns the job if there is no room. If the thread has ended, which it has said, the job is dropped.
    fn push(&mut self, job: Job) -> Option<Job> {
        // A buffer can wait until the thread has something to do.
        self.touched |= !matches!(job, Job::Spare(_));
        match self.jobs.as_ref()?.try_send(job) {
            Err(TrySendError::Full(job)) => Some(job),
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
        }
    }

    /// Returns whether nothing is left.
    fn push_backlog(&mut self) -> bool {
        while let Some(order) = self.backlog.pop_front() {
            if let Some(Job::Order(order, _)) = self.push(Job::Order(order, None)) {
                self.backlog.push_front(order);
                return false;
            }
        }
        true
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        for handle in &mut self.lanes {
            handle.jobs = None;
            // A thread that has no room to tell of its failure doesn't wait for it.
            handle.tales = mpsc::channel().1;
            let _ = handle.wake.write(1);
        }
        for handle in &mut self.lanes {
            if let Some(thread) = handle.thread.take() {
                let _ = thread.join();
            }
        }
    }
}
