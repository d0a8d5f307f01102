//! Output: tables and JSON on standard output, notes and errors on standard error.

use std::io;

use anyhow::{Context as _, Error, Result};
use mesh_process::output;
use mesh_proto::{Label, message::Refusal};
use serde::Serialize;

use crate::api::VERSION;

/// A refusal with its hint, as an error.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.error)]
pub(crate) struct Refused(pub(crate) Refusal);

/// A command that was sent and has no answer: whether it has taken effect is not known.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unanswered(pub(crate) String);

/// Prints one or more lines.
///
/// # Errors
/// If standard output can't be written.
pub(crate) fn print(text: &str) -> Result<()> {
    output::print(&format!("{}\n", text.strip_suffix('\n').unwrap_or(text))).context("cannot write to standard output")
}

/// Prints a value as one line of JSON.
///
/// # Errors
/// If standard output can't be written.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    output::print_raw(&format!("{}\n", serde_json::to_string(value)?)).context("cannot write to standard output")
}

/// Prints one of the model's shapes as one line of JSON, with the version.
///
/// # Errors
/// If standard output can't be written.
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

/// Names with commas between.
pub(crate) fn names(of: &[Label]) -> String {
    of.iter().map(|name| &**name).collect::<Vec<_>>().join(", ")
}

/// Prints a table. Without rows, it prints `none` on standard error instead.
///
/// # Errors
/// If standard output can't be written.
pub(crate) fn print_table(header: &[&str], rows: Vec<Vec<String>>, none: &str) -> Result<()> {
    if rows.is_empty() {
        note(none);
        return Ok(());
    }
    print(&table(header, rows))
}

/// A table.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let lines = output::table(header.iter().map(|name| name.to_uppercase()), rows);
    lines.into_iter().map(|line| line + "\n").collect()
}

/// Prints a note on standard error.
pub(crate) fn note(text: &str) {
    mesh_process::log::say(text);
}

/// Prints an error, and its hint if there is one.
pub(crate) fn complain(error: &Error) {
    note(&format!("error: {error:#}"));
    if let Some(hint) = hint(error) {
        note(&format!("hint: {hint}"));
    }
}

/// What to try next after an error.
pub(crate) fn hint(error: &Error) -> Option<&str> {
    if error.is::<Unanswered>() {
        return Some(
            "the command may have taken effect: look, for example with `mesh-coord audit`, before you try again",
        );
    }
    error.downcast_ref::<Refused>().and_then(|Refused(refusal)| refusal.hint.as_deref())
}

/// Whether the reader of standard output is gone, which is not this program's failure.
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
    fn a_name_cannot_spoof_a_row() {
        let rows = vec![vec!["a\u{202e}b".into(), "refused".into()], vec!["c\u{1b}[2Jd".into(), "x".into()]];
        assert_eq!(table(&["name", "state"], rows), "NAME    STATE\na\u{fffd}b     refused\nc\u{fffd}[2Jd  x\n");
    }

    #[test]
    fn only_a_broken_standard_output_ends_in_silence() {
        let broken = || Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&broken().context("cannot write to standard output")));
        assert!(!is_broken_pipe(&broken().context("the coordinator's answer was lost")));
    }
}
