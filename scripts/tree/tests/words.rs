//! The words of this repository: what plain technical English does without.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Words that are not used, in any file. Programs are nouns ("the runner"), and RFCs' octets are bytes here.
const BANNED: [&str; 5] = ["whoever", "nobody", "somebody", "octet", "octets"];

/// Places that still have some, and how many lines at most. The numbers only fall; an empty place leaves the list.
const LEFT: &[(&str, usize)] = &[
    // The user "nobody", and fields of JSON.
    ("mesh-node/src", 1),
    ("netns-tests", 2),
    ("runtime-tests", 9),
];

/// Files whose subject are the words themselves.
const ABOUT_WORDS: [&str; 2] = ["CONTRIBUTING.md", "scripts/tree/tests/words.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// All texts below a directory, without what builds leave and what fuzzing found.
fn texts(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if entry.is_dir() {
            if !name.starts_with('.') && !["target", "corpus"].contains(&name) {
                texts(&entry, found);
            }
        } else if [".rs", ".md", ".toml", ".sh"].iter().any(|end| name.ends_with(end)) {
            found.push(entry);
        }
    }
}

fn has_banned(line: &str) -> bool {
    // A method of the standard library.
    let line = line.replace("octets()", "");
    let words = line.split(|c: char| !c.is_ascii_alphanumeric());
    words.into_iter().any(|word| BANNED.contains(&word.to_ascii_lowercase().as_str()))
}

#[test]
fn plain_words_are_used() {
    let root = root();
    let mut files = Vec::new();
    texts(&root, &mut files);
    let mut lines: Vec<String> = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).expect("below it").display().to_string();
        if ABOUT_WORDS.contains(&name.as_str()) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a text");
        let banned = text.lines().enumerate().filter(|(_, line)| has_banned(line));
        lines.extend(banned.map(|(at, line)| format!("{name}:{}: {}", at + 1, line.trim())));
    }
    let mut too_many = Vec::new();
    for (place, most) in LEFT {
        let (here, elsewhere): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.starts_with(place));
        lines = elsewhere;
        if here.len() > *most {
            too_many.push(format!("{place}: {} lines, {most} are the most: {here:#?}", here.len()));
        }
    }
    assert!(lines.is_empty(), "banned words ({BANNED:?}): {lines:#?}");
    assert!(too_many.is_empty(), "{too_many:#?}");
}
