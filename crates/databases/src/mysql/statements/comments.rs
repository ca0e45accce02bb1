//! Comments that servers run (`/*!40101 … */`, `/*M!100100 … */`), in the forms that `mysqldump` and `mariadb-dump` send. A server skips
//! a comment of another product or of a later version, so a form is known here only if neither reading needs a check of its own:
//! the skipped one has no statement, or the same statement.

use std::borrow::Cow;
use std::ops::Range;

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
