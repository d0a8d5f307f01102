use std::{fmt::Debug, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::{
    Ability, DeploymentId, Ports, PrivateKey, RelayId, ServiceId,
    relay::{Mapping, wire::RelayPublic},
    token::Fingerprint,
    view::{
        Deployment, Grant, Instance, InstanceState, Ist, Key, Naming, Network, Record, Runner, Service, TrustSource,
    },
};

/// Checks the wire format: what is written today must be written and read by later versions.
#[track_caller]
fn frozen<T: Serialize + for<'a> Deserialize<'a> + Debug>(value: &T, text: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), text);
    let read: T = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text, "read as {read:?}");
}

fn epoch() -> Epoch {
    Epoch(*b"0123456789abcdef")
}

fn path(text: &str) -> ServicePath {
    text.parse().unwrap()
}

fn key() -> PrivateKey {
    PrivateKey::from_bytes([1; 32])
}

/// A view with a record of each kind.
fn view() -> View {
    let network = Network { range: Range::DEFAULT, mtu: 1344 };
    let mut view = View::empty(epoch(), Revision(7), RunnerId(1), network);
    for record in records() {
        view.put(record);
    }
    view
}

fn records() -> [Record; 6] {
    [
        Record::Runner(Arc::new(Runner {
            id: RunnerId(1),
            name: "basement".parse().unwrap(),
            provider: "home".parse().unwrap(),
            public_key: key().public(),
            endpoints: vec!["192.0.2.1:51820".parse().unwrap(), "[2001:db8::1]:51820".parse().unwrap()],
            silent: false,
            can: Abilities::NONE,
            reflexive: vec![],
            relayed: vec![],
        })),
        Record::Deployment(Arc::new(Deployment {
            id: DeploymentId(2),
            name: "shop".parse().unwrap(),
            team: "acme".parse().unwrap(),
            trust_source: Some(TrustSource::File),
        })),
        Record::Service(Arc::new(Service {
            id: ServiceId(3),
            deployment: DeploymentId(2),
            name: "my db".parse().unwrap(),
            address: Ipv4Addr::new(100, 112, 0, 2),
            automatic_names: true,
        })),
        Record::Naming(Arc::new(Naming {
            service: ServiceId(3),
            aliases: vec!["mysql".to_owned()],
            port: Some(5432),
            ist: vec![Ist {
                service: "我".parse().unwrap(),
                variables: vec!["A".to_owned()],
                hostnames: vec!["a.local".to_owned()],
            }],
        })),
        Record::Instance(Arc::new(Instance {
            id: InstanceId(4),
            service: ServiceId(3),
            runner: RunnerId(1),
            address: Ipv4Addr::new(100, 112, 0, 3),
            state: InstanceState::Live,
            release: None,
        })),
        Record::Grant(Arc::new(Grant {
            caller: DeploymentId(5),
            callee: ServiceId(3),
            ports: Ports::Only([80, 443].into()),
        })),
    ]
}

const RECORDS: [&str; 6] = [
    r#"{"kind":"runner","id":"r-1","name":"basement","provider":"home","public_key":"pOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogk=","endpoints":["192.0.2.1:51820","[2001:db8::1]:51820"]}"#,
    r#"{"kind":"deployment","id":"d-2","name":"shop","team":"acme","trust_source":"file"}"#,
    r#"{"kind":"service","id":"s-3","deployment":"d-2","name":"my db","address":"100.112.0.2","automatic_names":true}"#,
    r#"{"kind":"naming","service":"s-3","aliases":["mysql"],"port":5432,"ist":[{"service":"我","variables":["A"],"hostnames":["a.local"]}]}"#,
    r#"{"kind":"instance","id":"i-4","service":"s-3","runner":"r-1","address":"100.112.0.3","state":"live"}"#,
    r#"{"kind":"grant","caller":"d-5","callee":"s-3","ports":{"only":[80,443]}}"#,
];

const KEYS: [&str; 6] = [
    r#"{"kind":"runner","id":"r-1"}"#,
    r#"{"kind":"deployment","id":"d-2"}"#,
    r#"{"kind":"service","id":"s-3"}"#,
    r#"{"kind":"naming","id":"s-3"}"#,
    r#"{"kind":"instance","id":"i-4"}"#,
    r#"{"kind":"grant","caller":"d-5","callee":"s-3"}"#,
];

fn view_text() -> String {
    format!(
        r#"{{"epoch":"30313233343536373839616263646566","revision":7,"runner":"r-1","network":{{"range":"100.112.0.0/12","mtu":1344}},"records":[{}]}}"#,
        RECORDS.join(",")
    )
}

#[test]
fn records_and_their_keys_are_frozen() {
    let [Record::Runner(runner), ..] = records() else { panic!("the first is a runner") };
    let can = Abilities::NONE.with(Ability::Paths);
    let able = Record::Runner(Arc::new(Runner { can, ..Runner::clone(&runner) }));
    frozen(&able, &RECORDS[0].replace("]}", r#"],"can":["paths-1"]}"#));
    let reached = Record::Runner(Arc::new(Runner {
        can: Abilities::ALL.without(Ability::Lanes),
        reflexive: vec!["198.51.100.4:40000".parse().unwrap()],
        relayed: vec![Relayed { relay: RelayId(8), address: "203.0.113.9:50001".parse().unwrap() }],
        ..Runner::clone(&runner)
    }));
    frozen(
        &reached,
        &RECORDS[0].replace(
            "]}",
            r#"],"can":["paths-1","relays-1"],"reflexive":["198.51.100.4:40000"],"relayed":[{"relay":"relay-8","address":"203.0.113.9:50001"}]}"#,
        ),
    );
    let with_lanes = Record::Runner(Arc::new(Runner { can: Abilities::ALL, ..Runner::clone(&runner) }));
    frozen(&with_lanes, &RECORDS[0].replace("]}", r#"],"can":["paths-1","relays-1","lanes-1"]}"#));
    for ((record, text), key) in records().iter().zip(RECORDS).zip(KEYS) {
        frozen(record, text);
        frozen(&record.key(), key);
    }
    frozen(&Ports::All, r#""all""#);
    frozen(&Ports::Only([].into()), r#"{"only":[]}"#);
    frozen(&[InstanceState::Live, InstanceState::Draining, InstanceState::Client], r#"["live","draining","client"]"#);
}

#[test]
fn the_enrolment_is_frozen() {
    frozen(
        &Info { protocol: PROTOCOL, enrol_key: key().public(), range: Range::DEFAULT },
        r#"{"protocol":1,"enrol_key":"pOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogk=","range":"100.112.0.0/12"}"#,
    );
    let coordinator = PrivateKey::from_bytes([2; 32]);
    assert_eq!(enrol_purpose(TokenId(7)), b"enrol t-7");
    let enrol = Enrol {
        token: "mesh1.x".to_owned(),
        name: "basement".parse().unwrap(),
        provider: "home".parse().unwrap(),
        public_key: key().public(),
        proof: key().prove(coordinator.public(), &enrol_purpose(TokenId(7))).unwrap(),
        replace: false,
    };
    frozen(
        &enrol,
        r#"{"token":"mesh1.x","name":"basement","provider":"home","public_key":"pOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogk=","proof":"NM7UxXcjeE1WyKJVXz1tdFgGzLLbIe31jJ2IEkt5068=","replace":false}"#,
    );
    assert!(coordinator.verify(key().public(), &enrol_purpose(TokenId(7)), &enrol.proof));
    frozen(
        &Enrolled { runner: RunnerId(1), credential: "secret".to_owned() },
        r#"{"runner":"r-1","credential":"secret"}"#,
    );
    frozen(&Refusal::bare("no"), r#"{"error":"no"}"#);
    frozen(&Refusal::new("no", "try yes"), r#"{"error":"no","hint":"try yes"}"#);
}

#[test]
fn what_an_agent_says_is_frozen() {
    let held = Held {
        instance: InstanceId(4),
        service: path("shop/my db"),
        address: Ipv4Addr::new(100, 112, 0, 3),
        client: false,
        draining: false,
        release: None,
    };
    frozen(
        &Held { draining: true, ..held.clone() },
        r#"{"instance":"i-4","service":"shop/my db","address":"100.112.0.3","client":false,"draining":true}"#,
    );
    frozen(
        &Up::Hello {
            protocol: PROTOCOL,
            version: "0.1.0".to_owned(),
            have: Some(Have { epoch: epoch(), revision: Revision(7) }),
            endpoints: vec!["192.0.2.1:51820".parse().unwrap()],
            port: 51820,
            endpoints_only: false,
            instances: vec![held],
            process: None,
            refused: false,
            can: Abilities::NONE,
            reflexive: vec![],
            relayed: vec![],
            nat: None,
        },
        r#"{"type":"hello","protocol":1,"version":"0.1.0","have":{"epoch":"30313233343536373839616263646566","revision":7},"endpoints":["192.0.2.1:51820"],"port":51820,"endpoints_only":false,"instances":[{"instance":"i-4","service":"shop/my db","address":"100.112.0.3","client":false}]}"#,
    );
    frozen(
        &Up::Hello {
            protocol: PROTOCOL,
            version: "0.2.0".to_owned(),
            have: None,
            endpoints: vec![],
            port: 51820,
            endpoints_only: true,
            instances: vec![],
            process: Some(u64::MAX),
            refused: true,
            can: Abilities::NONE.with(Ability::Paths),
            reflexive: vec![],
            relayed: vec![],
            nat: None,
        },
        r#"{"type":"hello","protocol":1,"version":"0.2.0","have":null,"endpoints":[],"port":51820,"endpoints_only":true,"instances":[],"process":18446744073709551615,"refused":true,"can":["paths-1"]}"#,
    );
    frozen(&Up::Applied { revision: Revision(7) }, r#"{"type":"applied","revision":7}"#);
    frozen(&Up::Resync, r#"{"type":"resync"}"#);
    frozen(
        &Up::Endpoints {
            endpoints: vec!["[2001:db8::1]:51820".parse().unwrap()],
            reflexive: vec![],
            relayed: vec![],
            nat: None,
        },
        r#"{"type":"endpoints","endpoints":["[2001:db8::1]:51820"]}"#,
    );
    frozen(&Up::Pong, r#"{"type":"pong"}"#);
    for (ask, text) in [
        (
            Ask::Attach { service: path("shop/db"), client: true, release: None },
            r#"{"ask":"attach","service":"shop/db","client":true}"#,
        ),
        (Ask::Detach { instance: InstanceId(4) }, r#"{"ask":"detach","instance":"i-4"}"#),
        (Ask::Drain { instance: InstanceId(4) }, r#"{"ask":"drain","instance":"i-4"}"#),
        (Ask::Undrain { instance: InstanceId(4) }, r#"{"ask":"undrain","instance":"i-4"}"#),
        (Ask::Leave, r#"{"ask":"leave"}"#),
        (Ask::Settle { revision: Revision(7) }, r#"{"ask":"settle","revision":7}"#),
        (Ask::Lookup { service: path("shop/db") }, r#"{"ask":"lookup","service":"shop/db"}"#),
        (
            Ask::Why { caller: path("shop/app"), callee: path("api/grpc"), port: 50051 },
            r#"{"ask":"why","caller":"shop/app","callee":"api/grpc","port":50051}"#,
        ),
    ] {
        frozen(&ask, text);
        frozen(&Up::Ask { request: 9, ask }, &format!(r#"{{"type":"ask","request":9,"ask":{text}}}"#));
    }
}

#[test]
fn what_an_agent_says_of_its_way_out_is_frozen() {
    let reflexive = || vec!["198.51.100.4:40000".parse().unwrap()];
    let relayed = || vec![Relayed { relay: RelayId(8), address: "203.0.113.9:50001".parse().unwrap() }];
    let nat = Some(Nat { udp: true, mapping: Mapping::Varies });
    let text = r#""reflexive":["198.51.100.4:40000"],"relayed":[{"relay":"relay-8","address":"203.0.113.9:50001"}],"nat":{"udp":true,"mapping":"varies"}"#;
    frozen(
        &Up::Hello {
            protocol: PROTOCOL,
            version: "0.3.0".to_owned(),
            have: None,
            endpoints: vec![],
            port: 51820,
            endpoints_only: false,
            instances: vec![],
            process: None,
            refused: false,
            can: Abilities::ALL.without(Ability::Lanes),
            reflexive: reflexive(),
            relayed: relayed(),
            nat,
        },
        &format!(
            r#"{{"type":"hello","protocol":1,"version":"0.3.0","have":null,"endpoints":[],"port":51820,"endpoints_only":false,"instances":[],"can":["paths-1","relays-1"],{text}}}"#
        ),
    );
    frozen(
        &Up::Endpoints { endpoints: vec![], reflexive: reflexive(), relayed: relayed(), nat },
        &format!(r#"{{"type":"endpoints","endpoints":[],{text}}}"#),
    );
    frozen(&[Mapping::None, Mapping::Same, Mapping::Varies, Mapping::Unknown], r#"["none","same","varies","unknown"]"#);
    assert_eq!(serde_json::from_str::<Mapping>(r#""by-weekday""#).unwrap(), Mapping::Unknown);
}

#[test]
fn what_the_coordinator_says_of_relays_is_frozen() {
    let relay = Relay {
        id: RelayId(8),
        name: "fra-1".parse().unwrap(),
        public: RelayPublic {
            udp: vec!["203.0.113.9:3478".parse().unwrap()],
            tcp: vec!["[2001:db8::9]:3478".parse().unwrap()],
            tls: vec!["relay.example.net:443".parse().unwrap()],
            fingerprint: Some(Fingerprint([7; 32])),
        },
    };
    let nowhere = RelayPublic { udp: vec![], tcp: vec![], tls: vec![], fingerprint: None };
    let bare = Relay { id: RelayId(9), public: nowhere, ..relay.clone() };
    let credential = RelayCredential {
        relay: RelayId(8),
        username: "1900000000:0123".to_owned(),
        password: "c2VjcmV0".to_owned().try_into().unwrap(),
        until: 1_900_000_000,
    };
    frozen(
        &Down::Relays { relays: vec![relay, bare], credentials: vec![credential] },
        r#"{"type":"relays","relays":[{"id":"relay-8","name":"fra-1","udp":["203.0.113.9:3478"],"tcp":["[2001:db8::9]:3478"],"tls":["relay.example.net:443"],"fingerprint":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"},{"id":"relay-9","name":"fra-1"}],"credentials":[{"relay":"relay-8","username":"1900000000:0123","password":"c2VjcmV0","until":1900000000}]}"#,
    );
}

#[test]
fn a_report_of_an_agent_is_frozen() {
    let report = Telemetry { life: 9, ..Telemetry::default() };
    frozen(&Up::Telemetry(report), r#"{"type":"telemetry","life":9}"#);
}

#[test]
fn a_probe_and_what_came_of_it_are_frozen() {
    let (caller, callee) = ("shop/app".parse().unwrap(), "shop/db".parse().unwrap());
    frozen(
        &Down::Probe { number: 7, caller, callee, port: 5432 },
        r#"{"type":"probe","number":7,"caller":"shop/app","callee":"shop/db","port":5432}"#,
    );
    let step = Step { step: "probe".into(), ok: true, code: "answered".into(), detail: "it was".into() };
    frozen(
        &Up::Probed { number: 7, result: Ok(Tried { allowed: true, steps: vec![step] }) },
        r#"{"type":"probed","number":7,"result":{"Ok":{"allowed":true,"steps":[{"step":"probe","ok":true,"code":"answered","detail":"it was"}]}}}"#,
    );
    frozen(
        &Up::Probed { number: 8, result: Err(Refusal::bare("no")) },
        r#"{"type":"probed","number":8,"result":{"Err":{"error":"no"}}}"#,
    );
}

#[test]
fn what_the_coordinator_says_is_frozen() {
    frozen(&Down::Welcome { seen_from: "192.0.2.1".parse().unwrap() }, r#"{"type":"welcome","seen_from":"192.0.2.1"}"#);
    frozen(&Down::Snapshot { view: view() }, &format!(r#"{{"type":"snapshot","view":{}}}"#, view_text()));
    let [runner, ..] = records();
    frozen(
        &Down::Delta(Delta {
            from: Revision(7),
            to: Revision(9),
            put: vec![runner],
            remove: vec![Key::Instance { id: InstanceId(4) }],
        }),
        &format!(r#"{{"type":"delta","from":7,"to":9,"put":[{}],"remove":[{}]}}"#, RECORDS[0], KEYS[4]),
    );
    frozen(&Down::Switches(Switches::default()), r#"{"type":"switches","tun_gso":true,"udp_gso":true,"udp_gro":true}"#);
    frozen(
        &Down::Refused { cause: Cause::Copy, refusal: Refusal::new("a copy", "delete it") },
        r#"{"type":"refused","cause":"copy","refusal":{"error":"a copy","hint":"delete it"}}"#,
    );
    let later: Cause = serde_json::from_str(r#""moon-phase""#).unwrap();
    assert_eq!(later, Cause::Other, "a cause of a later version is none the less a refusal");
    let urls = vec!["https://192.0.2.11:7443".to_owned()];
    frozen(&Down::Coordinators { urls }, r#"{"type":"coordinators","urls":["https://192.0.2.11:7443"]}"#);
    frozen(&Down::Telemetry { seconds: 60, refusals: true }, r#"{"type":"telemetry","seconds":60,"refusals":true}"#);
    frozen(&Down::Ping, r#"{"type":"ping"}"#);
    frozen(
        &Down::Answer { request: 9, result: Err(Refusal::new("no", "try yes")) },
        r#"{"type":"answer","request":9,"result":{"Err":{"error":"no","hint":"try yes"}}}"#,
    );
    for (answer, text) in [
        (
            Answer::Attached { instance: InstanceId(4), address: Ipv4Addr::new(100, 112, 0, 3), revision: Revision(7) },
            r#"{"answer":"attached","instance":"i-4","address":"100.112.0.3","revision":7}"#.to_owned(),
        ),
        (Answer::Drained { revision: Revision(8) }, r#"{"answer":"drained","revision":8}"#.to_owned()),
        (Answer::Undrained { revision: Revision(8) }, r#"{"answer":"undrained","revision":8}"#.to_owned()),
        (Answer::Left, r#"{"answer":"left"}"#.to_owned()),
        (Answer::Detached { revision: Revision(8) }, r#"{"answer":"detached","revision":8}"#.to_owned()),
        (
            Answer::Settled { pending: vec!["basement".parse().unwrap()] },
            r#"{"answer":"settled","pending":["basement"]}"#.to_owned(),
        ),
        (Answer::Found { view: view() }, format!(r#"{{"answer":"found","view":{}}}"#, view_text())),
        (
            Answer::Why {
                allowed: false,
                steps: vec![Step {
                    step: "rule".to_owned(),
                    ok: false,
                    code: "no-trust".to_owned(),
                    detail: "no trust".to_owned(),
                }],
            },
            r#"{"answer":"why","allowed":false,"steps":[{"step":"rule","ok":false,"code":"no-trust","detail":"no trust"}]}"#.to_owned(),
        ),
    ] {
        frozen(
            &Down::Answer { request: 9, result: Ok(answer) },
            &format!(r#"{{"type":"answer","request":9,"result":{{"Ok":{text}}}}}"#),
        );
    }
}

#[test]
fn what_may_be_left_out_has_the_meaning_that_grants_least() {
    let hello: Up = serde_json::from_str(
        r#"{"type":"hello","protocol":1,"version":"0","have":null,"endpoints":[],"port":1,"instances":[{"instance":"i-1","service":"a/b","address":"10.0.0.1"}]}"#,
    )
    .unwrap();
    let Up::Hello { endpoints_only, instances, have, .. } = hello else { panic!("{hello:?}") };
    assert!(!endpoints_only && !instances[0].client && have.is_none());
    let enrol = r#"{"token":"","name":"a","provider":"b","public_key":"pOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogk=","proof":"pOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogk="}"#;
    assert!(!serde_json::from_str::<Enrol>(enrol).unwrap().replace);
    assert!(serde_json::from_str::<Grant>(r#"{"caller":"d-1","callee":"s-1"}"#).is_err(), "ports are never left out");
}

#[test]
fn a_message_of_a_type_not_known_is_an_error() {
    for text in [r#"{"type":"drain"}"#, r#"{"type":"Resync"}"#, "{}", "null", r#""resync""#, r#"{"resync":{}}"#] {
        assert!(serde_json::from_str::<Up>(text).is_err(), "{text}");
        assert!(serde_json::from_str::<Down>(text).is_err(), "{text}");
    }
    let error = serde_json::from_str::<Up>(r#"{"type":"shutdown"}"#).unwrap_err().to_string();
    assert!(error.contains("unknown variant `shutdown`"), "{error}");
    assert!(serde_json::from_str::<Ask>(r#"{"ask":"exec","command":"id"}"#).is_err());
    assert!(serde_json::from_str::<Answer>(r#"{"answer":"yes"}"#).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_the_decoders_panic(text in "\\PC{0,200}") {
        decode(text.as_bytes());
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        decode(&bytes);
    }

    /// Messages with bytes changed, left out and doubled, which get further into the decoders than random bytes.
    #[test]
    fn no_damage_makes_the_decoders_panic(
        which in 0_usize..4,
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0_u8..3), 1..6),
    ) {
        let mut bytes = [
            format!(r#"{{"type":"snapshot","view":{}}}"#, view_text()),
            format!(r#"{{"type":"delta","from":7,"to":9,"put":[{}],"remove":[{}]}}"#, RECORDS.join(","), KEYS.join(",")),
            r#"{"type":"ask","request":9,"ask":{"ask":"attach","service":"shop/db","client":true}}"#.to_owned(),
            r#"{"type":"answer","request":9,"result":{"Ok":{"answer":"detached","revision":8}}}"#.to_owned(),
        ][which].clone().into_bytes();
        for (at, byte, how) in damage {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                _ => bytes.insert(at, byte),
            }
        }
        decode(&bytes);
    }
}

fn decode(bytes: &[u8]) {
    let _ = (serde_json::from_slice::<Up>(bytes), serde_json::from_slice::<Down>(bytes));
    let _ = (serde_json::from_slice::<Info>(bytes), serde_json::from_slice::<Enrol>(bytes));
    let _ = (serde_json::from_slice::<Enrolled>(bytes), serde_json::from_slice::<Refusal>(bytes));
}
