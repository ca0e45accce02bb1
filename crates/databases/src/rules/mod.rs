//! Checks a statement by the rules of its connection. A parser reads the statement; one that it cannot read is refused,
//! and so is one that it reads otherwise than the lexer of the protocol, or that nests too deep: the parser has no limit of
//! its time.
//!
//! ```text
//! statement_rules  the permitted kinds, tables and functions, and settings of a session that its statements cannot change
//! dialect          differences between servers
//! forms            forms of statements that the parser does not know
//! kinds            checks each statement, query, table and function in a parsed text; names that a `WITH` declares
//! fields           fields of values, which PostgreSQL may read as calls of functions
//! login_change     statements that change a password of the server, in every session
//! ```
//!
//! The rules cannot see what functions and views do. Rights at the server are the stronger limit.

mod dialect;
mod fields;
mod forms;
mod kinds;
mod login_change;
#[cfg(test)]
mod mysql_tests;
mod statement_rules;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::ControlFlow;

use sqlparser::ast::{Statement, Visit};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

pub use self::dialect::Dialect;
use self::kinds::Needs;
pub use self::login_change::{CHANGES_LOGIN, changes_login};
pub use self::statement_rules::{EnforcedSettings, Reason, StatementRules, is_recorded};

/// The longest statement that is parsed, in bytes.
const STATEMENT_BYTES_MAX: usize = 256 * 1024;

const UNREAD: &str = "the statement cannot be read for certain";

/// Up to so many levels, a statement is parsed on the stack of the caller. Without optimisation, the parser uses up to
/// 140 KiB of it for one.
const SHALLOW_LEVELS: usize = 8;

/// The stack for the others. The parser itself stops after 50 levels; the tree that it makes has them all, and the visit of
/// one takes less than 64 KiB without optimisation. The system gives memory only to what is used of it.
const STACK_BYTES: usize = LEVELS_MAX * 64 * 1024;

impl StatementRules {
    /// Checks one statement. `words`: the words that the lexer of the protocol has found in it.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check(&self, text: &[u8], words: &[&str]) -> Result<(), Reason> {
        let text = std::str::from_utf8(text).map_err(|_| "the statement is not in UTF8")?;
        if text.len() > STATEMENT_BYTES_MAX {
            return Err("the statement is longer than 256 KiB".into());
        }
        let tokens = forms::known(self.dialect, self.tokens(text, words)?);
        if self.names_tables() && forms::is_ambiguous(self.dialect, &tokens) {
            return Err("TABLE or COLLATE is not permitted here".into());
        }
        if position_levels(&tokens) > POSITION_LEVELS_MAX {
            return Err("calls of POSITION are nested too deep in it".into());
        }
        let levels = levels(&tokens);
        if levels <= SHALLOW_LEVELS {
            return self.parsed(tokens, words);
        }
        if levels > LEVELS_MAX {
            return Err("the statement has too many parts".into());
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            let checked = thread.spawn_scoped(scope, || self.parsed(tokens, words));
            let checked = checked.ok().and_then(|thread| thread.join().ok());
            checked.unwrap_or(Err("the statement cannot be parsed".into()))
        })
    }

    /// The tokens that the parser finds; they have the words that the lexer has found.
    fn tokens(&self, text: &str, words: &[&str]) -> Result<Vec<Token>, Reason> {
        // The parser wants the end of a COPY, behind which it would take data.
        let text = match words.first() {
            Some(&"copy") => Cow::Owned(format!("{text};")),
            _ => Cow::Borrowed(text),
        };
        let tokens = Tokenizer::new(self.dialect.parser(), &text).tokenize().map_err(|_| UNREAD)?;
        let found = tokens.iter().filter_map(|token| match token {
            Token::Word(word) => Some(self.dialect.words(word)),
            _ => None,
        });
        match found.flatten().eq(words.iter().copied()) {
            true => Ok(tokens),
            false => Err(UNREAD.into()),
        }
    }

    fn parsed(&self, tokens: Vec<Token>, words: &[&str]) -> Result<(), Reason> {
        let mut parser = Parser::new(self.dialect.parser()).with_tokens(tokens);
        let statements = parser.parse_statements().map_err(|_| "the statement cannot be parsed")?;
        match &statements[..] {
            [] if words.is_empty() => Ok(()),
            [one] if parser.peek_token_ref().token == Token::EOF => self.permits(one),
            _ => Err(UNREAD.into()),
        }
    }

    fn permits(&self, statement: &Statement) -> Result<(), Reason> {
        let mut needs = Needs::new(self);
        match statement.visit(&mut needs) {
            ControlFlow::Continue(()) => needs.end(),
            ControlFlow::Break(reason) => Err(reason),
        }
    }
}

/// The levels of the tree of a statement. Each word and operator of an item may be one, such as in `1 + 1 + 1`.
const LEVELS_MAX: usize = 2_000;

/// Calls of `POSITION` within each other. The parser reads the arguments of each twice, as `a IN b` and as those of a
/// function, so that each level doubles its work.
const POSITION_LEVELS_MAX: usize = 5;

const SET_OPERATORS: [Keyword; 4] =
    [Keyword::UNION, Keyword::EXCEPT, Keyword::INTERSECT, Keyword::MINUS];

/// An open parenthesis, or the statement itself: a list, whose items are beside each other in the tree.
#[derive(Clone, Copy, Debug, Default)]
struct OpenList {
    /// The set operations in it. They make one tree of queries, whose lists of columns have commas too.
    unions: usize,
    /// Words and operators of the item that is read.
    parts: usize,
    /// The levels of the deepest list in it.
    inner: usize,
    /// The levels of the deepest item before it.
    deepest: usize,
}

impl OpenList {
    fn end_item(&mut self) {
        self.deepest = self.deepest.max(self.parts + self.inner);
        (self.parts, self.inner) = (0, 0);
    }

    fn levels(self) -> usize {
        self.unions + self.deepest.max(self.parts + self.inner)
    }
}

/// How deep the tree of a statement may be, at most.
fn levels(tokens: &[Token]) -> usize {
    let (mut outer, mut list) = (Vec::new(), OpenList::default());
    for token in tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                outer.push(std::mem::take(&mut list));
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                let inner = list.levels() + 1;
                list = outer.pop().unwrap_or_default();
                list.inner = list.inner.max(inner);
            }
            Token::Comma => list.end_item(),
            Token::Word(word) if SET_OPERATORS.contains(&word.keyword) => list.unions += 1,
            // They have nothing below them.
            Token::Whitespace(_)
            | Token::Period
            | Token::SemiColon
            | Token::Number(..)
            | Token::Placeholder(_)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_) => {}
            _ => list.parts += 1,
        }
    }
    outer.iter().fold(list.levels(), |sum, open| sum + open.levels() + 1)
}

/// How many calls of `POSITION` are within each other.
fn position_levels(tokens: &[Token]) -> usize {
    let is_position = |token: &Token| match token {
        Token::Word(word) => word.keyword == Keyword::POSITION,
        _ => false,
    };
    let (mut open, mut depth, mut max) = (Vec::new(), 0, 0);
    let mut follows_position = false;
    for token in tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))) {
        match token {
            Token::LParen => {
                open.push(follows_position);
                depth += usize::from(follows_position);
                max = max.max(depth);
            }
            Token::RParen => depth -= usize::from(open.pop() == Some(true)),
            _ => {}
        }
        follows_position = is_position(token);
    }
    max
}

#[cfg(test)]
mod nesting_tests {
    use super::*;
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::tokenizer::Tokenizer;

    fn levels_of(text: &str) -> usize {
        levels(&Tokenizer::new(&PostgreSqlDialect {}, text).tokenize().expect("it has tokens"))
    }

    #[test]
    fn the_levels_of_lists_and_parentheses_are_those_of_their_deepest_item() {
        for (text, expected) in [
            ("", 0),
            ("SELECT 1 + 1 + 1", 3),
            ("SELECT 1, 1 + 1, 1", 1),
            ("SELECT ',' || ',' || '('", 3),
            ("((1))", 2),
            ("SELECT a, b UNION SELECT a, b union SELECT a, b", 5),
            ("(a + b) OR (a) OR (b)", 6),
            ("f(a, g(b + c), d) + 1", 8),
            ("((a", 3),
            ("a)) + b", 5),
            ("VALUES ($1::int, $2::text), ($3::int, 1 + 2 + 3)", 4),
        ] {
            assert_eq!(levels_of(text), expected, "{text}");
        }
    }
}
