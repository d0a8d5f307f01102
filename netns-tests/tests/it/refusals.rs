//! Rejected packets: the sender gets exactly one refusal for each, and the target gets nothing.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use mesh_netns_tests::{
    Capture, Coordinator, Injector, Instance, Runner, Stack, World, isolated,
    packet::{Ipv4, Seen, Segment, echo_request, flag, opens, protocol, udp},
    traffic::{Answer, Server, connect_from},
};

use crate::common::{MESH_TABLE, UNOWNED, declare, is_refused, reaches};

/// Administratively prohibited, and host unreachable (RFC 792, RFC 1812 §5.2.7.1).
const PROHIBITED: Option<(u8, u8)> = Some((3, 13));

/// `app` calls; all others are called. `shop` lets `billing` call, without getting the right in return. `vault` lets
/// `shop` call on one port; `attic` has no trust in either direction; `rival` belongs to another team.
const FILES: [&str; 5] = [
    "deployment = \"shop\"\ntrust = [\"billing\", \"rival\"]\n[services.app]\n[services.db]\n",
    "deployment = \"billing\"\n[services.api]\n",
    "deployment = \"vault\"\ntrust = [{ deployment = \"shop\", ports = [8200] }]\n[services.kv]\n",
    "deployment = \"attic\"\n[services.box]\n",
    "deployment = \"rival\"\nteam = \"others\"\n[services.spy]\n",
];

struct Scene {
    app: Instance,
    db: Instance,
    others: Vec<(&'static str, Instance, Server)>,
    _db_server: Server,
    aws: Runner,
    _ovh: Runner,
    _coordinator: Coordinator,
    _world: World,
}

/// The expected number of refusals.
#[derive(Debug, Clone, Copy)]
enum Count {
    /// This many.
    Of(usize),
    /// One for each SYN that the caller's kernel has sent.
    OfEachSyn,
}

impl Scene {
    /// The caller on one runner and all others on the other one, or all on one.
    fn set(one_runner: bool) -> Self {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        // A trust across teams is refused, so `shop` is declared without it before `rival` exists.
        declare(&coordinator, &FILES);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let far = if one_runner { &aws } else { &ovh };
        let (app, db) = (aws.attach("shop/app"), far.attach("shop/db"));
        let others = ["billing/api", "vault/kv", "attic/box", "rival/spy"].map(|service| {
            let instance = far.attach(service);
            let server = instance.serve(9000, Answer::Echo);
            (service, instance, server)
        });
        let db_server = db.serve(9000, Answer::Echo);
        reaches(&app, db.service_address, 9000);
        let others = others.into_iter().collect();
        Self { app, db, others, _db_server: db_server, aws, _ovh: ovh, _coordinator: coordinator, _world: world }
    }

    fn other(&self, service: &str) -> &Instance {
        &self.others.iter().find(|(name, ..)| *name == service).expect("one of the others").1
    }

    /// A permitted round trip: earlier packets have arrived by then, or never will.
    fn fence(&self) {
        reaches(&self.app, self.db.service_address, 9000);
    }

    /// `attempt` causes exactly as many refusals that match `refusal`, and the target gets nothing.
    #[track_caller]
    fn refuses(
        &self,
        what: &str,
        target: &Instance,
        count: Count,
        refusal: impl Fn(&Seen<'_>) -> bool,
        attempt: impl FnOnce(),
    ) {
        let back = Capture::interface(&self.app.namespace, "mesh0");
        let there = Capture::interface(&target.namespace, "mesh0");
        attempt();
        let count = match count {
            Count::Of(0) => 0,
            Count::Of(count) => {
                back.wait_received(count, &format!("the refusal of {what}"), &refusal);
                count
            }
            Count::OfEachSyn => back.wait_refused(|_| true, &refusal),
        };
        self.fence();
        assert_eq!(back.received(&refusal), count, "{what}: refusals at the caller:\n{}", back.text());
        let from_app = |p: &Seen<'_>| [self.app.address, self.app.service_address].contains(&p.source);
        // The fence goes to `db`; other captured packets come from the attempt.
        let leaked = there.received(|p| from_app(p) && p.ports().is_none_or(|(_, to)| to != 9000));
        let leaked = if target.address == self.db.address { leaked } else { there.received(from_app) };
        assert_eq!(leaked, 0, "{what}: seen by the target:\n{}", there.text());
    }

    fn refuses_connect(&self, what: &str, target: &Instance, to: Ipv4Addr, port: u16) {
        let prohibited = |p: &Seen<'_>| p.icmp() == PROHIBITED;
        self.refuses(what, target, Count::OfEachSyn, prohibited, || is_refused(&self.app, to, port));
    }
}

fn connects_that_are_not_allowed(one_runner: bool) {
    let scene = Scene::set(one_runner);
    let target = |service| scene.other(service);
    for (service, what) in [
        ("attic/box", "a service of another deployment"),
        ("billing/api", "the reverse of a one-way trust"),
        ("rival/spy", "a service of another team"),
        ("vault/kv", "a port outside the trust's ports"),
    ] {
        scene.refuses_connect(what, target(service), target(service).service_address, 9000);
        scene.refuses_connect(what, target(service), target(service).address, 9000);
    }
    scene.refuses_connect("an address without an owner", &scene.db, UNOWNED, 9000);
    for (service, _, server) in &scene.others {
        assert_eq!(server.accepted(), 0, "{service}");
    }

    // The port that the trust names, and the direction that the other trust permits.
    let _kv = target("vault/kv").serve(8200, Answer::Echo);
    reaches(&scene.app, target("vault/kv").service_address, 8200);
    reaches(target("billing/api"), scene.db.service_address, 9000);
    // A trust across teams, requested before the other team's deployment existed, has no effect.
    is_refused(target("rival/spy"), scene.db.service_address, 9000);

    let denied = scene.aws.json(&["denied"]);
    let text = denied.to_string();
    for (service, callee, _) in &scene.others {
        // By its name if this runner may know it, else by the dialled address.
        let named = [(*service).to_owned(), callee.service_address.to_string()].iter().any(|name| text.contains(name));
        assert!(named, "`denied` says nothing of {service}: {denied:#}");
    }
}

#[test]
fn connects_that_are_not_allowed_across_runners() {
    isolated(|| connects_that_are_not_allowed(false));
}

#[test]
fn connects_that_are_not_allowed_on_one_runner() {
    isolated(|| connects_that_are_not_allowed(true));
}

fn whatever_is_not_plain_tcp(one_runner: bool) {
    let scene = Scene::set(one_runner);
    let (from, to) = (scene.app.address, scene.db.service_address);
    let injector = Injector::new(&scene.app.namespace, "mesh0");
    let prohibited = |p: &Seen<'_>| p.icmp() == PROHIBITED;
    let send = |packet: Ipv4| injector.send(&packet);
    let refuses = |what, count, packets: Vec<Ipv4>| {
        scene.refuses(what, &scene.db, Count::Of(count), prohibited, || packets.into_iter().for_each(send));
    };

    scene.refuses("a datagram", &scene.db, Count::Of(1), prohibited, || {
        let socket = scene.app.namespace.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a socket");
        socket.connect((to, 53)).expect("no packet is sent yet");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        socket.send(b"anybody there?").expect("the first one is sent");
        let error = socket.recv(&mut [0; 10]).expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
    });
    refuses("an echo request", 1, vec![Ipv4::new(from, to, protocol::ICMP, echo_request())]);
    refuses(
        "SCTP",
        1,
        vec![Ipv4::new(from, to, protocol::SCTP, vec![0x23, 0x28, 0x23, 0x29, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4])],
    );
    refuses("an unknown protocol", 1, vec![Ipv4::new(from, to, 253, vec![0; 40])]);

    let syn =
        Segment { source: (from, 4000), destination: (to, 4001), seq: 1, ack: 0, flags: flag::SYN, payload: &[0; 64] };
    let first = Ipv4 { more_fragments: true, ..syn.packet() };
    let later = Ipv4 { fragment_offset: 8, payload: vec![0; 64], ..syn.packet() };
    let middle = Ipv4 { more_fragments: true, ..later.clone() };
    refuses("a first fragment", 1, vec![first.clone()]);
    refuses("later fragments, in silence", 0, vec![middle.clone(), later.clone()]);
    refuses("all fragments of a packet", 1, vec![first, middle, later]);
    let datagram = udp((from, 4000), (to, 4001), &[0; 64]);
    let first = Ipv4 { more_fragments: true, ..Ipv4::new(from, to, protocol::UDP, datagram) };
    refuses("a first fragment of a datagram", 1, vec![first]);
    for (what, option) in
        [("a record-route option", [7, 7, 4, 0, 0, 0, 0, 0]), ("no-operation options", [1, 1, 1, 1, 1, 1, 1, 0])]
    {
        refuses(what, 1, vec![Ipv4 { options: option.to_vec(), ..syn.packet() }]);
    }
    // An error about an error could be answered for ever (RFC 1122 §3.2.2).
    let error = [&[3, 1, 0xfc, 0xfe, 0, 0, 0, 0][..], &syn.packet().encode()[..28]].concat();
    refuses("an ICMP error, in silence", 0, vec![Ipv4::new(from, to, protocol::ICMP, error)]);
}

#[test]
fn whatever_is_not_plain_tcp_across_runners() {
    isolated(|| whatever_is_not_plain_tcp(false));
}

#[test]
fn whatever_is_not_plain_tcp_on_one_runner() {
    isolated(|| whatever_is_not_plain_tcp(true));
}

#[test]
fn a_call_from_a_service_address() {
    isolated(|| {
        let scene = Scene::set(false);
        let source = SocketAddrV4::new(scene.app.service_address, 0);
        scene.refuses(
            "a call from a service address",
            &scene.db,
            Count::OfEachSyn,
            |p| p.icmp() == PROHIBITED,
            || {
                let attempt = scene.app.namespace.enter(|| connect_from(Some(source), scene.db.service_address, 4001));
                assert_eq!(attempt.expect_err("a refusal").kind(), ErrorKind::HostUnreachable);
            },
        );
    });
}

#[test]
fn segments_of_no_connection_that_may_be_are_reset() {
    isolated(|| {
        let scene = Scene::set(false);
        let stranger = scene.other("attic/box");
        let injector = Injector::new(&scene.app.namespace, "mesh0");
        for (flags, payload) in [
            (flag::ACK, &b""[..]),
            (flag::ACK | flag::PSH, b"data"),
            (flag::FIN | flag::ACK, b""),
            (flag::SYN | flag::ACK, b""),
        ] {
            let segment = Segment {
                source: (scene.app.address, 4000),
                destination: (stranger.service_address, 9000),
                seq: 1,
                ack: 2,
                flags,
                payload,
            };
            let reset =
                |p: &Seen<'_>| p.source == stranger.service_address && p.flags().is_some_and(|f| f & flag::RST != 0);
            scene.refuses("a segment out of nowhere", stranger, Count::Of(1), reset, || {
                injector.send(&segment.packet())
            });
        }
        // A RST is never answered by a RST (RFC 9293 §3.5.2).
        let segment = Segment {
            source: (scene.app.address, 4000),
            destination: (stranger.service_address, 9000),
            seq: 1,
            ack: 0,
            flags: flag::RST,
            payload: &[],
        };
        let any = |p: &Seen<'_>| p.source == stranger.service_address || p.icmp().is_some();
        scene.refuses("a RST out of nowhere", stranger, Count::Of(0), any, || injector.send(&segment.packet()));
    });
}

/// `billing` may call `shop`. `shop` must not be able to open a connection to it, even by a SYN that looks like part of
/// an existing one.
#[test]
fn a_one_way_trust_lets_no_syn_back() {
    isolated(|| {
        let scene = Scene::set(false);
        let (api, app) = (scene.other("billing/api"), &scene.app);
        let _server = app.serve(7001, Answer::Echo);
        reaches(api, app.address, 7001);
        let injector = Injector::new(&app.namespace, "mesh0");
        let prohibited = |p: &Seen<'_>| p.icmp() == PROHIBITED;
        let segment = |flags, ack| Segment {
            source: (app.address, 7002),
            destination: (api.address, 7000),
            seq: 1,
            ack,
            flags,
            payload: &[],
        };

        // A caller that waits for the answer to its own SYN: its kernel would take a SYN for a simultaneous open.
        app.namespace.ip(&[&format!("route add blackhole {}/32 table {MESH_TABLE}", api.address)]);
        let arrives = Capture::interface(&app.namespace, "mesh0");
        let source = SocketAddrV4::new(api.address, 7000);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| api.namespace.enter(|| connect_from(Some(source), app.address, 7002)));
            arrives.wait_received(1, "the SYN that is allowed", |p| p.ports() == Some((7000, 7002)));
            for (what, flags) in [
                ("a SYN as reply", flag::SYN),
                ("a SYN with FIN", flag::SYN | flag::FIN),
                ("a SYN with RST", flag::SYN | flag::RST),
                ("a SYN with data flags", flag::SYN | flag::PSH),
            ] {
                scene.refuses(what, api, Count::Of(1), prohibited, || injector.send(&segment(flags, 0).packet()));
            }
            // A permitted reply, so that the checks above can't pass for the wrong reason.
            let syn = arrives
                .frames()
                .into_iter()
                .find(|f| !f.outgoing && Seen::parse(&f.bytes).is_some_and(|p| p.ports() == Some((7000, 7002))));
            let syn = syn.expect("captured above");
            let body = Seen::parse(&syn.bytes).expect("parsed above").body;
            let seq = u32::from_be_bytes(body[4..8].try_into().expect("four bytes"));
            injector.send(&segment(flag::SYN | flag::ACK, seq.wrapping_add(1)).packet());
            waiting.join().expect("no panic").expect("the connection that is allowed");
        });
    });
}

#[test]
fn twenty_thousand_connects_are_each_ended_by_their_refusal() {
    isolated(|| {
        let scene = Scene::set(false);
        let stranger = scene.other("attic/box").service_address;
        let back = Capture::interface(&scene.app.namespace, "mesh0");
        let slowest = thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        scene.app.namespace.enter(|| {
                            let attempt = || {
                                let begun = Instant::now();
                                let error = mesh_netns_tests::traffic::connect(stranger, 9000).expect_err("a refusal");
                                assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
                                begun.elapsed()
                            };
                            (0..5000).map(|_| attempt()).max()
                        })
                    })
                })
                .collect();
            workers.into_iter().filter_map(|worker| worker.join().expect("no panic")).max()
        });
        println!("\nthe slowest of 20,000 connects that were refused took {slowest:.1?}");
        back.wait_refused(|p| p.destination == stranger, |p| p.icmp() == PROHIBITED);
        assert_eq!(back.sent_once(|p| opens(p) && p.destination == stranger), 20_000);
        // A reject that arrives while the connecting thread holds its socket is only noted, and the kernel waits for a
        // second. One reject alone meets that in twenty of these connects; both do if the thread is preempted there.
        let (mut refused, mut again) = (BTreeSet::new(), 0);
        for frame in back.frames() {
            let Some(seen) = Seen::parse(&frame.bytes) else { continue };
            if frame.outgoing && opens(&seen) {
                again += usize::from(refused.contains(&seen.body[..8]));
            } else if seen.icmp() == PROHIBITED {
                let quoted = Seen::parse(&seen.body[8..]).expect("the SYN that is refused");
                refused.insert(quoted.body[..8].to_vec());
            }
        }
        assert!(again <= 5, "{again} SYNs were sent again after their refusals");
        scene.fence();
    });
}
