//! The part of Rust's grammar that the checks of `main.rs` need: comments, literals, test items, paths from the root,
//! functions. Offsets and lines of blanked text are those of the source.

use std::ops::Range;

/// Replaces comments and the insides of string and character literals by blanks.
pub(crate) fn blank_comments_and_literals(text: &str) -> String {
    blanked(text, |_| false)
}

/// The same, except for literals without a space: names, where others are texts for people.
pub(crate) fn blank_comments_and_texts(text: &str) -> String {
    blanked(text, |literal| !literal.contains(' '))
}

fn blanked(text: &str, is_kept: fn(&str) -> bool) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let is_comment = rest.starts_with("//") || rest.starts_with("/*");
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if is_comment {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if rest.starts_with('"') {
            quoted(rest, b'"')
        } else if rest.starts_with('\'') {
            character(rest)
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        if is_comment || !is_kept(&text[at..at + skipped]) {
            out[at..at + skipped].copy_from_slice(blank(&text[at..at + skipped]).as_bytes());
        }
        at += skipped;
    }
    String::from_utf8(out).expect("only whole characters were blanked")
}

fn raw_string(rest: &str) -> Option<usize> {
    let after_r = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = after_r.bytes().take_while(|b| *b == b'#').count();
    let inside = after_r[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let opening = rest.len() - inside.len();
    Some(inside.find(&end).map_or(rest.len(), |at| opening + at + end.len()))
}

fn quoted(rest: &str, quote: u8) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Length of a character literal; 1 when the quote begins a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest[1..].chars();
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => quoted(rest, b'\''),
        (Some(one), Some('\'')) => one.len_utf8() + 2,
        _ => 1,
    }
}

/// Blanks for everything but line ends.
pub(crate) fn blank(code: &str) -> String {
    let blanks = code.bytes().map(|byte| if byte == b'\n' { b'\n' } else { b' ' });
    String::from_utf8(blanks.collect()).expect("blanks are ASCII")
}

/// The code without, and of nothing but, the items that follow `#[cfg(test)]`. In both, everything
/// stands where it stood.
pub(crate) fn blank_test_items(code: &str) -> (String, String) {
    let (mut shipped, mut tests) = (code.to_owned(), blank(code));
    for item in test_items(code) {
        shipped.replace_range(item.clone(), &blank(&code[item.clone()]));
        tests.replace_range(item.clone(), &code[item]);
    }
    (shipped, tests)
}

/// Where the items are that follow `#[cfg(test)]`, with it.
pub(crate) fn test_items(code: &str) -> impl Iterator<Item = Range<usize>> {
    let of = move |(at, attribute): (usize, &str)| at..block_end(code, at + attribute.len());
    code.match_indices(CFG_TEST).map(of)
}

/// Names of modules in files of their own that `#[cfg(test)]` stands before.
pub(crate) fn test_modules(code: &str) -> Vec<String> {
    let declared = |(at, attribute): (usize, &str)| {
        let from = at + attribute.len();
        let item = code[from..block_end(code, from)].strip_suffix(';')?;
        let (_, name) = item.rsplit_once("mod ")?;
        Some(identifier(name.trim()))
    };
    code.match_indices(CFG_TEST).filter_map(declared).collect()
}

const CFG_TEST: &str = "#[cfg(test)]";

/// Where the item that begins at `from` ends: after its braces, or at `;` when that comes first.
pub(crate) fn block_end(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b';' if depth == 0 => return at + 1,
            b'{' | b'(' | b'[' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' | b')' | b']' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Paths that follow `prefix`, such as `crate::` or `keyward_base::`, as far as they stand in one piece, with
/// their offsets.
pub(crate) fn imports(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut found = vec![];
    for (at, _) in code.match_indices(prefix) {
        let rest = code[at + prefix.len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group).into_iter().map(|name| (at, name))),
            None => found.push((at, path(rest))),
        }
    }
    found
}

/// `base::x, net::{y, z}}` → `base::x`, `net`.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = vec![];
    let (mut depth, mut at_head) = (0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_head = true,
            c if at_head && !c.is_whitespace() => {
                heads.push(path(&group[at..]));
                at_head = false;
            }
            _ => {}
        }
    }
    heads
}

/// `net::tls::{A, B}` → `net::tls`.
fn path(text: &str) -> String {
    let path: String =
        text.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
    path.trim_end_matches(':').to_owned()
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Offsets and lengths in lines of all functions with a body.
pub(crate) fn functions(code: &str) -> Vec<(usize, usize)> {
    let starts_a_word = |at: usize| at == 0 || !code.as_bytes()[at - 1].is_ascii_alphanumeric();
    code.match_indices("fn ")
        .filter(|(at, _)| starts_a_word(*at))
        .map(|(at, _)| (at, code[at..block_end(code, at)].lines().count()))
        .collect()
}
