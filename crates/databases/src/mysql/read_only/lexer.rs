//! Tokens of SQL as MySQL and MariaDB find them (`sql/sql_lex.cc`), in a session whose `sql_mode` has neither `ANSI_QUOTES` nor
//! `NO_BACKSLASH_ESCAPES`. What is not certainly read as by the server is an error.

/// A token. Constants have no content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Token {
    /// A keyword or a name, in lower case; also a quoted name, and the name of a variable.
    Word(String),
    /// A string or a number.
    Constant,
    /// One character of an operator or a separator.
    Symbol(u8),
}

/// Why a text has no tokens. A sentence without a full stop and without quotes.
pub type LexError = &'static str;

/// The tokens of a text.
///
/// # Errors
/// When the text is not certainly read as the server reads it.
pub fn tokens(text: &[u8]) -> Result<Vec<Token>, LexError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut found = Vec::new();
    while let Some(token) = lexer.next()? {
        found.push(token);
    }
    Ok(found)
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or_default()
    }

    fn skip(&mut self, is_part: impl Fn(u8) -> bool) {
        while self.text.get(self.at).is_some_and(|byte| is_part(*byte)) {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Result<Option<Token>, LexError> {
        self.skip_blanks()?;
        let Some(first) = self.text.get(self.at).copied() else { return Ok(None) };
        let token = match first {
            b'\'' | b'"' => self.string(first)?,
            b'`' => self.quoted_name()?,
            digit if digit.is_ascii_digit() => self.number(),
            letter if is_part_of_name(letter) => {
                let from = self.at;
                self.skip(is_part_of_name);
                Token::Word(lower(&self.text[from..self.at]))
            }
            control if control.is_ascii_control() => {
                return Err("the statement has a control character");
            }
            symbol => {
                self.at += 1;
                Token::Symbol(symbol)
            }
        };
        Ok(Some(token))
    }

    /// Blanks and comments. `--` begins a comment only before a blank or a control character.
    fn skip_blanks(&mut self) -> Result<(), LexError> {
        loop {
            match (self.peek(0), self.peek(1), self.peek(2)) {
                (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, ..) => self.at += 1,
                (b'#', ..) => self.skip(|byte| byte != b'\n'),
                (b'-', b'-', blank) if blank <= b' ' => self.skip(|byte| byte != b'\n'),
                (b'/', b'*', b'!') => return Err("comments that servers run are refused"),
                (b'/', b'*', b'M' | b'm') if self.peek(3) == b'!' => {
                    return Err("comments that servers run are refused");
                }
                (b'/', b'*', _) => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    /// Comments do not nest; versions differ in what a comment in a comment is.
    fn comment(&mut self) -> Result<(), LexError> {
        let rest = &self.text[self.at + 2..];
        let end = rest.windows(2).position(|pair| pair == b"*/");
        let end = end.ok_or("a comment does not end")?;
        if rest[..end].windows(2).any(|pair| pair == b"/*") {
            return Err("a comment is in a comment");
        }
        self.at += 2 + end + 2;
        Ok(())
    }

    fn string(&mut self, quote: u8) -> Result<Token, LexError> {
        self.at += 1;
        loop {
            match self.text.get(self.at) {
                None => return Err("a string does not end"),
                Some(b'\\') => self.at += 2,
                Some(byte) if *byte == quote && self.peek(1) == quote => self.at += 2,
                Some(byte) if *byte == quote => {
                    self.at += 1;
                    return Ok(Token::Constant);
                }
                Some(_) => self.at += 1,
            }
        }
    }

    fn quoted_name(&mut self) -> Result<Token, LexError> {
        self.at += 1;
        let mut name = Vec::new();
        loop {
            match (self.text.get(self.at), self.peek(1)) {
                (None, _) => return Err("a name does not end"),
                (Some(b'`'), b'`') => {
                    name.push(b'`');
                    self.at += 2;
                }
                (Some(b'`'), _) => {
                    self.at += 1;
                    return Ok(Token::Word(lower(&name)));
                }
                (Some(byte), _) => {
                    name.push(*byte);
                    self.at += 1;
                }
            }
        }
    }

    /// Names may begin with digits: `1e5` is a number, `1a` is a name. A word that is a number is no harm here.
    fn number(&mut self) -> Token {
        let from = self.at;
        self.skip(is_part_of_name);
        let text = &self.text[from..self.at];
        match text.iter().all(u8::is_ascii_digit) {
            true => Token::Constant,
            false => Token::Word(lower(text)),
        }
    }
}

fn is_part_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

fn lower(name: &[u8]) -> String {
    String::from_utf8_lossy(&name.to_ascii_lowercase()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<String>, LexError> {
        let word = |token: Token| match token {
            Token::Word(word) => Some(word),
            _ => None,
        };
        tokens(text.as_bytes()).map(|all| all.into_iter().filter_map(word).collect())
    }

    #[test]
    fn what_is_inside_a_string_or_a_comment_is_no_statement_and_what_follows_is() {
        for text in [
            "select 'set' , x",
            "select \"set\" , x",
            "select 'it''s set' , x",
            "select 'a\\'set' , x",
            "select \"a\\\"set\" , x",
            "select '\\\\' , x",
            "select 1 -- set\n , x",
            "select 1 # set\n , x",
            "select 1 /* set */ , x",
            "select 1 --\n , x",
        ] {
            let found = words(text).unwrap();
            assert!(!found.iter().any(|word| word == "set"), "{text}: {found:?}");
            assert_eq!(found.last().map(String::as_str), Some("x"), "{text}");
        }
        // Two minus signs without a blank are operators.
        assert_eq!(words("select 1--set").unwrap(), ["select", "set"]);
        assert_eq!(words("`Set``x`").unwrap(), ["set`x"]);
        assert_eq!(words("set @@tx_read_only=0").unwrap(), ["set", "tx_read_only"]);
    }

    #[test]
    fn what_the_server_may_read_otherwise_is_an_error() {
        for text in [
            "select 'a",
            "select \"a",
            "select `a",
            "select 'a\\'",
            "select /* a",
            "select /*! 1 */",
            "select /*M! 1 */",
            "select /*!50000 1 */",
            "select /* /* */ 1",
            "select \u{1}",
        ] {
            assert!(tokens(text.as_bytes()).is_err(), "{text}");
        }
    }
}
