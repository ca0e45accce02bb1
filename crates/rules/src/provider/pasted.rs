//! Detects wrongly pasted secrets by the prefixes of the catalogue's keys. Services introduce new formats, so
//! people can override most findings. Messages name prefixes of the catalogue and never quote the value.

use std::collections::BTreeSet;

use super::{AuthMethod, Catalogue, Field, Provider};
use crate::inject::placeholder;
use keyward_base::secret::Secret;

/// Shorter prefixes of other services are ignored: two letters occur anywhere.
const TELLING_CHARS_MIN: usize = 3;

/// The same limit if the wanted keys have no known prefix.
const TELLING_ALONE_CHARS_MIN: usize = 4;

/// A shorter text after a prefix is not a key.
const BODY_CHARS_MIN: usize = 8;

/// A whole key has a run of this many letters and digits. Names that people choose have shorter ones.
const RUN_CHARS_MIN: usize = 16;

/// The known properties of one field's values.
#[derive(Clone, Copy, Debug)]
pub struct KeyShapes<'a> {
    pub provider: &'a str,
    /// The provider's display name.
    pub name: &'a str,
    /// The id of the auth method.
    pub auth: &'a str,
    /// Known prefixes.
    pub prefixes: &'a [String],
    /// The length of values with the first prefix.
    pub length: Option<usize>,
    /// Whether a pattern is enforced elsewhere; the prefixes are only examples then.
    pub has_pattern: bool,
}

/// Why a value does not fit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ValueMismatch {
    /// What it looks like, to follow "it ".
    pub says: String,
    pub remedy: String,
    /// Whether the finding cannot be overridden.
    pub is_final: bool,
}

/// Checks a value for the field `wanted`. `Ok` may contain a remark; `others` are all other fields of the
/// catalogue.
///
/// # Errors
/// When it looks like something else.
pub fn judge<'a>(
    value: &str,
    wanted: &KeyShapes<'_>,
    others: impl Iterator<Item = KeyShapes<'a>>,
) -> Result<Option<String>, ValueMismatch> {
    if !placeholder::scan(value.as_bytes()).is_empty() {
        return Err(ValueMismatch {
            is_final: true,
            ..misfit(
                "is a placeholder of Keyward, which agents get instead of the secret",
                "give the real value: it is at the provider, not in an agent's environment",
            )
        });
    }
    wrapped(value).map_or(Ok(()), Err)?;
    let own = wanted.longest(value);
    let others = others.filter_map(|keys| Some((keys.longest(value)?, keys)));
    let mut others: Vec<_> = others.filter(|(prefix, _)| wanted.is_told_by(prefix, own)).collect();
    let longest = others.iter().map(|(prefix, _)| prefix.len()).max().unwrap_or(0);
    // Services share beginnings, such as `sk_live_`.
    others.retain(|(prefix, _)| prefix.len() == longest);
    if let Some(misfit) = others_key(wanted, &others) {
        return Err(misfit);
    }
    match own {
        None if wanted.begins_somehow() => Err(wanted.unknown_prefix()),
        own => wanted.whole(value, own.unwrap_or_default()),
    }
}

/// Whether a text that is not asked for as a secret, such as a name, is a whole key: it has one of the prefixes and a
/// long run of letters and digits.
pub fn is_key<'a>(text: &str, mut prefixes: impl Iterator<Item = &'a str>) -> bool {
    let is_key_of = |prefix: &str| {
        prefix.len() >= TELLING_CHARS_MIN && text.strip_prefix(prefix).is_some_and(has_long_run)
    };
    has_long_run(text) && prefixes.any(is_key_of)
}

fn has_long_run(text: &str) -> bool {
    let mut runs = text.split(|c: char| !c.is_ascii_alphanumeric());
    runs.any(|run| {
        run.len() >= RUN_CHARS_MIN
            && run.bytes().any(|b| b.is_ascii_digit())
            && run.bytes().any(|b| b.is_ascii_alphabetic())
    })
}

/// The same, where `others` are the secret fields of all other auth methods of a catalogue.
///
/// # Errors
/// When it looks like something else.
pub fn judge_in(
    catalogue: &Catalogue,
    value: &str,
    wanted: &KeyShapes<'_>,
) -> Result<Option<String>, ValueMismatch> {
    let methods = catalogue.all().flat_map(|one| one.auth.iter().map(move |auth| (one, auth)));
    let secrets = methods.flat_map(|(one, auth)| {
        let secret = auth.fields.iter().filter(|field| field.secret);
        secret.map(move |field| KeyShapes::of(one, auth, field))
    });
    let is_wanted =
        |keys: &KeyShapes<'_>| keys.provider == wanted.provider && keys.auth == wanted.auth;
    judge(value, wanted, secrets.filter(|keys| !is_wanted(keys)))
}

/// The same for a secret; one that is not UTF-8 is left to the check of its field.
///
/// # Errors
/// When it looks like something else.
pub fn judge_secret(
    catalogue: &Catalogue,
    value: &Secret,
    wanted: &KeyShapes<'_>,
) -> Result<Option<String>, ValueMismatch> {
    let Some(text) = value.expose_text() else { return Ok(None) };
    // Files end with a line break.
    judge_in(catalogue, text.trim_end_matches(['\r', '\n']), wanted)
}

impl<'a> KeyShapes<'a> {
    /// The shapes of a field's values.
    pub fn of(provider: &'a Provider, auth: &'a AuthMethod, field: &'a Field) -> Self {
        Self {
            provider: &provider.id,
            name: &provider.name,
            auth: &auth.id,
            prefixes: &field.prefixes,
            length: field.length,
            has_pattern: field.pattern.is_some(),
        }
    }

    /// The longest known prefix of the value.
    fn longest(&self, value: &str) -> Option<&'a str> {
        if self.has_pattern {
            return None;
        }
        let fitting = self.prefixes.iter().map(String::as_str);
        fitting.filter(|prefix| value.starts_with(prefix)).max_by_key(|prefix| prefix.len())
    }

    fn begins_somehow(&self) -> bool {
        !self.has_pattern && !self.prefixes.is_empty()
    }

    /// Whether another field's prefix is more specific than our own.
    fn is_told_by(&self, others: &str, own: Option<&str>) -> bool {
        let least = match self.prefixes {
            [] => TELLING_ALONE_CHARS_MIN,
            _ => TELLING_CHARS_MIN,
        };
        others.len() >= least && others.len() > own.map_or(0, str::len)
    }

    fn unknown_prefix(&self) -> ValueMismatch {
        let known: Vec<_> = self.prefixes.iter().map(|prefix| format!("`{prefix}…`")).collect();
        let says = format!("does not begin as keys of {} do ({})", self.name, known.join(", "));
        misfit(&says, "compare it with the original")
    }

    fn whole(&self, value: &str, prefix: &str) -> Result<Option<String>, ValueMismatch> {
        let (chars, usual) = (value.chars().count(), self.length.unwrap_or(0));
        let is_first = self.prefixes.first().is_none_or(|first| first == prefix);
        // Lengths change over the years; a value of a third of the length is only a part.
        let least = prefix.len() + BODY_CHARS_MIN;
        let least = if is_first { least.max(usual / 3) } else { least };
        if (self.begins_somehow() || usual > 0) && chars < least {
            let says = format!("has {chars} characters only: it was not copied whole");
            return Err(misfit(&says, "copy it again"));
        }
        if prefix.contains("test") {
            return Ok(Some(format!(
                "it is a test key of {}: it reaches test data only",
                self.name
            )));
        }
        Ok((is_first && chars < usual)
            .then(|| format!("it has {chars} characters, most keys of {} have {usual}", self.name)))
    }
}

fn misfit(says: &str, remedy: &str) -> ValueMismatch {
    ValueMismatch { says: says.to_owned(), remedy: remedy.to_owned(), is_final: false }
}

/// The mismatch of a value that begins as keys of `others` do, all with prefixes of the same length.
fn others_key(wanted: &KeyShapes<'_>, others: &[(&str, KeyShapes<'_>)]) -> Option<ValueMismatch> {
    let (prefix, _) = others.first()?;
    if let Some((_, keys)) = others.iter().find(|(_, keys)| keys.provider == wanted.provider) {
        let says = format!(
            "looks like a value for the method `{}` of {} (`{prefix}…`)",
            keys.auth, keys.name
        );
        return Some(misfit(
            &says,
            &format!("choose that method, in commands with --auth {}", keys.auth),
        ));
    }
    let names: BTreeSet<&str> = others.iter().map(|(_, keys)| keys.name).collect();
    let ids: BTreeSet<_> = others.iter().map(|(_, keys)| format!("`{}`", keys.provider)).collect();
    let says =
        format!("looks like a key of {} (`{prefix}…`), not of {}", any_of(names), wanted.name);
    Some(misfit(&says, &format!("for that one the provider is {}", any_of(ids))))
}

/// `A, B or C`.
fn any_of<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    let mut words: Vec<_> = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
    let last = words.pop().unwrap_or_default();
    if words.is_empty() { last } else { format!("{} or {last}", words.join(", ")) }
}

/// Detects text that was copied along with the value.
fn wrapped(value: &str) -> Option<ValueMismatch> {
    if value.trim() != value {
        return Some(misfit("begins or ends with a blank", "copy it without"));
    }
    let quoted = |quote| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    if ['"', '\'', '`'].into_iter().any(quoted) {
        return Some(misfit("is in quotes", "give it without them"));
    }
    let lower = value.get(..24).unwrap_or(value).to_ascii_lowercase();
    let scheme = ["authorization:", "bearer ", "basic ", "token "];
    if let Some(scheme) = scheme.into_iter().find(|scheme| lower.starts_with(scheme)) {
        let says = format!("begins with `{}`, which is no part of it", scheme.trim_end());
        return Some(misfit(&says, "give what follows it: Keyward writes the rest"));
    }
    is_assignment(value).then(|| {
        misfit("is a line that sets a variable", "give what follows the `=`, without quotes")
    })
}

/// Detects `export NAME=value` or `NAME=value`. Base64 has `=` at its end only.
fn is_assignment(value: &str) -> bool {
    let exported = value.strip_prefix("export ").or_else(|| value.strip_prefix("set "));
    let Some((name, rest)) = exported.unwrap_or(value).split_once('=') else { return false };
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    name.len() > 2 && name.chars().all(is_name) && !rest.trim_start_matches('=').is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::placeholder::Placeholder;
    use crate::provider::Catalogue;

    /// The result for the catalogue: the message or the remark.
    fn told(provider: &str, auth: Option<&str>, value: &str) -> Result<String, String> {
        let catalogue = Catalogue::built_in();
        let found = catalogue.get(provider).unwrap();
        let auth = found.auth(auth).unwrap();
        let field = auth.fields.iter().find(|field| field.secret).unwrap();
        let all: Vec<_> = catalogue
            .all()
            .flat_map(|p| p.auth.iter().flat_map(move |a| a.fields.iter().map(move |f| (p, a, f))))
            .map(|(p, a, f)| KeyShapes {
                provider: &p.id,
                name: &p.name,
                auth: &a.id,
                prefixes: &f.prefixes,
                length: f.length,
                has_pattern: f.pattern.is_some(),
            })
            .collect();
        let is_wanted = |keys: &KeyShapes<'_>| {
            keys.provider == provider
                && keys.auth == auth.id
                && std::ptr::eq(keys.prefixes, &*field.prefixes)
        };
        let wanted = *all.iter().find(|keys| is_wanted(keys)).unwrap();
        let others = all.iter().filter(|keys| !is_wanted(keys)).copied();
        match judge(value, &wanted, others) {
            Ok(remark) => Ok(remark.unwrap_or_default()),
            Err(misfit) => Err(format!("{}; {}", misfit.says, misfit.remedy)),
        }
    }

    fn key(prefix: &str, chars: usize) -> String {
        format!("{prefix}{}", "a1B2".repeat(64))[..chars].to_owned()
    }

    #[test]
    fn names_that_people_choose_are_not_recognised_as_keys() {
        let known = ["ghp_", "test_", "key_", "sk-", "pk"];
        let is_key = |text: &str| is_key(text, known.into_iter());
        for name in [
            "",
            "github",
            "ghp_work",
            "test_environment_2024_europe",
            "key_of-the-company-2024",
            "test_internationalisation",
            "test_20240101120000000",
            "work-a1B2a1B2a1B2a1B2a1B2",
            "pka1B2a1B2a1B2a1B2a1B2",
        ] {
            assert!(!is_key(name), "{name}");
        }
        for value in [key("ghp_", 40), key("sk-", 48), key("sk-proj-", 60)] {
            assert!(is_key(&value), "{value}");
        }
    }

    #[test]
    fn a_key_of_another_service_is_recognised_by_the_longest_prefix() {
        for (provider, value, says) in [
            (
                "openai",
                key("sk-ant-api03-", 108),
                "a key of Anthropic (`sk-ant-api03-…`), not of OpenAI",
            ),
            ("anthropic", key("sk-proj-", 164), "a key of OpenAI"),
            ("openai", key("sk-or-v1-", 73), "a key of OpenRouter"),
            ("mistral", key("ghp_", 40), "a key of GitHub"),
            ("github", key("glpat-", 26), "a key of GitLab"),
        ] {
            let told = told(provider, None, &value).unwrap_err();
            assert!(told.contains(says), "{provider}: {told}");
        }
    }

    #[test]
    fn a_key_of_another_auth_method_of_the_service_names_that_method() {
        let told = told("slack", None, &key("xapp-", 60)).unwrap_err();
        assert!(told.contains("for the method `app_token`"), "{told}");
    }

    #[test]
    fn the_fault_of_a_pasted_value_is_named_and_the_value_is_never_quoted() {
        let good = key("ghp_", 40);
        for (value, says) in [
            (format!(" {good}"), "a blank"),
            (format!("{good}\t"), "a blank"),
            (format!("\"{good}\""), "quotes"),
            (format!("'{good}'"), "quotes"),
            (format!("Bearer {good}"), "`bearer`"),
            (format!("authorization: Bearer {good}"), "`authorization:`"),
            (format!("export GITHUB_TOKEN={good}"), "sets a variable"),
            (format!("GITHUB_TOKEN='{good}'"), "sets a variable"),
            (key("ghp_", 11), "not copied whole"),
            (key("sk_live_", 60), "a key of Clerk, Stripe or WorkOS (`sk_live_…`)"),
            (key("nothing-known-", 40), "(`ghp_…`, `github_pat_…`,"),
        ] {
            let told = told("github", None, &value).unwrap_err();
            assert!(told.contains(says), "{told}");
            assert!(!told.contains("a1B2"), "{told}");
        }
    }

    #[test]
    fn a_pasted_placeholder_is_refused() {
        let value = Placeholder::issue("ghp_", Some(40)).as_str().to_owned();
        assert!(told("github", None, &value).unwrap_err().contains("a placeholder of Keyward"));
    }

    #[test]
    fn a_test_key_and_a_short_one_are_remarked_on() {
        assert!(
            told("stripe", None, &key("sk_test_", 107)).unwrap().contains("a test key of Stripe")
        );
        assert!(
            told("github", None, &key("ghp_", 39)).unwrap().contains("most keys of GitHub have 40")
        );
    }

    #[test]
    fn good_keys_are_accepted_without_a_remark() {
        for (provider, value) in [
            ("openai", key("sk-proj-", 164)),
            ("openai", key("sk-", 51)),
            ("github", key("github_pat_", 93)),
            ("stripe", key("sk_live_", 107)),
            ("aws-bedrock", key("ABSK", 132)),
            ("aws-bedrock", key("bedrock-api-key-", 200)),
            // Its keys are unknown; base 64 is not a shell assignment.
            ("mistral", key("re", 32)),
            ("mistral", "QUJDREVGR0hJSktMTU5P==".to_owned()),
            // Its pattern is enforced by the API.
            ("telegram-bot", format!("110201543:{}", key("AAH", 35))),
            ("whatsapp", key("EAA", 180)),
        ] {
            assert_eq!(told(provider, None, &value), Ok(String::new()), "{provider}");
        }
    }

    #[test]
    fn a_sample_key_with_every_built_in_prefix_is_accepted() {
        for provider in Catalogue::built_in().all() {
            for auth in &provider.auth {
                let Some(field) = auth.fields.iter().find(|field| field.secret) else { continue };
                for prefix in &field.prefixes {
                    let value = key(prefix, field.length.unwrap_or(60));
                    let told = told(&provider.id, Some(&auth.id), &value);
                    assert!(told.is_ok(), "{} {}: {told:?}", provider.id, auth.id);
                }
            }
        }
    }
}
