//! Files of variables (`.env`): which values they have, and the same text with other values in their places.

use std::ops::Range;

use zeroize::Zeroizing;

/// A variable of the file.
#[derive(Debug)]
pub(super) struct DotenvLine<'a> {
    /// The number of the line; the first one has 1.
    pub(super) number: usize,
    /// The variable.
    pub(super) name: &'a str,
    /// The value, without quotes.
    pub(super) value: &'a str,
    /// Where the value is in the text, without quotes.
    pub(super) at: Range<usize>,
}

/// With it, editors of Windows begin a file in UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The variables of the text. Lines that are no assignments, and values over several lines, are omitted.
pub(super) fn lines(text: &str) -> Vec<DotenvLine<'_>> {
    let mut found = Vec::new();
    let assignments = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut start = text.len() - assignments.len();
    for (index, line) in assignments.split_inclusive('\n').enumerate() {
        if let Some((name, within)) = assignment(line) {
            let at = start + within.start..start + within.end;
            found.push(DotenvLine { number: index + 1, name, value: &text[at.clone()], at });
        }
        start += line.len();
    }
    found
}

/// The text with other values. `places` do not overlap.
pub(super) fn replaced(text: &str, places: &[(Range<usize>, String)]) -> Zeroizing<String> {
    let mut places: Vec<_> = places.iter().collect();
    places.sort_by_key(|(at, _)| at.start);
    let mut result = Zeroizing::new(String::with_capacity(text.len() * 2));
    let mut end = 0;
    for (at, value) in places {
        result.push_str(&text[end..at.start]);
        result.push_str(value);
        end = at.end;
    }
    result.push_str(&text[end..]);
    result
}

/// The name of a line `export NAME=value` or `NAME: value`, and where the value is.
fn assignment(line: &str) -> Option<(&str, Range<usize>)> {
    let (left, right) = line.split_at(line.find(['=', ':'])?);
    // Without a blank, it is part of a URL.
    if right.starts_with(':') && !right.starts_with(": ") {
        return None;
    }
    let name = left.trim();
    let name = name.strip_prefix("export ").map_or(name, str::trim_start);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        return None;
    }
    let after = left.len() + 1;
    let rest = &line[after..];
    let begin = after + (rest.len() - rest.trim_start_matches([' ', '\t']).len());
    let rest = line[begin..].trim_end();
    match rest.chars().next() {
        Some(quote @ ('"' | '\'' | '`')) => {
            let length = rest[1..].find(quote)?;
            // An escaped quote: where the value ends is a question of the program that reads the file.
            (!rest[1..=length].ends_with('\\')).then_some((name, begin + 1..begin + 1 + length))
        }
        Some(_) => {
            // A comment has a blank before it.
            let end = rest.find(" #").unwrap_or(rest.len());
            Some((name, begin..begin + rest[..end].trim_end().len()))
        }
        None => Some((name, begin..begin)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# A comment = no variable
PLAIN=abc
export QUOTED=\"a b # c\"   # why
SINGLE='x=y'\r
  SPACED = v # comment
EMPTY=
NOT A NAME=1
COLON: c:d=e # comment
TICKS=`x \"y\" 'z'`
https://a.test/?b=c
OPEN=\"first
second\"
LAST=ünï";

    #[test]
    fn values_are_found_as_programs_read_them() {
        let found: Vec<_> = lines(TEXT)
            .iter()
            .map(|it| format!("{}:{}={}", it.number, it.name, it.value))
            .collect();
        let wanted = [
            "2:PLAIN=abc",
            "3:QUOTED=a b # c",
            "4:SINGLE=x=y",
            "5:SPACED=v",
            "6:EMPTY=",
            "8:COLON=c:d=e",
            "9:TICKS=x \"y\" 'z'",
            "13:LAST=ünï",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_first_variable_after_a_byte_order_mark_is_found_and_the_mark_stays() {
        let text = "\u{feff}KEY=abc\r\nB=d\r\n";
        let found = lines(text);
        assert_eq!((found[0].name, found[0].value, found[1].value), ("KEY", "abc", "d"));
        let places = [(found[0].at.clone(), "<key>".to_owned())];
        assert_eq!(*replaced(text, &places), "\u{feff}KEY=<key>\r\nB=d\r\n");
    }

    #[test]
    fn only_the_values_are_replaced() {
        let places: Vec<_> = lines(TEXT)
            .into_iter()
            .filter(|it| ["QUOTED", "LAST", "SINGLE"].contains(&it.name))
            .map(|it| (it.at, format!("<{}>", it.name)))
            .collect();
        let text = replaced(TEXT, &places);
        assert_eq!(
            *text,
            TEXT.replace("a b # c", "<QUOTED>").replace("x=y", "<SINGLE>").replace("ünï", "<LAST>")
        );
    }
}
