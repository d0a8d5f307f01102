//! What 0.1 left is taken over: its coordinator's database and its agent's state directory, as its programs made them
//! (`files/0.1`).

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use mesh_netns_tests::{
    Coordinator, Daemon, Namespace, Runner, Stack, World, isolated, run,
    traffic::{Answer, Server},
    wait,
};
use serde_json::{Value, json};

use crate::common::reaches;

fn files(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("files/0.1").join(name)
}

/// What the programs of 0.1 said before they were stopped.
fn said() -> Value {
    serde_json::from_slice(&fs::read(files("said.json")).expect("the file")).expect("JSON")
}

/// A token by what became of it.
fn token(name: &str) -> String {
    said()["tokens"][name]["token"].as_str().expect("a token").to_owned()
}

/// Copies a directory that 0.1 left to where a program of the test will look for it.
fn leave(name: &str, to: &Path) {
    fs::create_dir(to).expect("a new directory");
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("its mode");
    for entry in fs::read_dir(files(name)).expect("the directory") {
        let from = entry.expect("an entry").path();
        let to = to.join(from.file_name().expect("a name"));
        fs::copy(&from, &to).expect("a copy");
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("its mode");
    }
}

/// A coordinator with the database of 0.1, at the address that its runners know.
fn coordinator(world: &World) -> Coordinator {
    leave("coordinator", Path::new("/run/coord"));
    world.coordinator(&[])
}

/// The machine of an agent of 0.1, at its old address, without its instances.
fn alpha(world: &World) -> Runner {
    leave("agent", Path::new("/run/alpha"));
    world.machine("alpha", Stack::Dual)
}

/// What an old answer says and a new one doesn't, except for what depends on the time and on who is connected.
fn lost(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    const CHANGES: [&str; 4] = ["last_seen_seconds", "expires_seconds", "pending", "revision"];
    const CONNECTED: [&str; 6] = ["live", "draining", "client", "unreachable", "online", "silent"];
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old.iter().filter(|(key, _)| !CHANGES.contains(&key.as_str())) {
                lost(&format!("{path}.{key}"), value, new.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (n, (old, new)) in old.iter().zip(new).enumerate() {
                lost(&format!("{path}[{n}]"), old, new, found);
            }
        }
        (Value::String(old), Value::String(new))
            if path.ends_with(".state") && [old, new].iter().all(|state| CONNECTED.contains(&state.as_str())) => {}
        (old, new) if old == new => {}
        (old, new) => found.push(format!("{path}: {old} became {new}")),
    }
}

/// What a coordinator was asked, by the names of the answers.
const QUESTIONS: [(&str, &[&str]); 9] = [
    ("deployments", &["deployments"]),
    ("services", &["services"]),
    ("instances", &["instances"]),
    ("nodes", &["nodes"]),
    ("tokens", &["token", "list"]),
    ("audit", &["audit"]),
    ("trust-shop", &["trust", "--app", "shop"]),
    ("trust-billing", &["trust", "--app", "billing"]),
    ("trust-blog", &["trust", "--app", "blog"]),
];

/// A coordinator says all that the one of 0.1 said.
#[track_caller]
fn compare(coordinator: &Coordinator) {
    let mut found = vec![];
    for (name, question) in QUESTIONS {
        lost(name, &said()["coordinator"][name], &coordinator.json(question), &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_coordinators_database_is_taken_over_with_everything_in_it() {
    isolated(|| {
        let world = World::new();
        let mut coordinator = coordinator(&world);
        compare(&coordinator);
        // And as 0.2 has written it.
        coordinator.stop();
        coordinator.start();
        compare(&coordinator);
    });
}

#[test]
fn tokens_of_0_1_are_good_for_what_they_were() {
    isolated(|| {
        let world = World::new();
        let coordinator = coordinator(&world);
        let url = coordinator.url(false);
        for (name, why) in [("used-up", "used"), ("revoked", "revoked")] {
            let machine = world.machine(name, Stack::Dual);
            machine.join_in_vain(&[&url, &token(name), "--name", name]).refused(&[why]);
        }
        let mut last = world.machine("last", Stack::Dual);
        last.start(&[&url, &token("some-uses-left"), "--name", "last"]);
        let machine = world.machine("none", Stack::Dual);
        machine.join_in_vain(&[&url, &token("some-uses-left"), "--name", "none"]).refused(&["used"]);
        let mut press = world.machine("press", Stack::Dual);
        press.start(&[&url, &token("unused"), "--name", "press"]);
        press.attach("blog/web");
        let mut command = coordinator.prepare(&["deployments", "--url", &url, "--json"]);
        command.env("MESH_ADMIN_TOKEN", token("admin-of-acme"));
        let seen = run(command).done().json();
        let names: Vec<_> =
            seen["deployments"].as_array().expect("an array").iter().map(|d| d["deployment"].clone()).collect();
        assert_eq!(json!(names), json!(["billing", "office", "shop"]), "those of its team");
    });
}

#[test]
fn an_agent_of_0_1_ends_what_is_gone_and_remembers_its_flags() {
    isolated(|| {
        let world = World::new();
        let coordinator = coordinator(&world);
        let mut alpha = alpha(&world);
        alpha.start(&[]);
        let (before, after) = (&said()["agent"], alpha.json(&["status"]));
        for field in ["runner", "port", "endpoints"] {
            assert_eq!(before[field], after[field], "{field}");
        }
        assert_eq!(after["port"], 51999, "--listen counts still");
        // The machine was started anew: no namespace is there any more.
        assert_eq!(after["instances"], json!([]));
        wait::until_true("the coordinator to hear of all ends", || {
            let all = coordinator.json(&["instances"]);
            all["instances"].as_array().expect("an array").iter().all(|instance| instance["runner"] != "alpha")
        });
        let node = coordinator.node("alpha").expect("the runner");
        assert_eq!((&node["provider"], &node["state"]), (&json!("hetzner"), &json!("online")), "{node:#}");
        assert_eq!(node["endpoints"], json!(["10.77.0.9:51999"]), "--endpoint counts still");
    });
}

#[test]
fn its_records_move_to_three_coordinators_and_back_and_its_agent_follows() {
    isolated(|| {
        let world = World::new();
        leave("coordinator", Path::new("/run/coord"));
        let first = world.coordinator_to_start("coord", &[]);
        let mut alpha = alpha(&world);
        let etcd = world.etcd(3);
        let store = ["--store", &etcd.store()];
        first.command(&["migrate", "--from", "/run/coord", "--to", store[1]]).done();
        first.command(&["keys", "export", "/run/keys"]).done();
        let others = ["second", "third"].map(|name| world.coordinator_to_start(name, &store));
        others.iter().for_each(|other| drop(other.command(&["keys", "import", "/run/keys"]).done()));
        let [second, third] = others;
        let mut all = [first.with_flags(&store), second, third];
        for coordinator in &mut all {
            coordinator.start();
            compare(coordinator);
        }
        alpha.start(&[]);
        for coordinator in &all {
            let node = coordinator.node("alpha").expect("the runner");
            let old = said()["coordinator"]["nodes"]["nodes"].clone();
            let old = old.as_array().expect("an array").iter().find(|node| node["name"] == "alpha").cloned();
            assert_eq!((&node["id"], &node["state"]), (&old.expect("it")["id"], &json!("online")), "the same runner");
        }
        all.iter_mut().for_each(|coordinator| assert!(coordinator.stop().success()));
        let [first, ..] = all;
        first.command(&["migrate", "--from", store[1], "--to", "/run/coord"]).done();
        let mut back = first.with_flags(&[]);
        back.start();
        alpha.wait_connected();
        wait::until_true("the runner to be known", || back.node("alpha").is_some_and(|node| node["state"] == "online"));
        alpha.run("shop/app", &["true"]).done();
    });
}

/// More than any process's number is.
const PIDS: u64 = 5_000_000;

/// A namespace, as the files have it.
fn numbers(dev: &Value, ino: &Value) -> String {
    format!("{{\"dev\":{dev},\"ino\":{ino}}}")
}

/// What an agent of 0.1 left on its machine, with the numbers that it has here: those of namespaces and processes change
/// with every start of a machine.
struct Left {
    state: PathBuf,
    files: [(&'static str, String); 3],
}

impl Left {
    fn by(alpha: &Runner) -> Self {
        let state = alpha.state().to_owned();
        let read = |name| (name, fs::read_to_string(state.join(name)).expect("the file"));
        let mut left =
            Self { files: ["instances.json", "containers.json", "boot.json"].map(read), state: state.clone() };
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("the boot");
        left.renumber(left.instances()["boot"].as_str().expect("a boot"), boot.trim());
        left.set_apart();
        left
    }

    /// Gives every namespace and process a number that none has here: one that was made for this test could have the number
    /// that another one of the files had.
    fn set_apart(&mut self) {
        let all = self.instances();
        for (at, left) in (1..).zip(all["attachments"].as_array().expect("an array")) {
            let namespace = &left["namespace"];
            self.renumber(&numbers(&namespace["dev"], &namespace["ino"]), &numbers(&namespace["dev"], &json!(at)));
            if let Some(process) = left["place"]["process"].as_u64() {
                self.renumber_process(process, PIDS + at);
            }
        }
    }

    fn renumber_process(&mut self, old: u64, new: u64) {
        for (old, new) in [
            (format!("\"process\":{old}}}"), format!("\"process\":{new}}}")),
            (format!("\"pid\":{old},"), format!("\"pid\":{new},")),
            (format!("/proc/{old}/"), format!("/proc/{new}/")),
        ] {
            self.renumber(&old, &new);
        }
    }

    fn instances(&self) -> Value {
        serde_json::from_str(&self.files[0].1).expect("JSON")
    }

    fn renumber(&mut self, old: &str, new: &str) {
        self.files.iter_mut().for_each(|(_, text)| *text = text.replace(old, new));
    }

    /// The namespace of an instance is this one, with the interface that was made there.
    fn instance(&mut self, instance: &str, namespace: &Path) {
        let all = self.instances();
        let mut attachments = all["attachments"].as_array().expect("an array").iter();
        let left = attachments.find(|left| left["instance"] == instance).expect("the instance");
        let metadata = fs::metadata(namespace).expect("the namespace");
        let old = numbers(&left["namespace"]["dev"], &left["namespace"]["ino"]);
        self.renumber(&old, &numbers(&json!(metadata.dev()), &json!(metadata.ino())));
        let mut make = Command::new("nsenter");
        make.arg(format!("--net={}", namespace.display())).args(["sh", "-euc"]);
        make.arg("ip tuntap add dev mesh0 mode tun user 0; ip link set mesh0 alias \"mesh-node $0\"");
        make.arg(left["mark"].as_str().expect("a mark"));
        run(make).done();
    }

    /// The instance of a process that had this number.
    fn process(&mut self, instance: &str, old: u32, process: &Daemon) {
        let new = process.pid();
        self.renumber_process(old.into(), new.into());
        self.instance(instance, Path::new(&format!("/proc/{new}/ns/net")));
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        for (name, text) in &self.files {
            fs::write(self.state.join(name), text).expect("a write");
        }
    }
}

/// A process of 0.1's runner, with its hosts file.
fn process(name: &str) -> Daemon {
    hosts(name);
    let mut command = Command::new("unshare");
    let script = format!("mount --bind /run/hosts-{name} /etc/hosts; touch /run/ready-{name}; exec sleep infinity");
    command.args(["--net", "--mount", "sh", "-euc", &script]);
    let process = Daemon::start(command, Path::new(&format!("/run/{name}.log")));
    wait::until_true("the process to be ready", || Path::new(&format!("/run/ready-{name}")).exists());
    process
}

const THEIRS: &str = "127.0.0.1 localhost\n";

/// A hosts file as 0.1 left it.
fn hosts(name: &str) {
    let block = "# mesh-node begin\n100.96.0.7 a-former-name\n# mesh-node end\n";
    fs::write(format!("/run/hosts-{name}"), format!("{THEIRS}{block}")).expect("a hosts file");
}

#[test]
fn an_agent_of_0_1_left_instances_that_go_on() {
    isolated(|| {
        let world = World::new();
        let coordinator = coordinator(&world);
        let mut alpha = alpha(&world);
        let namespaces = ["alpha-0", "alpha-1"].map(Namespace::create);
        ["alpha-0", "alpha-1", "alpha-2"].into_iter().for_each(hosts);
        let (app, container) = (process("app"), process("container"));
        let mut left = Left::by(&alpha);
        left.instance("i-1", &namespaces[0].path());
        left.instance("i-2", &namespaces[1].path());
        left.process("i-5", number(&left.instances(), "i-5"), &app);
        left.process("i-6", number(&left.instances(), "i-6"), &container);
        drop(left);
        alpha.start(&[]);

        // Those whose namespace is there: as they were. The others have ended, also at the coordinator.
        let mut found = vec![];
        let said = said();
        let old = said["agent"]["instances"].as_array().expect("an array");
        let there = ["i-1", "i-2", "i-5", "i-6"];
        let old: Vec<_> = old.iter().filter(|old| there.iter().any(|id| old["id"] == *id)).cloned().collect();
        lost("instances", &json!(old), &alpha.json(&["status"])["instances"], &mut found);
        assert!(found.is_empty(), "{found:#?}");
        let known = || {
            let all = coordinator.json(&["instances"]);
            let all = all["instances"].as_array().expect("an array").iter().filter(|known| known["runner"] == "alpha");
            let mut all: Vec<_> = all.map(|known| format!("{} {}", known["id"], known["state"])).collect();
            all.sort();
            all.join(", ").replace('"', "")
        };
        wait::until_true("the ends to be known", || known() == "i-1 live, i-2 draining, i-5 live, i-6 live");

        // They have their names, and are reached.
        let read = |name: &str| fs::read_to_string(format!("/run/hosts-{name}")).expect("a hosts file");
        for name in ["alpha-0", "app", "container"] {
            let named = || read(name).starts_with(THEIRS) && read(name).contains(" db.warp\n");
            wait::until_true("the names", || named() && !read(name).contains("a-former-name"));
        }
        wait::until_true("no names of an ended one", || read("alpha-2") == THEIRS);
        let caller = alpha.attach_in(Namespace::create("caller"), "shop/app");
        let _server = Server::start(&namespaces[0], 5432, Answer::Echo);
        reaches(&caller, coordinator.address_of("shop/db"), 5432);

        // Their ends are noticed: of the process, and of the container by its runtime.
        app.kill();
        wait::until_true("the end of the process", || !known().contains("i-5"));
        let id = said["agent"]["instances"][5]["containers"][0].as_str().expect("a container");
        let state = json!({"ociVersion": "1.0.2", "id": id, "status": "stopped"}).to_string();
        fs::write("/run/state", state).expect("the state");
        let mut hook = alpha.prepare(&["hook", "poststop"]);
        hook.stdin(fs::File::open("/run/state").expect("the state"));
        assert!(hook.status().expect("the hook").success());
        wait::until_true("the end of the container", || !known().contains("i-6"));
        assert_eq!(read("container"), THEIRS);
    });
}

/// The number of the process in whose namespace an instance was.
fn number(instances: &Value, instance: &str) -> u32 {
    let mut all = instances["attachments"].as_array().expect("an array").iter();
    let place = &all.find(|left| left["instance"] == instance).expect("the instance")["place"];
    let digits: String = place.to_string().chars().filter(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}
