//! Which agents are asked to report what passes, and what becomes of their reports.

use mesh_link::Method;
use mesh_model::{Admin, NewPurpose};
use mesh_proto::{
    Abilities, Ability,
    message::{Down, Up},
    telemetry::{Counts, Pair, Side, Telemetry},
};

use crate::{
    api::{Edges, Lacking, Reported, Series, TrafficQuery},
    coordinator::Core,
    testing::{Agent, World, label},
    watch::calls,
};

async fn agent(world: &World, credential: &str, can: Abilities) -> Agent {
    let mut agent = world.connect(credential).await.unwrap();
    agent.can = can;
    agent.hello(None, vec![]).await;
    agent.news().await;
    agent
}

async fn asked(agent: &mut Agent) -> (u32, bool) {
    match agent.hear().await.unwrap() {
        Down::Telemetry { seconds, refusals } => (seconds, refusals),
        other => panic!("{other:?}"),
    }
}

async fn edges(world: &World) -> Vec<(String, String, u64)> {
    let (all, lacking) = world.coordinator.reports(9, false).await.unwrap();
    let reported = Reported::edges(all, Lacking::all(&lacking));
    let look = move |core: &mut Core| {
        let now = tokio::time::Instant::now().into_std();
        Edges::of(core, reported, &Admin::socket(0), &TrafficQuery::default(), now).edges
    };
    let edges = world.coordinator.visit(look).await.unwrap();
    edges.into_iter().map(|edge| (edge.from.to_string(), edge.to.to_string(), edge.open)).collect()
}

#[tokio::test]
async fn an_able_agent_is_asked_and_more_often_while_an_operator_watches() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["app", "db"]).await;
    let credential = world.runner("one").await;
    let mut agent = agent(&world, &credential, Abilities::NONE.with(Ability::Telemetry)).await;
    assert_eq!(asked(&mut agent).await, (60, true));
    agent.attach("shop/app").await;
    let service = |path: &'static str| {
        let look = move |core: &mut Core| core.state.service_at(&path.parse().unwrap()).unwrap().id;
        world.coordinator.visit(look)
    };
    let (caller, callee) = (service("shop/app").await.unwrap(), service("shop/db").await.unwrap());
    let counts = Counts { opened: 4, open: 3, ..Counts::default() };
    let pairs = vec![Pair { caller, callee, side: Side::From, counts }];
    agent.say(&Up::Telemetry(Telemetry { life: 1, pairs, ..Telemetry::default() })).await;
    // The agent's messages are handled in order.
    let _ = agent.ask(mesh_proto::message::Ask::Settle { revision: mesh_proto::Revision(0) }).await;
    assert_eq!(edges(&world).await, [("shop/app".to_owned(), "shop/db".to_owned(), 3)]);
    world.coordinator.telemetry.watch(tokio::time::Instant::now().into_std());
    assert_eq!(asked(&mut agent).await, (5, true));
    let can = world.coordinator.visit(|core| core.state.runner_named("one").unwrap().can).await.unwrap();
    assert!(!can.has(Ability::Telemetry), "other runners have no use for it");
}

#[tokio::test]
async fn an_agent_of_an_earlier_version_is_not_asked_and_its_reports_are_left_out() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["app", "db"]).await;
    let credential = world.runner("one").await;
    let mut agent = agent(&world, &credential, Abilities::NONE).await;
    // Whatever else it had been sent would come before the answer.
    agent.attach("shop/app").await;
    agent.say(&Up::Telemetry(Telemetry::default())).await;
    agent.attach("shop/app").await;
    let reports = world.coordinator.telemetry.book().unwrap().received();
    assert_eq!(reports, (0, 0));
}

/// What passed from `shop/app` to `shop/db` in this hour.
async fn this_hour(world: &World) -> Vec<(u64, u64)> {
    let series: Series = world.admin(Method::GET, "edges/series?from=shop/app&to=shop", None::<&()>).await.unwrap();
    assert!(series.step == 3600 && series.series.iter().all(|pair| pair.opened.len() == 24 && pair.bytes.len() == 24));
    series.series.iter().map(|pair| (pair.opened[23], pair.bytes[23])).collect()
}

#[tokio::test]
async fn what_passed_by_the_hour_is_in_the_records_and_each_team_sees_its_own() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["app", "db"]).await;
    let credential = world.runner("one").await;
    let mut agent = agent(&world, &credential, Abilities::NONE.with(Ability::Telemetry)).await;
    assert_eq!(asked(&mut agent).await, (60, true));
    agent.attach("shop/app").await;
    let service = |path: &'static str| {
        let look = move |core: &mut Core| core.state.service_at(&path.parse().unwrap()).unwrap().id;
        world.coordinator.visit(look)
    };
    let (caller, callee) = (service("shop/app").await.unwrap(), service("shop/db").await.unwrap());
    let report = |opened| {
        let counts = Counts { opened, sent: 20 * opened, received: opened, ..Counts::default() };
        let pairs = vec![Pair { caller, callee, side: Side::From, counts }];
        Up::Telemetry(Telemetry { life: 1, age: Some(10), pairs, ..Telemetry::default() })
    };
    agent.say(&report(4)).await;
    let _ = agent.ask(mesh_proto::message::Ask::Settle { revision: mesh_proto::Revision(0) }).await;
    assert_eq!(this_hour(&world).await, [(4, 84)], "before the hour is over");
    calls::note(&world.coordinator, world.coordinator.now()).await.unwrap();
    assert_eq!(this_hour(&world).await, [(4, 84)]);
    let before = world.coordinator.visit(|core| core.state.revision()).await.unwrap();
    calls::note(&world.coordinator, world.coordinator.now()).await.unwrap();
    let (records, after) = world
        .coordinator
        .visit(|core| {
            (core.state.calls().map(|(_, known)| known.hours.len()).collect::<Vec<_>>(), core.state.revision())
        })
        .await
        .unwrap();
    assert_eq!((records, after), (vec![1], before), "once");
    for (team, pairs) in [("acme", 1), ("other", 0)] {
        let token = world.token(NewPurpose::Admin { team: Some(label(team)) }).await;
        let (_, answer) = crate::testing::talk(&world, "GET", "/v1/admin/edges/series", Some(&token), &[], None).await;
        assert_eq!(answer["series"].as_array().unwrap().len(), pairs, "{team}: {answer}");
    }
}
