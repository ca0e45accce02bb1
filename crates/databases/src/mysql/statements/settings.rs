//! `SET` in a session whose statements are read: which settings it may change, and to which character sets. Each part of its
//! list must have a form that is known here, because servers have forms that name no setting, such as `CHAR SET gbk`.

use crate::rules::{EnforcedSettings, Reason};
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

/// The modes that `sql_mode` may be made of: those that frameworks set and that change neither how texts are read nor rights.
const SAFE_MODES: &[&str] = &[
    "",
    "error_for_division_by_zero",
    "no_auto_create_user",
    "no_auto_value_on_zero",
    "no_engine_substitution",
    "no_zero_date",
    "no_zero_in_date",
    "only_full_group_by",
    "pipes_as_concat",
    "strict_all_tables",
    "strict_trans_tables",
    "traditional",
];

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
pub fn check(tokens: &[Lexed], text: &[u8], kept: &EnforcedSettings) -> Result<(), Reason> {
    let list = tokens.get(1..).unwrap_or_default();
    match is_transaction(list) {
        true => Ok(()),
        false => parts(list).try_for_each(|part| permits(part, text, kept)),
    }
}

/// Whether an expression in parentheses is in it: of `SET sql_mode` they are none that could hold a query.
pub fn has_parentheses(tokens: &[Lexed], text: &[u8]) -> bool {
    let list = tokens.get(1..).unwrap_or_default();
    let is_open = |lexed: &Lexed| lexed.token == SqlToken::Symbol(b'(');
    parts(list).any(|part| part.iter().any(is_open) && !is_safe_mode(part, text))
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

fn permits(part: &[Lexed], text: &[u8], kept: &EnforcedSettings) -> Result<(), Reason> {
    if let [names, value @ ..] = part
        && names.word() == Some("names")
    {
        return match is_safe_names(value, text) {
            true => Ok(()),
            false => Err("the character set must be utf8mb4, utf8mb3 or latin1".into()),
        };
    }
    if is_safe_mode(part, text) || is_safe_collation_set(part, text) {
        return Ok(());
    }
    let is_kept = |word: &str| {
        KEPT_SETTINGS.contains(&word) || kept.read_only && MODE_SETTINGS.contains(&word)
    };
    let target = target(part).unwrap_or(part);
    if !is_variable(target) && target.iter().filter_map(Lexed::word).any(is_kept) {
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

/// What a part sets: what is before its sign. A form without a name has no sign.
fn target(part: &[Lexed]) -> Option<&[Lexed]> {
    part.iter().position(|lexed| lexed.is_symbol(b'=')).map(|sign| &part[..sign])
}

/// Whether it is `@name`, a variable of the client. Behind `@@`, and behind a blank, it is a setting.
fn is_variable(target: &[Lexed]) -> bool {
    let [sign, name, rest @ ..] = target else { return false };
    let is_one = sign.is_symbol(b'@') && sign.at.end == name.at.start && name.word().is_some();
    is_one && rest.iter().all(|lexed| lexed.is_symbol(b':'))
}

/// Whether it is `name = value`, also with `:=`, a scope, or the `@` of variables.
fn is_assignment(part: &[Lexed]) -> bool {
    let is_of_name = |lexed: &Lexed| {
        matches!(lexed.token, SqlToken::Word(_) | SqlToken::Symbol(b'@' | b'.' | b':'))
    };
    target(part).is_some_and(|target| !target.is_empty() && target.iter().all(is_of_name))
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

/// Whether it sets `sql_mode` of the session to what it was, to safe modes, or to both.
fn is_safe_mode(part: &[Lexed], text: &[u8]) -> bool {
    let Some(sign) = part.iter().position(|lexed| lexed.token == SqlToken::Symbol(b'=')) else {
        return false;
    };
    let (target, value) = (&part[..sign], &part[sign + 1..]);
    let is_target = match target {
        [name] => name.word() == Some("sql_mode"),
        [scope, name] => scope.word() == Some("session") && name.word() == Some("sql_mode"),
        _ => past_mode(target, text).is_some_and(<[Lexed]>::is_empty),
    };
    is_target && !value.is_empty() && (is_of_safe_modes(value, text) || is_bare_mode(value, text))
}

/// Whether a value is one safe mode as a word. Servers take it for a string.
fn is_bare_mode(value: &[Lexed], text: &[u8]) -> bool {
    let [mode] = value else { return false };
    mode.word().is_some() && SAFE_MODES.contains(&lower(&text[mode.at.clone()]).as_str())
}

/// Whether it sets `collation_connection` of the session to a collation of a safe character set, whose name begins with that of the
/// set.
fn is_safe_collation_set(part: &[Lexed], text: &[u8]) -> bool {
    let [scope @ .., name, sign, value] = part else { return false };
    let is_session = match scope {
        [] => true,
        [scope] => scope.word() == Some("session"),
        _ => false,
    };
    let is_set =
        name.word() == Some("collation_connection") && sign.token == SqlToken::Symbol(b'=');
    let collation = plain(value, text).unwrap_or_default();
    is_session && is_set && is_safe_charset(collation.split('_').next().unwrap_or_default())
}

/// Whether a value has only strings of safe modes, the mode of the session, and `CONCAT` of them. A user variable has any mode.
fn is_of_safe_modes(mut value: &[Lexed], text: &[u8]) -> bool {
    while let [first, rest @ ..] = value {
        value = match &first.token {
            SqlToken::Word(word) if word == "concat" => rest,
            SqlToken::Symbol(b'(' | b')' | b',') => rest,
            SqlToken::Symbol(b'@') => match past_mode(value, text) {
                Some(rest) => rest,
                None => return false,
            },
            SqlToken::Constant if is_safe_modes(&text[first.at.clone()]) => rest,
            _ => return false,
        };
    }
    true
}

/// What follows `@@sql_mode` or `@@session.sql_mode`. Without blanks: behind a single `@` is the name of a user variable.
fn past_mode<'a>(tokens: &'a [Lexed], text: &[u8]) -> Option<&'a [Lexed]> {
    let name = tokens.iter().position(|lexed| lexed.word() == Some("sql_mode"))?;
    let source = &text[tokens.first()?.at.start..tokens[name].at.end];
    let is_mode = matches!(lower(source).as_str(), "@@sql_mode" | "@@session.sql_mode");
    is_mode.then(|| &tokens[name + 1..])
}

/// Whether this is a string in single quotes with a list of safe modes.
fn is_safe_modes(source: &[u8]) -> bool {
    let content = source.strip_prefix(b"'").and_then(|rest| rest.strip_suffix(b"'"));
    let is_safe = |mode: &[u8]| SAFE_MODES.contains(&lower(mode).as_str());
    content.is_some_and(|modes| modes.split(|byte| *byte == b',').all(is_safe))
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
        check(
            &tokens,
            text.as_bytes(),
            &EnforcedSettings { read_only, ..EnforcedSettings::default() },
        )
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
            "SET collation_connection = gbk_chinese_ci",
            "SET collation_connection = DEFAULT",
            "SET collation_connection = 8",
            "SET collation_connection = utf8mb4_bin, NAMES gbk",
            "SET collation_connection = @utf8mb4",
            "SET GLOBAL collation_connection = utf8mb4_bin",
            "SET @@collation_connection = gbk_bin",
            "SET @ collation_connection = gbk_bin",
            "SET SESSION character_set_client = gbk",
            "SET SESSION NAMES gbk",
            "SET @names = 1, NAMES gbk",
        ] {
            assert!(checked(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_form_of_set_is_refused() {
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
    fn an_sql_mode_that_changes_how_texts_are_read_is_refused_in_every_form() {
        for text in [
            "SET sql_mode = 'ANSI'",
            "SET sql_mode = 'NO_BACKSLASH_ESCAPES'",
            "SET sql_mode = 'STRICT_TRANS_TABLES,ANSI_QUOTES'",
            "SET sql_mode = \"\"",
            "SET sql_mode = n''",
            "SET sql_mode = x'414e5349'",
            "SET sql_mode = 4",
            "SET sql_mode = 1048576",
            "SET sql_mode = '4'",
            "SET sql_mode = DEFAULT",
            "SET sql_mode = ANSI",
            "SET sql_mode = `ANSI`",
            "SET sql_mode = STRICT_TRANS_TABLES | ANSI",
            "SET sql_mode = CONCAT(@x, TRADITIONAL)",
            "SET sql_mode = @TRADITIONAL",
            "SET sql_mode = 'PIPES_AS_CONCAT,ANSI_QUOTES'",
            "SET sql_mode =",
            "SET sql_mode = @x",
            "SET sql_mode = @sql_mode",
            "SET sql_mode = @session.sql_mode",
            "SET sql_mode = @ @sql_mode",
            "SET sql_mode = @@@sql_mode",
            "SET sql_mode = @@x",
            "SET sql_mode = @@global.sql_mode",
            "SET sql_mode = @@x.sql_mode",
            "SET sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')",
            "SET sql_mode = CONCAT(@concat, '')",
            "SET sql_mode = CONCAT(@session, '')",
            "SET sql_mode = CONCAT(@@sql_mode, @sql_mode)",
            "SET sql_mode = REPLACE('ANTRADITIONALSI', 'TRADITIONAL', '')",
            "SET sql_mode = (SELECT '')",
            "SET sql_mode = '' | 4",
            "SET sql_mode = '' + 4",
            "SET sql_mode = ''), x = (1",
            "SET sql_mode := 'ANSI'",
            "SET @@sql_mode = 'ANSI'",
            "SET @@global.sql_mode = ''",
            "SET GLOBAL sql_mode = ''",
            "SET PERSIST sql_mode = ''",
            "SET @ sql_mode = ''",
            "SET @a.sql_mode = ''",
            "SET STATEMENT sql_mode = '' FOR SELECT 1",
            "SET sql_mode = '', sql_mode = 'ANSI'",
            "SET @a = 1, SESSION sql_mode = 'ANSI'",
        ] {
            assert!(checked(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn parentheses_of_a_permitted_sql_mode_are_not_taken_for_an_expression() {
        let has = |text: &str| {
            let tokens = tokens(text.as_bytes()).expect("it has tokens");
            has_parentheses(&tokens, text.as_bytes())
        };
        assert!(has("SET @a = (SELECT 1)"));
        assert!(has("SET sql_mode = CONCAT('', (SELECT ''))"));
        assert!(has("SET sql_mode = CONCAT('', ''), @a = (SELECT 1)"));
        assert!(!has("SET sql_mode = CONCAT(CONCAT(@@sql_mode, ''), ''), @a = 1"));
    }

    /// The first two are those of Laravel and of Rails. Behind them are those of Tortoise ORM, peewee and Perl.
    #[test]
    fn settings_that_drivers_send_at_the_beginning_of_a_session_pass() {
        for text in [
            "SET NAMES 'utf8mb4' COLLATE 'utf8mb4_unicode_ci', SESSION sql_mode='ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,\
             NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
            "SET @OLD_SQL_MODE=@@SQL_MODE, @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT",
            "SET @old = @@tx_read_only, @sql_mode := '', @collation_connection = utf8mb4_bin",
            "SET wait_timeout = @names, @a = @@global.sql_mode",
            "SET NAMES utf8mb4, @@SESSION.sql_mode = CONCAT(CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), \
             ',NO_AUTO_VALUE_ON_ZERO'), @@SESSION.sql_auto_is_null = 0, @@SESSION.wait_timeout = 2147483",
            "SET sql_mode=STRICT_TRANS_TABLES",
            "SET sql_mode='PIPES_AS_CONCAT'",
            "SET collation_connection = 'utf8mb4_unicode_ci'",
            "SET SESSION collation_connection = binary",
            "SET sql_mode = ''",
            "SET SESSION sql_mode = 'traditional'",
            "SET @@sql_mode = @@session.sql_mode",
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
            "SET wait_timeout = DEFAULT, SESSION optimizer_switch = default",
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
