//! What each runner should know, and who may call whom, computed by brute force from the records alone.

use std::collections::BTreeSet;

use mesh_model::{
    Record, State,
    record::{Deployment, Instance, Runner, Scope, Service, TrustSource},
};
use mesh_proto::{
    DeploymentId, Epoch, Label, Ports, Revision, RunnerId, ServiceId, ServicePath, View,
    rules::Rules,
    view::{self, InstanceState, Network},
};

pub(crate) struct Reference {
    network: Network,
    runners: Vec<Runner>,
    deployments: Vec<Deployment>,
    services: Vec<Service>,
    instances: Vec<Instance>,
    grants: Vec<view::Grant>,
}

impl Reference {
    pub(crate) fn new(state: &State) -> Self {
        let mut this = Self {
            network: state.network(),
            runners: Vec::new(),
            deployments: Vec::new(),
            services: Vec::new(),
            instances: Vec::new(),
            grants: Vec::new(),
        };
        for record in state.records() {
            match record {
                Record::Runner(r) => this.runners.push((*r).clone()),
                Record::Deployment(d) => this.deployments.push((*d).clone()),
                Record::Service(s) => this.services.push((*s).clone()),
                Record::Instance(i) => this.instances.push((*i).clone()),
                _ => {}
            }
        }
        for caller in &this.deployments {
            for callee in &this.services {
                let ports = this.ports(caller, callee);
                if ports != Ports::Only(BTreeSet::new()) {
                    this.grants.push(view::Grant { caller: caller.id, callee: callee.id, ports });
                }
            }
        }
        this
    }

    /// The ports on which a deployment's services may call another deployment's service.
    fn ports(&self, caller: &Deployment, callee: &Service) -> Ports {
        let mut open = BTreeSet::new();
        let Some(to) = self.deployments.iter().find(|d| d.id == callee.deployment) else { return Ports::Only(open) };
        if to.id == caller.id || to.team != caller.team {
            return Ports::Only(open);
        }
        for entry in to.trust.iter().filter(|t| t.caller == caller.name) {
            let opened = match (&entry.services, &to.expose) {
                (Some(patterns), _) | (None, Some(patterns)) => patterns.iter().any(|p| p.matches(&callee.name)),
                (None, None) => true,
            };
            if opened {
                match &entry.ports {
                    Ports::All => return Ports::All,
                    Ports::Only(ports) => open.extend(ports),
                }
            }
        }
        Ports::Only(open)
    }

    pub(crate) fn runners(&self) -> Vec<RunnerId> {
        self.runners.iter().map(|r| r.id).collect()
    }

    pub(crate) fn services(&self) -> Vec<ServiceId> {
        self.services.iter().map(|s| s.id).collect()
    }

    pub(crate) fn find(&self, path: &ServicePath) -> Option<ServiceId> {
        let deployment = self.deployments.iter().find(|d| d.name == path.deployment)?;
        self.services.iter().find(|s| s.deployment == deployment.id && s.name == path.service).map(|s| s.id)
    }

    pub(crate) fn may_host(&self, runner: RunnerId, path: &ServicePath) -> bool {
        let Some(runner) = self.runners.iter().find(|r| r.id == runner) else { return false };
        self.find(path).is_some()
            && self.deployments.iter().filter(|d| d.name == path.deployment).any(|d| match &runner.scope {
                Scope::Any => true,
                Scope::Teams(teams) => teams.contains(&d.team),
                Scope::Deployments(ids) => ids.contains(&d.id),
            })
    }

    /// Whether the runner may know both services: it may host one, and may host the other or is connected with it by
    /// a grant.
    pub(crate) fn may_know(&self, runner: RunnerId, caller: &ServicePath, callee: &ServicePath) -> bool {
        let connected = |own: &ServicePath, other: &ServicePath| {
            let (Some(own), Some(other)) = (self.find(own), self.find(other)) else { return false };
            let (own, from) = (self.deployment_of(own), self.deployment_of(other));
            let calls = |g: &view::Grant| Some(g.caller) == from && self.deployment_of(g.callee) == own;
            let is_called = |g: &view::Grant| Some(g.caller) == own && g.callee == other;
            self.grants.iter().any(|g| calls(g) || is_called(g))
        };
        match (self.may_host(runner, caller), self.may_host(runner, callee)) {
            (true, true) => true,
            (true, false) => connected(caller, callee),
            (false, true) => connected(callee, caller),
            (false, false) => false,
        }
    }

    /// Whether a live instance is on a runner that is not silent.
    pub(crate) fn is_answered(&self, service: ServiceId) -> bool {
        let is_heard = |runner: RunnerId| self.runners.iter().any(|r| r.id == runner && !r.silent);
        self.instances.iter().any(|i| i.service == service && i.state == InstanceState::Live && is_heard(i.runner))
    }

    pub(crate) fn view(&self, runner: RunnerId, epoch: Epoch, revision: Revision) -> Option<View> {
        let me = self.runners.iter().find(|r| r.id == runner && r.removed.is_none())?;
        let local: Vec<&Service> = self
            .services
            .iter()
            .filter(|s| self.instances.iter().any(|i| i.runner == runner && i.service == s.id))
            .collect();
        let hosts = |d: DeploymentId| local.iter().any(|s| s.deployment == d);
        let calls = |t: &Service| self.grants.iter().any(|g| g.callee == t.id && hosts(g.caller));
        let is_caller = |t: &Service| {
            self.grants.iter().any(|g| g.caller == t.deployment && local.iter().any(|s| s.id == g.callee))
        };

        let mut view = View::empty(epoch, revision, runner, self.network);
        let mut runners = vec![me];
        for service in self.services.iter().filter(|t| hosts(t.deployment) || calls(t) || is_caller(t)) {
            view.put(view::Record::Service(
                view::Service {
                    id: service.id,
                    deployment: service.deployment,
                    name: service.name.clone(),
                    address: service.address,
                    automatic_names: !service.declared.manual_names,
                }
                .into(),
            ));
            let d = self.deployments.iter().find(|d| d.id == service.deployment)?;
            view.put(view::Record::Deployment(
                view::Deployment {
                    id: d.id,
                    name: d.name.clone(),
                    team: d.team.clone(),
                    trust_source: Some(match d.trust_source {
                        TrustSource::Command => view::TrustSource::Command,
                        TrustSource::File(_) => view::TrustSource::File,
                    }),
                }
                .into(),
            ));
            for instance in self.instances.iter().filter(|i| i.service == service.id) {
                let release = instance.release.clone().filter(|_| hosts(service.deployment));
                view.put(view::Record::Instance(Instance { release, ..instance.clone() }.into()));
                runners.extend(self.runners.iter().find(|r| r.id == instance.runner));
            }
            if hosts(service.deployment) {
                view.put(view::Record::Naming(
                    view::Naming {
                        service: service.id,
                        aliases: service.declared.aliases.clone(),
                        port: service.declared.port,
                        ist: service.declared.ist.clone(),
                    }
                    .into(),
                ));
            }
        }
        for grant in self.grants.iter().filter(|g| hosts(g.caller) || local.iter().any(|s| s.id == g.callee)) {
            view.put(view::Record::Grant(grant.clone().into()));
        }
        for r in runners {
            let mut endpoints = r.endpoints.clone();
            endpoints.extend(r.seen.filter(|seen| !endpoints.contains(seen)));
            view.put(view::Record::Runner(
                view::Runner {
                    id: r.id,
                    name: r.name.clone(),
                    provider: r.provider.clone(),
                    public_key: r.public_key,
                    endpoints,
                    silent: r.silent,
                    can: r.can,
                    reflexive: r.outside.reflexive.clone(),
                    relayed: r.outside.relayed.clone(),
                }
                .into(),
            ));
        }
        Some(view)
    }
}

impl Rules for Reference {
    fn deployment_of(&self, service: ServiceId) -> Option<DeploymentId> {
        self.services.iter().find(|s| s.id == service).map(|s| s.deployment)
    }

    fn team_of(&self, deployment: DeploymentId) -> Option<&Label> {
        self.deployments.iter().find(|d| d.id == deployment).map(|d| &d.team)
    }

    fn grant(&self, caller: DeploymentId, callee: ServiceId) -> Option<&Ports> {
        self.grants.iter().find(|g| g.caller == caller && g.callee == callee).map(|g| &g.ports)
    }
}
