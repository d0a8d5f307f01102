mod trust;

use mesh_proto::{Ports, ServiceName};

use crate::{
    Admin, AdminCommand, Outcome, Record,
    declare::{Declared, Deployment, File, Pattern, Trust},
    outcome::{DeploymentPlan, Plan, ServiceChange},
    testing::{World, declared, file, ist, label, path, refused, single, trusting, whole},
};

/// A plan with one line per service: `+ db`, `~ db (port)`, `- db (1)`.
fn lines(plan: &DeploymentPlan) -> Vec<String> {
    let line = |name: &ServiceName, change: &ServiceChange| match change {
        ServiceChange::Added { .. } => format!("+ {name}"),
        ServiceChange::Changed { keys } => format!("~ {name} ({})", keys.join(" ")),
        ServiceChange::Removed { instances } => format!("- {name} ({})", instances.len()),
    };
    plan.services.iter().map(|s| line(&s.service, &s.change)).collect()
}

fn only(plan: Plan) -> DeploymentPlan {
    assert_eq!(plan.deployments.len(), 1);
    plan.deployments.into_iter().next().unwrap()
}

fn with(text: &str, change: impl FnOnce(&mut Deployment)) -> File {
    let (name, services) = text.split_once(':').unwrap();
    let mut deployment = declared(name, None, services.split_whitespace());
    change(&mut deployment);
    file(deployment)
}

fn patterns(of: &[&str]) -> Option<Vec<Pattern>> {
    Some(of.iter().map(|p| p.parse().unwrap()).collect())
}

#[test]
fn a_file_makes_the_deployment_as_it_says_and_the_plan_tells() {
    let mut world = World::new();
    let plan = only(world.apply(vec![whole("shop: db app")]).unwrap());
    assert_eq!((plan.new, &*plan.team, plan.unchanged), (true, "default", 0));
    assert_eq!(lines(&plan), ["+ app", "+ db"]);
    let ServiceChange::Added { address } = plan.services[1].change else { panic!("{plan:?}") };
    assert_eq!(address, Some(world.address("shop/db")));

    let changed = with("shop: db web", |d| {
        d.services.get_mut("db").unwrap().port = Some(5432);
        d.services.get_mut("db").unwrap().aliases = vec!["mysql".to_owned()];
    });
    let plan = only(world.apply(vec![changed.clone()]).unwrap());
    assert_eq!(
        (lines(&plan), plan.new),
        (vec!["- app (0)".into(), "~ db (aliases port)".into(), "+ web".into()], false)
    );

    let revision = world.state.revision();
    let plan = world.apply(vec![changed]).unwrap();
    assert!(plan.is_empty() && plan.deployments[0].unchanged == 2);
    assert_eq!(world.state.revision(), revision, "nothing is committed where all is as the file says");
}

#[test]
fn a_dry_run_tells_the_same_and_changes_nothing() {
    let mut world = World::new();
    let before = world.state.clone();
    let plan = world.apply_with(vec![whole("shop: db")], true, false).unwrap();
    assert!(plan.dry_run && !plan.is_empty());
    assert_eq!(plan.deployments[0].services[0].change, ServiceChange::Added { address: None }, "nothing is reserved");
    assert_eq!(world.state, before);
    let real = world.apply(vec![whole("shop: db")]).unwrap();
    assert_eq!(lines(&real.deployments[0]), lines(&plan.deployments[0]));
    world.apply_with(vec![with("shop: db", |d| d.team = Some(label("other")))], true, false).unwrap_err();
}

#[test]
fn of_several_files_all_are_applied_or_none() {
    let mut world = World::new();
    let bad = with("bank: vault", |d| d.services.get_mut("vault").unwrap().port = Some(0));
    assert_eq!(
        refused(world.apply(vec![whole("shop: db"), bad])),
        "Invalid: bank.toml: `port` of the service `vault` is 0, which is no port | leave `port` out, or choose 1 to 65535"
    );
    assert!(world.state.deployment_named("shop").is_none());
    world.apply(vec![whole("shop: db"), whole("bank: vault")]).unwrap();
}

#[test]
fn files_that_contradict_each_other_are_refused() {
    let mut world = World::new();
    let named = |name: &str, file: File| File { name: name.to_owned(), ..file };
    assert_eq!(
        refused(world.apply(vec![])),
        "Invalid: no file was given to apply | as in `mesh-coord apply mesh.toml`"
    );
    assert_eq!(
        refused(world.apply(vec![named("a", whole("shop: db")), named("b", whole("shop: app"))])),
        "Invalid: both a and b declare the deployment `shop` | put it into one of them"
    );
    let mixed = "Invalid: a declares all services of `shop`, and b declares another one | declare the service in the \
                 first, or apply them one after the other";
    let (all, one) = (named("a", whole("shop: db")), named("b", single("shop/app", Declared::default())));
    assert_eq!(refused(world.apply(vec![all.clone(), one.clone()])), mixed);
    assert_eq!(refused(world.apply(vec![one.clone(), all])), mixed);
    assert_eq!(
        refused(world.apply(vec![one.clone(), named("c", one)])),
        "Invalid: both b and c declare the service `shop/app` | apply one of them"
    );
    assert_eq!(
        refused(world.apply(vec![named("a\nb", whole("shop: db"))])),
        "Invalid: a file's name is longer than 4096 bytes, or holds control characters | rename the file"
    );
}

#[test]
fn a_deployment_s_team_never_changes() {
    let mut world = World::new();
    world.apply(vec![file(declared("shop", Some("acme"), ["db"]))]).unwrap();
    world.apply(vec![whole("shop: db app")]).unwrap();
    assert_eq!(&*world.state.deployment_named("shop").unwrap().team, "acme", "a file that doesn't name it keeps it");
    assert_eq!(
        refused(world.apply(vec![file(declared("shop", Some("evil"), ["db"]))])),
        "Conflict: shop.toml: the deployment `shop` is team `acme`'s, and a deployment's team can't change (to `evil`) | \
         leave `team` as it is, or delete the deployment first (`mesh-coord delete shop`)"
    );
}

#[test]
fn a_request_that_says_that_nothing_is_to_go_removes_nothing() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db app")]).unwrap();
    let order = |world: &mut World, json: &str| {
        let less = serde_json::to_string(&[whole("shop: app")]).unwrap();
        let command = format!(r#"{{"command":"apply","files":{less}{json}}}"#);
        world.order(serde_json::from_str(&command).unwrap())
    };
    let refusal = refused(order(&mut world, r#","prune":false"#));
    assert_eq!(
        refusal,
        "Conflict: this service would be removed, and nothing has changed: shop/db | apply with --prune if that is meant"
    );
    assert!(world.state.service_at(&path("shop/db")).is_some());
    // A dry run needs no consent, and neither does a plan without removals.
    order(&mut world, r#","prune":false,"dry_run":true"#).unwrap();
    let files = vec![whole("shop: app db cache")];
    world.order(AdminCommand::Apply { files, dry_run: false, force: false, prune: Some(false) }).unwrap();
    order(&mut world, r#","prune":true"#).unwrap();
    assert!(world.state.service_at(&path("shop/db")).is_none());
    // Clients from before this field asked the operator themselves.
    world.apply(vec![whole("shop: app db")]).unwrap();
    order(&mut world, "").unwrap();
    assert!(world.state.service_at(&path("shop/db")).is_none());
}

#[test]
fn services_with_instances_go_only_by_force_and_take_these_along() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db app web")]).unwrap();
    let runner = world.join("r1");
    let (db, _) = world.attach(runner, "shop/db");
    world.attach(runner, "shop/web");
    assert_eq!(
        refused(world.apply(vec![whole("shop: app web")])),
        "Conflict: shop.toml: a service of `shop` would be removed while `db` has 1 instance | detach them first, or end \
         them with --force"
    );
    world.attach(runner, "shop/db");
    assert_eq!(
        refused(world.apply(vec![whole("shop: app")])),
        "Conflict: shop.toml: services of `shop` would be removed while `db` has 2 instances and `web` has 1 instance | \
         detach them first, or end them with --force"
    );
    let plan = only(world.apply_with(vec![whole("shop: app web")], false, true).unwrap());
    assert_eq!(lines(&plan), ["- db (2)"]);
    assert_eq!(world.state.instances_on(runner).count(), 1);
    assert!(world.view(runner).instance(db).is_none());
    assert!(world.state.service_at(&path("shop/db")).is_none());
}

#[test]
fn one_service_s_file_changes_that_one_only() {
    let mut world = World::new();
    let plan = only(world.apply(vec![single("shop/db", Declared::default())]).unwrap());
    assert_eq!((plan.new, lines(&plan)), (true, vec!["+ db".to_owned()]));
    let app = Declared { ist: vec![ist("db", "DB"), ist("later", "LATER")], ..Declared::default() };
    let plan = only(world.apply(vec![single("shop/app", app)]).unwrap());
    assert_eq!((lines(&plan), plan.unchanged), (vec!["+ app".to_owned()], 1), "`later` is not declared yet");
    let plan = only(
        world
            .apply(vec![
                single("shop/db", Declared { port: Some(1), ..Declared::default() }),
                single("shop/x", Declared::default()),
            ])
            .unwrap(),
    );
    assert_eq!((lines(&plan), plan.unchanged), (vec!["~ db (port)".into(), "+ x".into()], 1));
}

#[test]
fn names_that_clash_are_refused_and_the_file_is_named() {
    let mut world = World::new();
    let mut deployment = declared("shop", None, ["my-db"]);
    deployment.services.insert("my db".parse().unwrap(), Declared::default());
    assert_eq!(
        refused(world.apply(vec![file(deployment)])),
        "Invalid: shop.toml: the services `my db` and `my-db` would both be called `my-db.warp`. Rename one of them, or \
         set `names = \"manual\"` (only `ist` and `aliases` lead to it then) on one | "
    );
    let app = Declared { ist: vec![ist("dv", "DB")], ..Declared::default() };
    let mut deployment = declared("shop", None, ["db"]);
    deployment.services.insert("app".parse().unwrap(), app);
    let text = refused(world.apply(vec![file(deployment)]));
    assert!(text.starts_with("Invalid: shop.toml: `ist` of the service `app` names `dv`"), "{text}");

    // Names given in `ist` win over automatic ones, which are left out with a warning.
    world.apply(vec![single("shop/my-db", Declared::default())]).unwrap();
    world.apply(vec![single("shop/my db", Declared::default())]).unwrap_err();
    let named = Declared { ist: vec![ist("my-db", "DB")], ..Declared::default() };
    let plan = world.apply(vec![single("shop/my db", named)]).unwrap();
    assert!(!plan.warnings.is_empty(), "{plan:?}");
}

#[test]
fn too_much_of_anything_is_refused() {
    let mut world = World::new();
    let names: Vec<String> = (0..4097).map(|n| format!("s{n}")).collect();
    let fixed = "the limit is fixed: have fewer, or divide them up";
    assert_eq!(
        refused(world.apply(vec![file(declared("shop", None, names.iter().map(|n| &**n)))])),
        format!("Conflict: shop.toml: the deployment `shop` would have 4097 services, and 4096 is the most | {fixed}")
    );
    let aliases = with("shop: db", |d| {
        d.services.get_mut("db").unwrap().aliases = (0..300).map(|n| format!("a{n}")).collect();
    });
    assert_eq!(
        refused(world.apply(vec![aliases])),
        format!("Conflict: shop.toml: the service `db` would have 300 aliases, and 256 is the most | {fixed}")
    );
    let trust = with("shop: db", |d| d.trust = Some((0..2000).map(|n| trusting(&format!("d{n}"))).collect()));
    assert_eq!(
        refused(world.apply(vec![trust])),
        format!("Conflict: shop.toml: `trust` of `shop` would have 2000 entries, and 1024 is the most | {fixed}")
    );
    let files = (0..1025).map(|n| whole(&format!("d{n}: x"))).collect();
    assert_eq!(
        refused(world.apply(files)),
        format!("Conflict: one call would have 1025 files, and 1024 is the most | {fixed}")
    );
}

#[test]
fn deleting_a_deployment_takes_its_name_off_all_lists() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db"), whole("api: web"), whole("bank: vault")]).unwrap();
    world.trust("shop", &["api", "bank"]).unwrap();
    let runner = world.join("r1");
    let (instance, _) = world.attach(runner, "api/web");
    let delete = |force| AdminCommand::Delete { deployment: label("api"), force };
    assert_eq!(
        refused(world.order(delete(false))),
        "Conflict: a service of `api` would be removed while `web` has 1 instance | detach them first, or end them with \
         --force"
    );
    assert_eq!(
        world.order(delete(true)).unwrap(),
        Outcome::Deleted {
            deployment: label("api"),
            services: 1,
            instances: vec![instance],
            untrusted_by: vec![label("shop")]
        }
    );
    assert_eq!(world.state.deployment_named("shop").unwrap().trust, [trusting("bank")]);
    world.apply(vec![whole("api: web")]).unwrap();
    world.attach(runner, "api/web");
    assert_eq!(world.view(runner).grants().count(), 0, "the new one is another one");
    assert_eq!(
        refused(world.order(AdminCommand::Delete { deployment: label("shpo"), force: false })),
        "NotFound: there is no deployment `shpo` | did you mean `shop`?"
    );
}

#[test]
fn a_team_s_administrator_deploys_for_the_team_only() {
    let mut world = World::new();
    world.apply(vec![file(declared("bank", Some("evil"), ["vault"]))]).unwrap();
    world.admin = Admin { team: Some(label("acme")), ..Admin::socket(0) };
    let refusal = |of: &str| {
        format!(
            "Forbidden: {of} is not team `acme`'s, and this admin token is good for that team only | use a token of that team, or one made with `mesh-coord token create --admin`"
        )
    };
    // A team's administrator learns that the name is not free, but not that such a deployment exists.
    for file in [whole("bank: vault"), file(declared("bank", Some("acme"), ["vault"]))] {
        assert_eq!(
            refused(world.apply(vec![file])),
            "Conflict: bank.toml: the name `bank` is not free | choose another name"
        );
    }
    for name in ["bank", "elsewhere"] {
        let text = refused(world.apply(vec![file(declared(name, Some("evil"), ["vault"]))]));
        assert_eq!(text, refusal(&format!("{name}.toml: the deployment `{name}`")));
    }
    assert_eq!(
        refused(world.apply(vec![whole("shop: db")])),
        refusal("shop.toml: the deployment `shop`"),
        "team `default`"
    );
    world.apply(vec![file(declared("shop", Some("acme"), ["db"]))]).unwrap();
    let delete = AdminCommand::Delete { deployment: label("bank"), force: true };
    assert_eq!(
        refused(world.order(delete)),
        "NotFound: team `acme` has no deployment `bank` | `mesh-coord deployments` lists them"
    );
}

#[test]
fn every_change_is_in_the_audit_and_nothing_else() {
    let mut world = World::new();
    world.apply(vec![with("shop: db app", |d| d.trust = Some(vec![trusting("api")]))]).unwrap();
    world.apply_with(vec![whole("shop: db")], true, false).unwrap();
    world.apply(vec![whole("other: x"), whole("shop: db app")]).unwrap();
    world.order(AdminCommand::Delete { deployment: label("other"), force: false }).unwrap();
    let entries: Vec<String> = world
        .state
        .records()
        .filter_map(
            |r| if let Record::Audit(a) = r { Some(format!("{} {}: {}", a.by, a.action, a.detail)) } else { None },
        )
        .collect();
    assert_eq!(
        entries,
        [
            "uid 0 apply: shop (new) from shop.toml: 2 services added, 0 changed, 0 removed; trust is ruled by shop.toml; api \
         may call shop as soon as there is a deployment api; shop may not call api",
            "uid 0 apply: other (new) from other.toml: 1 service added, 0 changed, 0 removed",
            "uid 0 apply: shop from shop.toml: 0 services added, 0 changed, 0 removed; trust is left to the trust command",
            "uid 0 delete: other with 1 service",
        ]
    );
}
