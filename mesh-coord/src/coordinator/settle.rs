//! Waiting until runners have confirmed a change, at whichever coordinator they are.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use mesh_proto::{Label, Revision, RunnerId};
use mesh_several::settle;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::{Coordinator, Core, Failure};
use crate::peers::{Runners, Settled};

/// How long coordinators wait before they tell who has confirmed.
const ROUND: Duration = Duration::from_secs(1);
/// How much longer the answer may take.
const ON_THE_WAY: Duration = Duration::from_millis(500);
/// The pause before they are asked again.
const PAUSE: Duration = Duration::from_millis(100);

impl Coordinator {
    /// Waits, for at most `patience`, until all runners affected by `deployment` have confirmed what changed up to
    /// `revision`. Returns those that haven't.
    ///
    /// # Errors
    /// If the coordinator is ending.
    pub(crate) async fn wait_for_deployment(
        &self,
        deployment: Label,
        revision: Revision,
        patience: Duration,
    ) -> Result<Vec<Label>, Failure> {
        if !self.peers.is_shared() {
            let (answer, answered) = oneshot::channel();
            self.visit(move |core| core.wait_for_deployment(&deployment, revision, patience, answer)).await?;
            return answered.await.map_err(|_| Failure::Ending);
        }
        let deadline = Instant::now() + patience;
        let affected = self.visit(move |core| core.sessions.affected(&core.state, &deployment)).await?;
        self.wait_anywhere(affected, revision, deadline, |_, _| true).await
    }

    /// The same for the connected runners that `asker` knows.
    ///
    /// # Errors
    /// If the coordinator is ending.
    pub(crate) async fn wait_for_peers(
        &self,
        asker: RunnerId,
        revision: Revision,
        patience: Duration,
    ) -> Result<Vec<Label>, Failure> {
        if !self.peers.is_shared() {
            let (answer, answered) = oneshot::channel();
            self.visit(move |core| core.wait_for_peers(asker, revision, patience, answer)).await?;
            return answered.await.map_err(|_| Failure::Ending);
        }
        let deadline = Instant::now() + patience;
        let peers = self.visit(move |core| core.sessions.peers_of(&core.state, asker)).await?;
        self.wait_anywhere(peers, revision, deadline, |core, runner| core.sessions.is_connected(runner)).await
    }

    /// Waits until these runners have confirmed, as long as they count. What was confirmed once stays so.
    async fn wait_anywhere(
        &self,
        mut pending: BTreeSet<RunnerId>,
        revision: Revision,
        deadline: Instant,
        counts: fn(&Core, RunnerId) -> bool,
    ) -> Result<Vec<Label>, Failure> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let confirmed = self.confirmed_anywhere(&pending, revision, left.min(ROUND)).await?;
            pending = self
                .visit(move |core| {
                    let left = pending.difference(&confirmed).copied();
                    left.filter(|runner| core.state.is_active(*runner) && counts(core, *runner)).collect()
                })
                .await?;
            if pending.is_empty() || left.is_zero() {
                return self.visit(move |core| core.names(pending)).await;
            }
            sleep(PAUSE.min(left)).await;
        }
    }

    /// Those of the runners that have confirmed, by the coordinators that have their streams.
    async fn confirmed_anywhere(
        &self,
        runners: &BTreeSet<RunnerId>,
        revision: Revision,
        patience: Duration,
    ) -> Result<BTreeSet<RunnerId>, Failure> {
        let wanted = runners.clone();
        let (epoch, at) =
            self.visit(move |core| (core.sessions.epoch(), settle::elsewhere(&core.sessions, &wanted))).await?;
        let milliseconds = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let asked = at.into_iter().map(async |(member, runners)| {
            let what = Settled { epoch, revision, runners: runners.clone(), milliseconds };
            let answer = self.peers.ask::<Runners>(member, "settled", what, patience + ON_THE_WAY).await;
            answer.map(|answer| (runners, answer.runners))
        });
        let (here, elsewhere) = tokio::join!(self.confirmed_here(runners.clone(), revision, patience), join_all(asked));
        Ok(settle::confirmed(here?, elsewhere.into_iter().flatten()))
    }

    /// Those of the runners that are connected here and have confirmed, once all of them have, or after `patience`.
    ///
    /// # Errors
    /// If the coordinator is ending.
    pub(crate) async fn confirmed_here(
        &self,
        runners: BTreeSet<RunnerId>,
        revision: Revision,
        patience: Duration,
    ) -> Result<BTreeSet<RunnerId>, Failure> {
        let (answer, answered) = oneshot::channel();
        let wanted = runners.clone();
        self.visit(move |core| core.wait_for_connected(wanted, revision, patience, answer)).await?;
        // Either way, what is confirmed then counts.
        let _ = timeout(patience + PAUSE, answered).await;
        self.visit(move |core| core.sessions.confirmed_among(&runners, revision)).await
    }
}
