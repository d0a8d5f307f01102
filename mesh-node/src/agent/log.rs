//! The end of the log, for a bug report.

use std::net::Ipv4Addr;

use mesh_proto::Range;

use super::Agent;
use crate::local::{self, VERSION};

impl Agent {
    pub(super) fn log(&self) -> local::Log {
        let range = self.control.view().map_or(Range::DEFAULT, |view| view.network.range);
        let lines = mesh_process::log::recent();
        local::Log { version: VERSION, lines: lines.iter().map(|line| without_addresses(line, range)).collect() }
    }
}

/// A line with the overlay addresses in it replaced: they tell whose services call which.
fn without_addresses(line: &str, range: Range) -> String {
    let of_address = |c: char| c.is_ascii_digit() || c == '.';
    let (mut text, mut rest) = (String::new(), line);
    while let Some(start) = rest.find(of_address) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !of_address(c)).unwrap_or(from.len()));
        let full_stop = word.len() - word.trim_end_matches('.').len();
        let is_overlay = word.trim_end_matches('.').parse::<Ipv4Addr>().is_ok_and(|address| range.contains(address));
        text += before;
        if is_overlay {
            text += "(overlay address)";
            text += &word[word.len() - full_stop..];
        } else {
            text += word;
        }
        rest = after;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_addresses_are_replaced_and_nothing_else_is() {
        let range: Range = "100.112.0.0/12".parse().unwrap();
        for (line, kept) in [
            ("from 100.112.0.9:5432 to b.", "from (overlay address):5432 to b."),
            ("at 100.120.1.2. Then 100.127.255.255", "at (overlay address). Then (overlay address)"),
            ("at 192.0.2.1:51820, in 1.5 s, 0.2.0", "at 192.0.2.1:51820, in 1.5 s, 0.2.0"),
            ("100.112.0.9.1 and 1100.112.0.9 é", "100.112.0.9.1 and 1100.112.0.9 é"),
            ("", ""),
        ] {
            assert_eq!(without_addresses(line, range), kept);
        }
    }
}
