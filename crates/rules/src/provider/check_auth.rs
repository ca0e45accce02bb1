//! Checks the auth methods of a provider file: the keys allowed for the kind, the form's fields, and what a method says
//! about registering an app (the page, the steps there, and where they are documented). `placing.rs` checks the
//! placements.

use std::sync::Arc;

use serde_yaml::Value;

use super::auth_method::{AuthMethod, AwsScope};
use super::check_file;
use super::check_minted;
use super::check_oauth;
use super::decode::{decode, did_you_mean};
use super::document::{Problems, item_of, key_of};
use super::environment;
use super::field::Field;
use super::kinds::{AuthKind, COMMON, OTHER, keys, usual_fields, usual_label};
use super::oauth::OAuth;
use super::own_hosts::{OwnHosts, is_day, is_word, split_https};
use super::placing::{MINTED, PlacementParser};
use super::schema::{AppSourceText, AuthText, KeyText};
use super::test_request;
use crate::inject::placeholder::{Letters, has_mark};

/// The placeholder of the app's redirect URI in a step.
const REDIRECT_URI: &str = " {redirect_uri}";

/// Reads one auth method: its keys, and those of OAuth beside them.
pub(super) fn read(raw: &Value, path: &str, problems: &mut Problems<'_>) -> Option<AuthText> {
    let text: Option<AuthText> = decode(raw, path, problems);
    let kind = text.as_ref().map(|text| text.kind);
    keys_fit(kind, raw, path, problems);
    let has_tokens = kind.is_none_or(|kind| kind.mints() || kind.asks_people());
    let oauth = match has_tokens && raw.is_mapping() {
        true => decode(raw, path, problems),
        false => Some(OAuth::standard()),
    };
    Some(AuthText { oauth: oauth?, ..text? })
}

/// Checks one auth method.
pub(super) fn method(
    text: &AuthText,
    path: &str,
    own: &OwnHosts<'_>,
    problems: &mut Problems<'_>,
) -> AuthMethod {
    if !is_id(&text.id) {
        let remedy = "write letters, digits, `-` and `_`";
        problems.add(&key_of(path, "id"), "this is not an id", remedy);
    }
    let mut fields = fields(text, path, problems);
    if text.kind == AuthKind::Oauth1 && text.request_token.is_some() {
        check_oauth::leave_to_consent(&mut fields);
    }
    let minted = match text.kind {
        AuthKind::AwsRole => role_keys(),
        kind if kind.mints() => vec![minted(text, path, problems)],
        _ => Vec::new(),
    };
    for minted in &minted {
        let same = fields.iter_mut().filter(|field| field.name == minted.name);
        same.for_each(|field| field.env.clone_from(&minted.env));
    }
    let placing = PlacementParser { text, fields: &fields, own };
    let placements = placing.placements(path, problems);
    if let Some(test) = &text.test {
        let fields: Vec<&Field> = fields.iter().collect();
        test_request::check(test, &fields, &key_of(path, "test"), own, problems);
    }
    check_app(text, path, problems);
    let minting = check_minted::minting(text, &fields, path, own, problems);
    let oauth = match text.kind {
        AuthKind::Oauth1 => check_oauth::consent(text, path, own, problems),
        _ => check_oauth::oauth(text, &minting, path, own, problems),
    };
    AuthMethod {
        id: text.id.clone(),
        kind: text.kind,
        label: text.label.clone().unwrap_or_else(|| usual_label(text.kind).to_owned()),
        note: text.note.clone(),
        app_url: text.app_url.clone(),
        app_steps: text.app_steps.clone(),
        app_source: text.app_source.clone(),
        fields,
        oauth: oauth.map(|oauth| {
            let places = placements.iter().flat_map(|scoped| &scoped.places);
            let placed_bytes = places.map(|place| place.value.literal_bytes()).max();
            Arc::new(OAuth { placed_bytes: placed_bytes.unwrap_or_default(), ..oauth })
        }),
        placements,
        test: text.test.clone(),
        minted,
        aws: AwsScope { region: text.region.clone(), service: text.service.clone() },
        scheme: minting.scheme,
        tls: minting.tls,
        file: check_file::file(text, path, problems),
    }
}

/// Reports unknown keys, and those that do not go with the kind, if that is known.
fn keys_fit(kind: Option<AuthKind>, raw: &Value, path: &str, problems: &mut Problems<'_>) {
    let of_kind = kind.map(keys).into_iter().flatten().flatten();
    let fitting: Vec<&str> = COMMON.iter().chain(of_kind).copied().collect();
    let others = || OTHER.iter().copied().flatten().copied();
    let written = raw.as_mapping().into_iter().flat_map(|map| map.keys());
    for key in written.filter_map(Value::as_str).filter(|key| !fitting.contains(key)) {
        let at = key_of(path, key);
        match kind {
            _ if others().all(|other| other != key) => {
                let remedy = did_you_mean(key, fitting.iter().copied().chain(others()))
                    .unwrap_or_else(|| format!("known here: {}", fitting.join(", ")));
                problems.add(&at, format_args!("unknown key `{key}`"), remedy);
            }
            Some(kind) => {
                let message = format!("`{key}` does not go with kind `{}`", kind.as_str());
                problems.add(&at, message, "remove it, or change the kind");
            }
            None => {}
        }
    }
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// The declared fields, or the kind's default ones with the shape given by `key` and `env`.
fn fields(text: &AuthText, path: &str, problems: &mut Problems<'_>) -> Vec<Field> {
    let mut fields = match &text.fields {
        Some(declared) => declared_fields(declared, &key_of(path, "fields"), problems),
        None => usual_fields(text.kind, text.oauth.grant)
            .iter()
            .map(|(name, label, secret, optional)| bare(name, label, *secret, *optional))
            .collect(),
    };
    if text.kind == AuthKind::Custom && fields.is_empty() {
        problems.add(path, "kind `custom` declares no fields", "list them under `fields`");
    }
    if text.key.is_none() && text.env.is_empty() || text.kind.mints() {
        return fields;
    }
    let at = key_of(path, if text.key.is_some() { "key" } else { "env" });
    let mut secrets = fields.iter_mut().filter(|field| field.secret && !field.optional);
    match (secrets.next(), secrets.next()) {
        (Some(only), None) => described(only, text, path, problems),
        _ => problems.add(
            &at,
            "there is not exactly one required secret field that this could describe",
            "write it in `fields`, at the field",
        ),
    }
    fields
}

/// The minted token, as `key` and `env` describe it.
fn minted(text: &AuthText, path: &str, problems: &mut Problems<'_>) -> Field {
    let mut field = bare(MINTED, "Access token", true, false);
    described(&mut field, text, path, problems);
    field
}

/// The keys of a session, and the variables that AWS's SDKs read them from.
fn role_keys() -> Vec<Field> {
    let keys = [
        ("access_key_id", "Access key id", "AWS_ACCESS_KEY_ID"),
        ("secret_access_key", "Secret access key", "AWS_SECRET_ACCESS_KEY"),
        (MINTED, "Session token", "AWS_SESSION_TOKEN"),
    ];
    let each = keys.map(|(name, label, variable)| Field {
        env: vec![variable.to_owned()],
        ..bare(name, label, true, false)
    });
    each.into()
}

/// Adds the shape of `key` and the variables of `env` to a field.
fn described(field: &mut Field, text: &AuthText, path: &str, problems: &mut Problems<'_>) {
    let at = key_of(path, if text.key.is_some() { "key" } else { "env" });
    let KeyText { prefixes, suffixes, length, pattern, placeholder, letters } =
        text.key.clone().unwrap_or_default();
    field.pattern = pattern;
    (field.prefixes, field.suffixes) = (prefixes, suffixes);
    field.placeholder = placeholder.map(Into::into);
    field.length = length;
    field.letters = letters;
    field.env.clone_from(&text.env);
    check_shape(field, &at, &key_of(path, "env"), problems);
}

fn bare(name: &str, label: &str, secret: bool, optional: bool) -> Field {
    Field {
        name: name.to_owned(),
        label: label.to_owned(),
        help: None,
        secret,
        optional,
        from_source: false,
        prefixes: Vec::new(),
        suffixes: Vec::new(),
        placeholder: None,
        letters: Letters::Any,
        length: None,
        pattern: None,
        env: Vec::new(),
    }
}

fn declared_fields(declared: &[Field], path: &str, problems: &mut Problems<'_>) -> Vec<Field> {
    let mut found: Vec<Field> = Vec::new();
    for (index, text) in declared.iter().enumerate() {
        let at = item_of(path, index);
        let name = key_of(&at, "name");
        if !is_word(&text.name) {
            let remedy = "write lower-case letters, digits and `_`";
            problems.add(&name, "this is not a field's name", remedy);
        }
        if found.iter().any(|other| other.name == text.name) {
            problems.add(&name, format_args!("`{}` is declared twice", text.name), "keep one");
        }
        let mut field = text.clone();
        if field.label.is_empty() {
            field.label = text.name.replace('_', " ");
        }
        check_shape(&mut field, &at, &key_of(&at, "env"), problems);
        if field.from_source && !(field.secret && field.env.is_empty()) {
            let message =
                "a value of a secret source is a secret, and no agent gets a placeholder of it";
            problems.add(&key_of(&at, "from_source"), message, "remove `env` and `secret: false`");
        }
        found.push(field);
    }
    found
}

/// Checks the shape of a key and its variables. What a stored definition may not have is omitted.
fn check_shape(field: &mut Field, path: &str, env: &str, problems: &mut Problems<'_>) {
    let begins = |text: &str| !text.is_empty() && environment::is_plain(text);
    let remedy = "write letters, digits, spaces and `_-.:=&`";
    if !field.prefixes.iter().all(|prefix| begins(prefix)) {
        problems.add_unless_stored(
            &key_of(path, "prefixes"),
            "a prefix cannot begin a key",
            remedy,
        );
        field.prefixes.retain(|prefix| begins(prefix));
    }
    let ends = |text: &str| environment::is_plain(&text.replace(['{', '}'], ""));
    if !field.suffixes.iter().all(|suffix| ends(suffix)) {
        problems.add_unless_stored(&key_of(path, "suffixes"), "a suffix cannot end a key", remedy);
        field.suffixes.retain(|suffix| ends(suffix));
    }
    let is_refused = |text: &str| !begins(text) || has_mark(text) || text.len() > 200;
    if field.placeholder.as_deref().is_some_and(is_refused) {
        let message = "a placeholder cannot begin with this";
        problems.add_unless_stored(&key_of(path, "placeholder"), message, remedy);
        field.placeholder = None;
    }
    if field.length.is_some_and(|length| !(1..=16_384).contains(&length)) {
        problems.add(&key_of(path, "length"), "no key has this length", "write 1 to 16384");
    }
    if !field.env.iter().all(|name| environment::may_set(name)) {
        let remedy = "write upper-case letters, digits and `_`, and end it as in `ACME_TOKEN`, `ACME_API_KEY` or \
                      `ACME_PASSWORD`";
        problems.add_unless_stored(
            env,
            "a provider cannot set an environment variable of this name",
            remedy,
        );
        field.env.retain(|name| environment::may_set(name));
    }
}

/// Checks `app_url`, `app_steps` and `app_source`.
fn check_app(text: &AuthText, path: &str, problems: &mut Problems<'_>) {
    if text.app_url.as_deref().is_some_and(|url| split_https(url).is_none()) {
        problems.add(&key_of(path, "app_url"), "this is not an https URL", "write `https://…`");
    }
    steps(text, path, problems);
    let Some(source) = &text.app_source else { return };
    let at = key_of(path, "app_source");
    check_source(source, &at, problems);
    if text.app_steps.is_empty() {
        let remedy = "write what to do there under `app_steps`";
        problems.add(&at, "`app_source` needs `app_steps`", remedy);
    }
}

/// What people do where they register an app.
fn steps(text: &AuthText, path: &str, problems: &mut Problems<'_>) {
    let at = key_of(path, "app_steps");
    let lengths = 1..=300;
    for (index, step) in text.app_steps.iter().enumerate() {
        if !lengths.contains(&step.len()) || step.chars().any(char::is_control) {
            let remedy = "write one line of at most 300 characters";
            problems.add(&item_of(&at, index), "this is no step", remedy);
        }
    }
    let named = text.app_steps.iter().map(|step| step.matches(REDIRECT_URI).count()).sum::<usize>();
    let ending = text.app_steps.iter().filter(|step| step.ends_with(REDIRECT_URI)).count();
    let wanted = usize::from(!text.app_steps.is_empty() && text.oauth.authorize.is_some());
    if (named, ending) != (wanted, wanted) {
        let remedy = "put it at the end of the step that registers the redirect URI, and in no \
                      other";
        problems.add(&at, format_args!("{wanted} step must have `{REDIRECT_URI}`"), remedy);
    }
}

fn check_source(source: &AppSourceText, at: &str, problems: &mut Problems<'_>) {
    if split_https(&source.url).is_none() {
        problems.add(&key_of(at, "url"), "this is not an https URL", "write `https://…`");
    }
    if !is_day(&source.checked) {
        problems.add(&key_of(at, "checked"), "this is not a day", "write `2026-08-21`");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Catalogue, check};

    fn problems(keys: &str) -> Vec<String> {
        let text = format!(
            "id: acme\nname: Acme\nhosts: [api.acme.test]\nauth:\n  - id: o\n    kind: oauth2\n    \
             authorize: https://acme.test/a\n    token: https://acme.test/t\n    {keys}\n"
        );
        let found = check::file("p.yaml", &text, &Catalogue::built_in());
        found.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_app_source_needs_an_https_url_a_date_and_steps() {
        const STEPS: &str = "app_steps: ['enter {redirect_uri}']\n    app_source: ";
        for (keys, expected) in [
            ("{ url: 'http://acme.test/docs', checked: 2026-11-24 }", "https URL"),
            ("{ url: 'https://acme.test/docs', checked: yesterday }", "not a day"),
            ("{ url: 'https://acme.test/docs' }", "checked"),
            ("https://acme.test/docs", "app_source"),
        ] {
            let found = problems(&format!("{STEPS}{keys}"));
            assert!(matches!(found.as_slice(), [one] if one.contains(expected)), "{found:?}");
        }
        let page = "{ url: 'https://acme.test/docs', checked: 2026-11-24 }";
        let found = problems(&format!("app_source: {page}"));
        let needed = "`app_source` needs";
        assert!(matches!(found.as_slice(), [one] if one.contains(needed)), "{found:?}");
        assert_eq!(problems(&format!("{STEPS}{page}")), [""; 0]);
    }
}
