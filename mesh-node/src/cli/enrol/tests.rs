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
fn a_runner_keeps_its_provider_and_another_one_is_refused() {
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
        let enrol = Enrol {
            coordinator: None,
            token: None,
            name: None,
            provider: given.map(label),
            listen: None,
            endpoint: vec![],
            map_port: None,
            proxy: None,
            metrics: None,
            lanes: None,
            replace: false,
        };
        enrol.go_on(&mut identity)
    };
    let error = go_on(Some("ovh"), Some("aws")).unwrap_err();
    assert!(matches!(error, JoinError::OtherProvider { .. }), "{error}");
    for (given, known) in [(Some("aws"), Some("aws")), (None, Some("aws")), (Some("ovh"), None)] {
        go_on(given, known).unwrap();
    }
}

#[test]
fn the_first_argument_is_a_url_or_the_token() {
    assert!(matches!(Place::parse("https://a,https://b:1"), Ok(Place::Urls(urls)) if urls.len() == 2));
    for token in ["-", "@/root/token", "@https://x", "mesh2.AAAA", "hunter2"] {
        assert!(matches!(Place::parse(token), Ok(Place::Token(_))), "{token}");
    }
    for wrong in ["ftp://a", "coord.example:7443", "https://a,", "http://a"] {
        assert!(Place::parse(wrong).unwrap_err().to_string().contains("https://HOST:7443"), "{wrong}");
    }
    assert!(!format!("{:?}", Place::parse("mesh2.AAAA")).contains("AAAA"));
}

#[test]
fn an_error_about_a_token_does_not_quote_it() {
    let error = read_token(&TokenArgument::of("hunter2")).unwrap_err();
    assert!(error.to_string().contains("mesh1.") && !error.to_string().contains("hunter2"), "{error}");
    let error = read_token(&TokenArgument::of("@/nonexistent/token")).unwrap_err();
    assert!(matches!(error, JoinError::UnreadableToken { .. }), "{error}");
}

#[test]
fn an_endpoint_that_is_none_is_explained_with_examples() {
    for (text, words) in [
        ("runner.example.net", "the port is missing"),
        ("2001:db8::7:51820", "brackets"),
        ("a b:51820", "neither an address nor a name"),
        ("auto:0", "1 to 65535"),
        ("127.0.0.1:51820", "loopback"),
    ] {
        let error = EndpointArgument::parse(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
        assert!(text.starts_with("127.") || error.contains("auto:51820"), "{text}: {error}");
    }
    assert!(matches!(EndpointArgument::parse("auto"), Ok(EndpointArgument::Auto)));
    assert!(matches!(EndpointArgument::parse("auto:1"), Ok(EndpointArgument::One(Endpoint::Seen(_)))));
}
