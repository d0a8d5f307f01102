//! Metrics and health: what Prometheus reads of a mesh at work, and what alerts and dashboards ask for.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use mesh_netns_tests::{Daemon, Namespace, Runner, Stack, World, isolated, run, wait};
use serde_json::Value;

use crate::common::{SHOP, declare};

const COORDINATOR: &str = "0.0.0.0:9743";
const AGENT: &str = "[::]:9744";

/// `curl` in a namespace.
fn get(namespace: &Namespace, url: &str) -> (String, String) {
    let mut command = namespace.command("curl");
    command.args(["-gsS", "--max-time", "5", "-w", "\n%{http_code}", url]);
    let answer = run(command).done().stdout;
    let (text, status) = answer.trim_end().rsplit_once('\n').unwrap_or(("", &answer));
    (text.to_owned(), status.trim().to_owned())
}

/// The number with this name and these labels.
fn number(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// promtool(1) finds nothing to criticise in the text.
fn is_sound(text: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool: is prometheus installed?");
    promtool.stdin.take().expect("its input").write_all(text.as_bytes()).expect("cannot write to promtool");
    let said = promtool.wait_with_output().expect("promtool ends");
    let words = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && words.is_empty(), "{words}\n{text}");
}

/// The metrics that an expression names.
fn named(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| ["mesh_coord_", "mesh_node_", "process_"].iter().any(|prefix| word.starts_with(prefix)))
}

/// The expressions of a dashboard.
fn expressions(of: &Value, found: &mut Vec<String>) {
    match of {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(ToOwned::to_owned));
            fields.values().for_each(|value| expressions(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

/// Alerts and dashboards ask only for what there is, and the page lists all that there is.
fn is_all_known(texts: &[&str]) {
    let names: BTreeSet<&str> = texts
        .iter()
        .flat_map(|text| text.lines().filter_map(|line| line.strip_prefix("# TYPE ")))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let mut asked = vec![fs::read_to_string(docs().join("alerts.yml")).expect("the alerts")];
    for dashboard in ["coordinator", "runners"] {
        let path = docs().join(format!("grafana/{dashboard}.json"));
        let text = fs::read_to_string(path).expect("a dashboard");
        let before = asked.len();
        expressions(&serde_json::from_str(&text).expect("JSON"), &mut asked);
        assert!(asked.len() > before + 10, "{dashboard} asks for nothing");
    }
    for name in asked.iter().flat_map(|expression| named(expression)) {
        let parts = ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        assert!(names.contains(name) || names.contains(parts), "{name} is asked for, and is no metric");
    }
    let page = fs::read_to_string(docs().join("operate/metrics.md")).expect("the page");
    let listed: BTreeSet<&str> = named(&page).collect();
    let missing: Vec<_> = names.iter().filter(|name| !listed.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/operate/metrics.md lacks {missing:?}");
}

/// A real Prometheus, with the rules of the documentation.
struct Prometheus<'a> {
    namespace: &'a Namespace,
    daemon: Daemon,
}

impl<'a> Prometheus<'a> {
    fn start(namespace: &'a Namespace, jobs: &[(&str, String)]) -> Self {
        let directory = PathBuf::from("/run/prometheus");
        fs::create_dir_all(&directory).expect("cannot make a directory");
        let mut text = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: [{}]\nscrape_configs:\n",
            docs().join("alerts.yml").display()
        );
        for (job, target) in jobs {
            text += &format!("  - job_name: {job}\n    static_configs: [{{targets: ['{target}']}}]\n");
        }
        let configuration = directory.join("prometheus.yml");
        fs::write(&configuration, text).expect("cannot write a file");
        let mut command = namespace.command("prometheus");
        command.arg(format!("--config.file={}", configuration.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
        command.args(["--web.listen-address=127.0.0.1:9090", "--log.level=warn"]);
        Self { namespace, daemon: Daemon::start(command, &directory.join("log")) }
    }

    /// The value of an expression that has one.
    fn value(&mut self, expression: &str) -> Option<f64> {
        assert!(self.daemon.runs(), "Prometheus ended:\n{}", self.daemon.log());
        let mut command = self.namespace.command("curl");
        command.args(["-gsS", "--max-time", "5", "--data-urlencode", &format!("query={expression}")]);
        command.arg("http://127.0.0.1:9090/api/v1/query");
        let answer = run(command);
        let answer: Value = serde_json::from_str(&answer.stdout).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

/// A connection that says nothing.
fn silent(namespace: &Namespace, port: u16) -> TcpStream {
    namespace.enter(|| TcpStream::connect(("127.0.0.1", port)).expect("a connection"))
}

fn agents_text(runner: &Runner) -> String {
    runner.command(&["metrics"]).done().stdout
}

#[test]
fn prometheus_reads_a_mesh_at_work_and_every_alert_and_panel_has_its_metric() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = world.coordinator(&["--metrics", COORDINATOR]);
        declare(&coordinator, &[SHOP]);
        let mut aws = world.runner(&coordinator, "aws", Stack::Dual);
        let gcp = world.runner(&coordinator, "gcp", Stack::Dual);
        aws.stop();
        aws.start(&["--metrics", AGENT]);
        let (app, db) = (aws.attach("shop/app"), gcp.attach("shop/db"));
        let server = db.serve_named(5432);
        let connection = app.connect(db.service_address, 5432).expect("a connection");
        aws.command(&["status", "--check"]).done();

        let at = coordinator.namespace();
        assert_eq!(get(at, "http://127.0.0.1:9743/healthz"), ("ok\n".to_owned(), "200".to_owned()));
        assert_eq!(get(at, "http://127.0.0.1:9743/readyz"), ("ready\n".to_owned(), "200".to_owned()));
        assert_eq!(get(at, "http://127.0.0.1:9743/v1/admin/nodes").1, "404", "nothing but what it is for");
        // Silent strangers don't keep monitoring out.
        let strangers: Vec<TcpStream> = (0..8).map(|_| silent(at, 9743)).collect();
        let (text, _) = get(at, "http://127.0.0.1:9743/metrics");
        drop(strangers);
        is_sound(&text);
        for (name, value) in [
            (r#"mesh_coord_runners{provider="aws",state="online"}"#, 1.0),
            (r#"mesh_coord_runners{provider="gcp",state="silent"}"#, 0.0),
            (r#"mesh_coord_instances{state="live"}"#, 2.0),
            (r"mesh_coord_streams", 2.0),
            (r"mesh_coord_store_errors_total", 0.0),
        ] {
            assert_eq!(number(&text, name), Some(value), "{name} in\n{text}");
        }
        let open = r#"mesh_node_open_connections{service="shop/db"}"#;
        wait::until_true("the connection to be counted", || number(&agents_text(&gcp), open) == Some(1.0));
        let of_gcp = agents_text(&gcp);
        let (of_aws, _) = get(aws.namespace(), "http://127.0.0.1:9744/metrics");
        is_sound(&of_gcp);
        is_sound(&of_aws);
        assert_eq!(number(&of_aws, r#"mesh_node_peers{path="direct"}"#), Some(1.0), "{of_aws}");
        assert_eq!(number(&of_aws, "mesh_node_coordinator_connected"), Some(1.0), "{of_aws}");
        let sent = number(&of_aws, r#"mesh_node_peer_sent_bytes_total{peer="gcp"}"#);
        assert!(sent > Some(100.0), "{of_aws}");
        is_all_known(&[&text, &of_gcp, &of_aws]);

        let address = aws.json(&["status"])["endpoints"][0].as_str().expect("an address").to_owned();
        let host = address.rsplit_once(':').expect("a port").0.to_owned();
        let jobs = [("mesh-coord", "127.0.0.1:9743".to_owned()), ("mesh-node", format!("{host}:9744"))];
        let mut prometheus = Prometheus::start(at, &jobs);
        wait::until_true("Prometheus to have read both", || prometheus.value("sum(up)") == Some(2.0));
        assert_eq!(prometheus.value(r#"mesh_coord_instances{state="live"}"#), Some(2.0));
        assert_eq!(prometheus.value("sum(mesh_node_coordinator_connected)"), Some(1.0));
        assert_eq!(prometheus.value("count(ALERTS)"), None, "nothing is wrong");
        drop(prometheus);

        // The agent remembers where, and says what is wrong.
        aws.stop();
        aws.start(&[]);
        assert_eq!(get(aws.namespace(), "http://127.0.0.1:9744/metrics").1, "200");
        coordinator.stop();
        wait::until_true("the agent to notice", || !aws.command(&["status", "--json"]).is_connected());
        let check = aws.command(&["status", "--check", "--json"]).expect_code(1).json();
        assert_eq!(check["problems"][0]["code"], "away", "{check:#}");
        assert_eq!(number(&agents_text(&aws), "mesh_node_coordinator_connected"), Some(0.0));
        drop((connection, server));
    });
}

#[test]
fn the_rules_of_the_documentation_are_valid() {
    let mut promtool = Command::new("promtool");
    promtool.arg("check").arg("rules").arg(docs().join("alerts.yml"));
    run(promtool).done();
}
