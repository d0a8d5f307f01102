use std::{ops::Range, sync::Arc};

use mesh_proto::{Epoch, PublicKey, RunnerId, Secret, TokenId, token::Credential};

use crate::{
    Admin, AdminCommand, Change, Command, Enrolment, NewPurpose, NewToken, Outcome, Record, Refusal, RunnerCommand,
    limits,
    record::{By, Runner},
    testing::{SECRET, World, declared, enrolment, file, label, path, refused, whole},
};

fn enrol(world: &mut World, wish: Enrolment) -> Result<(RunnerId, bool, Option<RunnerId>), Refusal> {
    match world.run(&Command::Enrol(wish))? {
        Outcome::Enrolled { runner, new, replaced } => Ok((runner, new, replaced)),
        other => panic!("{other:?}"),
    }
}

fn one_use(world: &mut World) -> TokenId {
    world.token(NewPurpose::JoinAny { uses: 1 })
}

#[test]
fn a_token_enrols_as_many_runners_as_it_may() {
    let mut world = World::new();
    let token = world.token(NewPurpose::JoinAny { uses: 2 });
    assert_eq!(enrol(&mut world, enrolment(token, "r1")).unwrap(), (RunnerId(1), true, None));
    assert_eq!(enrol(&mut world, enrolment(token, "r2")).unwrap(), (RunnerId(2), true, None));
    assert_eq!(
        refused(enrol(&mut world, enrolment(token, "r3"))),
        "Unauthorised: the token t-1 is used up: it has enrolled as many runners as it may | ask the coordinator's \
         operator for a new one (`mesh-coord token create`)"
    );
}

/// The answer was lost: the same machine asks again, even after the token has expired.
#[test]
fn a_second_try_gives_the_same_runner_a_new_credential_and_uses_nothing_up() {
    let mut world = World::new();
    let token = world.token(NewPurpose::JoinAny { uses: 2 });
    let (runner, ..) = enrol(&mut world, enrolment(token, "r1")).unwrap();
    let again = Secret::from_bytes([5; 32]);
    let wish = Enrolment { credential: again.hash(), ..enrolment(token, "r1") };
    assert_eq!(enrol(&mut world, wish.clone()).unwrap(), (runner, false, None));
    assert!(world.state.authenticate_runner(&Credential { runner, secret: SECRET }).is_err(), "the old one is void");
    assert_eq!(world.state.authenticate_runner(&Credential { runner, secret: again }).unwrap(), runner);
    enrol(&mut world, enrolment(token, "r2")).unwrap();
    world.now = world.now.plus(1_000_000);
    assert_eq!(
        enrol(&mut world, wish).unwrap(),
        (runner, false, None),
        "used up and expired, but it is the same machine"
    );
}

#[test]
fn every_bad_token_is_refused_for_its_own_reason() {
    let mut world = World::new();
    let unknown = "Unauthorised: this coordinator has no such token | check that it is this coordinator's and was \
                   copied whole, or ask its operator for a new one";
    assert_eq!(refused(enrol(&mut world, enrolment(TokenId(1), "r1"))), unknown);
    let token = one_use(&mut world);
    let wrong = Enrolment { secret: Secret::from_bytes([9; 32]), ..enrolment(token, "r1") };
    assert_eq!(refused(enrol(&mut world, wrong)), unknown, "the identifier alone tells nothing");

    let admin = world.token(NewPurpose::Admin { team: None });
    assert_eq!(
        refused(enrol(&mut world, enrolment(admin, "r1"))),
        "Forbidden: the token t-2 is an admin token: it enrols no runner | make a join token with `mesh-coord token \
         create --team T`, `--deployment D` or `--any`"
    );
    assert_eq!(
        refused(enrol(&mut world, Enrolment { proved: false, ..enrolment(token, "r1") })),
        "Unauthorised: the machine did not prove that it holds the private half of the key that it shows | update \
         mesh-node; if that doesn't help, its identity file is damaged"
    );
    world.now = world.now.plus(3600 + 120);
    assert_eq!(
        refused(enrol(&mut world, enrolment(token, "r1"))),
        "Unauthorised: the token t-1 expired 2 minutes ago | ask the coordinator's operator for a new one (`mesh-coord \
         token create`)"
    );
    world.order(AdminCommand::RevokeToken { token, with_nodes: false }).unwrap();
    assert_eq!(
        refused(enrol(&mut world, enrolment(token, "r1"))),
        "Unauthorised: the token t-1 was revoked 0 seconds ago | ask the coordinator's operator for a new one \
         (`mesh-coord token create`)"
    );
}

#[test]
fn a_revoked_token_gives_no_second_try() {
    let mut world = World::new();
    let token = one_use(&mut world);
    enrol(&mut world, enrolment(token, "r1")).unwrap();
    world.order(AdminCommand::RevokeToken { token, with_nodes: false }).unwrap();
    assert!(refused(enrol(&mut world, enrolment(token, "r1"))).contains("was revoked"));
}

#[test]
fn a_taken_name_is_refused_and_taken_over_only_when_asked_for() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db")]).unwrap();
    let old = world.join("r1");
    world.attach(old, "shop/db");
    let token = one_use(&mut world);
    let wish = Enrolment { public_key: PublicKey([9; 32]), ..enrolment(token, "r1") };
    assert_eq!(
        refused(enrol(&mut world, wish.clone())),
        "Conflict: the name `r1` is taken by another runner (provider aws) | choose another name with --name, or take \
         this one over with --replace, which removes the other runner"
    );
    let (new, ..) = enrol(&mut world, Enrolment { replace: true, ..wish.clone() }).unwrap();
    assert_ne!(new, old);
    assert_eq!(world.state.runner_named("r1").unwrap().id, new);
    assert!(world.state.runner(old).unwrap().removed.is_some());
    assert_eq!(world.state.instances_on(old).count(), 0);
    assert!(world.state.view(old, Epoch([0; 16])).is_none());
    // A runner may keep its own name.
    assert_eq!(enrol(&mut world, Enrolment { replace: true, ..wish }).unwrap(), (new, false, None));
}

#[test]
fn a_narrow_token_does_not_throw_out_a_runner_that_may_host_more() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db")]).unwrap();
    world.join("r1");
    let token = world.token(NewPurpose::JoinDeployments { deployments: [label("shop")].into(), uses: 9 });
    let wish = Enrolment { public_key: PublicKey([9; 32]), replace: true, ..enrolment(token, "r1") };
    assert_eq!(
        refused(enrol(&mut world, wish)),
        "Forbidden: the token t-2 can't take the name `r1` over: the runner that has it may host more than this token \
         allows | choose another name with --name, or remove that runner with `mesh-coord node remove r1`"
    );
    world.join_with(token, "r2");
    let wish = Enrolment { public_key: PublicKey([9; 32]), replace: true, ..enrolment(token, "r2") };
    enrol(&mut world, wish).unwrap();
}

#[test]
fn the_scope_is_the_token_s_and_follows_when_a_runner_enrols_with_another_one() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db"), whole("bank: vault")]).unwrap();
    let runner = world.join("r1");
    world.attach(runner, "shop/db");
    let (vault, _) = world.attach(runner, "bank/vault");
    let token = world.token(NewPurpose::JoinDeployments { deployments: [label("shop")].into(), uses: 1 });
    // The same machine, under another name.
    let wish = Enrolment { name: label("r1b"), ..enrolment(token, "r1") };
    assert_eq!(enrol(&mut world, wish).unwrap(), (runner, false, None));
    assert_eq!(&*world.state.runner(runner).unwrap().name, "r1b");
    assert!(world.state.runner_named("r1").is_none());
    assert!(world.state.instances_on(runner).all(|i| i.id != vault), "what it may no longer host has ended");
    assert_eq!(world.state.instances_on(runner).count(), 1);
    let attach = RunnerCommand::Attach { service: path("bank/vault"), client: false, release: None };
    assert!(world.request(runner, attach).is_err());
    assert!(refused(enrol(&mut world, enrolment(token, "r2"))).contains("used up"), "that was a use of the token");
}

#[test]
fn removing_a_runner_ends_all_that_it_had() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db")]).unwrap();
    let token = world.token(NewPurpose::JoinAny { uses: 3 });
    let runner = world.join_with(token, "r1");
    let other = world.join_with(token, "r2");
    let (instance, _) = world.attach(runner, "shop/db");
    world.attach(other, "shop/db");
    assert_eq!(world.view(other).instances().count(), 2);

    assert_eq!(
        refused(world.order(AdminCommand::RemoveNode { name: label("r11"), force: true })),
        "NotFound: there is no runner `r11` | did you mean `r1`?"
    );
    let outcome = world.order(AdminCommand::RemoveNode { name: label("r1"), force: true }).unwrap();
    let warnings = vec!["its token t-1 can enrol more runners: `mesh-coord token revoke t-1` ends that".to_owned()];
    assert_eq!(outcome, Outcome::NodeRemoved { runner, instances: vec![instance], warnings });
    assert_eq!(world.view(other).instances().count(), 1);
    assert!(world.view(other).runner(runner).is_none(), "its peers drop it");
    assert_eq!(
        refused(world.order(AdminCommand::RemoveNode { name: label("r1"), force: true })),
        "NotFound: there is no runner `r1` | did you mean `r2`?"
    );
    let attach = RunnerCommand::Attach { service: path("shop/db"), client: false, release: None };
    assert!(refused(world.request(runner, attach)).starts_with("Unauthorised: the runner `r1` was removed"));
    assert_eq!(
        refused(enrol(&mut world, enrolment(token, "r1"))),
        "Forbidden: this machine's key was `r1`'s, which was removed from the mesh: it can't come back | to join as a \
         new runner, delete the agent's state directory and run `mesh-node join URL TOKEN`"
    );
    // Another machine, with its own key, can have the name.
    let wish = Enrolment { public_key: PublicKey([9; 32]), ..enrolment(token, "r1") };
    assert!(enrol(&mut world, wish).unwrap().1);
}

#[test]
fn a_team_s_administrator_removes_only_the_team_s_runners() {
    let mut world = World::new();
    world.apply(vec![file(declared("shop", Some("acme"), ["db"]))]).unwrap();
    let wide = world.join("wide");
    let token = world.token(NewPurpose::JoinTeams { teams: [label("acme")].into(), uses: 1 });
    world.join_with(token, "narrow");
    world.admin = Admin { team: Some(label("acme")), ..Admin::socket(0) };
    let remove = |name: &str| AdminCommand::RemoveNode { name: label(name), force: true };
    for name in ["wide", "nowhere"] {
        assert_eq!(
            refused(world.order(remove(name))),
            format!("NotFound: team `acme` has no runner `{name}` | `mesh-coord nodes` lists them")
        );
    }
    // A runner that hosts a service of the team is visible to it, but another team administers it.
    world.attach(wide, "shop/db");
    assert_eq!(
        refused(world.order(remove("wide"))),
        "Forbidden: the runner `wide` is not team `acme`'s, and this admin token is good for that team only | use a \
         token of that team, or one made with `mesh-coord token create --admin`"
    );
    world.order(AdminCommand::RemoveNode { name: label("narrow"), force: true }).unwrap();
}

/// Runners of these numbers join and are removed, one after another in so many seconds.
fn removals(world: &mut World, numbers: Range<usize>, each: u64) {
    for n in numbers {
        world.now = world.now.plus(each);
        let name = format!("r{n}");
        world.join(&name);
        world.order(AdminCommand::RemoveNode { name: label(&name), force: true }).unwrap();
    }
}

#[test]
fn the_removals_longest_ago_are_forgotten() {
    let mut world = World::new();
    removals(&mut world, 0..limits::REMOVED_RUNNERS + 3, limits::RELAY_CREDENTIAL / 100);
    let nodes = world.state.nodes(&Admin::socket(0));
    assert_eq!((nodes.len(), &*nodes[0].name), (limits::REMOVED_RUNNERS, "r3"));
    assert_eq!(world.state.runners.len(), limits::REMOVED_RUNNERS);
}

/// Relays have to hear of each, also those that are away.
#[test]
fn removals_are_remembered_as_long_as_credentials_for_relays_live() {
    let mut world = World::new();
    removals(&mut world, 0..limits::REMOVED_RUNNERS + 100, 1);
    assert_eq!(world.state.revoked(world.now).len(), limits::REMOVED_RUNNERS + 100);
    assert_eq!(world.state.nodes(&Admin::socket(0)).len(), limits::REMOVED_RUNNERS, "a list stays a list");
    world.now = world.now.plus(limits::RELAY_CREDENTIAL);
    removals(&mut world, 5000..5010, 1);
    assert_eq!((world.state.revoked(world.now).len(), world.state.runners.len()), (10, limits::REMOVED_RUNNERS));
}

#[test]
fn removals_without_end_are_not_all_remembered() {
    let mut world = World::new();
    let last = world.join("last");
    let runner = world.state.runner(last).unwrap().clone();
    let removed = |n: usize| {
        let mut key = [1; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        let (id, name) = (RunnerId(1000 + n as u64), label(&format!("r{n}")));
        Runner { id, name, public_key: PublicKey(key), removed: Some(world.now.plus(n as u64)), ..(*runner).clone() }
    };
    let removed = (0..limits::REVOKED_RUNNERS).map(|n| Change::Put(Record::Runner(Arc::new(removed(n)))));
    world.commit(&removed.collect::<Vec<_>>());
    world.now = world.now.plus(limits::REVOKED_RUNNERS as u64);
    world.order(AdminCommand::RemoveNode { name: label("last"), force: true }).unwrap();
    assert!(world.state.revoked(world.now).iter().any(|(id, _)| *id == last));
    assert_eq!(world.state.revoked(world.now).len(), limits::REVOKED_RUNNERS);
}

#[test]
fn who_leaves_is_gone_with_what_it_had() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db")]).unwrap();
    let (a, b) = (world.join("a"), world.join("b"));
    let (instance, address) = world.attach(a, "shop/db");
    world.attach(b, "shop/db");
    assert_eq!(world.request(a, RunnerCommand::Leave), Ok(Outcome::Left { instances: vec![instance] }));
    assert!(world.state.view(a, Epoch([0; 16])).is_none() && world.view(b).instance(instance).is_none());
    assert!(world.state.freed.contains_key(&address));
    assert!(refused(world.request(a, RunnerCommand::Leave)).contains("removed"));
    let last = world.state.audit(&Admin::socket(0), 1).remove(0);
    assert_eq!((last.action.as_str(), last.by), ("node-leave", By::Runner(a)));
}

#[test]
fn only_an_ephemeral_runner_expires() {
    let mut world = World::new();
    let wish = NewToken { purpose: NewPurpose::JoinAny { uses: 2 }, ttl: 3600, ephemeral: true, name: None };
    let create = Command::CreateToken { by: world.admin.clone(), token: wish, secret: SECRET.hash() };
    let Ok(Outcome::TokenCreated { token, .. }) = world.run(&create) else { panic!("a token") };
    let (stays, goes) = (world.join("stays"), world.join_with(token, "goes"));
    for runner in [stays, goes] {
        world.run(&Command::Expire(runner)).unwrap();
    }
    let standing: Vec<_> = world.state.active_runners().map(|runner| runner.id).collect();
    assert_eq!(standing, [stays]);
    let last = world.state.audit(&Admin::socket(0), 1).remove(0);
    assert_eq!((last.action.as_str(), last.by), ("node-expire", By::Coordinator));
    assert!(world.state.tokens(&Admin::socket(0), world.now)[0].scope.contains("ephemeral"));
}

#[test]
fn a_runner_with_instances_is_removed_only_when_that_is_meant() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db app")]).unwrap();
    let runner = world.join("r1");
    let (db, _) = world.attach(runner, "shop/db");
    world.attach(runner, "shop/app");
    let remove = |force| AdminCommand::RemoveNode { name: label("r1"), force };
    assert_eq!(
        refused(world.order(remove(false))),
        "Conflict: the runner `r1` has 2 instances: i-1 of `shop/db` and i-2 of `shop/app` | `mesh-coord node drain r1` \
         takes them out of new connections; --force ends them and removes the runner for good"
    );
    assert!(world.state.is_active(runner));
    let Ok(Outcome::NodeRemoved { instances, .. }) = world.order(remove(true)) else { panic!("it is removed") };
    assert_eq!((instances.len(), instances[0]), (2, db));
    let idle = world.join("idle");
    world.order(AdminCommand::RemoveNode { name: label("idle"), force: false }).unwrap();
    assert!(!world.state.is_active(idle));
}

#[test]
fn a_runner_that_enrols_again_and_again_does_not_wash_out_the_audit() {
    let mut world = World::new();
    let token = world.token(NewPurpose::JoinAny { uses: 1 });
    world.join_with(token, "r1");
    let before = world.state.audit(&Admin::socket(0), 10_000).len();
    for n in 0..300 {
        let wish = Enrolment { name: label(&format!("r{n}")), ..enrolment(token, "r1") };
        enrol(&mut world, wish).unwrap();
    }
    let after = world.state.audit(&Admin::socket(0), 10_000).len();
    assert!(after - before <= limits::ENROLMENTS_NOTED, "{after}");
    world.now = world.now.plus(3600);
    enrol(&mut world, enrolment(token, "r1")).unwrap();
    assert_eq!(world.state.audit(&Admin::socket(0), 10_000).len(), after + 1, "an hour later it is news again");
}

#[test]
fn the_runners_of_one_team_leave_places_for_others() {
    let mut world = World::new();
    world.admin = Admin { team: Some(label("mallory")), ..Admin::socket(0) };
    let token = world.token(NewPurpose::JoinTeams { teams: [label("mallory")].into(), uses: 100_000 });
    let first = world.join_with(token, "m0");
    let like = world.state.runner(first).unwrap().clone();
    let more = (1..4680).map(|n: u16| Runner {
        id: RunnerId(100_000 + u64::from(n)),
        name: label(&format!("more{n}")),
        public_key: PublicKey(std::array::from_fn(|i| n.to_be_bytes()[i % 2])),
        ..(*like).clone()
    });
    let changes: Vec<_> = more.map(|runner| Change::Put(Record::Runner(runner.into()))).collect();
    world.commit(&changes);
    let mut n = 0;
    let refusal = loop {
        n += 1;
        if let Err(refusal) = world.run(&Command::Enrol(enrolment(token, &format!("m{n}")))) {
            break refusal;
        }
    };
    assert!(refusal.to_string().starts_with("team `mallory` has 4688 runners"), "{refusal}");
    world.admin = Admin::socket(0);
    let token = world.token(NewPurpose::JoinTeams { teams: [label("alice")].into(), uses: 100_000 });
    for n in 0..100 {
        world.join_with(token, &format!("a{n}"));
    }
}

#[test]
fn a_taken_name_tells_nothing_of_a_runner_beyond_the_tokens_scope() {
    let mut world = World::new();
    world.join("secret");
    world.admin = Admin { team: Some(label("acme")), ..Admin::socket(0) };
    let token = world.token(NewPurpose::JoinTeams { teams: [label("acme")].into(), uses: 1 });
    let wish = Enrolment { public_key: PublicKey([9; 32]), ..enrolment(token, "secret") };
    assert!(refused(enrol(&mut world, wish)).starts_with("Conflict: the name `secret` is taken by another runner |"));
}
