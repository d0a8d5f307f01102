//! The command's own resolv.conf: names are asked of the instance's resolver first.

use std::{fmt::Write as _, fs, io, net::Ipv4Addr, path::Path};

use super::stand_in::stand_in;

const FILE: &str = "/etc/resolv.conf";
/// As many servers as glibc and musl use (resolv.conf(5)).
const SERVERS: usize = 3;

/// What the command's namespace has beside the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// Nothing: it is new.
    Nothing,
    /// Perhaps other servers can be reached.
    Others,
}

/// Mounts a resolv.conf over the machine's, in this mount namespace. Where there is none, nothing is done.
pub(super) fn write(resolver: Ipv4Addr, deployment: &str, beside: Beside) -> io::Result<()> {
    let before = match fs::read_to_string(FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        before => before?,
    };
    stand_in(text(&before, resolver, deployment, beside).as_bytes(), Path::new(FILE))
}

fn text(before: &str, resolver: Ipv4Addr, deployment: &str, beside: Beside) -> String {
    let mut text = format!("nameserver {resolver}\n");
    let domains = format!("search {deployment}.warp warp");
    if beside == Beside::Nothing {
        // musl waits for its time-out where all servers refuse.
        let _ = write!(text, "{domains}\noptions timeout:1 attempts:2\n");
        return text;
    }
    let (mut servers, mut search, mut others) = (1, domains.clone(), String::new());
    for line in before.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") if servers < SERVERS => {
                servers += 1;
                let _ = writeln!(text, "{line}");
            }
            // The last of these lines counts.
            Some("search" | "domain") => {
                search.clone_from(&domains);
                words.for_each(|domain| search.extend([" ", domain]));
            }
            Some("nameserver") | None => {}
            Some(_) => others.extend([line, "\n"]),
        }
    }
    let _ = write!(text, "{search}\n{others}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOLVER: Ipv4Addr = Ipv4Addr::new(100, 127, 255, 254);

    #[test]
    fn in_a_new_namespace_there_is_no_other_server() {
        let before = "nameserver 192.0.2.1\nsearch example.com\noptions edns0\n";
        let expected = "nameserver 100.127.255.254\nsearch shop.warp warp\noptions timeout:1 attempts:2\n";
        assert_eq!(text(before, RESOLVER, "shop", Beside::Nothing), expected);
    }

    #[test]
    fn where_there_are_others_they_follow() {
        let before = "# made by hand\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver 192.0.2.3\n\
             domain old.example\nsearch example.com example.net\noptions edns0\n";
        let expected = "nameserver 100.127.255.254\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n\
             search shop.warp warp example.com example.net\n# made by hand\noptions edns0\n";
        assert_eq!(text(before, RESOLVER, "shop", Beside::Others), expected);
        let alone = "nameserver 100.127.255.254\nsearch shop.warp warp\n";
        assert_eq!(text("", RESOLVER, "shop", Beside::Others), alone);
    }
}
