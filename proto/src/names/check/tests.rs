use super::*;

/// A service with all that can be declared.
#[derive(Clone)]
struct Spec {
    name: ServiceName,
    aliases: Vec<String>,
    port: Option<u16>,
    manual: bool,
    ist: Vec<Ist>,
}

fn service(name: &str) -> Spec {
    Spec { name: name.parse().unwrap(), aliases: vec![], port: None, manual: false, ist: vec![] }
}

impl Spec {
    fn aliases(mut self, aliases: &[&str]) -> Self {
        self.aliases = aliases.iter().map(|&a| a.to_owned()).collect();
        self
    }

    fn manual(self) -> Self {
        Self { manual: true, ..self }
    }

    fn port(self, port: u16) -> Self {
        Self { port: Some(port), ..self }
    }

    fn ist(mut self, target: &str, variables: &[&str], hostnames: &[&str]) -> Self {
        let own = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        self.ist.push(Ist { service: target.parse().unwrap(), variables: own(variables), hostnames: own(hostnames) });
        self
    }
}

fn judge(services: &[Spec], single: Option<&str>) -> Result<Vec<String>, String> {
    let candidates: Vec<_> = services
        .iter()
        .map(|s| Candidate {
            name: &s.name,
            aliases: &s.aliases,
            port: s.port,
            manual_names: s.manual,
            ist: &s.ist,
            known: false,
        })
        .collect();
    let single: Option<ServiceName> = single.map(|name| name.parse().unwrap());
    let scope = single.as_ref().map_or(Scope::Whole, Scope::Single);
    check(&"shop".parse().unwrap(), &candidates, scope).map_err(|e| e.to_string())
}

#[track_caller]
fn refused(services: &[Spec], message: &str) {
    assert_eq!(judge(services, None), Err(message.to_owned()));
}

#[track_caller]
fn accepted(services: &[Spec]) {
    assert_eq!(judge(services, None), Ok(vec![]));
}

#[test]
fn the_deployment_of_the_contract_is_accepted() {
    accepted(&[
        service("my db").aliases(&["mysql"]).port(5432),
        service("app").ist("my db", &["MY_SQL_SERVICE", "ANOTHER_VAR"], &["mysql.local"]),
    ]);
    accepted(&[]);
}

#[test]
fn a_name_that_gives_no_host_name_is_refused_unless_manual() {
    for (name, message) in [
        (
            "xn--a",
            "no host name can be made from the service name `xn--a`: IDNA refuses it: a broken `xn--` label, a mix of \
             writing directions, or a character that no host name may hold. Choose another name, or set `names = \
             \"manual\"` (only `ist` and `aliases` lead to it then) on it",
        ),
        (
            "=",
            "no host name can be made from the service name `=`: it holds neither a letter nor a digit. Choose another \
             name, or set `names = \"manual\"` (only `ist` and `aliases` lead to it then) on it",
        ),
        (
            " db",
            "no host name can be made from the service name ` db`: its host name would be `-db`, with a leading `-`. \
             Choose another name, or set `names = \"manual\"` (only `ist` and `aliases` lead to it then) on it",
        ),
        (
            &"日本語".repeat(21),
            &format!(
                "no host name can be made from the service name `{}`: its host name would be 79 bytes long, and 63 is \
                 the most. Choose another name, or set `names = \"manual\"` (only `ist` and `aliases` lead to it then) \
                 on it",
                "日本語".repeat(21)
            ),
        ),
    ] {
        refused(&[service(name)], message);
        accepted(&[service(name).manual(), service("app").ist(name, &["DB"], &["db"])]);
    }
}

#[test]
fn services_that_come_out_alike_are_refused() {
    let host_names = "the services `my-db` and `my db` would both be called `my-db.warp`. Rename one of them, or set \
                      `names = \"manual\"` (only `ist` and `aliases` lead to it then) on one";
    refused(&[service("my-db"), service("my db")], host_names);
    refused(
        &[service("My-DB-"), service("my-db:")],
        "the services `My-DB-` and `my-db:` would both be called `my-db.warp`. Rename one of them, or set `names = \
         \"manual\"` (only `ist` and `aliases` lead to it then) on one",
    );
    refused(
        &[service("donne\u{301}es"), service("données")],
        "the services `donne\u{301}es` and `données` would both be called `xn--donnes-eva.warp`. Rename one of them, or \
         set `names = \"manual\"` (only `ist` and `aliases` lead to it then) on one",
    );
    let variables = "the services `é` and `e` would both have the variable `WARP_IST_e`. Rename one of them, or set \
                     `names = \"manual\"` (only `ist` and `aliases` lead to it then) on one";
    refused(&[service("é"), service("e")], variables);
    let shell_variables = "the services `é-b` and `e:b` would both have the variable `WARP_IST_e_b`. Rename one of \
                           them, or set `names = \"manual\"` (only `ist` and `aliases` lead to it then) on one";
    refused(&[service("é-b"), service("e:b")], shell_variables);

    accepted(&[service("my-db"), service("my db").manual(), service("my=db").manual()]);
    accepted(&[service("é").manual(), service("e")]);
    accepted(&[service("A"), service("B")]);
}

#[test]
fn a_name_below_the_deployments_own_is_a_clash_too() {
    refused(
        &[service("shop").aliases(&["web.shop"]), service("web")],
        "the service `shop` would be called `web.shop.warp` by an alias, which is what `web` is called. Choose another alias, or set \
         `names = \"manual\"` (only `ist` and `aliases` lead to it then) on `web`",
    );
}

#[test]
fn aliases_are_host_names_of_one_service() {
    refused(
        &[service("a").aliases(&["db"]), service("b").aliases(&["x", "DB"])],
        "the services `a` and `b` would both be called `DB` by their aliases. Take it from one of them",
    );
    refused(
        &[service("db"), service("b").aliases(&["db"])],
        "the service `b` would be called `db` by an alias, which is what `db` is called. Choose another alias, or set `names = \
         \"manual\"` (only `ist` and `aliases` lead to it then) on `db`",
    );
    refused(
        &[service("b").aliases(&["db.warp"]), service("db")],
        "the service `b` would be called `db.warp` by an alias, which is what `db` is called. Choose another alias, or set `names = \
         \"manual\"` (only `ist` and `aliases` lead to it then) on `db`",
    );
    refused(
        &[service("a").aliases(&["my sql"])],
        "the alias `my sql` of the service `a` is not a host name: use labels of 1 to 63 letters, digits, `-` and `_`, with \
         no `-` at either end, joined by dots, 248 bytes in all",
    );
    refused(
        &[service("a").aliases(&["localhost"])],
        "the alias `localhost` of the service `a` always means the machine itself: choose another name",
    );
    accepted(&[service("db").aliases(&["db", "mysql", "mysql", "my_sql"])]);
    accepted(&[service("db").manual(), service("b").aliases(&["db"])]);
}

#[test]
fn ist_names_are_checked_for_their_form() {
    let app = |variable: &str, hostname: &str| [service("db"), service("app").ist("db", &[variable], &[hostname])];
    refused(
        &app("DB", "my sql.local"),
        "the host name `my sql.local` in `ist` of the service `app` is not a host name: use labels of 1 to 63 letters, \
         digits, `-` and `_`, with no `-` at either end, joined by dots, 248 bytes in all",
    );
    refused(
        &app("DB", "10.0.0.1"),
        "the host name `10.0.0.1` in `ist` of the service `app` would be read as an IP address: let its last label \
         be no number, in decimal, octal or hexadecimal",
    );
    for variable in ["MY-VAR", "1A", "", "A=B", "É"] {
        refused(
            &app(variable, "mysql.local"),
            &format!(
                "the variable `{variable}` in `ist` of the service `app` is not a variable's name: use letters, digits \
                 and `_`, with no digit first"
            ),
        );
    }
    refused(
        &[service("app").port(80).ist("app", &["PORT"], &[])],
        "`ist` of the service `app` gives the variable `PORT`, which its `port` sets already. Choose another",
    );
    accepted(&[service("app").ist("app", &["PORT"], &[])]);
}

#[test]
fn ist_leads_to_services_of_the_deployment_once_each() {
    refused(
        &[service("db"), service("app").ist("db", &["A"], &[]).ist("db", &["B"], &[])],
        "`ist` of the service `app` has two entries for `db`. Make one of them",
    );
    refused(
        &[service("db"), service("app").ist("dbb", &["A"], &[])],
        "`ist` of the service `app` names `dbb`, which is no service of `shop`. Declare it, or correct the name",
    );
}

#[test]
fn ist_names_lead_to_one_service() {
    let all = || vec![service("a").aliases(&["alpha"]), service("b")];
    let with = |app: Spec| [all(), vec![app]].concat();
    refused(
        &with(service("app").ist("a", &[], &["x"]).ist("b", &[], &["X"])),
        "`ist` of the service `app` gives `X` to both `a` and `b`. Take it from one of them",
    );
    refused(
        &with(service("app").ist("a", &["X"], &[]).ist("b", &["X"], &[])),
        "`ist` of the service `app` gives `X` to both `a` and `b`. Take it from one of them",
    );
    refused(
        &with(service("app").ist("a", &[], &["b.warp"])),
        "`ist` of the service `app` gives `b.warp` to `a`, but that is a name of `b`. Choose another, or set `names = \
         \"manual\"` (only `ist` and `aliases` lead to it then) on `b`",
    );
    refused(
        &with(service("app").ist("a", &["WARP_IST_b"], &[])),
        "`ist` of the service `app` gives `WARP_IST_b` to `a`, but that is a name of `b`. Choose another, or set `names \
         = \"manual\"` (only `ist` and `aliases` lead to it then) on `b`",
    );
    refused(
        &with(service("app").ist("b", &[], &["alpha"])),
        "`ist` of the service `app` gives `alpha` to `b`, but that is an alias of `a`. Choose another",
    );
    // Names for the same service don't clash, nor do variables that differ in case, nor names in another service's
    // `ist`.
    accepted(&with(service("app").ist("a", &["WARP_IST_a", "X"], &["a", "alpha"]).ist("b", &["x"], &[])));
    accepted(
        &with(service("app").ist("a", &["X"], &["x"]))
            .into_iter()
            .chain([service("web").ist("b", &["X"], &["x"])])
            .collect::<Vec<_>>(),
    );
}

#[test]
fn a_single_service_is_judged_by_what_it_takes_part_in() {
    // `my-db` and `my db` clash already, which doesn't concern `app`.
    let standing = [service("my-db"), service("my db"), service("app")];
    assert_eq!(judge(&standing, Some("app")), Ok(vec![]));
    assert!(judge(&standing, Some("my db")).unwrap_err().starts_with("the services `my-db` and `my db` would both be"));
    assert!(judge(&standing, None).is_err());
    // Nor does another service's name that a later version refuses.
    assert_eq!(judge(&[service("xn--a"), service("app")], Some("app")), Ok(vec![]));
    assert!(judge(&[service("xn--a")], Some("xn--a")).is_err());
}

#[test]
fn a_single_service_may_name_others_before_they_are_declared() {
    assert_eq!(
        judge(&[service("app").ist("db", &["DB"], &[])], Some("app")),
        Ok(vec![
            "`ist` of the service `app` names `db`, which `shop` doesn't have yet: its names lead nowhere until it does"
                .to_owned()
        ])
    );
}

#[test]
fn where_a_single_service_gives_names_automatic_ones_that_clash_are_left_out() {
    let settled = |a: &str, b: &str| {
        Ok(vec![format!(
            "the services `{a}` and `{b}` clash: automatic names of one that are also names of the other are left out"
        )])
    };
    let services = [service("my-db"), service("my db").ist("my-db", &["OTHER_DB"], &[])];
    assert_eq!(judge(&services, Some("my db")), settled("my-db", "my db"));
    assert_eq!(judge(&services, Some("my-db")), settled("my-db", "my db"), "whichever is declared last");
    assert!(judge(&services, None).is_err(), "a `mesh.toml` has `names = \"manual\"` for that");
    let nameless = [service("my-db"), service("my db").ist("my-db", &[], &[])];
    assert!(judge(&nameless, Some("my db")).is_err(), "its `ist` gives no names");
    let bystander = [service("my-db"), service("my db"), service("app").ist("my-db", &["DB"], &[])];
    assert!(judge(&bystander, Some("my db")).is_err(), "nor does that of a third give any to these two");

    let services = [service("a"), service("b"), service("app").ist("a", &[], &["b"])];
    assert_eq!(judge(&services, Some("app")), settled("app", "b"));
    assert_eq!(judge(&services, Some("b")), settled("app", "b"), "whichever is declared last");
    // Two declared names still clash.
    let services = [service("a"), service("b").aliases(&["x"]), service("app").ist("a", &[], &["x"])];
    assert!(judge(&services, Some("app")).unwrap_err().contains("is an alias of `b`"));
}

#[test]
fn names_that_programs_read_as_addresses_are_refused_in_every_form() {
    for (name, label) in [("10", "10"), ("017", "017"), ("0x1f", "0x1f"), ("0X1F", "0x1f"), ("１０", "10")] {
        refused(
            &[service(name)],
            &format!(
                "the service `{name}` would be called `{label}`, which programs read as an IP address. Choose a name with another \
                 letter, or set `names = \"manual\"` (only `ist` and `aliases` lead to it then) on it"
            ),
        );
        accepted(&[service(name).manual()]);
    }
    accepted(&[service("10 db"), service("0xg"), service("1e5")]);
    let numeric = |known| {
        let name = "10".parse().unwrap();
        let service = Candidate { name: &name, aliases: &[], port: None, manual_names: false, ist: &[], known };
        check(&"42".parse().unwrap(), &[service], Scope::Whole)
    };
    assert!(
        numeric(false)
            .unwrap_err()
            .to_string()
            .starts_with("a deployment can't be called `42`: programs would read `db.42`")
    );
    assert_eq!(numeric(true).unwrap().len(), 2, "one that is there goes on as far as its names can be used");
    for alias in ["0x7f.1", "1.2", "017", "db.42"] {
        let refused = judge(&[service("a").aliases(&[alias])], None).unwrap_err();
        assert!(refused.contains("would be read as an IP address"), "{refused}");
    }
}

#[test]
fn variables_that_programs_load_are_refused() {
    for variable in ["LD_PRELOAD", "PATH", "BASH_ENV", "NODE_OPTIONS", "PYTHONPATH", "GIT_SSH"] {
        let refused = judge(&[service("db"), service("app").ist("db", &[variable], &[])], None).unwrap_err();
        assert!(refused.contains(&format!("the variable `{variable}` in `ist` of the service `app`")), "{refused}");
        assert!(refused.contains("takes for code or settings to load"), "{refused}");
    }
}
