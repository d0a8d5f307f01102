//! The content of a hosts file (hosts(5)) with our names: a pure function.

use std::{collections::BTreeSet, net::Ipv4Addr};

/// The line before our names.
pub(super) const BEGIN: &[u8] = b"# mesh-node begin";
/// The line after our names.
pub(super) const END: &[u8] = b"# mesh-node end";

/// `before` with a new block: `names` between the markers at the end of the file, one a line (with its other spelling,
/// if that follows). A short name (without a dot) that the file has elsewhere is left out. Without names there is no
/// block.
pub(super) fn with_block(before: &[u8], names: &[(Ipv4Addr, String)]) -> Vec<u8> {
    let mut after = without_block(before);
    let taken = names_in(&after);
    let ours: Vec<_> =
        names.iter().filter(|(_, name)| name.contains('.') || !taken.contains(&name.to_ascii_lowercase())).collect();
    if ours.is_empty() {
        return after;
    }
    if !after.is_empty() && !after.ends_with(b"\n") {
        after.push(b'\n');
    }
    after.extend_from_slice(BEGIN);
    after.push(b'\n');
    let mut last: Option<&(Ipv4Addr, String)> = None;
    for host in ours {
        let (address, name) = host;
        // Both spellings of a name are on one line, so that no resolver finds two addresses.
        if last.is_some_and(|(at, before)| at == address && before.eq_ignore_ascii_case(name)) {
            after.pop();
            after.extend_from_slice(format!(" {name}\n").as_bytes());
        } else {
            after.extend_from_slice(format!("{address} {name}\n").as_bytes());
        }
        last = Some(host);
    }
    after.extend_from_slice(END);
    after.push(b'\n');
    after
}

/// `before` without our block. A marker without its counterpart is removed, with no other line.
pub(super) fn without_block(before: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = before.split_inclusive(|b| *b == b'\n').collect();
    let mut kept = Vec::with_capacity(before.len());
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        if is(line, BEGIN) {
            let rest = lines.get(at..).unwrap_or_default();
            // The block ends at the next marker, and only if that is an end.
            let end = rest.iter().position(|line| is(line, BEGIN) || is(line, END));
            if let Some(end) = end.filter(|end| rest.get(*end).is_some_and(|line| is(line, END))) {
                at += end + 1;
            }
        } else if !is(line, END) {
            kept.extend_from_slice(line);
        }
    }
    kept
}

/// `found` without the rest of `written`, the file as the agent wrote it. Another program had emptied the file just
/// before and overwrote its beginning just after, so that the rest of the agent's text follows without its beginning.
pub(super) fn without_remains<'a>(found: &'a [u8], written: &[u8]) -> &'a [u8] {
    let whole = |file: &[u8]| file.split_inclusive(|b| *b == b'\n').any(|line| is(line, BEGIN));
    if found.len() != written.len() || whole(found) || !whole(written) {
        return found;
    }
    let same = found.iter().rev().zip(written.iter().rev()).take_while(|(a, b)| a == b).count();
    let (theirs, ours) = found.split_at(found.len() - same);
    // The end of the last line is theirs.
    let end = usize::from(ours.starts_with(b"\n"));
    found.get(..theirs.len() + end).unwrap_or(theirs)
}

fn is(line: &[u8], marker: &[u8]) -> bool {
    line.trim_ascii_end() == marker
}

/// Every name in a hosts file, in lower case (host names are case-insensitive, RFC 4343).
fn names_in(file: &[u8]) -> BTreeSet<String> {
    file.split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b'#').next())
        .flat_map(|line| line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).skip(1))
        .map(|name| String::from_utf8_lossy(name).to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edit(before: &str, names: &[(&str, &str)]) -> String {
        let names: Vec<_> = names.iter().map(|(a, n)| (a.parse().unwrap(), (*n).to_owned())).collect();
        String::from_utf8(with_block(before.as_bytes(), &names)).unwrap()
    }

    const DB: (&str, &str) = ("100.112.0.2", "db");
    const DB_WARP: (&str, &str) = ("100.112.0.2", "db.warp");

    #[test]
    fn the_block_stands_behind_what_was_there_one_name_a_line() {
        assert_eq!(
            edit("127.0.0.1 localhost\n", &[DB_WARP, DB]),
            "127.0.0.1 localhost\n# mesh-node begin\n100.112.0.2 db.warp\n100.112.0.2 db\n# mesh-node end\n"
        );
    }

    #[test]
    fn a_block_is_renewed_wherever_it_stands() {
        let before =
            "127.0.0.1 localhost\n# mesh-node begin\n1.2.3.4 old\n# mesh-node end\n10.0.0.1 mine # mesh-node end\n";
        assert_eq!(
            edit(before, &[DB]),
            "127.0.0.1 localhost\n10.0.0.1 mine # mesh-node end\n# mesh-node begin\n100.112.0.2 db\n# mesh-node end\n"
        );
        assert_eq!(edit(before, &[]), "127.0.0.1 localhost\n10.0.0.1 mine # mesh-node end\n");
    }

    #[test]
    fn a_short_name_that_is_there_already_is_left_out_and_a_long_one_is_not() {
        let out = edit("10.0.0.1\tDB db.warp # app\n", &[DB_WARP, DB, ("100.112.0.3", "app")]);
        assert!(out.contains("100.112.0.2 db.warp\n") && out.contains("100.112.0.3 app\n"), "{out}");
        assert!(!out.contains("100.112.0.2 db\n"), "{out}");
    }

    #[test]
    fn a_last_line_without_an_end_gets_one() {
        assert!(edit("127.0.0.1 localhost", &[DB]).starts_with("127.0.0.1 localhost\n# mesh-node begin\n"));
        assert_eq!(edit("127.0.0.1 localhost", &[]), "127.0.0.1 localhost");
        assert!(edit("", &[DB]).starts_with("# mesh-node begin\n"));
    }

    #[test]
    fn a_marker_without_its_counterpart_takes_no_other_line_away() {
        assert_eq!(edit("# mesh-node begin\n10.0.0.1 mine\n", &[]), "10.0.0.1 mine\n");
        assert_eq!(edit("10.0.0.1 mine\n# mesh-node end\n", &[]), "10.0.0.1 mine\n");
        let twice = "# mesh-node begin\n10.0.0.1 mine\n# mesh-node begin\n1.2.3.4 old\n# mesh-node end\n10.0.0.2 too\n";
        assert_eq!(edit(twice, &[]), "10.0.0.1 mine\n10.0.0.2 too\n");
    }

    #[test]
    fn an_overwritten_file_keeps_nothing_of_ours() {
        let written = edit("127.0.0.1 localhost\n::1 localhost\n", &[DB_WARP, DB]);
        for theirs in [
            "127.0.0.1 localhost\n172.17.0.2 a-longer-name web\n",
            "127.0.0.1 localhost\n::1 ip6-loopback\n1.2.3.4 x\n",
        ] {
            let found = format!("{theirs}{}", &written[theirs.len()..]);
            let found = without_remains(found.as_bytes(), written.as_bytes());
            assert_eq!(String::from_utf8_lossy(found), theirs);
        }
        for whole in [written.replace("::1", "::2"), "127.0.0.1 localhost\n".to_owned(), String::new()] {
            assert_eq!(without_remains(whole.as_bytes(), written.as_bytes()), whole.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_there_the_block_comes_and_goes_without_a_trace(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just(BEGIN.to_vec()), Just(END.to_vec()), Just(b"10.0.0.1 db\r".to_vec()),
                    proptest::collection::vec(any::<u8>(), 0..12),
                ],
                0..12,
            ),
        ) {
            let before = lines.join(&b'\n');
            let bare = without_block(&before);
            let names = [(Ipv4Addr::new(100, 112, 0, 2), "db.warp".to_owned())];
            let after = with_block(&before, &names);
            prop_assert!(after.starts_with(&bare));
            prop_assert_eq!(&with_block(&after, &names), &after, "renewing it changes nothing");
            let taken_out = without_block(&after);
            prop_assert_eq!(taken_out.strip_suffix(b"\n").unwrap_or(&taken_out), bare.strip_suffix(b"\n").unwrap_or(&bare));
        }
    }
}
