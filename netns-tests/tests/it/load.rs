//! Many connections: first the harness's own crowd without mesh, then a service that is scaled under load.

use std::net::{Ipv4Addr, SocketAddrV4};

use mesh_netns_tests::{
    Condition, Crowd, Ended, Instance, Load, NamedServer, Namespace, Pace, Runner, Tally, Transfer, isolated, wait,
};
use nix::sys::socket::{setsockopt, sockopt};

use crate::replicas::{PORT, crowd, shop};

const FROM: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const TO: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

/// Two connected namespaces.
fn wired() -> [Namespace; 2] {
    let (a, b) = (Namespace::create("a"), Namespace::create("b"));
    a.ip(&["link add v type veth peer name v netns b", "link set v up", &format!("addr add {FROM}/24 dev v")]);
    b.ip(&["link set v address 02:00:00:00:00:02 up", &format!("addr add {TO}/24 dev v")]);
    a.wait_up("v");
    b.wait_up("v");
    [a, b]
}

#[test]
fn a_crowd_knows_whom_it_has_reached_and_what_became_of_it() {
    isolated(|| {
        let [a, b] = wired();
        let (mut one, other) = (NamedServer::start(&b, "one", 1), NamedServer::start(&b, "other", 2));
        let mut crowd = Crowd::gather(&a, TO, 1, 200);
        crowd.join(Crowd::gather(&a, TO, 2, 100));
        assert_eq!(crowd.spread(), [("one".to_owned(), 200), ("other".to_owned(), 100)].into());
        crowd.assert_all_answer();
        crowd.hush();
        assert_eq!(crowd.conditions(), [(Condition::Open, 300)].into());
        assert_eq!((one.accepted(), one.open(), other.accepted()), (200, 200, 100));

        // A server that stops listening refuses, and keeps its connections.
        one.stop_listening();
        let refused = a.enter(|| mesh_netns_tests::traffic::connect(TO, 1)).expect_err("a closed port");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        crowd.assert_all_answer();
        one.listen();
        crowd.join(Crowd::gather(&a, TO, 1, 1));

        // A reset is noticed without a read.
        let mut of_other = crowd.split_off("other");
        other.break_off();
        of_other.wait_all(Condition::Reset);
        assert_eq!(of_other.answering(), 0);
        crowd.assert_all_answer();
        drop(one);
        crowd.wait_all(Condition::Ended);
        assert_eq!(crowd.answering(), 0);
    });
}

#[test]
fn the_other_end_of_a_crowd_knows_as_well() {
    isolated(|| {
        let [a, b] = wired();
        let server = NamedServer::start(&b, "server", 1);
        let mut crowd = Crowd::gather(&a, TO, 1, 3);
        let locals: Vec<SocketAddrV4> = crowd.members().iter().map(|member| member.local()).collect();
        let mut streams = crowd.into_streams();
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&streams[0], sockopt::Linger, &at_once).expect("SO_LINGER");
        drop(streams.remove(0));
        wait::until_true("the server to notice a reset", || server.ended().len() == 1);
        assert_eq!(server.ended(), [Ended { caller: locals[0], how: Condition::Reset }]);
        drop(streams.remove(0));
        wait::until_true("the server to notice an end", || server.ended().len() == 2);
        assert_eq!(server.ended()[1], Ended { caller: locals[1], how: Condition::Ended });
        assert_eq!((server.open(), server.resets()), (1, 1));
    });
}

#[test]
fn transfers_and_short_connections() {
    isolated(|| {
        let [a, b] = wired();
        let mut server = NamedServer::start(&b, "server", 1);
        let transfers = Crowd::gather(&a, TO, 1, 4).transfer(Pace::Steady);
        let fast = Crowd::gather(&a, TO, 1, 1).transfer(Pace::Full);
        let load = Load::start(&a, TO, 1, 4);
        load.wait_more(1000);
        fast[0].wait_more(100 << 20);
        transfers.iter().for_each(|transfer| transfer.wait_more(1 << 20));
        for transfer in transfers.into_iter().chain(fast) {
            assert!(transfer.finish().expect("every byte") > 1 << 20);
        }
        let before = load.tally();
        assert_eq!((before.served.keys().collect::<Vec<_>>(), before.failures), (vec![&"server".to_owned()], vec![]));
        server.stop_listening();
        wait::until_true("the load to be refused", || !load.tally().failures.is_empty());
        let failed = load.finish().failures.swap_remove(0);
        assert!(failed.errno == libc::ECONNREFUSED || failed.errno == libc::ECONNRESET, "{failed:?}");

        server.listen();
        let mut broken = Crowd::gather(&a, TO, 1, 1).transfer(Pace::Full);
        broken[0].wait_more(1 << 20);
        server.break_off();
        broken[0].wait_end().expect_err("a transfer that was cut short");
    });
}

/// Attaches another shop/db, and starts its server afterwards, as containers do.
fn scale_up(runner: &Runner) -> (Instance, NamedServer) {
    let db = runner.attach("shop/db");
    let server = db.serve_named(PORT);
    (db, server)
}

/// The failures that a load may have when an instance ends without a warning: its connections there.
#[track_caller]
fn assert_unharmed_but_at(tally: &Tally, killed: &Instance, most: usize) {
    let failures = &tally.failures;
    assert!(failures.iter().all(|failure| !failure.connecting), "no connect fails: {failures:#?}");
    let is_of_it = |at: &Option<String>| at.as_ref().is_none_or(|at| *at == killed.id);
    assert!(failures.iter().all(|failure| is_of_it(&failure.at)), "not at {}: {failures:#?}", killed.id);
    assert!(failures.len() <= most, "more than there were at once: {failures:#?}");
}

#[test]
fn from_one_to_three_and_back_to_one_under_load() {
    const THREADS: usize = 3;
    isolated(|| {
        let (_world, _coordinator, [aws, ovh]) = shop(["aws", "ovh"]);
        let callers = [&aws, &ovh].map(|runner| runner.attach("shop/app"));
        let (a, a_server) = scale_up(&aws);
        let loads = callers.each_ref().map(|caller| Load::start(&caller.namespace, a.service_address, PORT, THREADS));
        let mut of_a = callers.each_ref().map(|caller| crowd(caller, &a, 10));
        loads.iter().for_each(|load| load.wait_more(100));

        // Scales up to three.
        let (b, b_server) = scale_up(&ovh);
        let (c, c_server) = scale_up(&aws);
        let served = |by: &Instance| loads.iter().map(|load| load.served_by(&by.id)).sum::<usize>();
        wait::until_true("each of the three to get its share", || [&a, &b, &c].iter().all(|db| served(db) > 100));
        let long: Vec<Transfer> = callers.iter().flat_map(|app| crowd(app, &a, 4).transfer(Pace::Steady)).collect();
        let mut of_all = callers.each_ref().map(|caller| crowd(caller, &a, 20));
        // At first a has more than c. How many more depends on the load.
        wait::until_true("each of the three to be given one that stays", || {
            let is_so = [&a, &b, &c].iter().all(|db| of_all.iter().any(|crowd| crowd.at(&db.id) > 0));
            if !is_so {
                of_all[0].join(crowd(&callers[0], &a, 1));
            }
            is_so
        });
        let tallies = loads.each_ref().map(Load::tally);
        assert!(tallies.iter().all(|tally| tally.failures.is_empty()), "{tallies:#?}");

        // One is killed with all its connections.
        let lost = of_all.each_mut().map(|crowd| crowd.split_off(&c.id));
        drop(long);
        aws.command(&["detach", &c.id]).done();
        for mut crowd in lost {
            crowd.wait_all(Condition::Reset);
        }
        loads.iter().for_each(|load| load.wait_more(100));
        for load in &loads {
            assert_unharmed_but_at(&load.tally(), &c, THREADS);
        }
        drop(c_server);

        // One is drained, and ended when it has no connections left: no caller notices.
        ovh.drain(&b);
        of_all.iter_mut().for_each(|crowd| crowd.split_off(&b.id).leave());
        wait::until_true("the last one of b to end", || b_server.open() == 0 && b_server.is_quiet());
        ovh.command(&["detach", &b.id]).done();
        loads.iter().for_each(|load| load.wait_more(100));
        for load in loads {
            assert_unharmed_but_at(&load.finish(), &c, THREADS);
        }
        assert_eq!((a_server.resets(), b_server.resets()), (0, 0));
        of_a.iter_mut().chain(&mut of_all).for_each(Crowd::assert_all_answer);
    });
}
