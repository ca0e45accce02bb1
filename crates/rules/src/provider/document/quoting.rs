//! The remedy for text that is not YAML: often, a text needs quotes.

const USUAL: &str = "correct the syntax";
const BRACE: &str = "quote text that has `{`: `\"{region}.api.acme.example\"`";
const COLON: &str = "quote text that has `: `: `\"Acme: Tickets\"`";

/// The remedy of an error that the parser found at `line`, or after it ended. No text is repeated: it may be a secret.
pub(super) fn remedy(text: &str, line: usize) -> &'static str {
    let first = line.saturating_sub(2);
    let near = text.lines().skip(first).take(line - first);
    near.map(of_line).filter(|remedy| *remedy != USUAL).last().unwrap_or(USUAL)
}

fn of_line(line: &str) -> &'static str {
    let plain = unquoted(line);
    if has_variable(&plain) {
        BRACE
    } else if has_second_colon(&plain) {
        COLON
    } else {
        USUAL
    }
}

/// The line without its quoted texts and its comment.
fn unquoted(line: &str) -> String {
    let mut quote = None;
    let mut plain = String::new();
    for letter in line.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if letter == '#' && plain.trim_end().len() < plain.len() => break,
            None if matches!(letter, '"' | '\'') => quote = Some(letter),
            None => plain.push(letter),
        }
    }
    plain
}

/// Whether `{name}` is a part of a longer text.
fn has_variable(plain: &str) -> bool {
    let mut braces = plain.match_indices('{');
    braces.any(|(start, _)| {
        let Some((name, after)) = plain[start + 1..].split_once('}') else { return false };
        let is_part =
            |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '/');
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let touches = plain[..start].ends_with(is_part) || after.starts_with(is_part);
        !name.is_empty() && name.chars().all(is_name) && touches
    })
}

/// Whether the value of a key has `: ` itself: `name: Acme: Tickets`.
fn has_second_colon(plain: &str) -> bool {
    let Some((_, value)) = plain.split_once(": ") else { return false };
    let is_text = !value.trim_start().starts_with(['{', '[', '|', '>', '&', '*', '!']);
    is_text && value.contains(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_needs_quotes_is_recognised_and_no_other() {
        for (line, wanted) in [
            ("hosts: [{region}.acme.test]", BRACE),
            ("  - {region}.acme.test", BRACE),
            ("hosts: [api-{region}]", BRACE),
            ("name: Acme: Tickets", COLON),
            ("- name: Acme: Tickets", COLON),
            ("hosts: [\"{region}.acme.test\"", USUAL),
            ("auth: [{ id: key, kind: bearer }", USUAL),
            ("hosts: [{region}, ", USUAL),
            ("name: 'Acme: Tickets", USUAL),
            ("name: x # as in a: b", USUAL),
            ("a: [1", USUAL),
            ("", USUAL),
        ] {
            assert_eq!(of_line(line), wanted, "{line}");
        }
        assert_eq!(remedy("", 0), USUAL);
        assert_eq!(remedy("a: [1", 9), USUAL);
        // The parser is a line further.
        assert_eq!(remedy("- {a}.b\n- c\n", 2), BRACE);
    }
}
