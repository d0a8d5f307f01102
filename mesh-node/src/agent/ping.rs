//! Asks another runner for an answer, for `ping`.

use std::{sync::Arc, time::Duration};

use mesh_engine::Hop;
use mesh_proto::{
    Ability, ServicePath, View,
    message::Refusal,
    view::{InstanceState, Runner},
};
use tokio::time::timeout;

use super::Agent;
use crate::{
    hint::with_nearest,
    local::{self, Path, VERSION},
};

/// How long an answer is awaited, a handshake included.
const PATIENCE: Duration = Duration::from_secs(5);

impl Agent {
    pub(super) async fn ping(&self, target: &str) -> Result<local::Ping, Refusal> {
        let view = self.control.view().ok_or_else(|| {
            Refusal::new(
                "this runner knows no other runner yet",
                "`mesh-node status` says whether the coordinator is connected",
            )
        })?;
        let runner = find(&view, target)?;
        if !runner.can.has(Ability::Paths) {
            let why = format!("the agent of {} is too old to answer pings", runner.name);
            return Err(Refusal::new(why, "upgrade it; `mesh-node status` says whether there is a session"));
        }
        let answer = self.dataplane.ping(runner.id);
        let Ok(Some(pong)) = timeout(PATIENCE, answer).await else {
            let why = format!("{} doesn't answer within {} s", runner.name, PATIENCE.as_secs());
            return Err(Refusal::new(
                why,
                "`mesh-node status` shows what was tried, `mesh-node netcheck` what is in the way",
            ));
        };
        let (path, relay) = match pong.path {
            Hop::Direct(_) => (Path::Direct, None),
            Hop::Relayed { relay, .. } => (Path::Relay, Some(self.relays.of(relay))),
        };
        Ok(local::Ping {
            version: VERSION,
            seq: 1,
            runner: runner.name.clone(),
            path,
            relay,
            endpoint: pong.path.address(),
            rtt_ms: pong.rtt.into(),
            mtu: pong.mtu,
        })
    }
}

/// The runner of this name, or the first other one with an instance of the service.
fn find(view: &View, target: &str) -> Result<Arc<Runner>, Refusal> {
    if !target.contains('/') {
        let runner = view.runners().find(|runner| *runner.name == *target).ok_or_else(|| {
            let others = view.runners().filter(|runner| runner.id != view.runner);
            let names: Vec<&str> = others.map(|runner| &*runner.name).collect();
            Refusal::new(
                format!("this runner knows no runner `{target}`: it has no services in common with it"),
                if names.is_empty() {
                    "it knows no other runner".to_owned()
                } else {
                    format!("it knows {}", names.join(", "))
                },
            )
        })?;
        return if runner.id == view.runner {
            Err(Refusal::new(format!("`{target}` is this runner"), "name another one, or a service"))
        } else {
            Ok(Arc::clone(runner))
        };
    }
    let path: ServicePath = target.parse().map_err(|error| Refusal::bare(format!("`{target}`: {error}")))?;
    let service = super::requests::find(view, &path).ok_or_else(|| {
        let refusal = Refusal::new(format!("this runner knows no service {path}"), "`mesh-coord services` lists them");
        with_nearest(refusal, &[&path], Some(view))
    })?;
    let live =
        view.instances().filter(|instance| instance.service == service && instance.state != InstanceState::Client);
    let runners: Vec<&Arc<Runner>> = live.filter_map(|instance| view.runner(instance.runner)).collect();
    match runners.iter().find(|runner| runner.id != view.runner) {
        Some(runner) => Ok(Arc::clone(runner)),
        None if runners.is_empty() => {
            Err(Refusal::new(format!("{path} runs nowhere"), "start its container, or `mesh-node attach`"))
        }
        None => Err(Refusal::new(format!("{path} runs on this runner only"), "no path between runners leads to it")),
    }
}
