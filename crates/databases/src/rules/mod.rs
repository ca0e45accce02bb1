//! Checks a statement by the rules of its connection. A parser reads the statement; one that it cannot read is refused,
//! and so is one that it reads otherwise than the lexer of the protocol.
//!
//! ```text
//! statement_rules  the permitted kinds and tables
//! enforced_settings             settings of a session that its statements cannot change
//! dialect          differences between servers
//! forms            forms of statements that the parser does not know
//! kinds            checks each statement, query and table in a parsed text
//! login_change     statements that change a password of the server, in every session
//! nesting          bounds on how deep a statement nests, before it is parsed
//! scopes           the names of a query that its `WITH` declares
//! ```
//!
//! The rules cannot see what functions and views do. Rights at the server are the stronger limit.

mod dialect;
mod enforced_settings;
mod forms;
mod kinds;
mod login_change;
#[cfg(test)]
mod mysql_tests;
mod nesting;
mod scopes;
mod statement_rules;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::ControlFlow;

use sqlparser::ast::{Statement, Visit};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

pub use self::dialect::Dialect;
pub use self::enforced_settings::{EnforcedSettings, is_recorded};
use self::kinds::Needs;
pub use self::login_change::{CHANGES_LOGIN, changes_login};
use self::nesting::{LEVELS_MAX, POSITION_LEVELS_MAX, levels, position_levels};
pub use self::statement_rules::{Reason, StatementRules};

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
        self.reads_openly(words)?;
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

    /// Checks that no function reads what the statement does not name, and that what shows statements of other sessions is
    /// listed by its name. A function may be called without parentheses, as in `(true).pg_stat_statements`.
    fn reads_openly(&self, words: &[&str]) -> Result<(), Reason> {
        if !self.names_tables() {
            return Ok(());
        }
        if words.iter().any(|word| self.dialect.is_reading_function(word)) {
            return Err(
                "a function in it reads tables, files or statements that it does not name".into()
            );
        }
        let is_hidden = |word: &&str| self.dialect.shows_statements(word) && !self.lists(word);
        match words.iter().copied().find(is_hidden) {
            Some(word) => Err(format!(
                "{word} shows statements of other sessions, and is not listed by its name"
            )
            .into()),
            None => Ok(()),
        }
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
        match statement.visit(&mut Needs::new(self)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(reason) => Err(reason),
        }
    }
}
