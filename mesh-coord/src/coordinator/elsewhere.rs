//! What other coordinators know beside the records, for answers that are about the whole mesh.

use std::{collections::HashMap, sync::Arc, time::Instant};

use mesh_model::{UnixSeconds, record::MemberId};
use mesh_proto::{RelayId, Revision, RunnerId};

use super::{Coordinator, Core, Failure};
use crate::{
    peers::{AskStanding, Elsewhere, Heard, Lacking, Standing, Told},
    telemetry::{All, AskReports, Reports},
};

impl Coordinator {
    /// Asks the others how runners and relays stand with them, as far as that isn't known. What is shown next says it.
    ///
    /// # Errors
    /// If the coordinator is ending.
    pub(crate) async fn look_elsewhere(&self) -> Result<(), Failure> {
        if !self.peers.is_shared() {
            return Ok(());
        }
        let told = self.peers.standings.ask(&self.peers, "standing", AskStanding {}).await;
        let elsewhere = Elsewhere::new(told);
        self.visit(move |core| core.elsewhere = Arc::new(elsewhere)).await
    }

    /// What all runners have reported, at whichever coordinator, with at most so many refusals of this one's. Those
    /// coordinators are told of which the latest isn't known. `None`: runners don't report.
    pub(crate) async fn reports(&self, refusals: usize, watch: bool) -> Option<(All, Vec<Lacking>)> {
        if watch {
            self.telemetry.watch(tokio::time::Instant::now().into_std());
        }
        let mut all = All::of(&*self.telemetry.book()?, refusals);
        let told = self.reports_elsewhere(watch).await;
        for (_, at, reports) in told.answers {
            all.add(&reports, at.into_std());
        }
        Some((all, told.lacking))
    }

    /// When each runner has last reported, to whichever coordinator, while an operator watches.
    pub(crate) async fn reported(&self) -> HashMap<RunnerId, Instant> {
        self.telemetry.watch(tokio::time::Instant::now().into_std());
        let Some(mut heard) = self.telemetry.book().map(|book| book.heard()) else { return HashMap::new() };
        for (_, at, reports) in self.reports_elsewhere(true).await.answers {
            reports.add_heard(&mut heard, at.into_std());
        }
        heard
    }

    async fn reports_elsewhere(&self, watch: bool) -> Told<Reports> {
        self.peers.reports.ask(&self.peers, "reports", AskReports { watch }).await
    }
}

impl Core {
    /// What this coordinator tells others of its runners and relays. `behind`: the runners that are.
    pub(crate) fn stands(&self, now: UnixSeconds, behind: Vec<RunnerId>) -> Standing {
        let heard = |(runner, seen): (RunnerId, u64)| Heard {
            runner,
            revision: self.sessions.confirmed(runner),
            seconds: now.since(UnixSeconds(seen)),
        };
        let runners = self.links.all_heard().map(heard).collect();
        Standing { runners, behind: behind.into_iter().collect(), relays: self.relays.connected().collect() }
    }

    /// The revision that a runner has confirmed where it is connected.
    pub(crate) fn confirmed(&self, runner: RunnerId) -> Option<Revision> {
        let there: Option<MemberId> = self.sessions.elsewhere(runner).map(|session| session.stream.member);
        let elsewhere = || self.elsewhere.confirmed(runner, there?);
        self.sessions.confirmed(runner).or_else(elsewhere)
    }

    /// Whether an own relay has a stream, to any coordinator.
    pub(crate) fn has_relay(&self, relay: RelayId) -> bool {
        self.relays.is_connected(relay) || self.elsewhere.has_relay(relay)
    }

    /// How many seconds ago a runner was last heard, by any coordinator since its start.
    pub(crate) fn last_heard(&self, runner: RunnerId, now: UnixSeconds) -> Option<u64> {
        let here = self.links.last_heard(runner).map(|seen| now.since(UnixSeconds(seen)));
        here.into_iter().chain(self.elsewhere.heard(runner)).min()
    }
}
