//! Connections that runners try on demand.

use mesh_proto::{
    Abilities, Ability,
    message::{Down, Step, Tried, Up},
};
use serde_json::json;

use crate::testing::{Agent, World, talk};

async fn agent(world: &World, name: &str, can: Abilities) -> Agent {
    let credential = world.runner(name).await;
    let mut agent = world.connect(&credential).await.unwrap();
    agent.can = can;
    agent.hello(None, vec![]).await;
    agent.news().await;
    agent
}

#[tokio::test]
async fn an_able_runner_of_the_caller_tries_it_and_its_answer_is_told() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["app", "db"]).await;
    let what = json!({ "from": "shop/app", "to": "shop/db", "port": 5432 });
    let (status, said) = talk(&world, "POST", "/v1/admin/probe", None, &[], Some(&what)).await;
    assert_eq!(status, 409, "there is no instance: {said}");
    let mut able = agent(&world, "able", Abilities::NONE.with(Ability::Probes)).await;
    able.attach("shop/app").await;
    let tried = async {
        loop {
            if let Down::Probe { number, caller, callee, port } = able.hear().await.unwrap() {
                assert_eq!((caller.to_string(), callee.to_string(), port), ("shop/app".into(), "shop/db".into(), 5432));
                let step = Step { step: "probe".into(), ok: true, code: "answered".into(), detail: "it was".into() };
                let result = Ok(Tried { allowed: true, steps: vec![step] });
                // An answer that nothing has asked for is no harm.
                able.say(&Up::Probed { number: 99, result: result.clone() }).await;
                break able.say(&Up::Probed { number, result }).await;
            }
        }
    };
    let (answer, ()) = tokio::join!(talk(&world, "POST", "/v1/admin/probe", None, &[], Some(&what)), tried);
    assert_eq!((answer.0, &answer.1["node"], &answer.1["verdict"]), (200, &json!("able"), &json!("allow")));
    assert_eq!(answer.1["steps"][0]["code"], "answered");
}

#[tokio::test]
async fn an_agent_that_does_not_know_how_is_not_asked() {
    let world = World::new().await;
    world.deploy("shop", "acme", &["app", "db"]).await;
    let mut old = agent(&world, "old", Abilities::NONE).await;
    old.attach("shop/app").await;
    let what = json!({ "from": "shop/app", "to": "shop/db", "port": 5432 });
    let (status, said) = talk(&world, "POST", "/v1/admin/probe", None, &[], Some(&what)).await;
    assert!(status == 409 && said["error"].as_str().unwrap().contains("too old"), "{status} {said}");
}
