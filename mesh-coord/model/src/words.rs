//! Small things that messages are made of.

/// The candidate that `name` was probably meant to be.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let most = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// `a`, `a and b`, `a, b and c`; after twelve, how many more there are.
pub(crate) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    const MOST: usize = 12;
    let mut items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.len() > MOST + 1 {
        let more = items.len() - MOST;
        items.truncate(MOST);
        items.push(format!("{more} more"));
    }
    match items.pop() {
        None => "none".to_owned(),
        Some(last) if items.is_empty() => last,
        Some(last) => format!("{} and {last}", items.join(", ")),
    }
}

/// `1 service`, `2 services`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A stretch of time in its largest whole unit.
pub(crate) fn duration(seconds: u64) -> String {
    let (number, noun) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// `` `text` ``, as names stand in messages.
pub(crate) fn quoted(text: impl std::fmt::Display) -> String {
    format!("`{text}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let names = ["shop", "billing", "api"];
        assert_eq!(nearest("shpo", names).as_deref(), Some("shop"));
        assert_eq!(nearest("biling", names).as_deref(), Some("billing"));
        assert_eq!(nearest("aip", names).as_deref(), Some("api"));
        assert_eq!(nearest("warehouse", names), None);
        assert_eq!(nearest("我的数居", ["我的数据"]).as_deref(), Some("我的数据"));
    }

    #[test]
    fn lists_and_numbers_read_as_text() {
        assert_eq!(list::<&str>([]), "none");
        assert_eq!(list(["a"]), "a");
        assert_eq!(list(["a", "b"]), "a and b");
        assert_eq!(list(["a", "b", "c"]), "a, b and c");
        assert_eq!(list(1..=20), "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 8 more");
        assert_eq!((count(1, "service"), count(0, "service")), ("1 service".to_owned(), "0 services".to_owned()));
        for (seconds, text) in
            [(0, "0 seconds"), (1, "1 second"), (119, "1 minute"), (7200, "2 hours"), (200_000, "2 days")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
