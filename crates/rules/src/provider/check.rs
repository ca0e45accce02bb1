//! Checks a provider file: converts the YAML into [`Provider`] and reports all errors at once. `check_auth.rs`
//! checks the auth methods.

use std::collections::HashSet;
use std::sync::Arc;

use http::HeaderName;
use serde_yaml::Value;

use super::actions::{ActionTexts, Actions};
use super::catalogue::Catalogue;
use super::decode::decode;
use super::document::{Document, Problem, Problems, item_of, key_of};
use super::extends::{self, EXTENDS};
use super::host_template::HostTemplate;
use super::keys::ClearsText;
use super::methods::header_name;
use super::own_hosts::{self, OwnHosts, hosts, is_day, is_word, path_pattern, paths, split_https};
use super::schema::{AuthText, ProviderText};
use super::{
    AuthMethod, Field, OAuth, Provider, Variable, check_auth, database, mistakes, scope_words,
    test_request,
};
use crate::inject::body::BodyPath;
use crate::inject::credential::Clears;
use crate::inject::sign::oauth1;
use keyward_base::pattern::PathPattern;
use keyward_base::threads;

/// For fewer providers, threads cost more than they save.
const ALONE: usize = 64;

/// Parses a provider file: one provider, a list of them, or a map with `providers:`.
///
/// # Errors
/// All errors, each with file, line, path and remedy. An id in `reserved` is an error.
pub fn file(name: &str, text: &str, reserved: &Catalogue) -> Result<Vec<Provider>, Vec<Problem>> {
    of_document(&Document::parse(name, text)?, reserved)
}

/// The same for a text that was accepted before, perhaps by an earlier version: variables and beginnings of placeholders
/// that this version refuses are omitted.
///
/// # Errors
/// All other errors.
pub fn stored(name: &str, text: &str) -> Result<Vec<Provider>, Vec<Problem>> {
    of_document(&Document::parse(name, text)?.stored(), &Catalogue::default())
}

fn of_document(document: &Document, reserved: &Catalogue) -> Result<Vec<Provider>, Vec<Problem>> {
    let mut problems = document.problems();
    let found = match document.root() {
        Value::Mapping(map) if map.contains_key("providers") => {
            for key in map.keys().filter_map(Value::as_str).filter(|key| *key != "providers") {
                problems.add(key, format_args!("unknown key `{key}`"), "keep `providers:` alone");
            }
            providers(&map["providers"], "providers", reserved, &mut problems)
        }
        list @ Value::Sequence(_) => providers(list, "", reserved, &mut problems),
        one => provider(one, "", reserved, &mut problems).into_iter().collect(),
    };
    match problems.count() {
        0 => Ok(found),
        _ => Err(problems.into_vec()),
    }
}

/// Parses the list of providers at `path`; those with errors are omitted.
pub fn providers(
    value: &Value,
    path: &str,
    reserved: &Catalogue,
    problems: &mut Problems<'_>,
) -> Vec<Provider> {
    let Value::Sequence(items) = value else {
        problems.add(path, "this is not a list of providers", "write `- id: …` items");
        return Vec::new();
    };
    let mut found: Vec<Provider> = Vec::new();
    let mut ids = HashSet::new();
    for (index, provider) in each(items, path, reserved, problems) {
        let at = item_of(path, index);
        match !ids.insert(provider.id.clone()) {
            true => problems.add(
                &key_of(&at, "id"),
                format_args!("provider `{}` is defined twice", provider.id),
                "rename or remove one",
            ),
            false => found.push(provider),
        }
    }
    found
}

/// Reads the valid providers of a list on all cores. Each has its index.
fn each(
    items: &[Value],
    path: &str,
    reserved: &Catalogue,
    problems: &mut Problems<'_>,
) -> Vec<(usize, Provider)> {
    let items: Vec<(usize, &Value)> = items.iter().enumerate().collect();
    let document = problems.empty_list();
    let parts = threads::chunks_from(ALONE, &items, |part| {
        let mut problems = document.empty_list();
        let read = |(index, item): &(usize, &Value)| {
            Some((*index, provider(item, &item_of(path, *index), reserved, &mut problems)?))
        };
        let found: Vec<_> = part.iter().filter_map(read).collect();
        (found, problems)
    });
    let mut found = Vec::new();
    for (providers, of_part) in parts {
        found.extend(providers);
        problems.append(of_part);
    }
    found
}

/// Reads one provider.
pub fn provider(
    value: &Value,
    path: &str,
    reserved: &Catalogue,
    problems: &mut Problems<'_>,
) -> Option<Provider> {
    let before = problems.count();
    let corrected = mistakes::corrected(value, path, problems);
    let value = corrected.as_ref().unwrap_or(value);
    let extended = extends::extended(value, path, problems);
    if extended.is_none() && value.get(EXTENDS).is_some() {
        return None;
    }
    let is_extended = extended.is_some();
    let value = extended.as_ref().unwrap_or(value);
    let text: Option<ProviderText> = decode(value, path, problems);
    let at = key_of(path, "auth");
    let items = value.get("auth").and_then(Value::as_sequence).into_iter().flatten();
    let read = |(index, raw)| check_auth::read(raw, &item_of(&at, index), problems);
    // All are read, so that each problem is reported.
    let methods: Vec<_> = items.enumerate().map(read).collect();
    let methods: Vec<AuthText> = methods.into_iter().collect::<Option<_>>()?;
    let text = ProviderText { auth: Vec::new(), ..text? };
    if reserved.get(&text.id).is_some() {
        problems.add(
            &key_of(path, "id"),
            format_args!("`{}` is a built-in provider", text.id),
            "choose another id",
        );
    }
    let provider = ProviderCheck { path, text: &Arc::new(text), methods: &methods, is_extended }
        .provider(problems)?;
    (problems.count() == before).then_some(provider)
}

struct ProviderCheck<'a> {
    path: &'a str,
    text: &'a Arc<ProviderText>,
    methods: &'a [AuthText],
    /// Whether the definition extends a built-in provider.
    is_extended: bool,
}

impl ProviderCheck<'_> {
    fn at(&self, key: &str) -> String {
        key_of(self.path, key)
    }

    fn provider(&self, problems: &mut Problems<'_>) -> Option<Provider> {
        let before = problems.count();
        self.names(problems);
        let variables = self.variables(problems);
        let hosts = hosts(&self.text.hosts, &self.at("hosts"), &variables, problems);
        if self.is_extended && problems.count() > before {
            // The hosts occur in many places of the built-in provider; each would be reported.
            return None;
        }
        let paths = paths(&self.text.paths, &self.at("paths"), problems);
        let own = OwnHosts { hosts: &hosts, variables: &variables };
        let auth = self.auth(&own, problems);
        let endpoints = self.endpoints(&own, problems);
        database::check(self.text, &variables, &auth, self.path, problems);
        let git = own_hosts::subset(&self.text.git, &self.at("git"), &own, problems);
        let ProviderText { actions, indirect, .. } = &**self.text;
        let actions = ActionTexts { actions, indirect, at: self.path }.check(&own, problems);
        let mut clears = clears(&self.text.clears, &self.at("clears"), problems);
        clears.repeats = self.repeats(problems);
        for places in auth.iter().flat_map(|auth| &auth.placements) {
            clears.add(&places.places);
        }
        for auth in &auth {
            match auth.kind {
                super::AuthKind::AwsSigv4 | super::AuthKind::AwsRole => clears.add_aws_signature(),
                super::AuthKind::Digest => clears.headers.push(http::header::AUTHORIZATION),
                _ => {}
            }
        }
        if auth.iter().any(|auth| auth.kind == super::AuthKind::Oauth1) {
            clears.queries.extend(oauth1::PARAMETERS.map(Into::into));
        }
        if let Some(test) = &self.text.test {
            let fields: Vec<&Field> = auth.iter().flat_map(|auth| &auth.fields).collect();
            test_request::check(test, &fields, &self.at("test"), &own, problems);
        }
        scope_words::check(&self.text.scope_words, &self.at("scope_words"), problems);
        let oauth_endpoints = endpoints
            .iter()
            .filter_map(|(host, path)| Some((host.usual(&variables)?, path.clone())))
            .collect();
        Some(Provider {
            id: self.text.id.as_str().into(),
            protocol: self.text.protocol,
            name: self.text.name.clone(),
            category: self.text.category.clone(),
            paths,
            encoded_slash: self.text.encoded_slash,
            auth,
            git,
            actions: Actions::parsed(actions),
            oauth_endpoints,
            endpoints,
            clears,
            rate_limit: Arc::new(self.text.retry_headers.clone()),
            about: Arc::clone(self.text),
            hosts,
            variables,
        })
    }

    fn repeats(&self, problems: &mut Problems<'_>) -> Vec<BodyPath> {
        let paths: Vec<_> = self.text.repeats.iter().filter_map(|it| BodyPath::parse(it)).collect();
        if paths.len() < self.text.repeats.len() {
            let remedy = "write members, or their paths with dots, such as `auth.key`";
            problems.add(&self.at("repeats"), "not all of these are places in a body", remedy);
        }
        paths
    }

    fn names(&self, problems: &mut Problems<'_>) {
        if !is_id(&self.text.id) {
            let remedy = "write 1 to 64 lower-case letters, digits and hyphens";
            let id = &self.text.id;
            let is_short = (1..=64).contains(&id.len()) && !id.contains(char::is_control);
            let message = match is_short {
                true => format!("`{id}` is not an id"),
                false => "this is not an id".to_owned(),
            };
            problems.add(&self.at("id"), message, remedy);
        }
        let is_of_requests = |auth: &AuthText| auth.kind.is_of_requests();
        if self.text.hosts.is_empty() && self.methods.iter().any(is_of_requests) {
            problems.add(&self.at("hosts"), "there is no host", "name at least one");
        }
        self.files(problems);
        self.mcp(problems);
        if self.methods.is_empty() {
            problems.add(&self.at("auth"), "there is no auth method", "describe at least one");
        }
        for (key, url) in [("key_url", &self.text.key_url), ("docs_url", &self.text.docs_url)] {
            if url.as_deref().is_some_and(|url| split_https(url).is_none()) {
                problems.add(&self.at(key), "this is not an https URL", "write `https://…`");
            }
        }
        if self.text.checked.as_deref().is_some_and(|text| !is_day(text)) {
            problems.add(&self.at("checked"), "this is not a day", "write `2026-08-21`");
        }
        for name in self.text.default_headers.keys() {
            let at = key_of(&self.at("default_headers"), name);
            header_name(name, &at, problems);
        }
    }

    /// A provider of files has nothing else.
    fn files(&self, problems: &mut Problems<'_>) {
        let is_file = |auth: &AuthText| auth.kind == super::AuthKind::File;
        if !self.methods.iter().any(is_file) {
            return;
        }
        if !self.methods.iter().all(is_file) {
            let message = "a method of kind `file` has no other kind beside it";
            problems.add(&self.at("auth"), message, "make a provider of each");
        }
        if !self.text.hosts.is_empty() {
            problems.add(&self.at("hosts"), "a file has no host", "write `hosts: []`");
        }
    }

    /// A remote MCP server names its authorization server itself: its only method declares no endpoint.
    fn mcp(&self, problems: &mut Problems<'_>) {
        let Some(url) = &self.text.mcp else { return };
        let at = self.at("mcp");
        match split_https(url) {
            None => problems.add(&at, "this is not an https URL", "write `https://host/path`"),
            Some((host, _)) if self.text.hosts != [host] => {
                let remedy = "list the host of the URL alone";
                problems.add(&at, "it is not at the provider's host", remedy);
            }
            Some(_) => {}
        }
        let is_consent = |auth: &AuthText| {
            let OAuth { token, issuer, .. } = &auth.oauth;
            auth.kind == super::AuthKind::Oauth2 && token.is_none() && issuer.is_none()
        };
        if self.methods.len() != 1 || !self.methods.iter().all(is_consent) {
            let remedy = "keep one of kind `oauth2`, without endpoints";
            problems.add(&self.at("auth"), "an MCP server names its endpoints itself", remedy);
        }
    }

    fn variables(&self, problems: &mut Problems<'_>) -> Vec<Variable> {
        let mut found: Vec<Variable> = Vec::new();
        for (index, text) in self.text.variables.iter().enumerate() {
            let at = item_of(&self.at("variables"), index);
            let name = key_of(&at, "name");
            if !is_word(&text.name) {
                let remedy = "write lower-case letters, digits and `_`";
                problems.add(&name, "this is not a variable's name", remedy);
            }
            if found.iter().any(|other| other.name == text.name) {
                problems.add(&name, format_args!("`{}` is declared twice", text.name), "keep one");
                continue;
            }
            if text.within.is_some() && !text.captured {
                let message = "only captured values have text around them";
                problems.add(&key_of(&at, "within"), message, "add `captured: true`, or remove it");
            }
            let mut variable = text.clone();
            if variable.label.is_empty() {
                variable.label = text.name.replace('_', " ");
            }
            if let Some(Err(error)) = text.default.as_deref().map(|d| variable.accept(d)) {
                problems.add(&key_of(&at, "default"), error, "correct the default");
            }
            found.push(variable);
        }
        found
    }

    fn auth(&self, own: &OwnHosts<'_>, problems: &mut Problems<'_>) -> Vec<AuthMethod> {
        let mut found: Vec<AuthMethod> = Vec::new();
        for (index, text) in self.methods.iter().enumerate() {
            let at = item_of(&self.at("auth"), index);
            if found.iter().any(|other| other.id == text.id) {
                let message = format!("auth `{}` is defined twice", text.id);
                problems.add(&key_of(&at, "id"), message, "rename or remove one");
            }
            found.push(check_auth::method(text, &at, own, problems));
        }
        found
    }

    /// Token, renewal, revocation and registration endpoints on the provider's own hosts.
    fn endpoints(
        &self,
        own: &OwnHosts<'_>,
        problems: &mut Problems<'_>,
    ) -> Vec<(HostTemplate, PathPattern)> {
        let mut found = Vec::new();
        for (index, auth) in self.methods.iter().enumerate() {
            let at = item_of(&self.at("auth"), index);
            for (key, url, is_endpoint) in urls(auth) {
                let Some((host, path)) = own.url(url, &key_of(&at, key), problems) else {
                    continue;
                };
                let endpoint = (host, path_pattern(path));
                if let (true, true, (host, Ok(path))) =
                    (is_endpoint, own.owns(&endpoint.0), endpoint)
                    && !found.contains(&(host.clone(), path.clone()))
                {
                    found.push((host, path));
                }
            }
        }
        found
    }
}

/// The URLs of an auth method: key, URL, whether injection is refused there.
fn urls(auth: &AuthText) -> impl Iterator<Item = (&'static str, &str, bool)> {
    let oauth = &auth.oauth;
    [
        ("request_token", &auth.request_token, true),
        ("authorize", &oauth.authorize, false),
        ("token", &oauth.token, true),
        ("renew", &oauth.renew, true),
        ("lengthen", &oauth.lengthen, true),
        ("device", &oauth.device, false),
        ("revoke", &oauth.revoke, true),
        ("introspect", &auth.introspect, false),
        ("register", &oauth.register, true),
        ("push", &oauth.push, true),
        ("userinfo", &oauth.userinfo, false),
    ]
    .into_iter()
    .filter_map(|(key, url, is_endpoint)| Some((key, url.as_ref()?.as_str(), is_endpoint)))
    .chain(auth.login.iter().map(|login| ("login", &*login.url, true)))
    .chain(auth.renewal.iter().map(|renewal| ("renewal", &*renewal.url, true)))
}

fn clears(text: &ClearsText, path: &str, problems: &mut Problems<'_>) -> Clears {
    let at = key_of(path, "headers");
    let mut headers: Vec<HeaderName> = Vec::new();
    for (index, name) in text.headers.iter().enumerate() {
        headers.extend(header_name(name, &item_of(&at, index), problems));
    }
    let boxed = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
    let (queries, cookies) = (boxed(&text.queries), boxed(&text.cookies));
    Clears { headers, queries, cookies, ..Clears::default() }
}

/// Whether the text is a valid provider id: lower-case letters, digits and hyphens.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "id: acme\nname: Acme\nhosts: [api.acme.test]\n";
    const KEY: &str = "auth: [{ id: key, kind: api_key, placement: { header: X-Key } }]\n";

    fn problems(text: &str) -> Vec<String> {
        let found = file("p.yaml", text, &Catalogue::built_in()).err().unwrap_or_default();
        found.iter().map(ToString::to_string).collect()
    }

    /// Auth lines after [`HEAD`], with the only error.
    const BAD_AUTH: &[(&str, &str)] = &[
        ("[]", "p.yaml:4: auth: there is no auth method; describe at least one"),
        (
            "[{ id: a, kind: api_kee, placement: { header: X } }]",
            "p.yaml:4: auth[0].kind: `api_kee` is not one of the choices; did you mean `api_key`?",
        ),
        (
            "[{ id: a, kind: api_key }]",
            "p.yaml:4: auth[0]: kind `api_key` needs a placement; add `placement: { header: … }`",
        ),
        (
            "[{ id: a, kind: api_key, placement: { heder: X } }]",
            "p.yaml:4: auth[0].placement.heder: unknown key `heder`; did you mean `header`?\np.yaml:4: auth[0].placement: this does not name one place; write exactly one of header, query, cookie, path, basic, body",
        ),
        (
            "[{ id: a, kind: api_key, placement: { header: X, query: k } }]",
            "p.yaml:4: auth[0].placement: this does not name one place; write exactly one of header, query, cookie, path, basic, body",
        ),
        (
            "[{ id: a, kind: api_key, placement: { header: Host } }]",
            "p.yaml:4: auth[0].placement.header: `host` steers the request itself; choose another field",
        ),
        (
            "[{ id: a, kind: api_key, placement: { header: 'X Y' } }]",
            "p.yaml:4: auth[0].placement.header: this is not a header field's name; write letters and hyphens",
        ),
        (
            "[{ id: a, kind: api_key, placement: { path: 'bot{api_key}/' } }]",
            "p.yaml:4: auth[0].placement.path: this is not a place in a path; write whole segments, such as `/bot{api_key}/`",
        ),
        (
            "[{ id: a, kind: api_key, placement: { path: '/../{api_key}/' } }]",
            "p.yaml:4: auth[0].placement.path: this is not a place in a path; write whole segments, such as `/bot{api_key}/`",
        ),
        (
            "[{ id: a, kind: api_key, placement: { header: X, value: 'k {tokn}' } }]",
            "p.yaml:4: auth[0].placement.header: `{tokn}` is not a field; the fields are api_key",
        ),
        (
            "[{ id: a, kind: api_key, placement: { header: X, value: fixed } }]",
            "p.yaml:4: auth[0].placement.header: the template holds no field; write one as `{field}`",
        ),
        (
            "[{ id: a, kind: api_key, placement: { header: X, prefix: '{a}' } }]",
            "p.yaml:4: auth[0].placement.prefix: a prefix holds no fields; write a `value` template instead",
        ),
        (
            "[{ id: a, kind: api_key, placement: { header: X, prefix: a, value: '{api_key}' } }]",
            "p.yaml:4: auth[0].placement: `value` and `prefix` exclude each other; write the prefix in `value`",
        ),
        (
            "[{ id: a, kind: bearer, placement: { header: X }, place: [{ header: Y }] }]",
            "p.yaml:4: auth[0]: `placement`, `place` and `placements` exclude each other; keep one of them",
        ),
        (
            "[{ id: a, kind: bearer, placements: [{ hosts: [evil.test], place: { header: X } }] }]",
            "p.yaml:4: auth[0].placements[0].hosts: `evil.test` is not one of the provider's hosts; list it under the provider's `hosts`",
        ),
        (
            "[{ id: a, kind: bearer, placements: [{ hosts: [api.acme.test], place: [] }] }]",
            "p.yaml:4: auth[0].placements[0].place: there is no place; write `- { header: …, value: … }`",
        ),
        (
            "[{ id: a, kind: basic, placement: { basic: '{password}' } }]",
            "p.yaml:4: auth[0].placement.basic: this is not a pair of user and password; write `{user}:{password}`",
        ),
        (
            "[{ id: a, kind: custom, place: [{ header: X, value: '{a}' }] }]",
            "p.yaml:4: auth[0]: kind `custom` declares no fields; list them under `fields`\np.yaml:4: auth[0].place[0].header: `{a}` is not a field; declare it under `fields`",
        ),
        (
            "[{ id: a, kind: custom, fields: [{ name: a }, { name: b }], place: [{ header: X }] }]",
            "p.yaml:4: auth[0].place[0]: it is not clear which field goes here; name it in a template: `value: \"{field}\"`",
        ),
        (
            "[{ id: a, kind: custom, fields: [{ name: a }], place: [{ header: X }, { header: x }] }]",
            "p.yaml:4: auth[0].place[1]: this place is written twice; keep one",
        ),
        (
            "[{ id: a, kind: custom, fields: [{ name: A }], place: [{ header: X, value: '{A}' }] }]",
            "p.yaml:4: auth[0].fields[0].name: this is not a field's name; write lower-case letters, digits and `_`",
        ),
        (
            "[{ id: a, kind: bearer, key: { pattern: '(' } }]",
            "p.yaml:4: auth[0].key.pattern: not a regular expression: found open group without closing ')'; correct it",
        ),
        (
            "[{ id: a, kind: bearer, placements: [{ place: { header: X } }, { paths: [/a], place: { header: Y } }] }]",
            "p.yaml:4: auth[0].placements[1]: this is never used: placements[0] covers it; put the one without `paths` last",
        ),
        (
            "[{ id: a, kind: bearer, test: { url: 'https://api.acme.test/{acount}' } }]",
            "p.yaml:4: auth[0].test.url: `{acount}` is neither a variable nor a field; declare it under `variables`, or name a field",
        ),
        (
            "[{ id: a, kind: bearer, env: [lower] }]",
            "p.yaml:4: auth[0].env: a provider cannot set an environment variable of this name; write upper-case letters, digits and `_`, and end it as in `ACME_TOKEN`, `ACME_API_KEY` or `ACME_PASSWORD`",
        ),
        (
            "[{ id: a, kind: custom, fields: [{ name: a, env: [BASH_ENV], prefixes: ['`x`'] }], place: [{ header: X, value: '{a}' }] }]",
            "p.yaml:4: auth[0].fields[0].prefixes: a prefix cannot begin a key; write letters, digits, spaces and `_-.:=&`\np.yaml:4: auth[0].fields[0].env: a provider cannot set an environment variable of this name; write upper-case letters, digits and `_`, and end it as in `ACME_TOKEN`, `ACME_API_KEY` or `ACME_PASSWORD`",
        ),
        (
            "[{ id: a, kind: bearer, key: { placeholder: '$(touch ran)' } }]",
            "p.yaml:4: auth[0].key.placeholder: a placeholder cannot begin with this; write letters, digits, spaces and `_-.:=&`",
        ),
        (
            "[{ id: a, kind: bearer, token: 'https://api.acme.test/t' }]",
            "p.yaml:4: auth[0].token: `token` does not go with kind `bearer`; remove it, or change the kind",
        ),
        (
            "[{ id: a, kind: bearer, colour: red }]",
            "p.yaml:4: auth[0].colour: unknown key `colour`; known here: id, kind, label, note, placement, place, placements, fields, key, env, test, tls",
        ),
        (
            "[{ id: a, kind: oauth2, token: 'http://api.acme.test/t' }]",
            "p.yaml:4: auth[0].token: this is not an https URL; write `https://host/path`",
        ),
        (
            "[{ id: a, kind: bearer }, { id: a, kind: basic }]",
            "p.yaml:4: auth[1].id: auth `a` is defined twice; rename or remove one",
        ),
    ];

    #[test]
    fn an_invalid_auth_method_is_refused_by_line_and_key_with_a_remedy() {
        for (auth, expected) in BAD_AUTH {
            let text = format!("{HEAD}auth: {auth}\n");
            assert_eq!(problems(&text).join("\n"), *expected, "{auth}");
        }
    }

    /// Whole files, with the only error.
    const BAD: &[(&str, &str)] = &[
        (
            "hosts: ['*.com']",
            "p.yaml:3: hosts[0]: `*.com` covers a public suffix: name a registrable domain, such as `*.example.com`",
        ),
        (
            "hosts: ['*.co.uk']",
            "p.yaml:3: hosts[0]: `*.co.uk` covers a public suffix: name a registrable domain, such as `*.example.com`",
        ),
        ("hosts: []", "p.yaml:3: hosts: there is no host; name at least one"),
        (
            "hosts: ['{x}.acme.test']",
            "p.yaml:3: hosts[0]: `{x}.acme.test` uses variable `x`, which is not declared under `variables`; add `variables: [{ name: x }]`",
        ),
        (
            "hosts: ['{x.acme.test']",
            "p.yaml:3: hosts[0]: `{x.acme.test` has unbalanced braces: write variables as `{shop}.example.com`",
        ),
        (
            "hosts: ['{x}.com']\nvariables: [{ name: x }]",
            "p.yaml:3: hosts[0]: `{x}.com`: a variable may not choose the registrable domain; list `choices`, or use kind `host`",
        ),
        (
            "hosts: ['a.{x}']\nvariables: [{ name: x, kind: host }]",
            "p.yaml:3: hosts[0]: `a.{x}`: a variable of kind `host` stands alone, without prefix, suffix or port",
        ),
        (
            "hosts: ['{x}']\nvariables: [{ name: x, kind: text }]",
            "p.yaml:3: hosts[0]: `{x}`: a variable of kind `text` or `hosts` cannot be used in a \
             host",
        ),
        (
            "hosts: [a.test]\nvariables: [{ name: x, default: 'a.b' }]",
            "p.yaml:4: variables[0].default: `x` must be one label of letters, digits and hyphens, such as `my-company`; correct the default",
        ),
        (
            "hosts: [a.test]\ntest: { url: 'https://b.test/' }",
            "p.yaml:4: test.url: `b.test` is not one of the provider's hosts; test on a host that `hosts` lists",
        ),
        (
            "hosts: [a.test]\ntest: { url: 'https://a.test/', other_urls: ['https://a.test/b', 'https://b.test/'] }",
            "p.yaml:4: test.other_urls[1]: `b.test` is not one of the provider's hosts; test on a host that `hosts` lists",
        ),
        (
            "hosts: [a.test]\ntest: { url: 'http://a.test/' }",
            "p.yaml:4: test.url: this is not an https URL; write `https://host/path`",
        ),
        (
            "hosts: [a.test]\ntest: { url: 'https://u@a.test/' }",
            "p.yaml:4: test.url: `u@a.test` is not a host pattern: write `api.example.com`, `*.example.com` or `api.example.com:8443`",
        ),
        (
            "hosts: [a.test]\npaths: [api]",
            "p.yaml:4: paths[0]: `api` is not a path pattern: begin with `/`; `*` means one \
             segment or a part of it, and `**`, as a whole segment, any number of them",
        ),
        (
            "hosts: [a.test]\nvariables: [{ name: x, captured: true, within: 'a{}{}' }]",
            "p.yaml:4: variables[0].within: this is not the text around a value; write `{}` once, where the value is",
        ),
        (
            "hosts: [a.test]\nretry_headers: { after: ['X Y'] }",
            "p.yaml:4: retry_headers.after[0]: this is not a header field's name; write letters and hyphens",
        ),
        (
            "hosts: [a.test]\nkey_url: acme.test",
            "p.yaml:4: key_url: this is not an https URL; write `https://…`",
        ),
        (
            "hosts: [a.test]\ndocs: x",
            "p.yaml:4: docs: unknown key `docs`; known here: id, name, extends, category, protocol, mcp, hosts, paths, encoded_slash, variables, auth, git, actions, indirect, clears, repeats, templates, scope_words, default_headers, one_host, test, test_source, retry_headers, upgrades, webhook_scheme, key_url, docs_url, quirks, sources, confidence, checked",
        ),
        (
            "hosts: [a.test]\ngit: [b.test]",
            "p.yaml:4: git: `b.test` is not one of the provider's hosts; list it under the provider's `hosts`",
        ),
        (
            "hosts: [a.test]\nactions: [{ name: Clone, label: x, requests: [{ methods: [GET] }] }]",
            "p.yaml:4: actions[0].name: this is not an action's name; write lower-case letters, digits and hyphens, such as `read-code`",
        ),
        (
            "hosts: [a.test]\nactions: [{ name: all, label: x, requests: [{ query: { a: b } }] }]",
            "p.yaml:4: actions[0].requests[0]: this covers every request; name hosts, methods or paths",
        ),
        (
            "hosts: [a.test]\nactions: [{ name: x, label: x, requests: [{ aws_services: [s3, dynamdb] }] }]",
            "p.yaml:4: actions[0].requests[0].aws_services[1]: `dynamdb` is not a known service of AWS; did you mean `dynamodb`?",
        ),
        (
            "hosts: [a.test]\nactions: [{ name: x, label: x, requests: [{ aws_services: [file-warehouse] }] }]",
            "p.yaml:4: actions[0].requests[0].aws_services[0]: `file-warehouse` is not a known service of AWS; name it as signatures do, or list `hosts`",
        ),
        (
            "hosts: [a.test]\nactions: [{ name: none, label: x, requests: [] }]",
            "p.yaml:4: actions[0].requests: the action covers nothing; name hosts, methods or paths",
        ),
        (
            "hosts: [a.test]\nactions: [{ name: x, label: x, requests: [{ hosts: [b.test] }] }]",
            "p.yaml:4: actions[0].requests[0].hosts: `b.test` is not one of the provider's hosts; list it under the provider's `hosts`",
        ),
        (
            "hosts: [a.test]\nactions: [{ name: x, label: x, requests: [{ paths: [/a] }] }]\nindirect: [{ actions: [y], requests: [{ paths: [/b] }] }]",
            "p.yaml:5: indirect[0].actions[0]: the provider has no action `y`; name one of `actions`",
        ),
        (
            "hosts: [a.test]\nindirect: [{ requests: [] }]",
            "p.yaml:4: indirect[0].requests: this covers nothing; name hosts, methods or paths",
        ),
        (
            "hosts: [a.test]\nclears: { headers: [Connection] }",
            "p.yaml:4: clears.headers[0]: `connection` steers the request itself; choose another field",
        ),
    ];

    #[test]
    fn an_invalid_provider_is_refused_by_line_and_key_with_a_remedy() {
        for (rest, expected) in BAD {
            let auth = "auth: [{ id: key, kind: bearer }]";
            let text = format!("id: acme\nname: Acme\n{rest}\n{auth}\n");
            assert_eq!(problems(&text), [*expected], "{rest}");
        }
    }

    #[test]
    fn an_own_provider_cannot_have_the_id_of_a_built_in_one() {
        let text = format!("{}{KEY}", HEAD.replace("acme\n", "openai\n"));
        assert_eq!(
            problems(&text),
            ["p.yaml:1: id: `openai` is a built-in provider; choose another id"]
        );
    }

    #[test]
    fn every_problem_of_every_provider_is_reported_at_once() {
        let text = "- id: a\n  name: A\n  hosts: ['*.com', b..c]\n  auth: [{ id: k, kind: api_key }]\n- nam: b\n- id: A!\n  name: C\n  hosts: [c.test]\n  auth: [{ id: k, kind: bearer }]\n";
        let found = problems(text);
        assert_eq!(found.len(), 9, "{found:#?}");
        assert!(found[8].starts_with("p.yaml:6: [2].id: `A!` is not an id"), "{}", found[8]);
    }

    #[test]
    fn a_file_may_hold_one_provider_or_several() {
        let catalogue = Catalogue::built_in();
        let one = format!("{HEAD}{KEY}");
        assert_eq!(file("p", &one, &catalogue).unwrap().len(), 1);
        let item = one.replace('\n', "\n  ");
        assert_eq!(file("p", &format!("- {item}"), &catalogue).unwrap().len(), 1);
        assert_eq!(file("p", &format!("providers:\n- {item}"), &catalogue).unwrap().len(), 1);
    }

    #[test]
    fn token_and_lengthen_urls_on_the_provider_s_hosts_become_oauth_endpoints() {
        let auth = "auth: [{ id: o, kind: oauth2, token: 'https://api.acme.test/o/{tenant}/token?x=1', revoke: 'https://elsewhere.test/r', lengthen: 'https://api.acme.test/o/longer' }]\n";
        let provider = file(
            "p",
            &format!("{HEAD}variables: [{{ name: tenant, kind: text, default: t1 }}]\n{auth}"),
            &Catalogue::default(),
        )
        .unwrap()
        .remove(0);
        assert_eq!(provider.oauth_endpoints.len(), 2);
        for (index, path) in ["/o/t1/token", "/o/longer"].into_iter().enumerate() {
            let path = keyward_base::pattern::DecodedPath::parse(path).unwrap();
            assert!(provider.oauth_endpoints[index].1.matches(&path));
        }
    }
}
