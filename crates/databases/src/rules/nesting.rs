//! Bounds on how deep a statement nests. They are checked before it is parsed: the parser has no limit of its time.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

/// The levels of the tree of a statement. Each word and operator of an item may be one, such as in `1 + 1 + 1`.
pub(super) const LEVELS_MAX: usize = 2_000;

/// Calls of `POSITION` within each other. The parser reads the arguments of each twice, as `a IN b` and as those of a
/// function, so that each level doubles its work.
pub(super) const POSITION_LEVELS_MAX: usize = 5;

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
pub(super) fn levels(tokens: &[Token]) -> usize {
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
pub(super) fn position_levels(tokens: &[Token]) -> usize {
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
mod tests {
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
