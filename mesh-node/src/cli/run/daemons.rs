//! Hides name service daemons from the command: nscd (and its replacements) and systemd-resolved through nss-resolve. They run
//! outside its mount namespace and don't read its hosts file.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use nix::mount::{MsFlags, mount};

use super::stand_in::stand_in;

/// The directories of their sockets. glibc asks nscd before it reads nsswitch.conf.
const DIRECTORIES: [&str; 3] = ["/run/nscd", "/var/run/nscd", "/run/systemd/resolve"];
/// The order in which glibc asks: nsswitch.conf(5).
const ORDER: &str = "/etc/nsswitch.conf";
/// The longest file that is kept, in bytes. They have one to twenty lines.
const MAX: u64 = 64 << 10;

/// Hides them in this mount namespace, which no other process uses.
pub(super) fn hide() -> io::Result<()> {
    let found: BTreeSet<PathBuf> = DIRECTORIES.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    let hidden = found.iter().try_for_each(|directory| empty(directory));
    // The order also covers a daemon that starts while the command runs.
    let order = fs::read_to_string(ORDER).ok().and_then(|text| files_first(&text));
    let ordered = order.map_or(Ok(()), |text| stand_in(text.as_bytes(), Path::new(ORDER)));
    hidden.and(ordered)
}

/// Hides everything in a directory but its files: resolv.conf may be one of them.
fn empty(directory: &Path) -> io::Result<()> {
    let files: Vec<_> = fs::read_dir(directory)?.flatten().filter_map(|entry| kept(&entry.path())).collect();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("mesh-node"), directory, Some("tmpfs"), flags, Some("mode=0755,size=1m"))?;
    files.into_iter().try_for_each(|(name, text)| fs::write(directory.join(name), text))
}

fn kept(path: &Path) -> Option<(PathBuf, Vec<u8>)> {
    let is_kept = fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() <= MAX);
    Some((path.file_name()?.into(), fs::read(path).ok().filter(|_| is_kept)?))
}

/// The file with `files` first in the order of hosts; `None` if it is first already.
fn files_first(text: &str) -> Option<String> {
    let order = |line: &str| {
        let services = line.trim_start().strip_prefix("hosts:")?;
        let first = services.split_whitespace().next()?;
        let has_files = services.split_whitespace().any(|service| service == "files");
        (first != "files" && has_files && !first.starts_with('#')).then(|| format!("hosts: files {}", services.trim()))
    };
    let lines: Vec<_> = text.lines().map(|line| order(line).unwrap_or_else(|| line.to_owned())).collect();
    let changed = lines.join("\n") + "\n";
    (changed.trim_end() != text.trim_end()).then_some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_is_asked_before_any_daemon() {
        let arch = "passwd: files systemd\nhosts: mymachines resolve [!UNAVAIL=return] files myhostname dns\n";
        let ordered = files_first(arch).unwrap();
        assert_eq!(
            ordered,
            "passwd: files systemd\nhosts: files mymachines resolve [!UNAVAIL=return] files myhostname dns\n"
        );
        assert_eq!(files_first(&ordered), None);
        for as_it_should_be in
            ["hosts: files dns\n", "hosts:\tfiles mdns4_minimal [NOTFOUND=return] dns", "passwd: files\n", ""]
        {
            assert_eq!(files_first(as_it_should_be), None, "{as_it_should_be}");
        }
    }
}
