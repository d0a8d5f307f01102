//! A look at a script before it is parsed, so that parsing it is cheap. The parser tries a parenthesis as a list of
//! parameters first and as an expression then, which doubles its work with each one inside another, and it has a frame
//! on the stack for each bracket. What is written out needs neither.

use super::{Fault, RUNS, Result, fault};

/// Parentheses within one another.
const PARENTHESES: usize = 8;
/// Brackets and braces within one another.
const BRACKETS: usize = 64;

/// Checks that brackets are not too deep, as JavaScript has them: not those in strings, comments and regular
/// expressions. Whatever could make this mistake one for the other is what no written-out value has, and refused.
///
/// # Errors
/// If the script is none that declares anything, and might be costly.
pub(super) fn check(text: &str) -> Result<()> {
    let mut scan = Scan { text, at: 0 };
    if text.starts_with("#!") {
        scan.skip_line();
    }
    let (mut parentheses, mut brackets) = (0_usize, 0_usize);
    // Whether a `/` would begin a regular expression: not behind a value.
    let mut operand = true;
    while let Some(c) = scan.next() {
        let at = scan.at - c.len_utf8();
        match c {
            '/' if scan.eat("/") => scan.skip_line(),
            '/' if scan.eat("*") => scan.skip_past("*/"),
            '/' if operand => {
                scan.skip_regular_expression();
                operand = false;
            }
            '/' => return fault(at, format!("a division {}", RUNS)),
            '<' => return fault(at, format!("`<` {}", RUNS)),
            // At the start of a line this would begin a comment (ECMA-262 annex B.1.1).
            '-' if scan.eat("->") => return fault(at, "`-->` is no JavaScript"),
            '"' | '\'' => {
                scan.skip_string(c);
                operand = false;
            }
            '`' => {
                scan.skip_template()?;
                operand = false;
            }
            '(' => {
                parentheses += 1;
                operand = true;
            }
            '[' | '{' => {
                brackets += 1;
                operand = true;
            }
            ')' => {
                parentheses = parentheses.saturating_sub(1);
                operand = false;
            }
            ']' | '}' => {
                brackets = brackets.saturating_sub(1);
                operand = false;
            }
            c if c.is_whitespace() => {}
            c => {
                operand =
                    matches!(c, ',' | ';' | ':' | '=' | '!' | '?' | '&' | '|' | '+' | '-' | '*' | '%' | '^' | '~' | '>')
            }
        }
        if parentheses > PARENTHESES || brackets > BRACKETS {
            return fault(at, "brackets within brackets, deeper than any declaration goes");
        }
    }
    Ok(())
}

/// A place in a script.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl Scan<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, what: &str) -> bool {
        let there = self.rest().starts_with(what);
        self.at += if there { what.len() } else { 0 };
        there
    }

    fn skip_past(&mut self, end: &str) {
        self.at += self.rest().find(end).map_or(self.rest().len(), |found| found + end.len());
    }

    fn skip_line(&mut self) {
        self.at += self.rest().find(is_line_end).unwrap_or(self.rest().len());
    }

    /// The rest of a string; one that isn't closed ends with its line, where the parser will complain.
    fn skip_string(&mut self, quote: char) {
        while let Some(c) = self.next() {
            match c {
                '\\' if self.eat("\r\n") => {}
                '\\' => drop(self.next()),
                '\n' | '\r' => return,
                c if c == quote => return,
                _ => {}
            }
        }
    }

    fn skip_regular_expression(&mut self) {
        let mut class = false;
        while let Some(c) = self.next() {
            match c {
                '\\' => drop(self.next()),
                '[' => class = true,
                ']' => class = false,
                '/' if !class => return,
                c if is_line_end(c) => return,
                _ => {}
            }
        }
    }

    fn skip_template(&mut self) -> Result<()> {
        while let Some(c) = self.next() {
            match c {
                '\\' => drop(self.next()),
                '`' => return Ok(()),
                '$' if self.rest().starts_with('{') => {
                    let message = format!("a template with `${{…}}` {}", RUNS);
                    return Err(Fault { at: self.at - 1, message });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// ECMA-262 §12.3.
const fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_texts_and_comments_do_not_count() {
        let deep = "(".repeat(100);
        for quiet in [
            format!("'{deep}'"),
            format!("\"{deep}\\\"{deep}\""),
            format!("'a\\\r\n{deep}'"),
            format!("`{deep}\n{deep}\\`{deep}`"),
            format!("// {deep}\n1"),
            format!("/* {deep}\n{deep} */ 1"),
            format!("/[/{deep}]\\/{deep}/g"),
            format!("#!{deep}\n1"),
            format!("{{ a: /{deep}/, b: ['{deep}'] }}"),
            "[]".repeat(1000),
            "((((((((1))))))))".to_owned(),
        ] {
            assert_eq!(check(&quiet), Ok(()), "{quiet}");
        }
    }

    #[test]
    fn brackets_do_count_where_the_parser_meets_them() {
        let deep = "(".repeat(9);
        for loud in [
            deep.clone(),
            "[".repeat(65),
            "{[".repeat(33),
            format!("'a\n{deep}"),
            format!("// a\u{2028}{deep}"),
            format!("/a\n{deep}"),
            format!("'\\\\'{deep}"),
            format!("/[\\]]/{deep}"),
            format!("/* */{deep}"),
            format!("#!a\r{deep}"),
            "(/*)*/".repeat(9),
        ] {
            assert!(check(&loud).unwrap_err().message.starts_with("brackets within"), "{loud}");
        }
    }

    #[test]
    fn what_could_hide_brackets_is_refused() {
        for (hides, why) in [
            ("a / '", "a division would need JavaScript to run"),
            ("1 /* */ / 2 / '", "a division would need"),
            ("return /'/", "a division would need"),
            ("<!-- /*\n", "`<` would need"),
            ("1\n--> /*\n", "`-->` is no JavaScript"),
            ("`a${'`'}`", "a template with `${…}` would need"),
        ] {
            let error = check(hides).unwrap_err();
            assert!(error.message.starts_with(why), "{hides}: {error:?}");
        }
    }
}
