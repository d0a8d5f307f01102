//! The hosts file: our names are between markers and the rest is unchanged, and a container can't make root write
//! elsewhere.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use mesh_netns_tests::{Coordinator, Daemon, Namespace, Runner, Stack, World, isolated, wait};
use nix::{sys::stat::Mode, unistd::mkfifo};

use crate::common::{SHOP, declare};

fn stage() -> (World, Coordinator, Runner) {
    let world = World::new();
    let coordinator = world.coordinator(&[]);
    declare(&coordinator, &[SHOP]);
    let aws = world.runner(&coordinator, "aws", Stack::Dual);
    (world, coordinator, aws)
}

/// An attachment with such a file is refused completely: no interface, no instance.
#[track_caller]
fn is_refused(coordinator: &Coordinator, runner: &Runner, hosts: &Path, word: &str) {
    let namespace = Namespace::create("container");
    let (netns, hosts) = (namespace.path(), hosts.to_str().expect("ASCII"));
    runner
        .command(&["attach", "shop/db", "--netns", netns.to_str().expect("ASCII"), "--hosts", hosts])
        .refused(&[hosts, word]);
    assert!(namespace.interface("mesh0").is_none(), "no partial effect");
    let instances = coordinator.json(&["instances"]);
    assert_eq!(instances["instances"].as_array().map(Vec::len), Some(0), "{instances:#}");
}

#[test]
fn a_symbolic_link_is_not_followed() {
    isolated(|| {
        let (_world, coordinator, aws) = stage();
        fs::write("/run/victim", "precious\n").expect("a file");
        symlink("/run/victim", "/run/link").expect("a link");
        is_refused(&coordinator, &aws, Path::new("/run/link"), "symbolic link");
        fs::create_dir("/run/dir").expect("a directory");
        fs::write("/run/dir/hosts", "precious\n").expect("a file");
        symlink("/run/nothing", "/run/dangling").expect("a link");
        is_refused(&coordinator, &aws, Path::new("/run/dangling"), "symbolic link");
        assert_eq!(fs::read_to_string("/run/victim").expect("still there"), "precious\n");
        assert!(!Path::new("/run/nothing").exists());
    });
}

#[test]
fn a_fifo_a_device_a_directory_are_not_opened() {
    isolated(|| {
        let (_world, coordinator, aws) = stage();
        mkfifo("/run/fifo", Mode::S_IRWXU).expect("a FIFO");
        is_refused(&coordinator, &aws, Path::new("/run/fifo"), "regular file");
        is_refused(&coordinator, &aws, Path::new("/dev/null"), "regular file");
        is_refused(&coordinator, &aws, Path::new("/run/netns"), "regular file");
        is_refused(&coordinator, &aws, Path::new("/run/absent"), "");
    });
}

#[test]
fn a_file_larger_than_a_mebibyte_stays_as_it_is() {
    isolated(|| {
        let (_world, coordinator, aws) = stage();
        let line = "10.9.8.7 a-name-among-many\n";
        let large = line.repeat((1 << 20) / line.len() + 1);
        fs::write("/run/large", &large).expect("a file");
        is_refused(&coordinator, &aws, Path::new("/run/large"), "1048576");
        assert!(fs::read_to_string("/run/large").expect("still there") == large, "unharmed");
    });
}

#[test]
fn the_machines_own_file_by_any_name() {
    isolated(|| {
        let (_world, coordinator, aws) = stage();
        let before = fs::read("/etc/hosts").expect("the machine's own");
        is_refused(&coordinator, &aws, Path::new("/etc/hosts"), "own");
        // /run/hosts is the same file (device and inode) under another name, and this is a third one.
        is_refused(&coordinator, &aws, Path::new("/run/hosts"), "own");
        fs::hard_link("/run/hosts", "/run/third").expect("a hard link");
        is_refused(&coordinator, &aws, Path::new("/run/third"), "own");
        assert_eq!(fs::read("/etc/hosts").expect("still there"), before);
    });
}

#[test]
fn lines_that_were_there_stay_and_the_inode_does() {
    isolated(|| {
        let (_world, coordinator, aws) = stage();
        let theirs = "127.0.0.1 localhost\n# a comment\n192.0.2.1\tdb  other # theirs\nnonsense";
        fs::write("/run/hosts-mine", theirs).expect("a file");
        let inode = fs::metadata("/run/hosts-mine").expect("a file").ino();
        let namespace = Namespace::create("container");
        let path = namespace.path();
        aws.command(&["attach", "shop/app", "--netns", path.to_str().expect("ASCII"), "--hosts", "/run/hosts-mine"])
            .done();
        let text = fs::read_to_string("/run/hosts-mine").expect("the file");
        assert!(text.starts_with(theirs), "{text}");
        let ours: Vec<&str> = text[theirs.len()..].lines().filter(|l| !l.is_empty()).collect();
        let (first, last) = (ours.first().expect("a marker"), ours.last().expect("a marker"));
        assert!(first.starts_with('#') && last.starts_with('#') && first != last, "{text}");
        let names: Vec<(&str, &str)> = ours[1..ours.len() - 1].iter().filter_map(|line| line.split_once(' ')).collect();
        let db = coordinator.address_of("shop/db").to_string();
        assert!(names.contains(&(&db, "db.warp")) && names.contains(&(&db, "db.shop.warp")), "{text}");
        assert!(
            !names.iter().any(|(_, name)| *name == "db"),
            "a short name that the file already has is left out: {text}"
        );
        assert!(names.iter().any(|(_, name)| *name == "app"), "{text}");

        // It follows changes while the instance runs.
        declare(&coordinator, &["deployment = \"shop\"\n[services.app]\n[services.cache]\n[services.db]\n"]);
        wait::until_true("the new name", || {
            fs::read_to_string("/run/hosts-mine").expect("the file").lines().any(|line| line.ends_with(" cache.warp"))
        });
        declare(&coordinator, &[SHOP]);
        wait::until_true("the old names", || {
            !fs::read_to_string("/run/hosts-mine").expect("the file").contains("cache")
        });
        assert_eq!(fs::metadata("/run/hosts-mine").expect("a file").ino(), inode);
        aws.command(&["detach", "--netns", path.to_str().expect("ASCII")]).done();
        assert_eq!(fs::read_to_string("/run/hosts-mine").expect("the file").trim_end(), theirs);
    });
}

#[test]
fn a_file_that_holds_another_instances_names_is_refused() {
    isolated(|| {
        let (_world, coordinator, aws) = stage();
        fs::write("/run/shared", "127.0.0.1 localhost\n").expect("a file");
        let read = || fs::read_to_string("/run/shared").expect("the file");
        let (first, second) = (Namespace::create("first"), Namespace::create("second"));
        let attach = |service: &str, namespace: &Namespace| {
            let path = namespace.path();
            aws.command(&["attach", service, "--netns", path.to_str().expect("ASCII"), "--hosts", "/run/shared"])
        };
        attach("shop/db", &first).done();
        let named = read();
        attach("shop/app", &second).refused(&["/run/shared", "shop/db already", "of its own"]);
        assert!(second.interface("mesh0").is_none(), "no partial effect");
        assert_eq!(coordinator.json(&["instances"])["instances"].as_array().map(Vec::len), Some(1));
        assert_eq!(read(), named);
        aws.command(&["detach", "--netns", first.path().to_str().expect("ASCII")]).done();
        assert_eq!(read(), "127.0.0.1 localhost\n");
        attach("shop/app", &second).done();
        assert!(read().contains(" db.warp"), "{}", read());
    });
}

/// A process in its own namespaces, like a container's first one. `mounts` runs at its start.
fn container(mounts: &str) -> Daemon {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-euc", &format!("{mounts}; touch /run/ready; exec sleep infinity")]);
    let container = Daemon::start(command, Path::new("/run/container.log"));
    wait::until_true("the container to be ready", || Path::new("/run/ready").exists());
    fs::remove_file("/run/ready").expect("its sign");
    container
}

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
fn a_file_with_a_nul_byte_keeps_every_byte() {
    isolated(|| {
        let (_world, coordinator, aws) = stage();
        let program = b"\x7fELF\0\0 not a text\n\0\0";
        fs::write("/run/program", program).expect("a file");
        is_refused(&coordinator, &aws, Path::new("/run/program"), "NUL");
        let container = container("mount --bind /run/program /etc/hosts");
        aws.command(&["attach", "shop/db", "--pid", &container.pid().to_string()]).refused(&["NUL"]);
        container.kill();
        assert_eq!(fs::read("/run/program").expect("still there"), program);
    });
}

#[test]
fn names_that_others_push_in_are_bounded_and_always_taken_out_again() {
    isolated(|| {
        let (_world, coordinator, aws) = stage();
        let services: String = (0..4000).map(|n| format!("[services.a-service-of-another-deployment-{n}]\n")).collect();
        let crowd = |trust: &str| format!("deployment = \"crowd\"\ntrust = [{trust}]\n{services}");
        declare(&coordinator, &[&crowd("\"shop\"")]);
        let theirs = "127.0.0.1 localhost\n";
        fs::write("/run/theirs", theirs).expect("a file");
        let namespace = Namespace::create("container");
        let path = namespace.path();
        let netns = path.to_str().expect("ASCII");
        let attach = || aws.command(&["attach", "shop/app", "--netns", netns, "--hosts", "/run/theirs"]).done();
        let attached = attach();
        assert!(attached.stderr.contains("host names are left out"), "{}", attached.stderr);
        let read = || fs::read_to_string("/run/theirs").expect("the file");
        assert!(read().len() <= theirs.len() + (256 << 10), "{}", read().len());
        assert!(read().contains(" db.warp\n") && read().contains(".crowd.warp\n"));
        assert!(aws.command(&["hosts", "shop/app"]).done().stderr.contains("host names are left out"));
        // Changes are written, whatever other programs have inserted.
        declare(&coordinator, &["deployment = \"late\"\ntrust = [\"shop\"]\n[services.api]\n"]);
        wait::until_true("the new name", || read().contains(" api.late.warp\n"));
        declare(&coordinator, &[&crowd("")]);
        wait::until_true("the names to go", || !read().contains("crowd"));
        aws.command(&["detach", "--netns", netns]).done();
        assert_eq!(read(), theirs);
        // The block of an earlier version, which is too long to be read again, is no obstacle.
        let old = "100.112.9.9 a-name-of-long-ago.crowd.warp\n".repeat(40_000);
        fs::write("/run/theirs", format!("{theirs}# mesh-node begin\n{old}# mesh-node end\n")).expect("the file");
        attach();
        assert!(read().starts_with(theirs) && read().contains(" db.warp\n") && !read().contains("long-ago"));
        aws.command(&["detach", "--netns", netns]).done();
        assert_eq!(read(), theirs);
    });
}

#[test]
fn a_file_that_is_replaced_is_followed_unless_it_is_anothers() {
    isolated(|| {
        let (_world, _coordinator, aws) = stage();
        fs::create_dir("/run/etc").expect("a directory");
        fs::write("/run/etc/hosts", "127.0.0.1 localhost\n").expect("a file");
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let namespace = Namespace::create("container");
        let netns = namespace.path();
        let netns = netns.to_str().expect("ASCII");
        aws.command(&["attach", "shop/app", "--netns", netns, "--hosts", "/run/etc/hosts"]).done();
        fs::write("/run/etc/next", "::1 localhost\n").expect("a file");
        fs::rename("/run/etc/next", "/run/etc/hosts").expect("in its place");
        wait::until_true("the names in the new file", || read("/run/etc/hosts").contains(" db.warp\n"));
        assert!(read("/run/etc/hosts").starts_with("::1 localhost\n"));
        // A directory that a user has replaced by a link leads root nowhere.
        fs::create_dir("/run/victim").expect("a directory");
        fs::write("/run/victim/hosts", "precious\n").expect("a file");
        fs::rename("/run/etc", "/run/away").expect("away");
        symlink("/run/victim", "/run/etc").expect("a link");
        if std::os::unix::fs::lchown("/run/etc", Some(12345), None).is_ok() {
            let refused = aws.command(&["attach", "shop/app", "--netns", netns, "--hosts", "/run/etc/hosts"]);
            refused.refused(&["symbolic link"]);
            assert_eq!(read("/run/victim/hosts"), "precious\n");
        }
        aws.command(&["detach", "--netns", netns]).done();
        assert_eq!(read("/run/away/hosts"), "::1 localhost\n");
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
