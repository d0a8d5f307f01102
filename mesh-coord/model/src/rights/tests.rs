use mesh_proto::{Ports, TokenId};

use super::*;
use crate::{
    Apply, NewPurpose, NewRelay, NewToken, Offload, TrustChange, Via,
    record::{Purpose, SecretHandle},
    testing::{SECRET, World, label, refused, whole},
};

fn with(role: Role, world: &World) -> Admin {
    Admin { role, ..world.admin.clone() }
}

/// Every command of an administrator, and the least role that it needs.
fn commands(by: &Admin) -> Vec<(Role, Command)> {
    let admin = |what| Command::Admin { by: by.clone(), what };
    let [shop, one] = [label("shop"), label("one")];
    let trust = TrustChange::Add { callers: [label("bank")].into(), services: None, ports: Ports::All };
    let apply = |dry_run| Apply { files: vec![], expect: vec![], dry_run, force: false, prune: false };
    let old = |dry_run| admin(AdminCommand::Apply { files: vec![], dry_run, force: false, prune: Some(false) });
    let token = NewToken { purpose: NewPurpose::JoinAny { uses: 1 }, ttl: 60, ephemeral: false, name: None };
    let public = serde_json::from_str(r#"{"udp":["192.0.2.1:3478"]}"#).unwrap();
    let relay = NewRelay { name: label("turn"), public };
    let instance = mesh_proto::InstanceId(1);
    vec![
        (Role::Viewer, Command::Apply { by: by.clone(), what: apply(true) }),
        (Role::Viewer, old(true)),
        (Role::Operator, Command::Apply { by: by.clone(), what: apply(false) }),
        (Role::Operator, old(false)),
        (Role::Operator, admin(AdminCommand::Trust { deployment: shop.clone(), change: trust })),
        (Role::Operator, admin(AdminCommand::Drain { instance })),
        (Role::Operator, admin(AdminCommand::Undrain { instance })),
        (Role::Operator, admin(AdminCommand::DrainNode { name: one.clone() })),
        (Role::Operator, admin(AdminCommand::UndrainNode { name: one.clone() })),
        (Role::Operator, admin(AdminCommand::Delete { deployment: shop, force: true })),
        (Role::Admin, Command::CreateToken { by: by.clone(), token, secret: SECRET.hash() }),
        (Role::Admin, Command::AddRelay { by: by.clone(), relay, secret: SecretHandle(7) }),
        (Role::Admin, admin(AdminCommand::RemoveRelay { name: label("turn") })),
        (Role::Admin, admin(AdminCommand::Switch { offload: Offload::TunGso, on: false, node: None })),
        (Role::Admin, admin(AdminCommand::RevokeToken { token: TokenId(1), with_nodes: false })),
        (Role::Admin, admin(AdminCommand::RemoveNode { name: one, force: true })),
    ]
}

#[test]
fn each_role_may_do_what_it_includes_and_nothing_else() {
    for role in Role::ALL {
        let mut world = World::new();
        world.apply(vec![whole("shop: db")]).unwrap();
        let one = world.join("one");
        world.attach(one, "shop/db");
        let mut done = 0;
        for (needed, command) in commands(&with(role, &world)) {
            let result = world.run(&command);
            if role >= needed {
                assert!(!matches!(result, Err(Refusal::Role { .. })), "{role}: {command:?} {result:?}");
                done += 1;
            } else {
                let words = format!("Forbidden: this needs the role `{needed}`, and this admin token has `{role}` | ");
                assert!(refused(result).starts_with(&words), "{role}: {command:?}");
            }
        }
        assert_eq!(done, [2, 10, 16][role as usize]);
    }
}

#[test]
fn every_role_may_ask_what_a_command_would_do() {
    let mut world = World::new();
    world.apply(vec![whole("shop: db"), whole("bank: vault")]).unwrap();
    let one = world.join("one");
    world.attach(one, "shop/db");
    let viewer = with(Role::Viewer, &world);
    for (needed, command) in commands(&viewer) {
        let answer = world.state.preview(&viewer, &command, world.now, None);
        assert!(!matches!(answer, Err(Refusal::Role { .. })), "{command:?}: {answer:?}");
        assert_eq!(
            world.decide(&command).is_err_and(|error| matches!(error, Refusal::Role { .. })),
            needed > Role::Viewer
        );
    }
}

#[test]
fn a_token_has_the_role_that_it_was_made_with_and_one_of_before_has_all_rights() {
    let mut world = World::new();
    for role in Role::ALL {
        let team = Some(label("acme"));
        let token = world.token(NewPurpose::Role { role, team: team.clone() });
        let by = world.state.authenticate_admin(token, &SECRET, world.now).unwrap();
        assert_eq!(by, Admin { via: Via::Token(token), team, role });
    }
    let token = world.token(NewPurpose::Admin { team: None });
    assert_eq!(world.state.authenticate_admin(token, &SECRET, world.now).unwrap().role, Role::Admin);
    let stored: Purpose = serde_json::from_str(r#"{"admin":{"team":null}}"#).unwrap();
    assert_eq!(stored, Purpose::Admin { team: None });
}

/// A coordinator of before roles must not take a viewer for an administrator.
#[test]
fn a_lesser_role_is_stored_as_what_earlier_versions_cannot_read() {
    let mut world = World::new();
    let token = world.token(NewPurpose::Role { role: Role::Viewer, team: None });
    let stored = serde_json::to_value(&world.state.tokens[&token].purpose).unwrap();
    assert_eq!(stored, serde_json::json!({ "role": { "role": "viewer", "team": null } }));
}

#[test]
fn a_teams_administrator_gives_roles_in_its_team_only() {
    let mut world = World::new();
    world.admin = Admin { team: Some(label("acme")), ..world.admin.clone() };
    let create = |world: &mut World, team: Option<&str>| {
        let purpose = NewPurpose::Role { role: Role::Viewer, team: team.map(label) };
        let token = NewToken { purpose, ttl: 60, ephemeral: false, name: None };
        world.run(&Command::CreateToken { by: world.admin.clone(), token, secret: SECRET.hash() })
    };
    assert!(create(&mut world, Some("acme")).is_ok());
    for other in [None, Some("evil")] {
        assert!(matches!(create(&mut world, other), Err(Refusal::NotYours { .. })));
    }
}
