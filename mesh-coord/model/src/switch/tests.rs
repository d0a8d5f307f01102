use mesh_proto::message::Switches;

use super::*;
use crate::{
    AdminCommand,
    testing::{World, label, refused},
};

fn switch(offload: Offload, on: bool, node: Option<&str>) -> AdminCommand {
    AdminCommand::Switch { offload, on, node: node.map(label) }
}

#[test]
fn an_offload_is_on_where_both_switches_are() {
    let mut world = World::new();
    let (a, b) = (world.join("a"), world.join("b"));
    assert_eq!(world.state.switches(a), Switches::default());
    world.order(switch(Offload::UdpGso, false, Some("a"))).unwrap();
    world.order(switch(Offload::TunGso, false, None)).unwrap();
    assert_eq!(world.state.switches(a), Switches { tun_gso: false, udp_gso: false, udp_gro: true });
    assert_eq!(world.state.switches(b), Switches { tun_gso: false, ..Switches::default() });
    let Ok(Outcome::Switched { warnings, .. }) = world.order(switch(Offload::TunGso, true, Some("b"))) else {
        panic!("switched")
    };
    assert!(warnings[0].contains("stays off"), "{warnings:?}");
    world.order(switch(Offload::TunGso, true, None)).unwrap();
    assert_eq!(world.state.switches(b), Switches::default());
    let rows = world.state.nodes(&Admin::socket(0));
    assert_eq!(rows.iter().map(|row| row.off.clone()).collect::<Vec<_>>(), [vec![Offload::UdpGso], vec![]]);
    let actions: Vec<String> = world.state.audit(&Admin::socket(0), 3).into_iter().map(|e| e.detail).collect();
    assert_eq!(actions, ["tun-gso on on all nodes", "tun-gso off on all nodes", "udp-gso off on r-1 `a`"]);
}

#[test]
fn the_same_again_changes_nothing_and_nothing_is_switched_that_is_not_there_or_not_ones_own() {
    let mut world = World::new();
    world.join("a");
    let revision = world.state.revision();
    world.order(switch(Offload::UdpGro, true, None)).unwrap();
    world.order(switch(Offload::UdpGro, true, Some("a"))).unwrap();
    assert_eq!(world.state.revision(), revision);
    assert!(refused(world.order(switch(Offload::UdpGro, false, Some("b")))).contains("no runner"));
    world.admin.team = Some(label("acme"));
    assert!(refused(world.order(switch(Offload::UdpGro, false, None))).contains("the mesh's switches"));
    assert!(refused(world.order(switch(Offload::UdpGro, false, Some("a")))).contains("`a`"));
    assert_eq!(world.state.revision(), revision);
}

#[test]
fn switches_survive_a_restart() {
    let mut world = World::new();
    world.join("a");
    world.order(switch(Offload::UdpGso, false, Some("a"))).unwrap();
    world.order(switch(Offload::TunGso, false, None)).unwrap();
    let again = State::load(world.state.revision(), world.state.records()).unwrap();
    assert_eq!(again, world.state);
}
