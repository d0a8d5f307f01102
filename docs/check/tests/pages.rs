//! What holds for every page of the documentation.

use std::{collections::BTreeSet, fs, path::Path};

use mesh_docs_check::{Page, all, read, root, table, update};
use mesh_engine::Reason;

const REASONS: &str = "docs/reference/drop-reasons.md";

fn book() -> Vec<Page> {
    all().into_iter().filter(|page| page.path.starts_with("docs/") && page.path != "docs/SUMMARY.md").collect()
}

/// A path as seen from the directory of a page, without `.` and `..`.
fn resolve(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn every_link_leads_somewhere() {
    let pages = all();
    let mut dead = Vec::new();
    for page in &pages {
        for (line, link) in page.links().filter(|(_, link)| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let path = if file.is_empty() { page.path.clone() } else { resolve(&page.path, file) };
            let target = pages.iter().find(|page| page.path == path);
            let there = match (anchor, target) {
                (Some(anchor), Some(target)) => target.anchors().any(|heading| heading == anchor),
                (Some(_), None) => false,
                (None, _) => root().join(&path).exists(),
            };
            if !there {
                dead.push(format!("{}:{line}: {link}", page.path));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
}

/// Files that the pages name are there: `mesh-node/engine/src/drop.rs`.
#[test]
fn every_path_that_is_named_exists() {
    let top = ["mesh-node/", "mesh-coord/", "proto/", "tests/", "netns-tests/", "runtime-tests/", "scripts/", "docs/"];
    let mut missing = Vec::new();
    for page in all().iter().filter(|page| page.path != "CHANGELOG.md") {
        for (line, word) in page.quoted().filter(|(_, word)| top.iter().any(|top| word.starts_with(top))) {
            let path = word.split(|c: char| c.is_whitespace() || c == ':').next().unwrap_or_default();
            if !path.contains(['*', '{', '…']) && !root().join(path).exists() {
                missing.push(format!("{}:{line}: {word}", page.path));
            }
        }
    }
    assert!(missing.is_empty(), "paths that don't exist:\n{}", missing.join("\n"));
}

/// Pages that comments of the code cite are there: the code cites nothing outside of the repository.
#[test]
fn every_page_that_the_code_cites_exists() {
    let mut missing = Vec::new();
    rust_files(&mut |path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        cited(&text).filter(|page| !root().join(page).exists()).for_each(|page| {
            missing.push(format!("{}: {page}", path.strip_prefix(root()).unwrap_or(path).display()));
        });
    });
    assert!(missing.is_empty(), "pages that are cited and don't exist:\n{}", missing.join("\n"));
}

/// Every source file, but those of this crate.
fn rust_files(visitor: &mut dyn FnMut(&Path)) {
    let mut visit = vec![root()];
    while let Some(directory) = visit.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if !["target", ".git", "docs/check"].iter().any(|skipped| path.ends_with(skipped)) {
                    visit.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                visitor(&path);
            }
        }
    }
}

fn cited(text: &str) -> impl Iterator<Item = String> {
    text.split("docs/").skip(1).filter_map(|rest| {
        let path = rest.split(|c: char| !c.is_ascii_alphanumeric() && !"/-_.".contains(c)).next()?;
        let path = path.trim_end_matches('.');
        Path::new(path).extension().is_some_and(|e| e == "md").then(|| format!("docs/{path}"))
    })
}

#[test]
fn the_summary_lists_every_page_once() {
    let summary = all().into_iter().find(|page| page.path == "docs/SUMMARY.md").expect("docs/SUMMARY.md");
    let listed: Vec<String> = summary.links().map(|(_, link)| resolve(&summary.path, link)).collect();
    let distinct: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(distinct.len(), listed.len(), "a page is listed twice");
    let pages = book();
    assert_eq!(distinct, pages.iter().map(|page| &page.path).collect(), "docs/SUMMARY.md lists other pages");
}

/// Tables can't be wrapped, and neither can the usage of a command, which is generated.
#[test]
fn lines_have_at_most_100_columns() {
    let pages = all().into_iter().filter(|page| page.path != "CHANGELOG.md");
    let long = pages.flat_map(|page| {
        let lines = page.text.lines().enumerate();
        let long = lines
            .filter(|(_, line)| line.chars().count() > 100 && !line.starts_with('|') && !line.starts_with("Usage: "));
        long.map(|(number, _)| format!("{}:{}", page.path, number + 1)).collect::<Vec<_>>()
    });
    let long: Vec<String> = long.collect();
    assert!(long.is_empty(), "lines of more than 100 columns:\n{}", long.join("\n"));
}

/// A page answers one question, and its first sentence says which.
#[test]
fn every_page_says_first_what_it_answers() {
    for page in book() {
        let mut lines = page.text.lines();
        let (title, blank, first) = (lines.next(), lines.next(), lines.next());
        let begins = title.is_some_and(|line| line.starts_with("# ")) && blank == Some("");
        assert!(begins && first.is_some_and(|line| line.starts_with("This page ")), "{} begins otherwise", page.path);
    }
}

#[test]
fn readme_and_architecture_stay_short() {
    let readme = read("README.md");
    let (lines, words) = (readme.lines().count(), readme.split_whitespace().count());
    assert!(lines <= 150 && words <= 1000, "README.md: {lines} lines of 150, {words} words of 1,000");
    let lines = read("ARCHITECTURE.md").lines().count();
    assert!(lines <= 150, "ARCHITECTURE.md: {lines} lines of 150");
}

/// Tests that the table of shared resources names are there.
#[test]
fn every_test_that_shows_a_limit_exists() {
    let page = all().into_iter().find(|page| page.path == "docs/security/shared-resources.md").expect("the page");
    let mut sources = String::new();
    rust_files(&mut |path| sources += &fs::read_to_string(path).unwrap_or_default());
    let is_test = |word: &str| word.matches('_').count() > 2 && !word.contains(['/', '.']);
    let gone = page.quoted().filter(|(_, word)| is_test(word)).filter(|(_, word)| {
        let name = word.trim_end_matches('…');
        let end = if name.len() == word.len() { "(" } else { "" };
        !sources.contains(&format!("fn {name}{end}"))
    });
    let gone: Vec<String> = gone.map(|(line, word)| format!("{}:{line}: {word}", page.path)).collect();
    assert!(gone.is_empty(), "tests that don't exist:\n{}", gone.join("\n"));
}

/// The compiler that the pages ask for is the one of `Cargo.toml`.
#[test]
fn the_oldest_compiler_is_the_one_that_is_named() {
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).expect("rust-version");
    let minor: String = version.trim_end_matches('"').split('.').take(2).collect::<Vec<_>>().join(".");
    for page in all().iter().filter(|page| page.path != "CHANGELOG.md") {
        for named in page.text.split("Rust 1.").skip(1) {
            let named = named.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            assert_eq!(format!("1.{named}"), minor, "{}: the oldest Rust", page.path);
        }
    }
}

/// Name and meaning come from the code, cause and cure from the page.
#[test]
fn every_drop_reason_is_explained() {
    let text = read(REASONS);
    let rows = table(&text, "reasons");
    let mut expected = String::from("| reason | meaning | usual cause, and what to do |\n|---|---|---|\n");
    for reason in Reason::ALL {
        let name = format!("`{}`", reason.name());
        let row = rows.iter().find(|row| row[0] == name);
        let cure = row.and_then(|row| row.get(2)).filter(|cure| !cure.is_empty());
        let cure = cure.unwrap_or_else(|| panic!("{REASONS} has no row with a cause for {name}: {reason}"));
        expected += &format!("| {name} | {reason} | {cure} |\n");
    }
    let (before, rest) = text.split_once("<!-- reasons -->\n\n").expect("the marker of the table");
    let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
    update(REASONS, &format!("{before}<!-- reasons -->\n\n{expected}\n{after}"));
}
