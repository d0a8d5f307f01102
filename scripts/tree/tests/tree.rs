//! The module structure of this repository.

use std::{
    fs,
    path::{Path, PathBuf},
};

use mesh_tree_check::{Cycle, Floors, cycles, read, upward};

/// The crates that ship, by the file of their root.
const CRATES: [&str; 19] = [
    "docs/check/src/lib.rs",
    "mesh-coord/src/main.rs",
    "mesh-node/src/main.rs",
    "mesh-node/dns/src/lib.rs",
    "mesh-node/engine/src/lib.rs",
    "mesh-node/lifecycle/src/lib.rs",
    "mesh-node/relay/src/lib.rs",
    "mesh-coord/console/src/lib.rs",
    "mesh-coord/files/src/lib.rs",
    "mesh-coord/model/src/lib.rs",
    "mesh-coord/relay/src/lib.rs",
    "mesh-coord/sessions/src/lib.rs",
    "mesh-coord/several/src/lib.rs",
    "proto/src/lib.rs",
    "proto/link/src/lib.rs",
    "proto/metrics/src/lib.rs",
    "proto/process/src/lib.rs",
    "proto/udp/src/lib.rs",
    "scripts/tree/src/lib.rs",
];

/// The floors of the coordinator.
const COORDINATOR: Floors<'_> = &[
    &["cli"],
    &["http", "relay"],
    &["api", "backup", "exposition", "watch", "webhook"],
    &["coordinator"],
    &["store"],
    &[
        "clock",
        "data",
        "metrics",
        "peers",
        "places",
        "random",
        "rate",
        "relay_secrets",
        "telemetry",
        "tenant",
        "tls",
        "trial",
    ],
];

/// The floors of the agent: ways in, the agent, its hands, the ground.
const AGENT: Floors<'_> = &[
    &["cli"],
    &["setup", "cni", "oci", "docker"],
    &["agent"],
    &["instances", "containers"],
    &["local"],
    &["attach", "hosts", "dataplane", "control"],
    &["callback", "config", "exec", "hint", "journal", "notify", "state"],
    &["sys"],
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn cycles_of(file: &Path) -> Vec<Cycle> {
    cycles(&read(file).expect("the crate can be read"))
}

fn shown(cycles: &[Cycle]) -> String {
    cycles.iter().map(|cycle| format!("\n{cycle}")).collect()
}

#[test]
fn modules_do_not_depend_on_each_other_in_a_circle() {
    let of = |file: &str| shown(&cycles_of(&root().join(file)));
    let found: Vec<String> = CRATES.iter().map(|file| format!("{file}:{}", of(file))).collect();
    let tied: Vec<&String> = found.iter().filter(|found| !found.ends_with(':')).collect();
    assert!(tied.is_empty(), "move what both need to a module below both: {tied:#?}");
}

#[test]
fn every_crate_that_ships_is_on_the_list() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest.lines().find(|line| line.starts_with("default-members")).unwrap();
    for member in members.split('"').skip(1).step_by(2) {
        assert!(
            CRATES.iter().any(|file| file.strip_prefix(member).is_some_and(|rest| rest.starts_with("/src/"))),
            "{member}"
        );
    }
}

#[test]
fn no_module_uses_one_on_a_higher_floor() {
    for (file, floors) in [("mesh-coord/src/main.rs", COORDINATOR), ("mesh-node/src/main.rs", AGENT)] {
        let found = upward(&read(&root().join(file)).unwrap(), floors);
        assert!(found.is_empty(), "{file}: {found:#?}");
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture").join(name).join("lib.rs")
}

#[test]
fn a_cycle_through_a_re_export_and_one_below_the_root_are_found() {
    let found = cycles_of(&fixture("knot"));
    let found: Vec<String> = found
        .iter()
        .map(|c| format!("{}: {}", c.parent, c.modules.iter().cloned().collect::<Vec<_>>().join(" ")))
        .collect();
    assert_eq!(found, [": a b", "deep: left right"]);
}

#[test]
fn a_use_by_tests_or_of_the_parent_is_no_cycle() {
    let found = cycles_of(&fixture("straight"));
    assert!(found.is_empty(), "{}", shown(&found));
}

#[test]
fn a_module_that_uses_a_higher_one_or_is_on_no_floor_is_found() {
    let found = upward(&read(&fixture("straight")).unwrap(), &[&["below"], &["above"]]);
    assert!(found.len() == 1 && found[0].contains("`above` uses `below`"), "{found:?}");
    let found = upward(&read(&fixture("straight")).unwrap(), &[&["above"]]);
    assert_eq!(found, ["`below` is on no floor"]);
}
