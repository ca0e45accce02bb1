//! Tokens of GraphQL documents (specification of October 2021, §2.1). Stricter than the specification where lexers of
//! services differ.

use super::NotUnderstood;

/// A token that can be part of an executable document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum GraphqlToken<'a> {
    Name(&'a str),
    /// One of `! $ ( ) : = @ [ ] { }`.
    Punctuator(u8),
    /// `...`
    Spread,
    /// A number or text; its value decides nothing.
    Value,
}

/// Maximum number of tokens of a document.
const TOKENS_MAX: usize = 50_000;

/// The tokens of a document, one at a time.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    left: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, left: TOKENS_MAX }
    }

    /// The next token; `None` at the end.
    ///
    /// # Errors
    /// When the text is not valid, or lexers of services read it in two ways.
    pub(super) fn next(&mut self) -> Result<Option<GraphqlToken<'a>>, NotUnderstood> {
        self.skip_ignored()?;
        let Some(first) = self.peek(0) else { return Ok(None) };
        self.left = self.left.checked_sub(1).ok_or(NotUnderstood::TooLarge)?;
        match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => Ok(Some(GraphqlToken::Name(self.name()))),
            b'!' | b'$' | b'(' | b')' | b':' | b'=' | b'@' | b'[' | b']' | b'{' | b'}' => {
                self.at += 1;
                Ok(Some(GraphqlToken::Punctuator(first)))
            }
            b'.' if self.rest().starts_with(b"...") => {
                self.at += 3;
                Ok(Some(GraphqlToken::Spread))
            }
            b'"' if self.rest().starts_with(b"\"\"\"") => self.block_string().map(Some),
            b'"' => self.string().map(Some),
            b'-' | b'0'..=b'9' => self.number().map(Some),
            _ => Err(NotUnderstood::Document("a character that begins no token")),
        }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    /// Skips white space, line ends, commas and comments.
    fn skip_ignored(&mut self) -> Result<(), NotUnderstood> {
        loop {
            match self.peek(0) {
                Some(b' ' | b'\t' | b'\n' | b',') => self.at += 1,
                Some(b'\r') => self.line_end()?,
                Some(b'#') => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    /// `\r\n`. Services differ about whether `\r` alone ends a line, and so a comment.
    fn line_end(&mut self) -> Result<(), NotUnderstood> {
        if self.peek(1) != Some(b'\n') {
            return Err(NotUnderstood::Document("a carriage return without a line feed"));
        }
        self.at += 2;
        Ok(())
    }

    /// Skips a comment up to the end of its line.
    fn comment(&mut self) -> Result<(), NotUnderstood> {
        let rest = &self.text[self.at..];
        let length = rest.find('\n').unwrap_or(rest.len());
        let line = &rest[..length];
        let line = line.strip_suffix('\r').filter(|_| length < rest.len()).unwrap_or(line);
        let may_end_it =
            |c: char| c != '\t' && c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        if line.contains(may_end_it) {
            return Err(NotUnderstood::Document("a control character in a comment"));
        }
        self.at += length;
        Ok(())
    }

    fn name(&mut self) -> &'a str {
        let is_part = |b: &&u8| b.is_ascii_alphanumeric() || **b == b'_';
        let length = self.rest().iter().take_while(is_part).count();
        let name = &self.text[self.at..self.at + length];
        self.at += length;
        name
    }

    /// A text in `"`, on one line.
    fn string(&mut self) -> Result<GraphqlToken<'a>, NotUnderstood> {
        self.at += 1;
        loop {
            match self.peek(0) {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(b'\t') => self.at += 1,
                None | Some(0..=0x1f | 0x7f) => {
                    return Err(NotUnderstood::Document("an unterminated string"));
                }
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(GraphqlToken::Value)
    }

    fn escape(&mut self) -> Result<(), NotUnderstood> {
        let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
        self.at += match self.rest() {
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [_, b'u', digits @ ..] if digits.len() >= 4 && is_hex(&digits[..4]) => 6,
            _ => return Err(NotUnderstood::Document("an invalid escape in a string")),
        };
        Ok(())
    }

    /// A text in `"""`. Without quotes and backslashes in it: services differ about where the text ends then, and some
    /// know no such texts and read three ordinary ones.
    fn block_string(&mut self) -> Result<GraphqlToken<'a>, NotUnderstood> {
        self.at += 3;
        loop {
            match self.peek(0) {
                Some(b'"') => break,
                Some(b'\n' | b'\t') => self.at += 1,
                Some(b'\r') => self.line_end()?,
                Some(b'\\') => {
                    return Err(NotUnderstood::Document("a backslash in a block string"));
                }
                None | Some(0..=0x1f | 0x7f) => {
                    return Err(NotUnderstood::Document("an unterminated string"));
                }
                Some(_) => self.at += 1,
            }
        }
        if !self.rest().starts_with(b"\"\"\"") || self.peek(3) == Some(b'"') {
            return Err(NotUnderstood::Document("a quote in a block string"));
        }
        self.at += 3;
        Ok(GraphqlToken::Value)
    }

    /// A number, which no name and no other number may follow directly.
    fn number(&mut self) -> Result<GraphqlToken<'a>, NotUnderstood> {
        if self.peek(0) == Some(b'-') {
            self.at += 1;
        }
        self.digits()?;
        if self.peek(0) == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek(0) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek(0) {
                self.at += 1;
            }
            self.digits()?;
        }
        match self.peek(0) {
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'.') => Err(INVALID_NUMBER),
            _ => Ok(GraphqlToken::Value),
        }
    }

    fn digits(&mut self) -> Result<(), NotUnderstood> {
        let length = self.rest().iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += length;
        if length == 0 { Err(INVALID_NUMBER) } else { Ok(()) }
    }
}

const INVALID_NUMBER: NotUnderstood = NotUnderstood::Document("an invalid number");

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<GraphqlToken<'_>>, NotUnderstood> {
        let mut lexer = Lexer::new(text);
        let mut found = Vec::new();
        while let Some(token) = lexer.next()? {
            found.push(token);
        }
        Ok(found)
    }

    #[test]
    fn text_that_services_read_in_two_ways_is_refused() {
        for text in [
            "\u{feff}{ a }",
            "{ a } # x\ry",
            "{ a\rb }",
            "# x\u{2028}{ a }",
            "# x\u{85}{ a }",
            "# x\u{b}{ a }",
            "# x\r",
            "{ a\u{a0}b }",
            "{ a\0b }",
            "{ ä }",
            "{ a | b & c }",
            "{ a .. b }",
            "{ a(b: 1c) }",
            "{ a(b: 0x1F) }",
            "{ a(b: 1.) }",
            "{ a(b: -) }",
            "{ a(b: 1.2.3) }",
            "{ a(b: \"x\ny\") }",
            "{ a(b: \"x\u{7f}\") }",
            "{ a(b: \"x) }",
            "{ a(b: \"\\x\") }",
            "{ a(b: \"\\u12\") }",
            "{ a(b: \"\\u{22}\") }",
            "{ a(b: \"\\",
            r#"{ a(b: """x"y""") }"#,
            r#"{ a(b: """x\"""y""") }"#,
            r#"{ a(b: """x\\""") }"#,
            r#"{ a(b: """x"""") }"#,
            r#"{ a(b: """""""") }"#,
            r#"{ a(b: """x"#,
            r#"{ a(b: """x""#,
        ] {
            assert!(matches!(tokens(text), Err(NotUnderstood::Document(_))), "{text:?}");
        }
    }

    #[test]
    fn the_content_of_strings_and_comments_makes_no_tokens() {
        for text in [
            r#"a "} mutation { b } \" \\ \u007d" z"#,
            "a \"\"\"}\n mutation { b }\r\n\"\"\" z",
            "a # } mutation { b } \"\"\"\r\n\"\" z",
            "a,,,\t-1.5e+3\r\nz",
        ] {
            let expected = [GraphqlToken::Name("a"), GraphqlToken::Value, GraphqlToken::Name("z")];
            assert_eq!(tokens(text).as_deref(), Ok(&expected[..]), "{text:?}");
        }
    }

    #[test]
    fn the_number_of_tokens_is_limited() {
        assert_eq!(tokens(&"a ".repeat(TOKENS_MAX)).map(|found| found.len()), Ok(TOKENS_MAX));
        assert_eq!(tokens(&"a ".repeat(TOKENS_MAX + 1)), Err(NotUnderstood::TooLarge));
    }
}
