//! The reference of a program's command line, from its definitions.

use std::fmt::Write as _;

use clap::Command;

/// Columns of a page, without the indentation that Markdown readers may add.
const WIDTH: usize = 98;

/// Asserts that a page is the reference of a program: what `--help` prints, of each command that isn't hidden.
///
/// # Panics
/// If it isn't. With `UPDATE_DOCS=1` in the environment the page is written instead.
pub fn reference(page: &str, program: Command) {
    let mut program = without_values(program).term_width(WIDTH);
    program.build();
    let name = program.get_name().to_owned();
    let mut text = format!(
        "# {name}\n\nThis page lists every command of `{name}` and its options, as `--help` prints them.\n\n\
         <!-- Generated: UPDATE_DOCS=1 cargo test -p {name} reference -->\n"
    );
    section(&mut text, &mut program, &name);
    super::update(page, &text);
}

fn section(text: &mut String, command: &mut Command, path: &str) {
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(text, "\n## {path}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let path = format!("{path} {}", sub.get_name());
        section(text, sub, &path);
    }
}

/// The values of environment variables are this machine's.
fn without_values(command: Command) -> Command {
    command.mut_args(|argument| argument.hide_env_values(true)).mut_subcommands(without_values)
}
