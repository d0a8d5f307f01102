use std::{net::Ipv4Addr, sync::Arc};

use mesh_proto::{
    Abilities, Ability, InstanceId, RelayId, Revision, RunnerId, ServiceId,
    message::Switches,
    relay::{Mapping, Nat, Relayed, wire::RelayPublic},
    token::Fingerprint,
    view::Network,
};

use super::*;

#[test]
fn keys_are_read_back_as_written_and_nothing_else_is() {
    for (key, text) in [
        (Key::Meta, "meta"),
        (Key::Runner(RunnerId(1)), "runner/r-1"),
        (Key::Token(TokenId(2)), "token/t-2"),
        (Key::Deployment(DeploymentId(3)), "deployment/d-3"),
        (Key::Service(ServiceId(7)), "service/s-7"),
        (Key::Instance(InstanceId(8)), "instance/i-8"),
        (Key::Freed(Ipv4Addr::new(100, 112, 0, 9)), "freed/100.112.0.9"),
        (Key::Audit(12), "audit/12"),
        (Key::Relay(RelayId(4)), "relay/relay-4"),
        (Key::Session(RunnerId(9)), "session/r-9"),
        (Key::Owed(Some(DeploymentId(3))), "owed/d-3"),
        (Key::Owed(None), "owed/all"),
        (Key::Calls(ServiceId(7)), "calls/s-7"),
    ] {
        assert_eq!((key.to_string().as_str(), text.parse()), (text, Ok(key)));
    }
    for bad in ["", "meta/", "service", "service/", "service/7", "service/r-7", "audit/-1", "freed/x", "other/s-1"] {
        assert_eq!(bad.parse::<Key>().unwrap_err().to_string(), format!("`{bad}` is not the key of a record"));
    }
}

/// Databases of earlier versions stay readable: a change here needs a new version of the database.
#[test]
fn the_form_on_disk_is_frozen() {
    let network = Network { range: "100.112.0.0/12".parse().unwrap(), mtu: 1344 };
    let secret = mesh_proto::Secret::from_bytes([1; 32]).hash();
    let runner = Runner {
        id: RunnerId(1),
        name: "r1".parse().unwrap(),
        provider: "aws".parse().unwrap(),
        public_key: PublicKey([2; 32]),
        credential: secret.clone(),
        enrolled: UnixSeconds(5),
        token: TokenId(2),
        scope: Scope::Deployments([DeploymentId(3)].into()),
        version: "0.1.0".to_owned(),
        endpoints: vec!["[2001:db8::1]:51820".parse().unwrap()],
        seen: None,
        removed: None,
        ephemeral: false,
        silent: false,
        can: Abilities::NONE,
        switches: Switches::default(),
        team: None,
        drained: false,
        undrained: BTreeSet::new(),
        drained_apart: BTreeSet::new(),
        outside: Outside::default(),
    };
    let relay = Relay {
        id: RelayId(4),
        name: "fra-1".parse().unwrap(),
        relay: RelayKind::Turn,
        public: RelayPublic {
            udp: vec!["203.0.113.9:3478".parse().unwrap()],
            tcp: vec![],
            tls: vec![],
            fingerprint: None,
        },
        added: UnixSeconds(5),
        secret: SecretHandle(0xabcd),
    };
    let cases = [
        (
            Record::Meta(Arc::new(Meta::new(network).unwrap())),
            r#"{"kind":"meta","network":{"range":"100.112.0.0/12","mtu":1344},"quarantine":600,"next":{"runner":1,"token":1,"deployment":1,"service":1,"instance":1,"audit":1,"freed":1,"service_address":"100.112.0.1","instance_address":"100.127.255.254"}}"#,
        ),
        (
            Record::Runner(Arc::new(runner.clone())),
            r#"{"kind":"runner","id":"r-1","name":"r1","provider":"aws","public_key":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=","credential":"cs1uhCLEB/ttCYaQ8RMLfe1+wvf14dML2dUh8BU2N5M=","enrolled":5,"token":"t-2","scope":{"deployments":["d-3"]},"version":"0.1.0","endpoints":["[2001:db8::1]:51820"],"seen":null,"removed":null}"#,
        ),
        (
            Record::Runner(Arc::new(Runner { can: Abilities::NONE.with(Ability::Paths), ..runner.clone() })),
            r#"{"kind":"runner","id":"r-1","name":"r1","provider":"aws","public_key":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=","credential":"cs1uhCLEB/ttCYaQ8RMLfe1+wvf14dML2dUh8BU2N5M=","enrolled":5,"token":"t-2","scope":{"deployments":["d-3"]},"version":"0.1.0","endpoints":["[2001:db8::1]:51820"],"seen":null,"removed":null,"can":["paths-1"]}"#,
        ),
        (
            Record::Runner(Arc::new(Runner {
                can: Abilities::ALL.without(Ability::Lanes),
                outside: Outside {
                    reflexive: vec!["198.51.100.4:40000".parse().unwrap()],
                    relayed: vec![Relayed { relay: RelayId(4), address: "203.0.113.9:50001".parse().unwrap() }],
                    nat: Some(Nat { udp: true, mapping: Mapping::Same }),
                },
                ..runner
            })),
            r#"{"kind":"runner","id":"r-1","name":"r1","provider":"aws","public_key":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=","credential":"cs1uhCLEB/ttCYaQ8RMLfe1+wvf14dML2dUh8BU2N5M=","enrolled":5,"token":"t-2","scope":{"deployments":["d-3"]},"version":"0.1.0","endpoints":["[2001:db8::1]:51820"],"seen":null,"removed":null,"can":["paths-1","relays-1"],"outside":{"reflexive":["198.51.100.4:40000"],"relayed":[{"relay":"relay-4","address":"203.0.113.9:50001"}],"nat":{"udp":true,"mapping":"same"}}}"#,
        ),
        (
            Record::Session(Arc::new(Session {
                runner: RunnerId(1),
                stream: StreamKey { member: MemberId(0xabcd), number: u64::MAX },
                process: Some(7),
                from: "192.0.2.1".parse().unwrap(),
            })),
            r#"{"kind":"session","runner":"r-1","member":"000000000000abcd","number":18446744073709551615,"process":7,"from":"192.0.2.1"}"#,
        ),
        (
            Record::Owed(Arc::new(Owed {
                of: Some(DeploymentId(3)),
                runners: [(RunnerId(1), Revision(9)), (RunnerId(2), Revision(7))].into(),
            })),
            r#"{"kind":"owed","of":"d-3","runners":{"r-1":9,"r-2":7}}"#,
        ),
        (Record::Owed(Arc::new(Owed::new(None))), r#"{"kind":"owed","of":null,"runners":{}}"#),
        (
            Record::Calls(Arc::new(Calls {
                caller: ServiceId(7),
                callees: vec![Callee {
                    callee: ServiceId(8),
                    first: UnixSeconds(5),
                    last: UnixSeconds(6),
                    hours: vec![Hour {
                        hour: 400_000,
                        by_callers: Passed { opened: 1, bytes: 2 },
                        by_callees: Passed { opened: 3, bytes: 4 },
                    }],
                }],
            })),
            r#"{"kind":"calls","caller":"s-7","callees":[{"callee":"s-8","first":5,"last":6,"hours":[[400000,1,2,3,4]]}]}"#,
        ),
        (
            Record::Relay(Arc::new(relay.clone())),
            r#"{"kind":"relay","id":"relay-4","name":"fra-1","relay":"turn","udp":["203.0.113.9:3478"],"added":5,"secret":"000000000000abcd"}"#,
        ),
        (
            Record::Relay(Arc::new(Relay {
                relay: RelayKind::Own { credential: secret.clone(), version: "0.3.0".to_owned() },
                public: RelayPublic {
                    tcp: vec!["[2001:db8::9]:3478".parse().unwrap()],
                    tls: vec!["relay.example.net:443".parse().unwrap()],
                    fingerprint: Some(Fingerprint([7; 32])),
                    ..relay.public
                },
                ..relay
            })),
            r#"{"kind":"relay","id":"relay-4","name":"fra-1","relay":{"own":{"credential":"cs1uhCLEB/ttCYaQ8RMLfe1+wvf14dML2dUh8BU2N5M=","version":"0.3.0"}},"udp":["203.0.113.9:3478"],"tcp":["[2001:db8::9]:3478"],"tls":["relay.example.net:443"],"fingerprint":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc","added":5,"secret":"000000000000abcd"}"#,
        ),
        (
            Record::Token(Arc::new(Token {
                id: TokenId(3),
                secret: secret.clone(),
                created: UnixSeconds(1),
                expires: UnixSeconds(2),
                revoked: None,
                purpose: Purpose::Relay { name: "fra-1".parse().unwrap(), used: true },
                name: None,
                team: None,
            })),
            r#"{"kind":"token","id":"t-3","secret":"cs1uhCLEB/ttCYaQ8RMLfe1+wvf14dML2dUh8BU2N5M=","created":1,"expires":2,"revoked":null,"purpose":{"relay":{"name":"fra-1","used":true}}}"#,
        ),
        (
            Record::Token(Arc::new(Token {
                id: TokenId(2),
                secret,
                created: UnixSeconds(1),
                expires: UnixSeconds(2),
                revoked: Some(UnixSeconds(3)),
                purpose: Purpose::Join { scope: Scope::Any, uses_left: 4, ephemeral: false },
                name: None,
                team: None,
            })),
            r#"{"kind":"token","id":"t-2","secret":"cs1uhCLEB/ttCYaQ8RMLfe1+wvf14dML2dUh8BU2N5M=","created":1,"expires":2,"revoked":3,"purpose":{"join":{"scope":"any","uses_left":4}}}"#,
        ),
        (
            Record::Deployment(Arc::new(Deployment {
                id: DeploymentId(3),
                name: "shop".parse().unwrap(),
                team: "acme".parse().unwrap(),
                expose: Some(vec!["*-tcp".parse().unwrap()]),
                trust: vec![Trust {
                    caller: "api".parse().unwrap(),
                    services: None,
                    ports: mesh_proto::Ports::Only([80].into()),
                }],
                trust_source: TrustSource::File("mesh.toml".to_owned()),
            })),
            r#"{"kind":"deployment","id":"d-3","name":"shop","team":"acme","expose":["*-tcp"],"trust":[{"caller":"api","services":null,"ports":{"only":[80]}}],"trust_source":{"file":"mesh.toml"}}"#,
        ),
        (
            Record::Service(Arc::new(Service {
                id: ServiceId(7),
                deployment: DeploymentId(3),
                name: "my db".parse().unwrap(),
                address: Ipv4Addr::new(100, 112, 0, 2),
                declared: Declared::default(),
            })),
            r#"{"kind":"service","id":"s-7","deployment":"d-3","name":"my db","address":"100.112.0.2","declared":{"aliases":[],"port":null,"public_port":null,"manual_names":false,"ist":[]}}"#,
        ),
        (
            Record::Freed(Arc::new(Freed {
                address: Ipv4Addr::new(100, 112, 0, 9),
                from: Holder::Service,
                at: RunningSeconds(9),
                order: 4,
                team: None,
            })),
            r#"{"kind":"freed","address":"100.112.0.9","from":"service","at":9,"order":4}"#,
        ),
        (
            Record::Audit(Arc::new(Audit {
                number: 12,
                at: UnixSeconds(9),
                by: By::Socket { uid: 1000 },
                action: "delete".to_owned(),
                detail: "shop".to_owned(),
                result: Verdict::Done,
                by_name: None,
                by_team: None,
                team: None,
                object: None,
                runner: None,
            })),
            r#"{"kind":"audit","number":12,"at":9,"by":{"socket":{"uid":1000}},"action":"delete","detail":"shop"}"#,
        ),
        (
            Record::Audit(Arc::new(Audit {
                number: 13,
                at: UnixSeconds(9),
                by: By::Token(TokenId(2)),
                action: "delete".to_owned(),
                detail: "shop".to_owned(),
                result: Verdict::Refused,
                by_name: Some("ci".to_owned()),
                by_team: Some("acme".parse().unwrap()),
                team: Some("acme".parse().unwrap()),
                object: Some("shop".to_owned()),
                runner: Some(RunnerId(1)),
            })),
            r#"{"kind":"audit","number":13,"at":9,"by":{"token":"t-2"},"action":"delete","detail":"shop","result":"refused","by_name":"ci","by_team":"acme","team":"acme","object":"shop","runner":"r-1"}"#,
        ),
        (
            Record::Freed(Arc::new(Freed {
                address: Ipv4Addr::new(100, 112, 0, 9),
                from: Holder::Service,
                at: RunningSeconds(9),
                order: 4,
                team: Some("acme".parse().unwrap()),
            })),
            r#"{"kind":"freed","address":"100.112.0.9","from":"service","at":9,"order":4,"team":"acme"}"#,
        ),
    ];
    for (record, text) in cases {
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        assert_eq!(serde_json::from_str::<Record>(text).unwrap(), record);
    }
    let delete = serde_json::to_string(&Change::Delete(Key::Service(ServiceId(7)))).unwrap();
    assert_eq!(delete, r#"{"delete":"service/s-7"}"#);
    assert_eq!(serde_json::from_str::<Change>(&delete).unwrap(), Change::Delete(Key::Service(ServiceId(7))));
}

#[test]
fn an_mtu_out_of_bounds_is_refused() {
    for mtu in [0, 575, 8921, u16::MAX] {
        let network = Network { range: "100.112.0.0/12".parse().unwrap(), mtu };
        assert_eq!(
            Meta::new(network).unwrap_err().to_string(),
            format!(
                "an MTU of {mtu} bytes is not between 576 and 8920: choose another with --mtu; 1344 suits most networks"
            )
        );
    }
}
