//! Nothing that one instance sends takes rights or connections from others, on any runner.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::mpsc::{Receiver, channel},
    thread,
};

use mesh_netns_tests::{
    Coordinator, Instance, Rogue, Runner, Stack, World, isolated, packet::flag, traffic, traffic::Answer,
};

use crate::common::{declare, reaches};

const PORT: u16 = 5432;
const OTHER_PORT: u16 = 80;

/// The number of connections that a tenant is promised.
const MANY: usize = 1000;

fn scene<const N: usize>(files: &[&str], names: [&str; N]) -> (World, Coordinator, [Runner; N]) {
    let world = World::new();
    let coordinator = world.coordinator(&[]);
    declare(&coordinator, files);
    let runners = names.map(|name| world.runner(&coordinator, name, Stack::Dual));
    (world, coordinator, runners)
}

/// Accepts connections in an instance and holds them, until it is dropped.
struct Holder {
    listener: TcpListener,
    held: Receiver<TcpStream>,
}

impl Holder {
    fn start(instance: &Instance) -> Self {
        let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("cannot listen");
        let listener = instance.namespace.enter(bind);
        let accepting = listener.try_clone().expect("cannot duplicate a descriptor");
        let (sender, held) = channel();
        thread::spawn(move || accepting.incoming().map_while(Result::ok).all(|stream| sender.send(stream).is_ok()));
        Self { listener, held }
    }

    fn count(&self) -> usize {
        self.held.try_iter().count()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Wakes the thread in accept.
        let _ = nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }
}

/// Opens this many connections, one after another. If one fails, returns how many there were.
fn open(caller: &Instance, to: Ipv4Addr, count: usize) -> Result<Vec<TcpStream>, (usize, io::Error)> {
    caller.namespace.enter(|| {
        let mut opened = Vec::with_capacity(count);
        for _ in 0..count {
            match traffic::connect(to, PORT) {
                Ok(stream) => opened.push(stream),
                Err(error) => return Err((opened.len(), error)),
            }
        }
        Ok(opened)
    })
}

#[track_caller]
fn opens(who: &str, caller: &Instance, to: &Instance, count: usize) -> Vec<TcpStream> {
    open(caller, to.service_address, count)
        .unwrap_or_else(|(had, error)| panic!("{who}: {had} connections of {count}, then {error}"))
}

/// Segments that open nothing, from every port and both addresses of an instance: a listening kernel answers those with
/// ACK by a RST, and drops those without flags silently.
fn pretends(evil: &Instance, at: &Runner, to: &Instance) {
    let rogue = Rogue::new(evil);
    let attempts = [
        (evil.address, to.service_address, PORT, flag::ACK),
        (evil.address, to.service_address, OTHER_PORT, 0),
        (evil.service_address, to.address, PORT, 0),
        (evil.service_address, to.address, OTHER_PORT, 0),
    ];
    for (from, to, port, flags) in attempts {
        rogue.sweep(from, (to, port), flags);
        rogue.wait_read(at);
    }
}

#[test]
fn what_a_caller_sends_takes_no_connection_from_the_service_that_it_may_call() {
    const VIC: &str = "deployment = \"vic\"\nteam = \"alice\"\ntrust = [\"evil\"]\n[services.web]\n[services.db]\n";
    const EVIL: &str = "deployment = \"evil\"\nteam = \"alice\"\n[services.a]\n";
    isolated(|| {
        let (_world, _coordinator, [mut here]) = scene(&[EVIL, VIC], ["here"]);
        let (web, db, evil) = (here.attach("vic/web"), here.attach("vic/db"), here.attach("evil/a"));
        let _servers =
            [(&web, PORT), (&web, OTHER_PORT), (&db, PORT)].map(|(callee, port)| callee.serve(port, Answer::Echo));
        reaches(&evil, web.service_address, PORT);
        pretends(&evil, &here, &web);
        reaches(&web, db.service_address, PORT);
        here.stop();
        here.start_alone(&[]);
        reaches(&web, db.service_address, PORT);
    });
}

#[test]
fn what_a_caller_on_another_runner_sends_takes_no_connection_from_its_own_deployment() {
    const VIC: &str = "deployment = \"vic\"\n[services.web]\n[services.db]\n[services.a]\n[services.b]\n";
    isolated(|| {
        let (_world, _coordinator, [mut here, there]) = scene(&[VIC], ["here", "there"]);
        let (web, db) = (here.attach("vic/web"), here.attach("vic/db"));
        let (evil, other) = (there.attach("vic/a"), there.attach("vic/b"));
        let _servers =
            [(&web, PORT), (&web, OTHER_PORT), (&db, PORT)].map(|(callee, port)| callee.serve(port, Answer::Echo));
        let attack = || {
            pretends(&evil, &there, &web);
            // The segments before this one have arrived by then.
            reaches(&other, web.service_address, PORT);
            reaches(&web, db.service_address, PORT);
        };
        reaches(&web, db.service_address, PORT);
        attack();
        here.stop();
        here.start_alone(&[]);
        reaches(&web, db.service_address, PORT);
        // An engine without memory believes the first sender.
        here.stop();
        fs::remove_file(here.state().join("pins")).expect("the agent's memory");
        here.start_alone(&[]);
        attack();
    });
}

#[test]
fn a_tenant_that_calls_itself_between_two_runners_takes_no_connection_between_them_from_others() {
    const FILES: [&str; 3] = [
        "deployment = \"evil\"\nteam = \"mallory\"\n[services.a]\n[services.b]\n",
        "deployment = \"twin\"\nteam = \"mallory\"\n[services.app]\n[services.db]\n",
        "deployment = \"by\"\nteam = \"alice\"\n[services.app]\n[services.db]\n",
    ];
    isolated(|| {
        let (_world, _coordinator, [here, there]) = scene(&FILES, ["here", "there"]);
        let (a, b) = (here.attach("evil/a"), there.attach("evil/b"));
        let apps = ["by/app", "twin/app"].map(|service| here.attach(service));
        let dbs = ["by/db", "twin/db"].map(|service| there.attach(service));
        let holders = dbs.each_ref().map(Holder::start);
        let rogue = Rogue::new(&a);
        // No server answers, and none refuses.
        Rogue::silence(&b);
        rogue.sweep(a.address, (b.service_address, 9), flag::SYN);
        rogue.wait_read(&here);
        let _held = [0, 1].map(|n| opens(["by", "twin"][n], &apps[n], &dbs[n], MANY));
        assert_eq!(holders.each_ref().map(Holder::count), [MANY, MANY]);
    });
}

/// Twelve instances of this team hold all that they can get before a tenant of team alice comes, apart from the
/// thousand of one of its instances.
fn crowded_out_by(team: &str) {
    let evil = format!("deployment = \"evil\"\nteam = \"{team}\"\n[services.a]\n[services.b]\n");
    let by = "deployment = \"by\"\nteam = \"alice\"\n[services.app]\n[services.db]\n[services.far]\n";
    let (_world, _coordinator, [here, there]) = scene(&[&evil, by], ["here", "there"]);
    let b = here.attach("evil/b");
    let evils: Vec<Instance> = (0..12).map(|_| here.attach("evil/a")).collect();
    let [early, late] = [here.attach("by/app"), here.attach("by/app")];
    let (db, far, afar) = (here.attach("by/db"), there.attach("by/far"), there.attach("by/app"));
    let _holders = [&db, &far].map(Holder::start);
    let _before = opens("one of the tenant's, before", &early, &db, MANY);

    Rogue::accept_without_memory(&b);
    let _accepts = b.serve(9, Answer::Echo);
    for evil in &evils {
        let rogue = Rogue::new(evil);
        // Answered connections stand: its kernel resets none.
        Rogue::silence(evil);
        rogue.take_all(&here, (b.service_address, 9));
    }

    let _held = [
        opens("on one runner", &late, &db, MANY),
        opens("to the other runner", &late, &far, MANY),
        opens("from the other runner", &afar, &db, MANY),
        opens("beyond a thousand that stand", &early, &far, MANY),
    ];
}

#[test]
fn twelve_greedy_instances_of_another_team_leave_a_tenant_its_thousand_connections() {
    isolated(|| crowded_out_by("mallory"));
}

#[test]
fn twelve_greedy_instances_of_another_deployment_of_its_team_leave_a_tenant_its_thousand() {
    isolated(|| crowded_out_by("alice"));
}
