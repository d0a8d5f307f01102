//! Parts of messages.

use crate::{limits, work};

/// Names that a refusal may suggest. They are collected with the refusal, but compared only when its hint is asked
/// for, which the writer never does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates(Vec<String>);

impl Candidates {
    /// Names of about the same length as `name`, at most [`limits::CANDIDATES`].
    pub(crate) fn of<'a>(name: &str, all: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let most = tolerance(name);
        // A character has at most four bytes.
        let alike = |candidate: &&str| candidate.len().abs_diff(name.len()) <= 4 * most;
        Some(Self(all.into_iter().filter(alike).take(limits::CANDIDATES).map(str::to_owned).collect()))
    }

    /// The most similar name, if one is similar enough.
    #[must_use]
    pub fn nearest(&self, name: &str) -> Option<&str> {
        nearest(name, self.0.iter().map(String::as_str))
    }
}

/// The most similar of at most [`limits::CANDIDATES`] candidates, if one is similar enough.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = tolerance(name);
    let name: Vec<char> = name.chars().collect();
    candidates
        .into_iter()
        .take(limits::CANDIDATES)
        .filter_map(|candidate| Some((distance(&name, candidate, most)?, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many typing errors `name` may contain.
fn tolerance(name: &str) -> usize {
    (name.chars().take(12).count() / 3).max(1)
}

/// The restricted edit distance (insertions, deletions, replacements and swaps of neighbours), if it is at most
/// `most`. Only the band of the matrix that can be that small is computed.
fn distance(a: &[char], b: &str, most: usize) -> Option<usize> {
    work::step();
    let b: Vec<char> = b.chars().collect();
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    let far = most + 1;
    let mut rows = [vec![far; b.len() + 1], (0..=b.len()).map(|j| j.min(far)).collect(), vec![far; b.len() + 1]];
    for i in 1..=a.len() {
        let [before, last, row] = &mut rows;
        row.fill(far);
        let (from, to) = (i.saturating_sub(most), (i + most).min(b.len()));
        if from == 0 {
            row[0] = i.min(far);
        }
        for j in from.max(1)..=to {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row[j] = least.min(far);
        }
        rows.rotate_left(1);
    }
    Some(rows[1][b.len()]).filter(|distance| *distance <= most)
}

/// `a`, `a and b`, `a, b and c`; beyond twelve, how many more there are.
pub(crate) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    const MOST: usize = 12;
    let mut rest = items.into_iter();
    let mut items: Vec<String> = rest.by_ref().take(MOST + 1).map(|item| item.to_string()).collect();
    // The rest is counted without being formatted.
    let more = rest.count();
    if more > 0 {
        items.truncate(MOST);
        items.push(format!("{} more", more + 1));
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

/// A duration in its largest whole unit.
pub(crate) fn duration(seconds: u64) -> String {
    let (number, noun) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// `` `text` ``, as names are written in messages.
pub(crate) fn quoted(text: impl std::fmt::Display) -> String {
    format!("`{text}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let names = ["shop", "billing", "api"];
        for (name, meant) in [
            ("shpo", Some("shop")),
            ("biling", Some("billing")),
            ("bilingl", Some("billing")),
            ("aip", Some("api")),
            ("shop", Some("shop")),
            ("s", None),
            ("", None),
            ("warehouse", None),
        ] {
            assert_eq!(nearest(name, names), meant, "{name}");
        }
        assert_eq!(nearest("我的数居", ["我的数据"]), Some("我的数据"));
        assert_eq!(Candidates::of("我的数居", ["我的数据", "x"]).unwrap().nearest("我的数居"), Some("我的数据"));
    }

    #[test]
    fn the_band_finds_the_distance_that_the_whole_matrix_has() {
        let words = ["", "a", "ab", "ba", "abc", "acb", "bca", "kitten", "sitting", "abcdefgh", "badcfehg", "aaaaaaa"];
        for (a, b) in words.iter().flat_map(|a| words.map(|b| (*a, b))) {
            let whole = strsim::osa_distance(a, b);
            let chars: Vec<char> = a.chars().collect();
            for most in 1..9 {
                assert_eq!(distance(&chars, b, most), Some(whole).filter(|d| *d <= most), "{a} {b} {most}");
            }
        }
    }

    #[test]
    fn a_hint_is_sought_among_a_bounded_number_of_names() {
        let long = "x".repeat(250);
        let names: Vec<String> = (0..5_000).map(|n| format!("{long}{n}")).collect();
        let before = work::steps();
        let candidates = Candidates::of(&long, names.iter().map(|n| &**n)).unwrap();
        assert_eq!(work::steps(), before, "gathered, not compared");
        assert!(candidates.0.len() <= limits::CANDIDATES);
        let _ = candidates.nearest(&long);
        assert!(work::steps() - before <= limits::CANDIDATES as u64);
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
