//! The modules of a crate, what each one imports and defines, and which paths it names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    lex::{Token, tokens},
    paths::{self, Import},
};

/// A module by its path from the crate's root; the root itself is empty.
pub(crate) type Name = Vec<String>;

/// One module.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// What `use` declarations bind.
    pub(crate) imports: Vec<Import>,
    /// All paths of two segments or more, those of `use` declarations among them.
    pub(crate) paths: BTreeSet<Vec<String>>,
    /// The items that it defines, by name.
    pub(crate) items: BTreeSet<String>,
}

/// The modules of a crate without its test code.
#[derive(Debug)]
pub struct Crate(pub(crate) BTreeMap<Name, Module>);

/// Reads the crate whose root is this file.
///
/// # Errors
/// If a file can't be read.
pub fn read(root: &Path) -> io::Result<Crate> {
    let mut found = Crate(BTreeMap::new());
    found.read_file(root, Vec::new(), true)?;
    Ok(found)
}

impl Crate {
    fn read_file(&mut self, file: &Path, name: Name, owns_directory: bool) -> io::Result<()> {
        let text = fs::read_to_string(file)?;
        let mut directory = file.parent().map(Path::to_path_buf).unwrap_or_default();
        if !owns_directory {
            directory.push(file.file_stem().unwrap_or_default());
        }
        self.read_items(&without_tests(&tokens(&text)), &name, &directory)
    }

    fn read_items(&mut self, tokens: &[Token], name: &Name, directory: &Path) -> io::Result<()> {
        let mut module = Module::default();
        let mut at = 0;
        while at < tokens.len() {
            let word = |n: usize| tokens.get(at + n).and_then(Token::word);
            match (word(0), word(1)) {
                (Some("mod"), Some(child)) if tokens.get(at + 2) == Some(&Token::Mark(';')) => {
                    self.read_child_file(child, name, directory)?;
                    at += 3;
                }
                (Some("mod"), Some(child)) if tokens.get(at + 2) == Some(&Token::Mark('{')) => {
                    let end = after_block(tokens, at + 2);
                    let (inner, child_directory) = (&tokens[at + 3..end - 1], directory.join(child));
                    self.read_items(inner, &joined(name, child), &child_directory)?;
                    at = end;
                }
                (Some("use"), _) => {
                    let end = tokens[at..].iter().position(|token| *token == Token::Mark(';'));
                    let end = end.map_or(tokens.len(), |length| at + length);
                    let imports = paths::imports(&tokens[at + 1..end]);
                    module.paths.extend(imports.iter().map(|import| import.path.clone()));
                    module.imports.extend(imports);
                    at = end + 1;
                }
                (Some("struct" | "enum" | "union" | "trait" | "type" | "const" | "static" | "fn"), Some(item)) => {
                    module.items.insert(item.to_owned());
                    at += 2;
                }
                _ => {
                    let (path, length) = paths::path(&tokens[at..]);
                    if path.len() > 1 {
                        module.paths.insert(path);
                    }
                    at += length.max(1);
                }
            }
        }
        self.0.insert(name.clone(), module);
        Ok(())
    }

    fn read_child_file(&mut self, child: &str, parent: &Name, directory: &Path) -> io::Result<()> {
        let candidates: [(PathBuf, bool); 2] =
            [(directory.join(format!("{child}.rs")), false), (directory.join(child).join("mod.rs"), true)];
        match candidates.into_iter().find(|(file, _)| file.is_file()) {
            Some((file, owns)) => self.read_file(&file, joined(parent, child), owns),
            None => Err(io::Error::other(format!("no file for the module {child} in {}", directory.display()))),
        }
    }
}

fn joined(parent: &Name, child: &str) -> Name {
    let mut name = parent.clone();
    name.push(child.to_owned());
    name
}

/// The position after the block that begins at `open`.
pub(crate) fn after_block(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Mark('{' | '(' | '[') => depth += 1,
            Token::Mark('}' | ')' | ']') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// Leaves out what stands under `#[cfg(test)]`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let (word, mark) = (|text: &str| Token::Word(text.to_owned()), Token::Mark);
    let test = [mark('#'), mark('['), word("cfg"), mark('('), word("test"), mark(')'), mark(']')];
    let (mut at, mut kept) = (0, Vec::new());
    while at < tokens.len() {
        if tokens[at..].starts_with(&test) {
            at = after_item(tokens, at + test.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// The position after the item, statement, field or match arm that begins at `from`.
fn after_item(tokens: &[Token], from: usize) -> usize {
    const ITEMS: [&str; 14] = [
        "pub",
        "fn",
        "mod",
        "use",
        "impl",
        "struct",
        "enum",
        "trait",
        "type",
        "const",
        "static",
        "async",
        "unsafe",
        "macro_rules",
    ];
    let mut at = from;
    while tokens.get(at) == Some(&Token::Mark('#')) {
        at = after_block(tokens, at + 1);
    }
    let is_item = tokens.get(at).and_then(Token::word).is_some_and(|word| ITEMS.contains(&word));
    while let Some(token) = tokens.get(at) {
        match token {
            Token::Mark(';') => return at + 1,
            Token::Mark(',') if !is_item => return at + 1,
            Token::Mark('{') => return after_block(tokens, at),
            Token::Mark('(' | '[') => at = after_block(tokens, at),
            Token::Mark('}' | ')' | ']') => return at,
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_code_is_left_out() {
        let text = "#[cfg(test)] mod tests { use crate::a; } struct S { #[cfg(test)] n: b::B, m: c::C } #[cfg(test)] use d::D;";
        let left = without_tests(&tokens(text));
        let words: Vec<&str> = left.iter().filter_map(Token::word).collect();
        assert_eq!(words, ["struct", "S", "m", "c", "C"]);
    }
}
