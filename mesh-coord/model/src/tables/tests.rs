use crate::{
    Admin, AdminCommand, NewPurpose, RunnerCommand,
    testing::{World, declared, enrolment, file, label, whole},
};

fn world() -> World {
    let mut world = World::new();
    world.apply(vec![whole("shop: db app"), file(declared("bank", Some("evil"), ["vault"]))]).unwrap();
    let wide = world.join("wide");
    let token = world.token(NewPurpose::JoinTeams { teams: [label("evil")].into(), uses: 2 });
    let narrow = world.join_with(token, "narrow");
    world.attach(wide, "shop/db");
    world.attach(narrow, "bank/vault");
    world
}

const ALL: Admin = Admin::socket(0);

fn evil() -> Admin {
    Admin { team: Some(label("evil")), ..ALL }
}

#[test]
fn tables_show_everything_to_the_operator_and_a_team_s_part_to_its_administrator() {
    let world = world();
    let state = &world.state;
    let services = |reader: &Admin| -> Vec<String> {
        let rows = state.services(reader);
        rows.iter().map(|r| format!("{}/{} {} {}", r.deployment, r.service, r.team, r.instances.len())).collect()
    };
    assert_eq!(services(&ALL), ["bank/vault evil 1", "shop/app default 0", "shop/db default 1"]);
    assert_eq!(services(&evil()), ["bank/vault evil 1"]);
    let deployments = |reader: &Admin| -> Vec<(String, usize, usize)> {
        state.deployments(reader).iter().map(|r| (r.deployment.to_string(), r.services, r.instances)).collect()
    };
    assert_eq!(deployments(&ALL), [("bank".to_owned(), 1, 1), ("shop".to_owned(), 2, 1)]);
    assert_eq!(deployments(&evil()), [("bank".to_owned(), 1, 1)]);
    let instances = |reader: &Admin| -> Vec<String> {
        state.instances(reader).iter().map(|r| format!("{} {} {}", r.id, r.service, r.runner)).collect()
    };
    assert_eq!(instances(&ALL), ["i-2 vault narrow", "i-1 db wide"]);
    assert_eq!(instances(&evil()), ["i-2 vault narrow"]);
    let nodes = |reader: &Admin| -> Vec<String> {
        state.nodes(reader).iter().map(|r| format!("{} {} {}", r.name, r.scope, r.instances)).collect()
    };
    assert_eq!(nodes(&ALL), ["narrow team evil 1", "wide any deployment 1"]);
    assert_eq!(nodes(&evil()), ["narrow team evil 1"]);
    let tokens = |reader: &Admin| -> Vec<String> {
        state
            .tokens(reader, world.now)
            .iter()
            .map(|r| format!("{} {} {}: {}", r.id, r.kind, r.scope, r.state))
            .collect()
    };
    assert_eq!(tokens(&ALL), ["t-1 join any deployment: used up", "t-2 join team evil: good"]);
    assert_eq!(tokens(&evil()), ["t-2 join team evil: good"]);
    let audit: Vec<String> =
        state.audit(&evil(), 10).into_iter().map(|e| format!("{} {}", e.action, e.detail)).collect();
    assert_eq!(
        audit,
        [
            "host r-2 `narrow` begins to host `bank/vault`",
            "enrol r-2 `narrow` (provider aws)",
            "token-create t-2: join, team evil",
            "apply bank (new) from bank.toml: 1 service added, 0 changed, 0 removed",
        ],
        "theirs, and nothing of others"
    );
    assert_eq!(state.audit(&ALL, 2).len(), 2);
}

#[test]
fn one_by_its_name_is_as_in_the_list_and_only_for_readers_of_that() {
    let world = world();
    let state = &world.state;
    for reader in [ALL, evil()] {
        for name in ["bank", "shop", "narrow", "wide"].map(label) {
            let deployment = state.deployments(&reader).into_iter().find(|row| row.deployment == name);
            assert_eq!(state.deployment_for(&reader, &name), deployment);
            let services: Vec<_> = state.services(&reader).into_iter().filter(|row| row.deployment == name).collect();
            assert_eq!(state.services_for(&reader, &name), services);
            let node = state.nodes(&reader).into_iter().find(|row| row.name == name);
            assert_eq!(state.node_for(&reader, &name), node);
        }
    }
}

#[test]
fn a_wide_runner_that_hosts_a_team_s_service_is_seen_by_the_team() {
    let mut world = world();
    let wide = world.state.runner_named("wide").unwrap().id;
    world.attach(wide, "bank/vault");
    let seen = |world: &World| -> Vec<String> {
        world.state.nodes(&evil()).iter().map(|r| format!("{}: {}, {}", r.name, r.scope, r.instances)).collect()
    };
    assert_eq!(seen(&world), ["narrow: team evil, 1", "wide: any deployment, 1"], "what others have there isn't told");
    // It doesn't reveal which other teams or deployments there are.
    world.apply(vec![file(declared("plans", Some("secret-project"), ["x"]))]).unwrap();
    let teams = [label("alice"), label("evil"), label("secret-project")].into();
    let token = world.token(NewPurpose::JoinTeams { teams, uses: 1 });
    let shared = world.join_with(token, "shared");
    let token =
        world.token(NewPurpose::JoinDeployments { deployments: [label("bank"), label("plans")].into(), uses: 1 });
    let some = world.join_with(token, "some");
    for runner in [shared, some] {
        world.attach(runner, "bank/vault");
        world.attach(runner, "plans/x");
    }
    assert_eq!(
        seen(&world)[1..],
        ["shared: team evil, among others, 1", "some: deployment bank, among others, 1", "wide: any deployment, 1"]
    );
}

#[test]
fn removed_runners_stand_last_and_tokens_tell_their_state() {
    let mut world = world();
    world.order(AdminCommand::RemoveNode { name: label("narrow"), force: true }).unwrap();
    let nodes = world.state.nodes(&ALL);
    assert_eq!((&*nodes[1].name, nodes[1].removed), ("narrow", Some(world.now)));
    let token = world.token(NewPurpose::Admin { team: Some(label("evil")) });
    world.token(NewPurpose::Admin { team: None });
    world.order(AdminCommand::RevokeToken { token, with_nodes: false }).unwrap();
    world.now = world.now.plus(3600);
    let rows = world.state.tokens(&ALL, world.now);
    let rows: Vec<_> = rows.iter().map(|r| (&*r.kind, &*r.scope, r.uses_left, &*r.state, r.runners.len())).collect();
    assert_eq!(
        rows,
        [
            ("join", "any deployment", Some(0), "expired", 1),
            ("join", "team evil", Some(1), "expired", 0),
            ("admin", "team evil", None, "revoked", 0),
            ("admin", "everything", None, "expired", 0),
        ]
    );
}

#[test]
fn secrets_are_in_no_row() {
    let mut world = world();
    let token = world.token(NewPurpose::JoinAny { uses: 1 });
    world.run(&crate::Command::Enrol(enrolment(token, "r9"))).unwrap();
    let runner = world.state.runner_named("r9").unwrap().id;
    let endpoints = vec!["192.0.2.1:1".parse().unwrap()];
    world.request(runner, RunnerCommand::Endpoints { endpoints, outside: crate::record::Outside::default() }).unwrap();
    let text = serde_json::to_string(&(
        world.state.nodes(&ALL),
        world.state.tokens(&ALL, world.now),
        world.state.audit(&ALL, 100),
    ));
    let hash = String::from(crate::testing::SECRET.hash());
    assert!(!text.unwrap().contains(&hash));
    assert!(!format!("{:?}", world.state).contains(&hash));
}
