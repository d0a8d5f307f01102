use mesh_proto::{Secret, TokenId, token::Credential};

use crate::{
    Admin, NewPurpose, Role, Via,
    testing::{SECRET, World, label, refused},
};

#[test]
fn a_runner_is_known_by_its_credential_until_it_is_removed() {
    let mut world = World::new();
    let runner = world.join("r1");
    let shown = |secret| Credential { runner, secret };
    assert_eq!(world.state.authenticate_runner(&shown(SECRET)).unwrap(), runner);
    let wrong = refused(world.state.authenticate_runner(&shown(Secret::from_bytes([9; 32]))));
    assert_eq!(
        wrong,
        "Unauthorised: this coordinator knows no runner with this credential | to join as a new runner, delete the \
         agent's state directory and run `mesh-node join URL TOKEN`"
    );
    let stranger = Credential { runner: mesh_proto::RunnerId(99), secret: SECRET };
    assert_eq!(refused(world.state.authenticate_runner(&stranger)), wrong, "as for one that never was");

    world.order(crate::AdminCommand::RemoveNode { name: label("r1"), force: true }).unwrap();
    assert_eq!(
        refused(world.state.authenticate_runner(&shown(SECRET))),
        "Unauthorised: the runner `r1` was removed from the mesh | to join as a new runner, delete the agent's state \
         directory and run `mesh-node join URL TOKEN`"
    );
}

#[test]
fn an_admin_token_gives_its_holder_the_right_of_its_team_and_no_join_token_does() {
    let mut world = World::new();
    let all = world.token(NewPurpose::Admin { team: None });
    let acme = world.token(NewPurpose::Admin { team: Some(label("acme")) });
    let join = world.token(NewPurpose::JoinAny { uses: 1 });
    let ask = |world: &World, id| world.state.authenticate_admin(id, &SECRET, world.now);
    assert_eq!(ask(&world, all).unwrap(), Admin { via: Via::Token(all), team: None, role: Role::Admin });
    assert_eq!(
        ask(&world, acme).unwrap(),
        Admin { via: Via::Token(acme), team: Some(label("acme")), role: Role::Admin }
    );
    assert_eq!(
        refused(ask(&world, join)),
        "Forbidden: the token t-3 is a join token: it gives no right to administer | make an admin token with \
         `mesh-coord token create --admin`"
    );
    let unknown = "Unauthorised: this coordinator has no such token | check that it is this coordinator's and was \
                   copied whole, or ask its operator for a new one";
    assert_eq!(refused(ask(&world, TokenId(9))), unknown);
    assert_eq!(refused(world.state.authenticate_admin(all, &Secret::from_bytes([9; 32]), world.now)), unknown);

    world.order(crate::AdminCommand::RevokeToken { token: acme, with_nodes: false }).unwrap();
    world.now = world.now.plus(3600);
    assert_eq!(
        refused(ask(&world, acme)),
        "Unauthorised: the token t-2 was revoked 1 hour ago | ask the coordinator's operator for a new one \
         (`mesh-coord token create`)"
    );
    assert_eq!(
        refused(ask(&world, all)),
        "Unauthorised: the token t-1 expired 0 seconds ago | ask the coordinator's operator for a new one \
         (`mesh-coord token create`)"
    );
}
