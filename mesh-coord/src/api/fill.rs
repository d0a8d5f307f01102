//! Fills the shapes from the coordinator's state, within what the reader may see.

use mesh_model::{
    Admin, AuditQuery, Outcome, UnixSeconds,
    declare::Trust as Entry,
    record::{self, RelayKind, SecretHandle, TrustSource},
    tables::{DeploymentRow, InstanceRow, RelayRow, RunnerRow, ServiceRow},
};
use mesh_proto::{Label, Ports, RunnerId, ServicePath, view::InstanceState};

use super::{
    Audit, AuditEntry, Deployment, Deployments, Instance, Instances, Lacking, Node, NodeState, Nodes, Previewed,
    Reachable, Relay, RelayState, RelayWord, RelayedAt, Relays, Service, ServiceInstance, Services, Token, Tokens,
    Trust, TrustEntry, TrustPage, VERSION,
};
use crate::coordinator::{Core, Done, Failure};

impl From<Done> for Previewed {
    fn from(Done { outcome, revision }: Done) -> Self {
        Self { revision, outcome, effect: None }
    }
}

impl Nodes {
    pub(crate) fn of(core: &Core, reader: &Admin, now: UnixSeconds) -> Self {
        let nodes = core.state.nodes(reader).into_iter().map(|row| node(core, row, now)).collect();
        Self { version: VERSION, nodes, next: None, lacking: Lacking::all(&core.elsewhere.lacking) }
    }
}

impl Node {
    /// The runner of this name that is not removed.
    pub(crate) fn named(core: &Core, reader: &Admin, name: &Label, now: UnixSeconds) -> Option<Self> {
        core.state.node_for(reader, name).map(|row| node(core, row, now))
    }
}

impl NodeState {
    pub(super) fn of(core: &Core, id: RunnerId, is_removed: bool) -> Self {
        match () {
            () if is_removed => Self::Removed,
            () if core.sessions.is_connected(id) => Self::Online,
            () => Self::Silent,
        }
    }
}

fn node(core: &Core, row: RunnerRow, now: UnixSeconds) -> Node {
    let state = NodeState::of(core, row.id, row.removed.is_some());
    Node {
        id: row.id,
        name: row.name,
        provider: row.provider,
        state,
        endpoints: row.endpoints,
        revision: core.confirmed(row.id),
        last_seen_seconds: core.last_heard(row.id, now),
        scope: row.scope,
        instances: row.instances,
        agent: row.version,
        ephemeral: row.ephemeral,
        off: row.off,
        drained: row.drained,
        reflexive: row.reflexive,
        relayed: row.relayed.into_iter().map(|(relay, address)| RelayedAt { relay, address }).collect(),
        nat: row.nat,
    }
}

impl Relays {
    /// The relays; `has` says whether a secret is there.
    ///
    /// # Errors
    /// If the administrator is limited to a team.
    pub(crate) fn of(core: &Core, reader: &Admin, has: impl Fn(SecretHandle) -> bool) -> Result<Self, Failure> {
        let entry = |RelayRow { relay, runners }: RelayRow| {
            let (kind, agent) = match &relay.relay {
                RelayKind::Own { version, .. } => (RelayWord::Own, Some(version.clone())),
                RelayKind::Turn => (RelayWord::Turn, None),
            };
            let state = match kind {
                _ if !has(relay.secret) => RelayState::NoSecret,
                RelayWord::Turn => RelayState::Added,
                RelayWord::Own if core.has_relay(relay.id) => RelayState::Online,
                RelayWord::Own => RelayState::Silent,
            };
            Relay {
                id: relay.id,
                name: relay.name.clone(),
                kind,
                state,
                udp: relay.public.udp.clone(),
                tcp: relay.public.tcp.clone(),
                tls: relay.public.tls.clone(),
                fingerprint: relay.public.fingerprint,
                nodes: runners,
                agent,
            }
        };
        let rows = core.state.relay_rows(reader)?;
        let relays = rows.into_iter().map(entry).collect();
        Ok(Self { version: VERSION, relays, lacking: Lacking::all(&core.elsewhere.lacking) })
    }
}

impl Deployments {
    pub(crate) fn of(core: &Core, reader: &Admin, _: UnixSeconds) -> Self {
        let deployments = core.state.deployments(reader).into_iter().map(Deployment::from).collect();
        Self { version: VERSION, deployments, next: None }
    }
}

impl Deployment {
    /// The deployment of this name.
    pub(crate) fn named(core: &Core, reader: &Admin, name: &Label) -> Option<Self> {
        core.state.deployment_for(reader, name).map(Self::from)
    }
}

impl From<DeploymentRow> for Deployment {
    fn from(row: DeploymentRow) -> Self {
        let mut trusts: Vec<Label> = row.trust.into_iter().map(|entry| entry.caller).collect();
        trusts.dedup();
        Self {
            id: row.id,
            deployment: row.deployment,
            team: row.team,
            services: row.services,
            instances: row.instances,
            expose: row.expose.map(|patterns| patterns.iter().map(ToString::to_string).collect()),
            trusts,
            trust_file: file_of(row.trust_source),
        }
    }
}

/// The file that sets a trust list.
pub(super) fn file_of(source: TrustSource) -> Option<String> {
    match source {
        TrustSource::Command => None,
        TrustSource::File(name) => Some(name),
    }
}

impl Services {
    pub(crate) fn of(core: &Core, reader: &Admin, _: UnixSeconds) -> Self {
        let services = core.state.services(reader).into_iter().map(|row| service(core, row)).collect();
        Self { version: VERSION, services, next: None }
    }
}

impl Service {
    /// The services of the deployment of this name.
    pub(crate) fn all_in(core: &Core, reader: &Admin, deployment: &Label) -> Vec<Self> {
        core.state.services_for(reader, deployment).into_iter().map(|row| service(core, row)).collect()
    }
}

fn service(core: &Core, row: ServiceRow) -> Service {
    let instance = |row: InstanceRow| ServiceInstance {
        id: row.id,
        address: row.address,
        state: reachable(core, &row),
        runner: row.runner,
        release: row.release,
    };
    Service {
        deployment: row.deployment,
        service: row.service,
        team: row.team,
        address: row.address,
        public_port: row.public_port,
        instances: row.instances.into_iter().map(instance).collect(),
    }
}

impl Instances {
    pub(crate) fn of(core: &Core, reader: &Admin, _: UnixSeconds) -> Self {
        let instances = core.state.instances(reader).into_iter().map(|row| Instance {
            id: row.id,
            address: row.address,
            state: reachable(core, &row),
            runner: row.runner,
            release: row.release,
            service: ServicePath { deployment: row.deployment, service: row.service },
        });
        Self { version: VERSION, instances: instances.collect(), next: None }
    }
}

fn reachable(core: &Core, row: &InstanceRow) -> Reachable {
    match row.state {
        _ if !core.sessions.is_connected(row.runner_id) => Reachable::Unreachable,
        InstanceState::Live => Reachable::Live,
        InstanceState::Draining => Reachable::Draining,
        InstanceState::Client => Reachable::Client,
    }
}

impl Tokens {
    pub(crate) fn of(core: &Core, reader: &Admin, now: UnixSeconds) -> Self {
        let tokens = core.state.tokens(reader, now).into_iter().map(|row| Token {
            id: row.id,
            kind: row.kind,
            scope: row.scope,
            state: row.state,
            uses_left: row.uses_left,
            expires_seconds: row.expires.since(now),
            nodes: row.runners,
            name: row.name,
            role: row.role,
        });
        Self { version: VERSION, tokens: tokens.collect(), next: None }
    }
}

impl Audit {
    /// A page of at most `most` entries.
    pub(crate) fn of(core: &Core, reader: &Admin, query: AuditQuery, most: usize) -> Self {
        let limit = query.limit.unwrap_or(most).clamp(1, most);
        // One more shows whether there is another page.
        let mut found = core.state.audit_of(reader, &AuditQuery { limit: Some(limit + 1), ..query });
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| last.number);
        Self { version: VERSION, audit: found.into_iter().map(AuditEntry::from).collect(), next, filtered: true }
    }
}

impl From<record::Audit> for AuditEntry {
    fn from(entry: record::Audit) -> Self {
        Self {
            number: entry.number,
            at: entry.at,
            by: entry.by.to_string(),
            action: entry.action,
            detail: entry.detail,
            result: entry.result,
            by_name: entry.by_name,
            team: entry.team,
            object: entry.object,
        }
    }
}

impl TrustPage {
    /// The trust list, without pending runners.
    ///
    /// # Errors
    /// If the reader sees no such deployment.
    pub(crate) fn of(core: &Core, reader: &Admin, deployment: &Label) -> Result<Self, Failure> {
        let (deployment, trust, directions, warnings) = match core.state.trust_list(reader, deployment)? {
            Outcome::Trusted { deployment, trust, directions, warnings } => (deployment, trust, directions, warnings),
            other => return Err(Failure::unexpected(&other)),
        };
        let trust = trust.into_iter().map(TrustEntry::from).collect();
        let concerned = Some(core.sessions.affected(&core.state, &deployment).len());
        let listing = Trust { version: VERSION, deployment, trust, pending: Vec::new(), concerned };
        Ok(Self { listing, directions, warnings })
    }
}

impl From<Entry> for TrustEntry {
    fn from(entry: Entry) -> Self {
        Self {
            caller: entry.caller,
            services: entry.services.unwrap_or_default().iter().map(ToString::to_string).collect(),
            ports: match entry.ports {
                Ports::All => Vec::new(),
                Ports::Only(ports) => ports.into_iter().collect(),
            },
        }
    }
}
