//! The data plane: a thread that owns the engine, the UDP socket and the TUN queues, and runs each packet to completion.

mod counters;
mod event;
mod gso;
mod io;
#[cfg(test)]
pub(crate) mod lab;
mod lanes;
mod pings;
mod reception;
mod relay;
mod report;
mod resolver;
mod share;
mod streams;
mod work;
mod worker;

use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use mesh_dns::Directory;
use mesh_engine::{Engine, Map, PinMemory, Port, Switches};
use mesh_link::Carrier;
use mesh_proto::{InstanceId, PrivateKey, RelayId, RunnerId};
use mesh_relay_client::Relays;
use mesh_udp::Udp;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::{
    mpsc::{UnboundedReceiver, unbounded_channel},
    oneshot,
};

pub(crate) use self::{
    event::{DataEvent, RelayNews},
    pings::Pong,
    report::{Report, Traffic},
};
use self::{
    io::Io,
    lanes::Lanes,
    resolver::Resolver,
    worker::{Command, Worker},
};

/// A handle to the data plane's thread. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Dataplane {
    port: u16,
    lanes: usize,
    ports: AtomicU32,
    /// Dropped first, which ends the thread.
    commands: Option<mpsc::Sender<Command>>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// Why the data plane could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataplaneError {
    /// The socket can't be bound.
    #[error("can't listen on UDP port {port}: {source}{}", in_use(source))]
    Listen {
        /// The requested port.
        port: u16,
        /// The cause.
        source: std::io::Error,
    },
    /// The system has no thread, no randomness, or the like.
    #[error("can't start the data plane: {0}")]
    Start(std::io::Error),
}

fn in_use(error: &std::io::Error) -> &'static str {
    if error.kind() == std::io::ErrorKind::AddrInUse {
        ". Another program uses it (another agent, or the kernel's WireGuard): choose another port with --listen PORT"
    } else {
        ""
    }
}

/// Binds the UDP port; 0: any.
///
/// # Errors
/// If it is in use.
pub(crate) fn listen(port: u16) -> Result<Udp, DataplaneError> {
    Udp::bind(port).map_err(|source| DataplaneError::Listen { port, source })
}

impl Dataplane {
    /// Starts the thread. `listen_port` 0: any port. `lanes`: how many there may be. `known`: the endpoints of runners from an
    /// earlier run. `pins`: the memory in which that run may have left its connections.
    ///
    /// # Errors
    /// If the port is in use, or the system lacks a resource.
    pub(crate) fn start(
        private_key: PrivateKey,
        listen_port: u16,
        lanes: usize,
        known: Vec<(RunnerId, SocketAddr)>,
        pins: Box<dyn PinMemory>,
    ) -> Result<(Self, UnboundedReceiver<DataEvent>), DataplaneError> {
        let not_heard = |source| DataplaneError::Listen { port: listen_port, source };
        let bound = Udp::bind_lanes(listen_port, lanes).map_err(not_heard)?;
        if let Some(error) = bound.unsteered {
            tracing::warn!(%error, "the kernel can't divide the datagrams among several threads: one does everything");
        }
        let mut sockets = bound.sockets;
        let others = sockets.split_off(1);
        let Some(udp) = sockets.pop() else { return Err(not_heard(std::io::ErrorKind::NotFound.into())) };
        let port = udp.port().map_err(|source| DataplaneError::Listen { port: listen_port, source })?;

        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| DataplaneError::Start(error.into()))?;
        let lanes = others.len() + 1;
        let mut engine = Engine::new(private_key.clone(), seed, pins, Instant::now());
        engine.set_lanes(lanes);
        known.into_iter().for_each(|(runner, endpoint)| engine.handle_known_endpoint(runner, endpoint));

        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_flags(flags).map_err(|errno| DataplaneError::Start(errno.into()))?);
        let (events, notified) = unbounded_channel();
        let (commands, requests) = mpsc::channel();
        let random = || getrandom::u64().map_err(|error| DataplaneError::Start(error.into()));
        let (relays, resolver) = (Relays::new(random()?, Instant::now()), Resolver::new(random()?));
        let others = Lanes::start(others, &private_key, &wake).map_err(DataplaneError::Start)?;
        let io = Io::new(udp, events.clone(), relays);
        let worker = Worker::new(engine, io, resolver, requests, Arc::clone(&wake), others);
        let worker = worker.map_err(DataplaneError::Start)?;
        let thread = thread::Builder::new().name("dataplane".into()).spawn(move || {
            let why = match panic::catch_unwind(AssertUnwindSafe(|| worker.run())) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panicked: please report the message that it printed".to_owned(),
            };
            let _ = events.send(DataEvent::Failed(why));
        });
        let thread = Some(thread.map_err(DataplaneError::Start)?);
        Ok((Self { port, lanes, ports: AtomicU32::new(0), commands: Some(commands), wake, thread }, notified))
    }

    /// The UDP port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// How many lanes there are.
    pub(crate) const fn lanes(&self) -> usize {
        self.lanes
    }

    /// Serves a TUN's queue for an instance. If the queue can't be used, [`DataEvent::Gone`] follows.
    pub(crate) fn attach(&self, tun: OwnedFd, instance: InstanceId) -> Port {
        // Ports are never reused: events about an earlier one may still be on their way.
        let port = Port(self.ports.fetch_add(1, Ordering::Relaxed));
        self.ask(Command::Attach(port, tun, instance));
        port
    }

    /// Closes a TUN's queue.
    pub(crate) fn detach(&self, port: Port) {
        self.ask(Command::Detach(port));
    }

    /// An instance of an earlier run has ended.
    pub(crate) fn ended(&self, instance: InstanceId) {
        self.ask(Command::Ended(instance));
    }

    /// Replaces the map. [`DataEvent::Applied`] with its revision follows once it is in use.
    pub(crate) fn set_map(&self, map: Map) {
        self.ask(Command::Map(Box::new(map)));
    }

    /// Replaces what instances may ask of names.
    pub(crate) fn set_directory(&self, directory: Arc<Directory>) {
        self.ask(Command::Directory(directory));
    }

    /// Switches offloads.
    pub(crate) fn set_switches(&self, switches: Switches) {
        self.ask(Command::Switches(switches));
    }

    /// Notifies every runner in contact that the machine's addresses have changed.
    pub(crate) fn moved(&self) {
        self.ask(Command::Moved);
    }

    /// Replaces the relays. [`DataEvent::Relays`] follows, and again whenever an allocation changes.
    pub(crate) fn set_relays(&self, relays: Vec<mesh_relay_client::Config>) {
        self.ask(Command::Relays(relays));
    }

    /// Names the addresses at which other runners may reach this one without a relay.
    pub(crate) fn set_own_addresses(&self, addresses: Vec<SocketAddr>) {
        self.ask(Command::OwnAddresses(addresses));
    }

    /// Asks a runner for an answer by the path that data takes. `None` if the thread has ended, or too much is asked at once.
    pub(crate) async fn ping(&self, runner: RunnerId) -> Option<Pong> {
        let (to, answer) = oneshot::channel();
        self.ask(Command::Ping(runner, to));
        answer.await.ok()
    }

    /// A connection with a relay, as [`DataEvent::Connect`] has asked for; `None`: there is none.
    pub(crate) fn connected(&self, relay: RelayId, carrier: Option<Carrier>) {
        self.ask(Command::Connected(relay, carrier.map(Box::new)));
    }

    /// The report. `None` if the thread has ended.
    pub(crate) async fn report(&self) -> Option<Report> {
        let (to, report) = oneshot::channel();
        self.ask(Command::Report(to));
        report.await.ok()
    }

    /// Sends a command. If the thread has ended, which [`DataEvent::Failed`] has reported, the command is dropped.
    fn ask(&self, command: Command) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(command);
        }
        // It fails only if 2⁶⁴ - 1 wake-ups are outstanding.
        let _ = self.wake.write(1);
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.wake.write(1);
        // Joined so that the port and the TUNs are free afterwards. The thread never blocks for long.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
