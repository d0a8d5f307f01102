//! Several instances of a service: which of them gets a connection.

use std::{collections::BTreeMap, net::SocketAddrV4};

use mesh_netns_tests::{
    Coordinator, Crowd, Instance, NamedServer, Runner, Stack, World, isolated, traffic::connect_from,
};

use crate::common::{SHOP, declare};

/// A world with SHOP in it, and runners.
pub(crate) fn shop<const N: usize>(names: [&str; N]) -> (World, Coordinator, [Runner; N]) {
    let world = World::new();
    let coordinator = world.coordinator(&[]);
    declare(&coordinator, &[SHOP]);
    let runners = names.map(|name| world.runner(&coordinator, name, Stack::Dual));
    (world, coordinator, runners)
}

/// The number of connections of each of these.
pub(crate) fn spread<const N: usize>(counts: [(&Instance, usize); N]) -> BTreeMap<String, usize> {
    counts.into_iter().map(|(instance, count)| (instance.id.clone(), count)).collect()
}

pub(crate) const PORT: u16 = 5432;

/// A server in each of these.
pub(crate) fn serve<const N: usize>(instances: [&Instance; N]) -> [NamedServer; N] {
    instances.map(|instance| instance.serve_named(PORT))
}

/// So many connections to `db`'s service, held open.
#[track_caller]
pub(crate) fn crowd(caller: &Instance, db: &Instance, count: usize) -> Crowd {
    Crowd::gather(&caller.namespace, db.service_address, PORT, count)
}

#[test]
fn local_instances_share_the_connections_and_no_others_get_any() {
    isolated(|| {
        let (_world, _coordinator, [aws, ovh, cellar]) = shop(["aws", "ovh", "cellar"]);
        let [a, b, c] = [aws.attach("shop/db"), aws.attach("shop/db"), ovh.attach("shop/db")];
        assert!(a.service_address == b.service_address && b.service_address == c.service_address);
        let servers = serve([&a, &b, &c]);
        let [near_two, near_one, afar] = [&aws, &ovh, &cellar].map(|runner| runner.attach("shop/app"));

        let mut of_two = crowd(&near_two, &a, 300);
        assert_eq!(of_two.spread(), spread([(&a, 150), (&b, 150)]), "two at hand, one afar");
        let mut of_one = crowd(&near_one, &a, 300);
        assert_eq!(of_one.spread(), spread([(&c, 300)]), "one at hand, two afar");
        let mut from_afar = crowd(&afar, &a, 300);
        assert_eq!(from_afar.spread(), spread([(&a, 100), (&b, 100), (&c, 100)]), "three afar");
        assert_eq!(servers.each_ref().map(NamedServer::open), [250, 250, 400]);

        // By the connections that are open now, not by all that ever were.
        of_two.split_off(&a.id).leave();
        let mut more = crowd(&near_two, &a, 100);
        assert_eq!(more.spread(), spread([(&a, 100)]), "a has 100 from afar, b has 250");
        from_afar.split_off(&c.id).leave();
        let mut far_more = crowd(&afar, &a, 100);
        assert_eq!(far_more.spread(), spread([(&c, 100)]), "the caller's own count: 200 on aws, none on ovh");
        for crowd in [&mut of_two, &mut of_one, &mut from_afar, &mut more, &mut far_more] {
            crowd.assert_all_answer();
        }
    });
}

#[test]
fn each_of_a_callers_instances_is_answered_at_its_own_address() {
    isolated(|| {
        let (_world, _coordinator, [aws, ovh]) = shop(["aws", "ovh"]);
        let dbs = [aws.attach("shop/db"), ovh.attach("shop/db")];
        let servers = serve([&dbs[0], &dbs[1]]);
        let apps = [aws.attach("shop/app"), aws.attach("shop/app"), ovh.attach("shop/app")];
        let mut crowds = apps.each_ref().map(|app| crowd(app, &dbs[0], 30));
        for (crowd, app) in crowds.iter_mut().zip(&apps) {
            assert!(crowd.members().iter().all(|member| *member.local().ip() == app.address));
        }
        assert_eq!(crowds.each_ref().map(Crowd::spread)[..2], [spread([(&dbs[0], 30)]), spread([(&dbs[0], 30)])]);
        let mut callers = servers.each_ref().map(|server| {
            let mut count = BTreeMap::new();
            server.callers().into_iter().for_each(|caller| *count.entry(*caller.ip()).or_default() += 1);
            count
        });
        assert_eq!(callers[0], [(apps[0].address, 30), (apps[1].address, 30)].into());
        assert_eq!(callers[1].remove(&apps[2].address), Some(30));

        // All have the same port, and each gets its own text back.
        let streams = apps.each_ref().map(|app| {
            // None that the kernel chooses by itself (ip_local_port_range): a connection of the crowds may have it.
            let from = SocketAddrV4::new(app.address, 20_000);
            let dial = || connect_from(Some(from), dbs[0].service_address, PORT);
            app.namespace.enter(dial).expect("a connection from a port of our choice")
        });
        let mut same_port = Crowd::of(streams);
        same_port.assert_all_answer();
        assert_eq!(same_port.spread(), spread([(&dbs[0], 2), (&dbs[1], 1)]));
        for crowd in &mut crowds {
            crowd.assert_all_answer();
        }
    });
}

#[test]
fn one_that_dials_its_own_service_reaches_itself() {
    isolated(|| {
        let (_world, _coordinator, [aws, ovh]) = shop(["aws", "ovh"]);
        let [a, b, c] = [aws.attach("shop/db"), aws.attach("shop/db"), ovh.attach("shop/db")];
        let mut servers = serve([&a, &b, &c]);
        for db in [&a, &b, &c] {
            let mut own = crowd(db, db, 30);
            assert_eq!(own.spread(), spread([(db, 30)]));
            own.assert_all_answer();
        }
        // It reaches other instances of its own service by their own addresses.
        for (from, to) in [(&a, &b), (&a, &c), (&c, &a), (&b, &a)] {
            let mut crossing = Crowd::gather(&from.namespace, to.address, PORT, 5);
            assert_eq!(crossing.spread(), spread([(to, 5)]));
            crossing.assert_all_answer();
        }
        // It reaches itself, even if it is drained.
        servers[0].stop_listening();
        let error = a.connect(a.service_address, PORT).expect_err("it doesn't listen itself");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}
