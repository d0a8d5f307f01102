//! The output of the command line: tables for people, JSON for programs, errors for both.

use std::{
    env,
    io::{self, IsTerminal as _},
};

use mesh_process::output;
use mesh_proto::message::Refusal;
use serde::Serialize;

use super::error::CliError;
use crate::hint::Hint;

/// How a failed command ends.
#[derive(Debug)]
pub(super) enum Failure {
    /// With the usual exit code.
    Refused(Refusal),
    /// With this exit code.
    Code(Refusal, u8),
    /// The reader of standard output has closed it, which is no error.
    BrokenPipe,
}

impl Failure {
    /// A failure with this exit code.
    pub(super) fn with_code(error: &impl Hint, code: u8) -> Self {
        Self::Code(error.refusal(), code)
    }
}

impl<E: Hint> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Refused(error.refusal())
    }
}

/// Standard output, in the form that the user asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// Whether that is JSON.
    pub(super) json: bool,
    colours: bool,
}

/// A colour or weight.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ink {
    Bold,
    Good,
    Bad,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json, colours: colours(io::stdout().is_terminal()) }
    }

    /// Prints text for people. Names in it can't spoof a row.
    pub(super) fn print(&self, text: &str) -> Result<(), Failure> {
        written(output::print(text))
    }

    /// Prints data for programs; on a terminal like text for people.
    pub(super) fn print_data(&self, text: &str) -> Result<(), Failure> {
        if io::stdout().is_terminal() { self.print(text) } else { written(output::print_raw(text)) }
    }

    /// Prints one line of JSON.
    pub(super) fn print_json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(value).map_err(CliError::Json)?;
        written(output::print_raw(&format!("{line}\n")))
    }

    /// Text in a colour, if standard output shows colours.
    pub(super) fn ink(&self, ink: Ink, text: &str) -> String {
        paint(self.colours, ink, text)
    }

    /// Rows in columns, under a heading.
    pub(super) fn table<const N: usize>(
        &self,
        heading: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> String {
        let mut lines = output::table(heading.map(str::to_owned), rows).into_iter();
        let heading = lines.next().map(|line| self.ink(Ink::Bold, &line)).into_iter();
        heading.chain(lines).map(|line| line + "\n").collect()
    }
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Failure::BrokenPipe),
        Err(e) => Err(CliError::Output(e).into()),
    }
}

/// Prints an error and its hint on standard error.
pub(super) fn complain(refusal: &Refusal) {
    let colours = colours(io::stderr().is_terminal());
    let mut text = format!("{} {}\n", paint(colours, Ink::Bad, "error:"), refusal.error);
    if let Some(hint) = &refusal.hint {
        text += &format!("{} {hint}\n", paint(colours, Ink::Bold, "hint:"));
    }
    mesh_process::log::say(&text);
}

/// Prints a note on standard error.
pub(super) fn note(text: &str) {
    mesh_process::log::say(text);
}

/// Whether standard error shows colours: for the log.
pub(super) fn log_colours() -> bool {
    colours(io::stderr().is_terminal())
}

/// <https://no-color.org>: any value but the empty one.
fn colours(terminal: bool) -> bool {
    terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn paint(colours: bool, ink: Ink, text: &str) -> String {
    let code = match ink {
        Ink::Bold => 1,
        Ink::Good => 32,
        Ink::Bad => 31,
    };
    if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_spoof_a_row() {
        let output = Output { json: false, colours: false };
        let rows = [["a\u{202e}b".to_owned(), "1".to_owned()], ["c\u{2067}\u{1b}d".to_owned(), "22".to_owned()]];
        assert_eq!(output.table(["NAME", "N"], rows), "NAME  N\na\u{fffd}b   1\nc\u{fffd}\u{fffd}d  22\n");
    }

    #[test]
    fn colours_are_for_headings_and_only_where_there_are_colours() {
        let output = Output { json: false, colours: true };
        assert_eq!(output.table(["A"], [["b".to_owned()]]), "\x1b[1mA\x1b[0m\nb\n");
        assert_eq!(Output { colours: false, ..output }.ink(Ink::Bad, "no"), "no");
    }
}
