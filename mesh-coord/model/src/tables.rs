//! Rows of tables: plain data, limited to what the reader may see.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use mesh_proto::{
    DeploymentId, InstanceId, Label, Release, RunnerId, ServiceId, ServiceName, TokenId, relay::Nat,
    view::InstanceState,
};
use serde::{Deserialize, Serialize};

use crate::{
    Admin, Offload, Role, State, UnixSeconds,
    auth::check_time,
    declare::{Pattern, Trust},
    limits,
    record::{Deployment, Purpose, Relay, Runner, Scope, Service, Token, TrustSource},
    state::RunnerEntry,
};

/// A row of `deployments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRow {
    /// Its identifier.
    pub id: DeploymentId,
    /// Its name.
    pub deployment: Label,
    /// Its team.
    pub team: Label,
    /// How many services it has.
    pub services: usize,
    /// How many instances its services have.
    pub instances: usize,
    /// What a trust without services opens; `None`: all services.
    pub expose: Option<Vec<Pattern>>,
    /// Its trust list.
    pub trust: Vec<Trust>,
    /// What set the trust list.
    pub trust_source: TrustSource,
}

/// A row of `services`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRow {
    /// Its identifier.
    pub id: ServiceId,
    /// Its deployment's name.
    pub deployment: Label,
    /// Its name.
    pub service: ServiceName,
    /// Its team.
    pub team: Label,
    /// Its address.
    pub address: Ipv4Addr,
    /// For the platform's ingress.
    pub public_port: Option<u16>,
    /// Its instances.
    pub instances: Vec<InstanceRow>,
}

/// A row of `instances`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRow {
    /// Its identifier.
    pub id: InstanceId,
    /// Its deployment's name.
    pub deployment: Label,
    /// Its service's name.
    pub service: ServiceName,
    /// Its own address.
    pub address: Ipv4Addr,
    /// The name of its runner.
    pub runner: Label,
    /// Its runner. Whether that is reachable, the model doesn't know.
    pub runner_id: RunnerId,
    /// Which connections it takes.
    pub state: InstanceState,
    /// The release that it runs.
    pub release: Option<Release>,
}

/// A row of `nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerRow {
    /// Its identifier.
    pub id: RunnerId,
    /// Its name.
    pub name: Label,
    /// Its provider.
    pub provider: Label,
    /// The agent's version; empty before its first stream.
    pub version: String,
    /// The endpoints that its peers try.
    pub endpoints: Vec<SocketAddr>,
    /// Its scope, in words.
    pub scope: String,
    /// How many instances it has.
    pub instances: usize,
    /// When it enrolled first.
    pub enrolled: UnixSeconds,
    /// The token with which it enrolled last.
    pub token: TokenId,
    /// When it was removed.
    pub removed: Option<UnixSeconds>,
    /// Whether it is removed after a long silence.
    pub ephemeral: bool,
    /// The offloads that are off, by the mesh's switch or its own.
    pub off: Vec<Offload>,
    /// Whether all its instances are drained, also later ones.
    pub drained: bool,
    /// Its addresses as relays see them.
    pub reflexive: Vec<SocketAddr>,
    /// The relays at which it has an address, by name, with that address.
    pub relayed: Vec<(Label, SocketAddr)>,
    /// What is between it and the outside, as it has told.
    pub nat: Option<Nat>,
}

/// A row of `relays`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayRow {
    /// The relay.
    pub relay: Arc<Relay>,
    /// How many runners have an address there, as they have told.
    pub runners: usize,
}

/// A row of `token list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Its identifier.
    pub id: TokenId,
    /// `join`, `admin` or `relay`.
    pub kind: String,
    /// Its purpose, in words.
    pub scope: String,
    /// How many more runners or relays it can enrol; `None` for an admin token.
    pub uses_left: Option<u32>,
    /// When it was made.
    pub created: UnixSeconds,
    /// When it expires.
    pub expires: UnixSeconds,
    /// `good`, `expired`, `early` (made while the clock was ahead), `used up` or `revoked`.
    pub state: String,
    /// The runners that it enrolled, without removed ones.
    pub runners: Vec<Label>,
    /// A name for people.
    pub name: Option<String>,
    /// What its holder may do; `None` if it isn't an admin token.
    pub role: Option<Role>,
}

/// How many there are of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Deployments.
    pub deployments: usize,
    /// Services.
    pub services: usize,
    /// Tokens, by [`TokenRow::kind`] and [`TokenRow::state`].
    pub tokens: BTreeMap<(&'static str, &'static str), usize>,
}

/// [`TokenRow::state`].
fn token_state(token: &Token, now: UnixSeconds) -> &'static str {
    let spent = match token.purpose {
        Purpose::Join { uses_left, .. } => uses_left == 0,
        Purpose::Relay { used, .. } => used,
        Purpose::Admin { .. } | Purpose::Role { .. } => false,
    };
    match token.revoked {
        Some(_) => "revoked",
        None if now >= token.expires => "expired",
        None if check_time(token, now).is_err() => "early",
        None if spent => "used up",
        None => "good",
    }
}

impl State {
    /// The deployments, by name.
    #[must_use]
    pub fn deployments(&self, reader: &Admin) -> Vec<DeploymentRow> {
        self.deployments_of(reader).map(|d| self.deployment_row(d)).collect()
    }

    /// The deployment of this name, if the reader may see it.
    #[must_use]
    pub fn deployment_for(&self, reader: &Admin, name: &Label) -> Option<DeploymentRow> {
        self.seen(reader, name).map(|d| self.deployment_row(d))
    }

    fn deployment_row(&self, deployment: &Deployment) -> DeploymentRow {
        DeploymentRow {
            id: deployment.id,
            deployment: deployment.name.clone(),
            team: deployment.team.clone(),
            services: self.services_of(deployment.id).count(),
            instances: self.hosts_of(deployment.id).count(),
            expose: deployment.expose.clone(),
            trust: deployment.trust.clone(),
            trust_source: deployment.trust_source.clone(),
        }
    }

    /// The services, by deployment and name.
    #[must_use]
    pub fn services(&self, reader: &Admin) -> Vec<ServiceRow> {
        self.deployments_of(reader).flat_map(|d| self.service_rows(d)).collect()
    }

    /// The services of the deployment of this name, if the reader may see it.
    #[must_use]
    pub fn services_for(&self, reader: &Admin, deployment: &Label) -> Vec<ServiceRow> {
        self.seen(reader, deployment).map(|d| self.service_rows(d).collect()).unwrap_or_default()
    }

    fn service_rows(&self, deployment: &Deployment) -> impl Iterator<Item = ServiceRow> {
        self.services_of(deployment.id).map(move |entry| {
            let service = &entry.record;
            ServiceRow {
                id: service.id,
                deployment: deployment.name.clone(),
                service: service.name.clone(),
                team: deployment.team.clone(),
                address: service.address,
                public_port: service.declared.public_port,
                instances: self.instance_rows(deployment, service).collect(),
            }
        })
    }

    /// The instances, by deployment, service and identifier.
    #[must_use]
    pub fn instances(&self, reader: &Admin) -> Vec<InstanceRow> {
        self.deployments_of(reader)
            .flat_map(|d| self.services_of(d.id).flat_map(move |s| self.instance_rows(d, &s.record)))
            .collect()
    }

    /// The runners by name, the latest removed ones last. A team's administrator sees those that may host only the team's
    /// deployments, and those that host one of them.
    #[must_use]
    pub fn nodes(&self, reader: &Admin) -> Vec<RunnerRow> {
        let oldest = self.index.removed.iter().rev().nth(limits::REMOVED_RUNNERS - 1);
        let is_shown =
            |runner: &Runner| runner.removed.is_none_or(|at| oldest.is_none_or(|oldest| (at, runner.id) >= *oldest));
        let mut rows: Vec<RunnerRow> = self
            .runners
            .values()
            .filter(|entry| is_shown(&entry.record) && self.sees(reader, &entry.record))
            .map(|entry| self.runner_row(reader, entry))
            .collect();
        rows.sort_by(|a, b| (a.removed, &a.name, a.id).cmp(&(b.removed, &b.name, b.id)));
        rows
    }

    /// The runner of this name that is not removed, if the reader may see it.
    #[must_use]
    pub fn node_for(&self, reader: &Admin, name: &Label) -> Option<RunnerRow> {
        let entry = self.runners.get(&self.runner_named(name)?.id)?;
        self.sees(reader, &entry.record).then(|| self.runner_row(reader, entry))
    }

    fn runner_row(&self, reader: &Admin, entry: &RunnerEntry) -> RunnerRow {
        RunnerRow {
            id: entry.record.id,
            name: entry.record.name.clone(),
            provider: entry.record.provider.clone(),
            version: entry.record.version.clone(),
            endpoints: entry.shown.endpoints.clone(),
            scope: self.scope_for(reader, &entry.record.scope),
            instances: self.instances_seen(reader, entry.record.id),
            drained: entry.record.drained,
            reflexive: entry.record.outside.reflexive.clone(),
            relayed: self.relayed_by_name(&entry.record),
            nat: entry.record.outside.nat,
            enrolled: entry.record.enrolled,
            token: entry.record.token,
            removed: entry.record.removed,
            ephemeral: entry.record.ephemeral,
            off: {
                let mut switches = self.switches(entry.record.id);
                Offload::ALL.into_iter().filter(|offload| !*offload.of(&mut switches)).collect()
            },
        }
    }

    fn relayed_by_name(&self, runner: &Runner) -> Vec<(Label, SocketAddr)> {
        let named = |at: &mesh_proto::relay::Relayed| Some((self.relays.get(&at.relay)?.name.clone(), at.address));
        runner.outside.relayed.iter().filter_map(named).collect()
    }

    /// The tokens, by identifier.
    #[must_use]
    pub fn tokens(&self, reader: &Admin, now: UnixSeconds) -> Vec<TokenRow> {
        let own = |t: &&Arc<Token>| reader.team.as_ref().is_none_or(|team| self.token_within(&t.purpose, team));
        self.tokens
            .values()
            .filter(own)
            .map(|t| {
                let (kind, scope, uses_left) = match &t.purpose {
                    Purpose::Join { scope, uses_left, ephemeral } => {
                        let words = self.scope_in_words(scope);
                        let words = if *ephemeral { format!("{words}, ephemeral") } else { words };
                        ("join", words, Some(*uses_left))
                    }
                    Purpose::Admin { team: Some(team) } => ("admin", format!("team {team}"), None),
                    Purpose::Admin { team: None } => ("admin", "everything".to_owned(), None),
                    Purpose::Role { role, team: Some(team) } => ("admin", format!("{role}, team {team}"), None),
                    Purpose::Role { role, team: None } => ("admin", format!("{role}, everything"), None),
                    Purpose::Relay { name, used } => ("relay", format!("relay {name}"), Some(u32::from(!*used))),
                };
                let state = token_state(t, now);
                TokenRow {
                    id: t.id,
                    kind: kind.to_owned(),
                    scope,
                    uses_left,
                    created: t.created,
                    expires: t.expires,
                    state: state.to_owned(),
                    runners: self.enrolled_by(t.id).map(|r| r.name.clone()).collect(),
                    name: t.name.clone(),
                    role: match t.purpose {
                        Purpose::Admin { .. } => Some(Role::Admin),
                        Purpose::Role { role, .. } => Some(role),
                        Purpose::Join { .. } | Purpose::Relay { .. } => None,
                    },
                }
            })
            .collect()
    }

    /// How many there are of what no administrator is limited to.
    #[must_use]
    pub fn counts(&self, now: UnixSeconds) -> Counts {
        let mut counts =
            Counts { deployments: self.deployments.len(), services: self.services.len(), tokens: BTreeMap::new() };
        for token in self.tokens.values() {
            let kind = match token.purpose {
                Purpose::Join { .. } => "join",
                Purpose::Admin { .. } | Purpose::Role { .. } => "admin",
                Purpose::Relay { .. } => "relay",
            };
            *counts.tokens.entry((kind, token_state(token, now))).or_default() += 1;
        }
        counts
    }

    /// Whether a team's administrator sees the runner: it may host only the team's deployments, or it hosts one of
    /// them.
    #[must_use]
    pub fn sees(&self, reader: &Admin, runner: &Runner) -> bool {
        let Some(team) = &reader.team else { return true };
        let team = Scope::Teams([team.clone()].into());
        self.scope_covers(&team, &runner.scope) || self.instances_on(runner.id).any(|i| self.may_run(&team, i))
    }

    /// The scope in words that reveal nothing about other teams.
    fn scope_for(&self, reader: &Admin, scope: &Scope) -> String {
        let Some(team) = &reader.team else { return self.scope_in_words(scope) };
        match scope {
            Scope::Teams(teams) if teams.contains(team) && teams.len() > 1 => format!("team {team}, among others"),
            Scope::Deployments(ids) => {
                let own = |id: &DeploymentId| self.deployments.get(id).is_some_and(|e| e.record.team == *team);
                let shown: BTreeSet<DeploymentId> = ids.iter().filter(|id| own(id)).copied().collect();
                let others = shown.len() < ids.len();
                let words = self.scope_in_words(&Scope::Deployments(shown));
                if others { format!("{words}, among others") } else { words }
            }
            Scope::Teams(teams) if !teams.contains(team) => "other teams".to_owned(),
            Scope::Any | Scope::Teams(_) => self.scope_in_words(scope),
        }
    }

    /// How many instances of a runner the reader sees.
    fn instances_seen(&self, reader: &Admin, runner: RunnerId) -> usize {
        match &reader.team {
            None => self.number_on(runner),
            Some(team) => {
                let team = Scope::Teams([team.clone()].into());
                self.instances_on(runner).filter(|i| self.may_run(&team, i)).count()
            }
        }
    }

    fn seen(&self, reader: &Admin, deployment: &Label) -> Option<&Arc<Deployment>> {
        self.deployment_named(deployment).filter(|d| reader.rules(&d.team))
    }

    fn deployments_of(&self, reader: &Admin) -> impl Iterator<Item = &Arc<Deployment>> {
        let all = self.index.deployment_names.values().filter_map(|id| self.deployments.get(id)).map(|e| &e.record);
        all.filter(|d| reader.rules(&d.team))
    }

    fn instance_rows(&self, deployment: &Deployment, service: &Service) -> impl Iterator<Item = InstanceRow> {
        self.instances_of(service.id).filter_map(|i| {
            Some(InstanceRow {
                id: i.id,
                deployment: deployment.name.clone(),
                service: service.name.clone(),
                address: i.address,
                runner: self.runner(i.runner)?.name.clone(),
                runner_id: i.runner,
                state: i.state,
                release: i.release.clone(),
            })
        })
    }
}

#[cfg(test)]
mod tests;
