//! Whether a connection is allowed, and why.

use mesh_model::{Admin, Refusal};
use mesh_proto::{Label, ServicePath, message::Step};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::VERSION;
use crate::coordinator::Core;

/// What is asked.
#[derive(Debug, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhyQuery {
    /// The service that opens the connection.
    pub(crate) from: ServicePath,
    /// The service that accepts it.
    pub(crate) to: ServicePath,
    /// The TCP port.
    pub(crate) port: u16,
}

/// `why`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Why {
    pub(crate) version: u32,
    pub(crate) verdict: Answered,
    pub(crate) steps: Vec<Step>,
}

/// Whether a SYN would be answered, as far as the coordinator knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answered {
    Allow,
    Deny,
}

/// What came of a connection that was tried.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Probed {
    /// The runner that has tried it.
    pub(crate) node: Label,
    #[serde(flatten)]
    pub(crate) why: Why,
}

impl Why {
    pub(crate) const fn new(verdict: Answered, steps: Vec<Step>) -> Self {
        Self { version: VERSION, verdict, steps }
    }

    /// # Errors
    /// If the reader may see no such service.
    pub(crate) fn of(core: &Core, reader: &Admin, query: &WhyQuery) -> Result<Self, Refusal> {
        let why = core.state.why_for(reader, &query.from, &query.to, query.port)?;
        let verdict = if why.allowed { Answered::Allow } else { Answered::Deny };
        Ok(Self::new(verdict, why.steps))
    }
}
