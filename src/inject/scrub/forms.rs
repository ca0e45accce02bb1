//! The forms in which a secret is looked for: as it is, and as servers quote it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

/// Shorter secrets are not looked for by themselves: they stand in innocent text too often, and what
/// is masked by mistake is damage. The value they are written in is, where that is long enough.
pub const SECRET_BYTES_MIN: usize = 8;

/// A form of a secret. Wiped when dropped.
pub(super) type Form = Zeroizing<Vec<u8>>;

/// RFC 3986 §2.3: what every encoder leaves as it is.
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `encodeURIComponent` of ECMAScript.
const COMPONENT: AsciiSet =
    UNRESERVED.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');

/// Those of `pchar` (RFC 3986 §3.3) that `set` encodes.
const fn segment(set: AsciiSet) -> AsciiSet {
    let set = set.remove(b'$').remove(b'&').remove(b'+').remove(b',');
    set.remove(b';').remove(b'=').remove(b':').remove(b'@')
}

/// What encoders encode.
const ENCODED: [&AsciiSet; 7] = [
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

/// A form's value, whose blanks become `+` afterwards: WHATWG URL §5.2.
const FORM: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_').remove(b' ');

/// The characters that JSON encoders write as `\u00XX`: none (most), those of Go, Rails, Gson, PHP with
/// its options, .NET; and whether a slash becomes `\/`.
const JSON: [(&[u8], bool); 8] = [
    (b"", false),
    (b"", true),
    (b"<>&", false),
    (b"<>&'", false),
    (b"<>&'=", false),
    (b"<>&'\"", false),
    (b"<>&'\"", true),
    (b"<>&'\"+`", false),
];

/// How HTML writes the two quotes: names, Go's numbers, hexadecimal numbers.
const HTML: [(&str, &str); 3] = [("&quot;", "&#39;"), ("&#34;", "&#39;"), ("&quot;", "&#x27;")];

/// All forms of `secret`, some of them twice; none when it is too short.
pub(super) fn forms(secret: &[u8]) -> Vec<Form> {
    if secret.len() < SECRET_BYTES_MIN {
        return Vec::new();
    }
    let mut all = vec![Zeroizing::new(secret.to_vec())];
    all.extend(percent_encoded(secret));
    all.extend(base64_encoded(secret));
    let hex = |upper| secret.iter().flat_map(|byte| hex_pair(*byte, upper)).collect();
    all.extend([false, true].map(|upper| Zeroizing::new(hex(upper))));
    all.extend(json_escaped(secret));
    all.extend(HTML.map(|quotes| html_escaped(secret, quotes)));
    all
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

/// The same with lower-case digits in its escapes.
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

/// What base64 leaves of the secret wherever it stands in longer text: at each of the three
/// alignments, the characters that it alone decides.
fn base64_encoded(secret: &[u8]) -> Vec<Form> {
    let mut forms = Vec::new();
    for shift in 0..3 {
        let mut shifted = Zeroizing::new(vec![0; shift]);
        shifted.extend_from_slice(secret);
        // Six bits a character: from the first that begins in the secret to the last that ends in it.
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

fn json_escaped(secret: &[u8]) -> Vec<Form> {
    let mut forms = Vec::new();
    for upper in [false, true] {
        for (escaped, slash) in JSON {
            forms.push(in_json(secret, upper, slash, |byte| escaped.contains(&byte)));
        }
        forms.push(in_json(secret, upper, false, |byte| !byte.is_ascii_alphanumeric()));
        forms.push(in_json(secret, upper, false, |_| true));
    }
    forms
}

/// A JSON string (RFC 8259 §7) in which the bytes that `escaped` says are written as `\u00XX`.
fn in_json(secret: &[u8], upper: bool, slash: bool, escaped: impl Fn(u8) -> bool) -> Form {
    let mut text = Zeroizing::new(Vec::with_capacity(secret.len() * 6));
    for &byte in secret {
        match byte {
            byte if escaped(byte) => {
                text.extend_from_slice(b"\\u00");
                text.extend_from_slice(&hex_pair(byte, upper));
            }
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', byte]),
            b'/' if slash => text.extend_from_slice(b"\\/"),
            byte => text.push(byte),
        }
    }
    text
}

fn html_escaped(secret: &[u8], (double, single): (&str, &str)) -> Form {
    let mut text = Zeroizing::new(Vec::with_capacity(secret.len() * 6));
    for &byte in secret {
        match byte {
            b'&' => text.extend_from_slice(b"&amp;"),
            b'<' => text.extend_from_slice(b"&lt;"),
            b'>' => text.extend_from_slice(b"&gt;"),
            b'"' => text.extend_from_slice(double.as_bytes()),
            b'\'' => text.extend_from_slice(single.as_bytes()),
            byte => text.push(byte),
        }
    }
    text
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
    fn a_plain_token_has_few_forms() {
        let forms = texts("sk-abcdefghij_KL");
        // Raw, all escaped in % and \u in two cases, `-` and `_` escaped likewise, six of base64 (two
        // alphabets that are one here), two of hex: and nothing that no encoder writes.
        for form in ["sk-abcdefghij_KL", "736b2d6162636465666768696a5f4b4c"] {
            assert!(forms.contains(form), "{forms:#?}");
        }
        assert!(forms.len() <= 16, "{forms:#?}");
    }

    #[test]
    fn what_encoders_write_is_among_the_forms() {
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
        ] {
            assert!(forms.iter().any(|form| form == written), "{written}: {forms:#?}");
        }
        assert!(forms.iter().any(|form| form.starts_with("\\u0061\\u002b\\u0062")));
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
}
