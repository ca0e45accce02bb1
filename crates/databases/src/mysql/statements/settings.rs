//! `SET` in a session whose statements are read: which settings it may change, and to which character sets. Each part of its
//! list must have a form that is known here, because servers have forms that name no setting, such as `CHAR SET gbk`.

use crate::rules::{KeptSettings, Reason};
use crate::sql::{Lexed, SqlToken, lower};

/// Words of `SET` that decide about rights, or how texts are read; and those that change more than the session.
const KEPT_SETTINGS: &[&str] = &[
    "character",
    "character_set_client",
    "charset",
    "collation_connection",
    "default",
    "global",
    "init_connect",
    "names",
    "password",
    "persist",
    "persist_only",
    "resource",
    "role",
    "sql_mode",
    "statement",
];

/// Settings that decide about writes.
const MODE_SETTINGS: &[&str] = &["transaction_read_only", "tx_read_only"];

/// The words of `SET TRANSACTION`. Whether it may be read-write is decided elsewhere.
const TRANSACTION_WORDS: &[&str] = &[
    "committed",
    "isolation",
    "level",
    "only",
    "read",
    "repeatable",
    "serializable",
    "transaction",
    "uncommitted",
    "write",
];

/// Character sets whose texts are read here as by the server: no byte of a character looks like a quote or its escape. In
/// latin1, the byte 0xA0 is a blank, so `check.rs` refuses it where a blank could be.
const SAFE_CHARSETS: &[&str] = &["utf8", "utf8mb3", "utf8mb4", "latin1", "ascii", "binary"];

/// Checks a statement whose first word is `SET`.
///
/// # Errors
/// Why it is refused.
pub fn check(tokens: &[Lexed], text: &[u8], kept: &KeptSettings) -> Result<(), Reason> {
    let list = tokens.get(1..).unwrap_or_default();
    match is_transaction(list) {
        true => Ok(()),
        false => parts(list).try_for_each(|part| permits(part, text, kept)),
    }
}

/// The parts of a list: what is between commas outside of parentheses.
fn parts(list: &[Lexed]) -> impl Iterator<Item = &[Lexed]> {
    let mut depth = 0_i32;
    list.split(move |lexed| {
        match lexed.token {
            SqlToken::Symbol(b'(') => depth += 1,
            SqlToken::Symbol(b')') => depth -= 1,
            _ => {}
        }
        depth == 0 && lexed.token == SqlToken::Symbol(b',')
    })
}

/// Whether it is `SET [SESSION] TRANSACTION` and what that may be.
fn is_transaction(list: &[Lexed]) -> bool {
    let rest = match list {
        [scope, rest @ ..] if matches!(scope.word(), Some("local" | "session")) => rest,
        _ => list,
    };
    let is_of_it = |lexed: &Lexed| match &lexed.token {
        SqlToken::Word(word) => TRANSACTION_WORDS.contains(&word.as_str()),
        SqlToken::Symbol(symbol) => *symbol == b',',
        SqlToken::Constant => false,
    };
    rest.first().and_then(Lexed::word) == Some("transaction") && rest.iter().all(is_of_it)
}

fn permits(part: &[Lexed], text: &[u8], kept: &KeptSettings) -> Result<(), Reason> {
    if let [names, value @ ..] = part
        && names.word() == Some("names")
    {
        return match is_safe_names(value, text) {
            true => Ok(()),
            false => Err("the character set must be utf8mb4, utf8mb3 or latin1".into()),
        };
    }
    let is_kept = |word: &str| {
        KEPT_SETTINGS.contains(&word) || kept.read_only && MODE_SETTINGS.contains(&word)
    };
    if part.iter().filter_map(Lexed::word).any(is_kept) {
        return Err("this setting cannot be changed".into());
    }
    // MySQL compares names of settings by a collation that takes `ò` for `o`.
    if part.iter().filter_map(Lexed::word).any(|word| !word.is_ascii()) {
        return Err("a name in SET is not in ASCII".into());
    }
    match is_assignment(part) {
        true => Ok(()),
        false => Err("this form of SET is not known".into()),
    }
}

/// Whether it is `name = value`, also with `:=`, a scope, or the `@` of variables. A form without a name has no such sign.
fn is_assignment(part: &[Lexed]) -> bool {
    let sign = part.iter().position(|lexed| lexed.token == SqlToken::Symbol(b'='));
    let target = &part[..sign.unwrap_or_default()];
    let is_of_name = |lexed: &Lexed| {
        matches!(lexed.token, SqlToken::Word(_) | SqlToken::Symbol(b'@' | b'.' | b':'))
    };
    !target.is_empty() && target.iter().all(is_of_name)
}

/// Whether this is a safe character set with or without a collation, and nothing else.
fn is_safe_names(value: &[Lexed], text: &[u8]) -> bool {
    let charset = match value {
        [charset] => charset,
        [charset, collate, collation]
            if collate.word() == Some("collate") && plain(collation, text).is_some() =>
        {
            charset
        }
        _ => return false,
    };
    plain(charset, text).is_some_and(|name| is_safe_charset(&name))
}

/// The content of a word, or of a string without escapes, in lower case.
fn plain(lexed: &Lexed, text: &[u8]) -> Option<String> {
    let source = &text[lexed.at.clone()];
    let within = |quote: &[u8]| source.strip_prefix(quote)?.strip_suffix(quote);
    let content = within(b"'").or_else(|| within(b"\"")).unwrap_or(source);
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    (!content.is_empty() && content.iter().all(is_plain)).then(|| lower(content))
}

/// Whether texts of a character set are read here as by the server.
pub fn is_safe_charset(name: &str) -> bool {
    SAFE_CHARSETS.contains(&name)
}

/// The same of a collation, by its number: those of utf8mb4, utf8mb3, latin1, ascii and binary.
pub fn is_safe_collation(number: u8) -> bool {
    matches!(number, 5 | 8 | 11 | 15 | 31 | 33 | 45 | 46 | 47 | 48 | 49 | 63 | 65 | 83 | 94 | 192..=215 | 223..=247 | 255)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::tokens;

    fn checked(text: &str, read_only: bool) -> Result<(), Reason> {
        let tokens = tokens(text.as_bytes()).expect("it has tokens");
        check(&tokens, text.as_bytes(), &KeptSettings { read_only, ..KeptSettings::default() })
    }

    #[test]
    fn a_character_set_is_not_changed_in_any_form_or_place() {
        for text in [
            "SET NAMES gbk",
            "SET NAMES 'gbk' COLLATE gbk_bin",
            "SET NAMES DEFAULT",
            "SET NAMES",
            "SET NAMES utf8mb4 gbk",
            "SET NAMES 'utf8mb4' 'gbk'",
            "SET NAMES utf8mb4 COLLATE",
            "SET NAMES 'utf8mb4'''",
            "SET NAMES n'utf8mb4'",
            "SET NAMES = utf8mb4",
            "SET NAMES utf8mb4, NAMES gbk",
            "SET NAMES utf8mb4, character_set_client = gbk",
            "SET @a = 1, NAMES gbk",
            "SET @a := (1, 2), NAMES gbk",
            "SET autocommit=0, NAMES 'sjis'",
            "SET CHAR SET gbk",
            "SET CHAR SET utf8mb4",
            "SET CHARACTER SET gbk",
            "SET CHARSET gbk",
            "SET @a = 1, CHAR SET gbk",
            "SET @a = 1, CHARACTER SET 'gbk'",
            "SET @a = 1, CHARSET gbk",
            "SET @@character_set_client = gbk",
            "SET SESSION character_set_client = gbk",
            "SET SESSION NAMES gbk",
            "SET @names = 1, NAMES gbk",
        ] {
            assert!(checked(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn a_form_that_is_not_known_is_refused() {
        for text in [
            "SET",
            "SET autocommit",
            "SET = 1",
            "SET f(1) = 1",
            "SET autocommit = 0,",
            "SET SESSION TRANSACTION SNAPSHOT 'x'",
            "SET TRANSACTION READ ONLY, CHAR SET gbk",
            "SET @a = 1, TRANSACTION READ WRITE",
            "SET GLOBAL TRANSACTION READ ONLY",
            "SET sql_mòde = 'NO_BACKSLASH_ESCAPES'",
            "SET SESSION `tx_read_ònly` = 0",
        ] {
            assert!(checked(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn what_drivers_send_when_a_session_begins_passes() {
        for text in [
            "SET NAMES utf8mb4",
            "SET NAMES UTF8",
            "SET NAMES latin1",
            "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci",
            "SET NAMES 'utf8mb4' COLLATE 'utf8mb4_0900_ai_ci'",
            "SET NAMES \"utf8mb4\"",
            "SET time_zone='+00:00',NAMES utf8mb4 COLLATE utf8mb4_unicode_ci",
            "SET character_set_results = NULL",
            "SET character_set_results = utf8mb4",
            "SET autocommit=1",
            "SET AUTOCOMMIT = 0",
            "SET @@session.autocommit = OFF",
            "SET SQL_AUTO_IS_NULL = 0",
            "SET SQL_SAFE_UPDATES=1,SQL_SELECT_LIMIT=1000,MAX_JOIN_SIZE=1000000",
            "SET SESSION wait_timeout = 28800, @a := CONCAT('a', 'b')",
            "SET @`a` = CAST('1' AS CHAR)",
            "SET SESSION TRANSACTION READ ONLY",
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
        ] {
            assert_eq!(checked(text, true), Ok(()), "{text}");
        }
    }
}
