//! What is accepted as a hosts file, and what happens to it.

use std::os::unix::fs::symlink;

use mesh_lifecycle::FileKind;

use super::{
    super::{Place, Reach as _},
    *,
};
use crate::state::tests::Scratch;

fn open(path: impl Into<PathBuf>) -> Result<HostsFile, Refusal> {
    HostsFile::open(&Place::Path(path.into()).reach()?, FileKind::Hosts)
}

fn names() -> Vec<(Ipv4Addr, String)> {
    vec![(Ipv4Addr::new(100, 112, 0, 2), "db".into())]
}

#[test]
fn names_come_and_go_in_place() {
    let scratch = Scratch::new("hosts");
    let path = scratch.0.join("hosts");
    fs::write(&path, "127.0.0.1 localhost\n").unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    let mut hosts = open(&path).unwrap();
    hosts.put(&names()).unwrap();
    hosts.put(&names()).unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "127.0.0.1 localhost\n# mesh-node begin\n100.112.0.2 db\n# mesh-node end\n"
    );
    hosts.clear().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "127.0.0.1 localhost\n");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
}

#[test]
fn two_writes_at_once_are_corrected() {
    let scratch = Scratch::new("both");
    let path = scratch.0.join("hosts");
    let block = "# mesh-node begin\n100.112.0.2 db\n# mesh-node end\n";
    fs::write(&path, "127.0.0.1 localhost\n").unwrap();
    let mut hosts = open(&path).unwrap();
    hosts.put(&names()).unwrap();
    // A runtime emptied the file, the agent wrote, and the runtime wrote over the beginning.
    let theirs = "127.0.0.1 localhost\n172.17.0.2 web\n";
    let ours = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{theirs}{}", &ours[theirs.len()..])).unwrap();
    assert!(hosts.put(&names()).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{theirs}{block}"));
    assert!(!hosts.put(&names()).unwrap(), "it is there");
}

#[test]
fn what_is_written_behind_a_file_that_is_emptied_leaves_no_hole() {
    let scratch = Scratch::new("emptied");
    let path = scratch.0.join("hosts");
    let block = "# mesh-node begin\n100.112.0.2 db\n# mesh-node end\n";
    fs::write(&path, "127.0.0.1 localhost\n").unwrap();
    let mut hosts = open(&path).unwrap();
    let found = hosts.read().unwrap();
    let after = edit::with_block(&found, &names());
    let other = File::options().write(true).open(&path).unwrap();
    other.set_len(0).unwrap();
    hosts.replace(&found, after).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), block);
    other.write_all_at(b"::1 localhost\n", 0).unwrap();
    hosts.put(&names()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("::1 localhost\n{block}"));
}

#[test]
fn a_file_with_a_nul_is_no_hosts_file_and_keeps_every_byte() {
    let scratch = Scratch::new("nul");
    let path = scratch.0.join("hosts");
    let program = b"\x7fELF\0\0\0 not a text\n\0";
    fs::write(&path, program).unwrap();
    let refusal = open(&path).unwrap_err();
    assert!(refusal.error.contains("NUL"), "{refusal}");
    assert_eq!(fs::read(&path).unwrap(), program);
    // It becomes one while names are kept there: they are not renewed, and only they are removed.
    fs::write(&path, "127.0.0.1 localhost\n").unwrap();
    let mut hosts = open(&path).unwrap();
    hosts.put(&names()).unwrap();
    let with_names = fs::read(&path).unwrap();
    fs::write(&path, [&program[..], b"\n", &with_names].concat()).unwrap();
    assert!(hosts.put(&[]).unwrap_err().to_string().contains("NUL"));
    assert!(hosts.clear().unwrap());
    assert_eq!(fs::read(&path).unwrap(), [&program[..], b"\n127.0.0.1 localhost\n"].concat());
}

#[test]
fn names_are_taken_out_of_a_file_of_any_length() {
    let scratch = Scratch::new("any-length");
    let path = scratch.0.join("hosts");
    let block =
        |lines: usize| format!("# mesh-node begin\n{}# mesh-node end\n", "100.112.0.2 an-old-name\n".repeat(lines));
    let own = "10.9.8.7 a-name-among-many\n".repeat(1 << 16);
    // An earlier version wrote more than it would read.
    fs::write(&path, format!("127.0.0.1 localhost\n{}::1 localhost\n", block(1 << 16))).unwrap();
    let mut hosts = open(&path).unwrap();
    hosts.put(&names()).unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "127.0.0.1 localhost\n::1 localhost\n# mesh-node begin\n100.112.0.2 db\n# mesh-node end\n"
    );
    // It is too long by its own lines.
    for clears in [false, true] {
        fs::write(&path, format!("{own}{}{own}", block(3))).unwrap();
        match clears {
            true => assert!(hosts.clear().unwrap()),
            false => assert!(hosts.put(&names()).unwrap_err().to_string().contains("has grown")),
        }
        assert!(fs::read_to_string(&path).unwrap() == format!("{own}{own}"));
    }
    assert!(open(&path).unwrap_err().error.contains("1048576 is the most"));
}

#[test]
fn what_is_no_hosts_file_is_refused_and_not_touched() {
    let scratch = Scratch::new("hostile");
    let at = |name: &str| scratch.0.join(name);
    let refused = |path: PathBuf, why: &str| {
        let error = open(&path).expect_err(why);
        assert!(error.error.contains(why), "{error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("--hosts FILE")));
    };
    fs::write(at("victim"), "precious").unwrap();
    symlink(at("victim"), at("link")).unwrap();
    refused(at("link"), "symbolic link");
    assert_eq!(fs::read(at("victim")).unwrap(), b"precious");
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(at("fifo"), "not a regular file");
    refused(scratch.0.clone(), "not a regular file");
    refused("/dev/null".into(), "not a regular file");
    File::create(at("large")).unwrap().set_len(MAX + 1).unwrap();
    refused(at("large"), "1048576 is the most");
    fs::write(at("setuid"), "127.0.0.1 localhost\n").unwrap();
    fs::set_permissions(at("setuid"), std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    refused(at("setuid"), "setuid");
    refused("/etc/hosts".into(), "the machine's own");
    refused(at("missing"), "cannot open");
    // A regular file by stat(2), on which a write doesn't store but acts.
    refused("/proc/self/comm".into(), "no ordinary file system");
}

#[test]
fn a_process_in_our_own_file_system_has_only_the_machines_own() {
    let ours = Place::Process(std::process::id().cast_signed()).reach();
    let error = ours.and_then(|found| HostsFile::open(&found, FileKind::Hosts)).unwrap_err();
    assert!(error.error.contains("the machine's own") || error.error.contains("symbolic link"), "{error}");
}

#[test]
fn a_file_that_grows_too_large_is_left_alone() {
    let scratch = Scratch::new("growing");
    let path = scratch.0.join("hosts");
    fs::write(&path, "").unwrap();
    let mut hosts = open(&path).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(MAX + 1).unwrap();
    assert!(hosts.put(&names()).unwrap_err().to_string().contains("has grown"));
    assert_eq!(fs::metadata(&path).unwrap().len(), MAX + 1);
}
