//! Tokens of SQL as MySQL and MariaDB find them (`sql/sql_lex.cc`), in a session whose `sql_mode` has neither `ANSI_QUOTES` nor
//! `NO_BACKSLASH_ESCAPES`. What is not certainly read as by the server is an error.
//!
//! [`unwrapped`]: comments that servers run (`/*!40101 … */`, `/*M!100100 … */`), in the forms that `mysqldump` and `mariadb-dump`
//! send. A server skips a comment of another product or of a later version, so a form is known here only if neither reading needs
//! a check of its own: the skipped one has no statement, or the same statement.

use std::borrow::Cow;
use std::ops::Range;

use crate::sql::{Cursor, Lexed, SqlToken, lower};

/// Why a text has no tokens. A sentence without a full stop and without quotes.
pub type LexError = &'static str;

/// The tokens of a text.
///
/// # Errors
/// When the text is not certainly read as the server reads it.
pub fn tokens(text: &[u8]) -> Result<Vec<Lexed>, LexError> {
    let mut lexer = MysqlLexer(Cursor { text, at: 0 });
    let mut found = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let begun = lexer.0.at;
        let Some(token) = lexer.next()? else { return Ok(found) };
        found.push(Lexed { token, at: begun..lexer.0.at });
    }
}

struct MysqlLexer<'a>(Cursor<'a>);

impl MysqlLexer<'_> {
    /// The token that begins here.
    fn next(&mut self) -> Result<Option<SqlToken>, LexError> {
        let Some(first) = self.0.text.get(self.0.at).copied() else { return Ok(None) };
        let token = match first {
            b'\'' | b'"' => self.string(first)?,
            b'x' | b'X' | b'b' | b'B' | b'n' | b'N' if self.0.peek(1) == b'\'' => {
                self.0.at += 1;
                self.string(b'\'')?
            }
            b'`' => self.0.quoted_name(b'`').ok_or("a name does not end")?,
            digit if digit.is_ascii_digit() => self.number(),
            letter if is_part_of_name(letter) => self.0.word(is_part_of_name),
            control if control.is_ascii_control() => {
                return Err("the statement has a control character");
            }
            symbol => {
                self.0.at += 1;
                SqlToken::Symbol(symbol)
            }
        };
        Ok(Some(token))
    }

    /// Blanks and comments. `--` begins a comment only before a blank or a control character; which other bytes are blanks is
    /// a matter of the session's character set.
    fn skip_blanks(&mut self) -> Result<(), LexError> {
        loop {
            match (self.0.peek(0), self.0.peek(1), self.0.peek(2)) {
                (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, ..) => self.0.at += 1,
                (b'#', ..) => self.0.skip(|byte| byte != b'\n'),
                (b'-', b'-', blank) if blank <= b' ' => self.0.skip(|byte| byte != b'\n'),
                (b'-', b'-', 0x80..) => return Err("what follows two minus signs is not in ASCII"),
                (b'/', b'*', b'!') => return Err("executable comments are refused"),
                (b'/', b'*', b'M' | b'm') if self.0.peek(3) == b'!' => {
                    return Err("executable comments are refused");
                }
                (b'/', b'*', _) => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    /// Comments do not nest; versions differ in what a comment in a comment is.
    fn comment(&mut self) -> Result<(), LexError> {
        let rest = &self.0.text[self.0.at + 2..];
        let end = rest.windows(2).position(|pair| pair == b"*/");
        let end = end.ok_or("a comment does not end")?;
        if rest[..end].windows(2).any(|pair| pair == b"/*") {
            return Err("a comment is in a comment");
        }
        self.0.at += 2 + end + 2;
        Ok(())
    }

    fn string(&mut self, quote: u8) -> Result<SqlToken, LexError> {
        self.0.string(quote, true).ok_or("a string does not end")
    }

    /// Names may begin with digits: `1e5`, `0x1F` and `0b1` are numbers, `1a` is a name.
    fn number(&mut self) -> SqlToken {
        let from = self.0.at;
        let (zero, base) = (self.0.peek(0), self.0.peek(1));
        self.0.skip(|byte| byte.is_ascii_digit());
        let sign = usize::from(matches!(self.0.peek(1), b'+' | b'-'));
        let is_exponent = matches!(self.0.peek(0), b'e' | b'E');
        if is_exponent && self.0.peek(1 + sign).is_ascii_digit() {
            self.0.at += 1 + sign;
            self.0.skip(|byte| byte.is_ascii_digit());
            return SqlToken::Constant;
        }
        self.0.skip(is_part_of_name);
        let text = &self.0.text[from..self.0.at];
        let digits = text.get(2..).unwrap_or_default();
        let is_number = match (zero, base) {
            (b'0', b'x') => !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit),
            (b'0', b'b') => !digits.is_empty() && digits.iter().all(|it| matches!(it, b'0' | b'1')),
            _ => text.iter().all(u8::is_ascii_digit),
        };
        match is_number {
            true => SqlToken::Constant,
            false => SqlToken::Word(lower(text)),
        }
    }
}

fn is_part_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// How a row is read for a dump. The comment is only a hint about the cache.
const HINTED: &[u8] = b"SELECT /*!40001 SQL_NO_CACHE */ ";

/// How a consistent dump begins.
const SNAPSHOT: &[u8] = b"START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT */";

const SELECT: &[u8] = b"SELECT ";
const START: &[u8] = b"START TRANSACTION ";

/// The text with blanks in place of the marks of a known comment, so that what is inside is checked as a statement. Every other text
/// stays as it is, and the lexer refuses its comments.
pub fn unwrapped(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(marks) = marks(text) else { return Cow::Borrowed(text) };
    let mut blanked = text.to_vec();
    marks.into_iter().for_each(|mark| blanked[mark].fill(b' '));
    Cow::Owned(blanked)
}

/// Where the marks of a known comment are.
fn marks(text: &[u8]) -> Option<Vec<Range<usize>>> {
    if text.starts_with(HINTED) {
        let hint = SELECT.len()..HINTED.len();
        return Some(vec![hint]);
    }
    let text = text.trim_ascii_end();
    let from = if text == SNAPSHOT { START.len() } else { 0 };
    let comment = &text[from..];
    let opened = comment.strip_prefix(b"/*!").or_else(|| comment.strip_prefix(b"/*M!"))?;
    let digits = opened.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let has_version = matches!(digits, 5 | 6) && opened.get(digits) == Some(&b' ');
    // A statement behind a semicolon is read outside of the comment.
    let is_one = comment.ends_with(b"*/") && !comment.contains(&b';');
    let is_mark = |pair: &&[u8]| *pair == b"/*" || *pair == b"*/";
    let is_plain = comment.windows(2).filter(is_mark).count() == 2;
    let inside = text.len() - opened.len() + digits;
    (has_version && is_one && is_plain).then(|| vec![from..inside, text.len() - 2..text.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<String>, LexError> {
        let word = |lexed: &Lexed| lexed.word().map(str::to_owned);
        tokens(text.as_bytes()).map(|all| all.iter().filter_map(word).collect())
    }

    #[test]
    fn words_in_strings_and_comments_are_skipped_and_words_after_them_are_read() {
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
            "select x'ff', b'01', n'set', 0xff, 0b1, 1e5, 2E-3, 1.5e+7 , x",
        ] {
            let found = words(text).unwrap();
            assert!(!found.iter().any(|word| word == "set"), "{text}: {found:?}");
            assert_eq!(found.last().map(String::as_str), Some("x"), "{text}");
        }
        // Two minus signs without a blank are operators.
        assert_eq!(words("select 1--set").unwrap(), ["select", "set"]);
        assert_eq!(
            words("select 1a, 0X1, 0xg, 1e, 1e5a").unwrap(),
            ["select", "1a", "0x1", "0xg", "1e", "a"]
        );
        assert_eq!(words("`Set``x`").unwrap(), ["set`x"]);
        assert_eq!(words("set @@tx_read_only=0").unwrap(), ["set", "tx_read_only"]);
    }

    #[test]
    fn text_that_the_server_may_tokenize_differently_is_an_error() {
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
            "select 1 --\u{a0}'\n, 2 -- '",
            "select 1 --\u{7f}'\n, 2 -- '",
        ] {
            assert!(tokens(text.as_bytes()).is_err(), "{text}");
        }
        assert!(tokens(b"select 1 --\xa0'\n, 2 -- '").is_err());
    }

    #[test]
    fn a_version_comment_of_an_unknown_form_stays_unchanged() {
        for text in [
            "/*! SET a = 1 */",
            "/*M! SET a = 1 */",
            "/*m!100100 SET a = 1 */",
            "/*!4010 SET a = 1 */",
            "/*!4010000 SET a = 1 */",
            "/*!40101SET a = 1 */",
            "/*!40101 SET a = 1",
            "/*!40101 SET a = 1 */ , b = 2",
            "/*!40101 SET a = 1; SET b = 1 */",
            "/*!40101 SET a = 1 */;",
            "/*!40101 SET a = '*/', b = '/*' */",
            "/*!40101 SET a = 1 /*!40101 , b = 2 */ */",
            "/*!40101 SET a = 1 /*/",
            " /*!40101 SET a = 1 */",
            "SELECT 1 /*!40001 SQL_NO_CACHE */",
            "SELECT 1, /*!40001 SQL_NO_CACHE */ a FROM t",
            "SELECT /*!40001 SQL_CACHE */ a FROM t",
            "START TRANSACTION /*!40100 READ WRITE */",
            "START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT */, READ WRITE",
            "SELECT 1",
        ] {
            assert!(matches!(unwrapped(text.as_bytes()), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn the_text_of_a_known_version_comment_is_unwrapped_at_the_same_place() {
        for (text, expected) in [
            ("/*!40103 SET TIME_ZONE='+00:00' */", "         SET TIME_ZONE='+00:00'   "),
            (
                "/*M!100100 SET WAIT_TIMEOUT=DEFAULT */\n",
                "           SET WAIT_TIMEOUT=DEFAULT   \n",
            ),
            (
                "SELECT /*!40001 SQL_NO_CACHE */ `a` FROM `t`",
                "SELECT                          `a` FROM `t`",
            ),
            (
                "START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT */",
                "START TRANSACTION          WITH CONSISTENT SNAPSHOT   ",
            ),
            (
                "SELECT /*!40001 SQL_NO_CACHE */ 1 /*!40001 , 2 */",
                "SELECT                          1 /*!40001 , 2 */",
            ),
        ] {
            assert_eq!(String::from_utf8_lossy(&unwrapped(text.as_bytes())), expected);
        }
    }
}
