//! [`PathPrefix`]: a path prefix that holds a credential, such as `/bot{api_key}/`, or a path that ends with it, such as
//! `/services/{key}`. The same code builds the path that is sent and the masked path that rules are evaluated on before the
//! credential is known.

use super::placeholder::holds_mark;
use super::template::{TemplatePart, ValueTemplate};
use keyward_base::pattern::{DecodedPath, PathError, mask};

/// Whole segments, some of which contain fields. Stored without the trailing slash, with a mask in place of
/// each field.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PathPrefix {
    text: Box<str>,
    /// Whether paths may end there, without a slash; then the last field may be several segments.
    pub is_end: bool,
}

impl PathPrefix {
    /// Makes a prefix of a template that begins with a slash. `is_secret` says whether a field is secret.
    pub fn of(template: &ValueTemplate, is_secret: impl Fn(&str) -> bool) -> Self {
        let piece = |part: &TemplatePart| match part {
            TemplatePart::Literal(text) => text.to_string(),
            TemplatePart::Field(name) if is_secret(name) => mask::SECRET.to_string(),
            TemplatePart::Field(_) => mask::OPEN.to_string(),
        };
        let text: String = template.parts().iter().map(piece).collect();
        let bare = text.strip_suffix('/');
        Self { is_end: bare.is_none(), text: bare.unwrap_or(&text).into() }
    }

    /// The path that will be sent instead of `path`, with masks in place of fields.
    ///
    /// # Errors
    /// When the rest of `path` after the prefix is not a valid path.
    pub fn masked(&self, path: &DecodedPath) -> Result<DecodedPath, PathError> {
        DecodedPath::join(&self.text, self.behind(path.raw()))
    }

    /// The path that is sent instead of `path`. `value` is the whole prefix (`/bot123:abc/`). `None` when
    /// `value` does not match this prefix, because then rules were evaluated on another path.
    pub(super) fn write(&self, path: &str, value: &str) -> Option<String> {
        let value = value.strip_prefix('/')?;
        let value = if self.is_end { value } else { value.strip_suffix('/')? };
        if !self.is_met_by(value) {
            return None;
        }
        // The agent sent the credential itself: rules were evaluated on the path as received.
        let body = path.strip_prefix('/').unwrap_or(path);
        let whole = body.strip_prefix(value);
        let rest = match whole.filter(|rest| rest.is_empty() || rest.starts_with('/')) {
            Some(rest) => rest.strip_prefix('/').unwrap_or(rest),
            None => self.behind(path),
        };
        let slash = if self.is_end && rest.is_empty() { "" } else { "/" };
        Some(format!("/{value}{slash}{rest}"))
    }

    /// The part of `path` after the prefix. Leading segments that equal the prefix's, or contain a placeholder,
    /// are removed, regardless of the credential.
    fn behind<'a>(&self, path: &'a str) -> &'a str {
        let mut rest = path.strip_prefix('/').unwrap_or(path);
        for segment in self.segments() {
            let (first, after) = rest.split_once('/').unwrap_or((rest, ""));
            if first != segment && !holds_mark(first) {
                break;
            }
            rest = after;
        }
        rest
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.split('/').skip(1)
    }

    fn is_met_by(&self, value: &str) -> bool {
        let is_met = |segment: &str, value: &str| match segment.split_once(MASKS) {
            None => segment == value,
            Some((before, rest)) => {
                let after = rest.rsplit(MASKS).next().unwrap_or(rest);
                value.len() > before.len() + after.len()
                    && value.starts_with(before)
                    && value.ends_with(after)
                    && !value.split('/').any(|piece| matches!(piece, "" | "." | ".."))
                    && !value.contains('%')
            }
        };
        let count = self.segments().count();
        let values = value.splitn(if self.is_end { count } else { usize::MAX }, '/');
        values.clone().count() == count
            && self.segments().zip(values).all(|(own, value)| is_met(own, value))
    }
}

const MASKS: [char; 2] = [mask::SECRET, mask::OPEN];

#[cfg(test)]
mod tests {
    use super::super::placeholder::Placeholder;
    use super::super::template::Encoding;
    use super::*;

    fn prefix(text: &str) -> PathPrefix {
        PathPrefix::of(&ValueTemplate::parse(text, Encoding::Plain).unwrap(), |name| name != "open")
    }

    #[test]
    fn a_value_that_does_not_match_the_prefix_template_is_not_written() {
        for (shape, value) in [
            ("/bot{key}/", "/bot1/sendMessage/"),
            ("/bot{key}/", "/bot/"),
            ("/bot{key}/", "/bat1/"),
            ("/bot{key}/", "/bot1"),
            ("/bot{key}/", "bot1/"),
            ("/bot{key}/", "/bot%2e/"),
            ("/{key}/", "/../"),
            ("/{key}/", "/./"),
            ("/{key}/", "//"),
            ("/a/{key}/", "/b/1/"),
            ("/{key}x{other}y/", "/1x2/"),
            ("/services/{key}", "/services/T/../X"),
            ("/services/{key}", "/services/T//X"),
            ("/services/{key}", "/services/T/X/"),
            ("/services/{key}", "/services/"),
            ("/services/{key}", "/other/T/X"),
        ] {
            assert_eq!(prefix(shape).write("/x", value), None, "{shape} {value}");
        }
    }

    #[test]
    fn the_masked_path_equals_the_sent_path_except_for_the_credential() {
        let placeholder = Placeholder::issue("1234567890:", None);
        let held = placeholder.as_str();
        for (shape, value, path, sent) in [
            ("/bot{key}/", "/bot1:k/", format!("/bot{held}/getMe"), "/bot1:k/getMe"),
            ("/bot{key}/", "/bot1:k/", format!("/{held}/getMe"), "/bot1:k/getMe"),
            ("/bot{key}/", "/bot1:k/", "/getMe".into(), "/bot1:k/getMe"),
            ("/bot{key}/", "/bot1:k/", "/bot2:other/getMe".into(), "/bot1:k/bot2:other/getMe"),
            ("/bot{key}/", "/bot1:k/", "/".into(), "/bot1:k/"),
            ("/bot{key}/", "/bot1:k/", "//x".into(), "/bot1:k//x"),
            ("/bot{key}/", "/bot1:k/", "*".into(), "/bot1:k/*"),
            ("/file/bot{key}/", "/file/bot1:k/", "/file/a%2fb".into(), "/file/bot1:k/a%2fb"),
            ("/file/bot{key}/", "/file/bot1:k/", format!("/file/bot{held}/a"), "/file/bot1:k/a"),
            ("/{open}/{key}/", "/acme/k/", "/x".into(), "/acme/k/x"),
            ("/{key}", "/k", "/x".into(), "/k/x"),
        ] {
            let prefix = prefix(shape);
            assert_eq!(prefix.write(&path, value).as_deref(), Some(sent), "{path}");
            let path = DecodedPath::parse(&path).unwrap();
            let masked = prefix.masked(&path).unwrap();
            let filled = masked.as_str().replace("\u{1b}", "acme");
            let secret = value.trim_matches('/').rsplit('/').next().unwrap();
            let filled = filled.replace("bot\u{1a}", secret).replace('\u{1a}', secret);
            let sent = DecodedPath::parse(sent).unwrap();
            assert_eq!((&*filled, masked.ambiguous()), (sent.as_str(), sent.ambiguous()));
        }
    }

    #[test]
    fn a_key_at_the_end_of_the_path_may_have_slashes_and_is_written_without_one_behind_it() {
        let placeholder = Placeholder::issue("", None);
        let held = placeholder.as_str();
        let services = prefix("/services/{key}");
        for (path, sent) in [
            (format!("/services/{held}"), "/services/T1/B2/x3"),
            ("/".into(), "/services/T1/B2/x3"),
            ("/services/T1/B2/x3".into(), "/services/T1/B2/x3"),
            (format!("/services/{held}/slack"), "/services/T1/B2/x3/slack"),
        ] {
            assert_eq!(
                services.write(&path, "/services/T1/B2/x3").as_deref(),
                Some(sent),
                "{path}"
            );
        }
        let path = DecodedPath::parse(&format!("/services/{held}")).unwrap();
        assert_eq!(services.masked(&path).unwrap().as_str(), "/services/\u{1a}/");
    }

    #[test]
    fn the_prefix_is_not_added_to_a_path_that_already_has_the_credential() {
        let two = prefix("/a{one}/b{two}/");
        assert_eq!(two.write("/a1/b2/x", "/a1/b2/").as_deref(), Some("/a1/b2/x"));
        assert_eq!(two.write("/a1/b2", "/a1/b2/").as_deref(), Some("/a1/b2/"));
        // Half of the prefix does not match.
        assert_eq!(two.write("/a1/x", "/a1/b2/").as_deref(), Some("/a1/b2/a1/x"));
        assert_eq!(two.write("/a1/b2x", "/a1/b2/").as_deref(), Some("/a1/b2/a1/b2x"));
    }
}
