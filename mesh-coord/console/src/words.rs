//! Numbers and states as people read them.

pub(crate) use mesh_process::date::date;
use mesh_process::duration::show;

/// How long something is ago.
pub(crate) fn ago(seconds: u64) -> String {
    format!("{} ago", show(seconds))
}

/// How long something lasts.
pub(crate) fn lasting(seconds: u64) -> String {
    show(seconds)
}

/// A number of bytes.
pub(crate) fn bytes(number: u64) -> String {
    mesh_process::amount::bytes(number as f64)
}

/// A mark for a state, which shows it beside the word.
pub(crate) fn mark(state: &str) -> &'static str {
    match state {
        "online" | "live" | "allow" | "done" | "good" => "●",
        "draining" | "warning" | "client" | "expired" | "used up" | "no-secret" => "▲",
        "silent" | "unreachable" | "removed" | "deny" | "refused" | "error" | "revoked" => "✖",
        _ => "·",
    }
}

/// A picture of numbers in a row: each as a bar.
pub(crate) fn bars(numbers: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = numbers.iter().copied().max().unwrap_or_default().max(1);
    // None is the lowest one, and any at all is more than that.
    let height = |number: u64| (u128::from(number) * 7).div_ceil(u128::from(most)) as usize;
    numbers.iter().map(|number| BARS[height(*number).min(7)]).collect()
}

/// A part of a path or a value of a query in a link (RFC 3986 §2.1).
pub(crate) fn part(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~*".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_drawn_in_proportion_to_the_largest() {
        assert_eq!(bars(&[0, 1, 50, 100]), "▁▂▅█");
        assert_eq!((bars(&[0, 0]), bars(&[]), bars(&[u64::MAX, 1])), ("▁▁".into(), String::new(), "█▂".into()));
    }

    #[test]
    fn what_ends_a_part_of_a_link_is_escaped() {
        assert_eq!(part("a-b.c/d?e&f=g h\"ü"), "a-b.c%2Fd%3Fe%26f%3Dg%20h%22%C3%BC");
    }
}
