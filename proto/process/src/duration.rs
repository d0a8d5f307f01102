//! Durations, as people write and read them: `90s`, `30m`, `1h`, `7d`, `1h30m`.

use std::time::Duration;

/// Parses a duration of at least a second.
///
/// # Errors
/// If it isn't one, with an example.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: write it as 90s, 30m, 1h, 7d or 1h30m");
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let mut letters = after.chars();
        let unit = match letters.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86400,
            Some('w') => 7 * 86400,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        total = number.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = letters.as_str();
    }
    match total {
        0 if text.is_empty() => Err(wrong()),
        0 => Err(format!("`{text}` is no time at all: write it as 90s, 30m, 1h, 7d or 1h30m")),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

/// Parses a duration that may also be less than a second, such as `500ms`.
///
/// # Errors
/// If it isn't one, with an example.
pub fn parse_short(text: &str) -> Result<Duration, String> {
    match text.strip_suffix("ms").map(str::parse) {
        Some(Ok(milliseconds)) => Ok(Duration::from_millis(milliseconds)),
        Some(Err(_)) => Err(format!("`{text}` is not a duration: write it as 500ms, 10s or 2m")),
        None => parse(text),
    }
}

/// The duration in words.
#[must_use]
pub fn show_short(duration: Duration) -> String {
    if duration.subsec_millis() == 0 { show(duration.as_secs()) } else { format!("{}ms", duration.as_millis()) }
}

/// Seconds in one or two units that are precise enough: `45s`, `12m`, `3h 5m`, `9d 2h`.
#[must_use]
pub fn show(seconds: u64) -> String {
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => two(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in
            [("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604_800), ("1h30m", 5400), ("1w", 604_800)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "1", "h", "1x", "-1h", "1.5h", "0s", "é", "1h é", "99999999999999999999s", "9999999999999999w"]
        {
            assert!(parse(bad).unwrap_err().contains("1h30m"), "{bad}");
        }
    }

    #[test]
    fn durations_are_shown_short() {
        let shown = [0, 59, 60, 61, 3600, 11_100, 86400, 785_000].map(show);
        assert_eq!(shown, ["0s", "59s", "1m", "1m 1s", "1h", "3h 5m", "1d", "9d 2h"]);
    }
}
