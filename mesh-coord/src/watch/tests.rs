mod ahead;
mod confirm;
mod copies;
mod load;
mod probes;
mod relays;
mod several;
mod telemetry;

use mesh_model::{AdminCommand, NewPurpose, Offload};
use mesh_proto::{
    InstanceId, PrivateKey, Revision, View,
    message::{Answer, Ask, Have, Held, PROTOCOL, Switches, Up},
};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::{
    api::{NodeState, Nodes, Reachable, Services},
    testing::{Agent, FOREIGN, World, contents, file, label},
};

#[tokio::test]
async fn the_deltas_add_up_to_what_the_model_says() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db", "app"]).await;
    world.deploy("api", "acme", &["grpc"]).await;
    let mut one = world.agent("one").await;
    let mut two = world.agent("two").await;
    let (instance, _) = one.attach("shop/db").await;
    two.attach("shop/app").await;
    two.attach("api/grpc").await;
    world.trust("api", "shop").await;
    world.deploy("shop", "acme", &["db", "app", "cache"]).await;
    one.ask(Ask::Detach { instance }).await.unwrap();
    for agent in [&mut one, &mut two] {
        let truth = world.truth(agent).await;
        agent.reach(&truth).await;
    }
    assert!(contents(one.view.as_ref().unwrap()).len() < contents(two.view.as_ref().unwrap()).len());
}

#[tokio::test]
async fn a_runner_hears_nothing_of_what_does_not_concern_it() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    let mut one = world.agent("one").await;
    one.attach("shop/db").await;
    let truth = world.truth(&one).await;
    one.reach(&truth).await;
    // A change of another team, then one that concerns the agent: the first update that it receives is the second
    // change.
    world.deploy("bank", "other", &["vault"]).await;
    let mut two = world.agent("two").await;
    two.attach("bank/vault").await;
    world.deploy("shop", "acme", &["db", "app"]).await;
    assert!(one.news().await, "a delta");
    let truth = world.truth(&one).await;
    assert_eq!(contents(one.view.as_ref().unwrap()), contents(&truth));
}

#[tokio::test]
async fn a_view_that_can_be_continued_is_and_any_other_is_sent_whole() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    let credential = world.runner("one").await;
    let mut agent = world.connect(&credential).await.unwrap();
    agent.hello(None, Vec::new()).await;
    assert!(!agent.news().await, "a snapshot at first");
    let (instance, _) = agent.attach("shop/db").await;
    let truth = world.truth(&agent).await;
    agent.reach(&truth).await;
    let (have, view) = (agent.have(), agent.view.clone());
    let held = holds(instance, &truth);
    end(&world, agent).await;

    // It has the same view, and something has changed meanwhile.
    world.deploy("shop", "acme", &["db", "app"]).await;
    let mut agent = world.connect(&credential).await.unwrap();
    agent.hello(Some(have), vec![held.clone()]).await;
    agent.view = view;
    assert!(agent.news().await, "a delta");
    let truth = world.truth(&agent).await;
    assert_eq!(contents(agent.view.as_ref().unwrap()), contents(&truth));
    let have = agent.have();
    end(&world, agent).await;

    // It has another epoch, or another revision.
    for have in [Have { epoch: FOREIGN, ..have }, Have { revision: Revision(have.revision.0 - 1), ..have }] {
        let mut agent = world.connect(&credential).await.unwrap();
        agent.hello(Some(have), vec![held.clone()]).await;
        assert!(!agent.news().await, "a snapshot");
        assert_eq!(contents(agent.view.as_ref().unwrap()), contents(&truth));
        end(&world, agent).await;
    }
}

#[tokio::test]
async fn a_resync_is_answered_with_all_of_it() {
    let world = World::new().await;
    let mut agent = world.agent("one").await;
    agent.say(&Up::Resync).await;
    assert!(!agent.news().await, "a snapshot");
}

#[tokio::test]
async fn the_newest_stream_of_a_runner_wins_and_the_audit_knows() {
    let world = World::new().await;
    let credential = world.runner("one").await;
    let mut old = world.agent_of(&credential, None).await;
    let mut new = world.agent_of(&credential, None).await;
    let why = old.hear().await.unwrap_err();
    assert!(why.contains("took over"), "{why}");
    // The end of the old stream doesn't end the new one.
    new.say(&Up::Resync).await;
    new.news().await;
    let audit = world.coordinator.visit(|core| core.state.audit(&mesh_model::Admin::socket(0), 1)).await.unwrap();
    assert_eq!(audit[0].action, "stream-taken-over");
}

#[tokio::test]
async fn a_removed_runner_is_cut_off_and_stays_out() {
    let world = World::new().await;
    let credential = world.runner("one").await;
    let mut agent = world.agent_of(&credential, None).await;
    world.order(AdminCommand::RemoveNode { name: label("one"), force: true }).await;
    let why = agent.hear().await.unwrap_err();
    assert!(why.contains("removed"), "{why}");
    let Err(Error::Http(response)) = world.connect(&credential).await else { panic!("it came back in") };
    assert!(response.status().is_client_error(), "{response:?}");
}

#[tokio::test]
async fn settling_waits_for_those_concerned_and_names_who_is_late() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db", "app"]).await;
    world.deploy("bank", "other", &["vault"]).await;
    let mut one = world.agent("one").await;
    let mut two = world.agent("two").await;
    let mut stranger = world.agent("stranger").await;
    stranger.attach("bank/vault").await;
    two.attach("shop/app").await;
    let (_, revision) = one.attach("shop/db").await;
    let truth = world.truth(&one).await;
    one.reach(&truth).await;
    one.applied().await;
    let truth = world.truth(&two).await;
    two.reach(&truth).await;
    // The unrelated runner has applied nothing, and isn't waited for.
    assert_eq!(one.settle(revision).await, [label("two")]);
    two.applied().await;
    assert_eq!(one.settle(revision).await, []);
    // A disconnected runner isn't waited for either: its silence must not delay the others.
    let (instance, _) = two.attach("shop/app").await;
    end(&world, two).await;
    let Answer::Detached { revision } = one.ask(Ask::Detach { instance }).await.unwrap() else { panic!() };
    let truth = world.truth(&one).await;
    one.reach(&truth).await;
    one.applied().await;
    assert_eq!(one.settle(revision).await, []);
}

#[tokio::test]
async fn what_an_agent_holds_is_reconciled() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    let credential = world.runner("one").await;
    let mut agent = world.agent_of(&credential, None).await;
    let (instance, _) = agent.attach("shop/db").await;
    end(&world, agent).await;
    // It comes back without the instance, and the coordinator ends it.
    let agent = world.agent_of(&credential, None).await;
    assert!(agent.view.as_ref().unwrap().instance(instance).is_none());
}

#[tokio::test]
async fn an_agent_that_makes_no_sense_is_sent_away_with_the_reason() {
    let world = World::new().await;
    let hello = |protocol| {
        let text = format!(
            r#"{{"type":"hello","protocol":{protocol},"version":"9","have":null,"endpoints":[],"port":1,"instances":[]}}"#
        );
        vec![Message::text(text)]
    };
    let many = |n: usize| {
        format!(
            r#"{{"type":"hello","protocol":1,"version":"{}","have":null,"endpoints":[],"port":1,"instances":[]}}"#,
            "x".repeat(n)
        )
    };
    for (messages, why) in [
        (vec![Message::text("{}")], "cannot be read"),
        (vec![Message::text("\u{0}\u{fffd}")], "cannot be read"),
        (vec![Message::text(r#"{"type":"pong"}"#)], "not a hello"),
        (vec![Message::binary(vec![0xff; 9])], "not text"),
        (hello(PROTOCOL + 1), "upgrade mesh-coord"),
        ([hello(PROTOCOL), hello(PROTOCOL)].concat(), "second hello"),
        (vec![Message::text(many(2 << 20))], ""),
    ] {
        let credential = world.runner(&format!("r{}", why.len())).await;
        let mut agent = world.connect(&credential).await.unwrap();
        for message in messages {
            // The stream may end before all of it is read.
            let _ = futures_util::SinkExt::send(&mut agent.socket, message).await;
        }
        let ended = loop {
            match agent.hear().await {
                Ok(_) => {}
                Err(ended) => break ended,
            }
        };
        assert!(ended.contains(why), "{ended}, and not {why}");
        world.order(AdminCommand::RemoveNode { name: label(&format!("r{}", why.len())), force: true }).await;
    }
    // The coordinator still works.
    world.agent("sane").await;
}

#[tokio::test]
async fn questions_are_answered_within_the_scope_of_who_asks() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    let mut agent = world.agent("one").await;
    let Answer::Found { view } = agent.ask(Ask::Lookup { service: "shop/db".parse().unwrap() }).await.unwrap() else {
        panic!()
    };
    assert!(view.services().any(|service| &*service.name == "db"));
    let refusal = agent
        .ask(Ask::Attach { service: "shop/nothing".parse().unwrap(), client: false, release: None })
        .await
        .unwrap_err();
    assert!(refusal.error.contains("nothing") && refusal.hint.is_some(), "{refusal:?}");
    agent.attach("shop/db").await;
    let path = |text: &str| text.parse().unwrap();
    let why = Ask::Why { caller: path("shop/db"), callee: path("shop/db"), port: 1 };
    assert!(matches!(agent.ask(why).await.unwrap(), Answer::Why { allowed: true, .. }));
}

#[tokio::test]
async fn a_tokens_scope_bounds_what_its_runners_host_and_learn() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    world.deploy("bank", "acme", &["vault"]).await;
    let token = world.token(NewPurpose::JoinDeployments { deployments: [label("shop")].into(), uses: 1 }).await;
    let wish = world.wish(&token, "one", &PrivateKey::from_bytes([1; 32])).await;
    let mut agent = world.agent_of(&world.enrol(&wish).await.unwrap().credential, None).await;
    let vault = || "bank/vault".parse().unwrap();
    for ask in [Ask::Attach { service: vault(), client: true, release: None }, Ask::Lookup { service: vault() }] {
        agent.ask(ask).await.unwrap_err();
    }
    agent.attach("shop/db").await;
    let truth = world.truth(&agent).await;
    agent.reach(&truth).await;
    assert!(agent.view.as_ref().unwrap().services().all(|service| &*service.name == "db"));
}

#[tokio::test]
async fn nodes_are_online_then_silent() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    let state = || async {
        let nodes: Nodes = world.admin(mesh_link::Method::GET, "nodes", None::<&()>).await.unwrap();
        (nodes.nodes[0].state, nodes.nodes[0].last_seen_seconds.is_some())
    };
    assert_eq!(state().await, (NodeState::Online, true));
    end(&world, agent).await;
    assert_eq!(state().await, (NodeState::Silent, true));
}

#[tokio::test]
async fn a_dry_run_sends_nothing_to_agents() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    let mut agent = world.agent("one").await;
    agent.attach("shop/db").await;
    let truth = world.truth(&agent).await;
    agent.reach(&truth).await;
    let files = vec![file("shop", "acme", &["db", "dry"])];
    world.order(AdminCommand::Apply { files, dry_run: true, force: false, prune: None }).await;
    world.deploy("shop", "acme", &["db", "wet"]).await;
    agent.news().await;
    let names: Vec<String> = agent.view.as_ref().unwrap().services().map(|s| s.name.to_string()).collect();
    assert_eq!(names, ["db", "wet"]);
}

#[tokio::test]
async fn an_agent_is_told_which_offloads_are_on_at_first_and_whenever_that_changes() {
    let world = World::new().await;
    let mut one = world.agent("one").await;
    let mut two = world.agent("two").await;
    let switch = |on, node| AdminCommand::Switch { offload: Offload::UdpGso, on, node };
    world.order(switch(false, Some(label("one")))).await;
    world.order(switch(false, None)).await;
    world.order(switch(true, None)).await;
    // Updates of the view come after.
    world.deploy("shop", "acme", &["db"]).await;
    one.attach("shop/db").await;
    two.attach("shop/db").await;
    let off = Switches { udp_gso: false, ..Switches::default() };
    assert_eq!(one.switches.first(), Some(&Switches::default()));
    assert_eq!(one.switches.last(), Some(&off), "its own switch is off still");
    assert_eq!(two.switches.last(), Some(&Switches::default()));
}

#[tokio::test]
async fn what_is_drained_is_shown_so_and_who_leaves_is_gone() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["db"]).await;
    let mut one = world.agent("one").await;
    let (instance, _) = one.attach("shop/db").await;
    let Answer::Drained { .. } = one.ask(Ask::Drain { instance }).await.unwrap() else { panic!() };
    let services: Services = world.admin(mesh_link::Method::GET, "services", None::<&()>).await.unwrap();
    assert_eq!(services.services[0].instances[0].state, Reachable::Draining);
    assert_eq!(one.ask(Ask::Leave).await, Ok(Answer::Left));
    let why = one.hear().await.unwrap_err();
    assert!(why.contains("removed"), "{why}");
    let services: Services = world.admin(mesh_link::Method::GET, "services", None::<&()>).await.unwrap();
    assert!(services.services[0].instances.is_empty());
}

/// An agent's instance of shop/db, as it reports it.
fn holds(instance: InstanceId, view: &View) -> Held {
    let address = view.instance(instance).unwrap().address;
    Held { instance, service: "shop/db".parse().unwrap(), address, client: false, draining: false, release: None }
}

/// Ends the agent's stream, and waits until the coordinator knows.
pub(super) async fn end(world: &World, mut agent: Agent) {
    let runner = agent.view.as_ref().unwrap().runner;
    agent.socket.close(None).await.unwrap();
    while agent.hear().await.is_ok() {}
    while world.coordinator.visit(move |core| core.sessions.is_connected(runner)).await.unwrap() {
        tokio::task::yield_now().await;
    }
}
