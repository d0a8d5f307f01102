use crate::{
    Admin, AuditQuery, Command, NewPurpose, RunnerCommand, limits,
    record::Verdict,
    testing::{World, declared, file, label, whole},
};

const ALL: Admin = Admin::socket(0);

fn team(name: &str) -> Admin {
    Admin { team: Some(label(name)), ..ALL }
}

fn toggle(world: &mut World, name: &str, team: Option<&str>, times: usize) {
    for n in 0..times {
        world.now = world.now.plus(1);
        let service = if n % 2 == 0 { "db" } else { "app" };
        world.apply(vec![file(declared(name, team, [service]))]).unwrap();
    }
}

#[test]
fn the_audit_is_newest_first_and_keeps_the_last_ten_thousand() {
    let mut world = World::new();
    toggle(&mut world, "shop", None, 10_003);
    let entries = world.state.audit(&ALL, usize::MAX);
    assert_eq!((entries.len(), entries[0].number, entries[9_999].number), (10_000, 10_003, 4));
    assert_eq!(entries[0].at, world.now);
}

#[test]
fn no_team_and_no_runner_washes_out_what_others_did() {
    let mut world = World::new();
    toggle(&mut world, "shop", Some("acme"), 30);
    let runner = world.join("r1");
    world.attach(runner, "shop/app");
    let (quiet, loud) = (world.join("quiet"), world.join("loud"));
    world.attach(quiet, "shop/app");
    let operators = |world: &World| {
        let own = |e: &crate::record::Audit| e.by_team.is_none() && e.runner.is_none();
        world.state.audit(&ALL, usize::MAX).into_iter().filter(own).count()
    };
    let before = operators(&world);
    world.admin = team("mallory");
    toggle(&mut world, "mal", Some("mallory"), 11_000);
    assert_eq!(operators(&world), before, "each makes room for its own");
    assert_eq!(world.state.audit(&team("mallory"), usize::MAX).len(), limits::AUDIT - before);

    // A runner that begins to host ever more services is noted a limited number of times an hour.
    world.admin = ALL;
    let services: Vec<String> = (0..120).map(|n| format!("s{n}")).collect();
    world.apply(vec![file(declared("many", None, services.iter().map(|s| &**s)))]).unwrap();
    for service in &services {
        let (instance, _) = world.attach(loud, &format!("many/{service}"));
        world.detach(loud, instance);
    }
    let hosting = |runner| {
        world
            .state
            .audit(&ALL, usize::MAX)
            .into_iter()
            .filter(|e| e.action == "host" && e.runner == Some(runner))
            .count()
    };
    assert_eq!((hosting(quiet), hosting(runner), hosting(loud)), (1, 1, limits::HOSTING_NOTED));
}

#[test]
fn a_runner_that_begins_to_host_a_service_is_noted_once() {
    let mut world = World::new();
    world.apply(vec![file(declared("shop", Some("acme"), ["db", "app"]))]).unwrap();
    let runner = world.join("r1");
    for _ in 0..3 {
        let (instance, _) = world.attach(runner, "shop/db");
        world.attach(runner, "shop/db");
        world.detach(runner, instance);
    }
    let client = RunnerCommand::Attach { service: "shop/app".parse().unwrap(), client: true, release: None };
    world.request(runner, client).unwrap();
    let entries: Vec<_> = world.state.audit(&team("acme"), 10).into_iter().filter(|e| e.action == "host").collect();
    assert_eq!(entries.len(), 1, "a client draws nothing");
    assert_eq!(
        (&*entries[0].detail, entries[0].object.as_deref(), entries[0].by.to_string()),
        ("r-1 `r1` begins to host `shop/db`", Some("shop/db"), "runner r-1".to_owned())
    );
}

#[test]
fn what_is_refused_is_noted_as_such_and_bounded() {
    let mut world = World::new();
    world.token(NewPurpose::JoinAny { uses: 1 });
    let refused = |by: Admin, n: usize| Command::Refused {
        by,
        action: "node-remove".to_owned(),
        detail: format!("team `mallory` has no runner `r{n}`"),
    };
    for _ in 0..3 {
        world.run(&refused(team("mallory"), 1)).unwrap();
    }
    let entries = world.state.audit(&team("mallory"), 10);
    assert_eq!((entries.len(), entries[0].result), (1, Verdict::Refused), "the same once an hour");
    assert!(world.state.audit(&team("alice"), 10).is_empty());
    for hour in 0..30 {
        world.now = world.now.plus(3600);
        for n in 0..100 {
            world.run(&refused(team("mallory"), hour * 100 + n)).unwrap();
        }
    }
    world.run(&refused(ALL, 1)).unwrap();
    let entries = world.state.audit(&ALL, usize::MAX);
    let number = entries.iter().filter(|e| e.result == Verdict::Refused).count();
    assert_eq!(number, limits::AUDIT_REFUSED);
    assert_eq!((entries[0].by_team.as_ref(), &*entries.last().unwrap().action), (None, "token-create"));
}

#[test]
fn a_teams_administrators_see_what_others_do_with_what_is_theirs() {
    let mut world = World::new();
    world.apply(vec![file(declared("shop", Some("acme"), ["db"])), whole("other: x")]).unwrap();
    world.order(crate::AdminCommand::Delete { deployment: label("shop"), force: false }).unwrap();
    world.order(crate::AdminCommand::Delete { deployment: label("other"), force: false }).unwrap();
    let seen: Vec<_> =
        world.state.audit(&team("acme"), 10).into_iter().map(|e| (e.action, e.object.unwrap())).collect();
    assert_eq!(seen, [("delete".to_owned(), "shop".to_owned()), ("apply".to_owned(), "shop".to_owned())]);
}

#[test]
fn entries_are_found_by_actor_action_object_result_and_time_page_by_page() {
    let mut world = World::new();
    toggle(&mut world, "shop", None, 3);
    toggle(&mut world, "billing", None, 2);
    let delete = crate::AdminCommand::Delete { deployment: label("nosuch"), force: false };
    let what = Command::Admin { by: world.admin.clone(), what: delete };
    let refusal = world.run(&what).unwrap_err().to_string();
    let by = world.admin.clone();
    world.run(&Command::Refused { by, action: "delete".to_owned(), detail: refusal }).unwrap();
    let found = |filter: AuditQuery| {
        let entries = world.state.audit_of(&ALL, &AuditQuery { limit: Some(2), ..filter });
        entries.into_iter().map(|entry| entry.number).collect::<Vec<_>>()
    };
    let all = AuditQuery::default;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found(all()), [6, 5]);
    assert_eq!(found(AuditQuery { before: Some(5), ..all() }), [4, 3]);
    assert_eq!(found(AuditQuery { before: Some(0), ..all() }), [0; 0]);
    assert_eq!(found(AuditQuery { object: text("shop"), ..all() }), [3, 2]);
    assert_eq!(found(AuditQuery { result: Some(Verdict::Refused), ..all() }), [6]);
    assert_eq!(found(AuditQuery { action: text("delete"), ..all() }), [6]);
    assert_eq!(found(AuditQuery { since: Some(world.now), object: text("billing"), ..all() }), [5]);
    for actor in ["uid 0", "0"] {
        assert_eq!(found(AuditQuery { by: text(actor), ..all() }), [6, 5], "{actor}");
    }
    assert_eq!(found(AuditQuery { by: text("t-1"), ..all() }), [0; 0]);
}

#[test]
fn a_filter_shows_a_team_no_more_than_its_own() {
    let mut world = World::new();
    toggle(&mut world, "shop", Some("acme"), 1);
    toggle(&mut world, "lab", Some("other"), 1);
    let filter = AuditQuery { object: Some("lab".to_owned()), ..AuditQuery::default() };
    assert_eq!(world.state.audit_of(&team("acme"), &filter), []);
    assert_eq!(world.state.audit_of(&team("other"), &filter).len(), 1);
}
