//! Forms of statements that the parser does not know. Each is read as a form that it knows, and that needs the same of the rules.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, Whitespace, Word};

use super::dialect::{Dialect, NUMBER};

/// The tokens of a statement, in forms that the parser knows.
pub(super) fn known(dialect: Dialect, tokens: Vec<Token>) -> Vec<Token> {
    let mut all = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter();
    loop {
        let left = rest.as_slice();
        let mut found = dialect.forms().iter().filter_map(|(form, known)| {
            let length = length_of(form, left)?;
            Some((length, *known))
        });
        let collation = || collation(dialect, left, last(&all)).map(|length| (length, &[][..]));
        match found.next().or_else(collation) {
            Some((length, known)) => {
                all.extend(known.iter().flat_map(|word| {
                    [Token::make_keyword(word), Token::Whitespace(Whitespace::Space)]
                }));
                rest.by_ref().take(length).for_each(drop);
            }
            None => match rest.next() {
                Some(token) if names_table(&token, last(&all), rest.as_slice()) => {
                    let [select, from] = ["SELECT", "FROM"].map(Token::make_keyword);
                    all.extend([select, Token::Mul, from]);
                }
                Some(token) if is_division(dialect, &token, all.last()) => all.push(Token::Div),
                Some(token) => all.push(token),
                None => break,
            },
        }
    }
    if dialect == Dialect::Mysql && describes_column(&all) {
        let column = all.iter().rposition(|token| !is_blank(token));
        all.truncate(column.unwrap_or_default());
    }
    all
}

/// The token before, without blanks.
fn last(tokens: &[Token]) -> Option<&Token> {
    tokens.iter().rev().find(|token| !is_blank(token))
}

/// Whether the word behind this token is a label or a field.
fn is_label(before: Option<&Token>) -> bool {
    before.is_some_and(|before| *before == Token::Period || is(before, "as"))
}

/// Whether it is `TABLE name`, a query of the whole table. The parser does not keep how the name is quoted there.
fn names_table(token: &Token, before: Option<&Token>, behind: &[Token]) -> bool {
    let is_query = is(token, "table") && !is_truncate(before) && !is_label(before);
    let next = behind.iter().find(|token| !is_blank(token));
    is_query && matches!(next, Some(Token::Word(_)))
}

fn is_truncate(before: Option<&Token>) -> bool {
    before.is_some_and(|before| is(before, "truncate"))
}

/// Whether a word is left that the server may read otherwise than the parser: a `TABLE` that may be a query whose name is not kept,
/// or of PostgreSQL a `COLLATE` whose next word may be no name, since the word is a label there.
pub(super) fn is_ambiguous(dialect: Dialect, tokens: &[Token]) -> bool {
    let mut shown = tokens.iter().filter(|token| !is_blank(token));
    let (mut before, mut prepares) = (None, false);
    shown.any(|token| {
        prepares |= before.is_none() && is(token, "prepare");
        let is_query =
            is(token, "table") && !is_truncate(before) && (prepares || !is_label(before));
        let collates = dialect == Dialect::Postgres && is(token, "collate") && !is_label(before);
        before = Some(token);
        is_query || collates
    })
}

/// How many tokens are `COLLATE name`, which the parser knows behind some expressions only. A keyword behind it is none of a name:
/// then it is a label.
fn collation(dialect: Dialect, tokens: &[Token], before: Option<&Token>) -> Option<usize> {
    let first = tokens.first()?;
    if dialect != Dialect::Postgres || !is(first, "collate") || is_label(before) {
        return None;
    }
    let mut shown = tokens.iter().enumerate().skip(1).filter(|(_, token)| !is_blank(token));
    let (mut end, first) = shown.next()?;
    let Token::Word(name) = first else { return None };
    if !is_name(name) {
        return None;
    }
    while let (Some((_, Token::Period)), Some((at, Token::Word(_)))) = (shown.next(), shown.next())
    {
        end = at;
    }
    Some(end + 1)
}

/// Whether it is the operator `DIV`, for each of which the parser copies all that is before it in the expression.
fn is_division(dialect: Dialect, token: &Token, before: Option<&Token>) -> bool {
    dialect == Dialect::Mysql && is(token, "div") && before != Some(&Token::Period)
}

/// How many tokens this form is, if the tokens begin with it.
fn length_of(form: &[&str], tokens: &[Token]) -> Option<usize> {
    let mut words = form.iter();
    let mut wanted = words.next()?;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Whitespace(_) if at > 0 => {}
            token if is(token, wanted) => match words.next() {
                Some(next) => wanted = next,
                None => return Some(at + 1),
            },
            _ => return None,
        }
    }
    None
}

fn is(token: &Token, wanted: &str) -> bool {
    match token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted),
        Token::Number(..) => wanted == NUMBER,
        _ => false,
    }
}

/// Whether it is `DESCRIBE table column`, whose column may be a pattern. A name that is a keyword needs backticks: the statement
/// could be an `EXPLAIN`.
fn describes_column(tokens: &[Token]) -> bool {
    let shown: Vec<&Token> = tokens.iter().filter(|token| !is_blank(token)).collect();
    let [first, table @ .., Token::Word(_) | Token::SingleQuotedString(_)] = &shown[..] else {
        return false;
    };
    let is_table = match table {
        [Token::Word(name)] => is_name(name),
        [Token::Word(schema), Token::Period, Token::Word(name)] => is_name(schema) && is_name(name),
        _ => false,
    };
    is_table && (is(first, "desc") || is(first, "describe"))
}

fn is_blank(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_))
}

fn is_name(word: &Word) -> bool {
    word.quote_style.is_some() || word.keyword == Keyword::NoKeyword
}
