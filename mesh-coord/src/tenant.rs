//! On whose account something is done: what all share is divided among teams first, then within a team.

use std::{collections::BTreeSet, sync::Arc};

use mesh_model::{
    State,
    record::{Purpose, Runner, Scope, Token},
};
use mesh_proto::{RunnerId, TokenId};

/// A runner or the holder of a token, with its team.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tenant {
    /// The names of the teams that it acts for; empty for what belongs to the whole mesh.
    pub(crate) team: Arc<str>,
    pub(crate) who: Who,
}

/// Which of a team's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    Runner(RunnerId),
    Token(TokenId),
}

impl Tenant {
    pub(crate) fn runner(state: &State, runner: &Runner) -> Self {
        Self { team: team(state, &runner.scope), who: Who::Runner(runner.id) }
    }

    pub(crate) fn token(state: &State, token: &Token) -> Self {
        let team = match &token.purpose {
            Purpose::Join { scope, .. } => team(state, scope),
            Purpose::Admin { team } => team.as_deref().unwrap_or_default().into(),
        };
        Self { team, who: Who::Token(token.id) }
    }
}

/// The teams that a scope stands for.
fn team(state: &State, scope: &Scope) -> Arc<str> {
    let teams: BTreeSet<&str> = match scope {
        Scope::Any => BTreeSet::new(),
        Scope::Teams(teams) => teams.iter().map(|team| &**team).collect(),
        Scope::Deployments(ids) => ids.iter().filter_map(|id| state.team_of(*id)).collect(),
    };
    teams.into_iter().collect::<Vec<_>>().join(",").into()
}
