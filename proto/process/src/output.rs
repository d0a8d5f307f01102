//! Text for terminals: tables, and names that can't spoof a row.
//!
//! A service's name may hold almost any character. A control character could move the cursor, and a bidirectional
//! control could reorder the columns of a row (Unicode Standard Annex 9).

use std::{
    borrow::Cow,
    io::{self, Write as _},
};

use comfy_table::{ContentArrangement, Table, presets::NOTHING};

/// Whether a character changes the direction of the text after it (the `Bidi_Control` property).
const fn is_bidirectional_control(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn replaced(text: &str, hides: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.contains(&hides) { text.replace(hides, "\u{fffd}").into() } else { text.into() }
}

/// A text for one line, such as a table's cell, with control characters and bidirectional controls replaced by
/// U+FFFD.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c.is_control() || is_bidirectional_control(c) || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// A text of several lines in which this program may use colours. Line breaks, tabs and ESC stay, because ESC was
/// removed from names and foreign texts before.
#[must_use]
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| {
        (c.is_control() && !matches!(c, '\n' | '\t' | '\u{1b}'))
            || is_bidirectional_control(c)
            || matches!(c, '\u{2028}' | '\u{2029}')
    })
}

/// Prints text for people on standard output.
///
/// # Errors
/// If standard output can't be written.
pub fn print(text: &str) -> io::Result<()> {
    print_raw(&visible_lines(text))
}

/// Prints data for programs on standard output, unchanged.
///
/// # Errors
/// If standard output can't be written.
pub fn print_raw(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The lines of a table, without line breaks: the heading, then one per row.
pub fn table<R: IntoIterator<Item = String>>(
    heading: impl IntoIterator<Item = String>,
    rows: impl IntoIterator<Item = R>,
) -> Vec<String> {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading.into_iter().collect::<Vec<_>>());
    table.add_rows(
        rows.into_iter().map(|row| row.into_iter().map(|cell| visible(&cell).into_owned()).collect::<Vec<_>>()),
    );
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb\u{202e}c 我✅"), "a\u{fffd}[2Jb\u{fffd}c 我✅");
        assert_eq!(visible_lines("a\u{1b}[1mb\n\tc\u{2067}\r\u{61c}"), "a\u{1b}[1mb\n\tc\u{fffd}\u{fffd}\u{fffd}");
        assert!(matches!(visible_lines("as it was\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_name_stays_in_its_cell() {
        let row = |name: &str| [name.to_owned(), "refused".to_owned()];
        let lines = table(["NAME", "STATE"].map(str::to_owned), [row("a\u{202e}b"), row("c\nd"), row("e\u{2028}f")]);
        assert_eq!(lines, ["NAME  STATE", "a\u{fffd}b   refused", "c\u{fffd}d   refused", "e\u{fffd}f   refused"]);
    }

    #[test]
    fn columns_are_aligned_in_every_script() {
        let rows = [["我的数据".to_owned(), "1".to_owned()], ["db".to_owned(), "22".to_owned()]];
        assert_eq!(table(["NAME", "N"].map(str::to_owned), rows), ["NAME      N", "我的数据  1", "db        22"]);
    }
}
