use mesh_proto::{Ports, view::Ist};

use crate::{
    Admin, AdminCommand, Outcome, RunnerCommand, State,
    declare::Declaration,
    limits,
    testing::{World, declared, file, label, path, refused, single, whole},
};

fn team(name: &str) -> Admin {
    Admin { team: Some(label(name)), ..Admin::socket(0) }
}

/// In a range of 253 addresses, with freed ones in quarantine for ten minutes.
#[test]
fn no_team_and_no_deployment_takes_the_last_addresses() {
    let mut world = World::with_range("10.9.0.0/24");
    world
        .apply(vec![
            file(declared("shop", Some("alice"), ["db"])),
            file(declared("a", Some("mallory"), ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"])),
            file(declared("b", Some("mallory"), ["s0", "s1", "s2", "s3"])),
        ])
        .unwrap();
    let (greedy, honest) = (world.join("greedy"), world.join("honest"));
    let attach = |world: &mut World, runner, service: &str| {
        world.request(runner, RunnerCommand::Attach { service: path(service), client: false, release: None })
    };
    for service in ["a/s0", "a/s1", "a/s2", "a/s3", "a/s4", "a/s5", "a/s6", "a/s7"] {
        while attach(&mut world, greedy, service).is_ok() {}
    }
    assert!(refused(attach(&mut world, greedy, "a/s7")).contains("the places left are for others"));
    for _ in 0..2 {
        attach(&mut world, honest, "b/s0").unwrap();
    }
    // Attaching and detaching in turn, which fills the quarantine, gets no more.
    while let Ok(Outcome::Attached { instance, .. }) = attach(&mut world, greedy, "b/s1") {
        world.detach(greedy, instance);
    }
    for _ in 0..10 {
        attach(&mut world, honest, "shop/db").unwrap();
    }
}

#[test]
fn a_team_that_is_alone_has_all_addresses() {
    let mut world = World::with_range("10.9.0.0/24");
    world.apply(vec![whole("a: s0 s1 s2 s3 s4 s5 s6 s7")]).unwrap();
    let mut attached = 0;
    for runner in ["r1", "r2"].map(|name| world.join(name)) {
        for n in 0..8 {
            let wish = RunnerCommand::Attach { service: path(&format!("a/s{n}")), client: false, release: None };
            while world.request(runner, wish.clone()).is_ok() {
                attached += 1;
            }
        }
    }
    assert_eq!(attached, 245);
}

#[test]
fn one_teams_deployments_and_services_leave_places_for_others() {
    let mut world = World::new();
    world.admin = team("mallory");
    let mut made = 0;
    let refusal = loop {
        let some = (made..made + 300).map(|n| file(declared(&format!("m{n}"), Some("mallory"), ["x"]))).collect();
        match world.apply(some) {
            Ok(_) => made += 300,
            Err(refusal) => break refusal,
        }
    };
    assert!(refusal.to_string().contains("has 4800 deployments"), "{refusal}");
    let mut services = made;
    for n in 0..20 {
        let names: Vec<String> = (0..4096).map(|n| format!("s{n}")).collect();
        match world.apply(vec![file(declared(&format!("m{n}"), Some("mallory"), names.iter().map(|s| &**s)))]) {
            Ok(_) => services += 4095,
            Err(refusal) => {
                assert!(refusal.to_string().contains("services, and the places left are for others"), "{refusal}");
                break;
            }
        }
    }
    assert!(services < limits::ALL_SERVICES / 2);
    world.admin = team("alice");
    world.apply((0..100).map(|n| file(declared(&format!("a{n}"), Some("alice"), ["x"]))).collect()).unwrap();
    // The operator is not limited by shares.
    world.admin = Admin::socket(0);
    for n in 0..5 {
        let some = (0..1000).map(|m| whole(&format!("o{n}-{m}: x"))).collect();
        world.apply(some).unwrap();
    }
}

#[test]
fn one_teams_trust_lists_leave_places_for_others() {
    let mut world = World::new();
    world.admin = team("mallory");
    let callers: Vec<String> = (0..1000).map(|n| format!("c{n}")).collect();
    let callers: Vec<&str> = callers.iter().map(|c| &**c).collect();
    let mut refusal = None;
    for n in 0..60 {
        world.apply(vec![file(declared(&format!("m{n}"), Some("mallory"), ["x"]))]).unwrap();
        if let Err(refused) = world.trust_on(&format!("m{n}"), &callers, Some(&["x"]), Ports::All) {
            refusal = Some(refused.to_string());
            break;
        }
    }
    assert!(refusal.unwrap().contains("entries in trust lists, and the places left are for others"));
    world.admin = team("alice");
    world.apply(vec![file(declared("shop", Some("alice"), ["x"]))]).unwrap();
    world.trust("shop", &callers[..50]).unwrap();
}

#[test]
fn one_teams_names_leave_room_for_others() {
    let mut world = World::new();
    world.admin = team("mallory");
    // Services with as many aliases, variables and host names as allowed, of about 60 bytes each.
    let fat = |name: &str, whose: &str| {
        let mut deployment = declared(name, Some(whose), ["s0", "s1", "s2", "s3"]);
        for (service, says) in &mut deployment.services {
            let all =
                |kind: char| (0..limits::NAMES).map(|n| format!("{service}{kind}{n}{}", "n".repeat(50))).collect();
            says.aliases = all('a');
            says.ist = vec![Ist { service: service.clone(), variables: all('v'), hostnames: all('h') }];
        }
        file(deployment)
    };
    let mut refusal = None;
    for n in 0..200 {
        if let Err(refused) = world.apply(vec![fat(&format!("m{n}"), "mallory")]) {
            refusal = Some((n, refused.to_string()));
            break;
        }
    }
    let (made, refusal) = refusal.unwrap();
    assert!(refusal.contains("bytes of names, and the places left are for others"), "{refusal}");
    // What is declared may be declared again, and what was given up becomes free.
    world.apply(vec![fat("m0", "mallory")]).unwrap();
    world
        .apply(vec![file(declared("m0", Some("mallory"), ["x"])), file(declared("m1", Some("mallory"), ["x"]))])
        .unwrap();
    world.apply(vec![fat("m0", "mallory")]).unwrap();
    let more = ["m1", "new", "newer"];
    refused(world.apply(more.map(|name| fat(name, "mallory")).into()));
    // One service at a time is no way around it.
    let mut one_by_one = more.into_iter().flat_map(|name| {
        let Declaration::Whole(deployment) = fat(name, "mallory").declaration else { panic!() };
        deployment.services.into_iter().map(move |(service, says)| single(&format!("{name}/{service}"), says))
    });
    assert!(one_by_one.any(|file| world.apply(vec![file]).is_err()));

    world.admin = team("alice");
    for n in 0..5 {
        world.apply(vec![fat(&format!("a{n}"), "alice")]).unwrap();
    }
    // The operator is not limited by shares.
    world.admin = Admin::socket(0);
    world.apply((0..40).map(|n| fat(&format!("o{n}"), "mallory")).collect()).unwrap();
    // The counts are a function of the records.
    let loaded = State::load(world.state.revision(), world.state.records()).unwrap();
    assert_eq!(loaded, world.state);
    for n in 0..made {
        world.order(AdminCommand::Delete { deployment: label(&format!("m{n}")), force: true }).unwrap();
    }
    world.admin = team("mallory");
    world.apply(vec![fat("m0", "mallory")]).unwrap();
}
