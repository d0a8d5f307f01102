use mesh_proto::{Ports, RunnerId, message::Answer};

use crate::{
    NewPurpose, Refusal, RunnerCommand,
    declare::Deployment,
    testing::{World, declared, file, label, path, refused, whole},
};

fn world() -> (World, RunnerId) {
    let mut world = World::new();
    world
        .apply(vec![whole("shop: db app"), whole("api: web"), file(declared("bank", Some("evil"), ["vault"]))])
        .unwrap();
    let runner = world.join("r1");
    world.attach(runner, "shop/db");
    (world, runner)
}

/// The verdict, and each step as a line.
fn why(world: &World, asker: RunnerId, caller: &str, callee: &str, port: u16) -> Result<(bool, Vec<String>), Refusal> {
    match world.state.why(asker, &path(caller), &path(callee), port)? {
        Answer::Why { allowed, steps } => {
            let line =
                |s: mesh_proto::message::Step| format!("{} {}: {}", if s.ok { "+" } else { "-" }, s.step, s.detail);
            Ok((allowed, steps.into_iter().map(line).collect()))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_step_of_an_allowed_connection_is_told() {
    let (mut world, runner) = world();
    assert_eq!(
        why(&world, runner, "shop/app", "shop/db", 5432).unwrap(),
        (
            true,
            vec![
                "+ names: shop/app is 100.112.0.3, and shop/db is 100.112.0.4".to_owned(),
                "+ rule: both are services of shop, which may always call each other".to_owned(),
                "+ runner: shop/db runs on r1".to_owned(),
                "+ verdict: shop/app may connect to shop/db on port 5432".to_owned(),
            ]
        )
    );
    world.trust_on("shop", &["api"], Some(&["db"]), Ports::Only([1, 5432].into())).unwrap();
    let (allowed, steps) = why(&world, runner, "api/web", "shop/db", 5432).unwrap();
    assert_eq!((allowed, &*steps[1]), (true, "+ rule: shop trusts api with `db` on ports 1 and 5432"));
}

#[test]
fn what_stands_in_the_way_is_told_with_the_command_that_would_move_it() {
    let (mut world, runner) = world();
    assert_eq!(
        why(&world, runner, "api/web", "shop/db", 5432).unwrap(),
        (false, vec![
            "+ names: api/web is 100.112.0.1, and shop/db is declared".to_owned(),
            "- rule: shop does not let api call `db`: an administrator of shop can let it, with `mesh-coord trust api --app shop --service db --port 5432`".to_owned(),
            "- verdict: api/web may not connect to shop/db on port 5432: no trust".to_owned(),
        ])
    );
    world.trust_on("shop", &["api"], None, Ports::Only([80].into())).unwrap();
    let (_, steps) = why(&world, runner, "api/web", "shop/db", 5432).unwrap();
    assert_eq!(
        steps[1],
        "- rule: shop trusts api with `db` on port 80 only: an administrator of shop can let it, with `mesh-coord trust api --app shop --service db --port 5432`"
    );
    let (_, steps) = why(&world, runner, "shop/db", "api/web", 1).unwrap();
    assert_eq!(
        steps[1],
        "- rule: api does not let shop call `web` (api may call shop/db, but trust goes one way): an administrator of api can let it, with `mesh-coord trust shop --app api --service web --port 1`"
    );
    let (allowed, steps) = why(&world, runner, "bank/vault", "shop/db", 1).unwrap();
    assert_eq!(
        (allowed, &*steps[1], &*steps[2]),
        (
            false,
            "- rule: bank and shop belong to different teams, which never reach each other",
            "- verdict: bank/vault may not connect to shop/db on port 1: another team"
        )
    );
}

#[test]
fn where_a_file_rules_the_file_would_have_to_change() {
    let (mut world, runner) = world();
    let ruled = Deployment { trust: Some(vec![]), ..declared("shop", None, ["db", "app"]) };
    world.apply(vec![file(ruled)]).unwrap();
    let (_, steps) = why(&world, runner, "api/web", "shop/db", 5432).unwrap();
    assert_eq!(
        steps[1],
        "- rule: shop does not let api call `db`: the `trust` key of shop's file rules who may, and would have to name api with `db` on port 5432"
    );
}

#[test]
fn a_service_without_a_live_instance_is_named() {
    let (mut world, runner) = world();
    let (allowed, steps) = why(&world, runner, "shop/db", "shop/app", 80).unwrap();
    assert_eq!(
        (allowed, &*steps[2], &*steps[3]),
        (
            false,
            "- runner: no live instance of shop/app runs anywhere: `mesh-node attach shop/app --netns PATH` on a runner that may host it adds one",
            "- verdict: shop/db may connect to shop/app on port 80, but nothing there would answer"
        )
    );
    world.request(runner, RunnerCommand::Attach { service: path("shop/app"), client: true, release: None }).unwrap();
    assert!(!why(&world, runner, "shop/db", "shop/app", 80).unwrap().0, "one that only calls doesn't answer");
}

/// The runner may host one end, and learns of the other where a grant connects the two, as in its view.
#[test]
fn a_runner_is_answered_within_its_scope() {
    let (mut world, _) = world();
    let token = world.token(NewPurpose::JoinDeployments { deployments: [label("api")].into(), uses: 1 });
    let narrow = world.join_with(token, "r2");
    world.trust_on("shop", &["api"], Some(&["db"]), Ports::Only([5432].into())).unwrap();
    assert!(why(&world, narrow, "api/web", "shop/db", 5432).unwrap().0);
    let (allowed, steps) = why(&world, narrow, "api/web", "shop/db", 80).unwrap();
    assert!(!allowed && steps.iter().all(|s| !s.contains("100.112.0.4") && !s.contains("r1")), "{steps:?}");
    assert!(!why(&world, narrow, "shop/db", "api/web", 80).unwrap().0, "the view holds what may be called");
    assert!(refused(why(&world, narrow, "api/web", "shop/app", 80)).starts_with("Forbidden"), "and no more");

    // It may host neither: an existing service and an unknown one get the same answer.
    let refusal = |world: &World, caller: &str, callee: &str| refused(why(world, narrow, caller, callee, 80));
    let there = refusal(&world, "shop/app", "shop/db");
    assert_eq!(
        there,
        "Forbidden: there is no deployment `shop` that `r2` may host: its token's scope is deployment api | if it \
         exists, make a token for it (`mesh-coord token create --deployment shop`) and join with that as a new runner"
    );
    assert_eq!(refusal(&world, "shop/app", "shop/nothing"), there);
    assert_eq!(refusal(&world, "nope/app", "shop/db"), there.replace("shop", "nope"));
    assert_eq!(
        refusal(&world, "api/wev", "shop/db"),
        "NotFound: the deployment `api` has no service `wev` | did you mean `web`?"
    );
}

/// An existing service elsewhere and an unknown one get the same answer in both directions, without addresses.
#[test]
fn a_runner_learns_nothing_of_other_teams() {
    let (mut world, _) = world();
    let token = world.token(NewPurpose::JoinTeams { teams: [label("evil")].into(), uses: 1 });
    let evil = world.join_with(token, "r2");
    let refusal = |caller: &str, callee: &str| refused(why(&world, evil, caller, callee, 80));
    assert_eq!(
        refusal("bank/vault", "shop/db"),
        "Forbidden: there is no service `shop/db` that `r2` may know of: its token's scope is team evil, and no trust \
         connects that service with `bank` | if both are of one team, `mesh-coord trust bank --app shop` lets bank call shop"
    );
    assert_eq!(refusal("bank/vault", "shop/nope"), refusal("bank/vault", "shop/db").replace("shop/db", "shop/nope"));
    assert_eq!(refusal("bank/vault", "nope/db"), refusal("bank/vault", "shop/db").replace("shop", "nope"));
    assert_eq!(refusal("shop/nope", "bank/vault"), refusal("shop/db", "bank/vault").replace("shop/db", "shop/nope"));
    assert_eq!(refusal("nope/db", "bank/vault"), refusal("shop/db", "bank/vault").replace("shop", "nope"));
}

#[test]
fn an_administrator_asks_about_own_deployments_without_a_runner() {
    let (mut world, _) = world();
    let why = |world: &World, reader: &crate::Admin, caller: &str, callee: &str| {
        world.state.why_for(reader, &path(caller), &path(callee), 5432).map(|why| (why.allowed, why.steps))
    };
    let (allowed, steps) = why(&world, &world.admin, "api/web", "shop/db").unwrap();
    assert!(!allowed && steps[0].detail.ends_with("shop/db is 100.112.0.4"), "nothing is kept back: {steps:?}");
    world.trust("shop", &["api"]).unwrap();
    assert!(why(&world, &world.admin, "api/web", "shop/db").unwrap().0);
    let only = |team: &str| crate::Admin { team: Some(label(team)), ..world.admin.clone() };
    assert!(why(&world, &only("default"), "api/web", "shop/db").unwrap().0);
    let (there, not_there) = (
        why(&world, &only("default"), "shop/db", "bank/vault"),
        why(&world, &only("default"), "shop/db", "bonk/vault"),
    );
    assert_eq!(refused(there).replace("bank", "bonk"), refused(not_there), "another team's is as good as none");
    assert!(why(&world, &only("evil"), "shop/app", "shop/db").is_err());
}
