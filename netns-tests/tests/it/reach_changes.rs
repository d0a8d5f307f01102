//! Paths that end under connections: these go on, by another path, and none is reset.

use mesh_netns_tests::{Crowd, NamedServer, Nat, Pace, Steady, Transfer, Turn, Udp, isolated};

use crate::reach::{Lab, Pair, Path};

/// Transfers in both directions.
fn transfers(pair: &Pair) -> [Steady; 2] {
    [Steady::start(&pair.app, &pair.db, 5432), Steady::start(&pair.db, &pair.app, 80)]
}

fn udp_between_runners_is_taken_away_and_given_back(turn: Turn) {
    let lab = Lab::new(turn);
    let pair = Pair::new(&lab, [Nat::Home, Nat::Home]);
    pair.wait_path(Path::Direct);
    let transfers = transfers(&pair);
    Steady::wait_more(&transfers, 300_000);
    let only = Udp::OnlyWith(lab.relay.plain(false).ip());
    pair.sites[0].router.set_udp(only);
    pair.wait_path(Path::Relay);
    Steady::wait_more(&transfers, 300_000);
    pair.sites[0].router.set_udp(Udp::Passes);
    pair.wait_path(Path::Direct);
    Steady::wait_more(&transfers, 300_000);
    transfers.into_iter().for_each(Steady::finish);
}

#[test]
fn connections_stand_when_the_direct_path_ends_and_is_back() {
    isolated(|| udp_between_runners_is_taken_away_and_given_back(Turn::Coturn));
}

/// Kills the relay under eight transfers and fifty idle connections, and starts it again.
fn the_relay_is_started_again(turn: Turn) {
    let mut lab = Lab::new(turn);
    let pair = Pair::new(&lab, [Nat::Symmetric, Nat::Symmetric]);
    let server = NamedServer::start(&pair.db.namespace, &pair.db.id, 5432);
    let gather = |count| Crowd::gather(&pair.app.namespace, pair.db.service_address, 5432, count);
    let (busy, mut idle) = (gather(8), gather(50));
    let busy: Vec<Transfer> = busy.transfer(Pace::Steady);
    busy.iter().for_each(|transfer| transfer.wait_more(200_000));
    lab.relay.kill();
    lab.relay.start();
    busy.iter().for_each(|transfer| transfer.wait_more(200_000));
    assert_eq!(pair.paths(), ["relay"; 2]);
    idle.assert_all_answer();
    for transfer in busy {
        transfer.finish().expect("every byte");
    }
    assert_eq!(server.resets(), 0);
}

#[test]
fn connections_stand_when_coturn_is_killed_and_started_again() {
    isolated(|| the_relay_is_started_again(Turn::Coturn));
}

#[test]
fn connections_stand_when_a_relay_of_the_mesh_is_killed_and_started_again() {
    isolated(|| the_relay_is_started_again(Turn::Enrolled));
}

/// Routers forget everything, one after the other, with the coordinator away.
fn routers_forget(turn: Turn) {
    let mut lab = Lab::new(turn);
    let pair = Pair::new(&lab, [Nat::Home, Nat::Home]);
    pair.wait_path(Path::Direct);
    let transfers = transfers(&pair);
    Steady::wait_more(&transfers, 300_000);
    lab.coordinator.kill();
    for site in &pair.sites {
        site.router.forget();
        Steady::wait_more(&transfers, 300_000);
    }
    pair.wait_path(Path::Direct);
    transfers.into_iter().for_each(Steady::finish);
}

#[test]
fn a_direct_path_survives_routers_that_forget() {
    isolated(|| routers_forget(Turn::Coturn));
}

/// Routers with a port for each destination forget everything: runners have other addresses for the relay.
fn symmetric_routers_forget(turn: Turn, which: &[usize], coordinator: Coordination) {
    let mut lab = Lab::new(turn);
    let pair = Pair::new(&lab, [Nat::Symmetric, Nat::Symmetric]);
    let transfers = transfers(&pair);
    Steady::wait_more(&transfers, 300_000);
    if coordinator == Coordination::Away {
        lab.coordinator.kill();
    }
    transfers.iter().for_each(|transfer| _ = transfer.take_stall());
    which.iter().for_each(|site| pair.sites[*site].router.forget());
    Steady::wait_more(&transfers, 300_000);
    println!("the longest waits are {:?}", transfers.each_ref().map(Steady::take_stall));
    pair.speaks();
    assert_eq!(pair.paths(), [Path::Relay.name(); 2]);
    transfers.into_iter().for_each(Steady::finish);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coordination {
    There,
    Away,
}

#[test]
fn by_coturn_connections_survive_one_router_that_forgets_without_the_coordinator() {
    isolated(|| symmetric_routers_forget(Turn::Coturn, &[0], Coordination::Away));
}

/// Each runner gets another address at coturn. If neither knows the other's, only the coordinator can tell it.
#[test]
fn by_coturn_connections_survive_both_routers_that_forget() {
    isolated(|| symmetric_routers_forget(Turn::Coturn, &[0, 1], Coordination::There));
}

/// A relay of the mesh gives each runner the address that it had.
#[test]
fn by_a_relay_of_the_mesh_connections_survive_both_routers_that_forget_without_the_coordinator() {
    isolated(|| symmetric_routers_forget(Turn::Enrolled, &[0, 1], Coordination::Away));
}

#[test]
fn by_a_relay_of_the_mesh_connections_survive_one_router_that_forgets_without_the_coordinator() {
    isolated(|| symmetric_routers_forget(Turn::Enrolled, &[1], Coordination::Away));
}
