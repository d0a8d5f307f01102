//! Parsers of deployment files: from text to declarations. They read no file and run none.

use std::path::Path;

use mesh_model::declare::{Declaration, Expect};
use mesh_proto::Label;

mod mesh_toml;
mod warp_config;

/// The largest `mesh.toml`, in bytes.
const TOML_MAX: usize = 1 << 20;

/// The contents of a file.
#[derive(Debug)]
pub struct Parsed {
    /// One, or as many as a `warp.config.js` has services.
    pub declarations: Vec<Declaration>,
    /// What a `mesh.toml` expects of the rules.
    pub expectations: Vec<Expect>,
    /// What was ignored.
    pub warnings: Vec<String>,
}

/// An error in a file, with its place: `FILE:LINE: what, and what to do about it`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct FileError {
    place: String,
    message: String,
}

/// Parses a deployment file: a `warp.config.js` if its name ends in `.js`, otherwise a `mesh.toml`. `deployment` is
/// the value of `--deployment`, which only a `warp.config.js` needs, because it doesn't name its deployment.
///
/// # Errors
/// The first error of the file.
pub fn parse(path: &Path, text: &str, deployment: Option<&Label>) -> Result<Parsed, FileError> {
    let source = Source { name: path.display().to_string(), text };
    let is_script = path.extension().is_some_and(|e| e == "js" || e == "cjs" || e == "mjs");
    let limit = if is_script { warp_config::MAX } else { TOML_MAX };
    if text.len() > limit {
        return Err(source.error(None, format!("has {} bytes, and {limit} are the most", text.len())));
    }
    match is_script {
        true => warp_config::parse(&source, deployment),
        false => mesh_toml::parse(&source, deployment),
    }
}

/// A file's text and name.
struct Source<'a> {
    name: String,
    text: &'a str,
}

impl Source<'_> {
    /// An error at a byte offset, or about the whole file.
    fn error(&self, at: Option<usize>, message: impl Into<String>) -> FileError {
        FileError { place: self.place(at), message: message.into() }
    }

    fn place(&self, at: Option<usize>) -> String {
        let Some(at) = at else { return self.name.clone() };
        let line = self.text.bytes().take(at).filter(|b| *b == b'\n').count() + 1;
        format!("{}:{line}", self.name)
    }
}

/// The most similar name.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> &'a str {
    // A longer name is no typing error, and comparing it would take long.
    let name: String = name.chars().take(80).collect();
    known.into_iter().min_by_key(|known| strsim::damerau_levenshtein(&name, known)).unwrap_or_default()
}

/// A name for messages: short, and on one line.
fn shown(name: &str) -> String {
    let short: String = name.chars().take(80).collect();
    let more = if short.len() < name.len() { "…" } else { "" };
    format!("`{}{more}`", short.escape_debug())
}

/// The number as a port, which is never 0.
fn port(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_file_says_what_it_is() {
        let shop = "shop".parse().unwrap();
        for name in ["mesh.toml", "shop.toml", "shop", "js", "a.js.toml"] {
            assert!(parse(Path::new(name), "deployment = 'shop'", None).is_ok(), "{name}");
        }
        for name in ["warp.config.js", "/x/y.js", "a.cjs"] {
            assert!(parse(Path::new(name), "module.exports = { docker: 'a' }", Some(&shop)).is_ok(), "{name}");
        }
    }

    #[test]
    fn large_files_are_refused_before_they_are_parsed() {
        let error = |name: &str, size| parse(Path::new(name), &"#".repeat(size), None).unwrap_err().to_string();
        assert_eq!(error("mesh.toml", (1 << 20) + 1), "mesh.toml: has 1048577 bytes, and 1048576 are the most");
        assert_eq!(error("a.js", (1 << 16) + 1), "a.js: has 65537 bytes, and 65536 are the most");
    }

    #[test]
    fn lines_are_counted_from_one() {
        let source = Source { name: "f".to_owned(), text: "a\nb\r\nc" };
        let places: Vec<_> = [0, 2, 5, 999].map(|at| source.place(Some(at))).into();
        assert_eq!(places, ["f:1", "f:2", "f:3", "f:3"]);
    }

    #[test]
    fn names_are_shown_on_one_line() {
        assert_eq!(shown("my db"), "`my db`");
        assert_eq!(shown("a\n\u{202e}b"), "`a\\n\\u{202e}b`");
        assert_eq!(shown(&"é".repeat(81)), format!("`{}…`", "é".repeat(80)));
    }
}
