use std::collections::BTreeSet;

use mesh_proto::{Ports, RunnerId};

use crate::{
    Admin, AdminCommand, Command, Outcome, Refusal, TrustChange,
    declare::Trust,
    limits,
    testing::{World, declared, file, label, refused, trusting, whole},
    work,
};

/// The lines that the command prints.
fn told(outcome: Result<Outcome, Refusal>) -> Vec<String> {
    match outcome.unwrap() {
        Outcome::Trusted { directions, .. } => directions.iter().map(|d| d.sentence()).collect(),
        other => panic!("{other:?}"),
    }
}

fn world() -> World {
    let mut world = World::new();
    world.apply(vec![whole("shop: db web-tcp"), whole("api: web"), whole("ops: cron")]).unwrap();
    world
}

fn remove(world: &mut World, callers: &[&str], services: Option<&[&str]>, ports: Ports) -> Result<Outcome, Refusal> {
    let callers: BTreeSet<_> = callers.iter().map(|c| label(c)).collect();
    let services = services.map(|s| s.iter().map(|p| p.parse().unwrap()).collect());
    let change = TrustChange::Remove { callers, services, ports };
    world.order(AdminCommand::Trust { deployment: label("shop"), change })
}

fn clear(world: &mut World) -> Result<Outcome, Refusal> {
    world.order(AdminCommand::Trust { deployment: label("shop"), change: TrustChange::Clear })
}

#[test]
fn both_directions_are_told() {
    let mut world = world();
    assert_eq!(told(world.trust("shop", &["api"])), ["api may now call shop; shop may not call api"]);
    assert_eq!(told(world.trust("shop", &["api"])), ["api may call shop; shop may not call api"], "as before");
    assert_eq!(told(world.trust("api", &["shop"])), ["shop may now call api; api may call shop"]);
    assert_eq!(
        told(world.trust("shop", &["ops", "later"])),
        [
            "later may call shop as soon as there is a deployment later; shop may not call later",
            "ops may now call shop; shop may not call ops"
        ]
    );
    assert_eq!(
        told(remove(&mut world, &["api"], None, Ports::All)),
        ["api may no longer call shop; shop may call api"]
    );
    assert_eq!(
        told(clear(&mut world)),
        [
            "later may no longer call shop; shop may not call later",
            "ops may no longer call shop; shop may not call ops"
        ]
    );
    assert!(told(clear(&mut world)).is_empty());
}

#[test]
fn what_a_trust_is_limited_to_is_told() {
    let mut world = world();
    assert_eq!(
        told(world.trust_on("shop", &["api"], Some(&["*-tcp", "db"]), Ports::Only([80, 443].into()))),
        ["api may now call shop (`*-tcp` and `db` on ports 80 and 443); shop may not call api"]
    );
    assert_eq!(
        told(world.trust_on("shop", &["ops"], None, Ports::Only([80].into()))),
        ["ops may now call shop (all services on port 80); shop may not call ops"]
    );
    assert_eq!(told(world.trust("shop", &["ops"])), ["ops may now call shop; shop may not call ops"], "and now wholly");
    let mut exposing = declared("shop", None, ["db", "web-tcp"]);
    exposing.expose = Some(vec!["*-tcp".parse().unwrap()]);
    let plan = world.apply(vec![file(exposing)]).unwrap();
    let sentences: Vec<String> = plan.deployments[0].directions.iter().map(|d| d.sentence()).collect();
    assert_eq!(sentences, ["ops may now call shop (`*-tcp` on port 80 and `*-tcp`); shop may not call ops"]);
}

#[test]
fn an_entry_adds_to_those_that_stand_and_is_removed_by_what_it_says() {
    let mut world = world();
    world.trust_on("shop", &["api"], Some(&["db"]), Ports::Only([5432].into())).unwrap();
    world.trust_on("shop", &["api"], Some(&["web-tcp"]), Ports::All).unwrap();
    assert_eq!(world.state.deployment_named("shop").unwrap().trust.len(), 2);
    assert_eq!(
        refused(remove(&mut world, &["api"], Some(&["db"]), Ports::All)),
        "NotFound: `shop` has no such trust in `api`: it trusts it with `db` on port 5432 and `web-tcp` | `mesh-coord \
         trust --app shop` lists who may call it"
    );
    remove(&mut world, &["api"], Some(&["db"]), Ports::Only([5432].into())).unwrap();
    let left = Trust { services: Some(vec!["web-tcp".parse().unwrap()]), ..trusting("api") };
    assert_eq!(world.state.deployment_named("shop").unwrap().trust, [left]);
    remove(&mut world, &["api"], None, Ports::All).unwrap();
    assert_eq!(
        refused(remove(&mut world, &["api"], None, Ports::All)),
        "NotFound: `shop` has no such trust in `api`: it has none at all | `mesh-coord trust --app shop` lists who may \
         call it"
    );
}

#[test]
fn what_can_t_be_trusted_is_refused() {
    let mut world = world();
    world.apply(vec![file(declared("bank", Some("evil"), ["vault"]))]).unwrap();
    assert_eq!(
        refused(world.trust("shop", &["bank"])),
        "Forbidden: `bank` is team `evil`'s and `shop` is team `default`'s: deployments of different teams never reach \
         each other | trust only deployments of team `default`"
    );
    assert_eq!(
        refused(world.trust("shop", &["shop"])),
        "Invalid: `shop` need not trust itself: the services of one deployment may always call each other | leave it out"
    );
    assert_eq!(
        refused(world.trust("shop", &[])),
        "Invalid: no caller was named that may call `shop`, or no longer | as in `mesh-coord trust api --app shop`"
    );
    assert_eq!(refused(world.trust("shp", &["api"])), "NotFound: there is no deployment `shp` | did you mean `shop`?");
    world.admin = Admin { team: Some(label("evil")), ..Admin::socket(0) };
    // A team's administrator doesn't learn whether it exists.
    assert_eq!(
        refused(world.trust("shop", &["bank"])),
        "NotFound: team `evil` has no deployment `shop` | `mesh-coord deployments` lists them"
    );
    assert_eq!(refused(world.trust("bank", &["shop"])), "Conflict: the name `shop` is not free | choose another name");
    assert!(world.state.trust_list(&world.admin, &label("shop")).is_err());
}

#[test]
fn the_list_shows_who_may_call_with_both_directions() {
    let mut world = world();
    world.trust_on("shop", &["api"], Some(&["nothing-*"]), Ports::All).unwrap();
    world.trust("shop", &["ops", "later"]).unwrap();
    let Ok(Outcome::Trusted { trust, directions, warnings, .. }) =
        world.state.trust_list(&Admin::socket(0), &label("shop"))
    else {
        panic!("the list is shown")
    };
    assert_eq!(trust.len(), 3);
    let sentences: Vec<String> = directions.iter().map(|d| d.sentence()).collect();
    assert_eq!(
        sentences,
        [
            "api may call shop (`nothing-*`); shop may not call api",
            "later may call shop as soon as there is a deployment later; shop may not call later",
            "ops may call shop; shop may not call ops"
        ]
    );
    assert_eq!(warnings, ["`shop` has no service yet that matches `nothing-*`, for `api` to call"]);
}

/// A deployment can have thousands of callers: of one more or less, only its hosts and those of that one are told.
#[test]
fn a_trust_list_concerns_those_only_whose_grants_are_others() {
    let mut world = World::new();
    world.apply(vec![whole("hub: api metrics")]).unwrap();
    let callers: Vec<String> = (0..40).map(|n| format!("caller{n}")).collect();
    world.apply(callers.iter().map(|caller| whole(&format!("{caller}: x"))).collect()).unwrap();
    world.trust("hub", &callers.iter().map(|caller| &**caller).collect::<Vec<_>>()).unwrap();
    let hub = world.join("hub");
    world.attach(hub, "hub/api");
    let runners: Vec<RunnerId> = callers.iter().map(|caller| world.join(caller)).collect();
    for (caller, runner) in callers.iter().zip(&runners) {
        world.attach(*runner, &format!("{caller}/x"));
    }
    let concerned = |world: &mut World, change| {
        let what = AdminCommand::Trust { deployment: label("hub"), change };
        let decision = world.decide(&Command::Admin { by: world.admin.clone(), what }).unwrap();
        let revision = world.state.revision().next();
        world.state.absorb(&decision.changes, revision).runners
    };
    let only = |services: Option<&str>, callers: &[&str]| {
        let services = services.map(|pattern| vec![pattern.parse().unwrap()]);
        (callers.iter().map(|caller| label(caller)).collect(), services)
    };
    let (callers, services) = only(None, &["caller7"]);
    let removed = concerned(&mut world, TrustChange::Remove { callers, services, ports: Ports::All });
    assert_eq!(removed, [hub, runners[7]].into(), "one of forty");
    let (callers, services) = only(Some("metrics"), &["caller7"]);
    let added = concerned(&mut world, TrustChange::Add { callers, services, ports: Ports::All });
    assert_eq!(added, [hub, runners[7]].into());
    let (callers, services) = only(Some("api"), &["caller3"]);
    let same = concerned(&mut world, TrustChange::Add { callers, services, ports: Ports::All });
    assert_eq!(same, [].into(), "it may call that already");
}

/// Whatever a trust list holds, resolving it doesn't delay others.
#[test]
fn no_trust_list_takes_longer_than_others_can_wait() {
    let mut world = World::new();
    let names: Vec<String> = (0..4096).map(|n| format!("service-{n}")).collect();
    world.apply(vec![file(declared("shop", None, names.iter().map(|n| &**n)))]).unwrap();
    let callers: Vec<String> = (0..1024).map(|n| format!("caller{n}")).collect();
    let callers: Vec<&str> = callers.iter().map(|c| &**c).collect();
    let wild: Vec<String> = (0..256).map(|n| format!("*{n}*e*")).collect();
    let wild: Vec<&str> = wild.iter().map(|p| &**p).collect();

    let before = work::steps();
    let text = refused(world.trust_on("shop", &callers, Some(&wild), Ports::All));
    assert!(text.starts_with("Conflict: the trust list of `shop` would have 262144 patterns and ports"), "{text}");
    // The most that is allowed: every caller may call everything, with the longest list of patterns.
    let text = refused(world.trust_on("shop", &callers[..16], Some(&wild), Ports::All));
    assert!(text.contains("names to look through"), "{text}");
    assert!(refused(world.trust("shop", &callers)).contains("names to look through"));
    let ports = Ports::Only((1..=256).collect());
    assert!(refused(world.trust_on("shop", &callers[..16], None, ports)).contains("names to look through"));
    world.trust("shop", &callers[..60]).unwrap();
    world.apply(callers.iter().map(|caller| whole(&format!("{caller}: x"))).collect()).unwrap();
    let taken = work::steps() - before;
    assert!(taken < 20 * limits::TRUST_WORK as u64, "{taken}");

    // A few patterns shared by many callers are compared once.
    let mut world = World::new();
    world.apply(vec![file(declared("shop", None, names[..200].iter().map(|n| &**n)))]).unwrap();
    let before = work::steps();
    world.trust_on("shop", &callers, Some(&["*-7", "*-8*"]), Ports::All).unwrap();
    assert!(work::steps() - before < 10_000, "{}", work::steps() - before);
}
