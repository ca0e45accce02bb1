//! The search path of a session whose rules name tables. It decides which table a name without a schema is, so it may have only schemas
//! in which the rules permit the same tables.

use crate::rules::StatementRules;
use crate::sql::{Lexed, SqlToken, lower};

/// Whether a statement is `SET search_path TO schema, …` with such schemas.
pub fn sets_safe_path(tokens: &[Lexed], text: &[u8], rules: &StatementRules) -> bool {
    let [set, rest @ ..] = tokens else { return false };
    let rest = match rest {
        [scope, rest @ ..] if matches!(scope.word(), Some("local" | "session")) => rest,
        _ => rest,
    };
    let [name, sign, list @ ..] = rest else { return false };
    let is_sign = sign.word() == Some("to") || sign.token == SqlToken::Symbol(b'=');
    let is_set = set.word() == Some("set") && name.word() == Some("search_path") && is_sign;
    let mut schemas = list.split(|lexed| lexed.token == SqlToken::Symbol(b','));
    is_set && schemas.all(|part| matches!(part, [one] if is_safe(&text[one.at.clone()], rules)))
}

/// Whether a value with which a session begins is a list of such schemas.
pub fn is_safe_path(value: &str, rules: &StatementRules) -> bool {
    value.split(',').all(|part| is_safe(part.trim_matches(' ').as_bytes(), rules))
}

/// Whether this is the name of such a schema, as a word or in quotes.
fn is_safe(source: &[u8], rules: &StatementRules) -> bool {
    let within = |quote: &[u8]| source.strip_prefix(quote)?.strip_suffix(quote);
    let quoted = within(b"\"").or_else(|| within(b"'"));
    let name = match quoted {
        Some(name) => String::from_utf8_lossy(name).into_owned(),
        None => lower(source),
    };
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    // The server looks into the catalogue first, unless the path names it. `DEFAULT` is no schema.
    let is_schema = !name.starts_with("pg_") && (quoted.is_some() || name != "default");
    is_schema && !name.is_empty() && name.chars().all(is_plain) && rules.permits_schema(&name)
}
