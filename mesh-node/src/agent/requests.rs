//! Answers the local requests.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use mesh_proto::{
    ServicePath, View,
    message::{Answer, Ask, Refusal, Tried},
    names::{Names, names},
    why::Explanation,
};
use serde::Serialize;
use serde_json::Value;

use super::{
    Agent,
    why::{self, Question},
};
use crate::{
    attach::Namespace,
    hint::with_nearest,
    hosts::{HostsFile, Place, Reach as _, Unkept},
    instances::{Life, Resolv, Start, Wish},
    local::{self, Call, Request, VERSION},
};

/// How long a request waits for a connection to the coordinator that is just being made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

impl Agent {
    pub(super) async fn answer(&self, call: Call) {
        let Call { request, fds, answer, given } = call;
        let leaves = matches!(request, Request::Leave);
        let result = self.carry_out(request, fds).await;
        let left = leaves && result.is_ok();
        // The caller may have hung up.
        let _ = answer.send(result);
        if left {
            let _ = given.await;
            self.left.notify_one();
        }
    }

    async fn carry_out(&self, request: Request, fds: Vec<OwnedFd>) -> Result<Value, Refusal> {
        let mut fds = fds.into_iter();
        match request {
            Request::Attach { service, client, release, namespace: place, hosts, resolv, process } => {
                let namespace = Arc::new(open(&mut fds)?);
                let (hosts, unkept) = hosts_file(hosts, &mut fds).await?;
                let resolv = resolv_conf(resolv, &mut fds).await?;
                let process = if process { Some(fds.next().ok_or_else(|| missing("process"))?) } else { None };
                let wish = Wish { service, client, release, namespace, place, hosts, unkept, resolv, process };
                value(&self.instances.attach(wish).await?)
            }
            Request::Detach { instance: Some(instance) } => value(&self.instances.detach(instance).await?),
            Request::Detach { instance: None } => {
                let namespace = open(&mut fds)?;
                value(&self.instances.detach_from(namespace.id()).await?)
            }
            Request::AttachContainer { id, service, client, release, hosts, resolv, namespace: place } => {
                let namespace = Arc::new(open(&mut fds)?);
                let (hosts, unkept) = hosts_file(hosts, &mut fds).await?;
                let resolv = resolv_conf(resolv, &mut fds).await?;
                let life = match place {
                    Some(path) => Life::Namespace(path),
                    None => Life::Process(fds.next().ok_or_else(|| missing("process"))?),
                };
                let start = Start { id, service, client, release, namespace, hosts, unkept, resolv, life };
                value(&self.instances.attach_container(start).await?)
            }
            Request::Containers => value(&self.instances.containers().await),
            Request::DetachContainer { id } => value(&self.instances.detach_container(id).await?),
            Request::Drain { instance } => value(&self.instances.set_draining(instance, true).await?),
            Request::Undrain { instance } => value(&self.instances.set_draining(instance, false).await?),
            Request::Leave => value(&self.leave().await?),
            Request::Names { service } => value(&self.names(service).await?),
            Request::Status => value(&self.status().await),
            Request::Metrics => value(&self.metrics().await),
            Request::Denied => value(&self.denied().await),
            Request::Ping { target } => value(&self.ping(&target).await?),
            Request::Netcheck => value(&self.netcheck().await),
            Request::Log => value(&self.log()),
            Request::Why { caller, callee, port, probe } => {
                value(&self.why(Question { caller, callee, port }, probe).await?)
            }
        }
    }

    /// From this runner's view if that is complete for the deployment, that is, if an instance of it is here; else from the coordinator.
    pub(super) async fn names(&self, service: ServicePath) -> Result<local::Names, Refusal> {
        let own = self.control.view().filter(|view| hosts_deployment(view, &service));
        let view = match own {
            Some(view) => view,
            None => {
                self.control.connected(CONNECT_PATIENCE).await;
                let asked = self.control.ask(Ask::Lookup { service: service.clone() }).await;
                match asked.map_err(|why| with_nearest(why.into(), &[&service], self.control.view().as_deref()))? {
                    Answer::Found { view } => Arc::new(view),
                    _ => return Err(Refusal::bare("the coordinator's answer doesn't fit the question")),
                }
            }
        };
        let found = find(&view, &service).and_then(|service| names(&view, service)).ok_or_else(|| {
            let refusal = Refusal::new(format!("there is no service {service}"), "`mesh-coord services` lists them");
            with_nearest(refusal, &[&service], Some(&view))
        })?;
        let hosts = found.hosts.iter().cloned().map(|(address, name)| local::Host { address, name }).collect();
        let Names { variables, foreign_variables, warnings, .. } = found;
        Ok(local::Names { version: VERSION, hosts, variables, warnings, foreign_variables })
    }

    /// For the coordinator: tries a connection, if it is allowed.
    pub(super) async fn try_out(&self, caller: ServicePath, callee: ServicePath, port: u16) -> Result<Tried, Refusal> {
        let local::Why { verdict, steps, .. } = self.why(Question { caller, callee, port }, true).await?;
        Ok(Tried { allowed: verdict == local::Verdict::Allow, steps })
    }

    async fn why(&self, question: Question, probe: bool) -> Result<local::Why, Refusal> {
        let (view, report) = (self.control.view(), self.dataplane.report().await);
        let seen = why::Seen { report: report.as_ref(), relay: &|relay| self.relays.of(relay) };
        let own = view.as_deref().and_then(|view| why::explain(view, seen, &question));
        let said = match own {
            Some(explanation) => explanation,
            None => self.why_elsewhere(view.as_deref(), seen, &question).await?,
        };
        let said = why::cut_off(said, &question, &self.control.link());
        let Explanation { allowed, steps } = if probe { self.probe(&question, said).await? } else { said };
        let verdict = if allowed { local::Verdict::Allow } else { local::Verdict::Deny };
        Ok(local::Why { version: VERSION, verdict, steps })
    }

    /// The coordinator's answer about a connection of which this runner's view doesn't have both ends.
    async fn why_elsewhere(
        &self,
        view: Option<&View>,
        seen: why::Seen<'_>,
        question: &Question,
    ) -> Result<Explanation, Refusal> {
        let Question { caller, callee, port } = question.clone();
        let asked = self.control.ask(Ask::Why { caller, callee, port }).await;
        let asked = asked.map_err(|why| with_nearest(why.into(), &[&question.caller, &question.callee], view))?;
        let Answer::Why { allowed, steps } = asked else {
            return Err(Refusal::bare("the coordinator's answer doesn't fit the question"));
        };
        let said = Explanation { allowed, steps };
        Ok(match view {
            Some(view) => why::with_local_path(view, seen, question, said),
            None => said,
        })
    }
}

fn value(answer: &impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(answer).map_err(|e| Refusal::bare(format!("the answer can't be written: {e}")))
}

fn open(fds: &mut impl Iterator<Item = OwnedFd>) -> Result<Namespace, Refusal> {
    let fd = fds.next().ok_or_else(|| missing("network namespace"))?;
    Namespace::from_fd(fd).map_err(|e| Refusal::bare(e.to_string()))
}

fn missing(what: &str) -> Refusal {
    Refusal::bare(format!("the descriptor of the {what} is missing beside the request"))
}

/// The hosts file to keep, or why the instance goes without one.
async fn hosts_file(
    place: Option<Place>,
    fds: &mut impl Iterator<Item = OwnedFd>,
) -> Result<(Option<(Place, HostsFile)>, Option<Refusal>), Refusal> {
    let Some(place) = place else { return Ok((None, None)) };
    let found = fds.next().ok_or_else(|| missing("hosts file"))?;
    let at = place.clone();
    let opened = tokio::task::spawn_blocking(move || at.open(&found)).await;
    match opened.map_err(|e| Refusal::bare(e.to_string()))? {
        Ok(file) => Ok((Some((place, file)), None)),
        Err(Unkept::Barred(why)) => Ok((None, Some(why))),
        Err(Unkept::Refused(refusal)) => Err(refusal),
    }
}

/// The resolv.conf that is to have the resolver, with the same care.
async fn resolv_conf(at: Option<Place>, fds: &mut impl Iterator<Item = OwnedFd>) -> Result<Resolv, Refusal> {
    let (kept, unkept) = hosts_file(at.clone().map(|at| Place::Resolv(Box::new(at))), fds).await?;
    Ok(match (kept, unkept, at) {
        (Some((_, file)), _, Some(at)) => Resolv::File(at, file),
        (_, Some(why), _) => Resolv::Unkept(why),
        _ => Resolv::Untouched,
    })
}

/// The service with this path.
pub(super) fn find(view: &View, path: &ServicePath) -> Option<mesh_proto::ServiceId> {
    let deployment = view.deployments().find(|deployment| deployment.name == path.deployment)?;
    let service = view.services().find(|s| s.deployment == deployment.id && s.name == path.service)?;
    Some(service.id)
}

/// Whether an instance of the service's deployment is here.
fn hosts_deployment(view: &View, path: &ServicePath) -> bool {
    let deployment = view.deployments().find(|deployment| deployment.name == path.deployment).map(|found| found.id);
    let mut here = view.instances().filter(|instance| instance.runner == view.runner);
    deployment.is_some()
        && here.any(|instance| view.service(instance.service).map(|service| service.deployment) == deployment)
}
