//! Images made on the spot: a static busybox and nothing else; and a file system for the machine's own programs, with
//! its /usr mounted.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use mesh_netns_tests::run;

/// The path in Debian's busybox-static.
const BUSYBOX: &str = "/bin/busybox";
/// The programs of it that tests use.
const APPLETS: [&str; 19] = [
    "cat", "chmod", "cut", "echo", "env", "false", "grep", "head", "httpd", "ip", "ls", "nc", "sh", "sleep", "stat",
    "touch", "true", "wc", "wget",
];

/// Its files in a directory, made once.
///
/// # Panics
/// If they can't be made.
pub(crate) fn directory() -> PathBuf {
    let root = PathBuf::from("/run/image");
    if root.exists() {
        return root;
    }
    for directory in ["bin", "etc", "proc", "sys", "tmp", "dev"] {
        fs::create_dir_all(root.join(directory)).expect("cannot make a directory");
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).expect("there is no /bin/busybox: install busybox-static");
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("cannot make a link");
    }
    root
}

/// Its files as a tar archive.
///
/// # Panics
/// If it can't be made.
pub(crate) fn archive() -> PathBuf {
    let archive = PathBuf::from("/run/image.tar");
    if !archive.exists() {
        pack(&directory(), &archive);
    }
    archive
}

/// The files besides /usr as a tar archive, made once.
///
/// # Panics
/// If it can't be made.
pub(crate) fn without_usr() -> PathBuf {
    let (root, archive) = (Path::new("/run/image-host"), PathBuf::from("/run/image-host.tar"));
    if archive.exists() {
        return archive;
    }
    for directory in ["usr", "etc", "proc", "sys", "dev", "tmp", "var"] {
        fs::create_dir_all(root.join(directory)).expect("cannot make a directory");
    }
    for merged in ["bin", "sbin", "lib", "lib64"] {
        symlink(Path::new("usr").join(merged), root.join(merged)).expect("cannot make a link");
    }
    let users = "root:x:0:0::/:/bin/sh\nordinary:x:1000:1000::/tmp:/bin/sh\n";
    fs::write(root.join("etc/passwd"), users).expect("cannot write a file");
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("cannot open /tmp to all");
    pack(root, &archive);
    archive
}

fn pack(root: &Path, archive: &Path) {
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(root).arg("-cf").arg(archive).arg(".");
    run(tar).done();
}
