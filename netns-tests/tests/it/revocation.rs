//! Trust is removed in a transaction: when the command returns it has been applied, and all connections that needed it
//! have ended; no others are affected.

use std::{io::ErrorKind, net::Ipv4Addr};

use mesh_netns_tests::{
    Condition, Coordinator, Crowd, Held, Instance, NamedServer, Outcome, Pace, Runner, Stack, Transfer, World,
    isolated, packet::opens, wait,
};

use crate::common::{SHOP, declare, is_refused, wait_refused_at_home};

const APIS: &str = "deployment = \"apis\"\n[services.grpc]\n[services.web]\n";

/// Connections of every kind from one instance to one server.
pub(crate) struct Standing {
    idle: Crowd,
    blocked: Held,
    chatting: Held,
    busy: Vec<Transfer>,
}

impl Standing {
    /// Their number.
    pub(crate) const COUNT: usize = 10 + 3 + 3 + 2;

    #[track_caller]
    pub(crate) fn new(caller: &Instance, to: Ipv4Addr, port: u16) -> Self {
        let gather = |count| Crowd::gather(&caller.namespace, to, port, count);
        let busy = gather(2).transfer(Pace::Steady);
        busy.iter().for_each(|transfer| transfer.wait_more(1 << 18));
        Self { idle: gather(10), blocked: gather(3).block(), chatting: gather(3).chatter(), busy }
    }

    /// No byte passes, and both ends notice the reset.
    #[track_caller]
    pub(crate) fn assert_reset(mut self) {
        assert_eq!(self.idle.answering(), 0);
        self.assert_told();
    }

    /// The same without sending on them.
    #[track_caller]
    pub(crate) fn assert_told(&mut self) {
        self.assert_idle_told();
        let chatting = std::mem::take(&mut self.chatting).wait_end();
        assert_eq!(chatting, [(Condition::Reset, 3)].into(), "those that go on talking");
        for transfer in &mut self.busy {
            let error = transfer.wait_end().expect_err("a transfer that was cut");
            assert_eq!(Condition::of(&error), Condition::Reset, "{error}");
        }
    }

    /// Idle ones notice it.
    #[track_caller]
    pub(crate) fn assert_idle_told(&mut self) {
        self.idle.wait_all(Condition::Reset);
        let blocked = std::mem::take(&mut self.blocked).wait_end();
        assert_eq!(blocked, [(Condition::Reset, 3)].into(), "those that block in read");
    }

    /// Nothing has happened to them.
    #[track_caller]
    pub(crate) fn assert_untouched(&mut self) {
        self.idle.assert_all_answer();
        assert!(self.blocked.all_stand() && self.chatting.all_stand());
        for transfer in &self.busy {
            transfer.wait_more(1);
            assert!(!transfer.has_ended());
        }
    }
}

/// Waits until this many connections of a server were reset at its end, and checks that no others were.
#[track_caller]
pub(crate) fn assert_resets(server: &NamedServer, count: usize) {
    wait::until_true(&format!("{count} connections to end at the server"), || server.ended().len() >= count);
    let others: Vec<_> = server.ended().into_iter().filter(|ended| ended.how != Condition::Reset).collect();
    assert_eq!((server.resets(), others), (count, vec![]));
}

/// `apis` trusts `shop`. shop/app has an instance on each runner, and both services of apis have one on ovh.
struct Stage {
    world: World,
    coordinator: Coordinator,
    aws: Runner,
    ovh: Runner,
    near: Instance,
    afar: Instance,
    grpc: Instance,
    web: Instance,
}

impl Stage {
    fn set() -> Self {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, APIS]);
        trust(&coordinator, &["shop"]).done();
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let [afar, near] = [&aws, &ovh].map(|runner| runner.attach("shop/app"));
        let [grpc, web] = ["apis/grpc", "apis/web"].map(|service| ovh.attach(service));
        Self { world, coordinator, aws, ovh, near, afar, grpc, web }
    }
}

/// `mesh-coord trust ARGUMENTS --app apis`
#[track_caller]
fn trust(coordinator: &Coordinator, arguments: &[&str]) -> Outcome {
    coordinator.command(&[&["trust", "--app", "apis"], arguments].concat())
}

/// Removes all trust while one runner can't be reached: once the others have applied it, a waiting command reports that
/// one. Returns its outcome.
#[track_caller]
fn clear_without(coordinator: &Coordinator, away: &str) -> Outcome {
    let waited = |timeout: &str| trust(coordinator, &["--wait", "--timeout", timeout, "--json"]);
    trust(coordinator, &["--clear"]).done();
    wait::until_true("the others to put it into force", || {
        waited("10ms").json()["pending"].as_array().is_some_and(|pending| pending.iter().all(|name| name == away))
    });
    let said = waited("1s").expect_code(1);
    assert_eq!(said.json()["pending"], serde_json::json!([away]), "{}", said.stdout);
    said
}

#[test]
fn when_the_command_returns_it_is_in_force_everywhere() {
    isolated(|| {
        let stage = Stage::set();
        let Stage { coordinator, near, afar, grpc, web, .. } = &stage;
        let db = stage.aws.attach("shop/db");
        let [server, other, third] = [grpc, &db, web].map(|instance| instance.serve_named(80));
        let victims = [near, afar].map(|caller| Standing::new(caller, grpc.service_address, 80));
        let mut bystanders = [near, afar].map(|caller| Standing::new(caller, db.service_address, 80));
        let mut bystander = Standing::new(grpc, web.service_address, 80);
        let syns = grpc.capture();

        let said = trust(coordinator, &["--clear", "--wait", "--json"]).done().json();
        assert_eq!((&said["pending"], &said["trust"]), (&serde_json::json!([]), &serde_json::json!([])), "{said:#}");
        victims.into_iter().for_each(Standing::assert_reset);
        assert_resets(&server, 2 * Standing::COUNT);
        for caller in [near, afar] {
            is_refused(caller, grpc.service_address, 80);
            is_refused(caller, grpc.address, 80);
            is_refused(caller, web.service_address, 80);
        }
        assert_eq!(syns.received(opens), 0, "{}", syns.text());
        bystanders.iter_mut().chain([&mut bystander]).for_each(Standing::assert_untouched);
        assert_eq!([&server, &other, &third].map(NamedServer::open), [0, 2 * Standing::COUNT, Standing::COUNT]);

        // And added again, likewise.
        trust(coordinator, &["shop", "--wait"]).done();
        for caller in [near, afar] {
            Crowd::gather(&caller.namespace, grpc.service_address, 80, 3).assert_all_answer();
        }
        assert_eq!(other.resets() + third.resets(), 0);
    });
}

#[test]
fn one_of_two_callers_or_some_ports_or_some_services() {
    isolated(|| {
        let stage = Stage::set();
        let Stage { coordinator, near, afar, grpc, web, .. } = &stage;
        declare(coordinator, &["deployment = \"labs\"\n[services.x]\n"]);
        trust(coordinator, &["labs", "--wait"]).done();
        let lab = stage.aws.attach("labs/x");
        let [on_80, on_81, of_web] = [(grpc, 80), (grpc, 81), (web, 80)].map(|(callee, port)| callee.serve_named(port));
        let to = |port| move |caller: &&Instance| Standing::new(caller, grpc.service_address, port);
        let mut from_lab = to(80)(&&lab);
        let mut kept = [near, afar].each_ref().map(to(80));
        let lost = [near, afar].each_ref().map(to(81));

        // From all ports to one, in one step by a file.
        let narrow = "deployment = \"apis\"\ntrust = [\"labs\", { deployment = \"shop\", services = [\"grpc\"], ports = [80] }]\n\
                      [services.grpc]\n[services.web]\n";
        let of_services = [near, afar].map(|caller| Standing::new(caller, web.service_address, 80));
        coordinator.apply(narrow).done();
        trust(coordinator, &["--wait"]).done();
        lost.into_iter().chain(of_services).for_each(Standing::assert_reset);
        assert_resets(&on_81, 2 * Standing::COUNT);
        assert_resets(&of_web, 2 * Standing::COUNT);
        for caller in [near, afar] {
            is_refused(caller, grpc.service_address, 81);
            is_refused(caller, web.service_address, 80);
        }
        kept.iter_mut().chain([&mut from_lab]).for_each(Standing::assert_untouched);

        // Then one of the two callers.
        coordinator.apply("deployment = \"apis\"\ntrust = [\"labs\"]\n[services.grpc]\n[services.web]\n").done();
        trust(coordinator, &["--wait"]).done();
        kept.into_iter().for_each(Standing::assert_reset);
        assert_resets(&on_80, 2 * Standing::COUNT);
        from_lab.assert_untouched();
        assert_eq!(on_80.open(), Standing::COUNT);
    });
}

#[test]
fn a_callers_runner_that_cannot_hear_of_it_is_named_and_the_callees_refuses() {
    isolated(|| {
        let stage = Stage::set();
        let Stage { world, coordinator, aws, near, afar, grpc, .. } = &stage;
        let server = grpc.serve_named(80);
        let victims = [near, afar].map(|caller| Standing::new(caller, grpc.service_address, 80));
        // Only the coordinator is out of its reach: the tunnel works.
        world.cut_between(aws.namespace(), coordinator.namespace());
        let said = clear_without(coordinator, "aws");
        assert!(said.stderr.contains("aws") && !said.stderr.contains("ovh"), "{}", said.stderr);
        victims.into_iter().for_each(Standing::assert_reset);
        assert_resets(&server, 2 * Standing::COUNT);
        is_refused(near, grpc.service_address, 80);
        // The caller's own runner still lets it pass, so the callee's rejects it by a RST.
        let (syns, mine) = (grpc.capture(), afar.capture());
        let error = afar.connect(grpc.service_address, 80).expect_err("the callee's runner refuses");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(mine.sent(opens) > 0 && syns.received(opens) == 0, "{}", mine.text());

        world.mend_between(aws.namespace(), coordinator.namespace());
        wait_refused_at_home(afar, grpc.service_address, 80);
    });
}

#[test]
fn a_callers_runner_that_is_cut_off_is_named_and_applies_it_when_it_is_back() {
    isolated(|| {
        let stage = Stage::set();
        let Stage { world, coordinator, aws, ovh, near, afar, grpc, .. } = &stage;
        let server = grpc.serve_named(80);
        let [of_near, mut of_afar] = [near, afar].map(|caller| Standing::new(caller, grpc.service_address, 80));
        world.cut(aws.namespace());
        clear_without(coordinator, "aws");
        of_near.assert_reset();
        // Nothing is left at the callee's end, although the other end can't be reset.
        assert_resets(&server, 2 * Standing::COUNT);
        is_refused(near, grpc.service_address, 80);

        world.mend(aws.namespace());
        // Idle ones are reset as well.
        of_afar.assert_told();
        wait_refused_at_home(afar, grpc.service_address, 80);

        // The other way round: the callee's runner is away.
        trust(coordinator, &["shop", "--wait"]).done();
        let [mut of_near, mut of_afar] = [near, afar].map(|caller| Standing::new(caller, grpc.service_address, 80));
        world.cut(ovh.namespace());
        clear_without(coordinator, "ovh");
        of_afar.assert_told();
        is_refused(afar, grpc.service_address, 80);
        world.mend(ovh.namespace());
        of_near.assert_told();
        is_refused(near, grpc.service_address, 80);
        assert_resets(&server, 4 * Standing::COUNT);
    });
}
