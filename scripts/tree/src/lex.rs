//! Rust's tokens, as far as paths need them: words, punctuation, and no comments, strings or lifetimes.

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// An identifier or keyword.
    Word(String),
    /// `::`.
    Colons,
    /// Any other character.
    Mark(char),
}

impl Token {
    /// The word, if it is one.
    pub(crate) fn word(&self) -> Option<&str> {
        if let Self::Word(word) = self { Some(word) } else { None }
    }
}

/// The tokens of a source text.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut at, mut found) = (0, Vec::new());
    while let Some(&char) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        at = match char {
            '/' if next == Some('/') => find(&chars, at, |c| c == '\n'),
            '/' if next == Some('*') => after_comment(&chars, at),
            '"' => after_string(&chars, at),
            'r' | 'b' | 'c' if string_prefix(&chars, at).is_some() => {
                let (quote, hashes) = string_prefix(&chars, at).unwrap_or((at, None));
                hashes.map_or_else(|| after_string(&chars, quote), |hashes| after_raw_string(&chars, quote, hashes))
            }
            '\'' => after_quote(&chars, at),
            ':' if next == Some(':') => {
                found.push(Token::Colons);
                at + 2
            }
            c if c.is_alphabetic() || c == '_' => {
                let end = find(&chars, at, |c| !c.is_alphanumeric() && c != '_');
                found.push(Token::Word(chars[at..end].iter().collect()));
                end
            }
            c if c.is_numeric() => find(&chars, at, |c| !c.is_alphanumeric() && c != '_'),
            c => {
                if !c.is_whitespace() {
                    found.push(Token::Mark(c));
                }
                at + 1
            }
        };
    }
    found
}

fn find(chars: &[char], from: usize, end: impl Fn(char) -> bool) -> usize {
    chars[from..].iter().position(|c| end(*c)).map_or(chars.len(), |length| from + length)
}

fn after_comment(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0_usize);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => {
                (at, depth) = (at + 2, depth - 1);
                if depth == 0 {
                    break;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn after_string(chars: &[char], quote: usize) -> usize {
    let mut at = quote + 1;
    while let Some(&char) = chars.get(at) {
        match char {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// Where the quote of a string with a prefix (`r#"`, `b"`, `br"`, `c"`) is, and of how many hashes a raw one has.
fn string_prefix(chars: &[char], from: usize) -> Option<(usize, Option<usize>)> {
    // The prefix is not the end of a longer word.
    if from > 0 && chars.get(from - 1).is_some_and(|c| c.is_alphanumeric() || *c == '_') {
        return None;
    }
    let mut at = from;
    if matches!(chars.get(at), Some('b' | 'c')) {
        at += 1;
    }
    let raw = chars.get(at) == Some(&'r');
    at += usize::from(raw);
    let hashes = if raw { find(chars, at, |c| c != '#') - at } else { 0 };
    (chars.get(at + hashes) == Some(&'"')).then_some((at + hashes, raw.then_some(hashes)))
}

fn after_raw_string(chars: &[char], quote: usize, hashes: usize) -> usize {
    let mut at = quote + 1;
    while at < chars.len() {
        let closes =
            chars[at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').take(hashes).count() == hashes;
        if closes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}

/// After a character or a lifetime.
fn after_quote(chars: &[char], quote: usize) -> usize {
    match (chars.get(quote + 1), chars.get(quote + 2)) {
        (Some('\\'), _) => (find(chars, quote + 3, |c| c == '\'') + 1).min(chars.len()),
        (Some(_), Some('\'')) => quote + 3,
        _ => find(chars, quote + 1, |c| !c.is_alphanumeric() && c != '_'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_paths_are_found_and_nothing_in_comments_or_strings() {
        let text = r##"
            // crate::no
            /* crate::no /* nested */ */
            let a = "crate::no \" still"; let b = r#"crate::no"#; let c = b"crate::no"; let d = '"';
            fn f<'a>(x: &'a str) -> crate::yes { 'x' }
        "##;
        let found = tokens(text);
        assert!(!found.contains(&Token::Word("no".to_owned())), "{found:?}");
        let yes = found.windows(3).any(|w| {
            w[0] == Token::Word("crate".to_owned()) && w[1] == Token::Colons && w[2] == Token::Word("yes".to_owned())
        });
        assert!(yes, "{found:?}");
        assert_eq!(found.iter().filter(|token| **token == Token::Mark('{')).count(), 1);
    }
}
