//! The encoded forms of a secret that are searched for: as it is, and as servers quote it. [`is_common_word`]: whether
//! a secret is an ordinary word of answers, which masking then changes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

use keyward_base::secret::Secret;

/// Shorter secrets are not searched for on their own: they occur in unrelated text too often, and masking that
/// would damage responses. The value they are written into is searched for, if it is long enough.
pub const SECRET_BYTES_MIN: usize = 8;
/// Words that are not lower-case letters alone, in lower case, one on each line.
const LISTED: &str = include_str!("common_words.txt");

/// Longer words in lower case are several, and rare in answers.
const LETTERS_MAX: usize = 16;

/// An encoded form of a secret; wiped when dropped.
pub(super) type Form = Zeroizing<Vec<u8>>;

/// Characters that every encoder leaves unchanged (RFC 3986 §2.3).
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `encodeURIComponent` of ECMAScript.
const COMPONENT: AsciiSet =
    UNRESERVED.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');

/// `set`, without the characters of `pchar` (RFC 3986 §3.3).
const fn segment(set: AsciiSet) -> AsciiSet {
    let set = set.remove(b'$').remove(b'&').remove(b'+').remove(b',');
    set.remove(b';').remove(b'=').remove(b':').remove(b'@')
}

/// The character sets that common encoders encode.
const ENCODED: [&AsciiSet; 8] = [
    NON_ALPHANUMERIC,
    &UNRESERVED,
    &COMPONENT,
    // `encodeURI` of ECMAScript.
    &segment(COMPONENT).remove(b'/').remove(b'?').remove(b'#'),
    // Python's `quote`.
    &UNRESERVED.remove(b'/'),
    // A path segment: Go's `PathEscape`, and RFC 3986.
    &segment(UNRESERVED),
    &segment(COMPONENT),
    // A query as browsers write it: WHATWG URL §1.3.
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'\''),
];

/// Form encoding, where spaces become `+` afterwards (WHATWG URL §5.2).
const FORM: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_').remove(b' ');

/// Which characters a string of JSON or JavaScript escapes in addition to `"` and `\`.
struct ScriptEscapes {
    /// Characters escaped by number.
    by_number: &'static [u8],
    /// Whether `/` is written as `\/`.
    slash: bool,
}

const fn script(by_number: &'static [u8], slash: bool) -> ScriptEscapes {
    ScriptEscapes { by_number, slash }
}

/// Encoders that write `\u00XX`.
const UNICODE_ESCAPED: [ScriptEscapes; 11] = [
    // Most encoders of JSON, with and without `\/`.
    script(b"", false),
    script(b"", true),
    // Go and Rails; Gson with and without `=`; PHP with its options, with and without `\/`; .NET.
    script(b"<>&", false),
    script(b"<>&'", false),
    script(b"<>&'=", false),
    script(b"<>&'\"", false),
    script(b"<>&'\"", true),
    script(b"<>&'\"+`", false),
    // Go's html/template and text/template in a script; Django's `escapejs`.
    script(b"<>&'\"+`", true),
    script(b"<>&=", false),
    script(b"<>&'\"=-;`\\", false),
];

/// Encoders that write `\xXX`: Go's html/template before 1.14, and encoders that escape the characters of
/// base64.
const BYTE_ESCAPED: [ScriptEscapes; 2] = [script(b"<>&'\"+", true), script(b"<>&'\"+/=`", false)];

/// How template engines escape HTML characters other than `&`, `<` and `>`, as observed.
const HTML: [&[(u8, &str)]; 9] = [
    // Lodash, Rails; PHP; Python.
    &[(b'"', "&quot;"), (b'\'', "&#39;")],
    &[(b'"', "&quot;"), (b'\'', "&#039;")],
    &[(b'"', "&quot;"), (b'\'', "&#x27;")],
    // Go's `html`, MarkupSafe; html/template, quoted and unquoted.
    &[(b'"', "&#34;"), (b'\'', "&#39;")],
    &[(b'"', "&#34;"), (b'\'', "&#39;"), (b'+', "&#43;")],
    &[
        (b'"', "&#34;"),
        (b'\'', "&#39;"),
        (b'+', "&#43;"),
        (b'=', "&#61;"),
        (b'`', "&#96;"),
        (b' ', "&#32;"),
    ],
    // mustache.js; Handlebars; validator.js.
    &[(b'"', "&quot;"), (b'\'', "&#39;"), (b'/', "&#x2F;"), (b'`', "&#x60;"), (b'=', "&#x3D;")],
    &[(b'"', "&quot;"), (b'\'', "&#x27;"), (b'`', "&#x60;"), (b'=', "&#x3D;")],
    &[(b'"', "&quot;"), (b'\'', "&#x27;"), (b'/', "&#x2F;"), (b'\\', "&#x5C;"), (b'`', "&#96;")],
];

/// The named references of HTML 5 to ASCII characters (<https://html.spec.whatwg.org/entities.json>), which encoders of all
/// characters write: each character with its name, as in PHP. `-` and `~` have none.
const NAMED: [&str; 30] = [
    "!excl", "\"quot", "#num", "$dollar", "%percnt", "&amp", "'apos", "(lpar", ")rpar", "*ast",
    "+plus", ",comma", ".period", "/sol", ":colon", ";semi", "<lt", "=equals", ">gt", "?quest",
    "@commat", "[lbrack", "\\bsol", "]rsqb", "^Hat", "_lowbar", "`grave", "{lbrace", "|vert",
    "}rcub",
];

/// Other names that encoders write in place of these: PHP's; npm's `entities`; the shortest; all further ones.
const OTHER_NAMES: [&[&str]; 4] = [
    &[],
    &["]rbrack", "|verbar", "}rbrace"],
    &["[lsqb", "{lcub", "|verbar"],
    &["\"QUOT", "&AMP", "*midast", "<LT", ">GT", "_UnderBar", "`DiacriticalGrave", "|VerticalLine"],
];

/// All forms of `secret`, possibly with duplicates; none if it is too short.
pub(super) fn forms(secret: &[u8]) -> Vec<Form> {
    if secret.len() < SECRET_BYTES_MIN {
        return Vec::new();
    }
    let mut all = vec![Zeroizing::new(secret.to_vec())];
    all.extend(percent_encoded(secret));
    all.extend(base64_encoded(secret));
    let hex = |upper| secret.iter().flat_map(|byte| hex_pair(*byte, upper)).collect();
    all.extend([false, true].map(|upper| Zeroizing::new(hex(upper))));
    all.extend(script_escaped(secret));
    all.extend(html_escaped(secret));
    all.extend(OTHER_NAMES.iter().map(|others| html_named(secret, others)));
    all.push(wide(secret));
    all
}

/// The common part of UTF-16 in both byte orders: from the first character's byte to the last one's.
fn wide(secret: &[u8]) -> Form {
    let mut text = Zeroizing::new(Vec::with_capacity(secret.len() * 2));
    text.extend(secret.iter().flat_map(|byte| [*byte, 0]));
    text.pop();
    text
}

fn percent_encoded(secret: &[u8]) -> Vec<Form> {
    let mut upper: Vec<Form> = ENCODED.iter().map(|set| encoded(secret, set)).collect();
    let mut form = encoded(secret, FORM);
    form.iter_mut().filter(|byte| **byte == b' ').for_each(|byte| *byte = b'+');
    upper.push(form);
    let every = secret.iter().flat_map(|byte| [b'%'].into_iter().chain(hex_pair(*byte, true)));
    upper.push(Zeroizing::new(every.collect()));
    let lower: Vec<Form> = upper.iter().map(|form| lower_escapes(form)).collect();
    upper.extend(lower);
    upper
}

fn encoded(secret: &[u8], set: &'static AsciiSet) -> Form {
    Zeroizing::new(percent_encode(secret, set).flat_map(str::bytes).collect())
}

/// The same form with lower-case hexadecimal digits.
fn lower_escapes(form: &[u8]) -> Form {
    let mut lower = Zeroizing::new(form.to_vec());
    let mut at = 0;
    while let Some(escape) = lower.get_mut(at..at + 3) {
        at += match escape {
            [b'%', digits @ ..] => {
                digits.make_ascii_lowercase();
                3
            }
            _ => 1,
        };
    }
    lower
}

/// The base64 characters that depend on the secret alone, at each of the three alignments in longer text.
fn base64_encoded(secret: &[u8]) -> Vec<Form> {
    let mut forms = Vec::new();
    for shift in 0..3 {
        let mut shifted = Zeroizing::new(vec![0; shift]);
        shifted.extend_from_slice(secret);
        // Six bits per character: from the first character that begins in the secret to the last that ends in
        // it.
        let (first, last) = ((shift * 8).div_ceil(6), shifted.len() * 8 / 6);
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = Zeroizing::new(engine.encode(&*shifted));
            forms.push(Zeroizing::new(text.as_bytes()[first..last].to_vec()));
        }
    }
    forms
}

fn hex_pair(byte: u8, upper: bool) -> [u8; 2] {
    let digits = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]
}

fn script_escaped(secret: &[u8]) -> Vec<Form> {
    let mut forms = Vec::new();
    let tables = [("\\u00", &UNICODE_ESCAPED[..]), ("\\x", &BYTE_ESCAPED[..])];
    for (number, table) in tables {
        for upper in [false, true] {
            let with = |slash: bool, by_number: &dyn Fn(u8) -> bool| {
                in_script(secret, number, upper, slash, by_number)
            };
            forms.extend(
                table.iter().map(|it| with(it.slash, &|byte| it.by_number.contains(&byte))),
            );
            forms.push(with(false, &|byte| !byte.is_ascii_alphanumeric()));
            forms.push(with(false, &|_| true));
        }
    }
    forms
}

/// A string of JSON (RFC 8259 §7) or JavaScript in which the bytes selected by `by_number` are written as
/// `\u00XX` or `\xXX`.
fn in_script(
    secret: &[u8],
    number: &str,
    upper: bool,
    slash: bool,
    by_number: &dyn Fn(u8) -> bool,
) -> Form {
    let mut text = Zeroizing::new(Vec::with_capacity(secret.len() * 6));
    for &byte in secret {
        match byte {
            byte if by_number(byte) => {
                text.extend_from_slice(number.as_bytes());
                text.extend_from_slice(&hex_pair(byte, upper));
            }
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', byte]),
            b'/' if slash => text.extend_from_slice(b"\\/"),
            byte => text.push(byte),
        }
    }
    text
}

fn html_escaped(secret: &[u8]) -> Vec<Form> {
    let named = |byte: u8| match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        _ => None,
    };
    let of_table = |table: &[(u8, &'static str)]| {
        let own = |byte: u8| table.iter().find(|(from, _)| *from == byte).map(|(_, to)| *to);
        in_html(secret, |byte, text| match named(byte).or_else(|| own(byte)) {
            Some(escape) => text.extend_from_slice(escape.as_bytes()),
            None => text.push(byte),
        })
    };
    let mut forms: Vec<Form> = HTML.iter().map(|table| of_table(table)).collect();
    // Characters other than letters and digits, by number.
    let by_number = |write: &dyn Fn(u8, &mut Vec<u8>)| {
        in_html(secret, |byte, text| match byte.is_ascii_alphanumeric() {
            true => text.push(byte),
            false => write(byte, text),
        })
    };
    forms.push(by_number(&|byte, text| text.extend_from_slice(format!("&#{byte};").as_bytes())));
    forms.extend([false, true].map(|upper| {
        by_number(&|byte, text| {
            let [high, low] = hex_pair(byte, upper);
            text.extend_from_slice(&[b'&', b'#', b'x', high, low, b';']);
        })
    }));
    forms
}

/// All characters that have names, by that of `others` or of [`NAMED`].
fn html_named(secret: &[u8], others: &[&'static str]) -> Form {
    let name = |byte: u8| {
        let mut named = others.iter().chain(&NAMED);
        named.find(|named| named.as_bytes()[0] == byte).map(|named| &named[1..])
    };
    let length = secret.iter().map(|byte| name(*byte).map_or(1, |name| name.len() + 2)).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(length));
    for byte in secret {
        match name(*byte) {
            Some(name) => {
                text.push(b'&');
                text.extend_from_slice(name.as_bytes());
                text.push(b';');
            }
            None => text.push(*byte),
        }
    }
    text
}

/// The secret with each byte written by `write`. No escape is longer than `&quot;`.
fn in_html(secret: &[u8], write: impl Fn(u8, &mut Vec<u8>)) -> Form {
    let mut text = Zeroizing::new(Vec::with_capacity(secret.len() * 6));
    secret.iter().for_each(|byte| write(*byte, &mut text));
    text
}

/// Whether answers may have the text by chance: a listed word in any case, or a short one of lower-case letters. A secret
/// that is too short to be masked changes no answer.
pub fn is_common_word(secret: &Secret) -> bool {
    let Some(text) = secret.expose_text() else { return false };
    let is_plain = text.len() <= LETTERS_MAX && text.bytes().all(|byte| byte.is_ascii_lowercase());
    text.len() >= SECRET_BYTES_MIN
        && (is_plain || LISTED.lines().any(|word| word.eq_ignore_ascii_case(text)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn texts(secret: &str) -> BTreeSet<String> {
        forms(secret.as_bytes()).iter().map(|f| String::from_utf8(f.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_short_secret_has_no_form() {
        assert!(forms(b"hunter2").is_empty());
        assert!(!forms(b"hunter22").is_empty());
    }

    #[test]
    fn no_form_is_shorter_than_a_secret_may_be() {
        for secret in ["12345678", "p@ss/w+rd=&\"\\<'", "        x"] {
            for form in texts(secret) {
                assert!(form.len() >= SECRET_BYTES_MIN, "{form:?}");
            }
        }
    }

    #[test]
    fn a_plain_token_has_at_most_27_forms() {
        let forms = texts("sk-abcdefghij_KL");
        // Raw; all characters escaped in %, \u and \x in two cases, `-` and `_` escaped likewise, by the
        // numbers of HTML, and `_` by its two names; three of base64 (two alphabets that are equal here), two of hex, one of UTF-16; and
        // nothing that no encoder writes.
        for form in ["sk-abcdefghij_KL", "736b2d6162636465666768696a5f4b4c"] {
            assert!(forms.contains(form), "{forms:#?}");
        }
        assert!(forms.len() <= 27, "{} {forms:#?}", forms.len());
    }

    #[test]
    fn the_output_of_common_encoders_is_among_the_forms() {
        let forms = texts("a+b/c=d&e\"f<g h~'");
        for written in [
            // curl --data-urlencode; Python quote; ECMAScript; a form; Go PathEscape; lower case.
            "a%2Bb%2Fc%3Dd%26e%22f%3Cg%20h~%27",
            "a%2Bb/c%3Dd%26e%22f%3Cg%20h~%27",
            "a%2Bb%2Fc%3Dd%26e%22f%3Cg%20h~'",
            "a+b/c=d&e%22f%3Cg%20h~'",
            "a%2Bb%2Fc%3Dd%26e%22f%3Cg+h%7E%27",
            "a+b%2Fc=d&e%22f%3Cg%20h~%27",
            "a%2bb%2fc%3dd%26e%22f%3cg%20h~%27",
            // JSON: most; PHP; Go; Gson; .NET; everything.
            r#"a+b/c=d&e\"f<g h~'"#,
            r#"a+b\/c=d&e\"f<g h~'"#,
            r#"a+b/c=d\u0026e\"f\u003cg h~'"#,
            r#"a+b/c\u003dd\u0026e\"f\u003cg h~\u0027"#,
            r#"a\u002Bb/c=d\u0026e\u0022f\u003Cg h~\u0027"#,
            "a+b/c=d&amp;e&quot;f&lt;g h~&#39;",
            "a+b/c=d&amp;e&#34;f&lt;g h~&#39;",
            "a+b/c=d&amp;e&quot;f&lt;g h~&#039;",
            "a+b/c=d&amp;e&quot;f&lt;g h~&#x27;",
            // Go's html/template: text, bare attribute, script; its script before 1.14.
            "a&#43;b/c=d&amp;e&#34;f&lt;g h~&#39;",
            "a&#43;b/c&#61;d&amp;e&#34;f&lt;g&#32;h~&#39;",
            r"a\u002bb\/c=d\u0026e\u0022f\u003cg h~\u0027",
            r"a\x2bb\/c=d\x26e\x22f\x3cg h~\x27",
            // mustache.js; Handlebars; validator.js; Django's escapejs.
            "a+b&#x2F;c&#x3D;d&amp;e&quot;f&lt;g h~&#39;",
            "a+b/c&#x3D;d&amp;e&quot;f&lt;g h~&#x27;",
            "a+b&#x2F;c=d&amp;e&quot;f&lt;g h~&#x27;",
            r"a+b/c\u003Dd\u0026e\u0022f\u003Cg h~\u0027",
            // By name: PHP with ENT_HTML5.
            "a&plus;b&sol;c&equals;d&amp;e&quot;f&lt;g h~&apos;",
            // By number, all characters except letters.
            "a&#43;b&#47;c&#61;d&#38;e&#34;f&#60;g&#32;h&#126;&#39;",
            "a&#x2b;b&#x2f;c&#x3d;d&#x26;e&#x22;f&#x3c;g&#x20;h&#x7e;&#x27;",
            r"a\x2Bb\x2Fc\x3Dd\x26e\x22f\x3Cg\x20h\x7E\x27",
        ] {
            assert!(forms.iter().any(|form| form == written), "{written}: {forms:#?}");
        }
        assert!(forms.iter().any(|form| form.starts_with("\\u0061\\u002b\\u0062")));
    }

    #[test]
    fn every_named_reference_to_ascii_punctuation_is_in_a_form() {
        let forms = texts("!\"#$%&'()*+,./:;<=>?@[\\]^_`{|}");
        for named in NAMED.iter().chain(OTHER_NAMES.into_iter().flatten()) {
            let name = &named[1..];
            assert!(forms.iter().any(|form| form.contains(&format!("&{name};"))), "{name}");
        }
        let named: BTreeSet<u8> = NAMED.iter().map(|named| named.as_bytes()[0]).collect();
        let punctuation = (b'!'..=b'~').filter(u8::is_ascii_punctuation);
        let unnamed: Vec<u8> = punctuation.filter(|byte| !named.contains(byte)).collect();
        assert_eq!(unnamed, b"-~");
    }

    #[test]
    fn base64_of_longer_text_holds_a_form_wherever_the_secret_stands() {
        let secret = b"\xfb\xff\xbfsecret-0123456?>";
        let forms = forms(secret);
        for before in 0..7 {
            for after in 0..4 {
                let text = [&b"x?y>z~w"[..before], secret, &b"?>~"[..after.min(3)]].concat();
                for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                    let encoded = engine.encode(&text);
                    let held = |form: &Form| {
                        let form = std::str::from_utf8(form).unwrap_or("\u{0}");
                        encoded.contains(form)
                    };
                    assert!(forms.iter().any(held), "{before} {after} {encoded}");
                }
            }
        }
    }

    #[test]
    fn random_secrets_and_those_too_short_to_be_masked_are_no_common_words() {
        let is_word = |text: &str| is_common_word(&Secret::from(text.to_owned()));
        for other in ["secret", "sk_live_abcdefgh", "qzvkxwjhgplmnbtyc", "Tr0ub4dor&3", "a1b2c3d4"]
        {
            assert!(!is_word(other), "{other}");
        }
        for word in ["password", "Password", "PASSWORD1", "localhost", "internal", "12345678"] {
            assert!(is_word(word), "{word}");
        }
        assert!(LISTED.lines().all(|word| word == word.to_lowercase() && word.len() >= 8));
    }
}
