mod untrusted;

use proptest::prelude::*;

use super::*;
use crate::{
    DeploymentId, Epoch, Range, Revision, RunnerId,
    view::{Grant, Ist, Naming, Network, Record},
};

/// A view under construction: deployment N is `d-N`, service N is `s-N` at 100.112.0.N.
struct World(View);

fn world() -> World {
    let network = Network { range: Range::DEFAULT, mtu: 1344 };
    World(View::empty(Epoch([0; 16]), Revision(1), RunnerId(1), network))
}

impl World {
    fn deployment(mut self, id: u64, name: &str, team: &str) -> Self {
        let (id, name, team) = (DeploymentId(id), name.parse().unwrap(), team.parse().unwrap());
        self.0.put(Record::Deployment(Deployment { id, name, team, trust_source: None }.into()));
        self
    }

    fn service(self, deployment: u64, id: u64, name: &str) -> Self {
        self.any_service(deployment, id, name, true)
    }

    fn any_service(mut self, deployment: u64, id: u64, name: &str, automatic_names: bool) -> Self {
        let (id, deployment, address) = (ServiceId(id), DeploymentId(deployment), address(id));
        let name = name.parse().unwrap();
        self.0.put(Record::Service(Service { id, deployment, name, address, automatic_names }.into()));
        self
    }

    fn naming(mut self, service: u64, aliases: &[&str], port: Option<u16>, ist: &[(&str, &[&str], &[&str])]) -> Self {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let ist = ist.iter().map(|(service, variables, hostnames)| Ist {
            service: service.parse().unwrap(),
            variables: own(variables),
            hostnames: own(hostnames),
        });
        let naming = Naming { service: ServiceId(service), aliases: own(aliases), port, ist: ist.collect() };
        self.0.put(Record::Naming(naming.into()));
        self
    }

    fn grant(mut self, caller: u64, callee: u64, ports: Ports) -> Self {
        self.0.put(Record::Grant(Grant { caller: DeploymentId(caller), callee: ServiceId(callee), ports }.into()));
        self
    }

    #[track_caller]
    fn names(&self, service: u64) -> Names {
        names(&self.0, ServiceId(service)).unwrap()
    }
}

fn address(service: u64) -> Ipv4Addr {
    Ipv4Addr::new(100, 112, 0, u8::try_from(service).unwrap())
}

impl Names {
    /// `NAME→N` for each line of the hosts file.
    fn lines(&self) -> Vec<String> {
        self.hosts.iter().map(|(address, name)| format!("{name}→{}", address.octets()[3])).collect()
    }

    /// All but the resolver's, which is always there.
    fn variable_list(&self) -> Vec<String> {
        let mut all: Vec<_> = self.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        all.retain(|variable| variable != "WARP_DNS=100.127.255.254");
        all
    }
}

/// The deployment of docs/reference/mesh-toml.md, and one that trusts it.
fn shop() -> World {
    world()
        .deployment(1, "shop", "acme")
        .service(1, 1, "my db")
        .service(1, 2, "app")
        .naming(1, &["mysql"], Some(5432), &[])
        .naming(2, &[], None, &[("my db", &["MY_SQL_SERVICE", "ANOTHER_VAR"], &["mysql.local"])])
}

#[test]
fn a_service_sees_its_deployment_itself_and_its_own_ist() {
    let app = shop().names(2);
    assert_eq!(
        app.lines(),
        [
            "my-db.warp→1",
            "my-db→1",
            "my-db.shop.warp→1",
            "my-db.shop→1",
            "mysql→1",
            "mysql.warp→1",
            "app.warp→2",
            "app→2",
            "app.shop.warp→2",
            "app.shop→2",
            "mysql.local→1",
        ]
    );
    assert_eq!(
        app.variable_list(),
        [
            "ANOTHER_VAR=100.112.0.1",
            "MY_SQL_SERVICE=100.112.0.1",
            "WARP_IST_app=100.112.0.2",
            "WARP_IST_my_db=100.112.0.1"
        ]
    );
    assert!(app.warnings.is_empty());

    let db = shop().names(1);
    assert_eq!(db.variable_list(), ["PORT=5432", "WARP_IST_app=100.112.0.2", "WARP_IST_my_db=100.112.0.1"]);
    assert!(!db.lines().contains(&"mysql.local→1".to_owned()), "another service's `ist`");
}

#[test]
fn an_unknown_service_has_no_names() {
    assert_eq!(names(&shop().0, ServiceId(9)), None);
    assert_eq!(names(&world().service(1, 1, "db").0, ServiceId(1)), None, "its deployment isn't known");
}

#[test]
fn a_service_of_another_deployment_is_seen_where_it_lets_one_call() {
    let world = shop()
        .deployment(2, "api", "acme")
        .service(2, 20, "grpc-tcp")
        .service(2, 21, "web")
        .any_service(2, 22, "hidden", false)
        .naming(20, &["alias"], Some(1), &[])
        .grant(1, 20, Ports::Only([50051].into()))
        .grant(1, 22, Ports::All);
    let app = world.names(2);
    let foreign: Vec<_> =
        app.lines().into_iter().filter(|line| !line.ends_with("→1") && !line.ends_with("→2")).collect();
    assert_eq!(foreign, ["grpc-tcp.api.warp→20", "grpc-tcp.api→20", "api-grpc-tcp→20"]);
    assert_eq!(
        app.variable_list(),
        [
            "ANOTHER_VAR=100.112.0.1",
            "MY_SQL_SERVICE=100.112.0.1",
            "WARP_IST_api_grpc-tcp=100.112.0.20",
            "WARP_IST_api_grpc_tcp=100.112.0.20",
            "WARP_IST_app=100.112.0.2",
            "WARP_IST_my_db=100.112.0.1",
        ]
    );
    let web = world.names(21);
    assert!(!web.lines().iter().any(|line| line.contains("app")), "trust gives nothing in return");
}

#[test]
fn what_may_not_be_called_has_no_name() {
    let world = shop()
        .deployment(2, "api", "acme")
        .deployment(3, "evil", "others")
        .service(2, 20, "a")
        .service(3, 30, "b")
        .service(4, 40, "c")
        .grant(1, 20, Ports::Only([].into()))
        .grant(1, 30, Ports::All)
        .grant(1, 40, Ports::All);
    assert_eq!(world.names(2), shop().names(2), "no port, another team, an unknown deployment");
}

#[test]
fn short_names_under_top_level_domains_are_never_captured() {
    let foreign = |deployment: &str| {
        let world = world().deployment(1, "shop", "t").service(1, 1, "app").deployment(2, deployment, "t");
        let lines = world.service(2, 20, "github").grant(1, 20, Ports::All).names(1).lines();
        lines.into_iter().filter(|line| line.ends_with("→20")).collect::<Vec<_>>()
    };
    for deployment in ["com", "dev", "xn--p1ai", "local", "test", "internal", "onion", "warp"] {
        let expected = [format!("github.{deployment}.warp→20"), format!("{deployment}-github→20")];
        assert_eq!(foreign(deployment), expected);
    }
    assert_eq!(foreign("acme"), ["github.acme.warp→20", "github.acme→20", "acme-github→20"]);
}

#[test]
fn own_names_win_over_foreign_ones() {
    let world = world()
        .deployment(1, "shop", "t")
        .service(1, 1, "app")
        .service(1, 2, "api_db")
        .naming(1, &["db.api"], None, &[])
        .deployment(2, "api", "t")
        .service(2, 20, "db")
        .grant(1, 20, Ports::All);
    let app = world.names(1);
    let lines = app.lines();
    for own in ["api-db→2", "db.api→1", "db.api.warp→1"] {
        assert!(lines.contains(&own.to_owned()), "{own}: {lines:?}");
    }
    assert!(!lines.iter().any(|line| line.ends_with("→20")), "{lines:?}");
    assert_eq!(app.variables["WARP_IST_api_db"], "100.112.0.2");
    assert!(app.warnings.is_empty(), "that is how it should be: {:?}", app.warnings);
}

#[test]
fn foreign_names_that_come_out_alike_are_left_out_both() {
    let world = world()
        .deployment(1, "shop", "t")
        .service(1, 1, "app")
        .deployment(2, "a", "t")
        .deployment(3, "a-b", "t")
        .service(2, 20, "b-c")
        .service(3, 30, "c")
        .grant(1, 20, Ports::All)
        .grant(1, 30, Ports::All);
    let app = world.names(1);
    let foreign: Vec<_> = app.lines().into_iter().filter(|line| !line.ends_with("→1")).collect();
    assert_eq!(foreign, ["b-c.a.warp→20", "b-c.a→20", "c.a-b.warp→30", "c.a-b→30"]);
    assert_eq!(
        app.variable_list(),
        ["WARP_IST_a-b_c=100.112.0.30", "WARP_IST_a_b-c=100.112.0.20", "WARP_IST_app=100.112.0.1"]
    );
    assert_eq!(
        app.warnings,
        [
            "left out `a-b-c`: `a/b-c` and `a-b/c` come out alike",
            "left out `WARP_IST_a_b_c`: `a/b-c` and `a-b/c` come out alike"
        ]
    );
}

#[test]
fn own_automatic_names_that_come_out_alike_are_left_out_both() {
    let world = world()
        .deployment(1, "shop", "t")
        .service(1, 1, "my-db")
        .service(1, 2, "my db")
        .service(1, 3, "app")
        .naming(3, &[], None, &[("my db", &["DB"], &["db"])])
        .deployment(2, "my", "t")
        .service(2, 20, "db")
        .grant(1, 20, Ports::All);
    let app = world.names(3);
    assert_eq!(
        app.lines(),
        ["app.warp→3", "app→3", "app.shop.warp→3", "app.shop→3", "db→2", "db.my.warp→20"],
        "nor does the foreign `my-db` take the place (`my` is a top-level domain)"
    );
    assert_eq!(app.variable_list(), ["DB=100.112.0.2", "WARP_IST_app=100.112.0.3", "WARP_IST_my-db=100.112.0.1"]);
    assert_eq!(
        app.warnings,
        [
            "left out `my-db.warp`, `my-db`, `my-db.shop.warp` and `my-db.shop`: `shop/my-db` and `shop/my db` come out alike",
            "left out `WARP_IST_my_db`: `shop/my-db` and `shop/my db` come out alike"
        ]
    );
}

#[test]
fn what_was_written_down_wins_over_what_was_made() {
    let world = world()
        .deployment(1, "shop", "t")
        .service(1, 1, "mysql")
        .service(1, 2, "db")
        .service(1, 3, "app")
        .naming(3, &[], None, &[("db", &["WARP_IST_mysql"], &["MySQL"])]);
    let app = world.names(3);
    assert_eq!(app.hosts.last(), Some(&(address(2), "MySQL".to_owned())), "spelled as in the file");
    assert!(!app.lines().contains(&"mysql→1".to_owned()) && app.lines().contains(&"mysql.warp→1".to_owned()));
    assert_eq!(app.variables["WARP_IST_mysql"], "100.112.0.2");
    assert_eq!(
        app.warnings,
        [
            "`mysql` taken for `shop/db` by `ist` or an alias, so not for `shop/mysql`",
            "`WARP_IST_mysql` taken for `shop/db` by `ist` or an alias, so not for `shop/mysql`"
        ]
    );
    assert_eq!(world.names(2).warnings, [] as [&str; 0], "no other service sees that `ist`");
}

#[test]
fn a_manual_service_is_reached_by_ist_and_aliases_only() {
    let world = world()
        .deployment(1, "shop", "t")
        .any_service(1, 1, "xn--a", false)
        .service(1, 2, "app")
        .naming(1, &["db"], None, &[])
        .naming(2, &[], None, &[("xn--a", &["DB"], &["mysql"])]);
    let app = world.names(2);
    let db: Vec<_> = app.lines().into_iter().filter(|line| line.ends_with("→1")).collect();
    assert_eq!(db, ["db→1", "db.warp→1", "mysql→1"]);
    assert_eq!(app.variable_list(), ["DB=100.112.0.1", "WARP_IST_app=100.112.0.2"]);
    assert!(app.warnings.is_empty());
}

#[test]
fn ist_for_a_service_that_is_not_declared_yet_waits() {
    let world =
        world().deployment(1, "shop", "t").service(1, 1, "app").naming(1, &[], None, &[("db", &["DB"], &["db"])]);
    assert_eq!(world.names(1).variable_list(), ["WARP_IST_app=100.112.0.1"]);
    let app = world.service(1, 2, "db").names(1);
    assert_eq!(app.variables["DB"], "100.112.0.2");
}

#[test]
fn a_service_called_localhost_does_not_capture_the_machine() {
    let lines = world().deployment(1, "shop", "t").service(1, 1, "localhost").names(1).lines();
    assert_eq!(lines, ["localhost.warp→1", "localhost.shop.warp→1", "localhost.shop→1"]);
}

#[test]
fn a_shell_gets_identifiers_only() {
    let world = world().deployment(1, "shop", "t").service(1, 1, "my-db").naming(1, &[], Some(80), &[]);
    let names = world.names(1);
    assert_eq!(names.variable_list(), ["PORT=80", "WARP_IST_my-db=100.112.0.1", "WARP_IST_my_db=100.112.0.1"]);
    let shell: Vec<_> = names.shell_variables().collect();
    assert_eq!(shell, [("PORT", "80"), ("WARP_DNS", "100.127.255.254"), ("WARP_IST_my_db", "100.112.0.1")]);
}

#[test]
fn a_name_is_found_in_any_case() {
    let lines = shop().naming(2, &["MySQL-2"], None, &[("my db", &[], &["DB.Local"])]).names(2).lines();
    let of = |name: &str| {
        lines.iter().filter(|line| line.to_ascii_lowercase().starts_with(name)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of("mysql-2"), ["mysql-2→2", "MySQL-2→2", "mysql-2.warp→2", "MySQL-2.warp→2"]);
    assert_eq!(of("db.local"), ["db.local→1", "DB.Local→1"]);
}
