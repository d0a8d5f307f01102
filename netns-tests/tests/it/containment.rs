//! An instance with every capability in its own namespace, and its neighbours, can do only what the service may do,
//! apart from cutting the instance off.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use mesh_netns_tests::{
    Capture, Census, Injector, Namespace, Stack, World, isolated,
    packet::{Segment, flag},
    traffic::{Answer, CONNECT_LIMIT, connect, unanswered},
    wait,
};

use crate::common::{BILLING, MESH_TABLE, RANGE, SHOP, UNOWNED, declare, is_refused, reaches};

/// A second way out of an instance, like a container's: a link to a gateway that forwards anything.
fn gateway_of(instance: &Namespace) -> Namespace {
    let gateway = Namespace::create("gateway");
    gateway.ip(&[
        &format!("link add port type veth peer name eth1 netns {}", instance.name()),
        "link set port address 02:00:00:00:00:01 up",
        "addr add 192.168.7.1/24 dev port",
    ]);
    instance.ip(&[
        "link set eth1 address 02:00:00:00:00:02 up",
        "addr add 192.168.7.2/24 dev eth1",
        "route add default via 192.168.7.1",
    ]);
    gateway.wait_up("port");
    instance.wait_up("eth1");
    gateway
}

#[test]
fn forged_sources_are_dropped_and_counted() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, "deployment = \"third\"\ntrust = [\"shop\"]\n[services.x]\n", BILLING]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let (app, neighbour) = (aws.attach("shop/app"), aws.attach("billing/api"));
        let (near, far) = (aws.attach("third/x"), ovh.attach("shop/db"));
        let _servers = [&near, &far].map(|callee| callee.serve(9000, Answer::Echo));
        let forged = [
            neighbour.address, // another instance on this runner
            neighbour.service_address,
            near.address, // even the target's own
            far.address,  // an instance of the same deployment, on another runner
            far.service_address,
            UNOWNED,
            Ipv4Addr::new(8, 8, 8, 8),
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::BROADCAST,
        ];
        let captures = [&app, &neighbour, &near, &far].map(|i| Capture::interface(&i.namespace, "mesh0"));
        let underlay = Capture::here();
        let injector = Injector::new(&app.namespace, "mesh0");
        let before = aws.drops("");
        let mut sent = 0;
        for source in forged {
            for target in [near.service_address, far.service_address, far.address] {
                for flags in [flag::SYN, flag::ACK, flag::SYN | flag::ACK, flag::RST] {
                    let (source, destination) = ((source, 9000), (target, 9000));
                    let segment = Segment { source, destination, seq: 1, ack: 1, flags, payload: &[] };
                    injector.send(&segment.packet());
                    sent += 1;
                }
            }
        }
        reaches(&app, near.service_address, 9000);
        reaches(&app, far.service_address, 9000);
        for (capture, whose) in
            captures.iter().zip(["the sender", "the neighbour", "the near target", "the far target"])
        {
            // The permitted connections are from and to the sender's own address.
            let stray = capture.received(|p| p.source != app.address && p.destination != app.address);
            let answers = capture
                .received(|p| p.destination == app.address && p.ports() == Some((9000, 9000)) || p.icmp().is_some());
            assert_eq!((stray, answers), (0, 0), "{whose} saw:\n{}", capture.text());
        }
        assert_eq!(aws.drops("") - before, sent, "{:#}", aws.json(&["status"])["drops"]);
        assert_eq!(Census::take(&underlay.frames(), RANGE, &[]).of_the_range, 0);
    });
}

#[test]
fn without_mesh0_nothing_for_the_range_leaves_by_another_interface() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let (app, db) = (aws.attach("shop/app"), aws.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let gateway = gateway_of(&app.namespace);
        let leaves = Capture::interface(&gateway, "port");
        reaches(&app, db.service_address, 5432);
        let nothing_leaves = |how: &str| {
            for to in [db.service_address, db.address, UNOWNED] {
                let error = app.connect(to, 5432).expect_err(how);
                // Whichever error the kernel reports, it isn't a time-out.
                assert!(!unanswered(&error), "{how}: connect to {to} was not refused in {CONNECT_LIMIT:?}: {error}");
                let socket = app.namespace.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
                socket.send_to(b"x", (to, 53)).expect_err(how);
            }
            // The way out works, but not for the range.
            let socket = app.namespace.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
            socket.send_to(b"x", (Ipv4Addr::new(1, 1, 1, 1), 53)).expect("the default route");
            leaves.wait_received(1, "what goes to the world", |p| p.destination == Ipv4Addr::new(1, 1, 1, 1));
            let census = Census::take(&leaves.frames(), RANGE, &[]);
            assert_eq!(census.of_the_range, 0, "{how}:\n{}", leaves.text());
        };
        // A running agent would restore it.
        aws.pause();
        app.namespace.ip(&["link set mesh0 down"]);
        nothing_leaves("mesh0 is down");
        app.namespace.ip(&["rule del pref 0 blackhole", &format!("route flush table {MESH_TABLE}")]);
        nothing_leaves("mesh0 is down and the routes are gone");
        aws.resume();
        wait::until_true("all of that to be put back", || {
            app.connect(db.service_address, 5432).is_ok() && app.namespace.ip_output("rule").contains("blackhole")
        });
        app.namespace.ip(&["link del mesh0"]);
        nothing_leaves("mesh0 is gone");
    });
}

#[test]
fn a_neighbour_on_the_containers_own_bridge_reaches_no_overlay_address() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let db = aws.attach("shop/db");
        let server = db.serve(5432, Answer::Echo);
        let neighbour = gateway_of(&db.namespace);
        // Linux accepts a packet for any of its addresses on any interface (the weak host model, RFC 1122 §3.3.4.2), so
        // that a route of the neighbour leads there.
        neighbour.ip(&[&format!("route add {}/{} via 192.168.7.2", RANGE.0, RANGE.1)]);
        let answers = Capture::interface(&neighbour, "port");
        let injector = Injector::new(&neighbour, "port").to_station([2, 0, 0, 0, 0, 2]);
        for to in [db.service_address, db.address] {
            for source in [Ipv4Addr::new(192, 168, 7, 1), UNOWNED] {
                for flags in [flag::SYN, flag::ACK] {
                    let segment = Segment {
                        source: (source, 4000),
                        destination: (to, 5432),
                        seq: 1,
                        ack: 1,
                        flags,
                        payload: &[],
                    };
                    injector.send(&segment.packet());
                }
            }
            // As its kernel would do. The limit is short because silence is a valid answer.
            neighbour.enter(|| {
                std::net::TcpStream::connect_timeout(&(to, 5432).into(), Duration::from_millis(300))
                    .expect_err("no way in")
            });
        }
        let stream = neighbour.enter(|| connect(Ipv4Addr::new(192, 168, 7, 2), 5432));
        stream.expect("the container's own address, by its own bridge, is no business of the mesh");
        wait::until_true("that connection to be accepted", || server.accepted() > 0);
        assert_eq!(server.accepted(), 1, "only the connection to its own address");
        let from_overlay = answers.received(|p| [db.service_address, db.address].contains(&p.source));
        assert_eq!(from_overlay, 0, "{}", answers.text());
    });
}

#[test]
fn the_machine_and_strangers_on_it_reach_nothing() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let (before, rules) = (aws.namespace().ip_output("addr"), aws.namespace().ip_output("rule"));
        let routes = aws.namespace().ip_output("route show table all");
        let db = aws.attach("shop/db");
        let server = db.serve(5432, Answer::Echo);
        // The machine's own network settings are unchanged: the range has no meaning there.
        assert_eq!(aws.namespace().ip_output("addr"), before);
        assert_eq!(aws.namespace().ip_output("rule"), rules);
        assert_eq!(aws.namespace().ip_output("route show table all"), routes);
        let underlay = Capture::here();
        let attempt = aws.namespace().enter(|| {
            std::net::TcpStream::connect_timeout(&(db.service_address, 5432).into(), Duration::from_millis(300))
        });
        attempt.expect_err("the machine itself is no instance");
        drop(underlay);
        assert_eq!(server.accepted(), 0);
    });
}

#[test]
fn the_machines_own_namespace_and_a_taken_one_are_refused() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, BILLING]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let own = aws.namespace().path();
        aws.command(&["attach", "shop/db", "--netns", own.to_str().expect("ASCII")]).refused(&["own"]);
        assert!(aws.namespace().interface("mesh0").is_none());

        let db = aws.attach("shop/db");
        let path = db.namespace.path();
        let path = path.to_str().expect("ASCII");
        // A repeated attach changes nothing; another service in the same namespace is refused.
        let again = aws.json(&["attach", "shop/db", "--netns", path]);
        assert_eq!(again["instance"]["id"], db.id.as_str());
        aws.command(&["attach", "billing/api", "--netns", path]).refused(&["shop/db"]);
        let free = Namespace::create("free");
        let free = free.path().display().to_string();
        aws.command(&["attach", "shop/nothing", "--netns", &free]).refused(&["shop", "nothing"]);
        aws.command(&["attach", "shop/db", "--netns", "/run/no-such-file"]).refused(&["/run/no-such-file"]);
        aws.command(&["attach", "shop/db", "--netns", "/etc/passwd"])
            .refused(&["/etc/passwd is not a network namespace"]);
        aws.command(&["attach", "shop/db", "--pid", "4000000"]).refused(&["4000000"]);
        is_refused(&db, coordinator.address_of("billing/api"), 1);
    });
}

#[test]
fn detaching_takes_back_all_that_attaching_made() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let namespace = Namespace::create("container");
        let look = |namespace: &Namespace| {
            ["addr", "rule", "-6 rule", "route show table all", "-6 route show table all"]
                .map(|what| namespace.ip_output(what))
        };
        let before = look(&namespace);
        let instance = aws.attach_in(namespace, "shop/db");
        assert_ne!(look(&instance.namespace), before);
        let link = instance.namespace.ip_output("-details link show mesh0");
        assert!(link.contains("UP") && link.contains("mtu 1344"), "{link}");
        let path = instance.namespace.path();
        aws.command(&["detach", "--netns", path.to_str().expect("ASCII")]).done();
        assert_eq!(look(&instance.namespace), before);
        assert_eq!(instance.hosts_lines(), ["127.0.0.1 localhost"]);
    });
}
