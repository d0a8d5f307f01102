//! Single objects, and what is said about one to change it.

use std::collections::{BTreeMap, BTreeSet};

use mesh_model::{
    Admin, Role, Via,
    declare::{self, Declaration, Declared, Expect, File, Pattern},
};
use mesh_proto::{Label, Ports, ServiceName, TokenId, view::Ist};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Deployment, Service, TrustEntry, VERSION};
use crate::coordinator::Core;

/// Who asks, and what it may do.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Me {
    pub(crate) version: u32,
    pub(crate) role: Role,
    /// The team that the token is limited to; null: the whole mesh.
    pub(crate) team: Option<Label>,
    /// The token; null at the socket.
    pub(crate) token: Option<TokenId>,
    /// The token's name.
    pub(crate) name: Option<String>,
    /// The coordinator's version.
    pub(crate) coordinator: String,
}

impl Me {
    pub(crate) fn of(core: &Core, by: Admin) -> Self {
        let token = match by.via {
            Via::Token(id) => Some(id),
            Via::Socket { .. } => None,
        };
        Self {
            version: VERSION,
            role: by.role,
            team: by.team,
            token,
            name: token.and_then(|id| core.state.token_name(id)).map(str::to_owned),
            coordinator: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// A deployment with what belongs to it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeploymentPage {
    pub(crate) version: u32,
    pub(crate) deployment: Deployment,
    pub(crate) services: Vec<Service>,
    pub(crate) trust: Vec<TrustEntry>,
}

/// All trust lists.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct TrustAll {
    pub(crate) version: u32,
    pub(crate) trust: Vec<TrustOf>,
}

/// An entry of a deployment's trust list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct TrustOf {
    /// The called deployment.
    pub(crate) deployment: Label,
    #[serde(flatten)]
    pub(crate) entry: TrustEntry,
    /// The file that sets the list; null: the `trust` command.
    pub(crate) file: Option<String>,
}

impl TrustAll {
    pub(crate) fn of(core: &Core, reader: &Admin) -> Self {
        let rows = core.state.deployments(reader).into_iter().flat_map(|row| {
            let (deployment, file) = (row.deployment, super::fill::file_of(row.trust_source));
            let of = move |entry: declare::Trust| TrustOf {
                deployment: deployment.clone(),
                entry: entry.into(),
                file: file.clone(),
            };
            row.trust.into_iter().map(of)
        });
        Self { version: VERSION, trust: rows.collect() }
    }
}

/// How a request that may change something is carried out.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WriteQuery {
    /// Only try it: the answer says what it would change and take away.
    pub(crate) dry_run: bool,
}

/// The same for what ends instances.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ForceQuery {
    /// Only try it: the answer says what it would change and take away.
    pub(crate) dry_run: bool,
    /// Also where instances end.
    pub(crate) force: bool,
}

/// The same for a declaration.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WithPrune {
    /// Only try it: the answer says what it would change and take away.
    pub(crate) dry_run: bool,
    /// Also where instances end.
    pub(crate) force: bool,
    /// Also where services are removed that are no longer declared.
    pub(crate) prune: bool,
}

/// The same for a token.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RevokeQuery {
    /// Only try it: the answer says what it would change and take away.
    pub(crate) dry_run: bool,
    /// Also remove the runners that it enrolled.
    pub(crate) with_nodes: bool,
}

/// A deployment as it is to be: what a `mesh.toml` holds.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDeployment {
    /// Its team; null: unchanged, or `default` if it is new.
    #[serde(default)]
    team: Option<Label>,
    /// What a trust without services opens; null: all services.
    #[serde(default)]
    expose: Option<Vec<Pattern>>,
    /// Its trust list; null: it is changed with `POST /trust/{deployment}`.
    #[serde(default)]
    trust: Option<Vec<NewTrust>>,
    /// All its services.
    services: BTreeMap<ServiceName, NewService>,
    /// What has to hold afterwards; else nothing changes.
    #[serde(default)]
    expect: Vec<Expect>,
    /// The name of the file that this comes from, for messages.
    #[serde(default)]
    file: Option<String>,
}

/// An entry of a trust list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTrust {
    caller: Label,
    /// The services; empty: those that the deployment exposes.
    #[serde(default)]
    services: Vec<Pattern>,
    /// The ports; empty: all.
    #[serde(default)]
    ports: BTreeSet<u16>,
}

/// A service.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NewService {
    /// More host names within the deployment.
    aliases: Vec<String>,
    /// The value of `PORT` in its instances.
    port: Option<u16>,
    /// For the platform's ingress.
    public_port: Option<u16>,
    /// Whether it has no names but those of `ist` and `aliases`.
    manual_names: bool,
    /// Names that its instances see.
    ist: Vec<Ist>,
}

impl NewDeployment {
    /// As a file of this deployment, with what it expects.
    pub(crate) fn into_file(self, name: Label) -> (File, Vec<Expect>) {
        let trust = |NewTrust { caller, services, ports }| declare::Trust {
            caller,
            services: Some(services).filter(|services| !services.is_empty()),
            ports: if ports.is_empty() { Ports::All } else { Ports::Only(ports) },
        };
        let service = |NewService { aliases, port, public_port, manual_names, ist }| Declared {
            aliases,
            port,
            public_port,
            manual_names,
            ist,
        };
        let deployment = declare::Deployment {
            name,
            team: self.team,
            expose: self.expose,
            trust: self.trust.map(|list| list.into_iter().map(trust).collect()),
            services: self.services.into_iter().map(|(name, new)| (name, service(new))).collect(),
        };
        let name = self.file.unwrap_or_else(|| "the request".to_owned());
        (File { name, declaration: Declaration::Whole(deployment) }, self.expect)
    }
}
