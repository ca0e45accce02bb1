//! The lexer of Cypher, as far as names and clauses need it. A text that servers may read otherwise has no tokens: one
//! with `\u` escapes, which some versions resolve before they look for strings, with letters that fold to ASCII, or
//! with blanks that are none of ASCII. <https://neo4j.com/docs/cypher-manual/current/syntax/parsing/>

use crate::sql::{Cursor, Lexed, SqlToken};

/// Letters outside ASCII that are one of ASCII in the other case.
const FOLDING: [char; 3] = ['\u{131}', '\u{17f}', '\u{212a}'];

/// The tokens of a statement; `None`: it cannot be read for certain.
pub fn tokens(statement: &str) -> Option<Vec<Lexed>> {
    let text = statement.as_bytes();
    if text.windows(2).any(|two| two.eq_ignore_ascii_case(br"\u")) {
        return None;
    }
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let (mut cursor, mut found) = (Cursor { text, at: 0 }, Vec::new());
    while cursor.at < text.len() {
        let begun = cursor.at;
        let token = match cursor.peek(0) {
            0..=b' ' => {
                cursor.at += 1;
                continue;
            }
            b'/' if cursor.peek(1) == b'/' => {
                skip_line(&mut cursor)?;
                continue;
            }
            b'/' if cursor.peek(1) == b'*' => {
                skip_comment(&mut cursor)?;
                continue;
            }
            quote @ (b'\'' | b'"') => cursor.string(quote, true)?,
            b'`' => cursor.quoted_name(b'`')?,
            b'0'..=b'9' => {
                cursor.skip(is_part);
                SqlToken::Constant
            }
            byte if is_part(byte) => cursor.word(is_part),
            symbol => {
                cursor.at += 1;
                SqlToken::Symbol(symbol)
            }
        };
        let is_word = matches!(token, SqlToken::Word(_)) && text[begun] != b'`';
        if is_word && !statement[begun..cursor.at].chars().all(is_certain) {
            return None;
        }
        found.push(Lexed { token, at: begun..cursor.at });
    }
    Some(found)
}

/// Whether every server takes the character for a part of a name.
fn is_certain(c: char) -> bool {
    c == '_' || c.is_alphanumeric() && !FOLDING.contains(&c)
}

/// Not every server ends the comment at a carriage return.
fn skip_line(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.skip(|byte| !matches!(byte, b'\n' | b'\r'));
    let is_alone = cursor.peek(0) == b'\r' && cursor.peek(1) != b'\n';
    (!is_alone).then_some(())
}

fn skip_comment(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.at += 2;
    let rest = &cursor.text[cursor.at..];
    let end = rest.windows(2).position(|two| two == b"*/")?;
    cursor.at += end + 2;
    Some(())
}

/// A text whose `\u` escapes are resolved everywhere, as the strictest server does it.
pub fn unescaped(statement: &str) -> String {
    let mut out = String::with_capacity(statement.len());
    let mut rest = statement;
    let next =
        |text: &str| text.as_bytes().windows(2).position(|two| two.eq_ignore_ascii_case(br"\u"));
    while let Some(at) = next(rest) {
        out.push_str(&rest[..at]);
        let digits = rest.get(at + 2..at + 6);
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match code.and_then(char::from_u32) {
            Some(c) => {
                out.push(c);
                rest = &rest[at + 6..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::masked;

    #[test]
    fn literals_are_masked_and_names_stay() {
        let masked = |text: &str| masked(text.as_bytes(), tokens(text).as_deref());
        for (text, expected) in [
            (
                "MATCH (n:Person {name: 'canary'}) WHERE n.age > 41 RETURN n // canary",
                "match(n:person{name:?})wheren.age>?returnn",
            ),
            ("RETURN \"canary\" /* canary */ AS x", "return?asx"),
            ("RETURN 'a\\'canary' AS x", "return?…"),
            ("RETURN 'canary", "(notreadable)"),
            ("RETURN '\\u0027canary'", "(notreadable)"),
        ] {
            assert_eq!(masked(text).replace(' ', ""), expected, "{text}");
        }
    }

    #[test]
    fn a_text_that_servers_may_read_otherwise_has_no_tokens() {
        for text in [
            "RETURN '\\u0027",
            "C\\u0041LL x()",
            "CALL\u{a0}x()",
            "CALL\u{200b}x()",
            "\u{212a}ILL",
            "// a\rCALL x()",
            "/* a",
            "RETURN `a",
            "RETURN \"a",
        ] {
            assert!(tokens(text).is_none(), "{text}");
        }
        for text in ["// a\r\nRETURN 1", "RETURN größe, `a\u{a0}b`", "RETURN 'a\u{a0}'", ""] {
            assert!(tokens(text).is_some(), "{text}");
        }
        assert_eq!(unescaped("C\\u0041LL \\u00zz \\U0042"), "CALL \\u00zz B");
    }
}
