//! The content of a resolv.conf (resolv.conf(5)) with our resolver: a pure function.
//!
//! The first server is asked first, and the last `search` line counts. So the server stands in a block before all other
//! lines, the domains in another one behind them, and the lines of others stay as they are.

use std::net::Ipv4Addr;

use super::edit::{BEGIN, END, without_block};

/// `before` with new blocks: the resolver's address before all other lines, its domains, and those of the file, behind
/// them. Without a resolver there are none.
pub(super) fn with_resolver(before: &[u8], resolver: &[(Ipv4Addr, String)]) -> Vec<u8> {
    let theirs = without_block(before);
    let Some((address, domains)) = resolver.first() else { return theirs };
    let mut after = block(&format!("nameserver {address}"));
    after.extend_from_slice(&theirs);
    if !after.ends_with(b"\n") {
        after.push(b'\n');
    }
    let search = std::iter::once(domains.clone()).chain(domains_in(&theirs, domains));
    after.extend(block(&format!("search {}", search.collect::<Vec<_>>().join(" "))));
    after
}

fn block(line: &str) -> Vec<u8> {
    [BEGIN, b"\n", line.as_bytes(), b"\n", END, b"\n"].concat()
}

/// The domains that the last `search` or `domain` line names, without ours.
fn domains_in(file: &[u8], ours: &str) -> Vec<String> {
    let words =
        |line: &[u8]| -> Vec<String> { String::from_utf8_lossy(line).split_whitespace().map(str::to_owned).collect() };
    let names_domains = |words: &Vec<String>| matches!(words.first().map(String::as_str), Some("search" | "domain"));
    let last = file.split(|b| *b == b'\n').map(words).rfind(names_domains).unwrap_or_default();
    let is_ours = |domain: &str| ours.split(' ').any(|own| own.eq_ignore_ascii_case(domain.trim_end_matches('.')));
    last.into_iter().skip(1).filter(|domain| !is_ours(domain)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ours() -> [(Ipv4Addr, String); 1] {
        [(Ipv4Addr::new(100, 127, 255, 254), "shop.warp warp".to_owned())]
    }

    fn edit(before: &str) -> String {
        String::from_utf8(with_resolver(before.as_bytes(), &ours())).unwrap()
    }

    const FIRST: &str = "# mesh-node begin\nnameserver 100.127.255.254\n# mesh-node end\n";

    #[test]
    fn our_server_comes_first_and_all_domains_last() {
        assert_eq!(
            edit("nameserver 127.0.0.11\nsearch example.com corp\noptions ndots:0\n"),
            format!(
                "{FIRST}nameserver 127.0.0.11\nsearch example.com corp\noptions ndots:0\n\
                 # mesh-node begin\nsearch shop.warp warp example.com corp\n# mesh-node end\n"
            )
        );
        assert_eq!(edit(""), format!("{FIRST}# mesh-node begin\nsearch shop.warp warp\n# mesh-node end\n"));
    }

    #[test]
    fn the_last_line_of_domains_counts_and_ours_stand_once() {
        let after = edit("search old.example\ndomain Warp. corp.example");
        assert!(
            after.ends_with(
                "\ndomain Warp. corp.example\n# mesh-node begin\nsearch shop.warp warp corp.example\n# mesh-node end\n"
            ),
            "{after}"
        );
    }

    #[test]
    fn without_a_resolver_nothing_of_ours_is_there() {
        let theirs = "nameserver 192.0.2.1\nsearch example.com\n";
        assert_eq!(with_resolver(edit(theirs).as_bytes(), &[]), theirs.as_bytes());
        assert_eq!(without_block(edit(theirs).as_bytes()), theirs.as_bytes());
    }

    proptest! {
        #[test]
        fn whatever_stands_there_the_blocks_come_and_go_without_a_trace(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just(BEGIN.to_vec()), Just(END.to_vec()), Just(b"search a b\r".to_vec()), Just(b"domain".to_vec()),
                    proptest::collection::vec(any::<u8>(), 0..12),
                ],
                0..12,
            ),
        ) {
            let before = lines.join(&b'\n');
            let bare = without_block(&before);
            let after = with_resolver(&before, &ours());
            prop_assert_eq!(&with_resolver(&after, &ours()), &after, "renewing them changes nothing");
            let taken_out = without_block(&after);
            prop_assert_eq!(taken_out.strip_suffix(b"\n").unwrap_or(&taken_out), bare.strip_suffix(b"\n").unwrap_or(&bare));
        }
    }
}
