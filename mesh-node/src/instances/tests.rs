//! Instances as one agent has them, and the next one after it.

mod containers;
mod covered;
mod hosts;

use futures_util::FutureExt as _;
use mesh_proto::{Epoch, InstanceId, Revision, RunnerId, View, view::InstanceState};

use super::lab::{Agent, World, addresses};
use crate::{
    attach::{
        Namespace,
        lab::{abandoned, ip, namespace, owner, picture},
    },
    hosts::Place,
};

#[tokio::test]
async fn attaching_again_is_the_same_and_detaching_leaves_nothing() {
    let (world, ns) = (World::new("again"), namespace());
    let agent = world.agent().await;
    assert_eq!(agent.attach("shop/db", &ns).await, Ok(InstanceId(1)));
    assert_eq!(agent.attach("shop/db", &ns).await, Ok(InstanceId(1)));
    assert_eq!(addresses(&ns), "100.112.1.1/32 100.112.0.1/32");
    assert!(agent.attach("shop/app", &ns).await.unwrap_err().error.contains("i-1 of shop/db"));
    assert_eq!(world.instances(), [1], "what was refused here never came to the coordinator");
    agent.instances.detach(InstanceId(1)).await.unwrap();
    assert_eq!((agent.list().await, world.instances()), (vec![], vec![]));
    assert!(!ip(&ns, "link").contains("mesh0"));
    assert!(agent.instances.detach(InstanceId(1)).await.is_err());
}

#[tokio::test]
async fn an_attach_that_waits_for_the_coordinator_delays_no_other() {
    let (world, slow, quick) = (World::new("slow"), namespace(), namespace());
    let agent = world.agent().await;
    world.think_of("shop/app");
    let others = async {
        agent.until("asked", async |_| world.model.lock().unwrap().waiting == 1).await;
        assert_eq!(agent.attach("shop/db", &quick).await, Ok(InstanceId(1)));
        agent.instances.detach(InstanceId(1)).await.unwrap();
        world.answer();
    };
    assert_eq!(tokio::join!(agent.attach("shop/app", &slow), others).0, Ok(InstanceId(2)));
    assert_eq!((agent.list().await, world.instances()), (vec![2], vec![2]));
}

#[tokio::test]
async fn of_many_at_a_time_each_namespace_has_one() {
    let (world, all) = (World::new("many"), [(); 8].map(|()| namespace()));
    let agent = world.agent().await;
    let twice = all.iter().chain(&all).map(|ns| agent.attach("shop/db", ns));
    let mut given: Vec<_> = futures_util::future::join_all(twice).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(given[..8], given[8..]);
    given.truncate(8);
    given.sort_unstable();
    assert_eq!(given, (1..=8).map(InstanceId).collect::<Vec<_>>());
    let ends = given.iter().map(|instance| agent.instances.detach(*instance));
    assert!(futures_util::future::join_all(ends).await.iter().all(Result::is_ok));
    assert_eq!((agent.list().await, world.instances()), (vec![], vec![]));
    assert!(all.iter().all(|ns| !ip(ns, "link").contains("mesh0")));
}

#[tokio::test]
async fn a_failed_task_shows_and_ends_no_instance_at_the_coordinator() {
    let (world, ns) = (World::new("failed"), namespace());
    let agent = world.agent().await;
    agent.attach("shop/db", &ns).await.unwrap();
    let looked: Result<(), _> = agent.instances.look(|_| panic!("a bug, for this test")).await;
    looked.unwrap_err();
    agent.instances.failed().await;
    assert!(agent.attach("shop/db", &ns).await.unwrap_err().error.contains("the agent ends"));
    let hello = agent.instances.hello().now_or_never();
    assert_eq!(hello, None, "a hello without instances would end them");
}

#[tokio::test]
async fn what_cannot_be_made_leaves_nothing_behind() {
    let (world, ns) = (World::new("nothing"), namespace());
    let agent = world.agent().await;
    assert!(agent.attach("shop/ghost", &ns).await.unwrap_err().error.contains("no such service"));
    let host = Namespace::host().unwrap();
    assert!(agent.attach("shop/db", &host).await.unwrap_err().error.contains("machine's own"));
    ip(&ns, "link add mesh0 type bridge");
    assert!(agent.attach("shop/db", &ns).await.unwrap_err().error.contains("did not make"));
    assert_eq!((agent.list().await, world.instances()), (vec![], vec![]));
}

#[tokio::test]
async fn the_end_of_a_namespace_is_the_end_of_its_instance() {
    let (world, ns) = (World::new("end"), namespace());
    let agent = world.agent().await;
    agent.attach("shop/db", &ns).await.unwrap();
    drop(ns);
    agent.until("detached", async |agent| agent.list().await.is_empty()).await;
    agent.until("told", async |_| world.instances().is_empty()).await;
}

#[tokio::test]
async fn while_the_coordinator_is_away_a_restarted_container_takes_its_instance_over() {
    let world = World::new("away");
    let (first, second) = (namespace(), namespace());
    let mut agent = world.agent().await;
    agent.attach("shop/db", &first).await.unwrap();
    agent.disconnect().await;
    agent.instances.detach(InstanceId(1)).await.unwrap();
    let error = agent.attach("shop/app", &second).await.unwrap_err();
    assert!(error.error.contains("coordinator is away"), "{error}");
    assert_eq!(agent.attach("shop/db", &second).await, Ok(InstanceId(1)), "the same instance, elsewhere");
    assert_eq!(addresses(&second), "100.112.1.1/32 100.112.0.1/32");
    agent.connect().await;
    agent.until("told", async |_| world.model.lock().unwrap().told.len() == 1).await;
    assert_eq!((agent.list().await, world.instances()), (vec![1], vec![1]));
}

#[tokio::test]
async fn a_machine_that_the_coordinator_refuses_takes_no_instance_over() {
    let (world, first, second) = (World::new("refused"), namespace(), namespace());
    let mut agent = world.agent().await;
    agent.attach("shop/db", &first).await.unwrap();
    agent.disconnect().await;
    agent.instances.detach(InstanceId(1)).await.unwrap();
    agent.refuse().await;
    assert!(agent.attach("shop/db", &second).await.is_err(), "it may be the other machine's");
    assert_eq!((agent.list().await, ip(&second, "link").contains("mesh0")), (vec![], false));
}

#[tokio::test]
async fn what_the_coordinator_drains_and_undrains_shows_here_and_after_a_restart() {
    let (world, ns) = (World::new("drained"), namespace());
    let mut agent = world.agent().await;
    agent.attach("shop/db", &ns).await.unwrap();
    let is_draining = async |agent: &Agent| agent.instances.list().await[0].draining;
    let remembered = || std::fs::read_to_string(world.state.path().join("instances.json")).unwrap();
    for state in [InstanceState::Draining, InstanceState::Live, InstanceState::Draining] {
        let draining = state == InstanceState::Draining;
        agent.disconnect().await;
        world.model.lock().unwrap().turn(InstanceId(1), state);
        agent.connect().await;
        agent.until("learned", async |agent| is_draining(agent).await == draining).await;
        // The file is written after the answer: an older one must not pass for the one that is due.
        agent.until("remembered", async |_| remembered().contains(&format!("\"draining\":{draining}"))).await;
    }
    agent.kill().await;
    let mut agent = Agent::start(&world.state, &world.model, None).await;
    assert!(is_draining(&agent).await, "before there is a coordinator");
    agent.connect().await;
    for draining in [false, true] {
        let said = agent.instances.set_draining(InstanceId(1), draining).await.unwrap();
        assert_eq!((said.instance.draining, is_draining(&agent).await), (draining, draining));
    }
}

#[tokio::test]
async fn a_coordinator_that_falls_silent_keeps_no_restarted_container_out() {
    let world = World::new("silent");
    let (first, second) = (namespace(), namespace());
    let mut agent = world.agent().await;
    agent.attach("shop/db", &first).await.unwrap();
    world.model.lock().unwrap().silent = true;
    let (instances, stream) = (agent.instances.clone(), agent.take_stream());
    // Both ask, and hear nothing until the stream breaks.
    let broken = async {
        agent.until("asked", async |_| world.model.lock().unwrap().waiting == 2).await;
        stream.abort();
    };
    let (ended, taken, ()) = tokio::join!(instances.detach(InstanceId(1)), agent.attach("shop/db", &second), broken);
    assert_eq!((ended.unwrap().instance.id, taken), (InstanceId(1), Ok(InstanceId(1))));
    assert_eq!(agent.list().await, [1]);
    assert_eq!(addresses(&second), "100.112.1.1/32 100.112.0.1/32");
    agent.until("taken out of the first", async |_| !ip(&first, "link").contains("mesh0")).await;
    world.model.lock().unwrap().silent = false;
    agent.connect().await;
    agent.until("told", async |_| world.model.lock().unwrap().told.len() == 1).await;
    assert_eq!((agent.list().await, world.instances()), (vec![1], vec![1]));
}

#[tokio::test]
async fn an_end_in_the_coordinators_absence_is_told_when_it_is_back() {
    let (world, ns) = (World::new("pending"), namespace());
    let mut agent = world.agent().await;
    agent.attach("shop/db", &ns).await.unwrap();
    agent.disconnect().await;
    agent.instances.detach(InstanceId(1)).await.unwrap();
    assert_eq!(world.instances(), [1]);
    agent.connect().await;
    agent.until("told", async |_| world.instances().is_empty()).await;
}

#[tokio::test]
async fn a_restarted_agent_takes_up_what_is_there_and_ends_what_is_not() {
    let world = World::new("restart");
    let (stays, goes) = (namespace(), namespace());
    let hosts = world.scratch.0.join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let place = Place::Path(hosts.clone());
    let agent = world.agent().await;
    agent.attach_with("shop/db", &stays, Some(&place)).await.unwrap();
    agent.attach("shop/app", &goes).await.unwrap();
    let view = agent.control.view();
    agent.kill().await;
    drop(goes);
    let mut agent = Agent::start(&world.state, &world.model, view).await;
    assert_eq!(agent.list().await, [1], "before there is a coordinator");
    assert_eq!(addresses(&stays), "100.112.1.1/32 100.112.0.1/32");
    agent.connect().await;
    agent.until("told", async |_| world.instances() == [1]).await;
    agent.instances.detach(InstanceId(1)).await.unwrap();
    assert_eq!(std::fs::read_to_string(&hosts).unwrap(), "127.0.0.1 localhost\n", "found again, and cleared");
}

/// As any process with `CAP_NET_ADMIN` and `/dev/net/tun` makes it.
fn counterfeit(ns: &Namespace) {
    ip(ns, "link delete mesh0");
    ip(ns, &format!("tuntap add dev mesh0 mode tun user {}", owner()));
}

#[tokio::test]
async fn a_namespace_that_has_the_number_now_does_not_get_the_instance() {
    let (world, ns) = (World::new("number"), namespace());
    let agent = world.agent().await;
    agent.attach("shop/db", &ns).await.unwrap();
    let view = agent.control.view();
    agent.kill().await;
    abandoned(&ns);
    counterfeit(&ns);
    let before = picture(&ns);
    let mut agent = Agent::start(&world.state, &world.model, view).await;
    assert_eq!((agent.list().await, picture(&ns)), (vec![], before));
    agent.connect().await;
    agent.until("told", async |_| world.instances().is_empty()).await;
}

#[tokio::test]
async fn what_an_earlier_version_made_is_taken_up_and_marked() {
    let (world, ns) = (World::new("unmarked"), namespace());
    let agent = world.agent().await;
    agent.attach("shop/db", &ns).await.unwrap();
    agent.kill().await;
    abandoned(&ns);
    let remembered = world.scratch.0.join(super::FILE);
    let read = || serde_json::from_slice::<serde_json::Value>(&std::fs::read(&remembered).unwrap()).unwrap();
    let mut old = read();
    old["attachments"][0].as_object_mut().unwrap().remove("mark").expect("it is remembered");
    std::fs::write(&remembered, old.to_string()).unwrap();
    counterfeit(&ns);
    let agent = Agent::start(&world.state, &world.model, None).await;
    assert_eq!(agent.list().await, [1]);
    agent.until("marked", async |_| read()["attachments"][0]["mark"].is_string()).await;
    let mark = read()["attachments"][0]["mark"].as_str().unwrap().to_owned();
    assert!(ip(&ns, "link show mesh0").contains(&format!("alias mesh-node {mark}")));
}

#[tokio::test]
async fn a_namespace_with_the_number_of_one_whose_end_was_not_heard_of_is_attached_anew() {
    let (world, ns) = (World::new("unheard"), namespace());
    let agent = world.agent().await;
    agent.attach("shop/db", &ns).await.unwrap();
    agent.deafen();
    ip(&ns, "link delete mesh0");
    assert_eq!(agent.attach("shop/app", &ns).await, Ok(InstanceId(2)));
    assert_eq!((agent.list().await, world.instances()), (vec![2], vec![2]));
    assert_eq!(addresses(&ns), "100.112.1.2/32 100.112.0.2/32");
}

#[tokio::test]
async fn a_coordinator_without_the_instance_gives_another_one() {
    let (world, ns) = (World::new("older"), namespace());
    let hosts = world.scratch.0.join("hosts");
    std::fs::write(&hosts, "").unwrap();
    let mut agent = world.agent().await;
    agent.attach_with("shop/db", &ns, Some(&Place::Path(hosts.clone()))).await.unwrap();
    agent.disconnect().await;
    {
        let mut model = world.model.lock().unwrap();
        model.keep(|_| false);
        model.next = 9;
    }
    agent.connect().await;
    agent.until("attached anew", async |agent| agent.list().await == [9]).await;
    assert_eq!((addresses(&ns).as_str(), world.instances()), ("100.112.1.9/32 100.112.0.1/32", vec![9]));
    assert!(std::fs::read_to_string(&hosts).unwrap().contains("100.112.0.1 db.warp\n"));
    drop(ns);
    agent.until("its end is noticed", async |agent| agent.list().await.is_empty()).await;
}

#[tokio::test]
async fn an_instance_whose_service_is_gone_ends() {
    let (world, ns) = (World::new("gone"), namespace());
    let mut agent = world.agent().await;
    agent.attach("shop/db", &ns).await.unwrap();
    agent.disconnect().await;
    {
        let mut model = world.model.lock().unwrap();
        let network = model.view.network;
        model.view = View::empty(Epoch([2; 16]), Revision(1), RunnerId(1), network);
    }
    agent.connect().await;
    agent.until("taken out", async |agent| agent.list().await.is_empty() && !ip(&ns, "link").contains("mesh0")).await;
}
