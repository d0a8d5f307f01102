//! Waiting until a change is in force.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mesh_proto::{Label, Revision, RunnerId};
use tokio::time::{Instant, timeout_at};

use crate::coordinator::{Coordinator, Core, Failure};

/// How long [`settle`] waits at most.
const SETTLE: Duration = Duration::from_secs(2);

/// Waits until what changed up to `revision` is in force at the runners that `asker` knows of and that are connected, for
/// two seconds at most; returns those where it isn't yet.
pub(crate) async fn settle(
    coordinator: &Coordinator,
    asker: RunnerId,
    revision: Revision,
) -> Result<Vec<Label>, Failure> {
    let deadline = Instant::now() + SETTLE;
    let begin = move |core: &mut Core| {
        let known = core.look(asker).iter().flat_map(|view| view.runners().map(|runner| runner.id)).collect();
        (Arc::new(known), core.sessions.progress.subscribe())
    };
    let (known, mut progress) = coordinator.visit(begin).await?;
    loop {
        let known = Arc::clone(&known);
        let pending = coordinator.visit(move |core| names(core, &core.sessions.unsettled(&known, revision))).await?;
        if pending.is_empty() || !matches!(timeout_at(deadline, progress.changed()).await, Ok(Ok(()))) {
            return Ok(pending);
        }
    }
}

/// Waits until what changed up to `revision` is in force at all of these runners, until `deadline` at most; returns those
/// where it isn't yet. Who was removed meanwhile has nothing in force.
pub(crate) async fn await_applied(
    coordinator: &Coordinator,
    runners: BTreeSet<RunnerId>,
    revision: Revision,
    deadline: Instant,
) -> Result<Vec<Label>, Failure> {
    let mut progress = coordinator.visit(|core| core.sessions.progress.subscribe()).await?;
    let runners = Arc::new(runners);
    loop {
        let concerned = Arc::clone(&runners);
        let look = move |core: &mut Core| {
            let standing = concerned.iter().copied().filter(|runner| core.state.stands(*runner)).collect();
            names(core, &core.sessions.pending(&standing, revision))
        };
        let pending = coordinator.visit(look).await?;
        if pending.is_empty() || !matches!(timeout_at(deadline, progress.changed()).await, Ok(Ok(()))) {
            return Ok(pending);
        }
    }
}

fn names(core: &Core, runners: &[RunnerId]) -> Vec<Label> {
    runners.iter().filter_map(|id| core.state.runner(*id)).map(|runner| runner.name.clone()).collect()
}
