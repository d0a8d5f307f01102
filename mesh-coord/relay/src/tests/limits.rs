//! What one client can take from others.

use super::{
    client::{Answered::*, Client},
    *,
};

#[test]
fn there_are_so_many_allocations_and_who_has_one_keeps_it() {
    let mut world = World::with(Limits { allocations: 3, ..Limits::default() });
    let mut all: Vec<Client> = (1..=3).map(|i| Client::ready(&mut world, i, &format!("192.0.{i}.1:1000"))).collect();
    assert_eq!(Client::new(4, "192.0.4.1:1000").allocate(&mut world), No(508));
    assert_eq!(all[0].allocate(&mut world), Yes, "one that has an allocation gets another in its place");
    assert_eq!(all[1].refresh(&mut world, 0), Yes);
    assert_eq!(Client::new(4, "192.0.4.1:1000").allocate(&mut world), Yes);
}

#[test]
fn one_client_has_one_allocation_however_often_it_asks() {
    let mut world = World::new();
    for i in 0..200 {
        Client::ready(&mut world, 1, &format!("192.0.{i}.1:{}", 1000 + i));
    }
    assert_eq!(world.relay.size(), (1, 0));
}

#[test]
fn a_client_that_binds_all_it_can_leaves_channels_to_others() {
    let mut world = World::with(Limits { channels: 100, all_channels: 40, ..Limits::default() });
    let clients: Vec<Client> = (1..=45).map(|i| Client::ready(&mut world, i, &format!("192.0.{i}.1:1000"))).collect();
    let (greedy, modest) = (&clients[0], &clients[1]);
    let bound = |world: &mut World, client: &Client| {
        let peers = clients.iter().zip(0x4000..);
        peers.filter(|(peer, number)| client.bind(world, *number, peer.relayed()) == Yes).count()
    };
    assert_eq!(bound(&mut world, greedy), 20, "no more than what is left");
    assert_eq!(bound(&mut world, &clients[2]), 10);
    assert_eq!(modest.bind(&mut world, 0x4000, greedy.relayed()), Yes);
    assert_eq!(greedy.bind(&mut world, 0x4444, clients[40].relayed()), No(486));
    world.pass(601);
    world.relay.sweep(world.now);
    assert_eq!(world.relay.size(), (0, 0));
}

#[test]
fn an_address_that_asks_without_end_is_not_looked_at_any_more() {
    let mut world = World::new();
    let mut client = Client::new(1, "192.0.2.1:1000");
    client.challenged(&world.take(client.way, &Client::greeting(64)).unwrap());
    client.password = "guess".to_owned();
    let answers = (0..5000).filter(|i| client.allocate_again(&mut world, (*i).into()) != Silence).count();
    assert_eq!(answers, 1000);
    assert_eq!(Client::new(2, "192.0.2.2:1000").allocate(&mut world), Yes);
}
