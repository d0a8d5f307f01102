//! Names and variables, as programs use them: looked up by getaddrinfo(3) in the hosts file, and read from the environment
//! by a program that was exec'd (a shell would drop what isn't an identifier).

use mesh_netns_tests::{Instance, Runner, Stack, World, isolated, traffic::Answer, traffic::Server};

use crate::common::{HELPER, declare};

/// A service, its host name, and its variables (without `WARP_IST_`): the rows of docs/reference/names-and-variables.md.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// Names that come out alike cannot be in one deployment, so there are four.
const TABLE: [(&str, &[Row]); 4] = [
    ("one", &[("my-db", "my-db", &["my-db", "my_db"])]),
    ("two", &[("my db", "my-db", &["my_db"])]),
    ("three", &[("my=db", "my-db", &["my_db"])]),
    (
        "four",
        &[
            ("my-db:dev", "my-db-dev", &["my-db:dev", "my_db_dev"]),
            ("My-DB-", "my-db", &["My-DB-", "My_DB_"]),
            ("mes-données", "xn--mes-donnes-i7a", &["mes-donnees", "mes_donnees"]),
            ("✅ db", "xn---db-8g6a", &["_db-8g6a", "_db_8g6a"]),
            ("我的数据", "xn--wnu53ab8bw85a", &["wnu53ab8bw85a"]),
        ],
    ),
];

/// An instance of each service, which sends its name to every caller on port 5432.
fn speaking(runner: &Runner, services: &[&str]) -> Vec<(Instance, Server)> {
    let one = |service: &&str| {
        let instance = runner.attach(service);
        let server = instance.serve(5432, Answer::Greeting((*service).to_owned()));
        (instance, server)
    };
    services.iter().map(one).collect()
}

/// A program that runs as an instance of `caller` reaches `service` by each of these (`$` begins a variable).
#[track_caller]
fn reaches_by(runner: &Runner, caller: &str, expected: &[(String, String)]) {
    let ways: Vec<&str> = expected.iter().map(|(way, _)| way.as_str()).collect();
    let outcome = runner.run(caller, &[&[HELPER, "connect", "5432"], &ways[..]].concat()).done();
    let lines: String = expected.iter().map(|(way, service)| format!("{way} {service}\n")).collect();
    assert_eq!(outcome.stdout, lines);
}

#[test]
fn every_row_of_the_table_by_every_name_and_variable() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        for (deployment, rows) in TABLE {
            let services: String = rows.iter().map(|(name, ..)| format!("[services.\"{name}\"]\n")).collect();
            declare(&coordinator, &[&format!("deployment = \"{deployment}\"\n[services.caller]\n{services}")]);
        }
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let basement = world.runner(&coordinator, "basement", Stack::V6);
        for (deployment, rows) in TABLE {
            let paths: Vec<String> = rows.iter().map(|(name, ..)| format!("{deployment}/{name}")).collect();
            let _callees = speaking(&ovh, &paths.iter().map(String::as_str).collect::<Vec<_>>());
            let mut expected = Vec::new();
            for ((_, host, variables), path) in rows.iter().zip(&paths) {
                let names = ["", ".warp", &format!(".{deployment}"), &format!(".{deployment}.warp")]
                    .map(|tail| format!("{host}{tail}"));
                let variables = variables.iter().map(|variable| format!("$WARP_IST_{variable}"));
                expected.extend(names.into_iter().chain(variables).map(|way| (way, path.clone())));
            }
            // From another runner, from the same one, and from one without IPv4.
            for runner in [&aws, &ovh, &basement] {
                reaches_by(runner, &format!("{deployment}/caller"), &expected);
            }
            // There are only the variables of this deployment's services.
            let environment = aws.command(&["env", &format!("{deployment}/caller"), "--format", "json"]).done().json();
            let mut given: Vec<&str> = environment.as_object().expect("a map").keys().map(String::as_str).collect();
            let mut wanted = vec!["WARP_DNS".to_owned(), "WARP_IST_caller".to_owned()];
            wanted.extend(rows.iter().flat_map(|(_, _, variables)| variables.iter().map(|v| format!("WARP_IST_{v}"))));
            given.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(given, wanted);
        }
    });
}

#[test]
fn another_deployments_services_aliases_ist_and_port() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(
            &coordinator,
            &[
                "deployment = \"apis\"\ntrust = [\"shop\"]\n[services.\"my api\"]\n",
                "deployment = \"dev\"\ntrust = [\"shop\"]\n[services.tool]\n",
                "deployment = \"hidden\"\n[services.x]\n",
                concat!(
                    "deployment = \"shop\"\n[services.\"my db\"]\naliases = [\"mysql\"]\nport = 5432\n[services.app]\nport = 3000\n",
                    "ist = [ { service = \"my db\", variables = [\"MY_SQL_SERVICE\", \"ANOTHER_VAR\"], hostnames = [\"mysql.local\"] } ]\n"
                ),
            ],
        );
        let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let _callees = speaking(&ovh, &["apis/my api", "dev/tool", "shop/my db", "hidden/x"]);
        let groups: [(&str, &[&str]); 3] = [
            (
                "shop/my db",
                &[
                    "mysql",
                    "mysql.warp",
                    "mysql.local",
                    "my-db.shop",
                    "$MY_SQL_SERVICE",
                    "$ANOTHER_VAR",
                    "$WARP_IST_my_db",
                ],
            ),
            ("apis/my api", &["my-api.apis.warp", "my-api.apis", "apis-my-api", "$WARP_IST_apis_my_api"]),
            ("dev/tool", &["tool.dev.warp", "dev-tool", "$WARP_IST_dev_tool"]),
        ];
        let expected: Vec<(String, String)> = groups
            .iter()
            .flat_map(|(service, ways)| ways.iter().map(move |way| ((*way).to_owned(), (*service).to_owned())))
            .collect();
        reaches_by(&aws, "shop/app", &expected);

        let hosts = aws.command(&["hosts", "shop/app"]).done().stdout;
        let has = |name: &str| hosts.lines().any(|line| line.split(' ').nth(1) == Some(name));
        assert!(hosts.lines().all(|line| line.split(' ').count() == 2), "ADDRESS NAME, one a line:\n{hosts}");
        assert!(has("app.warp") && has("app"), "itself too:\n{hosts}");
        assert!(!has("tool.dev"), "a top-level domain cannot be captured:\n{hosts}");
        assert!(!hosts.contains("hidden"), "what may not be called has no name:\n{hosts}");
        let environment = aws.command(&["env", "shop/app", "--format", "json"]).done().json();
        assert_eq!(environment["PORT"], "3000");
        assert!(!environment.to_string().contains("hidden"), "{environment:#}");
        // Trust has a direction, and so do names.
        let hosts = aws.command(&["hosts", "apis/my api"]).done().stdout;
        assert!(!hosts.contains("shop"), "{hosts}");
    });
}

#[test]
fn foreign_names_that_come_out_alike_are_left_out_both() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(
            &coordinator,
            &[
                "deployment = \"a\"\ntrust = [\"shop\"]\n[services.b-c]\n",
                "deployment = \"a-b\"\ntrust = [\"shop\"]\n[services.c]\n",
                "deployment = \"a-c\"\ntrust = [\"shop\"]\n[services.own]\n",
                "deployment = \"shop\"\n[services.app]\n[services.a-c-own]\n",
            ],
        );
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let outcome = aws.command(&["hosts", "shop/app"]).done();
        let of = |name: &str| -> Vec<&str> {
            outcome
                .stdout
                .lines()
                .filter_map(|line| line.split_once(' '))
                .filter(|(_, n)| *n == name)
                .map(|(a, _)| a)
                .collect()
        };
        assert_eq!(of("a-b-c"), [""; 0], "{}", outcome.stdout);
        assert!(outcome.stderr.contains("a-b-c"), "a warning: {}", outcome.stderr);
        assert_eq!(of("b-c.a.warp"), [coordinator.address_of("a/b-c").to_string()]);
        assert_eq!(of("c.a-b.warp"), [coordinator.address_of("a-b/c").to_string()]);
        // Own names win over foreign ones.
        assert_eq!(of("a-c-own"), [coordinator.address_of("shop/a-c-own").to_string()]);
    });
}

#[test]
fn the_environment_in_each_format_before_any_instance_runs() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &["deployment = \"shop\"\n[services.app]\nport = 80\n[services.\"it's my-db\"]\n"]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let address = |service: &str| coordinator.address_of(service).to_string();
        let json = aws.command(&["env", "shop/app", "--format", "json"]).done().json();
        let expected = serde_json::json!({
            "WARP_DNS": "100.127.255.254",
            "WARP_IST_app": address("shop/app"),
            "WARP_IST_it's_my-db": address("shop/it's my-db"),
            "WARP_IST_it_s_my_db": address("shop/it's my-db"),
            "PORT": "80",
        });
        assert_eq!(json, expected);
        // Only valid identifiers, so that a shell accepts them.
        let shell = aws.command(&["env", "shop/app", "--format", "shell"]).done().stdout;
        let mut script = std::process::Command::new("sh");
        script.arg("-euc").arg(format!("{shell}\nenv")).env_clear().env("PATH", "/usr/bin:/bin");
        let seen = mesh_netns_tests::run(script).done().stdout;
        assert!(
            seen.lines().any(|line| line == format!("WARP_IST_it_s_my_db={}", address("shop/it's my-db"))),
            "{seen}\n{shell}"
        );
        assert!(!shell.contains("my-db"), "{shell}");
        // For `docker run --env-file`: unquoted NAME=VALUE.
        let docker = aws.command(&["env", "shop/app", "--format", "docker"]).done().stdout;
        assert!(
            docker.lines().any(|line| line == format!("WARP_IST_it's_my-db={}", address("shop/it's my-db"))),
            "{docker}"
        );
        aws.command(&["env", "shop/nothing"]).refused(&["shop", "nothing"]);
        aws.command(&["hosts", "nowhere/x"]).refused(&["nowhere"]);
        aws.command(&["env", "shop"]).expect_code(2);
    });
}

/// The specification of a container after the runner's hook (oci-hooks(5), `precreate`).
fn precreate(runner: &Runner, service: &str) -> serde_json::Value {
    let config = serde_json::json!({
        "ociVersion": "1.0.2", "process": {"args": ["sh"], "env": ["PATH=/bin"]}, "annotations": {"mesh.service": service},
    });
    let mut hook = std::process::Command::new("sh");
    let program = std::env::var("MESH_NODE").expect("the agent");
    let state = runner.state().display().to_string();
    hook.args([
        "-euc",
        "printf %s \"$1\" | \"$2\" hook precreate --state \"$3\"",
        "hook",
        &config.to_string(),
        &program,
        &state,
    ]);
    mesh_netns_tests::run(hook).done().json()
}

#[test]
fn a_hostile_coordinator_puts_nothing_into_containers_but_names_of_the_mesh() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&[]);
        declare(
            &coordinator,
            &[concat!(
                "deployment = \"shop\"\n[services.db]\naliases = [\"alias-1\", \"alias-2\", \"alias-3\", \"fine\"]\n[services.stray]\n",
                "[services.app]\nist = [ { service = \"db\", variables = [\"VAR_1\", \"VAR_2\", \"VAR_3\", \"GOOD\"], hostnames = [\"host.one\"] } ]\n",
            )],
        );
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let (stray, good) =
            (coordinator.address_of("shop/stray").to_string(), coordinator.address_of("shop/db").to_string());
        coordinator.stop();
        let database = rusqlite::Connection::open(coordinator.data().join("mesh-coord.db")).expect("the database");
        for (what, hostile) in [
            ("alias-1", r"x1\n203.0.113.66 api.bank.example"),
            ("alias-2", "deb.debian.org #"),
            ("alias-3", "0x7f.1"),
            ("host.one", "localhost"),
            ("VAR_1", "LD_PRELOAD"),
            ("VAR_2", "LD_PRELOAD=/tmp/evil.so:"),
            ("VAR_3", "BASH_ENV"),
            (stray.as_str(), "203.0.113.66"),
        ] {
            let change = "UPDATE record SET value = replace(value, ?1, ?2)";
            let (what, hostile) = (format!("\"{what}\""), format!("\"{hostile}\""));
            assert!(database.execute(change, [what, hostile]).expect("a change") > 0);
        }
        drop(database);
        coordinator.start();
        let connected = || aws.command(&["status", "--json"]).is_connected();
        mesh_netns_tests::wait::until_true("the agent to be connected", connected);
        let inside = aws.run("shop/app", &["sh", "-c", "cat /etc/hosts; tr '\\0' '\\n' </proc/self/environ"]).done();
        let formats =
            ["shell", "json", "docker", "systemd"].map(|f| aws.command(&["env", "shop/app", "--format", f]).done());
        let container = precreate(&aws, "shop/app");
        let hosts = aws.command(&["hosts", "shop/app"]).done();
        let all: Vec<String> = formats.iter().chain([&inside, &hosts]).map(|outcome| outcome.stdout.clone()).collect();
        for text in all.iter().cloned().chain([container.to_string()]) {
            for hostile in ["203.0.113.66", "bank", "debian.org", "LD_PRELOAD", "evil", "BASH_ENV", "0x7f", "stray"] {
                assert!(!text.contains(hostile), "{hostile}: {text}");
            }
        }
        assert!(!hosts.stdout.contains("localhost"), "{}", hosts.stdout);
        // Valid settings apply, and invalid ones are reported.
        let has = |text: &str, line: &str| text.lines().any(|there| there == line);
        assert!(
            has(&inside.stdout, &format!("{good} fine")) && has(&inside.stdout, &format!("GOOD={good}")),
            "{}",
            inside.stdout
        );
        assert!(container["process"]["env"].as_array().is_some_and(|env| env.contains(&format!("GOOD={good}").into())));
        for left_out in ["LD_PRELOAD", "BASH_ENV", "0x7f.1", "localhost"] {
            assert!(hosts.stderr.contains(left_out), "{left_out}: {}", hosts.stderr);
        }
    });
}

#[test]
fn names_that_programs_read_as_addresses_are_refused_and_underscores_are_not() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        for (file, word) in [
            ("deployment = \"shop\"\n[services.\"10\"]\n", "`10`"),
            ("deployment = \"shop\"\n[services.\"0x1f\"]\n", "`0x1f`"),
            ("deployment = \"42\"\n[services.db]\n", "`42`"),
            ("deployment = \"shop\"\n[services.db]\naliases = [\"0x7f.1\"]\n", "0x7f.1"),
            ("deployment = \"shop\"\n[services.db]\naliases = [\"017\"]\n", "017"),
        ] {
            coordinator.apply(file).refused(&[word, "IP address"]);
        }
        coordinator
            .apply("deployment = \"shop\"\n[services.db]\n[services.app]\nist = [{ service = \"db\", variables = [\"NODE_OPTIONS\"] }]\n")
            .refused(&["NODE_OPTIONS", "Node.js"]);
        declare(&coordinator, &["deployment = \"shop\"\n[services.app]\n[services.db]\naliases = [\"My_SQL\"]\n"]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let _db = speaking(&aws, &["shop/db"]);
        let ways = ["My_SQL", "my_sql", "MY_SQL.warp"].map(|way| (way.to_owned(), "shop/db".to_owned()));
        reaches_by(&aws, "shop/app", &ways);
        let lines = aws.command(&["hosts", "shop/app"]).done().stdout;
        assert!(
            lines.lines().any(|line| line.ends_with(" my_sql")) && lines.lines().any(|line| line.ends_with(" My_SQL")),
            "{lines}"
        );
    });
}

#[test]
fn more_variables_than_a_program_can_have_are_said_to_be_that_and_can_be_left_out() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        let long = "a-name-".repeat(8);
        let crowd = |n: u32| {
            let services: String = (0..4000).map(|service| format!("[services.\"{long}{service}\"]\n")).collect();
            format!("deployment = \"crowd-{n}\"\ntrust = [\"shop\"]\n{services}")
        };
        declare(&coordinator, &["deployment = \"shop\"\n[services.app]\n"]);
        for n in 0..3 {
            declare(&coordinator, &[&crowd(n)]);
        }
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let run = |flags: &[&str]| aws.command(&[&["run"], flags, &["shop/app", "--", "env"]].concat());
        let refused = run(&[]).expect_code(126);
        assert!(
            refused.stderr.contains("E2BIG") && refused.stderr.contains("--no-foreign-variables"),
            "{}",
            refused.stderr
        );
        let config = precreate(&aws, "shop/app");
        assert!(
            config["annotations"]["mesh.refused"].as_str().is_some_and(|why| why.contains("foreign_variables = false"))
        );
        let without = run(&["--no-foreign-variables"]).done().stdout;
        assert!(without.contains("WARP_IST_app=") && !without.contains("crowd"), "{without}");
        let environment = aws.command(&["env", "shop/app", "--no-foreign-variables", "--format", "json"]).done().json();
        assert_eq!(environment.as_object().map(serde_json::Map::len), Some(2), "{environment}");
        std::fs::write(aws.state().join("config.toml"), "[containers]\nforeign_variables = false\n")
            .expect("the configuration");
        let config = precreate(&aws, "shop/app");
        assert!(config["process"]["env"].as_array().is_some_and(|env| env.len() == 3), "{config}");
    });
}
