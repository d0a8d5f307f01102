//! Instances without new connections: drained by a command, or on a silent runner.

use mesh_netns_tests::{
    Capture, Condition, Coordinator, Crowd, Instance, Pace, isolated,
    packet::{opens, resets},
    wait,
};

use crate::{
    common::is_refused,
    replicas::{PORT, crowd, serve, shop, spread},
};

/// The state of an instance, once the coordinator has contact with its runner: a starved stream starts again.
fn state_of(coordinator: &Coordinator, instance: &Instance) -> String {
    wait::until("its runner to be heard", || {
        let services = coordinator.json(&["services"]);
        let all = services["services"].as_array().expect("an array").iter().flat_map(|s| s["instances"].as_array());
        let found = all.flatten().find(|found| found["id"] == *instance.id);
        let state = found.and_then(|found| found["state"].as_str());
        let state = state.unwrap_or_else(|| panic!("{} in {services:#}", instance.id));
        (state != "unreachable").then(|| state.to_owned())
    })
}

#[test]
fn a_drained_one_gets_none_and_keeps_its_own() {
    isolated(|| {
        let (_world, coordinator, [aws, ovh]) = shop(["aws", "ovh"]);
        let [near, afar] = [&aws, &ovh].map(|runner| runner.attach("shop/app"));
        let [a, b] = [aws.attach("shop/db"), aws.attach("shop/db")];
        let servers = serve([&a, &b]);
        let mut crowds = [crowd(&near, &a, 20), crowd(&afar, &a, 20)];
        let busy: Vec<_> =
            [&near, &afar].into_iter().flat_map(|caller| crowd(caller, &a, 2).transfer(Pace::Steady)).collect();
        assert_eq!(servers.each_ref().map(|server| server.accepted()), [22, 22]);
        // When the command returns, every runner has applied it.
        aws.drain(&a);
        assert_eq!((state_of(&coordinator, &a), state_of(&coordinator, &b)), ("draining".into(), "live".into()));
        let syns = a.capture();
        for caller in [&near, &afar] {
            let mut new = crowd(caller, &a, 20);
            assert_eq!(new.spread(), spread([(&b, 20)]));
            new.assert_all_answer();
            is_refused(caller, a.address, PORT);
        }
        assert_eq!(syns.received(opens), 0, "{}", syns.text());
        // It may still call and gets answers, also from itself.
        crowd(&a, &a, 1).assert_all_answer();
        Crowd::gather(&a.namespace, b.address, PORT, 1).assert_all_answer();
        for crowd in &mut crowds {
            crowd.assert_all_answer();
        }
        // A second drain changes nothing. With the last one drained there is none left.
        aws.drain(&a);
        aws.drain(&b);
        for caller in [&near, &afar] {
            let mine = caller.capture();
            is_refused(caller, a.service_address, PORT);
            mine.wait_refused(|_| true, |p| p.icmp() == Some((3, 1)));
        }
        busy.iter().for_each(|transfer| transfer.wait_more(1 << 20));
        for transfer in busy {
            transfer.finish().expect("every byte");
        }
        for crowd in &mut crowds {
            crowd.assert_all_answer();
        }
        assert_eq!(servers.each_ref().map(|server| server.resets()), [0, 0]);
    });
}

#[test]
fn a_client_never_gets_any() {
    isolated(|| {
        let (_world, coordinator, [aws, ovh]) = shop(["aws", "ovh"]);
        let [near, afar] = [&aws, &ovh].map(|runner| runner.attach("shop/app"));
        let client = aws.attach_client("shop/db");
        assert_eq!(state_of(&coordinator, &client), "client");
        let syns = client.capture();
        let _own = client.serve_named(PORT);
        for caller in [&near, &afar] {
            is_refused(caller, client.service_address, PORT);
            is_refused(caller, client.address, PORT);
        }
        let db = ovh.attach("shop/db");
        let _server = db.serve_named(PORT);
        for caller in [&near, &afar] {
            let mut all = crowd(caller, &db, 50);
            assert_eq!(all.spread(), spread([(&db, 50)]), "though the other is nearer to one of them");
            all.assert_all_answer();
        }
        assert_eq!(syns.received(opens), 0, "{}", syns.text());
        // It calls like any other instance, its own service too.
        let [app, _other] = [&near, &afar].map(|app| app.serve_named(80));
        let mut calls = Crowd::gather(&client.namespace, near.service_address, 80, 10);
        assert_eq!((calls.spread(), app.open()), (spread([(&near, 10)]), 10));
        calls.join(Crowd::gather(&client.namespace, db.address, PORT, 10));
        calls.assert_all_answer();
    });
}

#[test]
fn a_runner_that_is_cut_off_is_passed_over_and_used_again_when_it_is_back() {
    isolated(|| {
        let (world, _coordinator, [aws, ovh, cellar]) = shop(["aws", "ovh", "cellar"]);
        let app = aws.attach("shop/app");
        let [a, b] = [ovh.attach("shop/db"), cellar.attach("shop/db")];
        let _servers = serve([&a, &b]);
        let mut standing = crowd(&app, &a, 20);
        assert_eq!(standing.spread(), spread([(&a, 10), (&b, 10)]));
        let mut of_a = standing.split_off(&a.id);
        standing.split_off(&b.id).leave();
        // With fewer connections than the instance that is cut off, b is chosen anyway; with more, a would be.
        let mut standing = crowd(&app, &a, 10);
        standing.join(crowd(&app, &a, 20));
        world.cut(ovh.namespace());

        // Each connect succeeds: at first by a retransmitted SYN, then, once the runner is known not to answer, at
        // once.
        let mut during = None;
        let at_once = |mine: &Capture, crowd: &Crowd| mine.sent(opens) == crowd.len();
        wait::until_true("the runner to be passed over", || {
            let mine = app.capture();
            let crowd = crowd(&app, &a, 10);
            assert_eq!(crowd.spread(), spread([(&b, 10)]));
            assert_eq!(mine.received(resets), 0, "{}", mine.text());
            assert_eq!(mine.received(|p| p.icmp().is_some()), 0, "{}", mine.text());
            let is_over = at_once(&mine, &crowd);
            during = Some(crowd);
            is_over
        });
        world.mend(ovh.namespace());
        // The connections there stand, and new ones go there again.
        of_a.assert_all_answer();
        standing.assert_all_answer();
        let mut after = None;
        wait::until_true("it to be used again", || {
            let crowd = crowd(&app, &a, 1);
            let is_back = crowd.at(&a.id) == 1;
            after = Some(crowd);
            is_back
        });
        assert!(of_a.all_are(Condition::Open));
    });
}
