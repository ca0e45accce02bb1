//! Compares the catalogue with `facts.tsv`: the places of credentials that research found before the catalogue was
//! written. Differences are listed here with their reasons.

use std::collections::{BTreeMap, BTreeSet};

use crate::inject::placement::{Location, Place};
use crate::inject::template::{Encoding, TemplatePart};
use crate::provider::{AuthKind, AuthMethod, Catalogue};

const FACTS: &str = include_str!("../facts.tsv");

/// A method, a place and a value, as in the table.
type Fact = (String, String, String);

/// Facts that the catalogue does not follow: provider, method, place, and why.
const NOT_FOLLOWED: &[(&str, &str, &str, &str)] = &[
    ("apify", "given", "query token", "the header is enough, and keeps the key out of URLs"),
    (
        "aws-bedrock",
        "signature",
        "signature",
        "access keys are those of provider aws; Bedrock's own keys are bearer tokens",
    ),
    ("backblaze-b2", "session", "header authorization", "the native API is not covered"),
    (
        "clickhouse-http",
        "given",
        "header x-clickhouse-key",
        "Basic is the same pair; both fields are cleared",
    ),
    (
        "clickhouse-http",
        "given",
        "header x-clickhouse-user",
        "Basic is the same pair; both fields are cleared",
    ),
    (
        "confluence",
        "token",
        "header authorization",
        "OAuth tokens are used at api.atlassian.com: provider atlassian",
    ),
    (
        "exa",
        "given",
        "header authorization",
        "x-api-key is the documented field; the other is cleared",
    ),
    ("gong", "token", "header authorization", "OAuth leads to a host of the customer"),
    (
        "jira",
        "token",
        "header authorization",
        "OAuth tokens are used at api.atlassian.com: provider atlassian",
    ),
    ("mailchimp", "given", "header authorization", "any user name serves; ours is keyward"),
    ("opensearch", "signature", "signature", "domains of AWS are at hosts of provider aws"),
    ("pagerduty", "given", "body routing_key", "events go to another host"),
    (
        "people-data-labs",
        "given",
        "query api_key",
        "the header is enough, and keeps the key out of URLs",
    ),
    ("planetscale", "given", "header authorization", "the token is two values, ID:TOKEN"),
    ("segment", "given", "header authorization", "write keys of events are not covered"),
    ("smartsheet", "token", "header authorization", "apps sign their token requests with a hash"),
    (
        "snowflake",
        "signed_jwt",
        "header x-snowflake-authorization-token-type",
        "optional: Snowflake finds the type of a token itself; programs may send it",
    ),
    (
        "splunk",
        "given",
        "header authorization",
        "the word Splunk is for session keys and the collector; tokens are bearer tokens",
    ),
    (
        "supabase",
        "given",
        "header authorization",
        "holds the token of a signed-in user, which is kept",
    ),
];

/// Places of the catalogue, at providers of the table, that the table lacks: provider, method, place, and why.
const ADDED: &[(&str, &str, &str, &str)] = &[
    (
        "bitbucket",
        "given",
        "header authorization",
        "git and tokens of repositories want Basic with a fixed user name",
    ),
    ("bitbucket", "token", "header authorization", "git wants Basic with a fixed user name"),
    ("cloudflare", "given", "header x-auth-email", "the global key wants the account's address"),
    ("cloudflare", "given", "header x-auth-user-service-key", "keys of the Origin CA"),
    ("copper", "given", "header x-pw-useremail", "the key wants the user's address"),
    ("discourse", "given", "header api-username", "the key wants the user's name"),
    ("fly", "given", "header authorization", "tokens that have their own scheme (FlyV1)"),
    ("ghost", "given", "query key", "keys of the Content API"),
    ("github", "given", "header authorization", "git over HTTPS wants Basic"),
    ("github", "token", "header authorization", "git over HTTPS wants Basic"),
    (
        "gitlab",
        "given",
        "header authorization",
        "git and registries want Basic, GraphQL and npm a bearer token",
    ),
    ("gitlab", "token", "header authorization", "git over HTTPS wants Basic"),
    ("google-gemini", "given", "header authorization", "the interface in the style of OpenAI"),
    ("hugging-face", "given", "header authorization", "git over HTTPS wants Basic"),
    ("mailchimp", "given", "header authorization", "any user name serves; ours is keyward"),
    ("mastodon", "given", "header authorization", "an access token that the owner made"),
    ("metabase", "session", "header x-metabase-session", "a login with user name and password"),
    ("planetscale", "given", "header authorization", "the token is two values, ID:TOKEN"),
    ("telegram-bot", "given", "path", "downloads have a path of their own"),
    ("whatsapp", "token", "header authorization", "tokens of a consent"),
];

fn method(auth: &AuthMethod) -> &'static str {
    match auth.kind {
        AuthKind::ApiKey | AuthKind::Bearer | AuthKind::Basic | AuthKind::Custom => "given",
        AuthKind::Oauth2 | AuthKind::ServiceAccount | AuthKind::GithubApp => "token",
        AuthKind::Session => "session",
        AuthKind::SignedJwt => "signed_jwt",
        AuthKind::AwsSigv4 | AuthKind::AwsRole | AuthKind::Hmac => "signature",
        AuthKind::Oauth1 => "oauth1",
        AuthKind::Digest => "digest",
        AuthKind::Mtls => "mtls",
        AuthKind::SshKey => "ssh_key",
    }
}

/// The value with `{}` for what is secret or the owner's.
fn value(place: &Place) -> String {
    let part = |part: &TemplatePart| match part {
        TemplatePart::Literal(text) => text.to_string(),
        TemplatePart::Field(_) => "{}".to_owned(),
    };
    let text: String = place.value.parts().iter().map(part).collect();
    match place.value.encoding() {
        Encoding::Basic => format!("Basic {text}"),
        Encoding::Plain => text,
    }
}

/// The places of a method, as the table has them. What signs or logs in has none but its kind.
fn places(auth: &AuthMethod) -> BTreeSet<Fact> {
    let kind = method(auth);
    if ["signature", "oauth1", "digest", "mtls"].contains(&kind) {
        let place = if ["signature", "oauth1"].contains(&kind) { "signature" } else { "login" };
        return BTreeSet::from([(kind.to_owned(), place.to_owned(), String::new())]);
    }
    let all = auth.placements.iter().flat_map(|scope| &scope.places);
    let fact = |place: &Place| {
        let at = match &place.at {
            Location::Header(name) => format!("header {name}"),
            Location::Query(name) => format!("query {name}"),
            Location::QueryString => "query_string".to_owned(),
            Location::Cookie(name) => format!("cookie {name}"),
            Location::Path(_) => "path".to_owned(),
            Location::Body(path) => format!("body {path}"),
            Location::Signature => "signature".to_owned(),
            Location::Login(_) => "login".to_owned(),
        };
        (kind.to_owned(), at, value(place))
    };
    all.map(fact).collect()
}

fn facts() -> BTreeMap<&'static str, BTreeSet<Fact>> {
    let mut found: BTreeMap<&str, BTreeSet<Fact>> = BTreeMap::new();
    for line in FACTS.lines().filter(|line| !line.starts_with('#')) {
        let [provider, method, place, value] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("four columns: {line}")
        };
        // The table names the scheme; each kind of the catalogue has one.
        let is_scheme = ["signature", "login"].contains(&place);
        let value = if is_scheme { "" } else { value };
        let fact = (method.to_owned(), place.to_owned(), value.to_owned());
        found.entry(provider).or_default().insert(fact);
    }
    found
}

#[test]
fn credential_placements_match_the_researched_facts_except_reviewed_cases() {
    let catalogue = Catalogue::built_in();
    let facts = facts();
    assert!(facts.len() > 250, "{}", facts.len());
    let (mut not_followed, mut added) = (BTreeSet::new(), BTreeSet::new());
    for (id, known) in &facts {
        let provider = catalogue.get(id).unwrap_or_else(|| panic!("{id} is not in the catalogue"));
        let own: BTreeSet<Fact> = provider.auth.iter().flat_map(places).collect();
        let line = |(method, place, value): &Fact| format!("{id}\t{method}\t{place}\t{value}");
        not_followed.extend(known.difference(&own).map(line));
        added.extend(own.difference(known).map(line));
    }
    for (found, reviewed, what) in
        [(not_followed, NOT_FOLLOWED, "is not followed"), (added, ADDED, "is in no fact")]
    {
        let is_reviewed = |line: &&String| {
            reviewed.iter().any(|(id, method, place, _)| {
                line.starts_with(&format!("{id}\t{method}\t{place}\t"))
            })
        };
        let open: Vec<&String> = found.iter().filter(|line| !is_reviewed(line)).collect();
        assert!(open.is_empty(), "{} {what}: {open:#?}", open.len());
        for (id, method, place, why) in reviewed {
            let start = format!("{id}\t{method}\t{place}\t");
            assert!(found.iter().any(|line| line.starts_with(&start)), "{start} {why}: no more");
        }
    }
}
