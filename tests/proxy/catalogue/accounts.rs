//! One account for each auth method of each built-in provider whose credential is known without asking a token endpoint,
//! and the requests that reach its placements.

use std::collections::{BTreeMap, BTreeSet};

use super::requests::Client;
use keyward_base::host::{Scheme, Target};
use keyward_base::pattern::{DecodedPath, HostPattern, PathPattern};
use keyward_rules::inject::credential::Clears;
use keyward_rules::inject::placement::Place;
use keyward_rules::provider::schema::TestText;
use keyward_rules::provider::{
    AuthKind, AuthMethod, Catalogue, Field, Instance, Provider, Variable, VariableKind,
};

/// One auth method of a provider with its variables filled in, an agent that may use it alone.
pub(super) struct Account {
    /// Name of agent and connection.
    pub(super) name: String,
    pub(super) provider: String,
    pub(super) auth: AuthMethod,
    pub(super) instance: Instance,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) values: BTreeMap<String, String>,
    /// The request that tests it.
    pub(super) test: Option<TestText>,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) host: String,
    pub(super) path: String,
    /// The places that are written there.
    pub(super) places: Vec<Place>,
}

impl Account {
    pub(super) fn all(canary: &str) -> Vec<Self> {
        let catalogue = Catalogue::built_in();
        let mut found = Vec::new();
        // Databases are not used over HTTP.
        for provider in catalogue.all().filter(|provider| provider.protocol.is_none()) {
            for auth in provider.auth.iter().filter(|auth| is_given(auth) || has_tokens(auth)) {
                let mut chosen = vec![variables(provider, |variable| variable.default.is_none())];
                if is_given(auth) {
                    chosen.push(variables(provider, |_| true));
                }
                let mut seen: Vec<Vec<HostPattern>> = Vec::new();
                for (number, variables) in chosen.into_iter().enumerate() {
                    let name = format!("{}-{}-{number}", provider.id, auth.id);
                    let account = Self::new(name, provider, auth, variables, canary);
                    if !seen.contains(&account.instance.hosts) {
                        seen.push(account.instance.hosts.clone());
                        found.push(account);
                    }
                }
            }
        }
        found
    }

    pub(super) fn new(
        name: String,
        provider: &Provider,
        auth: &AuthMethod,
        variables: BTreeMap<String, String>,
        canary: &str,
    ) -> Self {
        let instance = provider.instantiate(auth, &variables);
        let instance = instance.unwrap_or_else(|error| panic!("{name}: {error}"));
        let in_tls = |field: &Field| auth.tls.as_ref().is_some_and(|tls| tls.names(&field.name));
        // Beside a token, services have a second secret.
        let is_written = |field: &Field| {
            let mut places = instance.placements.iter().flat_map(|scope| &scope.what);
            places.any(|place| place.value.fields().any(|name| name == field.name))
        };
        let is_given = |field: &Field| {
            let is_own = auth.minted.is_empty() || field.name == "access_token";
            !in_tls(field) && (is_own || is_written(field))
        };
        let fields = auth.fields.iter().filter(|field| is_given(field)).enumerate();
        let values = fields
            .map(|(number, field)| (field.name.clone(), value(&name, field, number, canary)))
            .collect();
        let test = provider.test(auth).cloned();
        let (provider, auth) = (provider.id.to_string(), auth.clone());
        Self { name, provider, auth, instance, variables, values, test }
    }

    /// What is removed from requests, without what makes an authorization of their own: that is never replaced.
    pub(super) fn cleared(&self) -> Clears {
        let mut clears = self.instance.clears.clone();
        clears.queries.retain(|name| !["sig", "X-Amz-Signature"].contains(&&**name));
        if self.instance.signs.is_some() {
            clears.headers.retain(|name| *name != http::header::AUTHORIZATION);
        }
        clears
    }

    /// How its clients send requests. Tokens of a consent have one place at nearly all services.
    pub(super) fn clients(&self) -> &'static [Client] {
        match self.auth.minted.is_empty() {
            false => &[Client::Confused],
            true => &Client::ALL,
        }
    }

    /// As a line of `connections:`, and the variables that it reads.
    pub(super) fn declared(&self) -> (String, BTreeMap<String, String>) {
        let variable =
            |field: &str| format!("{}__{field}", self.name).to_ascii_uppercase().replace('-', "_");
        let fields: Vec<String> = self
            .values
            .keys()
            .map(|field| format!("{field}: {{ env: {} }}", variable(field)))
            .collect();
        let variables: Vec<String> =
            self.variables.iter().map(|(name, value)| format!("{name}: \"{value}\"")).collect();
        let yaml = format!(
            "{{ name: {}, provider: {}, auth: {}, fields: {{ {} }}, variables: {{ {} }} }}",
            self.name,
            self.provider,
            self.auth.id,
            fields.join(", "),
            variables.join(", ")
        );
        let values = self.values.iter().map(|(field, value)| (variable(field), value.clone()));
        (yaml, values.collect())
    }

    /// A sample of each host and path of each scope.
    ///
    /// # Panics
    /// When no request reaches a scope: those before it take all.
    pub(super) fn spots(&self) -> Vec<Spot> {
        let mut found = Vec::new();
        for (number, scope) in self.instance.placements.iter().enumerate() {
            let hosts = or(&scope.hosts, &self.instance.hosts);
            let paths = samples(or(&scope.paths, &self.instance.paths));
            let before = found.len();
            for (host, path) in hosts.iter().flat_map(|host| paths.iter().map(move |p| (host, p))) {
                let host = sample_host(host);
                if self.scope(&host, path) == Some(number) && !self.is_carved(&host, path) {
                    found.push(Spot { host, path: path.clone(), places: scope.what.clone() });
                }
            }
            assert!(found.len() > before, "{}: nothing reaches placements[{number}]", self.name);
        }
        found
    }

    /// The path of the test request where the credential goes into paths: that of an agent, with a placeholder.
    pub(super) fn path_of_test(&self) -> Option<String> {
        let test = self.test.as_ref()?;
        let (_, path) = test.url.strip_prefix("https://")?.split_once('/')?;
        let secret = path.split('/').find(|segment| segment.contains("{api_key}"))?;
        Some(format!("/{}", path.replace(&format!("{secret}/"), "")))
    }

    /// The scope that a request falls under, if it is the provider's.
    pub(super) fn scope(&self, host: &str, path: &str) -> Option<usize> {
        if !self.owns(host) || !self.owns_path(path) {
            return None;
        }
        let (target, path) = parsed(host, path);
        self.instance.placements.iter().position(|scope| scope.matches(&target, &path))
    }

    pub(super) fn is_carved(&self, host: &str, path: &str) -> bool {
        let (target, path) = parsed(host, path);
        let mut carved = self.instance.oauth_endpoints.iter();
        carved.any(|(host, pattern)| host.matches(&target) && pattern.matches(&path))
    }

    pub(super) fn owns(&self, host: &str) -> bool {
        let (target, _) = parsed(host, "/");
        self.instance.hosts.iter().any(|own| own.matches(&target))
    }

    pub(super) fn owns_path(&self, path: &str) -> bool {
        let path = DecodedPath::parse(path).expect("a path");
        let paths = &self.instance.paths;
        paths.is_empty() || paths.iter().any(|own| own.matches(&path))
    }

    pub(super) fn hosts(&self) -> BTreeSet<String> {
        self.instance.hosts.iter().map(sample_host).collect()
    }

    /// Names that are nearly the provider's: beside, below, above, and run together.
    pub(super) fn strangers(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for host in self.instance.hosts.iter().map(|host| host.to_string()) {
            let host = host.split(':').next().unwrap_or_default();
            let (first, parent) = host.split_once('.').expect("a host has labels");
            if first != "*" {
                names.extend([format!("x{host}"), format!("x.{host}"), format!("{host}.x.test")]);
            } else {
                names.extend([format!("x{parent}"), format!("{parent}.x.test")]);
            }
            if parent.contains('.') {
                names.extend([parent.to_owned(), format!("x{first}.{parent}").replace('*', "")]);
            }
        }
        names.retain(|name| !self.owns(name));
        names
    }
}

/// What the owner gives for those variables that are `chosen`.
pub(super) fn variables(
    provider: &Provider,
    chosen: impl Fn(&Variable) -> bool,
) -> BTreeMap<String, String> {
    let sample = |variable: &Variable| match (variable.choices.last(), variable.kind) {
        (Some(choice), _) => choice.clone(),
        (None, VariableKind::Host) => format!("{}.own.test", provider.id),
        (None, _) => "mine".to_owned(),
    };
    let chosen = provider.variables.iter().filter(|variable| chosen(variable));
    chosen.map(|variable| (variable.name.clone(), sample(variable))).collect()
}

/// A value of the field's shape, with the canary in it where it is secret.
pub(super) fn value(account: &str, field: &Field, number: usize, canary: &str) -> String {
    let prefix = field.prefixes.first().map(String::as_str).unwrap_or_default();
    let hex = "0123456789abcdef".repeat(4);
    let bodies = match field.secret {
        true => vec![
            format!("{canary}{number:02}"),
            hex[..32].to_owned(),
            hex[..40].to_owned(),
            hex.clone(),
        ],
        false => vec!["someone".to_owned(), hex[..32].to_owned(), "1234567890".to_owned()],
    };
    let mut values = bodies.iter().map(|body| format!("{prefix}{body}"));
    let fitting =
        values.find(|text| field.pattern.as_ref().is_none_or(|shape| shape.matches(text)));
    fitting.unwrap_or_else(|| panic!("{account}: teach `value` the shape of {}", field.name))
}

pub(super) fn or<'a, T>(first: &'a [T], second: &'a [T]) -> &'a [T] {
    if first.is_empty() { second } else { first }
}

pub(super) fn parsed(host: &str, path: &str) -> (Target, DecodedPath) {
    let target = Target::parse(Scheme::Https, host).expect("a host");
    (target, DecodedPath::parse(path).expect("a path"))
}

pub(super) fn sample_host(pattern: &HostPattern) -> String {
    pattern.to_string().replacen("*.", "sample.", 1)
}

/// A path for each pattern; one that is nobody's in particular when there are none.
pub(super) fn samples(patterns: &[PathPattern]) -> Vec<String> {
    let sample =
        |pattern: &PathPattern| pattern.to_string().replace("/**", "/deep/down").replace('*', "1");
    match patterns {
        [] => vec!["/some/thing".to_owned()],
        patterns => patterns.iter().map(sample).collect(),
    }
}

/// Whether what is injected is what the owner gives: no token endpoint is asked here. Keys that sign are not: `made.rs` has
/// those whose scheme is data, and `real` has programs for the others.
fn is_given(auth: &AuthMethod) -> bool {
    auth.minted.is_empty()
        && auth.scheme.is_none()
        && !matches!(
            auth.kind,
            AuthKind::SshKey
                | AuthKind::File
                | AuthKind::AwsSigv4
                | AuthKind::Digest
                | AuthKind::Mtls
        )
}

/// Whether the owner can give tokens that another tool has, instead of a consent.
fn has_tokens(auth: &AuthMethod) -> bool {
    auth.is_consented_to() && auth.field("access_token").is_some()
}
