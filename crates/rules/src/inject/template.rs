//! [`ValueTemplate`]: a value with fields in it, such as `Bearer {token}`. Parsed once, from provider data.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use keyward_base::secret::Secret;

/// Maximum length of a written value: a token of 16 KiB, and the text beside it. Servers refuse heads over 8 to 16 KiB, and
/// real tokens are shorter than 10 KiB.
pub const VALUE_BYTES_MAX: usize = 17 * 1024;

/// A template of a value: `Bearer {token}`. With [`Encoding::Basic`], the rendered text is `user:password`; it
/// is sent as `Basic ` and its base64 (RFC 7617).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ValueTemplate {
    parts: Vec<TemplatePart>,
    encoding: Encoding,
}

/// A piece of a template.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TemplatePart {
    /// Fixed text.
    Literal(Box<str>),
    /// The name of a field whose value is inserted.
    Field(Box<str>),
}

/// How the rendered text is encoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// Unchanged.
    Plain,
    /// `Basic ` and base64.
    Basic,
}

/// Why a template is invalid. Messages name fields and never quote values.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// `{` without `}`, or an empty name.
    #[error("`{0}` is not a template: write field names in braces, such as `Bearer {{token}}`")]
    Syntax(String),
    /// The field has no value.
    #[error("field `{0}` is missing")]
    Missing(String),
    /// A field value has control bytes, leading or trailing spaces, or is not ASCII; or the user of Basic has a
    /// colon.
    #[error("field `{0}` is empty or holds a character that cannot be sent there")]
    Unsendable(String),
    /// The rendered value exceeds [`VALUE_BYTES_MAX`].
    #[error(
        "the value is longer than {VALUE_BYTES_MAX} bytes: check that the right text was pasted"
    )]
    TooLong,
}

impl ValueTemplate {
    /// Parses `Bearer {token}`. Field names are letters, digits, `_` and `-`.
    ///
    /// # Errors
    /// On unbalanced braces, an empty field name, literal text that cannot be sent, or a Basic template without
    /// a literal colon.
    pub fn parse(text: &str, encoding: Encoding) -> Result<Self, TemplateError> {
        let parts = split(text).ok_or_else(|| TemplateError::Syntax(text.to_owned()))?;
        let basic_without_colon = encoding == Encoding::Basic && first_colon(&parts).is_none();
        match parts.is_empty() || basic_without_colon {
            true => Err(TemplateError::Syntax(text.to_owned())),
            false => Ok(Self { parts, encoding }),
        }
    }

    /// The names of the fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Field(name) => Some(&**name),
            TemplatePart::Literal(_) => None,
        })
    }

    /// The length of what is written beside the fields, such as `Bearer `.
    pub fn literal_bytes(&self) -> usize {
        self.rendered_bytes(&BTreeMap::new())
    }

    /// Literals and fields, in order.
    pub fn parts(&self) -> &[TemplatePart] {
        &self.parts
    }

    /// How the rendered text is encoded.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Inserts the fields.
    ///
    /// # Errors
    /// When a field is missing or cannot be sent.
    pub fn render(&self, fields: &BTreeMap<String, Secret>) -> Result<Secret, TemplateError> {
        self.check(fields)?;
        let mut plain = Zeroizing::new(Vec::with_capacity(self.rendered_bytes(fields)));
        for part in &self.parts {
            match part {
                TemplatePart::Literal(text) => plain.extend_from_slice(text.as_bytes()),
                TemplatePart::Field(name) => plain.extend_from_slice(value(fields, name)?.expose()),
            }
        }
        let rendered = match self.encoding {
            Encoding::Plain => Secret::new(std::mem::take(&mut *plain)),
            Encoding::Basic => basic(&plain),
        };
        // A header's value is trimmed in transit (RFC 9110 §5.5), so another value would arrive.
        let ends_blank = matches!(rendered.expose(), [b' ', ..] | [.., b' ']);
        match self.fields().last() {
            Some(name) if ends_blank => Err(TemplateError::Unsendable(name.to_owned())),
            _ if rendered.len() > VALUE_BYTES_MAX => Err(TemplateError::TooLong),
            _ => Ok(rendered),
        }
    }

    /// Checks that every field exists and can be sent. Fields before Basic's colon must not contain a colon
    /// (RFC 7617 §2), or the upstream would see another user.
    fn check(&self, fields: &BTreeMap<String, Secret>) -> Result<(), TemplateError> {
        let colon = match self.encoding {
            Encoding::Plain => None,
            Encoding::Basic => first_colon(&self.parts),
        };
        for (index, part) in self.parts.iter().enumerate() {
            let TemplatePart::Field(name) = part else { continue };
            let bytes = value(fields, name)?.expose();
            let in_user = colon.is_some_and(|colon| index < colon);
            // Basic often has an empty password, with the key as the user.
            let is_empty = bytes.is_empty() && self.encoding == Encoding::Plain;
            if is_empty || !is_sendable(bytes) || in_user && bytes.contains(&b':') {
                return Err(TemplateError::Unsendable(name.to_string()));
            }
        }
        match self.rendered_bytes(fields) > VALUE_BYTES_MAX {
            true => Err(TemplateError::TooLong),
            false => Ok(()),
        }
    }

    /// Size before encoding, so that the buffer never grows and leaves no copy of the secret.
    fn rendered_bytes(&self, fields: &BTreeMap<String, Secret>) -> usize {
        let bytes = |part: &TemplatePart| match part {
            TemplatePart::Literal(text) => text.len(),
            TemplatePart::Field(name) => fields.get(&**name).map_or(0, Secret::len),
        };
        self.parts.iter().map(bytes).sum()
    }
}

fn value<'a>(
    fields: &'a BTreeMap<String, Secret>,
    name: &str,
) -> Result<&'a Secret, TemplateError> {
    fields.get(name).ok_or_else(|| TemplateError::Missing(name.to_owned()))
}

/// Splits a template; `None` when braces or literal text are invalid.
fn split(text: &str) -> Option<Vec<TemplatePart>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let literal = &rest[..rest.find(['{', '}']).unwrap_or(rest.len())];
        if !literal.is_empty() {
            is_visible(literal.as_bytes())
                .then(|| parts.push(TemplatePart::Literal(literal.into())))?;
        }
        rest = &rest[literal.len()..];
        if !rest.is_empty() {
            let (name, tail) = rest.strip_prefix('{')?.split_once('}')?;
            is_field_name(name).then(|| parts.push(TemplatePart::Field(name.into())))?;
            rest = tail;
        }
    }
    Some(parts)
}

/// Index of the part with the first literal colon.
fn first_colon(parts: &[TemplatePart]) -> Option<usize> {
    parts.iter().position(|part| matches!(part, TemplatePart::Literal(text) if text.contains(':')))
}

fn is_field_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Whether the bytes are visible ASCII and spaces.
fn is_visible(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| matches!(b, b' '..=b'~'))
}

fn is_sendable(bytes: &[u8]) -> bool {
    is_visible(bytes) && !matches!(bytes, [b' ', ..] | [.., b' '])
}

/// `Basic ` and base64 (RFC 7617 §2), written into a buffer of its final size.
fn basic(user_and_password: &[u8]) -> Secret {
    const SCHEME: &[u8] = b"Basic ";
    let mut buffer =
        Zeroizing::new(vec![0; SCHEME.len() + user_and_password.len().div_ceil(3) * 4]);
    buffer[..SCHEME.len()].copy_from_slice(SCHEME);
    let written = STANDARD
        .encode_slice(user_and_password, &mut buffer[SCHEME.len()..])
        .expect("the buffer is as long as base64 with padding");
    buffer.truncate(SCHEME.len() + written);
    Secret::new(std::mem::take(&mut *buffer))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), Secret::from((*v).to_owned()))).collect()
    }

    fn plain(text: &str) -> ValueTemplate {
        ValueTemplate::parse(text, Encoding::Plain).expect(text)
    }

    fn rendered(template: &ValueTemplate, pairs: &[(&str, &str)]) -> Result<String, TemplateError> {
        let secret = template.render(&fields(pairs))?;
        Ok(secret.expose_text().expect("ASCII").to_owned())
    }

    #[test]
    fn broken_templates_are_refused() {
        for bad in [
            "", "{", "}", "{}", "a{", "a}", "{a", "a}b", "{a{b}}", "{{a}}", "{a b}", "{a}}", "{ä}",
            "{a}\n{b}", "tab\t{a}", "ü{a}", "{a.b}",
        ] {
            let syntax = Err(TemplateError::Syntax(bad.to_owned()));
            assert_eq!(ValueTemplate::parse(bad, Encoding::Plain), syntax, "{bad}");
        }
        assert!(ValueTemplate::parse("{user}{password}", Encoding::Basic).is_err());
    }

    #[test]
    fn a_missing_field_is_named() {
        let missing = TemplateError::Missing("b".to_owned());
        assert_eq!(rendered(&plain("{a}-{b}"), &[("a", "x")]), Err(missing));
    }

    #[test]
    fn values_that_cannot_be_sent_are_refused_and_not_quoted() {
        for bad in ["", " ", "a\r\nb", "a\n", "\0", " a", "a ", "\ta", "ü", "a\u{7f}", "a\u{1b}[0m"]
        {
            let error = rendered(&plain("Bearer {t}"), &[("t", bad)]).expect_err(bad);
            assert_eq!(error, TemplateError::Unsendable("t".to_owned()), "{bad:?}");
        }
    }

    #[test]
    fn rendered_values_longer_than_the_maximum_are_refused() {
        let longest = "x".repeat(VALUE_BYTES_MAX);
        assert_eq!(rendered(&plain("{t}"), &[("t", &longest)]).map(|t| t.len()), Ok(longest.len()));
        assert_eq!(rendered(&plain("a{t}"), &[("t", &longest)]), Err(TemplateError::TooLong));
        let basic = ValueTemplate::parse("{t}:x", Encoding::Basic).expect("a template");
        assert_eq!(rendered(&basic, &[("t", &longest[16..])]), Err(TemplateError::TooLong));
    }

    #[test]
    fn a_basic_user_has_no_colon_but_a_password_may() {
        let basic = ValueTemplate::parse("{u}:{p}", Encoding::Basic).expect("a template");
        let unsendable = Err(TemplateError::Unsendable("u".to_owned()));
        assert_eq!(rendered(&basic, &[("u", "a:b"), ("p", "c")]), unsendable);
        // The example of RFC 7617 §2.
        let pairs = [("u", "Aladdin"), ("p", "open sesame")];
        assert_eq!(rendered(&basic, &pairs), Ok("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned()));
        assert_eq!(rendered(&basic, &[("u", "a"), ("p", "b:c")]), Ok("Basic YTpiOmM=".to_owned()));
        assert_eq!(rendered(&basic, &[("u", "key"), ("p", "")]), Ok("Basic a2V5Og==".to_owned()));
    }

    #[test]
    fn fields_are_replaced_by_their_values() {
        for (text, want) in [
            ("Bearer {a}", "Bearer 1"),
            ("/bot{a}/", "/bot1/"),
            ("{a}{b}{a}", "121"),
            ("id={a}, key=\"{b}\"", "id=1, key=\"2\""),
            ("fixed", "fixed"),
        ] {
            assert_eq!(rendered(&plain(text), &[("a", "1"), ("b", "2")]), Ok(want.to_owned()));
        }
        assert_eq!(plain("{a}-{b}{a}").fields().collect::<Vec<_>>(), ["a", "b", "a"]);
    }

    proptest! {
        #[test]
        fn a_rendered_value_is_visible_ascii(value in "\\PC{0,20}", text in "[ -z]{0,4}\\{a\\}") {
            if let Ok(template) = ValueTemplate::parse(&text, Encoding::Plain) {
                let result = rendered(&template, &[("a", &value)]);
                prop_assert!(result.is_err() || result.is_ok_and(|t| is_sendable(t.as_bytes())));
            }
        }
    }
}
