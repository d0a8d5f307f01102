//! Numbers and states as people read them.

/// How long something takes or is ago.
pub(crate) fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// A number of bytes, in the largest unit of which there is at least one.
pub(crate) fn bytes(number: u64) -> String {
    let units = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    match units.into_iter().find(|(_, unit)| number >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", number as f64 / unit as f64),
        None => format!("{number} B"),
    }
}

/// Seconds since 1970 as `2026-11-30 14:05:09` in UTC (days to a civil date: Howard Hinnant, chrono-compatible
/// low-level date algorithms).
pub(crate) fn date(unix: u64) -> String {
    let (days, rest) = (unix / 86_400, unix % 86_400);
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest % 3600 / 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
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
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00:00");
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(date(1_796_047_509), "2026-11-30 14:05:09");
        assert_eq!(date(4_107_542_399), "2100-02-28 23:59:59");
    }

    #[test]
    fn bytes_and_ages_have_the_largest_unit() {
        assert_eq!([0, 999, 1000, 1_500_000].map(bytes), ["0 B", "999 B", "1.0 kB", "1.5 MB"]);
        assert_eq!([59, 60, 7200, 200_000].map(ago), ["59 s ago", "1 min ago", "2 h ago", "2 d ago"]);
    }
}
