//! Trust in deployment files.

use super::*;

#[test]
fn a_file_with_trust_rules_and_one_without_leaves_it_to_the_command() {
    let mut world = World::new();
    world.apply(vec![whole("api: web"), whole("shop: db")]).unwrap();
    let ruling = || with("shop: db", |d| d.trust = Some(vec![trusting("api")]));
    let plan = only(world.apply(vec![ruling()]).unwrap());
    assert_eq!(plan.settings, ["trust is ruled by shop.toml"]);
    assert_eq!(plan.directions[0].sentence(), "api may now call shop; shop may not call api");
    assert!(lines(&plan).is_empty() && plan.unchanged == 1);
    assert_eq!(
        refused(world.trust("shop", &["api"])),
        "Conflict: who may call `shop` is ruled by the `trust` key of shop.toml | change the key there and `mesh-coord \
         apply shop.toml`; without the key, this command rules"
    );

    let plan = world.apply(vec![whole("shop: db")]).unwrap();
    assert_eq!(plan.deployments[0].settings, ["trust is left to the trust command"]);
    assert_eq!(
        plan.warnings,
        ["`trust` is no longer in the file: who could call `shop` still can, until `mesh-coord trust` changes it"]
    );
    assert_eq!(world.state.deployment_named("shop").unwrap().trust, [trusting("api")]);
    world.order(AdminCommand::Trust { deployment: label("shop"), change: crate::TrustChange::Clear }).unwrap();

    world.apply(vec![ruling()]).unwrap();
    let none = with("shop: db", |d| d.trust = Some(vec![]));
    let plan = only(world.apply(vec![none]).unwrap());
    assert_eq!(plan.directions[0].sentence(), "api may no longer call shop; shop may not call api");
}

#[test]
fn files_of_one_call_may_trust_each_other_but_not_across_teams() {
    let mut world = World::new();
    let trusting = |name: &str, team: &str, caller: &str| {
        let mut deployment = declared(name, Some(team), ["db"]);
        deployment.trust = Some(vec![trusting(caller)]);
        file(deployment)
    };
    let plan = world.apply(vec![trusting("a", "x", "b"), trusting("b", "x", "a")]).unwrap();
    assert_eq!(plan.deployments[0].directions[0].sentence(), "b may now call a; a may call b");
    assert_eq!(
        refused(world.apply(vec![trusting("c", "x", "d"), trusting("d", "y", "e")])),
        "Forbidden: c.toml: `d` is team `y`'s and `c` is team `x`'s: deployments of different teams never reach each \
         other | trust only deployments of team `x`"
    );
    assert_eq!(
        refused(world.apply(vec![trusting("c", "x", "c")])),
        "Invalid: c.toml: `c` need not trust itself: the services of one deployment may always call each other | leave \
         it out"
    );
    // A caller that is created later in another team gets no access, and `apply` warns.
    world.apply(vec![trusting("c", "x", "later")]).unwrap();
    let plan = world.apply(vec![file(declared("later", Some("y"), ["db"]))]).unwrap();
    assert_eq!(plan.warnings, ["`c` trusts `later`, without effect: it is team `x`'s and `later` is team `y`'s"]);
}

#[test]
fn what_a_trust_can_t_say_is_refused() {
    let mut world = World::new();
    let entry = |services, ports| {
        let trust = Trust { caller: label("api"), services, ports };
        vec![with("shop: db", |d| d.trust = Some(vec![trust]))]
    };
    assert_eq!(
        refused(world.apply(entry(Some(vec![]), Ports::All))),
        "Invalid: shop.toml: the trust of `shop` in `api` has an empty list of services: it would open nothing | leave \
         `services` out to open all that may be opened, or name some"
    );
    assert_eq!(
        refused(world.apply(entry(None, Ports::Only([].into())))),
        "Invalid: shop.toml: the trust of `shop` in `api` has an empty list of ports: it would open nothing | leave \
         `ports` out to open all that may be opened, or name some"
    );
    assert_eq!(
        refused(world.apply(entry(None, Ports::Only([0, 80].into())))),
        "Invalid: shop.toml: the trust of `shop` in `api` names port 0, which no service can listen on | leave `ports` \
         out to open every port"
    );
}

#[test]
fn patterns_that_match_nothing_come_with_a_warning() {
    let mut world = World::new();
    let plan = world
        .apply(vec![with("shop: db web-tcp", |d| {
            d.expose = patterns(&["*-tcp", "*-udp"]);
            d.trust = Some(vec![
                trusting("api"),
                Trust { caller: label("ops"), services: patterns(&["dbs"]), ports: Ports::All },
            ]);
        })])
        .unwrap();
    assert_eq!(
        plan.warnings,
        [
            "`shop` exposes `*-udp`, which matches none of its services",
            "`shop` has no service yet that matches `dbs`, for `ops` to call"
        ]
    );
    let plan = world.apply(vec![with("shop: db", |d| {
        d.expose = patterns(&[]);
        d.trust = Some(vec![trusting("api")]);
    })]);
    let plan = plan.unwrap();
    assert_eq!(plan.warnings, ["`shop` exposes nothing, so its trust in `api` opens nothing"]);
    assert_eq!(plan.deployments[0].settings, ["exposes nothing (before: `*-tcp` and `*-udp`)"]);
}
