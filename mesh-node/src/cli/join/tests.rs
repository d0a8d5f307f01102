use super::*;

#[test]
fn a_host_name_becomes_a_label() {
    for (host, name) in [
        ("web-1.example.org", Some("web-1")),
        ("My_Machine", Some("my-machine")),
        ("_x_", Some("x")),
        ("été", Some("t")),
        ("localhost", None),
        ("", None),
        ("---", None),
    ] {
        assert_eq!(label(host).as_deref(), name, "{host}");
    }
    assert_eq!(label(&"x".repeat(80)).unwrap().len(), 63);
}

#[test]
fn who_has_joined_keeps_its_provider_and_is_told_so() {
    use mesh_proto::{
        RunnerId, Secret,
        token::{Credential, Fingerprint},
    };
    let label = |text: &str| text.parse::<Label>().unwrap();
    let go_on = |given: Option<&str>, known: Option<&str>| {
        let mut identity = Identity::new().unwrap();
        identity.enrolment = Some(agent::Enrolment {
            runner: RunnerId(7),
            name: label("a"),
            provider: known.map(label),
            credential: Credential { runner: RunnerId(7), secret: Secret::from_bytes([3; 32]) },
            coordinators: vec!["https://c:7443".parse().unwrap()],
            fingerprint: Fingerprint([1; 32]),
        });
        let join = Join {
            coordinator: None,
            token: None,
            name: None,
            provider: given.map(label),
            listen: None,
            endpoint: vec![],
            replace: false,
            enrol_only: false,
            no_tun_gso: false,
            no_udp_gso: false,
            no_udp_gro: false,
        };
        join.go_on(&mut identity)
    };
    let error = go_on(Some("ovh"), Some("aws")).unwrap_err();
    assert!(error.error.contains("the provider aws, and not with ovh"), "{error}");
    for (given, known) in [(Some("aws"), Some("aws")), (None, Some("aws")), (Some("ovh"), None)] {
        go_on(given, known).unwrap();
    }
}

#[test]
fn what_stands_first_is_a_place_or_the_token() {
    assert!(matches!(Place::parse("https://a,https://b:1"), Ok(Place::Urls(urls)) if urls.len() == 2));
    for token in ["-", "@/root/token", "@https://x", "mesh2.AAAA", "hunter2"] {
        assert!(matches!(Place::parse(token), Ok(Place::Token(_))), "{token}");
    }
    for wrong in ["ftp://a", "coord.example:7443", "https://a,", "http://a"] {
        assert!(Place::parse(wrong).unwrap_err().contains("https://HOST:7443"), "{wrong}");
    }
    assert!(!format!("{:?}", Place::parse("mesh2.AAAA")).contains("AAAA"));
}

#[test]
fn what_is_wrong_with_a_token_is_said_without_the_token() {
    let error = read_token(&TokenArgument::parse("hunter2").unwrap()).unwrap_err();
    assert!(error.error.contains("mesh1.") && !error.error.contains("hunter2"), "{error}");
    let error = read_token(&TokenArgument::parse("@/nonexistent/token").unwrap()).unwrap_err();
    assert!(error.error.contains("can't be read"), "{error}");
}
