//! The running agent: it connects the parts.

mod apply;
pub(crate) mod cdi;
mod coordinators;
mod endpoints;
mod enrol;
mod identity;
mod known;
mod learned;
mod leave;
mod log;
mod lookup;
mod metrics;
mod netcheck;
mod paths;
mod ping;
mod pins;
mod probe;
mod relays;
mod reload;
mod requests;
mod run;
mod settings;
mod status;
mod telemetry;
mod why;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use mesh_link::Url;
use mesh_proto::{
    Label, RunnerId,
    message::{Have, Refusal, Switches},
};
use mesh_udp::Udp;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

pub(crate) use enrol::{Application, enrol};
pub(crate) use identity::{Enrolment, FILE as IDENTITY, Identity};
pub(crate) use run::run;
pub(crate) use settings::{Flags, Settings};

use crate::{
    attach::Staging,
    control::{Control, Outside},
    dataplane::{self, Dataplane},
    instances::Instances,
    state::StateDir,
};

/// The parts that answer local requests.
#[derive(Debug)]
struct Agent {
    state: StateDir,
    /// Notified when the runner has left the mesh: the agent ends.
    left: Notify,
    /// Whether the agent is about to end.
    ending: watch::Sender<bool>,
    /// The offloads that the operator leaves on.
    operator: Switches,
    runner: RunnerId,
    name: Label,
    coordinators: Vec<Url>,
    control: Control,
    dataplane: Arc<Dataplane>,
    instances: Instances,
    applied: watch::Receiver<Option<Have>>,
    endpoints: endpoints::Endpoints,
    /// What flags say of where other runners reach this one.
    reach_flags: settings::ReachFlags,
    broken: paths::Broken,
    names: known::Names,
    relays: relays::Names,
    outside: watch::Receiver<Outside>,
    dialer: relays::Dialer,
    /// Why the numbers aren't served where they should be.
    unserved: OnceLock<String>,
}

/// The purpose of an agent's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To run until a signal ends it. Instances stay attached: the next agent takes them up.
    Run,
    /// The same, just after joining: it also tells the operator the next steps.
    First,
    /// To leave the mesh and end.
    Leave,
}

/// Starts the task that attaches what the Docker at a socket starts, until it is aborted. The caller passes it in, because the agent
/// imports none of its ways in.
pub(crate) type WatchDocker = fn(PathBuf, Instances, StateDir) -> AbortHandle;

/// What an agent needs and only one process can have: held to show that it is free.
pub(crate) struct Ready {
    _udp: Udp,
    _staging: Staging,
}

/// Checks that an agent can run here, before the token is spent.
///
/// # Errors
/// If its port is taken, or its rights don't suffice.
pub(crate) fn prepare(settings: &Settings) -> Result<Ready, Refusal> {
    let udp = dataplane::listen(settings.listen).map_err(|e| Refusal::bare(e.to_string()))?;
    let staging = Staging::new().map_err(|e| Refusal::bare(e.to_string()))?;
    Ok(Ready { _udp: udp, _staging: staging })
}

impl Agent {
    /// Tells an operator who has just joined the next steps.
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
