//! Pages: found, read, taken apart, compared.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Directories that hold no pages of ours.
const SKIPPED: [&str; 3] = ["target", ".git", "corpus"];

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text of a file, by its path from the root.
///
/// # Panics
/// If it can't be read.
#[must_use]
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("cannot read {path}: {e}"))
}

/// Asserts that a page that is generated holds `expected`. With `UPDATE_DOCS=1` in the environment it is written.
///
/// # Panics
/// If it differs, or can't be written.
pub fn update(path: &str, expected: &str) {
    let file = root().join(path);
    if env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(&file, expected).unwrap_or_else(|e| panic!("cannot write {path}: {e}"));
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    let line = differs.unwrap_or_else(|| found.lines().count().min(expected.lines().count())) + 1;
    assert!(
        found == expected,
        "{path} differs from the code at line {line}; with UPDATE_DOCS=1 this test writes it anew"
    );
}

/// The rows of the table after `<!-- MARKER -->`, without its heading: each a list of cells.
///
/// # Panics
/// If there is no such marker.
#[must_use]
pub fn table(text: &str, marker: &str) -> Vec<Vec<String>> {
    let marker = format!("<!-- {marker} -->");
    let (_, after) = text.split_once(&marker).unwrap_or_else(|| panic!("there is no {marker}"));
    let lines = after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    lines.skip(2).map(cells).collect()
}

/// A Markdown file.
#[derive(Debug)]
pub struct Page {
    /// Its path from the root.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Every Markdown file of the repository.
#[must_use]
pub fn all() -> Vec<Page> {
    let mut paths = Vec::new();
    gather(&root(), Path::new(""), &mut paths);
    paths.sort();
    paths.into_iter().map(|path| Page { text: read(&path), path }).collect()
}

fn gather(root: &Path, under: &Path, paths: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(under)).into_iter().flatten().flatten() {
        let path = under.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if !SKIPPED.iter().any(|skipped| path.ends_with(skipped)) {
                gather(root, &path, paths);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path.display().to_string());
        }
    }
}

impl Page {
    /// Its lines outside of fenced blocks, with their numbers.
    pub fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut fenced = false;
        self.text.lines().enumerate().filter_map(move |(number, line)| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            (!fenced && !fence).then_some((number + 1, line))
        })
    }

    /// What its links lead to, as written, with the numbers of their lines.
    pub fn links(&self) -> impl Iterator<Item = (usize, &str)> {
        self.prose().flat_map(|(number, line)| {
            line.split("](").skip(1).filter_map(move |rest| Some((number, rest.split_once(')')?.0)))
        })
    }

    /// Its words in backquotes, with the numbers of their lines.
    pub fn quoted(&self) -> impl Iterator<Item = (usize, &str)> {
        self.prose().flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(move |word| (number, word)))
    }

    /// Its headings, as links name them: lower case, with `-` for spaces, without punctuation.
    pub fn anchors(&self) -> impl Iterator<Item = String> {
        self.prose().filter(|(_, line)| line.starts_with('#')).map(|(_, line)| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
    }
}
