//! One page: whether the mesh is whole, and what needs its operator.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mesh_model::{Admin, UnixSeconds};
use mesh_proto::{Label, Revision, view::InstanceState};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{Lacking, NodeState, Nodes, Reachable, Services, VERSION};
use crate::coordinator::Core;

/// From when on a connected runner counts as behind.
pub(crate) const BEHIND: Duration = Duration::from_secs(5);
/// How many names one need lists.
const NAMED: usize = 10;

/// `status`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Overview {
    pub(crate) version: u32,
    /// The revision of the last commit.
    pub(crate) revision: Revision,
    /// Whether commands can be carried out.
    pub(crate) ready: bool,
    /// Runners by provider.
    pub(crate) providers: Vec<Provider>,
    pub(crate) deployments: usize,
    pub(crate) services: usize,
    /// Instances by their state.
    pub(crate) instances: BTreeMap<String, usize>,
    /// What needs the operator, the worst first.
    pub(crate) needs: Vec<Need>,
}

/// The runners of a provider.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Provider {
    pub(crate) provider: Label,
    pub(crate) online: usize,
    pub(crate) silent: usize,
    pub(crate) instances: usize,
}

/// Something that needs the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Need {
    pub(crate) level: Level,
    /// A stable code.
    pub(crate) code: String,
    /// In words.
    pub(crate) text: String,
    /// What to try next.
    pub(crate) hint: String,
    /// What it is about, the first [`NAMED`].
    pub(crate) objects: Vec<String>,
}

/// How much a need matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Something doesn't work.
    Error,
    /// Something may not work soon, or for some.
    Warning,
    /// Something to know.
    Note,
}

impl Overview {
    /// The page, within what the reader may see. `trouble`: why commands can't be carried out, with what to try next.
    pub(crate) fn of(core: &Core, reader: &Admin, now: UnixSeconds, trouble: Option<(String, String)>) -> Self {
        let nodes = Nodes::of(core, reader, now).nodes;
        let nodes: Vec<_> = nodes.into_iter().filter(|node| node.state != NodeState::Removed).collect();
        let services = Services::of(core, reader, now).services;
        let mut providers: BTreeMap<&Label, [usize; 3]> = BTreeMap::new();
        for node in &nodes {
            let sums = providers.entry(&node.provider).or_default();
            sums[usize::from(node.state != NodeState::Online)] += 1;
            sums[2] += node.instances;
        }
        let providers = providers.into_iter().map(|(provider, [online, silent, instances])| Provider {
            provider: provider.clone(),
            online,
            silent,
            instances,
        });
        let mut instances: BTreeMap<String, usize> =
            ["live", "draining", "client", "unreachable"].map(|state| (state.to_owned(), 0)).into();
        for instance in services.iter().flat_map(|service| &service.instances) {
            let state = match instance.state {
                Reachable::Live => "live",
                Reachable::Draining => "draining",
                Reachable::Client => "client",
                Reachable::Unreachable => "unreachable",
            };
            *instances.entry(state.to_owned()).or_default() += 1;
        }
        let ready = trouble.is_none();
        let mut needs = Vec::new();
        needs.extend(trouble.map(|(text, hint)| Need {
            level: Level::Error,
            code: "store".to_owned(),
            text,
            hint,
            objects: vec![],
        }));
        needs.extend(unreachable(core, reader));
        let silent = nodes.iter().filter(|node| node.state == NodeState::Silent).map(|node| node.name.to_string());
        needs.extend(need(Level::Warning, "runners-silent", silent.collect(), |many, names| {
            (
                format!("{names} {} no stream to the coordinator", if many { "have" } else { "has" }),
                "`mesh-node status` there says why; `mesh-coord node remove` takes out what is gone for good",
            )
        }));
        let mut behind: BTreeSet<_> = core.sessions.behind(BEHIND, Instant::now().into_std()).into_iter().collect();
        behind.extend(&core.elsewhere.behind);
        let behind = nodes.iter().filter(|node| behind.contains(&node.id)).map(|node| node.name.to_string());
        needs.extend(need(Level::Warning, "runners-behind", behind.collect(), |_, names| {
            (
                format!("a change is not in force on {names}"),
                "is the machine overloaded? A right that was taken back may still be used there",
            )
        }));
        let lacking = Lacking::all(&core.elsewhere.lacking).into_iter().map(|lacking| lacking.host);
        needs.extend(need(Level::Warning, "coordinators-lacking", lacking.collect(), |many, names| {
            (
                format!("{} on {names} {} not answer", coordinators(many), if many { "do" } else { "does" }),
                "what only these know of their runners is missing here; `mesh-coord members` shows how they are",
            )
        }));
        let versions: BTreeSet<String> =
            nodes.iter().map(|node| node.agent.clone()).filter(|version| !version.is_empty()).collect();
        if versions.len() > 1 {
            needs.extend(need(Level::Note, "versions-differ", versions.into_iter().collect(), |_, names| {
                (format!("agents of several versions are in use: {names}"), "`mesh-coord nodes` shows which runs where")
            }));
        }
        needs.sort_by_key(|need| need.level);
        Self {
            version: VERSION,
            revision: core.state.revision(),
            ready,
            providers: providers.collect(),
            deployments: core.state.deployments(reader).len(),
            services: services.len(),
            instances,
            needs,
        }
    }
}

const fn coordinators(many: bool) -> &'static str {
    if many { "the coordinators" } else { "the coordinator" }
}

/// Services with instances of which none can be reached.
fn unreachable(core: &Core, reader: &Admin) -> Option<Need> {
    let rows = core.state.services(reader).into_iter().filter(|service| {
        let mut hosted = service.instances.iter().filter(|instance| instance.state != InstanceState::Client).peekable();
        hosted.peek().is_some()
            && hosted.all(|i| i.state == InstanceState::Draining || !core.sessions.is_connected(i.runner_id))
    });
    let names = rows.map(|row| format!("{}/{}", row.deployment, row.service)).collect();
    need(Level::Error, "services-unreachable", names, |many, names| {
        (
            format!("{names} {} no instance that takes new connections", if many { "have" } else { "has" }),
            "its instances drain, or their runners have no stream to the coordinator; `mesh-coord instances` lists them",
        )
    })
}

/// A need about some objects; `None` without any.
fn need(
    level: Level,
    code: &str,
    mut objects: Vec<String>,
    words: impl FnOnce(bool, &str) -> (String, &'static str),
) -> Option<Need> {
    let all = objects.len();
    objects.truncate(NAMED);
    let more = if all > NAMED { format!(" and {} more", all - NAMED) } else { String::new() };
    let (text, hint) = words(all > 1, &(objects.join(", ") + &more));
    (all > 0).then(|| Need { level, code: code.to_owned(), text, hint: hint.to_owned(), objects })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    async fn overview(world: &World) -> Overview {
        let now = world.coordinator.now();
        world.coordinator.visit(move |core| Overview::of(core, &Admin::socket(0), now, None)).await.unwrap()
    }

    #[tokio::test]
    async fn a_whole_mesh_needs_nothing_and_a_lost_runner_is_named_with_what_it_takes_along() {
        let world = World::new().await;
        world.deploy("shop", "acme", &["app", "db"]).await;
        let mut agent = world.agent("one").await;
        agent.attach("shop/db").await;
        let whole = overview(&world).await;
        assert_eq!((whole.needs, whole.deployments, whole.services), (vec![], 1, 2));
        assert_eq!((whole.providers[0].online, whole.instances["live"]), (1, 1));
        drop(agent);
        let lost = loop {
            let overview = overview(&world).await;
            if !overview.needs.is_empty() {
                break overview;
            }
            tokio::task::yield_now().await;
        };
        let codes: Vec<_> = lost.needs.iter().map(|need| (need.level, &*need.code, need.objects.join(","))).collect();
        assert_eq!(
            codes,
            [
                (Level::Error, "services-unreachable", "shop/db".to_owned()),
                (Level::Warning, "runners-silent", "one".to_owned()),
            ]
        );
        assert_eq!(lost.needs[1].text, "one has no stream to the coordinator");
    }

    #[test]
    fn many_names_are_cut_off() {
        let names: Vec<String> = (0..500).map(|n| format!("r{n}")).collect();
        let need = need(Level::Warning, "x", names, |many, names| (format!("{many} {names}"), "")).unwrap();
        assert!(need.text.ends_with("r9 and 490 more") && need.objects.len() == NAMED, "{need:?}");
        assert_eq!(super::need(Level::Note, "x", vec![], |_, _| (String::new(), "")), None);
    }
}
