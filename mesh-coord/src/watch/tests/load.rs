//! What many runners, a runner with endless requests, or a failing store cost the others.

use std::sync::atomic::Ordering;

use mesh_model::Command;
use mesh_proto::{
    Revision, RunnerId,
    message::{Ask, Held, Up},
};
use tokio::time::Instant;

use super::{confirm::change, end};
use crate::{
    api::Nodes,
    store::MemoryStore,
    testing::{Agent, World, contents, label},
};

fn id(agent: &Agent) -> RunnerId {
    agent.view.as_ref().unwrap().runner
}

fn endpoints(endpoints: Vec<std::net::SocketAddr>) -> Up {
    Up::Endpoints { endpoints, reflexive: vec![], relayed: vec![], nat: None }
}

/// The agent's only instance, as it reports it.
fn held(agent: &Agent) -> Held {
    let view = agent.view.as_ref().unwrap();
    let instance = view.instances().find(|instance| instance.runner == view.runner).unwrap();
    Held {
        instance: instance.id,
        service: "shop/db".parse().unwrap(),
        address: instance.address,
        client: false,
        draining: false,
        release: None,
    }
}

/// The last commit, and how many views were computed so far.
async fn cost(world: &World) -> (Revision, u64) {
    world.coordinator.visit(|core| (core.state.revision(), core.sessions.views_made())).await.unwrap()
}

#[tokio::test]
async fn all_come_back_at_once() {
    const RUNNERS: usize = 40;
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    let mut runners = Vec::new();
    for n in 0..RUNNERS {
        let credential = world.runner(&format!("r{n}")).await;
        let mut agent = world.agent_of(&credential, None).await;
        agent.attach("shop/db").await;
        let truth = world.truth(&agent).await;
        agent.reach(&truth).await;
        runners.push((credential, held(&agent), id(&agent)));
        end(&world, agent).await;
    }
    let come_back = async || {
        let one = async |(credential, held, _): &(String, Held, RunnerId)| {
            let mut agent = world.connect(credential).await.unwrap();
            agent.hello(None, vec![held.clone()]).await;
            agent.news().await;
            agent
        };
        futures_util::future::join_all(runners.iter().map(one)).await
    };

    // Without news there is no commit, and one view each.
    let before = cost(&world).await;
    let agents = come_back().await;
    let after = cost(&world).await;
    assert_eq!((after.0, after.1 - before.1), (before.0, RUNNERS as u64));
    for agent in agents {
        end(&world, agent).await;
    }

    // Each report is news to all the others, and in the end all know all of it. Those that come together share commits.
    for (.., runner) in &runners {
        world.coordinator.submit(Command::Silent { runners: [*runner].into(), held_back: None }).await.unwrap();
    }
    let before = cost(&world).await;
    let mut agents = come_back().await;
    for agent in &mut agents {
        let truth = world.truth(agent).await;
        assert!(truth.runners().all(|runner| !runner.silent));
        agent.reach(&truth).await;
    }
    let after = cost(&world).await;
    assert!((1..=RUNNERS as u64).contains(&(after.0.0 - before.0.0)), "{before:?} {after:?}");
}

#[tokio::test]
async fn who_has_nothing_to_apply_is_not_waited_for() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db", "web"]).await;
    world.deploy("api", "acme", &["grpc"]).await;
    let callers = [label("api")].into();
    let services = Some(vec!["web".parse().unwrap()]);
    let opens = mesh_model::TrustChange::Add { callers, services, ports: mesh_proto::Ports::All };
    world.order(mesh_model::AdminCommand::Trust { deployment: label("shop"), change: opens }).await;
    let (mut callee, mut caller) = (world.agent("callee").await, world.agent("caller").await);
    caller.attach("api/grpc").await;
    for _ in 0..3 {
        callee.attach("shop/db").await;
    }
    for agent in [&mut callee, &mut caller] {
        let truth = world.truth(agent).await;
        agent.reach(&truth).await;
        agent.applied().await;
    }
    // A commit that could have affected the caller, but didn't.
    callee.attach("shop/db").await;
    let truth = world.truth(&callee).await;
    callee.reach(&truth).await;
    callee.applied().await;
    assert!(change(&world, None, 60_000).await.is_empty());
}

#[tokio::test]
async fn a_runner_that_tells_without_end_has_its_turns_and_no_more() {
    let world = World::new().await;
    let start = Instant::now();
    let mut agent = world.agent("hostile").await;
    let before = cost(&world).await.0.0;
    let endpoint = |n: u16| std::net::SocketAddr::from(([198, 51, 100, 1], n));
    for n in 1..=2000 {
        agent.say(&endpoints(vec![endpoint(n)])).await;
    }
    // The last report counts, and the stream still works.
    let runner = id(&agent);
    loop {
        let told = world.coordinator.visit(move |core| core.state.runner(runner).unwrap().endpoints.clone());
        if told.await.unwrap() == [endpoint(2000)] {
            break;
        }
        tokio::task::yield_now().await;
    }
    let commits = cost(&world).await.0.0 - before;
    let seconds = start.elapsed().as_secs();
    assert!(commits <= seconds + 2, "{commits} commits within {seconds} seconds");
    // Questions wait for their turn as well, and all are answered.
    for _ in 0..120 {
        agent.ask(Ask::Detach { instance: mesh_proto::InstanceId(77) }).await.unwrap();
    }
    let turns = 100 + u64::try_from(start.elapsed().as_millis()).unwrap() / 100;
    assert!(turns >= 120, "{turns} turns");
    // A new stream is no way around it.
    let mut other = world.agent("other").await;
    other.ask(Ask::Detach { instance: mesh_proto::InstanceId(77) }).await.unwrap();
}

#[tokio::test]
async fn while_the_disk_is_full_the_streams_go_on_and_what_was_told_is_kept_later() {
    let store = MemoryStore::new();
    let full = store.full();
    let world = World::on(store).await;
    world.deploy("shop", "acme", &["db"]).await;
    let mut standing = world.agent("standing").await;
    let credential = world.runner("back").await;
    let mut agent = world.agent_of(&credential, None).await;
    let (first, _) = agent.attach("shop/db").await;
    let truth = world.truth(&agent).await;
    agent.reach(&truth).await;
    let (runner, held) = (id(&agent), held(&agent));
    end(&world, agent).await;
    world.coordinator.submit(Command::Silent { runners: [runner].into(), held_back: None }).await.unwrap();

    full.store(true, Ordering::Relaxed);
    let mut agent = world.connect(&credential).await.unwrap();
    agent.hello(None, vec![held]).await;
    agent.news().await;
    assert_eq!(contents(agent.view.as_ref().unwrap()), contents(&truth_with_silence(&world, runner).await));
    for _ in 0..3 {
        let refusal = agent
            .ask(Ask::Attach { service: "shop/db".parse().unwrap(), client: false, release: None })
            .await
            .unwrap_err();
        assert!(refusal.error.contains("disk") && refusal.error.contains("full"), "{refusal:?}");
        assert!(refusal.hint.unwrap().contains("make room"));
    }
    agent.ask(Ask::Lookup { service: "shop/db".parse().unwrap() }).await.unwrap();
    standing.say(&endpoints(vec![([198, 51, 100, 9], 9).into()])).await;
    standing.say(&Up::Resync).await;
    standing.news().await;
    let nodes: Nodes = world.admin(mesh_link::Method::GET, "nodes", None::<&()>).await.unwrap();
    assert_eq!(nodes.nodes.len(), 2);

    full.store(false, Ordering::Relaxed);
    // The hello is stored first: the instances that it names remain, and the new one exists too.
    let (second, _) = agent.attach("shop/db").await;
    let truth = world.truth(&agent).await;
    agent.reach(&truth).await;
    assert!(truth.instance(first).is_some() && truth.instance(second).is_some());
    assert!(!truth.runner(runner).unwrap().silent);
}

/// The model's view of a runner that is still marked as silent.
async fn truth_with_silence(world: &World, runner: RunnerId) -> mesh_proto::View {
    let view =
        world.coordinator.visit(move |core| core.state.view(runner, core.sessions.epoch()).unwrap()).await.unwrap();
    assert!(view.runner(runner).unwrap().silent);
    view
}
