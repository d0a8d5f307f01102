//! A relay as a process: sockets, threads and files around `mesh-relay`, which decides. Datagrams are taken by one
//! thread a core, connections by tasks.

use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use mesh_udp::Udp;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tracing::info;

mod lanes;
mod link;
mod membership;
mod output;
mod shared;
mod stream;
mod worker;

pub(crate) use link::Link;
pub(crate) use membership::Membership;
pub(crate) use shared::Shared;
use worker::Worker;

use crate::tls::Identity;

/// How often what has run out is removed.
const SWEEP: Duration = Duration::from_secs(1);
/// How often a relay says in its log what it has done.
const REPORT: Duration = Duration::from_secs(3600);

/// Where a relay listens.
#[derive(Debug)]
pub(crate) struct Listen {
    /// For datagrams, and for TCP connections.
    pub(crate) plain: SocketAddr,
    /// For TLS connections.
    pub(crate) tls: Option<SocketAddr>,
    /// Threads for datagrams.
    pub(crate) threads: usize,
}

/// The sockets of a relay, bound and not yet served.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// One for each thread.
    udp: Vec<Udp>,
    listeners: stream::Listeners,
}

impl Sockets {
    /// Binds all sockets.
    ///
    /// # Errors
    /// If an address is in use, isn't this machine's, or has a privileged port.
    pub(crate) fn bind(listen: &Listen) -> Result<Self> {
        let udp = (0..listen.threads).map(|_| Udp::bind_shared(listen.plain)).collect::<std::io::Result<_>>();
        let udp =
            udp.map_err(|error| anyhow!("cannot listen on {} (UDP): {error}; choose another --listen", listen.plain))?;
        Ok(Self { udp, listeners: stream::Listeners::bind(listen)? })
    }

    /// Serves until a signal ends it, or the coordinator. `identity` is the key of TLS connections.
    ///
    /// # Errors
    /// If a thread fails, or the relay was removed.
    pub(crate) async fn serve(self, shared: Arc<Shared>, identity: Identity, link: Option<Link>) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be waited for")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be waited for")?;
        let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be waited for")?;
        let report = signal(SignalKind::user_defined1()).context("SIGUSR1 cannot be waited for")?;
        let threads = self.udp.len();
        let workers: Vec<_> = self.udp.into_iter().map(|udp| Worker::new(udp, threads, Arc::clone(&shared))).collect();
        let udp = workers.first().map(Worker::udp).context("no thread for datagrams")?;
        let (failed, mut failure) = tokio::sync::mpsc::unbounded_channel();
        for worker in workers {
            let failed = failed.clone();
            let thread = thread::Builder::new().name("relay-udp".to_owned());
            thread
                .spawn(move || drop(failed.send(worker.run())))
                .context("a thread for datagrams cannot be started")?;
        }
        tokio::select! {
            Some(error) = failure.recv() => Err(error).context("the socket for datagrams failed"),
            never = self.listeners.serve(&shared, udp, &identity) => match never {},
            never = sweep(&shared, report) => match never {},
            ended = follow(link) => ended,
            never = identity.follow(&mut hangup) => match never {},
            _ = terminate.recv() => { info!("SIGTERM: ending"); Ok(()) }
            _ = interrupt.recv() => { info!("SIGINT: ending"); Ok(()) }
        }
    }
}

/// Follows the coordinator, if there is one.
async fn follow(link: Option<Link>) -> Result<()> {
    match link {
        Some(link) => link.follow().await,
        None => std::future::pending().await,
    }
}

/// Removes what has run out, and reports now and then, and at each SIGUSR1.
async fn sweep(shared: &Shared, mut asked: Signal) -> std::convert::Infallible {
    let mut sweeps = interval(SWEEP);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reports = interval(REPORT);
    reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
    reports.reset();
    loop {
        tokio::select! {
            _ = sweeps.tick() => {
                let ended = shared.write().sweep(shared.now());
                ended.iter().for_each(|way| shared.close(way));
            }
            _ = reports.tick() => report(shared),
            Some(()) = asked.recv() => report(shared),
        }
    }
}

fn report(shared: &Shared) {
    let (size, counted) = {
        let relay = shared.read();
        (relay.size(), relay.counters.read())
    };
    let counted: Vec<String> =
        counted.named().into_iter().filter(|(_, number)| *number > 0).map(|(name, n)| format!("{name}={n}")).collect();
    info!(allocations = size.0, channels = size.1, connections = shared.streams.len(), "{}", counted.join(" "));
}
