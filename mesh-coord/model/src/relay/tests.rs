use mesh_proto::{
    Abilities, RelayId, RunnerId, Secret,
    relay::{Mapping, Nat, Relayed, wire::RelayPublic},
    token::{Fingerprint, RelayLogin},
};

use crate::{
    Admin, AdminCommand, Command, NewPurpose, NewRelay, NewToken, Outcome, Refusal, RelayEnrolment, RunnerCommand,
    UnixSeconds, credential_until, limits,
    record::{Outside, RelayKind, SecretHandle},
    testing::{SECRET, World, label, refused, whole},
};

fn wish(name: &str) -> NewRelay {
    NewRelay { name: label(name), public: RelayPublic { udp: vec!["203.0.113.9:3478".parse().unwrap()], ..public() } }
}

fn wish_at(name: &str, change: impl FnOnce(RelayPublic) -> RelayPublic) -> NewRelay {
    let NewRelay { name, public } = wish(name);
    NewRelay { name, public: change(public) }
}

fn add(world: &mut World, relay: NewRelay) -> Result<Outcome, Refusal> {
    world.run(&Command::AddRelay { by: world.admin.clone(), relay, secret: SecretHandle(1) })
}

fn public() -> RelayPublic {
    RelayPublic { udp: vec!["203.0.113.10:3478".parse().unwrap()], tcp: vec![], tls: vec![], fingerprint: None }
}

fn enrol(world: &mut World, token: mesh_proto::TokenId, public: RelayPublic) -> Result<Outcome, Refusal> {
    let (secret, handle) = (SECRET, SecretHandle(2));
    let credential = Secret::from_bytes([9; 32]).hash();
    world.run(&Command::EnrolRelay(RelayEnrolment { token, secret, public, credential, handle }))
}

fn names(world: &World) -> Vec<String> {
    let rows = world.state.relay_rows(&world.admin).unwrap();
    rows.iter().map(|row| format!("{} {} {}", row.relay.id, row.relay.name, row.runners)).collect()
}

#[test]
fn relays_are_added_listed_and_removed_and_no_number_is_given_twice() {
    let mut world = World::new();
    assert_eq!(add(&mut world, wish("north")), Ok(Outcome::RelayAdded { relay: RelayId(1), name: label("north") }));
    add(&mut world, wish("east")).unwrap();
    assert_eq!(names(&world), ["relay-2 east 0", "relay-1 north 0"]);
    let removed = world.order(AdminCommand::RemoveRelay { name: label("east") });
    assert_eq!(removed, Ok(Outcome::RelayRemoved { relay: RelayId(2), name: label("east"), left: 1 }));
    add(&mut world, wish("east")).unwrap();
    assert_eq!(names(&world), ["relay-3 east 0", "relay-1 north 0"]);
    let audit: Vec<String> =
        world.state.audit(&world.admin, 9).into_iter().map(|e| e.action + " " + &e.detail).collect();
    assert_eq!(
        audit,
        [
            "relay-add relay-3 `east` at udp 203.0.113.9:3478",
            "relay-remove relay-2 `east`",
            "relay-add relay-2 `east` at udp 203.0.113.9:3478",
            "relay-add relay-1 `north` at udp 203.0.113.9:3478"
        ]
    );
}

#[test]
fn what_is_wrong_with_a_relay_is_said() {
    let mut world = World::new();
    add(&mut world, wish("north")).unwrap();
    let tls = vec!["relay.example.net:443".parse().unwrap()];
    for (relay, words) in [
        (
            wish("north"),
            "Conflict: there is a relay `north` already | choose another name, or `mesh-coord relay remove north` first",
        ),
        (
            wish_at("a", |public| RelayPublic { udp: vec![], ..public }),
            "Invalid: the relay `a` has no address | give --turn HOST:PORT, or for a relay of mesh --public",
        ),
        (
            wish_at("a", |public| RelayPublic { tls, ..public }),
            "Invalid: the relay `a` takes TLS, but the fingerprint of its key isn't given | give --fingerprint; runners trust no other key than that one",
        ),
        (
            wish_at("a", |public| RelayPublic { udp: vec!["224.0.0.1:3478".parse().unwrap()], ..public }),
            "Invalid: the relay `a` can't be at 224.0.0.1:3478: that address is a multicast address | give an address at which runners reach it",
        ),
        (
            wish_at("a", |public| RelayPublic { tcp: vec!["203.0.113.9:1".parse().unwrap(); 9], ..public }),
            "Conflict: the relay `a` would have 9 TCP addresses, and 8 is the most | the limit is fixed: have fewer, or divide them up",
        ),
    ] {
        assert_eq!(refused(add(&mut world, relay)), words);
    }
    assert_eq!(
        refused(world.order(AdminCommand::RemoveRelay { name: label("norht") })),
        "NotFound: there is no relay `norht` | did you mean `north`?"
    );
    for n in 1..limits::RELAYS {
        add(&mut world, wish(&format!("r{n}"))).unwrap();
    }
    assert!(refused(add(&mut world, wish("more"))).contains("17 relays, and 16 is the most"));
}

#[test]
fn no_teams_administrator_changes_or_lists_relays() {
    let mut world = World::new();
    add(&mut world, wish("north")).unwrap();
    world.admin = Admin { team: Some(label("acme")), ..Admin::socket(0) };
    let words = "Forbidden: relays are the whole mesh's, and this admin token is good for team `acme` only | \
                 use the coordinator's socket, or a token made with `mesh-coord token create --admin`";
    assert_eq!(refused(add(&mut world, wish("east"))), words);
    assert_eq!(refused(world.order(AdminCommand::RemoveRelay { name: label("north") })), words);
    assert_eq!(refused(world.state.relay_rows(&world.admin).map(|_| ())), words);
    let token = NewToken { purpose: NewPurpose::Relay { name: label("east") }, ttl: 60, ephemeral: false, name: None };
    let made = world.run(&Command::CreateToken { by: world.admin.clone(), token, secret: SECRET.hash() });
    assert!(refused(made).starts_with("Forbidden: what such a token would allow is not team `acme`'s"));
}

#[test]
fn an_own_relay_enrols_once_with_its_token_and_tells_where_it_is() {
    let mut world = World::new();
    let token = world.token(NewPurpose::Relay { name: label("fra-1") });
    let join = world.token(NewPurpose::JoinAny { uses: 1 });
    assert!(refused(enrol(&mut world, join, public())).contains("is a join token: it enrols no relay"));
    let nowhere = RelayPublic { udp: vec![], ..public() };
    assert!(refused(enrol(&mut world, token, nowhere)).contains("the relay `fra-1` has no address"));
    let enrolled = enrol(&mut world, token, public());
    assert_eq!(enrolled, Ok(Outcome::RelayEnrolled { relay: RelayId(1), name: label("fra-1") }));
    assert_eq!(
        refused(enrol(&mut world, token, public())),
        format!(
            "Unauthorised: the token {token} is used up: its relay has enrolled | if the answer was lost, `mesh-coord \
             relay remove` it, and make another token with `token create --relay`"
        )
    );
    let rows = world.state.tokens(&world.admin, UnixSeconds(0));
    let row = rows.iter().find(|row| row.id == token).unwrap();
    assert_eq!((&*row.kind, &*row.scope, row.uses_left), ("relay", "relay fra-1", Some(0)));

    let login = |secret| RelayLogin { relay: RelayId(1), secret: Secret::from_bytes([secret; 32]) };
    assert_eq!(world.state.authenticate_relay(&login(9)), Ok(RelayId(1)));
    assert!(world.state.authenticate_relay(&login(8)).is_err());
    let moved = RelayPublic { tls: vec!["r.example.net:443".parse().unwrap()], ..public() };
    let hello = |public| Command::RelayHello { by: RelayId(1), version: "0.3.0".to_owned(), public };
    assert!(refused(world.run(&hello(moved.clone()))).contains("fingerprint"));
    let moved = RelayPublic { fingerprint: Some(Fingerprint([1; 32])), ..moved };
    world.run(&hello(moved.clone())).unwrap();
    let revision = world.state.revision();
    world.run(&hello(moved)).unwrap();
    assert_eq!(world.state.revision(), revision, "nothing new changes nothing");
    let relay = world.state.relay(RelayId(1)).unwrap();
    assert!(
        matches!(&relay.relay, RelayKind::Own { version, .. } if version == "0.3.0") && relay.public.tls.len() == 1
    );

    world.order(AdminCommand::RemoveRelay { name: label("fra-1") }).unwrap();
    assert!(
        refused(world.state.authenticate_relay(&login(9))).starts_with("Unauthorised: this coordinator has no such")
    );
    assert!(world.run(&hello(public())).is_err());
}

#[test]
fn what_a_runner_tells_of_its_addresses_outside_is_shown_as_far_as_it_can_be() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db")]).unwrap();
    let runner = world.join("r1");
    add(&mut world, wish("north")).unwrap();
    add(&mut world, wish("east")).unwrap();
    let at = |relay, address: &str| Relayed { relay: RelayId(relay), address: address.parse().unwrap() };
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    let told = Outside {
        // An endpoint, one twice, and those that can't be: a carrier's NAT may have an address of the mesh's range.
        reflexive: addresses(&[
            "192.0.2.1:51820",
            "198.51.100.4:40000",
            "[::ffff:198.51.100.4]:40000",
            "100.112.0.9:40000",
            "127.0.0.1:5",
            "0.0.0.0:5",
        ]),
        relayed: vec![
            at(1, "[::ffff:203.0.113.9]:50001"),
            at(1, "203.0.113.9:50002"),
            at(2, "224.0.0.1:5"),
            at(9, "203.0.113.9:50003"),
        ],
        nat: Some(Nat { udp: true, mapping: Mapping::Varies }),
    };
    let endpoints = addresses(&["192.0.2.1:51820"]);
    world.request(runner, RunnerCommand::Endpoints { endpoints: endpoints.clone(), outside: told.clone() }).unwrap();
    let shown = |world: &World| {
        let view = world.view(runner);
        let runner = view.runner(runner).unwrap();
        (runner.reflexive.clone(), runner.relayed.clone())
    };
    let good = (addresses(&["198.51.100.4:40000"]), vec![at(1, "203.0.113.9:50001")]);
    assert_eq!(shown(&world), good);
    assert_eq!(names(&world), ["relay-2 east 0", "relay-1 north 1"]);
    let row = world.state.nodes(&world.admin).remove(0);
    assert_eq!((row.reflexive, row.nat), (good.0, told.nat));
    assert_eq!(row.relayed, [(label("north"), "203.0.113.9:50001".parse().unwrap())]);
    let revision = world.state.revision();
    world.request(runner, RunnerCommand::Endpoints { endpoints: endpoints.clone(), outside: told }).unwrap();
    assert_eq!(world.state.revision(), revision, "nothing new changes nothing");

    let many = Outside { reflexive: addresses(&["198.51.100.4:1"; 9]), ..Outside::default() };
    let refusal =
        refused(world.request(runner, RunnerCommand::Endpoints { endpoints: endpoints.clone(), outside: many }));
    assert!(refusal.contains("`r1` would have 9 reflexive addresses, and 8 is the most"), "{refusal}");
    let many = Outside { relayed: vec![at(1, "203.0.113.9:50001"); 5], ..Outside::default() };
    let refusal = refused(world.request(runner, RunnerCommand::Endpoints { endpoints, outside: many }));
    assert!(refusal.contains("5 relayed addresses, and 4 is the most"), "{refusal}");

    let hello = RunnerCommand::Hello {
        version: "0.2.0".to_owned(),
        can: Abilities::NONE,
        endpoints: vec![],
        seen: None,
        outside: Outside::default(),
        instances: vec![],
    };
    world.request(runner, hello).unwrap();
    assert_eq!(shown(&world), (vec![], vec![]), "an older agent took its place");
}

#[test]
fn a_removed_runner_is_revoked_until_its_last_credential_has_expired() {
    let mut world = World::new();
    let (first, second) = (world.join("r1"), world.join("r2"));
    assert!(world.state.revoked(world.now).is_empty());
    world.order(AdminCommand::RemoveNode { name: label("r1"), force: false }).unwrap();
    let at = world.now;
    world.request(second, RunnerCommand::Leave).unwrap();
    let until = at.plus(limits::RELAY_CREDENTIAL);
    assert_eq!(world.state.revoked(at), [(first, until), (second, until)].into());
    assert!(world.state.revoked(until).is_empty());
}

#[test]
fn credentials_are_good_for_seven_days_at_most_and_renewed_at_half() {
    const HALF: u64 = 7 * 86_400 / 2;
    for runner in [1, 2, 77, u64::MAX].map(RunnerId) {
        let first = credential_until(runner, UnixSeconds(1_900_000_000));
        let mut changes = 0;
        let mut last = first;
        for hour in 0..24 * 35 {
            let now = UnixSeconds(1_900_000_000 + hour * 3600);
            let until = credential_until(runner, now);
            assert!((HALF..=2 * HALF).contains(&until.since(now)), "{runner} {hour}");
            changes += usize::from(std::mem::replace(&mut last, until) != until);
        }
        assert_eq!(changes, 10, "twice a week");
    }
    let at = |runner| credential_until(RunnerId(runner), UnixSeconds(1_900_000_000));
    assert!(at(1) != at(2), "not all at once");
    assert_eq!(credential_until(RunnerId(1), UnixSeconds(u64::MAX)), UnixSeconds(u64::MAX - 7919));
}
