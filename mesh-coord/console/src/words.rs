//! Numbers and states as people read them.

pub(crate) use mesh_process::date::date;
use mesh_process::duration::show;

/// How long something is ago.
pub(crate) fn ago(seconds: u64) -> String {
    format!("{} ago", show(seconds))
}

/// A number of bytes, in the largest unit of which there is at least one.
pub(crate) fn bytes(number: u64) -> String {
    let units = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    match units.into_iter().find(|(_, unit)| number >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", number as f64 / unit as f64),
        None => format!("{number} B"),
    }
}

/// A mark for a state, which shows it beside the word.
pub(crate) fn mark(state: &str) -> &'static str {
    match state {
        "online" | "live" | "allow" | "done" => "●",
        "draining" | "warning" | "client" => "▲",
        "silent" | "unreachable" | "removed" | "deny" | "refused" | "error" => "✖",
        _ => "·",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_largest_unit() {
        assert_eq!([0, 999, 1000, 1_500_000].map(bytes), ["0 B", "999 B", "1.0 kB", "1.5 MB"]);
    }
}
