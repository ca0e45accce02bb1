//! Every built-in provider through the real proxy: generated from the catalogue, so that one that
//! is added is tried as well. For each auth method that can be used and each place it writes to:
//! what the origin receives, and what is refused nearby.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use keyward_base::host::{Scheme, Target};
use keyward_base::pattern::{DecodedPath, HostPattern, PathPattern};
use keyward_rules::inject::credential::Clears;
use keyward_rules::inject::placement::{Location, Place};
use keyward_rules::inject::template::{Encoding, Part, Template};
use keyward_rules::provider::{
    AuthKind, AuthMethod, Catalogue, Field, Instance, Provider, Variable, VariableKind,
};

use crate::support::*;

/// What is sent in every field that could hold a credential, and arrives in none.
const STALE: &str = "stale-0123456789";

/// One auth method of a provider with its variables filled in, an agent that may use it alone.
struct Account {
    /// Name of agent and connection.
    name: String,
    provider: String,
    auth: AuthMethod,
    instance: Instance,
    variables: BTreeMap<String, String>,
    values: BTreeMap<String, String>,
}

/// Where a request goes.
#[derive(Clone, Debug)]
struct Spot {
    host: String,
    path: String,
    /// The places that are written there.
    places: Vec<Place>,
}

/// How a client sends its credential.
#[derive(Clone, Copy, Debug)]
enum Client {
    /// Not at all.
    Bare,
    /// The placeholder, where the service documents it.
    Sdk,
    /// Something, wherever the service could look.
    Confused,
}

/// Whether what is injected is what the owner gives: no token endpoint is asked here. Keys that sign are not: `real` has
/// programs for them.
fn is_given(auth: &AuthMethod) -> bool {
    auth.later.is_none()
        && auth.minted.is_none()
        && !matches!(auth.kind, AuthKind::SshKey | AuthKind::AwsSigv4)
}

impl Account {
    fn all(canary: &str) -> Vec<Self> {
        let catalogue = Catalogue::built_in();
        let mut found = Vec::new();
        // Databases are not used over HTTP.
        for provider in catalogue.all().filter(|provider| provider.protocol.is_none()) {
            for auth in provider.auth.iter().filter(|auth| is_given(auth)) {
                let mut chosen = vec![variables(provider, |variable| variable.default.is_none())];
                chosen.push(variables(provider, |_| true));
                chosen.dedup();
                for (number, variables) in chosen.into_iter().enumerate() {
                    let name = format!("{}-{}-{number}", provider.id, auth.id);
                    found.push(Self::new(name, provider, auth, variables, canary));
                }
            }
        }
        found
    }

    fn new(
        name: String,
        provider: &Provider,
        auth: &AuthMethod,
        variables: BTreeMap<String, String>,
        canary: &str,
    ) -> Self {
        let instance = provider.instantiate(auth, &variables);
        let instance = instance.unwrap_or_else(|error| panic!("{name}: {error}"));
        let fields = auth.fields.iter().enumerate();
        let values = fields
            .map(|(number, field)| (field.name.clone(), value(&name, field, number, canary)))
            .collect();
        let (provider, auth) = (provider.id.to_string(), auth.clone());
        Self { name, provider, auth, instance, variables, values }
    }

    /// As a line of `connections:`, and the variables that it reads.
    fn declared(&self) -> (String, BTreeMap<String, String>) {
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
    fn spots(&self) -> Vec<Spot> {
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

    /// The scope that a request falls under, if it is the provider's.
    fn scope(&self, host: &str, path: &str) -> Option<usize> {
        if !self.owns(host) || !self.owns_path(path) {
            return None;
        }
        let (target, path) = parsed(host, path);
        self.instance.placements.iter().position(|scope| scope.matches(&target, &path))
    }

    fn is_carved(&self, host: &str, path: &str) -> bool {
        let (target, path) = parsed(host, path);
        let mut carved = self.instance.oauth_endpoints.iter();
        carved.any(|(host, pattern)| host.matches(&target) && pattern.matches(&path))
    }

    fn owns(&self, host: &str) -> bool {
        let (target, _) = parsed(host, "/");
        self.instance.hosts.iter().any(|own| own.matches(&target))
    }

    fn owns_path(&self, path: &str) -> bool {
        let path = DecodedPath::parse(path).expect("a path");
        let paths = &self.instance.paths;
        paths.is_empty() || paths.iter().any(|own| own.matches(&path))
    }

    fn hosts(&self) -> BTreeSet<String> {
        self.instance.hosts.iter().map(sample_host).collect()
    }

    /// Names that are nearly the provider's: beside, below, above, and run together.
    fn strangers(&self) -> BTreeSet<String> {
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

impl Client {
    const ALL: [Self; 3] = [Self::Bare, Self::Sdk, Self::Confused];

    /// A request without its `Host`.
    fn request(self, spot: &Spot, clears: &Clears, values: &BTreeMap<String, String>) -> String {
        let (mut path, mut query, mut fields) = (spot.path.clone(), vec!["x=1".to_owned()], vec![]);
        match self {
            Self::Bare => {}
            Self::Sdk => {
                for place in &spot.places {
                    let value = rendered(&place.value, values);
                    match &place.at {
                        Location::Header(name) => fields.push(format!("{name}: {value}")),
                        Location::Query(name) => query.push(format!("{name}={value}")),
                        Location::Cookie(name) => fields.push(format!("Cookie: {name}={value}")),
                        Location::Path(_) => path = beneath(&value, &path),
                        Location::Body(path) => panic!("this test sends no body: {path}"),
                        Location::Signature => panic!("signing keys are not sent"),
                        Location::Login(part) => panic!("no request has a login: {part:?}"),
                    }
                }
            }
            Self::Confused => {
                fields.extend(clears.headers.iter().map(|name| format!("{name}: {STALE}")));
                query.extend(clears.queries.iter().map(|name| format!("{name}={STALE}")));
                fields.extend(clears.cookies.iter().map(|name| format!("Cookie: {name}={STALE}")));
            }
        }
        let fields: String = fields.iter().map(|field| format!("\r\n{field}")).collect();
        format!("GET {path}?{}{fields}", query.join("&"))
    }
}

/// What the owner gives for those variables that are `chosen`.
fn variables(provider: &Provider, chosen: impl Fn(&Variable) -> bool) -> BTreeMap<String, String> {
    let sample = |variable: &Variable| match (variable.choices.last(), variable.kind) {
        (Some(choice), _) => choice.clone(),
        (None, VariableKind::Host) => format!("{}.own.test", provider.id),
        (None, VariableKind::Label | VariableKind::Text) => "mine".to_owned(),
    };
    let chosen = provider.variables.iter().filter(|variable| chosen(variable));
    chosen.map(|variable| (variable.name.clone(), sample(variable))).collect()
}

/// A value of the field's shape, with the canary in it where it is secret.
fn value(account: &str, field: &Field, number: usize, canary: &str) -> String {
    let prefix = field.prefixes.first().map(String::as_str).unwrap_or_default();
    let hex = "0123456789abcdef".repeat(4);
    let bodies = match field.secret {
        true => vec![format!("{canary}{number:02}"), hex[..32].to_owned(), hex.clone()],
        false => vec!["someone".to_owned(), hex[..32].to_owned(), "1234567890".to_owned()],
    };
    let mut values = bodies.iter().map(|body| format!("{prefix}{body}"));
    let fitting =
        values.find(|text| field.pattern.as_ref().is_none_or(|shape| shape.matches(text)));
    fitting.unwrap_or_else(|| panic!("{account}: teach `value` the shape of {}", field.name))
}

fn or<'a, T>(first: &'a [T], second: &'a [T]) -> &'a [T] {
    if first.is_empty() { second } else { first }
}

fn parsed(host: &str, path: &str) -> (Target, DecodedPath) {
    let target = Target::parse(Scheme::Https, host).expect("a host");
    (target, DecodedPath::parse(path).expect("a path"))
}

fn sample_host(pattern: &HostPattern) -> String {
    pattern.to_string().replacen("*.", "sample.", 1)
}

/// A path for each pattern; one that is nobody's in particular when there are none.
fn samples(patterns: &[PathPattern]) -> Vec<String> {
    let sample =
        |pattern: &PathPattern| pattern.to_string().replace("/**", "/deep/down").replace('*', "1");
    match patterns {
        [] => vec!["/some/thing".to_owned()],
        patterns => patterns.iter().map(sample).collect(),
    }
}

/// The template with `values`, by other means than Keyward's own.
fn rendered(template: &Template, values: &BTreeMap<String, String>) -> String {
    let part = |part: &Part| match part {
        Part::Literal(text) => text.to_string(),
        Part::Field(name) => values[&**name].clone(),
    };
    let text: String = template.parts().iter().map(part).collect();
    match template.encoding() {
        Encoding::Plain => text,
        Encoding::Basic => format!("Basic {}", BASE64_STANDARD.encode(text)),
    }
}

/// `/bot1:abc/` before `/some/thing`. A sample of `/file/**` begins with the prefix's own segment.
fn beneath(prefix: &str, path: &str) -> String {
    let own = prefix.split('/').nth(1).unwrap_or_default();
    let rest = path.strip_prefix(&format!("/{own}/")).unwrap_or(&path[1..]);
    format!("{prefix}{rest}")
}

/// Parameters of a target, by name.
fn parameters<'t>(target: &'t str, name: &str) -> Vec<&'t str> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

fn cookies(head: &Head, name: &str) -> Vec<String> {
    let all = head.all("cookie").join("; ");
    let pairs = all.split("; ").filter_map(|pair| pair.split_once('='));
    pairs.filter(|(given, _)| *given == name).map(|(_, value)| value.to_owned()).collect()
}

/// What stands in a head, Basic pairs decoded too.
fn readable(head: &Head) -> String {
    let pairs = head.fields.iter().filter_map(|(_, value)| value.strip_prefix("Basic "));
    let decoded = pairs.filter_map(|pair| BASE64_STANDARD.decode(pair).ok());
    let mut text = String::from_utf8_lossy(&head.raw).into_owned();
    decoded.for_each(|pair| text.push_str(&String::from_utf8_lossy(&pair)));
    text
}

/// The credential stands in its places and nothing else where another could.
fn assert_received(account: &Account, spot: &Spot, head: &Head, canary: &str, case: &str) {
    assert_eq!(head.one("host"), Some(&*spot.host), "{case}");
    let written = |at: &Location| spot.places.iter().any(|place| place.at == *at);
    let mut path_is_kept = true;
    for place in &spot.places {
        let value = rendered(&place.value, &account.values);
        match &place.at {
            Location::Header(name) => assert_eq!(head.all(name.as_str()), [value], "{case}"),
            Location::Query(name) => {
                let encoded = percent_encoding::percent_decode_str(
                    parameters(head.target(), name).first().copied().unwrap_or_default(),
                );
                assert_eq!(encoded.decode_utf8_lossy(), value, "{case}");
                assert_eq!(parameters(head.target(), name).len(), 1, "{case}");
            }
            Location::Cookie(name) => assert_eq!(cookies(head, name), [value], "{case}"),
            Location::Path(_) => {
                path_is_kept = false;
                let path = beneath(&value, &spot.path);
                assert_eq!(head.target().split('?').next(), Some(&*path), "{case}");
            }
            Location::Body(path) => panic!("this test sends no body: {path}"),
            Location::Signature => panic!("signing keys are not sent"),
            Location::Login(part) => panic!("no request has a login: {part:?}"),
        }
    }
    if path_is_kept {
        assert_eq!(head.target().split('?').next(), Some(&*spot.path), "{case}");
    }
    assert_eq!(parameters(head.target(), "x"), ["1"], "{case}: others' parameters stay");
    let clears = &account.instance.clears;
    for name in clears.headers.iter().filter(|name| !written(&Location::Header((*name).clone()))) {
        assert!(!head.has(name.as_str()), "{case}: {name}");
    }
    for name in clears.queries.iter().filter(|name| !written(&Location::Query((*name).clone()))) {
        assert!(parameters(head.target(), name).is_empty(), "{case}: {name}");
    }
    for name in clears.cookies.iter().filter(|name| !written(&Location::Cookie((*name).clone()))) {
        assert!(cookies(head, name).is_empty(), "{case}: {name}");
    }
    let text = readable(head);
    assert!(!text.contains("kwph") && !text.contains(STALE), "{case}: {text}");
    let places = spot.places.iter().flat_map(|place| place.value.fields());
    let expected = places.filter(|name| account.values[*name].contains(canary)).count();
    assert_eq!(text.matches(canary).count(), expected, "{case}: the secret, how often");
}

/// An origin that is all `hosts`.
async fn origin(hosts: &BTreeSet<String>) -> Origin {
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let script = |mut stream: Stream| async move {
        while stream.request().await.is_some() {
            if stream.try_send(ok("fine")).await.is_err() {
                return;
            }
        }
    };
    Origin::named(&names, script).await
}

/// A gateway with a connection and an agent for each account, before an origin that is everything
/// they name.
async fn lab() -> (Lab, Vec<Account>) {
    let mut plan = Plan::api_key().no_agents();
    let accounts = Account::all(&plan.canary().text);
    let hosts: BTreeSet<String> = accounts
        .iter()
        .flat_map(|account| [account.hosts(), account.strangers()])
        .flatten()
        .collect();
    let origin = origin(&hosts).await;
    for host in &hosts {
        plan = plan.resolve(&format!("\"{host}\": \"{}\"", origin.addr));
    }
    for account in &accounts {
        let (yaml, variables) = account.declared();
        plan = plan.connection(&yaml).agent(&account.name, &account.name);
        for (name, value) in variables {
            plan = plan.variable(&name, &value);
        }
    }
    (plan.start(origin).await, accounts)
}

/// What `account`'s agent holds instead of secrets, and the values of the other fields.
fn held(lab: &Lab, account: &Account) -> BTreeMap<String, String> {
    let held = |field: &Field| match field.secret {
        true => lab.gateway.placeholder(&account.name, &account.name, &field.name),
        false => account.values[&field.name].clone(),
    };
    account.auth.fields.iter().map(|field| (field.name.clone(), held(field))).collect()
}

/// The code that a request of `account`'s agent is refused with, at CONNECT or inside the tunnel.
async fn refusal(lab: &Lab, account: &Account, host: &str, path: &str) -> String {
    let mut wire = lab.client().await;
    let authorization = lab.authorization(&account.name);
    wire.send(format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n")).await;
    let mut answer = wire.answer("CONNECT").await;
    if answer.head.status() == 200 {
        let mut wire = lab.secure(wire, host).await;
        wire.send(request_text(&format!("GET {path}"), host)).await;
        answer = wire.answer("GET").await;
    }
    let code = answer.head.one("keyward-error");
    code.unwrap_or_else(|| panic!("{}: {host}{path} was answered", account.name)).to_owned()
}

#[tokio::test]
async fn every_provider_receives_its_credential_in_its_place_and_nothing_else() {
    let (mut lab, accounts) = lab().await;
    let canary = lab.canary.text.clone();
    for account in &accounts {
        let held = held(&lab, account);
        let mut wires: BTreeMap<String, Wire> = BTreeMap::new();
        for spot in account.spots() {
            if !wires.contains_key(&spot.host) {
                let target = format!("{}:443", spot.host);
                let wire = lab.tunnel_as(&account.name, &target, &spot.host).await;
                wires.insert(spot.host.clone(), wire);
            }
            let wire = wires.get_mut(&spot.host).expect("it was just opened");
            for client in Client::ALL {
                let case = format!("{} {client:?} {}{}", account.name, spot.host, spot.path);
                let request = client.request(&spot, &account.instance.clears, &held);
                wire.send(request_text(&request, &spot.host)).await;
                let answer = wire.answer("GET").await;
                assert_eq!(answer.head.status(), 200, "{case}: {}", answer.text());
                let head = lab.origin.arrival().await.head;
                assert_received(account, &spot, &head, &canary, &case);
            }
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn hosts_one_label_off_and_what_else_the_hosts_serve_get_nothing() {
    let (lab, accounts) = lab().await;
    for account in &accounts {
        let name = &account.name;
        for host in account.strangers() {
            let code = refusal(&lab, account, &host, "/some/thing").await;
            assert_eq!(code, "default_deny", "{name}: {host}");
        }
        for host in account.hosts() {
            let path = "/nothing/of/the/service";
            if account.scope(&host, path).is_none() {
                let code = refusal(&lab, account, &host, path).await;
                assert!(["default_deny", "bad_request"].contains(&&*code), "{name}: {code}");
            }
        }
        for (host, pattern) in &account.instance.oauth_endpoints {
            let (host, path) = (sample_host(host), &samples(std::slice::from_ref(pattern))[0]);
            let code = refusal(&lab, account, &host, path).await;
            let owned = account.owns_path(path);
            let expected = if owned { "token_endpoint_refused" } else { "default_deny" };
            assert_eq!(code, expected, "{name}: {host}{path}");
        }
    }
    assert!(lab.origin.received().is_empty(), "{:#?}", lab.origin.received());
    lab.finish().await;
}
