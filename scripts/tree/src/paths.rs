//! Paths and `use` declarations.

use crate::lex::Token;

/// One name that a `use` declaration binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    /// The path, as it is written.
    pub(crate) path: Vec<String>,
    /// The name; `None` for all names of the path (`*`).
    pub(crate) name: Option<String>,
}

/// The path that the tokens begin with, and how many tokens it takes. It is empty where they begin with none.
pub(crate) fn path(tokens: &[Token]) -> (Vec<String>, usize) {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(word) = tokens.get(at).and_then(Token::word) {
        found.push(word.to_owned());
        at += 1;
        if tokens.get(at) != Some(&Token::Colons) || tokens.get(at + 1).and_then(Token::word).is_none() {
            break;
        }
        at += 1;
    }
    (found, at)
}

/// What the tokens between `use` and `;` bind.
pub(crate) fn imports(tokens: &[Token]) -> Vec<Import> {
    let mut found = Vec::new();
    tree(tokens, &[], &mut found);
    found
}

/// Reads one branch of a `use` tree below `prefix`; returns how many tokens it takes.
fn tree(tokens: &[Token], prefix: &[String], found: &mut Vec<Import>) -> usize {
    // A leading `::` names another crate.
    let mut at = usize::from(tokens.first() == Some(&Token::Colons));
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at) {
            Some(Token::Word(word)) => {
                if word != "self" || path.is_empty() {
                    path.push(word.clone());
                }
                at += 1;
            }
            Some(Token::Mark('{')) => {
                at += 1;
                while !matches!(tokens.get(at), None | Some(Token::Mark('}'))) {
                    at += tree(&tokens[at..], &path, found);
                    at += usize::from(tokens.get(at) == Some(&Token::Mark(',')));
                }
                return at + 1;
            }
            Some(Token::Mark('*')) => {
                found.push(Import { path, name: None });
                return at + 1;
            }
            _ => return at.max(1),
        }
        match tokens.get(at) {
            Some(Token::Colons) => at += 1,
            Some(Token::Word(word)) if word == "as" => {
                let name = tokens.get(at + 1).and_then(Token::word).map(str::to_owned);
                found.push(Import { path, name: Some(name.unwrap_or_default()) });
                return at + 2;
            }
            _ => {
                let name = path.last().cloned();
                found.push(Import { path, name });
                return at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lex::tokens;

    #[test]
    fn a_tree_binds_each_of_its_leaves() {
        let found = imports(&tokens("crate::{a::{self, B as C}, d::*, e}"));
        let shown: Vec<String> =
            found.iter().map(|i| format!("{} {}", i.path.join("::"), i.name.as_deref().unwrap_or("*"))).collect();
        assert_eq!(shown, ["crate::a a", "crate::a::B C", "crate::d *", "crate::e e"]);
    }

    #[test]
    fn a_path_ends_before_generics() {
        assert_eq!(path(&tokens("a::b::<C>::d")), (vec!["a".to_owned(), "b".to_owned()], 3));
    }
}
