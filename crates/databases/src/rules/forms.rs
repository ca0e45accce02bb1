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
        match found.next() {
            Some((length, known)) => {
                all.extend(known.iter().flat_map(|word| {
                    [Token::make_keyword(word), Token::Whitespace(Whitespace::Space)]
                }));
                rest.by_ref().take(length).for_each(drop);
            }
            None => match rest.next() {
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
