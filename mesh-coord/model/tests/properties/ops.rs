//! Random commands over a small world, so that they interact: four deployments of two teams, five services, four
//! runners.

use std::{collections::BTreeMap, net::Ipv4Addr};

use mesh_model::{
    Admin, AdminCommand, Command, Enrolment, NewPurpose, NewRelay, NewToken, Offload, Record, Role, RunnerCommand,
    State, TrustChange,
    declare::{Declaration, Declared, Deployment, File, Pattern, Trust},
    record::{Outside, SecretHandle},
};
use mesh_proto::{
    Abilities, InstanceId, Label, Ports, PublicKey, RelayId, RunnerId, Secret, ServiceName, ServicePath, TokenId,
    message::Held,
    relay::{Relayed, wire::RelayPublic},
    view::Ist,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::release_of;

/// An event, this many seconds after the one before.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) after: u64,
    /// How many seconds the time of day is off.
    pub(crate) off: i64,
    kind: Kind,
    pair: (ServicePath, ServicePath),
}

#[derive(Debug, Clone)]
enum Kind {
    Admin(Option<Label>, AdminCommand),
    Token(Option<Label>, NewToken),
    Relay(Option<Label>, Label),
    Enrol {
        token: u64,
        right: bool,
        proved: bool,
        replace: bool,
        name: Label,
        key: u8,
        credential: u8,
    },
    Runner(u64, RunnerCommand),
    /// The runner is silent, for long or very long.
    Unheard(u64, bool),
    /// A hello with its instances, without those in the mask, and with more.
    Hello {
        runner: u64,
        forgets: u16,
        more: Vec<Held>,
        endpoint: u16,
    },
}

const SECRET: Secret = Secret::from_bytes([1; 32]);

impl Op {
    pub(crate) fn pair(&self) -> (ServicePath, ServicePath) {
        self.pair.clone()
    }

    pub(crate) fn command(&self, state: &State) -> Command {
        let admin = |team: &Option<Label>| Admin { team: team.clone(), ..Admin::socket(0) };
        match &self.kind {
            Kind::Admin(team, what) => Command::Admin { by: admin(team), what: what.clone() },
            Kind::Token(team, token) => {
                Command::CreateToken { by: admin(team), token: token.clone(), secret: SECRET.hash() }
            }
            Kind::Relay(team, name) => Command::AddRelay {
                by: admin(team),
                relay: NewRelay {
                    name: name.clone(),
                    public: RelayPublic {
                        udp: vec!["203.0.113.9:3478".parse().unwrap()],
                        tcp: vec![],
                        tls: vec![],
                        fingerprint: None,
                    },
                },
                secret: SecretHandle(7),
            },
            Kind::Enrol { token, right, proved, replace, name, key, credential } => Command::Enrol(Enrolment {
                token: TokenId(*token),
                secret: if *right { SECRET } else { Secret::from_bytes([2; 32]) },
                name: name.clone(),
                provider: name.clone(),
                public_key: PublicKey([*key; 32]),
                proved: *proved,
                replace: *replace,
                credential: Secret::from_bytes([*credential; 32]).hash(),
            }),
            Kind::Runner(runner, what) => Command::Runner { by: RunnerId(*runner), what: what.clone() },
            Kind::Unheard(runner, false) => {
                Command::Silent { runners: [RunnerId(*runner), RunnerId(runner / 2)].into(), held_back: Some(60) }
            }
            Kind::Unheard(runner, true) => Command::Expire(RunnerId(*runner)),
            Kind::Hello { runner, forgets, more, endpoint } => {
                let by = RunnerId(*runner);
                let held = state.instances_on(by).enumerate().filter(|(nth, _)| forgets & (1 << (nth % 16)) == 0);
                let mut instances: Vec<Held> = held
                    .map(|(_, i)| Held {
                        instance: i.id,
                        service: path_of(state, i.service),
                        address: i.address,
                        client: false,
                        draining: false,
                        release: i.release.clone(),
                    })
                    .collect();
                instances.extend(more.iter().cloned());
                let endpoint = ([192, 0, 2, 1], *endpoint).into();
                Command::Runner {
                    by,
                    what: RunnerCommand::Hello {
                        version: "1.0.0".to_owned(),
                        can: Abilities::NONE,
                        endpoints: vec![([198, 51, 100, 7], 51820).into()],
                        seen: Some(endpoint),
                        outside: Outside::default(),
                        instances,
                    },
                }
            }
        }
    }
}

fn path_of(state: &State, id: mesh_proto::ServiceId) -> ServicePath {
    let records: Vec<Record> = state.records().collect();
    let service = records.iter().find_map(|r| match r {
        Record::Service(s) if s.id == id => Some(s),
        _ => None,
    });
    let service = service.unwrap();
    let deployment = records.iter().find_map(|r| match r {
        Record::Deployment(d) if d.id == service.deployment => Some(d),
        _ => None,
    });
    ServicePath { deployment: deployment.unwrap().name.clone(), service: service.name.clone() }
}

/// Everything declared, joined and attached.
pub(crate) fn busy() -> Vec<Op> {
    let label = |text: &str| -> Label { text.parse().unwrap() };
    let services: BTreeMap<ServiceName, Declared> =
        SERVICES[..4].iter().map(|name| (name.parse().unwrap(), Declared::default())).collect();
    let mut kinds = vec![Kind::Admin(
        None,
        AdminCommand::Apply {
            files: DEPLOYMENTS
                .iter()
                .zip(["x", "x", "x", "y"])
                .map(|(name, team)| File {
                    name: format!("{name}.toml"),
                    declaration: Declaration::Whole(Deployment {
                        name: label(name),
                        team: Some(label(team)),
                        expose: None,
                        trust: None,
                        services: services.clone(),
                    }),
                })
                .collect(),
            dry_run: false,
            force: false,
            prune: None,
        },
    )];
    kinds.push(Kind::Token(
        None,
        NewToken { purpose: NewPurpose::JoinAny { uses: 50 }, ttl: 1_000_000, ephemeral: false, name: None },
    ));
    kinds.push(Kind::Token(
        None,
        NewToken {
            purpose: NewPurpose::JoinTeams { teams: [label("x")].into(), uses: 50 },
            ttl: 1_000_000,
            ephemeral: false,
            name: None,
        },
    ));
    for (n, name) in (1..).zip(RUNNERS) {
        kinds.push(Kind::Enrol {
            token: 1 + u64::from(n) % 2,
            right: true,
            proved: true,
            replace: false,
            name: label(name),
            key: n,
            credential: n,
        });
    }
    for (n, deployment) in (0..).zip(["a", "d", "b", "c"]) {
        for service in &SERVICES[..3] {
            let service = format!("{deployment}/{service}").parse().unwrap();
            kinds.push(Kind::Runner(1 + n, RunnerCommand::Attach { service, client: false, release: None }));
        }
    }
    for (caller, callee, services, ports) in [
        ("a", "b", None, Ports::All),
        ("c", "a", Some(vec!["*-tcp".parse().unwrap()]), Ports::Only([80].into())),
        ("b", "c", Some(vec!["db".parse().unwrap()]), Ports::All),
    ] {
        let change = TrustChange::Add { callers: [label(caller)].into(), services, ports };
        kinds.push(Kind::Admin(None, AdminCommand::Trust { deployment: label(callee), change }));
    }
    let pair = ("a/db".parse().unwrap(), "b/db".parse().unwrap());
    kinds.into_iter().map(|kind| Op { after: 1, off: 0, kind, pair: pair.clone() }).collect()
}

const DEPLOYMENTS: [&str; 4] = ["a", "b", "c", "d"];
const SERVICES: [&str; 5] = ["db", "web-tcp", "app", "my db", "my-db"];
const RUNNERS: [&str; 4] = ["r1", "r2", "r3", "r4"];
const PATTERNS: [&str; 4] = ["*-tcp", "db", "*", "none*"];

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let after = prop_oneof![Just(0u64), 0..5u64, Just(700)];
    let off = prop_oneof![8 => Just(0i64), 1 => Just(-900_000), 1 => Just(1_000_000_000)];
    (after, off, kind(), path(), path()).prop_map(|(after, off, kind, from, to)| Op {
        after,
        off,
        kind,
        pair: (from, to),
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    let admin =
        |what: BoxedStrategy<AdminCommand>| (team_of_admin(), what).prop_map(|(t, w)| Kind::Admin(t, w)).boxed();
    let runner = |what: BoxedStrategy<RunnerCommand>| (1..6u64, what).prop_map(|(r, w)| Kind::Runner(r, w)).boxed();
    prop_oneof![
        5 => admin(apply()),
        1 => admin((label(&DEPLOYMENTS), any::<bool>())
            .prop_map(|(deployment, force)| AdminCommand::Delete { deployment, force }).boxed()),
        6 => admin((label(&DEPLOYMENTS), trust_change())
            .prop_map(|(deployment, change)| AdminCommand::Trust { deployment, change }).boxed()),
        1 => admin((1..6u64, any::<bool>())
            .prop_map(|(t, with_nodes)| AdminCommand::RevokeToken { token: TokenId(t), with_nodes }).boxed()),
        1 => admin((label(&RUNNERS), any::<bool>())
            .prop_map(|(name, force)| AdminCommand::RemoveNode { name, force }).boxed()),
        2 => admin((1..18u64, any::<bool>()).prop_map(|(i, drain)| {
            let instance = InstanceId(i);
            if drain { AdminCommand::Drain { instance } } else { AdminCommand::Undrain { instance } }
        }).boxed()),
        2 => admin((label(&RUNNERS), any::<bool>()).prop_map(|(name, drain)| {
            if drain { AdminCommand::DrainNode { name } } else { AdminCommand::UndrainNode { name } }
        }).boxed()),
        2 => (team_of_admin(), purpose(), prop_oneof![Just(1000u64), Just(100_000)])
            .prop_map(|(team, purpose, ttl)| Kind::Token(team, NewToken { purpose, ttl, ephemeral: ttl > 1000, name: None })),
        4 => enrol(),
        9 => runner((path(), any::<bool>(), 0..4u16)
            .prop_map(|(service, client, n)| RunnerCommand::Attach { service, client, release: release_of(n) }).boxed()),
        6 => runner((1..18u64).prop_map(|i| RunnerCommand::Detach { instance: InstanceId(i) }).boxed()),
        1 => runner((0..3u16).prop_map(|port| RunnerCommand::Endpoints {
            endpoints: vec![([203, 0, 113, 9], port).into()],
            outside: Outside::default(),
        }).boxed()),
        1 => runner((0..3u16, 1..4u64).prop_map(|(port, relay)| RunnerCommand::Endpoints {
            endpoints: vec![([203, 0, 113, 9], 1).into()],
            outside: Outside {
                reflexive: vec![([203, 0, 113, 9], port).into(), ([198, 51, 100, 1], port).into()],
                relayed: vec![Relayed { relay: RelayId(relay), address: ([198, 51, 100, 3], 1 + port).into() }],
                nat: None,
            },
        }).boxed()),
        1 => (team_of_admin(), label(&RUNNERS)).prop_map(|(team, name)| Kind::Relay(team, name)),
        1 => admin(label(&RUNNERS).prop_map(|name| AdminCommand::RemoveRelay { name }).boxed()),
        2 => runner((1..18u64).prop_map(|i| RunnerCommand::Drain { instance: InstanceId(i) }).boxed()),
        1 => runner((1..18u64).prop_map(|i| RunnerCommand::Undrain { instance: InstanceId(i) }).boxed()),
        1 => runner(Just(RunnerCommand::Leave).boxed()),
        1 => admin((select(&Offload::ALL[..]), any::<bool>(), option::of(label(&RUNNERS)))
            .prop_map(|(offload, on, node)| AdminCommand::Switch { offload, on, node }).boxed()),
        2 => (1..6u64, any::<bool>()).prop_map(|(runner, expires)| Kind::Unheard(runner, expires)),
        1 => runner(Just(RunnerCommand::TakenOver { from: [192, 0, 2, 77].into() }).boxed()),
        3 => hello(),
    ]
}

fn label(of: &'static [&'static str]) -> impl Strategy<Value = Label> {
    select(of).prop_map(|text| text.parse().unwrap())
}

fn team_of_admin() -> impl Strategy<Value = Option<Label>> {
    prop_oneof![6 => Just(None), 1 => label(&["x", "y"]).prop_map(Some)]
}

fn path() -> impl Strategy<Value = ServicePath> {
    (label(&DEPLOYMENTS), select(&SERVICES[..]))
        .prop_map(|(deployment, service)| ServicePath { deployment, service: service.parse().unwrap() })
}

fn patterns() -> impl Strategy<Value = Option<Vec<Pattern>>> {
    option::of(
        prop_oneof![1 => Just(Vec::new()), 9 => vec(select(&PATTERNS[..]).prop_map(|p| p.parse().unwrap()), 1..3)],
    )
}

fn ports() -> impl Strategy<Value = Ports> {
    prop_oneof![
        4 => Just(Ports::All),
        4 => Just(Ports::Only([80].into())),
        1 => Just(Ports::Only([80, 443].into())),
        1 => Just(Ports::Only([].into())),
    ]
}

fn trust_change() -> impl Strategy<Value = TrustChange> {
    let callers = || prop::collection::btree_set(label(&DEPLOYMENTS), 1..3);
    prop_oneof![
        8 => (callers(), patterns(), ports())
            .prop_map(|(callers, services, ports)| TrustChange::Add { callers, services, ports }),
        3 => (callers(), patterns(), ports())
            .prop_map(|(callers, services, ports)| TrustChange::Remove { callers, services, ports }),
        1 => Just(TrustChange::Clear),
    ]
}

fn declared() -> impl Strategy<Value = Declared> {
    let ist = (select(&SERVICES[..3]), select(&["DB", "X"][..])).prop_map(|(service, variable)| Ist {
        service: service.parse().unwrap(),
        variables: vec![variable.to_owned()],
        hostnames: Vec::new(),
    });
    (option::weighted(0.3, 0..20u16), any::<bool>(), prop_oneof![4 => Just(Vec::new()), 1 => vec(ist, 1..2)]).prop_map(
        |(port, manual_names, ist)| Declared { aliases: Vec::new(), port, public_port: None, manual_names, ist },
    )
}

fn apply() -> BoxedStrategy<AdminCommand> {
    let service = || select(&SERVICES[..]).prop_map(|s| s.parse::<ServiceName>().unwrap());
    let trust = (label(&DEPLOYMENTS), patterns(), ports()).prop_map(|(caller, services, ports)| Trust {
        caller,
        services,
        ports,
    });
    let whole = (
        label(&DEPLOYMENTS),
        option::weighted(0.2, label(&["x", "x", "x", "y"])),
        patterns(),
        option::weighted(0.3, vec(trust, 0..3)),
        prop::collection::btree_map(service(), declared(), 1..5),
    )
        .prop_map(|(name, team, expose, trust, services)| {
            Declaration::Whole(Deployment { name, team, expose, trust, services })
        });
    let single = (label(&DEPLOYMENTS), service(), declared())
        .prop_map(|(deployment, name, service)| Declaration::Single { deployment, name, service });
    let file = (prop_oneof![2 => whole.boxed(), 1 => single.boxed()], select(&["one.toml", "two.toml"][..]))
        .prop_map(|(declaration, name)| File { name: name.to_owned(), declaration });
    (vec(file, 1..3), prop::bool::weighted(0.1), any::<bool>())
        .prop_map(|(files, dry_run, force)| AdminCommand::Apply { files, dry_run, force, prune: None })
        .boxed()
}

fn purpose() -> impl Strategy<Value = NewPurpose> {
    let uses = || 0..4u32;
    prop_oneof![
        2 => uses().prop_map(|uses| NewPurpose::JoinAny { uses }),
        1 => (prop::collection::btree_set(label(&["x", "y"]), 0..2), uses())
            .prop_map(|(teams, uses)| NewPurpose::JoinTeams { teams, uses }),
        1 => (prop::collection::btree_set(label(&DEPLOYMENTS), 0..3), uses())
            .prop_map(|(deployments, uses)| NewPurpose::JoinDeployments { deployments, uses }),
        1 => option::of(label(&["x", "y"])).prop_map(|team| NewPurpose::Admin { team }),
        1 => option::of(label(&["x", "y"])).prop_map(|team| NewPurpose::Role { role: Role::Viewer, team }),
    ]
}

fn enrol() -> impl Strategy<Value = Kind> {
    let mostly = || prop::bool::weighted(0.95);
    (1..5u64, mostly(), mostly(), any::<bool>(), label(&RUNNERS), 1..7u8, any::<u8>()).prop_map(
        |(token, right, proved, replace, name, key, credential)| Kind::Enrol {
            token,
            right,
            proved,
            replace,
            name,
            key,
            credential,
        },
    )
}

fn hello() -> impl Strategy<Value = Kind> {
    let held = (1..60u64, path(), any::<u8>(), any::<bool>()).prop_map(|(instance, service, address, client)| Held {
        instance: InstanceId(instance),
        service,
        address: Ipv4Addr::new(10, 9, 0, address),
        client,
        draining: address % 3 == 0,
        release: release_of(u16::from(address)),
    });
    let forgets = prop_oneof![Just(0u16), any::<u16>()];
    (1..6u64, forgets, vec(held, 0..3), 0..3u16).prop_map(|(runner, forgets, more, endpoint)| Kind::Hello {
        runner,
        forgets,
        more,
        endpoint,
    })
}
