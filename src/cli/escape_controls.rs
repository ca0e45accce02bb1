//! Escapes characters in JSON that control a terminal.

use keyward_base::visible::is_invisible;

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
