//! Compares the catalogue with `facts.tsv`: the places of credentials that research found before the catalogue was
//! written. Differences are listed in two files beside it, with their reasons.

use std::collections::{BTreeMap, BTreeSet};

use crate::inject::placement::{Location, Place};
use crate::inject::template::{Encoding, TemplatePart};
use crate::provider::{AuthKind, AuthMethod, Catalogue};

const FACTS: &str = include_str!("../facts.tsv");

/// Facts that the catalogue does not follow.
const NOT_FOLLOWED: &str = include_str!("../facts_not_followed.tsv");

/// Places of the catalogue, at providers of the table, that the table lacks.
const ADDED: &str = include_str!("../facts_added.tsv");

/// A method, a place and a value, as in the table.
type Fact = (String, String, String);

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
        AuthKind::File => "file",
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

/// The lines of a table.
fn rows(table: &str) -> impl Iterator<Item = [&str; 4]> {
    table.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let columns: Vec<_> = line.split('\t').collect();
        columns.try_into().unwrap_or_else(|_| panic!("four columns: {line}"))
    })
}

fn facts() -> BTreeMap<&'static str, BTreeSet<Fact>> {
    let mut found: BTreeMap<&str, BTreeSet<Fact>> = BTreeMap::new();
    for [provider, method, place, value] in rows(FACTS) {
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
            rows(reviewed).any(|[id, method, place, _]| {
                line.starts_with(&format!("{id}\t{method}\t{place}\t"))
            })
        };
        let open: Vec<&String> = found.iter().filter(|line| !is_reviewed(line)).collect();
        assert!(open.is_empty(), "{} {what}: {open:#?}", open.len());
        for [id, method, place, why] in rows(reviewed) {
            let start = format!("{id}\t{method}\t{place}\t");
            assert!(found.iter().any(|line| line.starts_with(&start)), "{start} {why}: no more");
        }
    }
}
