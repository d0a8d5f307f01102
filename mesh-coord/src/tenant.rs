//! Tenants: shared resources are divided among teams first, and then within each team.

use std::{collections::BTreeSet, sync::Arc};

use mesh_model::{
    State,
    record::{Purpose, Runner, Scope, Token},
};
use mesh_proto::{RelayId, RunnerId, TokenId};

/// A runner, a token or a relay, with its team.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tenant {
    /// The names of its teams; empty if it belongs to the whole mesh.
    pub(crate) team: Arc<str>,
    pub(crate) who: Who,
}

/// The member of a team.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    Runner(RunnerId),
    Token(TokenId),
    Relay(RelayId),
}

impl Tenant {
    pub(crate) fn runner(state: &State, runner: &Runner) -> Self {
        Self { team: team(state, &runner.scope), who: Who::Runner(runner.id) }
    }

    /// A relay is the whole mesh's.
    pub(crate) fn relay(relay: RelayId) -> Self {
        Self { team: "".into(), who: Who::Relay(relay) }
    }

    pub(crate) fn token(state: &State, token: &Token) -> Self {
        let team = match &token.purpose {
            Purpose::Join { scope, .. } => team(state, scope),
            Purpose::Admin { team } | Purpose::Role { team, .. } => team.as_deref().unwrap_or_default().into(),
            Purpose::Relay { .. } => "".into(),
        };
        Self { team, who: Who::Token(token.id) }
    }
}

/// The teams that a scope counts for.
fn team(state: &State, scope: &Scope) -> Arc<str> {
    let teams: BTreeSet<&str> = match scope {
        Scope::Any => BTreeSet::new(),
        Scope::Teams(teams) => teams.iter().map(|team| &**team).collect(),
        Scope::Deployments(ids) => ids.iter().filter_map(|id| state.team_of(*id)).collect(),
    };
    teams.into_iter().collect::<Vec<_>>().join(",").into()
}
