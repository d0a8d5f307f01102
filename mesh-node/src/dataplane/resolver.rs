//! The resolvers of the instances: what their TUNs send to its address is answered here, and goes no further.

use std::{
    collections::{BTreeSet, HashMap},
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_dns::{Asker, Directory, Outcome, next_seed};
use mesh_engine::{Port, Sink as _, VNET};
use mesh_proto::InstanceId;

use super::{counters::Counter, io::Io};

/// Where the destination is in a packet from a TUN.
const DESTINATION: usize = VNET + 16;

/// The resolvers of all instances.
pub(super) struct Resolver {
    directory: Option<Arc<Directory>>,
    /// The address, as packets have it.
    address: Option<[u8; 4]>,
    askers: HashMap<Port, Asker>,
    /// When something is due for which of them; and the other way round.
    due: BTreeSet<(Instant, Port)>,
    due_at: HashMap<Port, Instant>,
    seed: u64,
    /// A packet on its way to a TUN, with the header in front of it.
    packet: Vec<u8>,
}

impl Resolver {
    /// `seed` is random.
    pub(super) fn new(seed: u64) -> Self {
        let (askers, due_at) = (HashMap::new(), HashMap::new());
        Self { directory: None, address: None, askers, due: BTreeSet::new(), due_at, seed, packet: vec![] }
    }

    pub(super) fn set(&mut self, directory: Arc<Directory>) {
        self.address = directory.address().map(|address| address.octets());
        self.directory = Some(directory);
    }

    pub(super) fn attach(&mut self, port: Port, instance: InstanceId) {
        // Another one for each.
        self.seed = next_seed(self.seed);
        self.askers.insert(port, Asker::new(instance, self.seed));
    }

    pub(super) fn detach(&mut self, port: Port) {
        self.askers.remove(&port);
        self.plan(port, None);
    }

    /// Handles what was read from a TUN, if it is for the resolver. Returns the work, in segments that cost as much.
    #[inline]
    pub(super) fn handle(&mut self, port: Port, bytes: &[u8], now: Instant, io: &mut Io) -> Option<usize> {
        let address = self.address?;
        if bytes.get(DESTINATION..DESTINATION + 4) != Some(&address[..]) {
            return None;
        }
        self.answer(port, bytes.get(VNET..)?, now, io)
    }

    fn answer(&mut self, port: Port, packet: &[u8], now: Instant, io: &mut Io) -> Option<usize> {
        let (asker, directory, buffer) = (self.askers.get_mut(&port)?, self.directory.as_ref()?, &mut self.packet);
        let handled = guarded(|| {
            let outcome = asker.handle(directory, packet, now, &mut |packet| deliver(io, port, packet, buffer));
            (outcome, asker.next_timeout(now))
        });
        let Some((outcome, next)) = handled else {
            self.detach(port);
            return Some(1);
        };
        self.plan(port, next);
        match outcome {
            Outcome::NotOurs => return None,
            Outcome::Taken(work) => return Some(work),
            Outcome::Ignored => io.counters.add(Counter::DnsIgnored, 1),
            Outcome::Limited => io.counters.add(Counter::DnsLimited, 1),
        }
        Some(1)
    }

    /// When [`Self::handle_timeout`] has to be called next.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Does what is due by `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant, io: &mut Io) {
        while let Some((at, port)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, port));
            self.due_at.remove(&port);
            let found = self.askers.get_mut(&port).zip(self.directory.as_ref());
            let Some((asker, directory)) = found else { continue };
            let buffer = &mut self.packet;
            let handled = guarded(|| {
                asker.handle_timeout(directory, now, &mut |packet| deliver(io, port, packet, buffer));
                asker.next_timeout(now)
            });
            match handled {
                // What is due again at once has its turn in the next one.
                Some(next) => self.plan(port, next.map(|at| at.max(now + SOON))),
                None => self.detach(port),
            }
        }
    }

    fn plan(&mut self, port: Port, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.due_at.insert(port, at),
            None => self.due_at.remove(&port),
        };
        if let Some(before) = before {
            self.due.remove(&(before, port));
        }
        self.due.extend(at.map(|at| (at, port)));
    }
}

/// What an instance sends is read here by libraries. If one of them panics, that instance has no resolver from then on,
/// and all others go on. `None`: it did.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    done.inspect_err(|_| {
        tracing::error!("an instance's resolver has panicked and is given up: please report the message above")
    })
    .ok()
}

/// The least time between two looks at the connections of an instance.
const SOON: Duration = Duration::from_millis(1);

fn deliver(io: &mut Io, to: Port, packet: &[u8], buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(VNET, 0);
    buffer.extend_from_slice(packet);
    io.deliver(to, buffer);
}
