//! A check before parsing that keeps parsing cheap. The parser tries a parenthesis as a parameter list first and then
//! as an expression, so each nested one doubles its work, and each bracket takes a frame of its stack. Written-out
//! values need neither.

use super::{Fault, RUNS, Result, fault};

/// The deepest nesting of parentheses.
const PARENTHESES: usize = 8;
/// The deepest nesting of brackets and braces.
const BRACKETS: usize = 64;

/// Checks that brackets are not nested too deeply. Those in strings, comments and regular expressions don't count.
/// Syntax that could confuse this check is not needed in written-out values, and is refused.
///
/// # Errors
/// If the script could be costly to parse, or holds such syntax.
pub(super) fn check(text: &str) -> Result<()> {
    let mut scan = Scan { text, at: 0 };
    if text.starts_with("#!") {
        scan.skip_line();
    }
    let (mut parentheses, mut brackets) = (0_usize, 0_usize);
    // Whether a `/` would begin a regular expression, which it doesn't after a value.
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
            // At the start of a line, this would begin a comment (ECMA-262 annex B.1.1).
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

    /// Skips the rest of a string. An unclosed string ends with its line, where the parser will report it.
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
