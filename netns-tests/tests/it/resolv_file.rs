//! The resolv.conf of an instance, where that is asked for: our lines come first and last, others stay, and nothing else
//! is written to.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
};

use mesh_netns_tests::{Namespace, Runner, isolated, wait};

use crate::hosts_file::stage;

const THEIRS: &str = "# theirs\nnameserver 192.0.2.53\nsearch example.com\noptions ndots:0\n";
const OURS_FIRST: &str = "# mesh-node begin\nnameserver 100.127.255.254\n# mesh-node end\n";
const OURS_LAST: &str = "# mesh-node begin\nsearch shop.warp warp example.com\n# mesh-node end\n";
const FILE: &str = "/run/resolv-mine";

fn attach(aws: &Runner, namespace: &Namespace, more: &[&str]) -> String {
    let path = namespace.path();
    let arguments = ["attach", "shop/app", "--netns", path.to_str().expect("ASCII"), "--resolv", FILE];
    let answer = aws.json(&[&arguments, more].concat());
    assert!(answer["instance"].get("warnings").is_none(), "{answer:#}");
    answer["instance"]["id"].as_str().expect("an id").to_owned()
}

fn text() -> String {
    fs::read_to_string(FILE).expect("the file")
}

fn wait_for(expected: &str) {
    wait::until_true("our lines to be as they should", || text() == expected);
}

#[test]
fn our_server_comes_first_others_stay_and_all_is_taken_out_again() {
    isolated(|| {
        let (_world, _coordinator, mut aws) = stage();
        fs::write(FILE, THEIRS).expect("a file");
        fs::write("/run/hosts-mine", "127.0.0.1 localhost\n").expect("a file");
        let inode = fs::metadata(FILE).expect("a file").ino();
        let namespace = Namespace::create("container");
        let instance = attach(&aws, &namespace, &["--hosts", "/run/hosts-mine"]);
        let whole = format!("{OURS_FIRST}{THEIRS}{OURS_LAST}");
        assert_eq!(text(), whole);
        assert!(fs::read_to_string("/run/hosts-mine").expect("the file").contains("db.warp"));
        // Once more is the same.
        assert_eq!(attach(&aws, &namespace, &["--hosts", "/run/hosts-mine"]), instance);
        assert_eq!(text(), whole);

        // A program that rewrites it, with other domains.
        let others = "nameserver 192.0.2.54\nsearch example.net\n";
        fs::write(FILE, others).expect("the file");
        let renewed = format!("{OURS_FIRST}{others}{}", OURS_LAST.replace("example.com", "example.net"));
        wait_for(&renewed);
        // And while no agent runs.
        aws.kill();
        fs::write(FILE, THEIRS).expect("the file");
        aws.start(&[]);
        wait_for(&whole);
        assert_eq!(fs::metadata(FILE).expect("the file").ino(), inode);
        // Another file in its place is followed.
        fs::write("/run/resolv-new", others).expect("a file");
        fs::rename("/run/resolv-new", FILE).expect("in its place");
        wait_for(&renewed);

        aws.command(&["detach", &instance]).done();
        assert_eq!(text(), others);
        assert_eq!(fs::read_to_string("/run/hosts-mine").expect("the file"), "127.0.0.1 localhost\n");
    });
}

#[test]
fn an_agent_that_was_away_takes_out_what_an_ended_instance_has_left() {
    isolated(|| {
        let (_world, _coordinator, mut aws) = stage();
        fs::write(FILE, THEIRS).expect("a file");
        let namespace = Namespace::create("container");
        attach(&aws, &namespace, &[]);
        assert_ne!(text(), THEIRS);
        aws.kill();
        drop(namespace);
        aws.start(&[]);
        wait_for(THEIRS);
    });
}

#[test]
fn what_is_no_resolv_conf_of_a_container_is_refused_completely() {
    isolated(|| {
        let (_world, coordinator, aws) = stage();
        fs::write("/run/victim", "precious\n").expect("a file");
        symlink("/run/victim", "/run/link").expect("a link");
        fs::write("/run/binary", "nameserver\0").expect("a file");
        for (file, word) in [
            ("/run/link", "symbolic link"),
            ("/dev/null", "regular file"),
            ("/run/binary", "NUL"),
            // The machine's own, whatever it is.
            ("/run/hosts", "own"),
            ("/run/absent", "resolv.conf"),
        ] {
            let namespace = Namespace::create("refused");
            let path = namespace.path();
            let arguments = ["attach", "shop/db", "--netns", path.to_str().expect("ASCII"), "--resolv", file];
            aws.command(&arguments).refused(&[file, word, "--resolv"]);
            assert!(namespace.interface("mesh0").is_none(), "no partial effect");
        }
        assert_eq!(fs::read_to_string("/run/victim").expect("still there"), "precious\n");
        let instances = coordinator.json(&["instances"]);
        assert_eq!(instances["instances"].as_array().map(Vec::len), Some(0), "{instances:#}");
    });
}
