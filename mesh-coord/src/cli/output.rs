//! What people and programs read: tables and JSON on standard output, complaints on standard error.

use std::io::{self, Write as _};

use anyhow::{Context as _, Error, Result};
use comfy_table::{ContentArrangement, Table, presets};
use mesh_proto::message::Refusal;
use serde::Serialize;

use crate::api::VERSION;

/// A refusal as a complaint: the reason, and what to try next.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.error)]
pub(crate) struct Refused(pub(crate) Refusal);

/// Prints a line, or several.
///
/// # Errors
/// If standard output doesn't take it.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

/// Prints a value as one line of JSON.
///
/// # Errors
/// If standard output doesn't take it.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string(value)?)
}

/// Prints a shape of the model's own as one line of JSON, with the version.
///
/// # Errors
/// If standard output doesn't take it.
pub(crate) fn print_versioned(value: &impl Serialize) -> Result<()> {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        version: u32,
        #[serde(flatten)]
        value: &'a T,
    }
    print_json(&Versioned { version: VERSION, value })
}

/// `1 service`, `2 services`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Prints a table for people; with no rows, says so on standard error instead.
///
/// # Errors
/// If standard output doesn't take it.
pub(crate) fn print_table(header: &[&str], rows: Vec<Vec<String>>, none: &str) -> Result<()> {
    if rows.is_empty() {
        note(none);
        return Ok(());
    }
    print(&table(header, rows))
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    // Names may hold anything printable, terminals' own marks among them: nothing here may move a cursor.
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| visible(&cell))));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The text without control characters or marks that turn the writing direction.
fn visible(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect()
}

/// Says something beside the data, on standard error.
pub(crate) fn note(text: &str) {
    mesh_process::log::say(text);
}

/// Says why a command failed, and what to try next where that is known.
pub(crate) fn complain(error: &Error) {
    note(&format!("error: {error:#}"));
    if let Some(Refused(Refusal { hint: Some(hint), .. })) = error.downcast_ref() {
        note(&format!("hint: {hint}"));
    }
}

/// Whether whoever reads standard output has gone, which is no failure of ours.
pub(crate) fn is_broken_pipe(error: &Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
        && error.to_string().contains("standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_text_in_columns() {
        let rows = vec![vec!["a".into(), "x y".into()], vec!["long name".into(), String::new()]];
        assert_eq!(table(&["id", "what"], rows), "ID         WHAT\na          x y\nlong name\n");
    }

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb\u{202e}c 我✅"), "a\u{fffd}[2Jb\u{fffd}c 我✅");
    }

    #[test]
    fn only_a_broken_standard_output_ends_in_silence() {
        let broken = || Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&broken().context("cannot write to standard output")));
        assert!(!is_broken_pipe(&broken().context("the coordinator's answer was lost")));
    }
}
