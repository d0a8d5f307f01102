use mesh_proto::TokenId;

use crate::{
    Admin, AdminCommand, Command, NewPurpose, NewToken, Outcome, Refusal, RunnerCommand, UnixSeconds, Via, limits,
    testing::{SECRET, World, declared, enrolment, file, label, path, refused, whole},
};

fn create(world: &mut World, purpose: NewPurpose, ttl: u64) -> Result<(TokenId, UnixSeconds, Vec<String>), Refusal> {
    let command = Command::CreateToken {
        by: world.admin.clone(),
        token: NewToken { purpose, ttl, ephemeral: false, name: None },
        secret: SECRET.hash(),
    };
    match world.run(&command)? {
        Outcome::TokenCreated { token, expires, warnings } => Ok((token, expires, warnings)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_token_can_t_be_is_refused() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db")]).unwrap();
    for (purpose, ttl, expected) in [
        (
            NewPurpose::JoinAny { uses: 1 },
            0,
            "Invalid: a token can be good for 1 second to 10 years, not for 0 seconds | give another --ttl, as in `--ttl 1h`",
        ),
        (
            NewPurpose::JoinAny { uses: 0 },
            1,
            "Invalid: a token can enrol 1 to 100000 runners, not 0 | give another --uses",
        ),
        (
            NewPurpose::JoinTeams { teams: [].into(), uses: 1 },
            1,
            "Invalid: a join token needs a scope: this one would be good for nothing | give --team, --deployment or --any",
        ),
        (
            NewPurpose::JoinDeployments { deployments: [label("shpo")].into(), uses: 1 },
            1,
            "NotFound: there is no deployment `shpo` | did you mean `shop`?",
        ),
        (
            NewPurpose::JoinDeployments { deployments: [label("elsewhere")].into(), uses: 1 },
            1,
            "NotFound: there is no deployment `elsewhere` | `mesh-coord deployments` lists them",
        ),
    ] {
        assert_eq!(refused(create(&mut world, purpose, ttl)), expected);
    }
    let teams = (0..300).map(|n| label(&format!("t{n}"))).collect();
    assert_eq!(
        refused(create(&mut world, NewPurpose::JoinTeams { teams, uses: 1 }, 1)),
        "Conflict: the token's scope would have 300 teams, and 256 is the most | the limit is fixed: have fewer, or divide them up"
    );
}

#[test]
fn a_token_for_a_team_without_deployments_comes_with_a_warning() {
    let mut world = World::new();
    let (token, expires, warnings) =
        create(&mut world, NewPurpose::JoinTeams { teams: [label("acme")].into(), uses: 1 }, 60).unwrap();
    assert_eq!((token, expires), (TokenId(1), world.now.plus(60)));
    assert_eq!(warnings, ["team `acme` has no deployment yet"]);
}

/// The scope is by identifier: a token for `shop` is not valid for a later deployment with that name.
#[test]
fn a_name_that_is_deleted_and_made_again_is_not_inherited() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db"), whole("bank: vault")]).unwrap();
    let token = world.token(NewPurpose::JoinDeployments { deployments: [label("shop")].into(), uses: 1 });
    let runner = world.join_with(token, "r1");
    world.attach(runner, "shop/db");
    world.order(AdminCommand::Delete { deployment: label("shop"), force: true }).unwrap();
    world.apply(vec![whole("shop: db")]).unwrap();
    let attach = RunnerCommand::Attach { service: path("shop/db"), client: false, release: None };
    assert_eq!(
        refused(world.request(runner, attach)),
        "Forbidden: there is no deployment `shop` that `r1` may host: its token's scope is deployment d-2 (deleted) | \
         if it exists, make a token for it (`mesh-coord token create --deployment shop`) and join with that as a new \
         runner"
    );
}

#[test]
fn revoking_a_token_leaves_its_runners_unless_they_are_to_go_as_well() {
    let mut world = World::new();
    let token = world.token(NewPurpose::JoinAny { uses: 5 });
    let (r1, r2) = (world.join_with(token, "r1"), world.join_with(token, "r2"));
    let other = world.join("r3");
    let revoke = |with_nodes| AdminCommand::RevokeToken { token, with_nodes };
    let names = || vec![label("r1"), label("r2")];
    assert_eq!(
        world.order(revoke(false)).unwrap(),
        Outcome::TokenRevoked { token, removed: vec![], standing: names() }
    );
    let revision = world.state.revision();
    world.order(revoke(false)).unwrap();
    assert_eq!(world.state.revision(), revision, "a second time changes nothing");
    assert_eq!(world.order(revoke(true)).unwrap(), Outcome::TokenRevoked { token, removed: names(), standing: vec![] });
    assert!([r1, r2].iter().all(|r| world.state.runner(*r).unwrap().removed.is_some()));
    assert!(world.state.runner(other).unwrap().removed.is_none());
    assert_eq!(
        refused(world.order(AdminCommand::RevokeToken { token: TokenId(77), with_nodes: false })),
        "NotFound: there is no token t-77 | `mesh-coord token list` shows them"
    );
}

#[test]
fn a_team_s_administrator_makes_and_ends_tokens_for_the_team_only() {
    let mut world = World::new();
    world
        .apply(vec![file(declared("shop", Some("acme"), ["db"])), file(declared("bank", Some("evil"), ["vault"]))])
        .unwrap();
    let foreign = world.token(NewPurpose::JoinTeams { teams: [label("evil")].into(), uses: 1 });
    world.admin = Admin { team: Some(label("acme")), ..Admin::socket(0) };
    let not_yours = "Forbidden: what such a token would allow is not team `acme`'s, and this admin token is good for \
                     that team only | use a token of that team, or one made with `mesh-coord token create --admin`";
    for purpose in [
        NewPurpose::JoinAny { uses: 1 },
        NewPurpose::JoinTeams { teams: [label("acme"), label("evil")].into(), uses: 1 },
        NewPurpose::Admin { team: None },
        NewPurpose::Admin { team: Some(label("evil")) },
    ] {
        assert_eq!(refused(create(&mut world, purpose, 1)), not_yours);
    }
    for purpose in [
        NewPurpose::JoinTeams { teams: [label("acme")].into(), uses: 1 },
        NewPurpose::JoinDeployments { deployments: [label("shop")].into(), uses: 1 },
        NewPurpose::Admin { team: Some(label("acme")) },
    ] {
        let (token, ..) = create(&mut world, purpose, 1).unwrap();
        world.order(AdminCommand::RevokeToken { token, with_nodes: true }).unwrap();
    }
    // An unknown deployment and another team's get the same answer.
    for token in [foreign, TokenId(77)] {
        assert_eq!(
            refused(world.order(AdminCommand::RevokeToken { token, with_nodes: true })),
            format!("NotFound: there is no token {token} | `mesh-coord token list` shows them")
        );
    }
    for deployment in ["bank", "nowhere"] {
        let purpose = NewPurpose::JoinDeployments { deployments: [label(deployment)].into(), uses: 1 };
        assert_eq!(
            refused(create(&mut world, purpose, 1)),
            format!("NotFound: team `acme` has no deployment `{deployment}` | `mesh-coord deployments` lists them")
        );
    }
}

#[test]
fn tokens_long_dead_are_forgotten_when_a_new_one_is_made() {
    let mut world = World::new();
    let dead = world.token(NewPurpose::JoinAny { uses: 1 });
    world.now = world.now.plus(3600 + limits::DEAD_TOKEN);
    world.token(NewPurpose::JoinAny { uses: 1 });
    let enrol = |world: &mut World| refused(world.run(&Command::Enrol(enrolment(dead, "r1"))));
    assert!(enrol(&mut world).contains("expired 30 days ago"));
    world.now = world.now.plus(1);
    world.token(NewPurpose::JoinAny { uses: 1 });
    assert!(enrol(&mut world).contains("no such token"));
}

#[test]
fn a_token_made_while_the_clock_was_ahead_is_not_good_for_that_long() {
    let mut world = World::new();
    world.off = 10 * 365 * 86_400;
    let early = world.token(NewPurpose::JoinAny { uses: 2 });
    let enrol = |world: &mut World| world.run(&Command::Enrol(enrolment(early, "r1")));
    enrol(&mut world).unwrap();
    // The clock is corrected, or nearly.
    world.off = 0;
    let said = refused(world.run(&Command::Enrol(enrolment(early, "r2"))));
    assert!(said.contains("3650 days from now") && said.contains("set the coordinator's clock right"), "{said}");
    assert_eq!(world.state.tokens(&world.admin, world.now)[0].state, "early");
    let made = world.token(NewPurpose::JoinAny { uses: 1 });
    world.off = -60;
    world.run(&Command::Enrol(enrolment(made, "r2"))).unwrap();
    // A clock that was wrong for a while costs a token nothing.
    let spare = world.token(NewPurpose::JoinAny { uses: 1 });
    for off in [1_000_000_000, -900_000] {
        world.off = off;
        world.run(&Command::Enrol(enrolment(spare, "r3"))).unwrap_err();
    }
    world.off = 0;
    world.run(&Command::Enrol(enrolment(spare, "r3"))).unwrap();
}

fn team(name: &str) -> Admin {
    Admin { team: Some(label(name)), ..Admin::socket(0) }
}

/// Creates this many more tokens.
fn more(world: &mut World, like: TokenId, number: usize) {
    let first = world.state.meta.next.token;
    let next = crate::record::Next { token: first + number as u64, ..world.state.meta.next.clone() };
    let meta = crate::record::Meta { next, ..(*world.state.meta).clone() };
    let token = world.state.tokens[&like].clone();
    let tokens = (0..number as u64).map(|n| crate::record::Token { id: TokenId(first + n), ..(*token).clone() });
    let put = |record| crate::Change::Put(record);
    let mut changes: Vec<_> = tokens.map(|token| put(crate::Record::Token(token.into()))).collect();
    changes.push(put(crate::Record::Meta(meta.into())));
    world.commit(&changes);
}

const WISH: NewPurpose = NewPurpose::Admin { team: None };

/// A hundred years of one team's tokens keep neither the operator nor another team from creating theirs.
#[test]
fn one_teams_tokens_leave_places_for_the_operator_and_for_others() {
    let mut world = World::new();
    let own = |team: &str| NewPurpose::Admin { team: Some(label(team)) };
    world.admin = team("mallory");
    let (first, ..) = create(&mut world, own("mallory"), 10 * 365 * 86_400).unwrap();
    more(&mut world, first, 4680);
    let refusal = loop {
        if let Err(refusal) = create(&mut world, own("mallory"), 10 * 365 * 86_400) {
            break refusal;
        }
    };
    assert!(refusal.to_string().starts_with("team `mallory` has 4688 tokens"), "{refusal}");
    world.admin = team("eve");
    let (eves, ..) = create(&mut world, own("eve"), 3600).unwrap();
    more(&mut world, eves, 2300);
    while create(&mut world, own("eve"), 3600).is_ok() {}
    world.admin = team("alice");
    for _ in 0..100 {
        create(&mut world, own("alice"), 3600).unwrap();
    }
    // The reserve is the operator's, to the last place.
    world.admin = Admin::socket(0);
    let (operators, ..) = create(&mut world, WISH, 3600).unwrap();
    let left = limits::TOKENS - world.state.tokens.len();
    assert!(left > limits::TOKENS / limits::OPERATORS_PART);
    more(&mut world, operators, left);
    assert!(create(&mut world, WISH, 3600).is_err());
    // A revoked token frees its place at once.
    world.order(AdminCommand::RevokeToken { token: first, with_nodes: false }).unwrap();
    create(&mut world, WISH, 3600).unwrap();
    assert!(refused(create(&mut world, WISH, 3600)).contains("10001 tokens"));
    // So does an expired one.
    world.now = world.now.plus(3600);
    create(&mut world, WISH, 3600).unwrap();
}

#[test]
fn revoked_tokens_are_kept_in_a_bounded_list_of_which_no_team_takes_all() {
    let mut world = World::new();
    let first = world.token(NewPurpose::Admin { team: Some(label("alice")) });
    world.order(AdminCommand::RevokeToken { token: first, with_nodes: false }).unwrap();
    world.admin = team("mallory");
    let many = world.token(NewPurpose::Admin { team: Some(label("mallory")) });
    world.order(AdminCommand::RevokeToken { token: many, with_nodes: false }).unwrap();
    more(&mut world, many, limits::DEAD_TOKENS);
    for _ in 0..10 {
        let token = world.token(NewPurpose::Admin { team: Some(label("mallory")) });
        world.order(AdminCommand::RevokeToken { token, with_nodes: false }).unwrap();
    }
    assert!(world.state.tokens.len() <= limits::DEAD_TOKENS + 1, "{}", world.state.tokens.len());
    assert!(world.state.tokens.contains_key(&first), "the list is shared by team");
}

#[test]
fn a_token_has_a_name_that_people_can_read() {
    let mut world = World::new();
    let wish = |name: &str| Command::CreateToken {
        by: Admin::socket(0),
        token: NewToken { purpose: WISH, ttl: 3600, ephemeral: false, name: Some(name.to_owned()) },
        secret: SECRET.hash(),
    };
    for bad in ["", "a\nb", "a\u{202e}b", &"x".repeat(65)] {
        assert!(refused(world.run(&wish(bad))).starts_with("Invalid: a token's name has 1 to 64 bytes"), "{bad:?}");
    }
    let Ok(Outcome::TokenCreated { token, .. }) = world.run(&wish("ci deploy")) else { panic!("a token") };
    assert_eq!(world.state.tokens(&Admin::socket(0), world.now)[0].name.as_deref(), Some("ci deploy"));
    let by = Admin { via: Via::Token(token), ..Admin::socket(0) };
    world
        .run(&Command::Admin {
            by,
            what: AdminCommand::Apply { files: vec![whole("shop: db")], dry_run: false, force: false, prune: None },
        })
        .unwrap();
    let entries = world.state.audit(&Admin::socket(0), 2);
    assert_eq!((entries[0].by_name.as_deref(), &*entries[1].detail), (Some("ci deploy"), "t-1 (ci deploy): admin"));
}
