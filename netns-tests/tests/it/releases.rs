//! A release keeps to itself: a deployment is replaced instance by instance under load.

use std::collections::VecDeque;

use mesh_netns_tests::{Coordinator, Instance, Load, NamedServer, Namespace, Runner, isolated, wait};
use serde_json::Value;

use crate::{
    common::declare,
    replicas::{PORT, shop},
};

/// The two releases.
const OLD: &str = "v41";
const NEW: &str = "v42";

/// An instance of `shop/db` whose server listens before others know of it, and has the release and a number as its name.
struct Callee<'a> {
    runner: &'a Runner,
    instance: Instance,
    server: NamedServer,
}

impl<'a> Callee<'a> {
    fn new(runner: &'a Runner, release: &str, number: usize) -> Self {
        let namespace = Namespace::create(&format!("db-{release}-{number}"));
        let server = NamedServer::start(&namespace, &format!("{release}-{number}"), PORT);
        let instance = runner.attach_release(namespace, "shop/db", release);
        Self { runner, instance, server }
    }

    /// It gets no new connections, and ends with the last one.
    fn retire(self) {
        self.runner.drain(&self.instance);
        wait::until_true("its connections to end", || self.runner.connections(&self.instance.id) == 0);
        self.runner.command(&["detach", &self.instance.id]).done();
        assert_eq!(self.server.resets(), 0);
    }
}

/// An instance of `shop/app` that opens one connection after another to `shop/db`.
struct Caller<'a> {
    runner: &'a Runner,
    instance: Instance,
    load: Load,
    release: &'static str,
}

impl<'a> Caller<'a> {
    fn new(runner: &'a Runner, release: &'static str, number: usize, to: std::net::Ipv4Addr) -> Self {
        let namespace = Namespace::create(&format!("app-{release}-{number}"));
        let instance = runner.attach_release(namespace, "shop/app", release);
        let load = Load::start(&instance.namespace, to, PORT, 1);
        Self { runner, instance, load, release }
    }

    /// The next connections all reach this release. The one that is under way may have begun earlier.
    #[track_caller]
    fn assert_reaches(&self, release: &str) {
        self.load.wait_more(1);
        let before = self.load.tally().served;
        self.load.wait_more(8);
        let after = self.load.tally();
        let reached = after.served.iter().filter(|(name, count)| before.get(*name).is_none_or(|old| old < *count));
        let strange: Vec<_> = reached.filter(|(name, _)| !name.starts_with(&format!("{release}-"))).collect();
        assert!(strange.is_empty(), "{} of {} reaches {strange:?}", self.instance.id, self.release);
        assert_eq!(after.failures, [], "{} of {}", self.instance.id, self.release);
    }

    fn retire(self) {
        let tally = self.load.finish();
        assert_eq!(tally.failures, [], "{} of {}", self.instance.id, self.release);
        self.runner.command(&["detach", &self.instance.id]).done();
    }
}

/// The release of each instance, by the coordinator.
fn releases(coordinator: &Coordinator) -> Vec<(String, String)> {
    let all = coordinator.json(&["instances"]);
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let all = all["instances"].as_array().expect("an array");
    all.iter().map(|instance| (text(&instance["id"]), text(&instance["release"]))).collect()
}

#[test]
fn old_calls_old_and_new_calls_new_in_every_state_of_a_deploy() {
    isolated(|| {
        let (_world, coordinator, [aws, ovh]) = shop(["aws", "ovh"]);
        let place = |number: usize| if number < 2 { &aws } else { &ovh };
        let to = coordinator.address_of("shop/db");
        let mut old: VecDeque<Callee<'_>> = (0..4).map(|n| Callee::new(place(n), OLD, n)).collect();
        let mut callers: Vec<Caller<'_>> = (0..4).map(|n| Caller::new(place(n), OLD, n, to)).collect();
        let all_keep_apart = |callers: &[Caller<'_>]| {
            callers.iter().for_each(|caller| caller.assert_reaches(caller.release));
        };
        all_keep_apart(&callers);
        // While nothing of its own release is there, a caller reaches what is.
        let early = Caller::new(&ovh, NEW, 9, to);
        early.assert_reaches(OLD);
        let mut new = vec![];
        for number in 0..4 {
            // The new ones come at one runner while the old ones are at the other, and the callers at both.
            new.push(Callee::new(place(number), NEW, number));
            early.assert_reaches(NEW);
            all_keep_apart(&callers);
            callers.push(Caller::new(place(3 - number), NEW, number, to));
            all_keep_apart(&callers);
            if number < 3 {
                callers.remove(0).retire();
                all_keep_apart(&callers);
                old.pop_front().expect("it runs").retire();
                all_keep_apart(&callers);
            }
        }
        // The last old caller outlives the last old callee.
        old.pop_front().expect("it runs").retire();
        let last = callers.remove(0);
        last.assert_reaches(NEW);
        last.retire();
        early.retire();
        all_keep_apart(&callers);
        callers.into_iter().for_each(Caller::retire);
        new.into_iter().for_each(Callee::retire);
    });
}

#[test]
fn a_release_is_shown_and_outlives_the_agent() {
    isolated(|| {
        let (_world, coordinator, [mut aws]) = shop(["aws"]);
        let app = aws.attach_release(Namespace::create("app"), "shop/app", OLD);
        let db = aws.attach_release(Namespace::create("db"), "shop/db", NEW);
        let plain = aws.attach("shop/db");
        let known = [(&app, OLD), (&db, NEW), (&plain, "-")].map(|(of, release)| (of.id.clone(), release.to_owned()));
        let is_shown = |aws: &Runner| {
            assert_eq!(releases(&coordinator), known);
            let status = aws.json(&["status"]);
            let shown: Vec<_> =
                status["instances"].as_array().expect("an array").iter().map(|i| &i["release"]).collect();
            assert_eq!(
                shown,
                [OLD, NEW, ""]
                    .map(|text| if text.is_empty() { Value::Null } else { text.into() })
                    .iter()
                    .collect::<Vec<_>>()
            );
        };
        is_shown(&aws);
        let services = coordinator.json(&["services"]);
        assert_eq!(services["services"][1]["instances"][0]["release"], NEW, "{services:#}");
        for text in [aws.command(&["status"]), coordinator.command(&["instances"]), coordinator.command(&["services"])]
        {
            let text = text.done().stdout;
            assert!(text.contains(NEW), "{text}");
        }
        for why in [
            aws.json(&["why", "shop/app", "shop/db", "5432"]),
            coordinator.json(&["why", "shop/app", "shop/db", "5432"]),
        ] {
            let steps = why["steps"].as_array().expect("an array");
            let step = steps.iter().find(|step| step["step"] == "release").unwrap_or_else(|| panic!("{why:#}"));
            assert_eq!((&step["code"], &step["ok"]), (&"another-release".into(), &true.into()), "{why:#}");
        }
        aws.kill();
        aws.start(&[]);
        wait::until_true("the instances to be taken up", || {
            aws.json(&["status"])["instances"].as_array().is_some_and(|all| all.len() == 3)
        });
        is_shown(&aws);
        // A further attachment is one to the same release, or says none.
        let netns = app.namespace.path();
        let netns = netns.to_str().expect("an ASCII path");
        aws.command(&["attach", "shop/app", "--netns", netns, "--release", NEW]).refused(&[&app.id, OLD, "detach"]);
        for again in [&["--release", OLD][..], &[]] {
            aws.command(&[&["attach", "shop/app", "--netns", netns], again].concat()).done();
        }
        aws.command(&["attach", "shop/app", "--netns", netns, "--release", "a b"]).expect_code(2);
    });
}

#[test]
fn a_release_of_run_is_that_of_its_instance() {
    isolated(|| {
        let (_world, coordinator, [aws]) = shop(["aws"]);
        declare(&coordinator, &[]);
        let mut child = aws.prepare(&["run", "shop/app", "--release", NEW, "--", "cat"]);
        let mut child = child.stdin(std::process::Stdio::piped()).spawn().expect("mesh-node runs");
        wait::until_true("its release to be known", || {
            releases(&coordinator).iter().any(|(_, release)| release == NEW)
        });
        drop(child.stdin.take());
        assert!(child.wait().expect("its status").success());
    });
}
