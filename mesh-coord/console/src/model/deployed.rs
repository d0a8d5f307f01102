//! Deployments, their services and instances, and who may call them.

use serde::Deserialize;

/// `GET services`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Services {
    /// The services.
    pub services: Vec<Service>,
}

/// A service.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Service {
    /// Its deployment.
    pub deployment: String,
    /// Its name.
    pub service: String,
    /// Its team.
    pub team: String,
    /// Its address.
    pub address: String,
    /// Its instances.
    pub instances: Vec<ServiceInstance>,
}

impl Service {
    /// `DEPLOYMENT/SERVICE`.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.deployment, self.service)
    }
}

/// An instance of a service.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ServiceInstance {
    /// Its identifier.
    pub id: String,
    /// Its runner.
    pub runner: String,
    /// `live`, `draining`, `client` or `unreachable`.
    pub state: String,
    /// The release that it runs.
    #[serde(default)]
    pub release: Option<String>,
}

/// `GET deployments`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Deployments {
    /// The deployments.
    pub deployments: Vec<Deployment>,
}

/// A deployment.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Deployment {
    /// Its name.
    pub deployment: String,
    /// Its team.
    pub team: String,
    /// The number of its services.
    #[serde(default)]
    pub services: usize,
    /// The number of their instances.
    #[serde(default)]
    pub instances: usize,
    /// What a trust without services opens; `None`: all services.
    #[serde(default)]
    pub expose: Option<Vec<String>>,
    /// The deployments that may call it.
    pub trusts: Vec<String>,
    /// The file that sets its trust list; `None`: the `trust` command.
    #[serde(default)]
    pub trust_file: Option<String>,
}

/// `GET trust/DEPLOYMENT`, without the sentences.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Trust {
    /// The list.
    pub trust: Vec<TrustEntry>,
    /// The runners concerned that don't apply all of it yet.
    pub pending: Vec<String>,
    /// How many runners it concerns; an earlier coordinator doesn't tell.
    #[serde(default)]
    pub concerned: Option<usize>,
}

/// An entry of a trust list.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TrustEntry {
    /// Who may call.
    pub caller: String,
    /// The services; empty: those that the deployment exposes.
    pub services: Vec<String>,
    /// The ports; empty: all.
    pub ports: Vec<u16>,
}

/// `GET instances`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Instances {
    /// The instances.
    pub instances: Vec<Instance>,
}

/// An instance.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Instance {
    /// Its identifier.
    pub id: String,
    /// Its service, as `DEPLOYMENT/SERVICE`.
    pub service: String,
    /// Its address.
    pub address: String,
    /// Its runner.
    pub runner: String,
    /// `live`, `draining`, `client` or `unreachable`.
    pub state: String,
}
