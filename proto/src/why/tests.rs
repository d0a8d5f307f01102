use std::collections::BTreeSet;

use super::*;
use crate::Ports;

/// Deployments 1 (shop) and 2 (api) of one team, 3 (evil) of another. A service's number begins with its
/// deployment's.
#[derive(Default)]
struct World {
    grants: Vec<(u64, u64, Ports)>,
}

impl Rules for World {
    fn deployment_of(&self, service: ServiceId) -> Option<DeploymentId> {
        Some(DeploymentId(service.0 / 10))
    }

    fn team_of(&self, deployment: DeploymentId) -> Option<&Label> {
        static TEAMS: std::sync::LazyLock<[Label; 2]> =
            std::sync::LazyLock::new(|| ["acme".parse().unwrap(), "evil".parse().unwrap()]);
        Some(&TEAMS[usize::from(deployment.0 == 3)])
    }

    fn grant(&self, caller: DeploymentId, callee: ServiceId) -> Option<&Ports> {
        self.grants.iter().find(|g| (g.0, g.1) == (caller.0, callee.0)).map(|g| &g.2)
    }
}

/// A question: from which service to which.
struct Ask {
    world: World,
    from: (&'static str, u64),
    to: (&'static str, u64),
    source: Option<TrustSource>,
    places: Vec<(&'static str, InstanceState, Presence, Option<Path>)>,
}

fn own(places: Vec<(&'static str, InstanceState, Presence, Option<Path>)>) -> Ask {
    Ask { world: World::default(), from: ("shop/app", 10), to: ("shop/db", 11), source: None, places }
}

fn foreign(grants: Vec<(u64, u64, Ports)>, source: Option<TrustSource>, to: &'static str) -> Ask {
    Ask { world: World { grants }, from: ("api/web", 20), to: (to, 11), source, places: vec![] }
}

/// The verdict, and each step's name, success, code and text.
fn told(ask: &Ask) -> (bool, Vec<(String, bool, String, String)>) {
    let (from, to) = (ask.from.0.parse().unwrap(), ask.to.0.parse().unwrap());
    let end = |path, service: u64| End {
        path,
        service: ServiceId(service),
        deployment: DeploymentId(service / 10),
        address: Ipv4Addr::new(100, 112, 0, u8::try_from(service).unwrap()),
    };
    let names: Vec<Label> = ask.places.iter().map(|place| place.0.parse().unwrap()).collect();
    let places = ask.places.iter().zip(&names);
    let instances = places.map(|((_, state, presence, path), runner)| Place {
        runner,
        state: *state,
        presence: *presence,
        release: None,
        path: path.clone(),
    });
    let facts = Facts {
        caller: end(&from, ask.from.1),
        callee: end(&to, ask.to.1),
        port: 5432,
        trust_source: ask.source,
        discloses: true,
        instances: instances.collect(),
        calling: BTreeSet::new(),
    };
    let Explanation { allowed, steps } = explain(&ask.world, &facts);
    (allowed, steps.into_iter().map(|step| (step.step, step.ok, step.code, step.detail)).collect())
}

/// The verdict, and the last step before it.
fn decided(ask: &Ask) -> (bool, String, String) {
    let (allowed, mut steps) = told(ask);
    assert_eq!(steps.last().map(|(step, ok, ..)| (step.as_str(), *ok)), Some(("verdict", allowed)), "{steps:?}");
    assert!(steps.iter().all(|(step, _, code, detail)| !code.is_empty() && !detail.is_empty() && step != "?"));
    let (.., code, detail) = steps.swap_remove(steps.len() - 2);
    (allowed, code, detail)
}

fn at(last: u8) -> SocketAddr {
    ([10, 19, 0, last], 51820).into()
}

#[test]
fn each_step_of_an_answered_connection_has_a_code() {
    let direct = Path::Direct { endpoint: at(11), handshake_seconds: 7 };
    let (allowed, steps) = told(&own(vec![("b", InstanceState::Live, Presence::Heard, Some(direct))]));
    let codes: Vec<(&str, &str)> = steps.iter().map(|(step, _, code, _)| (step.as_str(), code.as_str())).collect();
    assert!(allowed && steps.iter().all(|step| step.1));
    assert_eq!(
        codes,
        [
            ("names", "known"),
            ("rule", "same-deployment"),
            ("runner", "runs"),
            ("path", "direct"),
            ("verdict", "allowed")
        ]
    );
}

#[test]
fn the_verdict_is_whether_a_syn_would_be_answered() {
    use InstanceState::{Client, Draining, Live};
    use Presence::{Heard, Here, Missing, Silent};
    let direct = || Some(Path::Direct { endpoint: at(11), handshake_seconds: 7 });
    let relayed = || Some(Path::Relayed { relay: "fra-1".to_owned(), handshake_seconds: 7 });
    let broken = || Some(Path::NoAnswer { tries: 3, seconds: 18, endpoints: vec![at(11)] });
    let untried = || Some(Path::Untried { endpoints: vec![at(11)] });
    for (places, allowed, code) in [
        (vec![], false, "no-live-instance"),
        (vec![("b", Draining, Heard, direct())], false, "only-draining"),
        (vec![("b", Client, Heard, direct())], false, "only-clients"),
        (vec![("b", Draining, Heard, direct()), ("c", Live, Heard, untried())], true, "untried"),
        (vec![("b", Live, Silent, None)], false, "runner-silent"),
        (vec![("b", Live, Silent, direct())], true, "direct"),
        (vec![("b", Live, Heard, broken())], false, "no-answer"),
        (vec![("b", Live, Heard, broken()), ("c", Live, Heard, direct())], true, "direct"),
        (vec![("b", Live, Silent, relayed())], true, "relay"),
        (vec![("b", Live, Heard, Some(Path::NoAddress))], false, "no-address"),
        (vec![("a", Live, Here, Some(Path::Local))], true, "local"),
        (vec![("b", Live, Heard, None)], true, "runs"),
        (vec![("a", Live, Missing, None)], false, "not-attached"),
    ] {
        let (said, found, detail) = decided(&own(places));
        assert_eq!((said, found.as_str()), (allowed, code), "{detail}");
    }
}

#[test]
fn a_broken_path_names_what_was_tried_and_what_to_open() {
    let path = Path::NoAnswer { tries: 3, seconds: 18, endpoints: vec![at(11)] };
    let (_, _, detail) = decided(&own(vec![("aws", InstanceState::Live, Presence::Heard, Some(path))]));
    assert_eq!(
        detail,
        "to aws: 3 handshakes in 18 s went unanswered at 10.19.0.11:51820: does a firewall let UDP 51820 to it through?"
    );
}

#[test]
fn draining_is_said() {
    let (_, _, detail) = decided(&own(vec![("aws", InstanceState::Draining, Presence::Heard, None)]));
    assert!(detail.starts_with("every instance of shop/db is draining (on aws)"), "{detail}");
}

#[test]
fn no_command_is_named_that_would_be_refused() {
    let command = "`mesh-coord trust api --app shop --service db --port 5432`";
    for (source, named) in [(Some(TrustSource::Command), true), (None, true), (Some(TrustSource::File), false)] {
        for grants in [vec![], vec![(2, 11, Ports::Only(BTreeSet::from([80])))]] {
            let (allowed, _, detail) = decided(&foreign(grants, source, "shop/db"));
            assert!(!allowed && detail.contains(command) == named, "{detail}");
            assert_eq!(detail.contains("file"), source != Some(TrustSource::Command), "{detail}");
        }
    }
    let mut ask = foreign(vec![(2, 30, Ports::All)], Some(TrustSource::Command), "evil/x");
    ask.to.1 = 30;
    let (allowed, code, detail) = decided(&ask);
    assert!(!allowed && code == "another-team" && !detail.contains("mesh-coord"), "{detail}");
}

#[test]
fn a_command_can_be_pasted_whatever_the_service_is_called() {
    for (callee, word) in
        [("shop/my db", "--service 'my db' "), ("shop/it's", r"--service 'it'\''s' "), ("shop/-x", "--service=-x ")]
    {
        let (_, _, detail) = decided(&foreign(vec![], Some(TrustSource::Command), callee));
        assert!(detail.contains(word), "{detail}");
    }
}

#[test]
fn refusals_are_distinct_and_an_address_is_named_to_those_who_may_call() {
    let refused = |grants, source| decided(&foreign(grants, source, "shop/db")).1;
    assert_eq!(refused(vec![], None), "no-trust");
    assert_eq!(refused(vec![(2, 11, Ports::Only([80].into()))], None), "port-not-trusted");
    assert_eq!(refused(vec![(1, 20, Ports::All)], None), "wrong-way");
    let ask = own(vec![("b", InstanceState::Live, Presence::Heard, None)]);
    assert!(told(&ask).1[0].3.contains("shop/db is 100.112.0.11"));
}

#[test]
fn a_broken_path_turns_what_the_coordinator_allowed() {
    let (from, to, name) = ("shop/app".parse().unwrap(), "shop/db".parse().unwrap(), "b".parse().unwrap());
    let said = || {
        let steps = vec![Step {
            step: "verdict".to_owned(),
            ok: true,
            code: "allowed".to_owned(),
            detail: "it may".to_owned(),
        }];
        Explanation { allowed: true, steps }
    };
    let broken = Path::NoAnswer { tries: 4, seconds: 20, endpoints: vec![at(1)] };
    let after = said().with_paths(&from, &to, 1, &[(&name, &broken)]);
    let steps: Vec<(&str, bool)> = after.steps.iter().map(|step| (step.step.as_str(), step.ok)).collect();
    assert_eq!((after.allowed, steps), (false, vec![("path", false), ("verdict", false)]));
    assert!(said().with_paths(&from, &to, 1, &[(&name, &Path::Local)]).allowed);
    let no = Explanation { allowed: false, ..said() };
    assert_eq!(no.clone().with_paths(&from, &to, 1, &[(&name, &broken)]), no, "nothing would be sent");
}

/// Which release is reached is said where the caller's instances have one.
#[test]
fn releases_of_one_deployment_are_told_apart() {
    let (from, to): (ServicePath, ServicePath) = ("shop/app".parse().unwrap(), "shop/db".parse().unwrap());
    let end = |path, service: u64| End {
        path,
        service: ServiceId(service),
        deployment: DeploymentId(1),
        address: Ipv4Addr::new(100, 112, 0, u8::try_from(service).unwrap()),
    };
    let [alpha, beta]: [Label; 2] = ["alpha", "beta"].map(|name| name.parse().unwrap());
    let [v1, v2]: [Release; 2] = ["v1", "v2"].map(|release| release.parse().unwrap());
    let place = |runner, release, state| Place { runner, state, release, presence: Presence::Heard, path: None };
    let said = |calling: &[&'static str], v2_is: InstanceState| {
        let calling: Vec<Release> = calling.iter().map(|release| release.parse().unwrap()).collect();
        let facts = Facts {
            caller: end(&from, 10),
            callee: end(&to, 11),
            port: 5432,
            trust_source: None,
            discloses: true,
            instances: vec![place(&alpha, Some(&v1), InstanceState::Live), place(&beta, Some(&v2), v2_is)],
            calling: calling.iter().collect(),
        };
        let steps = explain(&World { grants: vec![] }, &facts).steps;
        steps.into_iter().find(|step| step.step == "release").map(|step| (step.ok, step.code, step.detail))
    };
    let step = |code: &str, detail: &str| Some((true, code.to_owned(), detail.to_owned()));
    assert_eq!(said(&[], InstanceState::Live), None);
    assert_eq!(said(&["v1"], InstanceState::Live), step("same-release", "release v1 calls its own, on alpha"));
    assert_eq!(
        said(&["v1", "v2"], InstanceState::Live),
        step("same-release", "release v1 calls its own, on alpha; release v2 calls its own, on beta")
    );
    assert_eq!(
        said(&["v1", "v2"], InstanceState::Draining),
        step(
            "another-release",
            "release v1 calls its own, on alpha; of release v2 no live instance of shop/db is there, so any may be called"
        )
    );
}
