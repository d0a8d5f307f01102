use std::{collections::BTreeSet, path::Path};

use proptest::prelude::*;

use super::*;

fn whole(text: &str) -> std::result::Result<Deployment, String> {
    let parsed = super::super::parse(Path::new("mesh.toml"), text, None).map_err(|error| error.to_string())?;
    assert!(parsed.warnings.is_empty());
    match &*parsed.declarations {
        [Declaration::Whole(deployment)] => Ok(deployment.clone()),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(text: &str, message: &str) {
    assert_eq!(whole(text), Err(message.to_owned()), "{text}");
}

/// A service `app` with these lines.
fn app(lines: &str) -> String {
    format!("deployment = \"shop\"\n[services.db]\n[services.app]\n{lines}\n")
}

#[test]
fn the_file_of_the_contract() {
    let deployment = whole(
        r#"
deployment = "shop"
team = "acme"                        # default: "default"; can't change later
expose = ["*-tcp", "web"]            # what a trust without services opens; default: all
trust = ["billing", { deployment = "api", services = ["grpc-tcp"], ports = [50051] }]   # who may call us

[services."my db"]
aliases = ["mysql"]
port = 5432                          # optional: PORT in its own instances; not a filter
public_port = 65500                  # optional; only recorded, for the platform's own ingress
[services.app]
ist = [ { service = "my db", variables = ["MY_SQL_SERVICE", "ANOTHER_VAR"], hostnames = ["mysql.local"] } ]
"#,
    )
    .unwrap();
    let db = Declared {
        aliases: vec!["mysql".to_owned()],
        port: Some(5432),
        public_port: Some(65500),
        ..Declared::default()
    };
    let ist = Ist {
        service: "my db".parse().unwrap(),
        variables: vec!["MY_SQL_SERVICE".to_owned(), "ANOTHER_VAR".to_owned()],
        hostnames: vec!["mysql.local".to_owned()],
    };
    let app = Declared { ist: vec![ist], ..Declared::default() };
    assert_eq!(
        deployment,
        Deployment {
            name: "shop".parse().unwrap(),
            team: Some("acme".parse().unwrap()),
            expose: Some(vec!["*-tcp".parse().unwrap(), "web".parse().unwrap()]),
            trust: Some(vec![
                Trust { caller: "billing".parse().unwrap(), services: None, ports: Ports::All },
                Trust {
                    caller: "api".parse().unwrap(),
                    services: Some(vec!["grpc-tcp".parse().unwrap()]),
                    ports: Ports::Only(BTreeSet::from([50051])),
                },
            ]),
            services: [("my db".parse().unwrap(), db), ("app".parse().unwrap(), app)].into(),
        }
    );
}

#[test]
fn absent_is_not_empty() {
    let least = whole("deployment = 'shop'").unwrap();
    assert_eq!((least.team, least.expose, least.trust, least.services.len()), (None, None, None, 0));
    let empty = whole("deployment = 'shop'\nexpose = []\ntrust = []\nservices = {}").unwrap();
    assert_eq!((empty.expose, empty.trust), (Some(vec![]), Some(vec![])));
}

#[test]
fn toml_has_more_ways_than_one_to_write_a_service() {
    let expected = whole(&app("ist = [{ service = 'db' }]\nport = 0x50\nnames = 'manual'")).unwrap();
    let app_service = &expected.services["app"];
    assert!(app_service.manual_names && app_service.port == Some(80));
    for same in [
        "deployment = 'shop'\nservices.db = {}\nservices.app = { ist = [{ service = 'db' }], port = 80, names = 'manual' }",
        "deployment = 'shop'\n[services]\n'db' = {}\napp.port = 8_0\napp.names = '''manual'''\n[[services.app.ist]]\nservice = 'db'",
    ] {
        assert_eq!(whole(same).as_ref(), Ok(&expected), "{same}");
    }
}

#[test]
fn a_key_not_known_is_told_with_its_line_and_the_nearest_one() {
    refused(
        "deployment = 'shop'\n\nexposed = []",
        "mesh.toml:3: the file has no key `exposed`: the nearest one is `expose`",
    );
    refused(&app("prot = 80"), "mesh.toml:4: the service `app` has no key `prot`: the nearest one is `port`");
    refused(&app("PORT = 80"), "mesh.toml:4: the service `app` has no key `PORT`: the nearest one is `port`");
    refused(
        &app("[[services.app.ist]]\nservice = 'db'\n\nhostname = ['x']"),
        "mesh.toml:7: `ist` of the service `app` has no key `hostname`: the nearest one is `hostnames`",
    );
    refused(
        "deployment = 'shop'\ntrust = [\n  'api',\n  { deployment = 'b', service = ['x'] },\n]",
        "mesh.toml:4: an entry of `trust` has no key `service`: the nearest one is `services`",
    );
    refused("deployment = 'shop'\nb = 1\na = 1", "mesh.toml:2: the file has no key `b`: the nearest one is `team`");
    refused(&app("a.b.c = 1"), "mesh.toml:4: the service `app` has no key `a`: the nearest one is `ist`");
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    refused(
        "deployment = 'shop'\nport =",
        "mesh.toml:2: not TOML: string values must be quoted, expected literal string",
    );
    refused("deployment = 'a'\ndeployment = 'b'", "mesh.toml:2: not TOML: duplicate key");
    assert!(whole("deployment = 'shop'\n\n[services.app").unwrap_err().starts_with("mesh.toml:3: not TOML: "));
    assert!(whole(&app("\u{0}")).unwrap_err().starts_with("mesh.toml:4: not TOML: "));
    assert!(whole(&format!("a = {}", "[".repeat(100_000))).unwrap_err().starts_with("mesh.toml:1: not TOML: "));
}

#[test]
fn a_file_names_its_deployment() {
    refused("", "mesh.toml: no `deployment`: begin with `deployment = \"NAME\"`");
    refused(
        "\ndeployment = 'Shop'",
        "mesh.toml:2: `deployment`: `Shop` is not a DNS label: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end",
    );
    refused(
        "deployment = 'localhost'",
        "mesh.toml:1: `deployment`: `localhost` always means the machine itself: choose another name",
    );
    let given = |name: &str| {
        let parsed = super::super::parse(Path::new("mesh.toml"), "deployment = 'shop'", Some(&name.parse().unwrap()));
        parsed.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(given("shop"), Ok(()));
    assert_eq!(
        given("api"),
        Err("mesh.toml: declares the deployment `shop`, but --deployment says `api`: leave it out".to_owned())
    );
}

#[test]
fn values_of_another_type_are_told_as_such() {
    for (text, message) in [
        ("deployment = 7", "mesh.toml:1: `deployment` is an integer: expected a string"),
        ("deployment = 's'\nteam = ['a']", "mesh.toml:2: `team` is an array: expected a string"),
        ("deployment = 's'\nexpose = 'web'", "mesh.toml:2: `expose` is a string: expected an array"),
        ("deployment = 's'\nexpose = ['a', 1]", "mesh.toml:2: `expose` is an integer: expected a string"),
        ("deployment = 's'\nservices = []", "mesh.toml:2: `services` is an array: expected a table"),
        ("deployment = 's'\nservices.a = 1979-05-27", "mesh.toml:2: the service `a` is a datetime: expected a table"),
        (
            "deployment = 's'\ntrust = [1.5]",
            "mesh.toml:2: an entry of `trust` is a float: write the name of a deployment, or `{ deployment = \"NAME\", … }`",
        ),
        (&app("names = true"), "mesh.toml:4: `names` is a boolean: expected a string"),
        (&app("names = 'auto'"), "mesh.toml:4: `names` is `auto`: it can be \"manual\", or be left out"),
        (&app("aliases = 'a'"), "mesh.toml:4: `aliases` is a string: expected an array"),
        (&app("ist = {}"), "mesh.toml:4: `ist` is a table: expected an array"),
        (&app("ist = ['db']"), "mesh.toml:4: an entry of `ist` is a string: expected a table"),
    ] {
        refused(text, message);
    }
}

#[test]
fn ports_are_1_to_65535() {
    for bad in ["0", "65536", "-1", "0x10000", "99999999999999999999"] {
        for key in ["port", "public_port"] {
            let error = whole(&app(&format!("{key} = {bad}"))).unwrap_err();
            assert!(error.starts_with(&format!("mesh.toml:4: `{key}` is ")), "{error}");
            assert!(error.ends_with(": expected a port, 1 to 65535"), "{error}");
        }
    }
    refused(&app("port = '80'"), "mesh.toml:4: `port` is a string: expected a port, 1 to 65535");
    refused(
        "deployment = 's'\ntrust = [{ deployment = 'a',\n ports = [1, 0] }]",
        "mesh.toml:3: `ports` is 0: expected a port, 1 to 65535",
    );
}

#[test]
fn names_and_patterns_are_told_where_they_stand() {
    for (text, message) in [
        (
            "deployment = 's'\nteam = 'a b'",
            "mesh.toml:2: `team`: `a b` is not a DNS label: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end",
        ),
        (
            "deployment = 's'\n[services.'a/b']",
            "mesh.toml:2: the service name `a/b` holds '/': `/` and control characters are not allowed",
        ),
        ("deployment = 's'\nservices.'' = {}", "mesh.toml:2: a service's name cannot be empty"),
        (
            "deployment = 's'\nexpose = ['*',\n'a/*']",
            "mesh.toml:3: `expose`: `a/*` can match no service: it is empty, too long, or holds `/` or a control character",
        ),
        (
            "deployment = 's'\ntrust = ['A']",
            "mesh.toml:2: `trust`: `A` is not a DNS label: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end",
        ),
        (
            "deployment = 's'\ntrust = [{ services = ['x'] }]",
            "mesh.toml:2: an entry of `trust` has no `deployment`: say whose services may call",
        ),
        (
            "deployment = 's'\ntrust = [{ deployment = 'a', services = [] }]",
            "mesh.toml:2: `services` is empty: leave it out to mean all of them",
        ),
        (
            "deployment = 's'\ntrust = [{ deployment = 'a', ports = [] }]",
            "mesh.toml:2: `ports` is empty: leave it out to mean all of them",
        ),
        (
            &app("aliases = ['ok', 'not ok']"),
            "mesh.toml:4: `aliases`: `not ok` is not a host name: use labels of 1 to 63 letters, digits, `-` and `_`, with no \
             `-` at either end, joined by dots, 248 bytes in all",
        ),
        (
            &app("ist = [{ service = 'db', hostnames = ['1.2.3.4'] }]"),
            "mesh.toml:4: `hostnames`: `1.2.3.4` would be read as an IP address: let its last label be no number, in decimal, octal or hexadecimal",
        ),
        (
            &app("ist = [{ service = 'db', variables = ['MY-VAR'] }]"),
            "mesh.toml:4: `variables`: `MY-VAR` is not a variable's name: use letters, digits and `_`, with no digit first",
        ),
        (
            &app("ist = [{ hostnames = ['a'] }]"),
            "mesh.toml:4: an entry in `ist` of the service `app` has no `service`: say which one it leads to",
        ),
        (
            &app("ist = [{ service = 'bd' }]"),
            "mesh.toml:4: `ist` of the service `app` leads to `bd`, which this file doesn't declare: the nearest is `db`",
        ),
    ] {
        refused(text, message);
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        let _ = whole(&text);
    }

    /// Random sequences of parts of files.
    #[test]
    fn no_file_makes_the_parser_panic(pieces in proptest::collection::vec(prop_oneof![
        Just("deployment = 'shop'\n"), Just("[services.app]\n"), Just("[services.'é\\']\n"), Just("[[services.app.ist]]\n"),
        Just("trust = "), Just("port = "), Just("ist = "), Just("service = "), Just("['x', "), Just("{ deployment = 'a', "),
        Just("] "), Just("} "), Just("80\n"), Just("-0x\n"), Just("'db'\n"), Just("\"\"\"\n"), Just("\n"), Just("é"), Just("1979-05-27\n"),
    ], 0..20)) {
        let text = pieces.concat();
        let _ = (whole(&text), whole(&format!("deployment = 'shop'\n{text}")));
    }
}

#[test]
fn what_a_file_expects_is_read_with_its_place() {
    let text = "deployment = \"shop\"\n[[expect]]\nfrom = \"shop/app\"\nto = \"billing/api\"\nport = 80\nallow = true\n\
        [[expect]]\nfrom = \"shop/my db\"\nto = \"shop/app\"\nport = 1\nallow = false\n";
    let parsed = super::super::parse(Path::new("mesh.toml"), text, None).unwrap();
    let told: Vec<String> = parsed.expectations.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "mesh.toml:2: shop/app may connect to port 80 of billing/api",
            "mesh.toml:7: shop/my db may not connect to port 1 of shop/app",
        ]
    );
    let one = |line: &str| {
        let lines = ["from = \"shop/a\"", "to = \"shop/b\"", "port = 80", "allow = true"];
        let key = line.split(' ').next().unwrap();
        let kept: Vec<&str> = lines.into_iter().filter(|kept| !kept.starts_with(key)).chain([line]).collect();
        format!("deployment = \"shop\"\n[[expect]]\n{}\n", kept.join("\n"))
    };
    for (line, words) in [
        ("from = \"shop\"", "`from`"),
        ("port = 0", "a port, 1 to 65535"),
        ("allow = \"yes\"", "true or false"),
        ("allow", "has no `allow`: say true or false"),
        ("to", "has no `to`: write DEPLOYMENT/SERVICE"),
        ("form = \"shop/a\"", "the nearest one is `from`"),
    ] {
        let text = if line.contains('=') { one(line) } else { one(line).replace(&format!("{line}\n"), "") };
        let error = whole(&text).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}
