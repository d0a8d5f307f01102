//! Instances that refuse or don't answer, while another one of their service would: checked by one `connect`, and by
//! the segments of the caller's kernel.

use std::{io::ErrorKind, time::Instant};

use mesh_netns_tests::{
    Capture, Condition, Crowd, Injector, Instance, isolated,
    packet::{Seen, Segment, accepts, flag, opens, resets},
};

use crate::replicas::{PORT, crowd, serve, shop, spread};

/// The segments of a caller's kernel: SYNs out; SYN-ACKs, RSTs and ICMP in. Retransmissions don't count.
fn heard(capture: &Capture) -> [usize; 4] {
    heard_by(capture, |_| true)
}

/// The segments of the only connection in `one`, and the RSTs out.
fn heard_by_one(capture: &Capture, one: &mut Crowd) -> ([usize; 4], usize) {
    let port = one.members()[0].local().port();
    let is_its = |p: &Seen<'_>| p.ports().is_none_or(|(from, to)| from == port || to == port);
    (heard_by(capture, is_its), capture.sent(|p| is_its(p) && resets(p)))
}

fn heard_by(capture: &Capture, which: impl Fn(&Seen<'_>) -> bool) -> [usize; 4] {
    let received = |what: fn(&Seen<'_>) -> bool| capture.received_once(|p| which(p) && what(p));
    [capture.sent_once(|p| which(p) && opens(p)), received(accepts), received(resets), received(|p| p.icmp().is_some())]
}

/// The SYNs that an instance got. Retransmissions don't count.
fn syns(at: &Capture) -> usize {
    at.received_once(opens)
}

/// Whether a caller's kernel has retransmitted the SYN of its only connection: at least once, and again for each time
/// that it had to wait longer.
fn was_sent_again(capture: &Capture) -> bool {
    capture.sent(opens) > 1
}

/// Gives `to` the fewest connections of all, by one held connection to each of the others, so that it gets the next
/// one.
#[track_caller]
fn make_next(to: &Instance, caller: &Instance, all: usize) -> Crowd {
    let mut others = crowd(caller, to, all);
    let of_it = others.split_off(&to.id);
    assert_eq!(of_it.len(), 1);
    of_it.leave();
    others
}

#[test]
fn one_that_listens_is_found_among_two_that_refuse() {
    isolated(|| {
        let (_world, _coordinator, [aws, ovh, cellar]) = shop(["aws", "ovh", "cellar"]);
        // Near, at the other end, and divided between the two: the refusal comes from different places.
        let dbs = [aws.attach("shop/db"), aws.attach("shop/db"), ovh.attach("shop/db"), ovh.attach("shop/db")];
        for caller in [&aws, &cellar].map(|runner| runner.attach("shop/app")) {
            for listening in &dbs {
                let _server = listening.serve_named(PORT);
                let (mine, started) = (caller.capture(), Instant::now());
                let refusing: Vec<Capture> =
                    dbs.iter().filter(|db| db.id != listening.id).map(Instance::capture).collect();
                let mut crowd = crowd(&caller, listening, 20);
                assert_eq!(crowd.spread(), spread([(listening, 20)]));
                crowd.assert_all_answer();
                assert_eq!(heard(&mine), [20, 20, 0, 0], "{}", mine.text());
                // An instance that has refused is skipped for a second.
                for capture in &refusing {
                    let limit = 1 + started.elapsed().as_secs() as usize;
                    assert!(syns(capture) <= limit, "{} SYNs, not {limit}: {}", syns(capture), capture.text());
                }
            }
        }
    });
}

#[test]
fn all_refuse_and_the_last_ones_refusal_arrives() {
    isolated(|| {
        let (_world, _coordinator, [aws, ovh, cellar]) = shop(["aws", "ovh", "cellar"]);
        let dbs = [aws.attach("shop/db"), aws.attach("shop/db"), ovh.attach("shop/db")];
        let callers = [&aws, &cellar].map(|runner| runner.attach("shop/app"));
        for caller in &callers {
            let (mine, theirs) = (caller.capture(), dbs.each_ref().map(Instance::capture));
            for round in 1..=5 {
                let error = caller.connect(dbs[0].service_address, PORT).expect_err("a closed port");
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
                assert_eq!(heard(&mine), [round, 0, round, 0], "{}", mine.text());
                assert_eq!(theirs.each_ref().map(syns), [round; 3], "each was asked once");
            }
        }
        // As soon as an instance listens it is found, although it has just refused.
        let servers = serve([&dbs[2]]);
        for caller in &callers {
            crowd(caller, &dbs[0], 5).assert_all_answer();
        }
        assert_eq!(servers[0].accepted(), 10);
    });
}

#[test]
fn one_that_is_frozen_loses_the_syn_on_its_first_retransmission() {
    isolated(|| {
        let (_world, _coordinator, [aws, ovh, cellar]) = shop(["aws", "ovh", "cellar"]);
        let [near, afar] = [&aws, &cellar].map(|runner| runner.attach("shop/app"));
        // Two on one runner: for a remote caller the callee's runner moves the SYN to the other one.
        let [a, b] = [aws.attach("shop/db"), aws.attach("shop/db")];
        let _servers = serve([&a, &b]);
        for caller in [&near, &afar] {
            let mut others = make_next(&a, caller, 2);
            a.freeze();
            let (mine, at_a, at_b) = (caller.capture(), a.capture(), b.capture());
            let mut one = crowd(caller, &a, 1);
            assert_eq!(one.spread(), spread([(&b, 1)]));
            assert!(was_sent_again(&mine) && heard(&mine) == [1, 1, 0, 0], "{}", mine.text());
            // a got only the first, so b got the second.
            assert_eq!((at_a.received(opens), syns(&at_b)), (1, 1), "{}{}", at_a.text(), at_b.text());
            a.thaw();
            one.assert_all_answer();
            others.assert_all_answer();
            // So that none of them is counted when the next caller comes.
            [one, others].into_iter().for_each(Crowd::leave);
        }
        // One on another runner: the caller's runner moves the SYN there, although another instance is nearer.
        let c = ovh.attach("shop/db");
        let _server = c.serve_named(PORT);
        a.freeze();
        b.freeze();
        let mine = near.capture();
        let mut one = crowd(&near, &a, 1);
        assert_eq!(one.spread(), spread([(&c, 1)]));
        assert!(was_sent_again(&mine) && heard(&mine) == [1, 1, 0, 0], "{}", mine.text());
        one.assert_all_answer();
    });
}

#[test]
fn what_the_left_one_says_late_does_no_harm() {
    isolated(|| {
        let (_world, _coordinator, [aws, ovh, cellar]) = shop(["aws", "ovh", "cellar"]);
        let [near, afar] = [&aws, &cellar].map(|runner| runner.attach("shop/app"));
        let [a, b] = [aws.attach("shop/db"), aws.attach("shop/db")];
        let servers = serve([&a, &b]);
        // On one runner. Its kernel may have held back its answer: this one is made by hand.
        for caller in [&near, &afar] {
            let mut others = make_next(&a, caller, 2);
            a.freeze();
            let (mine, at_a) = (caller.capture(), a.capture());
            let mut one = crowd(caller, &a, 1);
            assert_eq!((one.spread(), at_a.received(opens)), (spread([(&b, 1)]), 1));
            let frames = at_a.frames();
            let syn = frames.iter().filter_map(|frame| Seen::parse(&frame.bytes)).find(opens).expect("the SYN");
            let (theirs, ours) = syn.ports().expect("TCP");
            let late = Segment {
                source: (syn.destination, ours),
                destination: (syn.source, theirs),
                seq: 4711,
                ack: syn.sequence().expect("TCP").wrapping_add(1),
                flags: flag::SYN | flag::ACK,
                payload: &[],
            };
            Injector::new(&a.namespace, "mesh0").send(&late.packet());
            at_a.wait_received(1, "a RST for the one that was left", resets);
            a.thaw();
            one.assert_all_answer();
            others.assert_all_answer();
            assert_eq!(heard_by_one(&mine, &mut one), ([1, 1, 0, 0], 0), "{}", mine.text());
            [one, others].into_iter().for_each(Crowd::leave);
        }
        assert_eq!(servers.each_ref().map(|server| server.resets()), [0, 0]);

        // On another runner, whose agent hangs: it handles the SYN late, and the instance answers late.
        let c = ovh.attach("shop/db");
        let _server = c.serve_named(PORT);
        let warm = crowd(&afar, &a, 12);
        assert!(warm.at(&c.id) > 0);
        warm.leave();
        // (The two standing ones on aws make ovh the next.)
        let mut others = crowd(&afar, &a, 4);
        others.split_off(&c.id).leave();
        ovh.pause();
        let (mine, at_c) = (afar.capture(), c.capture());
        let mut one = crowd(&afar, &a, 1);
        assert!(was_sent_again(&mine), "{}", mine.text());
        assert_eq!((one.at(&c.id), heard_by_one(&mine, &mut one)), (0, ([1, 1, 0, 0], 0)), "{}", mine.text());
        ovh.resume();
        at_c.wait_received(1, "the SYN", opens);
        at_c.wait_received(1, "a RST for the one that was left", resets);
        one.assert_all_answer();
        others.assert_all_answer();
        assert_eq!(heard_by_one(&mine, &mut one), ([1, 1, 0, 0], 0), "{}", mine.text());
        assert!(one.all_are(Condition::Open));
    });
}
