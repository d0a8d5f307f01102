//! The data plane: a thread that owns the engine, the UDP socket and the TUN queues, and runs packets to completion.

mod counters;
mod gso;
mod io;
#[cfg(test)]
pub(crate) mod lab;
mod share;
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

use mesh_engine::{Engine, Map, PinMemory, Port, Switches};
use mesh_proto::{InstanceId, PrivateKey, Revision, RunnerId};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::{
    mpsc::{UnboundedReceiver, unbounded_channel},
    oneshot,
};

pub(crate) use self::io::Traffic;
use self::{
    io::Io,
    worker::{Command, Worker},
};
use crate::sys::udp::Udp;

/// A handle to the data plane's thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Dataplane {
    port: u16,
    ports: AtomicU32,
    /// Gone first of all when this is dropped: that ends the thread.
    commands: Option<mpsc::Sender<Command>>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// What the data plane has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DataEvent {
    /// The map of this revision decides from now on.
    Applied(Revision),
    /// The TUN is gone: its namespace ended, or somebody deleted it. The port is detached already.
    Gone(Port),
    /// A runner was authenticated at an address that is new: worth remembering.
    Endpoint {
        /// Who.
        runner: RunnerId,
        /// Where.
        endpoint: SocketAddr,
    },
    /// Handshakes with a runner go unanswered, and traffic for it is refused.
    Unreachable(RunnerId),
    /// It has answered.
    Reachable(RunnerId),
    /// The thread has ended, and no packet passes any more. Why, in words.
    Failed(String),
}

/// The state of the data plane, for people to read.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// What the engine says.
    pub(crate) engine: mesh_engine::Report,
    /// What happened at the descriptors: every counter by its name in kebab-case, also those that are zero.
    pub(crate) io: Vec<(&'static str, u64)>,
    /// What went through them.
    pub(crate) traffic: Traffic,
    /// How many allocations the thread has made.
    #[cfg(test)]
    pub(crate) allocations: u64,
}

/// Why the data plane could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataplaneError {
    /// No socket.
    #[error("can't listen on UDP port {port}: {source}{}", in_use(source))]
    Listen {
        /// The port that was asked for.
        port: u16,
        /// Why not.
        source: std::io::Error,
    },
    /// No thread, no randomness, or the like.
    #[error("can't start the data plane: {0}")]
    Start(std::io::Error),
}

fn in_use(error: &std::io::Error) -> &'static str {
    if error.kind() == std::io::ErrorKind::AddrInUse {
        ". Another program has it (another agent, or the kernel's WireGuard): choose another with --listen PORT"
    } else {
        ""
    }
}

/// Takes the UDP port; 0: any.
///
/// # Errors
/// If it is taken.
pub(crate) fn listen(port: u16) -> Result<Udp, DataplaneError> {
    Udp::bind(port).map_err(|source| DataplaneError::Listen { port, source })
}

impl Dataplane {
    /// Starts the thread. `listen_port` 0: any port. `known`: where runners were found in an earlier run. `pins`: the
    /// memory in which that run may have left its connections.
    ///
    /// # Errors
    /// If the port is taken, or the system is out of something.
    pub(crate) fn start(
        private_key: PrivateKey,
        listen_port: u16,
        known: Vec<(RunnerId, SocketAddr)>,
        pins: Box<dyn PinMemory>,
    ) -> Result<(Self, UnboundedReceiver<DataEvent>), DataplaneError> {
        let udp = listen(listen_port)?;
        let port = udp.port().map_err(|source| DataplaneError::Listen { port: listen_port, source })?;

        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| DataplaneError::Start(error.into()))?;
        let mut engine = Engine::new(private_key, seed, pins, Instant::now());
        known.into_iter().for_each(|(runner, endpoint)| engine.learned(runner, endpoint));

        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_flags(flags).map_err(|errno| DataplaneError::Start(errno.into()))?);
        let (events, told) = unbounded_channel();
        let (commands, asked) = mpsc::channel();
        let worker = Worker::new(engine, Io::new(udp, events.clone()), asked, Arc::clone(&wake));
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
        Ok((Self { port, ports: AtomicU32::new(0), commands: Some(commands), wake, thread }, told))
    }

    /// The UDP port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Serves a TUN's queue for an instance. If the queue is of no use, [`DataEvent::Gone`] follows.
    pub(crate) fn attach(&self, tun: OwnedFd, instance: InstanceId) -> Port {
        // Never one that was given before: events about that one may still be under way.
        let port = Port(self.ports.fetch_add(1, Ordering::Relaxed));
        self.ask(Command::Attach(port, tun, instance));
        port
    }

    /// Closes a TUN's queue.
    pub(crate) fn detach(&self, port: Port) {
        self.ask(Command::Detach(port));
    }

    /// An instance of an earlier run has ended meanwhile.
    pub(crate) fn ended(&self, instance: InstanceId) {
        self.ask(Command::Ended(instance));
    }

    /// Puts a map in place; [`DataEvent::Applied`] with its revision says when it decides.
    pub(crate) fn set_map(&self, map: Map) {
        self.ask(Command::Map(Box::new(map)));
    }

    /// Switches offloads.
    pub(crate) fn set_switches(&self, switches: Switches) {
        self.ask(Command::Switches(switches));
    }

    /// Tells every runner in touch where this one is, now that the machine's addresses have changed.
    pub(crate) fn moved(&self) {
        self.ask(Command::Moved);
    }

    /// The state; `None` if the thread has ended.
    pub(crate) async fn report(&self) -> Option<Report> {
        let (to, report) = oneshot::channel();
        self.ask(Command::Report(to));
        report.await.ok()
    }

    /// If the thread has ended, [`DataEvent::Failed`] has told so, and the command is for nobody.
    fn ask(&self, command: Command) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(command);
        }
        // Fails only if 2⁶⁴ - 1 wake-ups are outstanding.
        let _ = self.wake.write(1);
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.wake.write(1);
        // It never waits for anything but descriptors and this; joined, so that the port and the TUNs are free then.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
