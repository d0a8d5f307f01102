//! What one follower is told next.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use mesh_model::Admin;
use mesh_proto::{Label, Revision, RunnerId};
use tokio::time::Instant;

use crate::{
    api::{Applied, Happened, Kind, Reports},
    coordinator::{Coordinator, Core, Since},
};

/// How often a follower is looked after while nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The same while changed trust isn't in force everywhere.
const UNSETTLED: Duration = Duration::from_secs(1);
/// Reports of a runner are further apart, also as another coordinator tells of them.
const ONE_REPORT: Duration = Duration::from_secs(1);
/// The most deployments whose trust is waited for; the follower is told nothing of others.
const MOST_UNSETTLED: usize = 64;

/// How far a follower has been told, and of what.
pub(super) struct News {
    coordinator: Coordinator,
    by: Admin,
    kinds: BTreeSet<Kind>,
    /// The commits that it was told of; `None`: none yet.
    at: Option<Revision>,
    /// The streams of runners that it was told of.
    moves: u64,
    reports: LatestReports,
    /// The deployments whose changed trust isn't in force everywhere, with the commits of the changes.
    unsettled: BTreeMap<Label, Revision>,
}

/// The reports that it was told of.
pub(super) struct LatestReports {
    /// When they were last looked for.
    looked: std::time::Instant,
    /// The last one of each runner; those before the follower came count as told.
    begun: std::time::Instant,
    last: HashMap<RunnerId, std::time::Instant>,
}

/// What was seen of the state at once.
struct Seen {
    revision: Revision,
    text: String,
    moves: u64,
    /// The deployments that have changed.
    changed: Vec<(Label, Revision)>,
    /// How many runners have reported.
    reported: usize,
}

impl News {
    pub(super) fn new(
        coordinator: Coordinator,
        by: Admin,
        kinds: BTreeSet<Kind>,
        (at, moves): (Option<Revision>, u64),
    ) -> Self {
        let reports = LatestReports::new(Instant::now().into_std());
        Self { coordinator, by, kinds, at, moves, reports, unsettled: BTreeMap::new() }
    }

    /// When it is to be looked for at the latest.
    pub(super) fn patience(&self) -> Duration {
        if self.unsettled.is_empty() { HEARTBEAT } else { UNSETTLED }
    }

    /// What has happened since, as text. `None` if the reader may not follow any longer.
    pub(super) async fn look(&mut self) -> Option<String> {
        let (by, kinds, at, moves) = (self.by.clone(), self.kinds.clone(), self.at, self.moves);
        let (now, heard) = (self.coordinator.now(), self.heard().await);
        let look = move |core: &mut Core| {
            core.state.is_still(&by, now).then(|| Seen::of(core, &by, &kinds, (at, moves), &heard))
        };
        let Seen { revision, mut text, moves, changed, reported } = self.coordinator.visit(look).await.ok()??;
        (self.at, self.moves) = (Some(revision), moves);
        if reported > 0 {
            text += &Happened::Telemetry(Reports { nodes: reported }).text(None);
        }
        if self.kinds.contains(&Kind::TrustApplied) {
            self.unsettled.extend(changed);
            while self.unsettled.len() > MOST_UNSETTLED {
                self.unsettled.pop_first();
            }
            text += &self.settled().await?;
        }
        Some(text)
    }

    /// The runners that have reported since this was asked last, to whichever coordinator, if it is of interest.
    async fn heard(&mut self) -> Vec<RunnerId> {
        let now = Instant::now().into_std();
        if !self.kinds.contains(&Kind::Telemetry) || now.duration_since(self.reports.looked) < HEARTBEAT {
            return vec![];
        }
        self.reports.looked = now;
        let heard = self.coordinator.reported().await;
        self.reports.news(&heard)
    }

    /// The trust lists that are in force everywhere by now.
    async fn settled(&mut self) -> Option<String> {
        let mut text = String::new();
        for (deployment, revision) in self.unsettled.clone() {
            let pending =
                self.coordinator.wait_for_deployment(deployment.clone(), revision, Duration::ZERO).await.ok()?;
            if pending.is_empty() {
                self.unsettled.remove(&deployment);
                text += &Happened::TrustApplied(Applied { deployment, revision }).text(None);
            }
        }
        Some(text)
    }
}

impl LatestReports {
    pub(super) fn new(now: std::time::Instant) -> Self {
        Self { looked: now, begun: now, last: HashMap::new() }
    }

    /// The runners with a report that is new.
    pub(super) fn news(&mut self, heard: &HashMap<RunnerId, std::time::Instant>) -> Vec<RunnerId> {
        // Another coordinator tells the age of a report, so that one report seems to come at slightly different times.
        let told = |runner: RunnerId| self.last.get(&runner).map_or(self.begun, |last| *last + ONE_REPORT);
        let heard = heard.iter().map(|(runner, at)| (*runner, *at));
        let news: Vec<_> = heard.filter(|(runner, at)| *at > told(*runner)).collect();
        self.last.extend(news.iter().copied());
        news.into_iter().map(|(runner, _)| runner).collect()
    }
}

impl Seen {
    fn of(
        core: &Core,
        by: &Admin,
        kinds: &BTreeSet<Kind>,
        (at, moves): (Option<Revision>, u64),
        heard: &[RunnerId],
    ) -> Self {
        let revision = core.state.revision();
        let (moves, moved) = core.events.moved_since(moves);
        let mut changed = vec![];
        let too_many = moved.is_none() && kinds.contains(&Kind::Node);
        let text = match at.map_or(Since::Gap, |at| core.events.since(at)) {
            Since::Events(events) if !too_many => {
                let mut text = String::new();
                for event in events {
                    let told = Happened::of(core, by, &event, kinds);
                    // Who has received the last one has received all of them.
                    let last = told.len().saturating_sub(1);
                    let id = |n| (n == last).then_some(event.revision);
                    text.extend(told.iter().enumerate().map(|(n, happened)| happened.text(id(n))));
                    let deployments = event.concern.deployments(&core.state, by).into_iter();
                    changed.extend(deployments.map(|deployment| (deployment, event.revision)));
                }
                if kinds.contains(&Kind::Node) {
                    let nodes = moved.into_iter().flatten().filter_map(|runner| Happened::node(core, by, runner));
                    text.extend(nodes.map(|node| node.text(None)));
                }
                text
            }
            Since::Events(_) | Since::Gap => Happened::Resync { revision }.text(Some(revision)),
        };
        let sees = |id: &&RunnerId| core.state.runner(**id).is_some_and(|runner| core.state.sees(by, runner));
        Self { revision, text, moves, changed, reported: heard.iter().filter(sees).count() }
    }
}
