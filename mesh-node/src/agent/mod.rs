//! The running agent: puts the parts together, and passes between them what concerns more than one.

mod apply;
pub(crate) mod cdi;
mod endpoints;
mod enrol;
mod identity;
mod known;
mod learned;
mod leave;
mod paths;
mod pins;
mod probe;
mod reload;
mod requests;
mod settings;
mod status;
mod why;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use mesh_link::Url;
use mesh_proto::{
    Label, RunnerId,
    message::{Have, Refusal, Switches},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc, watch},
    task::AbortHandle,
};

pub(crate) use enrol::{Application, enrol};
pub(crate) use identity::{Enrolment, FILE as IDENTITY, Identity};
pub(crate) use settings::{Flags, Settings};

use crate::{
    attach::{self, Staging},
    config::Config,
    control::{Control, LocalState, Target},
    dataplane::{self, DataEvent, Dataplane},
    hosts,
    instances::{self, Instances},
    local::{self, Call},
    notify,
    state::{Lock, StateDir},
    sys::udp::Udp,
};

/// How long the end of an agent may wait for the stream to be closed in order.
const FAREWELL: Duration = Duration::from_secs(1);

/// What local requests are answered from.
#[derive(Debug)]
struct Agent {
    state: StateDir,
    /// The runner has left the mesh: the agent is to end.
    left: Notify,
    /// The offloads that the operator leaves on.
    operator: Switches,
    runner: RunnerId,
    name: Label,
    coordinators: Vec<Url>,
    control: Control,
    dataplane: Arc<Dataplane>,
    instances: Instances,
    applied: watch::Receiver<Option<Have>>,
    endpoints: watch::Receiver<Vec<SocketAddr>>,
    broken: paths::Broken,
    names: known::Names,
}

/// What an agent is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To run until it is told to end. Instances stay attached then: the next one takes them up.
    Run,
    /// The same, by an operator who has just joined: what comes next is said.
    First,
    /// To leave the mesh, and end.
    Leave,
}

/// Makes the task that attaches what the Docker of one socket starts, until it is aborted. The agent gets it from above: it
/// doesn't know its ways in.
pub(crate) type WatchDocker = fn(PathBuf, Instances, StateDir) -> AbortHandle;

/// What an agent needs of the machine and can be had only once: held to see that it is there.
pub(crate) struct Ready {
    _udp: Udp,
    _staging: Staging,
}

/// Finds out whether an agent could run here, before anything is spent on it.
///
/// # Errors
/// If its port is taken, or its rights don't do.
pub(crate) fn prepare(settings: &Settings) -> Result<Ready, Refusal> {
    let udp = dataplane::listen(settings.listen).map_err(|e| Refusal::bare(e.to_string()))?;
    let staging = Staging::new().map_err(|e| Refusal::bare(e.to_string()))?;
    Ok(Ready { _udp: udp, _staging: staging })
}

/// Runs the agent. Gives what it has left, if it has left the mesh as its purpose was.
///
/// # Errors
/// If it can't start, its data plane fails, or it can't leave.
pub(crate) async fn run(
    state: StateDir,
    _lock: Lock,
    identity: Identity,
    settings: Settings,
    purpose: Purpose,
    watch: WatchDocker,
) -> Result<Option<local::Leave>, Refusal> {
    let Identity { private_key, enrolment, .. } = identity;
    let Settings { listen, endpoints: given, offloads } = settings;
    let Some(Enrolment { runner, name, credential, coordinators, fingerprint, .. }) = enrolment else {
        return Err(Refusal::new("this machine has not joined", "mesh-node join URL TOKEN"));
    };
    let mut end = signal_of_end()?;
    let hangup = catch(SignalKind::hangup())?;
    let known = learned::load(&state);
    let (dataplane, events) =
        Dataplane::start(private_key, listen, known, pins::open(&state)).map_err(|e| Refusal::bare(e.to_string()))?;
    let dataplane = Arc::new(dataplane);
    let staging = Staging::new().map_err(|e| Refusal::bare(e.to_string()))?;

    let config = Config::load(&state).unwrap_or_else(|error| {
        tracing::warn!(%error, "containers that ask for the mesh won't start until that is put right");
        Config::default()
    });
    let guards = hosts::Guards::new();

    let view = apply::load(&state, runner);
    if let Some(view) = &view {
        attach::warn_of_clash(view.network.range).await;
    }
    let heard = view.as_ref().and_then(|_| state.written(apply::FILE));
    let (control, session) = Control::new(view, heard);
    let (applied_sender, applied) = watch::channel(None);
    let (confirmed, confirmations) = mpsc::unbounded_channel();
    let (views, links) = (control.views(), control.links());
    tokio::spawn(apply::keep(state.clone(), Arc::clone(&dataplane), views, links, confirmations, applied_sender));

    let parts = instances::Parts {
        state: state.clone(),
        control: control.clone(),
        dataplane: Arc::clone(&dataplane),
        staging,
        guards,
        applied: applied.clone(),
    };
    let instances = Instances::start(parts, instances::load(&state)).await;
    tokio::spawn(apply::warn_of_clashes(control.views()));

    let (learn, learning) = mpsc::unbounded_channel();
    tokio::spawn(learned::keep(state.clone(), learning));
    let endpoints_only = !given.is_empty();
    let endpoints = if endpoints_only { fixed(given) } else { endpoints::watch(dataplane.port(), control.views()) };
    let names = known::Names::default();
    tokio::spawn(names.clone().follow(control.views()));
    let agent = Arc::new(Agent {
        state: state.clone(),
        left: Notify::new(),
        operator: offloads,
        runner,
        name: name.clone(),
        coordinators: coordinators.clone(),
        control: control.clone(),
        dataplane: Arc::clone(&dataplane),
        instances: instances.clone(),
        applied: applied.clone(),
        endpoints: endpoints.clone(),
        broken: paths::Broken::default(),
        names: names.clone(),
    });
    let calls = local::serve(&state)?;
    notify::ready();
    let held = Box::new(move || {
        let instances = instances.clone();
        async move { instances.hello().await }.boxed()
    });
    let local = LocalState { port: dataplane.port(), endpoints_only, endpoints, applied, held };
    let target = Target { urls: coordinators, fingerprint, runner, credential: credential.to_text() };
    tokio::spawn(session.run(target, local));
    tokio::spawn(switch(control.switches(), offloads, Arc::clone(&dataplane)));
    tokio::spawn(follow_addresses(agent.endpoints.clone(), dataplane));
    tracing::info!(%runner, %name, port = agent.dataplane.port(), state = %state.path().display(), "running");

    let mut following = reload::Following::start(&agent, config, watch);
    tokio::spawn(async move { following.keep(hangup).await });

    let told = serve(&agent, calls, events, &confirmed, &learn);
    let leaving = async {
        match purpose {
            Purpose::Run => std::future::pending().await,
            Purpose::First => {
                agent.welcome().await;
                std::future::pending().await
            }
            Purpose::Leave => agent.leave().await.map(Some),
        }
    };
    let result = tokio::select! {
        result = told => result.map(|()| None),
        left = leaving => left,
        () = agent.left.notified() => Ok(None),
        () = &mut end => {
            tracing::info!("ending; instances stay attached");
            Ok(None)
        }
    };
    // Without it the coordinator's log would speak of a broken connection.
    agent.control.close(FAREWELL).await;
    for socket in state.spare_socket().into_iter().chain([state.socket()]) {
        let _ = std::fs::remove_file(socket);
    }
    result
}

impl Agent {
    /// Says what an operator who has just joined does next.
    async fn welcome(&self) {
        if !self.control.connected(Duration::MAX).await {
            return;
        }
        mesh_process::log::say(&format!(
            "connected: this machine is the runner {} now. Next, in another terminal: mesh-node run DEPLOYMENT/SERVICE -- COMMAND, \
             mesh-node attach DEPLOYMENT/SERVICE --netns PATH, or mesh-node setup docker|podman|systemd; mesh-node status shows all",
            self.name
        ));
    }
}

/// Passes on what happens, until the data plane fails.
async fn serve(
    agent: &Arc<Agent>,
    mut calls: mpsc::Receiver<Call>,
    mut events: mpsc::UnboundedReceiver<DataEvent>,
    confirmed: &mpsc::UnboundedSender<mesh_proto::Revision>,
    learn: &mpsc::UnboundedSender<(RunnerId, SocketAddr)>,
) -> Result<(), Refusal> {
    let failed = |why: String| {
        Refusal::new(format!("the data plane has failed: {why}"), "start the agent again; instances stay attached")
    };
    loop {
        tokio::select! {
            Some(call) = calls.recv() => {
                let agent = Arc::clone(agent);
                tokio::spawn(async move { agent.answer(call).await });
            }
            event = events.recv() => match event {
                // Nobody to tell only when the agent ends.
                Some(DataEvent::Applied(revision)) => drop(confirmed.send(revision)),
                Some(DataEvent::Endpoint { runner, endpoint }) => drop(learn.send((runner, endpoint))),
                Some(DataEvent::Unreachable(runner)) => {
                    let agent = Arc::clone(agent);
                    tokio::spawn(async move { agent.path_broken(runner).await });
                }
                Some(DataEvent::Reachable(runner)) => agent.path_healed(runner),
                Some(DataEvent::Gone(port)) => agent.instances.gone(port),
                Some(DataEvent::Failed(why)) => return Err(failed(why)),
                None => return Err(failed("its thread is gone".to_owned())),
            }
        }
    }
}

/// An offload is on if neither the operator nor the coordinator has switched it off.
async fn switch(mut switches: watch::Receiver<Switches>, operator: Switches, dataplane: Arc<Dataplane>) {
    switches.mark_changed();
    while switches.changed().await.is_ok() {
        let coordinator = *switches.borrow_and_update();
        dataplane.set_switches(Switches {
            tun_gso: operator.tun_gso && coordinator.tun_gso,
            udp_gso: operator.udp_gso && coordinator.udp_gso,
            udp_gro: operator.udp_gro && coordinator.udp_gro,
        });
    }
}

/// Peers learn from this runner itself where it has moved; the coordinator may be away.
async fn follow_addresses(mut endpoints: watch::Receiver<Vec<SocketAddr>>, dataplane: Arc<Dataplane>) {
    endpoints.mark_unchanged();
    while endpoints.changed().await.is_ok() {
        dataplane.moved();
    }
}

fn catch(kind: SignalKind) -> Result<Signal, Refusal> {
    signal(kind).map_err(|e| Refusal::bare(format!("signals can't be caught: {e}")))
}

fn fixed(endpoints: Vec<SocketAddr>) -> watch::Receiver<Vec<SocketAddr>> {
    watch::channel(endpoints).1
}

/// SIGTERM, or SIGINT from a terminal.
fn signal_of_end() -> Result<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>, Refusal> {
    let (mut terminate, mut interrupt) = (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    Ok(Box::pin(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }))
}
