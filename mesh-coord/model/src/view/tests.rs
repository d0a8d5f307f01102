mod slices;

use mesh_proto::{Epoch, Ports, ServicePath, View};

use crate::{
    NewPurpose, State,
    testing::{World, declared, file, label, path, refused, whole},
};

/// Three deployments of one team: `api` may call `shop`'s `*-tcp`, and `shop` may call `bank`. Each service is on its
/// own runner, which has its name.
fn world() -> World {
    let mut world = World::new();
    world.apply(vec![whole("api: web cron"), whole("shop: db web-tcp"), whole("bank: vault safe")]).unwrap();
    world.trust_on("shop", &["api"], Some(&["*-tcp"]), Ports::Only([443].into())).unwrap();
    world.trust("bank", &["shop"]).unwrap();
    for service in ["api/web", "api/cron", "shop/db", "shop/web-tcp", "bank/vault"] {
        let runner = world.join(&service.replace('/', "-"));
        world.attach(runner, service);
    }
    world
}

fn view(world: &World, runner: &str) -> View {
    world.view(world.state.runner_named(runner).unwrap().id)
}

fn services(world: &World, view: &View) -> Vec<String> {
    let mut paths: Vec<String> = view
        .services()
        .map(|s| {
            let deployment = world.state.deployments[&s.deployment].record.name.clone();
            ServicePath { deployment, service: s.name.clone() }.to_string()
        })
        .collect();
    paths.sort();
    paths
}

fn runners(view: &View) -> Vec<String> {
    view.runners().map(|r| r.name.to_string()).collect()
}

#[test]
fn a_caller_s_runner_knows_the_services_that_are_opened_and_no_others() {
    let world = world();
    let view = view(&world, "api-web");
    assert_eq!(services(&world, &view), ["api/cron", "api/web", "shop/web-tcp"]);
    assert_eq!(runners(&view), ["api-web", "api-cron", "shop-web-tcp"]);
    let grant = view.grants().next().unwrap();
    assert_eq!((view.grants().count(), &grant.ports), (1, &Ports::Only([443].into())));
}

#[test]
fn a_callee_s_runner_knows_all_services_of_the_caller_s_deployment() {
    let world = world();
    let view = view(&world, "shop-web-tcp");
    assert_eq!(services(&world, &view), ["api/cron", "api/web", "bank/safe", "bank/vault", "shop/db", "shop/web-tcp"]);
    assert_eq!(runners(&view), ["api-web", "api-cron", "shop-db", "shop-web-tcp", "bank-vault"]);
}

#[test]
fn a_service_that_isn_t_opened_learns_nothing_of_the_callers() {
    let world = world();
    let view = view(&world, "shop-db");
    assert_eq!(services(&world, &view), ["bank/safe", "bank/vault", "shop/db", "shop/web-tcp"]);
    assert_eq!(runners(&view), ["shop-db", "shop-web-tcp", "bank-vault"]);
}

#[test]
fn names_and_ports_are_told_to_the_deployment_s_own_runners_only() {
    let world = world();
    let view = view(&world, "api-web");
    let named: Vec<_> = view.namings().map(|n| n.service).collect();
    let own: Vec<_> = ["api/cron", "api/web"].map(|s| world.state.service_at(&path(s)).unwrap().id).to_vec();
    assert_eq!(named, own);
}

#[test]
fn a_runner_with_nothing_on_it_knows_itself() {
    let mut world = world();
    let runner = world.join("idle");
    let view = world.view(runner);
    assert_eq!((view.records().count(), runners(&view)), (1, vec!["idle".to_owned()]));
    assert!(world.state.view(mesh_proto::RunnerId(99), Epoch([0; 16])).is_none(), "absent is not empty");
}

/// Trust across teams, because the caller was created later, has no effect on any view.
#[test]
fn a_trust_across_teams_is_in_no_view() {
    let mut world = world();
    world.trust("shop", &["evil"]).unwrap();
    world.apply(vec![file(declared("evil", Some("other"), ["x"]))]).unwrap();
    let runner = world.join("evil-x");
    world.attach(runner, "evil/x");
    let view = world.view(runner);
    assert_eq!((services(&world, &view), view.grants().count()), (vec!["evil/x".to_owned()], 0));
    let shop = label("shop");
    assert!(!world.state.affected_by(&shop).contains(&runner));
}

#[test]
fn what_an_instance_would_be_given_can_be_seen_before_one_runs() {
    let mut world = world();
    let idle = world.join("idle");
    let epoch = Epoch([0; 16]);
    let found = world.state.lookup_view(idle, &path("api/web"), epoch).unwrap();
    assert_eq!(services(&world, &found), ["api/cron", "api/web", "shop/web-tcp"]);
    assert_eq!(found.instances().filter(|i| i.runner == idle).count(), 0);
    world.attach(idle, "api/web");
    let same = |view: &View| (view.services().cloned().collect::<Vec<_>>(), view.grants().cloned().collect::<Vec<_>>());
    assert_eq!(same(&world.view(idle)), same(&found));

    let token = world.token(NewPurpose::JoinDeployments { deployments: [label("bank")].into(), uses: 1 });
    let narrow = world.join_with(token, "narrow");
    assert!(
        refused(world.state.lookup_view(narrow, &path("api/web"), epoch))
            .starts_with("Forbidden: there is no deployment `api` that `narrow` may host")
    );
    assert_eq!(
        refused(world.state.lookup_view(idle, &path("api/wbe"), epoch)),
        "NotFound: the deployment `api` has no service `wbe` | did you mean `web`?"
    );
}

#[test]
fn those_concerned_by_a_deployment_are_its_hosts_and_its_peers_hosts() {
    let world = world();
    let names = |state: &State, deployment: &str| -> Vec<String> {
        state.affected_by(&label(deployment)).into_iter().map(|r| state.runner(r).unwrap().name.to_string()).collect()
    };
    assert_eq!(names(&world.state, "bank"), ["shop-db", "shop-web-tcp", "bank-vault"]);
    assert_eq!(names(&world.state, "nowhere"), [""; 0]);
}
