//! The packages of `packaging/build deb`, and machines that take them.

use std::{env, fs, path::PathBuf};

use mesh_netns_tests::{Namespace, Outcome};

use crate::{Lab, Systemd};

/// The package of a program, at its path on the machine.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn package(systemd: &Systemd, name: &str) -> String {
    let all = env::var("MESH_PACKAGES").expect(
        "MESH_PACKAGES is not set: it is the directory of the packages. scripts/test sets it, or: packaging/build --profile dev deb",
    );
    let all = fs::read_dir(&all).unwrap_or_else(|e| panic!("{all}: {e}")).flatten().map(|entry| entry.path());
    let is_it = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&format!("{name}_")) && file.ends_with(".deb")
    };
    let found = all.into_iter().find(is_it).unwrap_or_else(|| panic!("no package {name} there"));
    let file = format!("root/{name}.deb");
    fs::copy(found, systemd.root().join(&file)).expect("cannot copy a package");
    format!("/{file}")
}

/// A machine whose dpkg knows only what the packages need.
///
/// # Panics
/// If it doesn't come up.
#[must_use]
pub fn machine(lab: &Lab, namespace: &Namespace) -> Systemd {
    let systemd = Systemd::boot(lab, namespace);
    // Images of containers that must not start services have this file.
    systemd.command(&["rm", "-f", "/usr/sbin/policy-rc.d"]).done();
    let known = systemd.root().join("var/lib/dpkg");
    for directory in ["info", "updates", "triggers", "alternatives"] {
        fs::create_dir_all(known.join(directory)).expect("cannot make a directory");
    }
    let installed = ["libc6", "libgcc-s1", "iproute2"].map(|name| {
        format!(
            "Package: {name}\nStatus: install ok installed\nMaintainer: x <a@b>\nArchitecture: amd64\nVersion: 999\nDescription: x\n\n"
        )
    });
    fs::write(known.join("status"), installed.concat()).expect("cannot write a file");
    systemd
}

/// `dpkg ARGUMENTS` on a machine, which must succeed.
///
/// # Panics
/// If it doesn't.
#[track_caller]
pub fn dpkg(systemd: &Systemd, arguments: &[&str]) -> Outcome {
    // dpkg has no lists of files for the declared packages.
    systemd.command(&[&["dpkg", "--no-pager", "--force-confold"], arguments].concat()).done()
}
