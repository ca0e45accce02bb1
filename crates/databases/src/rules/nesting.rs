//! Bounds on how deep a statement nests. They are checked before it is parsed: the parser has no limit of its time.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

/// Calls of `POSITION` within each other. The parser reads the arguments of each twice, as `a IN b` and as those of a
/// function, so that each level doubles its work.
pub(super) const POSITION_LEVELS_MAX: usize = 5;

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
