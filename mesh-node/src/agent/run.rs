//! The run of an agent, from its start to its end.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::FutureExt as _;
use mesh_proto::{
    RunnerId, ServicePath,
    message::{Refusal, Switches},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc, watch},
};

use super::{
    Agent, Enrolment, Identity, Purpose, Settings, WatchDocker, apply, coordinators, endpoints::Endpoints, known,
    learned, metrics, paths, pins, relays, reload, telemetry,
};
use crate::{
    attach::{self, Staging},
    config::Config,
    control::{Control, LocalState, Offered, Outside, SessionState, Target},
    dataplane::{DataEvent, Dataplane, RelayNews},
    hosts,
    instances::{self, Instances},
    local::{self, Call},
    notify,
    state::{Lock, StateDir},
};

/// How long the end of an agent may wait for the stream to be closed in order.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the running agent passes on, and to which of its parts.
struct Sources {
    /// Local requests.
    calls: mpsc::Receiver<Call>,
    /// What happens in the data plane.
    events: mpsc::UnboundedReceiver<DataEvent>,
    /// The revisions that it has applied.
    confirmed: mpsc::UnboundedSender<mesh_proto::Revision>,
    /// What has become of the relays.
    relays: watch::Sender<RelayNews>,
    /// Where other runners were reached.
    learned: mpsc::UnboundedSender<(RunnerId, SocketAddr)>,
}

/// Runs the agent. Returns what it has left, if its purpose was to leave the mesh.
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
    let (mut terminate, mut interrupt) = (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    let hangup = catch(SignalKind::hangup())?;
    let config = Config::load(&state).unwrap_or_else(|error| {
        tracing::warn!(%error, "containers that ask for the mesh won't start until that is put right");
        Config::default()
    });
    let (agent, sources) = start(&state, identity, settings).await?;
    let mut following = reload::Following::start(&agent, config, watch);
    tokio::spawn(async move { following.keep(hangup).await });
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
        failed = pass_on(&agent, sources) => failed.map(|()| None),
        left = leaving => left,
        () = agent.left.notified() => Ok(None),
        _ = async { tokio::select! { signal = terminate.recv() => signal, signal = interrupt.recv() => signal } } => {
            tracing::info!("ending; instances stay attached");
            Ok(None)
        }
    };
    agent.ending.send_replace(true);
    let _ = tokio::time::timeout(FAREWELL, agent.ending.closed()).await;
    // Without it the coordinator's log would speak of a broken connection.
    agent.control.close(FAREWELL).await;
    agent.endpoints.end(FAREWELL).await;
    for socket in state.spare_socket().into_iter().chain([state.socket()]) {
        let _ = std::fs::remove_file(socket);
    }
    result
}

/// Starts the parts of the agent. It answers local requests once the instances of an earlier agent are taken up.
async fn start(state: &StateDir, identity: Identity, settings: Settings) -> Result<(Arc<Agent>, Sources), Refusal> {
    let Identity { private_key, enrolment, .. } = identity;
    let Settings { listen, reach, reach_flags, proxies, offloads, relays: used, metrics, lanes } = settings;
    let Some(Enrolment { runner, name, credential, coordinators, fingerprint, .. }) = enrolment else {
        return Err(Refusal::new("this machine has not joined", "mesh-node join URL TOKEN"));
    };
    let bare = |error: &dyn std::fmt::Display| Refusal::bare(error.to_string());
    let known = learned::load(state);
    let (dataplane, events) =
        Dataplane::start(private_key, listen, lanes, known, pins::open(state)).map_err(|error| bare(&error))?;
    let (dataplane, staging) = (Arc::new(dataplane), Staging::new().map_err(|error| bare(&error))?);

    let (control, session) = with_last_view(state, runner).await;
    let session = session.told_of(coordinators::load(state, fingerprint));
    tokio::spawn(coordinators::keep(state.clone(), fingerprint, control.coordinators()));
    let (applied_sender, applied) = watch::channel(None);
    let (confirmed, confirmations) = mpsc::unbounded_channel();
    let (views, links) = (control.views(), control.links());
    tokio::spawn(apply::keep(state.clone(), Arc::clone(&dataplane), views, links, confirmations, applied_sender));
    let (learned, learning) = mpsc::unbounded_channel();
    tokio::spawn(learned::keep(state.clone(), learning));

    let parts = instances::Parts {
        state: state.clone(),
        control: control.clone(),
        dataplane: Arc::clone(&dataplane),
        staging,
        guards: hosts::Guards::new(),
        applied: applied.clone(),
    };
    let instances = Instances::start(parts, instances::load(state)).await;
    tokio::spawn(apply::warn_of_clashes(control.views()));

    let (relay_news, told) = watch::channel(RelayNews::default());
    let endpoints = Endpoints::follow(dataplane.port(), state, reach, control.views(), told.clone());
    let names = known::Names::default();
    tokio::spawn(names.clone().follow(control.views()));
    let relays = relays::follow(state.clone(), Arc::clone(&dataplane), &control, used);
    let dialer = relays::Dialer::new(relays.clone(), proxies.clone(), Arc::clone(&dataplane));
    let outside = relays::tell(Arc::clone(&dataplane), told, endpoints.offered(), control.views());
    let target = Target { urls: coordinators.clone(), proxies, fingerprint, runner, credential: credential.to_text() };
    let agent = Arc::new(Agent {
        state: state.clone(),
        left: Notify::new(),
        ending: watch::Sender::new(false),
        operator: offloads,
        runner,
        name,
        coordinators,
        control,
        dataplane,
        instances,
        applied,
        endpoints,
        reach_flags,
        broken: paths::Broken::default(),
        names,
        relays,
        outside: outside.clone(),
        dialer,
        unserved: OnceLock::new(),
    });
    if let Some(address) = metrics {
        metrics::serve(&agent, address);
    }
    let calls = local::serve(state)?;
    notify::ready();
    connect(&agent, session, target, Reported { outside, relays: used });
    tracing::info!(%runner, name = %agent.name, port = agent.dataplane.port(), state = %state.path().display(), "running");
    Ok((agent, Sources { calls, events, confirmed, learned, relays: relay_news }))
}

/// The control with the view that an earlier agent has left, if there is one.
async fn with_last_view(state: &StateDir, runner: RunnerId) -> (Control, SessionState) {
    let view = apply::load(state, runner);
    if let Some(view) = &view {
        attach::warn_of_clash(view.network.range).await;
    }
    let heard = view.as_ref().and_then(|_| state.written(apply::FILE));
    Control::new(view, heard)
}

/// What the stream reports, beside what the agent's parts know.
struct Reported {
    outside: watch::Receiver<Outside>,
    relays: bool,
}

/// Keeps a stream to the coordinator, and does what it says of offloads.
fn connect(agent: &Arc<Agent>, session: SessionState, target: Target, reported: Reported) {
    let instances = agent.instances.clone();
    let held = Box::new(move || {
        let instances = instances.clone();
        async move { instances.hello().await }.boxed()
    });
    let prober = Arc::downgrade(agent);
    let probe = Box::new(move |[caller, callee]: [ServicePath; 2], port| {
        let agent = prober.upgrade();
        async move {
            let agent = agent.ok_or_else(|| Refusal::bare("the agent ends"))?;
            agent.try_out(caller, callee, port).await
        }
        .boxed()
    });
    let (endpoints, applied) = (agent.endpoints.offered(), agent.applied.clone());
    let Reported { outside, relays } = reported;
    let (reports, telemetry) = mpsc::channel(1);
    let (wishes, ending) = (agent.control.telemetry(), agent.ending.subscribe());
    tokio::spawn(telemetry::keep(Arc::clone(&agent.dataplane), wishes, ending, reports));
    let (port, lanes) = (agent.dataplane.port(), agent.dataplane.lanes() > 1);
    let local = LocalState { port, endpoints, outside, relays, lanes, applied, telemetry, probe, held };
    tokio::spawn(session.run(target, local));
    tokio::spawn(switch(agent.control.switches(), agent.operator, Arc::clone(&agent.dataplane)));
    tokio::spawn(follow_addresses(agent.endpoints.offered(), Arc::clone(&agent.dataplane)));
}

/// Passes on what happens, until the data plane or the task of the instances fails.
async fn pass_on(agent: &Arc<Agent>, sources: Sources) -> Result<(), Refusal> {
    let Sources { mut calls, mut events, confirmed, relays, learned } = sources;
    let again = "start the agent again; instances stay attached";
    let failed = |why: String| Refusal::new(format!("the data plane has failed: {why}"), again);
    loop {
        tokio::select! {
            Some(call) = calls.recv() => {
                let agent = Arc::clone(agent);
                tokio::spawn(async move { agent.answer(call).await });
            }
            event = events.recv() => match event {
                // The receivers are gone only when the agent ends.
                Some(DataEvent::Applied(revision)) => drop(confirmed.send(revision)),
                Some(DataEvent::Endpoint { runner, endpoint }) => drop(learned.send((runner, endpoint))),
                Some(DataEvent::Unreachable(runner)) => {
                    let agent = Arc::clone(agent);
                    tokio::spawn(async move { agent.path_broken(runner).await });
                }
                Some(DataEvent::Reachable(runner)) => agent.path_healed(runner),
                Some(DataEvent::Connect(relay)) => {
                    let dialer = agent.dialer.clone();
                    tokio::spawn(async move { dialer.dial(relay).await });
                }
                Some(DataEvent::Relays(news)) => drop(relays.send_replace(news)),
                Some(DataEvent::Gone(port)) => agent.instances.gone(port),
                Some(DataEvent::Failed(why)) => return Err(failed(why)),
                None => return Err(failed("its thread is gone".to_owned())),
            },
            () = agent.instances.failed() => {
                return Err(Refusal::new("the task of the instances has failed: this is a bug, please report it", again));
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
async fn follow_addresses(mut endpoints: watch::Receiver<Offered>, dataplane: Arc<Dataplane>) {
    endpoints.mark_unchanged();
    while endpoints.changed().await.is_ok() {
        dataplane.moved();
    }
}

fn catch(kind: SignalKind) -> Result<Signal, Refusal> {
    signal(kind).map_err(|e| Refusal::bare(format!("signals can't be caught: {e}")))
}
