//! Escapes characters in JSON that control a terminal.

/// JSON without characters that control a terminal: JSON itself escapes only ASCII control characters.
pub(super) fn escape_controls(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // Between values of indented JSON.
            '\n' => text.push(c),
            _ if is_invisible(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
            _ => text.push(c),
        }
    }
    text
}

/// Characters that control a terminal or are invisible: control and format characters, among them
/// those that turn the direction of text, ends of lines and paragraphs, blanks other than the usual
/// one, private and unassigned ones. They are those that Rust's own `Debug` escapes.
pub(crate) fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_control();
    }
    // Behind a letter, so that a mark that belongs to one is none of them.
    let mut pair = [b'a', 0, 0, 0, 0];
    let length = 1 + c.encode_utf8(&mut pair[1..]).len();
    let pair = std::str::from_utf8(&pair[..length]).expect("a letter and a character");
    pair.escape_debug().nth(1) == Some('\\')
}
