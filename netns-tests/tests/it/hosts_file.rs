//! The hosts file: our names are between markers and the rest is unchanged, and a container can't make root write
//! elsewhere.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    process::Command,
};

use mesh_netns_tests::{Coordinator, Daemon, Namespace, Runner, Stack, World, isolated, wait};
use nix::{sys::stat::Mode, unistd::mkfifo};

use crate::common::{SHOP, declare};

pub(crate) fn stage() -> (World, Coordinator, Runner) {
    let world = World::new();
    let coordinator = world.coordinator(&[]);
    declare(&coordinator, &[SHOP]);
    let aws = world.runner(&coordinator, "aws", Stack::Dual);
    (world, coordinator, aws)
}

/// A process in its own namespaces, like a container's first one. `mounts` runs at its start.
pub(crate) fn container(mounts: &str) -> Daemon {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-euc", &format!("{mounts}; touch /run/ready; exec sleep infinity")]);
    let container = Daemon::start(command, Path::new("/run/container.log"));
    wait::until_true("the container to be ready", || Path::new("/run/ready").exists());
    fs::remove_file("/run/ready").expect("its sign");
    container
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
