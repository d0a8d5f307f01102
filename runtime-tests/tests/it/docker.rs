//! Docker with `mesh-runc` as its runtime: a container with a service's label is attached at its start.

use mesh_netns_tests::{isolated, wait};
use mesh_runtime_tests::{Docker, Stage};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\nport = 5432\n";
/// Not by cat: busybox's passes the file's own pages (sendfile(2)), and when Docker reads them the container may have
/// ended and its names be gone.
const HOSTS: &str = "grep . /etc/hosts";
const APP: [&str; 2] = ["--label", "mesh.service=shop/app"];
const DB: [&str; 2] = ["--label", "mesh.service=shop/db"];

fn stage() -> (Stage, Docker) {
    let stage = Stage::new(&[SHOP]);
    let docker = Docker::start(&stage.lab, &stage.aws);
    (stage, docker)
}

#[test]
fn interface_names_and_variables_are_there_before_the_first_instruction() {
    isolated(|| {
        let (stage, docker) = stage();
        let db = stage.coordinator.address_of("shop/db");
        let own = stage.coordinator.address_of("shop/app");
        docker.command(&["network", "create", "private"]).done();
        let before = stage.census();
        for network in ["bridge", "none", "private"] {
            let flags = [&APP[..], &["--network", network]].concat();
            let said = docker.run(&flags, &format!("ip addr show mesh0; echo \"$WARP_IST_db\"; {HOSTS}")).done().stdout;
            assert!(said.contains(&format!("inet {own}/32")), "{network}: {said}");
            assert!(said.contains(&format!("\n{db}\n")), "{network}: {said}");
            assert!(said.contains(&format!("{db} db.warp\n")), "{network}: {said}");
            assert!(said.contains("localhost"), "Docker's own lines stay: {said}");
        }
        stage.nothing_is_left(&before);
    });
}

#[test]
fn containers_reach_each_other_and_untrusted_ones_do_not() {
    isolated(|| {
        let (stage, docker) = stage();
        stage.coordinator.apply("deployment = \"billing\"\n[services.api]\n").done();
        let _db = docker.container(&DB, &["nc", "-ll", "-p", "5432", "-e", "echo", "the price list"]);
        assert_eq!(stage.instances(), ["shop/db live"]);
        let ask = "until nc -w 5 db.warp 5432 </dev/null; do sleep 0.1; done";
        assert_eq!(docker.run(&APP, ask).done().stdout, "the price list\n");
        let ask = "nc $WARP_IST_db 5432 </dev/null";
        assert_eq!(docker.run(&APP, ask).done().stdout, "the price list\n");
        let db = stage.coordinator.address_of("shop/db");
        let said = docker.run(&["--label", "mesh.service=billing/api"], &format!("nc {db} 5432 </dev/null"));
        assert!(said.stderr.contains("No route to host"), "{}", said.expect_code(1).stderr);
    });
}

#[test]
fn a_further_process_has_the_variables_too() {
    isolated(|| {
        let (stage, docker) = stage();
        let address = stage.coordinator.address_of("shop/app");
        let db = docker.container(&[&DB[..], &["--env", "PORT=1", "--env", "MINE=yes"]].concat(), &["sleep", "1000"]);
        let show = "echo $WARP_IST_app $PORT $MINE";
        assert_eq!(docker.exec(&db, &[], show).done().stdout, format!("{address} 5432 yes\n"));
        assert_eq!(
            docker.exec(&db, &["--env", "PORT=9"], show).done().stdout,
            format!("{address} 9 yes\n"),
            "what it is given itself it keeps"
        );
        let plain = docker.container(&[], &["sleep", "1000"]);
        assert_eq!(docker.exec(&plain, &[], "env | grep -c WARP").expect_code(1).stdout, "0\n");
    });
}

#[test]
fn a_shared_namespace_is_one_instance_until_the_last_container_ends() {
    isolated(|| {
        let (stage, docker) = stage();
        let db = docker.container(&[&DB[..], &["--name", "db"]].concat(), &["sleep", "1000"]);
        let beside = docker.container(&[&DB[..], &["--network", "container:db"]].concat(), &["sleep", "1000"]);
        assert_eq!(stage.instances(), ["shop/db live"]);
        assert_eq!(docker.exec(&beside, &[], "ls /sys/class/net | grep mesh").done().stdout, "mesh0\n");
        docker.command(&["stop", "--time", "0", &beside.id]).done();
        assert_eq!(stage.instances(), ["shop/db live"]);
        assert!(docker.hosts(&db).contains("db.warp"), "the hosts file of both stays: {}", docker.hosts(&db));
        let other = docker.run(&[&APP[..], &["--network", "container:db"]].concat(), "true");
        assert!(other.stderr.contains("of shop/db already"), "{}", other.stderr);
        docker.command(&["stop", "--time", "0", &db.id]).done();
        wait::until_true("the instance to be gone", || stage.instances().is_empty());
    });
}

#[test]
fn whose_namespace_others_share_can_be_restarted() {
    isolated(|| {
        let (stage, docker) = stage();
        let db = docker.container(&[&DB[..], &["--name", "db"]].concat(), &["sleep", "1000"]);
        // Docker also mounts that container's hosts file, and leaves it in the earlier namespace.
        let beside = docker.container(&[&DB[..], &["--network", "container:db"]].concat(), &["sleep", "1000"]);
        docker.command(&["restart", "--time", "0", &db.id]).done();
        for container in [&db, &beside] {
            docker.exec(container, &[], "ip addr show mesh0 && grep app.warp /etc/hosts").done();
        }
        docker.command(&["stop", "--time", "0", &beside.id]).done();
        wait::until_true("the instance of before to be gone", || stage.instances() == ["shop/db live"]);
        assert!(docker.hosts(&db).contains("app.warp"), "the names stay: {}", docker.hosts(&db));
        docker.command(&["stop", "--time", "0", &db.id]).done();
        wait::until_true("the instance to be gone", || stage.instances().is_empty());
    });
}

#[test]
fn the_networks_of_docker_stay_as_they_are() {
    isolated(|| {
        let (stage, docker) = stage();
        docker.command(&["network", "create", "private"]).done();
        let db =
            docker.container(&[&DB[..], &["--network", "private", "--name", "store"]].concat(), &["sleep", "1000"]);
        let beside = docker.container(&["--network", "private"], &["sleep", "1000"]);
        let address = stage.coordinator.address_of("shop/db");
        // Docker's resolver answers for its network; the mesh's names are in the hosts file.
        assert!(docker.exec(&db, &[], "cat /etc/hosts").done().stdout.contains(&format!("{address} db.warp\n")));
        docker.exec(&db, &[], "nc -l -p 80 -e echo hello & ip route | grep default").done();
        assert!(docker.exec(&beside, &[], "ls /sys/class/net").done().stdout.lines().all(|name| name != "mesh0"));
        docker.command(&["network", "create", "further"]).done();
        for how in ["connect", "disconnect"] {
            docker.command(&["network", how, "further", &db.id]).done();
            docker.exec(&db, &[], "ip addr show mesh0").done();
            // Docker has rewritten the file.
            let named = || docker.exec(&db, &[], "cat /etc/hosts").done().stdout.contains("db.warp\n");
            wait::until_true("our names to be back", named);
        }
    });
}

#[test]
fn a_container_can_at_most_cut_itself_off() {
    isolated(|| {
        let (stage, docker) = stage();
        let changes = [
            "ip link set mesh0 down",
            "ip link del mesh0",
            "ip addr add 100.112.0.77/32 dev mesh0",
            "ip route del 100.112.0.0/12",
            "ip rule del pref 12",
        ];
        let ordinary = docker.container(&DB, &["sleep", "1000"]);
        for change in changes {
            let refused = docker.exec(&ordinary, &[], change);
            assert!(refused.stderr.contains("not permitted"), "{change}: {}", refused.stderr);
        }
        let admin = docker.container(&[&APP[..], &["--cap-add", "NET_ADMIN"]].concat(), &["sleep", "1000"]);
        assert_eq!(stage.instances().len(), 2);
        docker.exec(&admin, &[], "ip link del mesh0").done();
        wait::until_true("the end of that one instance", || stage.instances() == ["shop/db live"]);
        docker.command(&["rm", "--force", &admin.id]).done();
        docker.exec(&ordinary, &[], "ip addr show mesh0").done();
    });
}

#[test]
fn a_privileged_container_gets_no_other_identity() {
    isolated(|| {
        let (stage, docker) = stage();
        stage.coordinator.apply("deployment = \"billing\"\n[services.api]\n").done();
        let (db, api) = (stage.coordinator.address_of("shop/db"), stage.coordinator.address_of("billing/api"));
        let serve = ["nc", "-ll", "-p", "5432", "-e", "echo", "the price list"];
        let served = docker.container(&DB, &serve);
        let ask = format!("until nc -w 5 {db} 5432 </dev/null; do sleep 0.1; done");
        assert_eq!(docker.run(&APP, &ask).done().stdout, "the price list\n");
        // The part of `--privileged` that concerns networks. (With all of it, the machine's root must have all of it as
        // well.)
        let powers = ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"].map(|power| ["--cap-add", power]).concat();
        let flags = [&["--label", "mesh.service=billing/api", "--network", "none"][..], &powers].concat();
        let sly = docker.container(&flags, &["sleep", "1000"]);
        // The address of a permitted caller, on its own interface.
        let app = stage.coordinator.address_of("shop/app");
        for address in [app, db] {
            docker.exec(&sly, &[], &format!("ip addr add {address}/32 dev mesh0")).done();
        }
        let forged = docker.exec(&sly, &[], &format!("nc -w 3 -s {app} {db} 5432 </dev/null"));
        assert!(forged.code != Some(0) && !forged.stdout.contains("price"), "{}", forged.stdout);
        // It isn't reachable by that address either.
        docker.exec(&sly, &["--detach"], "nc -ll -p 5432 -e echo forged").done();
        assert_eq!(docker.run(&APP, &ask).done().stdout, "the price list\n");
        assert!(docker.exec(&served, &[], "ip addr show mesh0").done().stdout.contains(&db.to_string()));
        // Its own identity still works.
        assert!(docker.exec(&sly, &[], "ip addr show mesh0").done().stdout.contains(&api.to_string()));
    });
}

#[test]
fn a_docker_with_user_namespaces() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let docker = Docker::start_remapped(&stage.lab, &stage.aws);
        let before = stage.census();
        let app = stage.coordinator.address_of("shop/app");
        let look = format!("grep . /proc/self/uid_map; ip addr show mesh0; echo $WARP_IST_app; {HOSTS}");
        for network in ["bridge", "none"] {
            let flags = [&DB[..], &["--network", network, "--cap-add", "NET_ADMIN"]].concat();
            let said = docker.run(&flags, &look).done().stdout;
            assert!(!said.starts_with("         0          0"), "it is root of the machine: {said}");
            assert!(said.contains("mesh0") && said.contains(&format!("\n{app}\n")), "{said}");
            assert!(said.contains(&format!("{app} app.warp\n")), "{said}");
        }
        stage.nothing_is_left(&before);
        let db = docker.container(&DB, &["sleep", "1000"]);
        docker.command(&["restart", "--time", "0", &db.id]).done();
        let look = format!("echo $WARP_IST_app; {HOSTS}; ip addr show mesh0");
        let said = docker.exec(&db, &[], &look).done().stdout;
        assert!(said.starts_with(&format!("{app}\n")) && said.contains(&format!("{app} app.warp\n")), "{said}");
        kill(Pid::from_raw(docker.pid(&db)), Signal::SIGKILL).expect("cannot kill a container");
        stage.nothing_is_left(&before);
    });
}

/// With Docker's own resolver behind ours, as on a network of one's own, and without.
#[test]
fn the_resolver_is_the_first_server_where_a_label_asks_for_it() {
    isolated(|| {
        let (stage, docker) = stage();
        let db = stage.coordinator.address_of("shop/db");
        docker.command(&["network", "create", "private"]).done();
        let neighbour = ["--network", "private", "--name", "neighbour"];
        let _neighbour = docker.container(&neighbour, &["sleep", "1000"]);
        let before = stage.census();
        let ask = "cat /etc/resolv.conf; nslookup -type=a db.warp; nslookup -type=a all.app.warp";
        for network in ["bridge", "private"] {
            let flags = [&APP[..], &["--label", "mesh.dns=true", "--network", network]].concat();
            let said = docker.run(&flags, ask).done().stdout;
            assert!(said.contains("nameserver 100.127.255.254"), "{network}: {said}");
            assert!(said.contains("search shop.warp warp"), "{network}: {said}");
            let servers: Vec<&str> = said.lines().filter(|line| line.starts_with("nameserver ")).collect();
            assert_eq!(servers[0], "nameserver 100.127.255.254", "{network}: {said}");
            assert!(said.contains(&format!("Address: {db}")), "{network}: {said}");
            let flags = [&APP[..], &["--network", network]].concat();
            let said = docker.run(&flags, "cat /etc/resolv.conf").done().stdout;
            assert!(!said.contains("100.127.255.254"), "not asked for: {said}");
        }
        let flags = [&APP[..], &["--label", "mesh.dns=true", "--network", "private"]].concat();
        let said = docker.run(&flags, "cat /etc/resolv.conf; ping -c 1 -W 20 neighbour").done().stdout;
        assert!(said.contains("nameserver 127.0.0.11") && said.contains("1 packets received"), "{said}");
        stage.nothing_is_left(&before);
    });
}
