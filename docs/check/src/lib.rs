//! Holds the documentation to the code, in tests: pages that are generated are compared with what the code says, and
//! written anew with `UPDATE_DOCS=1`. The programs' own tests call [`reference()`] and [`names`]; the tests of this crate
//! check what concerns all pages.

mod page;
mod reference;

pub use page::{Page, all, read, root, table, update};
pub use reference::reference;

/// Asserts that the table of `page` after the marker `<!-- MARKER -->` has a row for each of `names`, in this order,
/// and no other row. The name is the first cell, in backquotes.
///
/// # Panics
/// If it hasn't.
pub fn names(page: &str, marker: &str, names: &[&str]) {
    let text = read(page);
    let rows: Vec<String> = table(&text, marker).iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(rows, names, "{page}: the table after <!-- {marker} --> lists other names than the code");
}
