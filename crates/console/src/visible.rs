//! [`visible`]: markup in whose texts people see each character. A name with hidden characters, or with ones that turn the
//! direction of text, could look like another name.

use std::borrow::Cow;

use keyward_base::visible::visible_lines;
use maud::Markup;

/// Attributes that people read.
const READ: [&str; 3] = [" title=", " aria-label=", " placeholder="];

/// The markup with invisible characters of texts as `\u{202e}`. What a form or a script sends stays as it is.
pub(crate) fn visible(markup: Markup) -> String {
    let markup = markup.into_string();
    if let Cow::Borrowed(_) = visible_lines(&markup) {
        return markup;
    }
    let mut shown = String::with_capacity(markup.len() + 64);
    // Texts and attributes have `<` and `>` as references.
    let mut parts = markup.split('<');
    shown.push_str(&visible_lines(parts.next().unwrap_or_default()));
    for part in parts {
        let (tag, text) = part.split_once('>').unwrap_or((part, ""));
        shown.push('<');
        push_tag(tag, &mut shown);
        shown.push('>');
        match tag.starts_with("textarea") {
            true => shown.push_str(text),
            false => shown.push_str(&visible_lines(text)),
        }
    }
    shown
}

/// Values of attributes are between `"`, and have it as a reference.
fn push_tag(tag: &str, shown: &mut String) {
    let mut is_read = false;
    for (place, part) in tag.split('"').enumerate() {
        if place > 0 {
            shown.push('"');
        }
        match is_read {
            true => shown.push_str(&visible_lines(part)),
            false => shown.push_str(part),
        }
        is_read = place % 2 == 0 && READ.iter().any(|name| part.ends_with(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maud::html;

    #[test]
    fn texts_show_what_is_invisible_and_values_of_forms_keep_it() {
        let name = "pay\u{202e}lap\"<b>\u{200b}";
        let markup = html! {
            p title=(name) data-confirm=(name) { (name) " · é" br; (name) }
            form data-body=(name) { input value=(name) aria-label=(name); textarea { (name) } }
        };
        let (raw, seen) =
            ("pay\u{202e}lap&quot;&lt;b&gt;\u{200b}", r"pay\u{202e}lap&quot;&lt;b&gt;\u{200b}");
        let expected = format!(
            "<p title=\"{seen}\" data-confirm=\"{raw}\">{seen} · é<br>{seen}</p>\
             <form data-body=\"{raw}\"><input value=\"{raw}\" aria-label=\"{seen}\">\
             <textarea>{raw}</textarea></form>"
        );
        assert_eq!(visible(markup), expected);
        assert_eq!(visible(html! { pre { "a\n\tb é 東京" } }), "<pre>a\n\tb é 東京</pre>");
    }
}
