//! Tokens of PostgreSQL's SQL, as its own lexer finds them (`src/backend/parser/scan.l`), with
//! `standard_conforming_strings`. Lexers for many dialects differ in what ends a comment or a string, and an attacker
//! could use every difference. Text that this lexer may read otherwise than the server is an error.

use crate::sql::{Cursor, Lexed, SqlToken};

/// Why a text has no tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LexError {
    /// A string, a name or a comment does not end.
    Unterminated,
    /// `U&"…"`, a name whose characters are written in several ways.
    UnicodeEscapes,
    /// A string with escapes that goes on in another line.
    Continued,
    /// A control character.
    Control,
}

/// The tokens of a text.
///
/// # Errors
/// When the text is not certainly read as the server reads it.
pub fn tokens(text: &[u8]) -> Result<Vec<Lexed>, LexError> {
    let mut lexer = PostgresLexer { cursor: Cursor { text, at: 0 }, begun: 0 };
    let mut found = Vec::new();
    while let Some(token) = lexer.next()? {
        found.push(Lexed { token, at: lexer.begun..lexer.cursor.at });
    }
    Ok(found)
}

struct PostgresLexer<'a> {
    cursor: Cursor<'a>,
    /// Where the token before the cursor begins.
    begun: usize,
}

impl PostgresLexer<'_> {
    fn next(&mut self) -> Result<Option<SqlToken>, LexError> {
        self.skip_blanks()?;
        self.begun = self.cursor.at;
        let Some(first) = self.cursor.text.get(self.cursor.at).copied() else { return Ok(None) };
        let token = match (first, self.cursor.peek(1)) {
            (b'e' | b'E', b'\'') => {
                self.cursor.at += 1;
                self.escaped_string()?
            }
            (b'u' | b'U', b'&') if self.cursor.peek(2) == b'"' => {
                return Err(LexError::UnicodeEscapes);
            }
            // No escape in it is a quote.
            (b'u' | b'U', b'&') if self.cursor.peek(2) == b'\'' => {
                self.cursor.at += 2;
                self.string()?
            }
            (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', b'\'') => {
                self.cursor.at += 1;
                self.string()?
            }
            (b'\'', _) => self.string()?,
            (b'"', _) => self.cursor.quoted_name(b'"').ok_or(LexError::Unterminated)?,
            (b'$', digit) if digit.is_ascii_digit() => {
                self.cursor.at += 1;
                self.cursor.skip(|byte| byte.is_ascii_digit());
                SqlToken::Constant
            }
            (b'$', _) => self.dollar()?,
            (digit, _) if digit.is_ascii_digit() => self.number(),
            (letter, _) if begins_name(letter) => self.cursor.word(is_part_of_name),
            (control, _) if control.is_ascii_control() => return Err(LexError::Control),
            (symbol, _) => {
                self.cursor.at += 1;
                SqlToken::Symbol(symbol)
            }
        };
        Ok(Some(token))
    }

    /// Blanks and comments. A comment also begins inside of what would be an operator.
    fn skip_blanks(&mut self) -> Result<(), LexError> {
        loop {
            match (self.cursor.peek(0), self.cursor.peek(1)) {
                (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _) => self.cursor.at += 1,
                (b'-', b'-') => self.cursor.skip(|byte| !matches!(byte, b'\n' | b'\r')),
                (b'/', b'*') => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    /// Comments nest.
    fn comment(&mut self) -> Result<(), LexError> {
        let mut depth = 0_usize;
        loop {
            match (self.cursor.peek(0), self.cursor.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.cursor.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.cursor.at += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ if self.cursor.at >= self.cursor.text.len() => {
                    return Err(LexError::Unterminated);
                }
                _ => self.cursor.at += 1,
            }
        }
    }

    /// `'…'`, in which a quote is doubled. Two strings in a row end where one continued string ends.
    fn string(&mut self) -> Result<SqlToken, LexError> {
        self.cursor.string(b'\'', false).ok_or(LexError::Unterminated)
    }

    /// `E'…'`, in which a backslash escapes. It goes on after a line break, with its escapes.
    fn escaped_string(&mut self) -> Result<SqlToken, LexError> {
        let token = self.cursor.string(b'\'', true).ok_or(LexError::Unterminated)?;
        self.skip_blanks()?;
        match self.cursor.peek(0) {
            b'\'' => Err(LexError::Continued),
            _ => Ok(token),
        }
    }

    /// Digits, and an exponent. A point is a separate symbol, which has no effect on the checks.
    fn number(&mut self) -> SqlToken {
        self.cursor.skip(|byte| byte.is_ascii_digit());
        let sign = usize::from(matches!(self.cursor.peek(1), b'+' | b'-'));
        if matches!(self.cursor.peek(0), b'e' | b'E') && self.cursor.peek(1 + sign).is_ascii_digit()
        {
            self.cursor.at += 1 + sign;
            self.cursor.skip(|byte| byte.is_ascii_digit());
        }
        SqlToken::Constant
    }

    /// `$tag$…$tag$`, or a lone `$`.
    fn dollar(&mut self) -> Result<SqlToken, LexError> {
        let from = self.cursor.at;
        self.cursor.at += 1;
        if begins_name(self.cursor.peek(0)) {
            self.cursor.skip(|byte| begins_name(byte) || byte.is_ascii_digit());
        }
        if self.cursor.peek(0) != b'$' {
            // The server refuses it.
            self.cursor.at = from + 1;
            return Ok(SqlToken::Symbol(b'$'));
        }
        self.cursor.at += 1;
        let tag = &self.cursor.text[from..self.cursor.at];
        let rest = &self.cursor.text[self.cursor.at..];
        let end = rest.windows(tag.len()).position(|window| window == tag);
        self.cursor.at += end.ok_or(LexError::Unterminated)? + tag.len();
        Ok(SqlToken::Constant)
    }
}

fn begins_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_part_of_name(byte: u8) -> bool {
    begins_name(byte) || byte.is_ascii_digit() || byte == b'$'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<String>, LexError> {
        let word = |lexed: Lexed| match lexed.token {
            SqlToken::Word(word) => Some(word),
            _ => None,
        };
        tokens(text.as_bytes()).map(|all| all.into_iter().filter_map(word).collect())
    }

    #[test]
    fn words_in_strings_and_comments_are_skipped_and_words_after_them_are_read() {
        for text in [
            "select 'set' ; x",
            "select 'it''s set' ; x",
            "select 'a\\' ; x",
            "select e'a\\'set' ; x",
            "select E'\\\\' ; x",
            "select $$set$$ ; x",
            "select $a$ $b$ set $a$ ; x",
            "select 1 -- set\n x",
            "select 1 -- set\r x",
            "select 1 /* set /* set */ set */ x",
            "select 1+/* set */1 x",
            "select 1*-- set\n1 x",
            "select b'01' x'ff' n'set' x",
            "select 'a'\n'set' x",
            "select u&'set\\' x",
            "select 1$$set$$ x",
            "select 1e5, 1.5E-3, 2e+7 x",
        ] {
            let found = words(text).unwrap();
            assert!(!found.iter().any(|word| word == "set"), "{text}: {found:?}");
            assert_eq!(found.last().map(String::as_str), Some("x"), "{text}");
        }
        assert_eq!(words("SELECT a$b$set").unwrap(), ["select", "a$b$set"]);
        assert_eq!(words("\"Set\"\"x\"").unwrap(), ["set\"x"]);
        assert_eq!(words("select 1e, 2a").unwrap(), ["select", "e", "a"]);
    }

    #[test]
    fn text_that_the_server_may_tokenize_differently_is_an_error() {
        use LexError::{Continued, Control, UnicodeEscapes, Unterminated};
        for (text, error) in [
            ("select 'a", Unterminated),
            ("select E'a\\'", Unterminated),
            ("select \"a", Unterminated),
            ("select $a$ b $$", Unterminated),
            ("select /* /* */", Unterminated),
            ("select U&\"set\\005fconfig\"('a','b',true)", UnicodeEscapes),
            ("select u&'a", Unterminated),
            ("select E'a'\n'b\\'", Continued),
            ("select E'a' -- c\n 'b'", Continued),
            ("select \u{1}", Control),
        ] {
            assert_eq!(tokens(text.as_bytes()), Err(error), "{text}");
        }
    }
}
