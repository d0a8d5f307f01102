use mesh_proto::Ports;

use super::*;
use crate::{
    TrustChange,
    testing::{World, file, label, path, whole},
};

/// `api` may call `shop`, whose services are `db` and `web`; both run.
fn world() -> (World, Vec<InstanceId>) {
    let mut world = World::new();
    world.apply(vec![whole("shop: db web"), whole("api: grpc"), whole("ops: cron")]).unwrap();
    world.trust("shop", &["api", "ops"]).unwrap();
    let (one, two) = (world.join("one"), world.join("two"));
    let attached = [(one, "api/grpc"), (two, "api/grpc"), (two, "shop/db")];
    let instances = attached.map(|(runner, service)| world.attach(runner, service).0).into();
    (world, instances)
}

fn preview(world: &World, what: AdminCommand) -> Preview {
    let before = world.state.clone();
    let command = Command::Admin { by: world.admin.clone(), what };
    let preview = world.state.preview(&world.admin, &command, world.now, None).unwrap();
    assert_eq!(world.state, before, "nothing has changed");
    preview
}

fn remove(ports: Ports) -> AdminCommand {
    let change = TrustChange::Remove { callers: [label("api")].into(), services: None, ports };
    AdminCommand::Trust { deployment: label("shop"), change }
}

#[test]
fn a_trust_that_is_taken_back_cuts_its_pairs_those_in_use_first() {
    let (world, _) = world();
    let Preview { outcome, effect } = preview(&world, remove(Ports::All));
    assert!(matches!(outcome, Outcome::Trusted { .. }));
    let cut = |callee: &str, callees, nodes: &[&str]| Cut {
        caller: label("api"),
        callee: path(callee),
        ports: vec![],
        except: vec![],
        caller_instances: 2,
        callee_instances: callees,
        nodes: nodes.iter().map(|name| label(name)).collect(),
    };
    assert_eq!(effect.cut, [cut("shop/db", 1, &["one", "two"]), cut("shop/web", 0, &["one", "two"])]);
    assert_eq!((effect.ended, effect.unserved, effect.connections), (vec![], vec![], None));
}

fn used(world: &World, caller: &str, callee: &str, open: u64, seconds: u64) -> Used {
    let service = |text| world.state.service_at(&path(text)).unwrap().id;
    Used { caller: service(caller), callee: service(callee), open, seconds }
}

#[test]
fn what_is_in_use_of_that_is_told_and_what_stays_is_not() {
    let (world, _) = world();
    let pairs = vec![
        used(&world, "api/grpc", "shop/web", 0, 7000),
        used(&world, "api/grpc", "shop/db", 412, 2),
        used(&world, "ops/cron", "shop/db", 5, 0),
        used(&world, "shop/web", "shop/db", 9, 0),
        // A report may be older than the state.
        used(&world, "shop/db", "api/grpc", 3, 0),
    ];
    let usage = Usage { pairs, oldest: Some(40), at_removed: None };
    let what = |what| Command::Admin { by: world.admin.clone(), what };
    let preview = |command: &Command, usage: &Usage| {
        world.state.preview(&world.admin, command, world.now, Some(usage)).unwrap().effect
    };
    let trust = what(remove(Ports::All));
    let effect = preview(&trust, &usage);
    let in_use = |effect: &Effect| {
        let of = |pair: &InUse| format!("{} {} {} {}", pair.from, pair.to, pair.open, pair.used_seconds);
        effect.in_use.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(in_use(&effect), ["api/grpc shop/db 412 2", "api/grpc shop/web 0 7000"]);
    assert_eq!((effect.connections, effect.reported_seconds), (Some(412), Some(40)));
    // A runner that doesn't report may have any number of them.
    let partly = Usage { oldest: None, ..usage.clone() };
    assert_eq!(preview(&trust, &partly).connections, None);
    let delete = what(AdminCommand::Delete { deployment: label("shop"), force: true });
    assert_eq!(preview(&delete, &usage).connections, Some(426));
    let remove = what(AdminCommand::RemoveNode { name: label("two"), force: true });
    assert_eq!(preview(&remove, &usage).connections, None);
    let at_removed = Usage { at_removed: Some(77), ..usage };
    assert_eq!(preview(&remove, &at_removed).connections, Some(77));
    assert_eq!(preview(&trust, &at_removed).connections, Some(412));
}

#[test]
fn what_stays_is_not_cut() {
    let (mut world, _) = world();
    // The same right by another entry, on one port.
    world.trust_on("shop", &["api"], None, Ports::Only([443].into())).unwrap();
    let effect = preview(&world, remove(Ports::All)).effect;
    assert_eq!(effect.cut.len(), 2, "all entries of the caller go");
    let effect = preview(&world, remove(Ports::Only([443].into()))).effect;
    assert!(effect.is_empty(), "every port stays open by the other entry: {effect:?}");
}

#[test]
fn ports_that_are_left_are_named() {
    assert_eq!(lost(&Ports::All, Some(&Ports::All)), None);
    let only = |ports: &[u16]| Ports::Only(ports.iter().copied().collect());
    assert_eq!(lost(&Ports::All, None), Some((vec![], vec![])));
    assert_eq!(lost(&Ports::All, Some(&only(&[80]))), Some((vec![], vec![80])));
    assert_eq!(lost(&only(&[80, 443]), Some(&only(&[80, 90]))), Some((vec![443], vec![])));
    assert_eq!(lost(&only(&[80]), Some(&only(&[80, 90]))), None);
    assert_eq!(lost(&only(&[80]), None), Some((vec![80], vec![])));
    assert_eq!(lost(&only(&[80]), Some(&Ports::All)), None);
}

#[test]
fn a_runner_that_is_removed_ends_its_instances_and_may_leave_services_alone() {
    let (world, instances) = world();
    let effect = preview(&world, AdminCommand::RemoveNode { name: label("two"), force: true }).effect;
    let ended: Vec<_> = effect.ended.iter().map(|ended| (ended.id, ended.service.to_string(), &*ended.node)).collect();
    assert_eq!(ended, [(instances[1], "api/grpc".to_owned(), "two"), (instances[2], "shop/db".to_owned(), "two")]);
    assert_eq!(effect.unserved, [path("shop/db")], "api/grpc has another instance");
    assert_eq!(effect.cut, [], "rights stay");
    let drained = preview(&world, AdminCommand::DrainNode { name: label("two") }).effect;
    assert_eq!((drained.ended.len(), drained.unserved), (0, vec![path("shop/db")]));
}

#[test]
fn an_apply_is_previewed_with_what_it_takes_away_and_reserves_nothing() {
    let (world, instances) = world();
    let files = vec![whole("shop: web new")];
    let what = AdminCommand::Apply { files: files.clone(), dry_run: true, force: true, prune: None };
    let Preview { outcome, effect } = preview(&world, what);
    let Outcome::Planned(plan) = outcome else { panic!("{outcome:?}") };
    assert!(plan.dry_run && plan.removed() == ["shop/db"], "{plan:?}");
    assert_eq!(effect.ended.iter().map(|ended| ended.id).collect::<Vec<_>>(), [instances[2]]);
    let cut: Vec<_> = effect.cut.iter().map(|cut| (&*cut.caller, cut.callee.to_string())).collect();
    assert_eq!(cut, [("api", "shop/db".to_owned()), ("ops", "shop/db".to_owned())]);
    // Without consent to end instances, it is refused as it would be.
    let command = Command::Admin {
        by: world.admin.clone(),
        what: AdminCommand::Apply { files, dry_run: true, force: false, prune: None },
    };
    assert!(world.state.preview(&world.admin, &command, world.now, None).is_err());
}

#[test]
fn a_teams_administrator_sees_the_effect_on_the_own_team_only() {
    let (mut world, _) = world();
    let other = crate::testing::declared("lab", Some("other"), ["x"]);
    world.apply(vec![file(other)]).unwrap();
    let one = world.state.runner_named("one").unwrap().id;
    world.attach(one, "lab/x");
    let reader = Admin { team: Some(label("other")), ..world.admin.clone() };
    let command =
        Command::Admin { by: world.admin.clone(), what: AdminCommand::RemoveNode { name: label("one"), force: true } };
    let effect = world.state.preview(&reader, &command, world.now, None).unwrap().effect;
    let seen: Vec<_> = effect.ended.iter().map(|ended| ended.service.to_string()).collect();
    assert_eq!(seen, ["lab/x"]);
}
