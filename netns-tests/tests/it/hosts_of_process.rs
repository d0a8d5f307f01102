//! The hosts file of a process (`attach --pid`): it is written by that process's rights, and followed where it goes.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use mesh_netns_tests::{Daemon, isolated, wait};

use crate::hosts_file::{container, stage};

#[test]
fn by_process_the_containers_own_file_is_found_and_its_end_is_noticed() {
    isolated(|| {
        let (_world, coordinator, aws) = stage();
        fs::write("/run/theirs", "127.0.0.1 localhost\n").expect("a file");
        let container = container("mount --bind /run/theirs /etc/hosts");
        let machines = fs::read("/etc/hosts").expect("the machine's own");
        aws.command(&["attach", "shop/db", "--pid", &container.pid().to_string()]).done();
        let text = fs::read_to_string("/run/theirs").expect("the file");
        assert!(text.contains(" app.warp"), "{text}");
        assert_eq!(fs::read("/etc/hosts").expect("still there"), machines);
        container.kill();
        wait::until_true("the end to be noticed", || {
            coordinator.json(&["instances"])["instances"].as_array().is_some_and(Vec::is_empty)
        });
        assert_eq!(fs::read("/etc/hosts").expect("still there"), machines);
    });
}

#[test]
fn by_process_a_container_cannot_make_root_write_elsewhere() {
    isolated(|| {
        let (_world, coordinator, aws) = stage();
        fs::write("/run/victim", "precious\n").expect("a file");
        for (trick, word) in [
            ("mount -t tmpfs x /etc; ln -s /run/victim /etc/hosts", "symbolic link"),
            ("mount -t tmpfs x /etc; mkfifo /etc/hosts", "regular file"),
            ("mount -t tmpfs x /etc", ""),
            ("true", "own"), // it has no file of its own, so this is the machine's
        ] {
            let container = container(trick);
            let refused = aws.command(&["attach", "shop/db", "--pid", &container.pid().to_string()]).refused(&[word]);
            assert!(refused.stderr.contains("hosts"), "{trick}: {}", refused.stderr);
            container.kill();
        }
        assert_eq!(fs::read_to_string("/run/victim").expect("still there"), "precious\n");
        assert!(!fs::read_to_string("/etc/hosts").expect("still there").contains("warp"));
        let instances = coordinator.json(&["instances"]);
        assert_eq!(instances["instances"].as_array().map(Vec::len), Some(0), "{instances:#}");
    });
}

/// A process whose `/etc/hosts` is a file that it can't write itself.
fn lodger(how: &str) -> Daemon {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-euc", how]);
    let lodger = Daemon::start(command, Path::new("/run/lodger.log"));
    wait::until_true("the process to be ready", || Path::new("/run/ready").exists());
    fs::remove_file("/run/ready").expect("its sign");
    lodger
}

#[test]
fn root_writes_into_no_file_that_the_process_itself_could_not_write() {
    isolated(|| {
        let (_world, coordinator, aws) = stage();
        let settle = "touch /run/ready; exec sleep infinity";
        let bind = format!("mount --bind /run/victim /etc/hosts; {settle}");
        let as_user = "setpriv --reuid=12345 --regid=12345 --clear-groups";
        for victim in ["root:*:19000:0:99999:7:::\n", "127.0.0.1 localhost\n"] {
            for (owner, how) in [
                // An ordinary user's own namespaces; and root's mount, for a process that drops root.
                (0, format!("chmod 777 /run; exec {as_user} unshare --user --map-root-user --mount sh -euc '{bind}'")),
                (
                    0,
                    format!(
                        "chmod 777 /run; exec unshare --mount sh -euc 'mount --bind /run/victim /etc/hosts; exec {as_user} sh -c \"{settle}\"'"
                    ),
                ),
                // Root without its capabilities.
                (
                    7,
                    format!(
                        "exec unshare --mount sh -euc 'mount --bind /run/victim /etc/hosts; exec setpriv --bounding-set=-all --inh-caps=-all sh -c \"{settle}\"'"
                    ),
                ),
            ] {
                fs::write("/run/victim", victim).expect("a file");
                fs::set_permissions("/run/victim", fs::Permissions::from_mode(0o644)).expect("its mode");
                if std::os::unix::fs::chown("/run/victim", Some(owner), None).is_err() {
                    continue; // in a user namespace of one user
                }
                let process = lodger(&how);
                let attached = aws.command(&["attach", "shop/db", "--pid", &process.pid().to_string()]).done();
                assert!(
                    attached.stderr.contains("warning: ") && attached.stderr.contains("--hosts FILE"),
                    "{}",
                    attached.stderr
                );
                let status = aws.command(&["status", "--json"]).done().json();
                assert!(
                    status["instances"][0]["warnings"][0].as_str().is_some_and(|text| text.contains("--hosts FILE")),
                    "{status:#}"
                );
                assert_eq!(fs::read_to_string("/run/victim").expect("still there"), victim, "{how}");
                aws.command(&["detach", status["instances"][0]["id"].as_str().expect("an id")]).done();
                assert_eq!(fs::read_to_string("/run/victim").expect("still there"), victim, "{how}");
                process.kill();
            }
        }
        assert_eq!(coordinator.json(&["instances"])["instances"].as_array().map(Vec::len), Some(0));
    });
}

#[test]
fn a_container_that_mounts_another_file_later_gains_nothing() {
    isolated(|| {
        let (_world, _coordinator, aws) = stage();
        fs::write("/run/own", "127.0.0.1 localhost\n").expect("a file");
        if std::os::unix::fs::chown("/run/own", Some(12345), None).is_err() {
            return; // in a user namespace of one user
        }
        fs::write("/run/victim", "precious\n").expect("a file");
        let process = lodger(
            "chmod 777 /run; exec setpriv --reuid=12345 --regid=12345 --clear-groups unshare --user --map-root-user --mount sh -euc '\
             mount --bind /run/own /etc/hosts; touch /run/ready; until [ -e /run/go ]; do sleep 0.1; done; \
             mount --bind /run/victim /etc/hosts; chmod 600 /run/own; exec sleep infinity'",
        );
        aws.command(&["attach", "shop/db", "--pid", &process.pid().to_string()]).done();
        assert!(fs::read_to_string("/run/own").expect("its own").contains(" app.warp\n"), "its own file it may write");
        fs::write("/run/go", "").expect("the sign");
        let warned = || {
            aws.json(&["status"])["instances"][0]["warnings"][0]
                .as_str()
                .is_some_and(|text| text.contains("--hosts FILE"))
        };
        wait::until_true("the agent to look for the file, and to say that it is not written", warned);
        assert_eq!(fs::read_to_string("/run/victim").expect("still there"), "precious\n");
        let id = aws.json(&["status"])["instances"][0]["id"].as_str().expect("an id").to_owned();
        aws.command(&["detach", &id]).done();
        assert_eq!(fs::read_to_string("/run/victim").expect("still there"), "precious\n");
        assert_eq!(fs::read_to_string("/run/own").expect("its own"), "127.0.0.1 localhost\n");
        process.kill();
    });
}

/// `nsenter` into the mounts of a container.
fn inside(container: &Daemon, script: &str) {
    let mut command = Command::new("nsenter");
    command.args([&format!("--mount=/proc/{}/ns/mnt", container.pid()), "sh", "-euc", script]);
    assert!(command.status().expect("nsenter(1): install util-linux").success(), "{script}");
}

/// Which of these files hold names; the others are as they were.
fn named(files: &[&str]) -> Vec<bool> {
    let is_named = |file: &&str| {
        let text = fs::read_to_string(file).expect("the file");
        assert!(text.starts_with(THEIRS), "{text}");
        text.contains(" app.warp\n") || text != THEIRS
    };
    files.iter().map(is_named).collect()
}

const THEIRS: &str = "127.0.0.1 localhost\n";

#[test]
fn by_process_names_stay_in_no_file_that_a_mount_covers() {
    isolated(|| {
        let (_world, _coordinator, mut aws) = stage();
        let files = ["/run/first", "/run/second", "/run/third"];
        files.iter().for_each(|file| fs::write(file, THEIRS).expect("a file"));
        let container = container("mount --bind /run/first /etc/hosts");
        aws.command(&["attach", "shop/db", "--pid", &container.pid().to_string()]).done();
        assert_eq!(named(&files), [true, false, false]);
        // While the agent runs.
        inside(&container, "mount --bind /run/second /etc/hosts");
        wait::until_true("the names to follow", || named(&files) == [false, true, false]);
        // While it doesn't. Linux opens no file by its handle for an ordinary user (before 6.12).
        let of_root = fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.contains("4294967295"));
        if !of_root {
            return;
        }
        aws.kill();
        inside(&container, "mount --bind /run/third /etc/hosts");
        assert_eq!(named(&files), [false, true, false]);
        aws.start_alone(&[]);
        wait::until_true("the names to follow", || named(&files) == [false, false, true]);
        // And one that can't be kept.
        inside(&container, "mount -t tmpfs none /etc");
        let warnings = || aws.json(&["status"])["instances"][0]["warnings"].to_string();
        wait::until_true("a word of it", || named(&files) == [false; 3] && warnings().contains("/etc/hosts"));
        inside(&container, "umount --lazy /etc");
        wait::until_true("the names to be back", || {
            named(&files) == [false, false, true] && !warnings().contains("hosts")
        });
        let instance = aws.json(&["status"])["instances"][0]["id"].as_str().expect("an id").to_owned();
        aws.command(&["detach", &instance]).done();
        assert_eq!(named(&files), [false; 3]);
    });
}
