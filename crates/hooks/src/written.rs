//! The schema of `schemes.yaml`, and its checks.

use std::str::FromStr;

use http::HeaderName;
use jiff::SignedDuration;
use serde::Deserialize;

use super::fetched::form::FetchedForm;
use crate::challenge_rule::{ChallengeRule, EventAnswer};
use crate::key::{KeyForm, SignatureAlgorithm};
use crate::request::{Encoding, SignatureLayout};
use crate::scheme::{BODY_BYTES_MAX, Scheme};
use crate::template::{SignedTemplate, TemplatePiece};
use crate::verify::{Time, TimeUnit, ValuePlace, Way};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenScheme {
    id: String,
    /// The service.
    name: String,
    /// The page that documents the scheme.
    docs: String,
    /// What the service calls the secret.
    secret: String,
    /// How it proves the URL or hands over the secret.
    #[serde(default)]
    challenges: Vec<ChallengeRule>,
    /// How it expects that events are answered.
    #[serde(default)]
    answer: EventAnswer,
    /// Whether different events may have the same bytes, so that these identify none.
    #[serde(default)]
    repeats: bool,
    /// Whether it sends an event again only when a person asks for that.
    #[serde(default)]
    redelivers: bool,
    /// Its longest body in bytes, if it documents one beyond the usual.
    body_max: Option<usize>,
    /// The ways to sign; the first of which a request has a valid signature counts.
    #[serde(default)]
    by: Vec<WrittenWay>,
    /// The service whose keys are fetched, instead of `by`.
    fetched: Option<FetchedForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWay {
    #[serde(default)]
    key: KeyForm,
    /// A pointer to a list of which each item has a signature.
    items: Option<String>,
    /// The place of the signature: any of these headers, or a pointer of the body or item.
    headers: Option<Vec<String>>,
    body: Option<String>,
    /// Its form there: after a prefix, in pairs, or in a list with versions. Default: alone.
    prefix: Option<String>,
    pairs: Option<WrittenPairs>,
    version: Option<String>,
    encoding: Encoding,
    algorithm: SignatureAlgorithm,
    /// The bytes that are signed, as a template.
    #[serde(default)]
    signed: String,
    time: Option<WrittenTime>,
    id: Option<WrittenPlace>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPairs {
    separator: char,
    /// The name of the pairs that are signatures.
    signature: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTime {
    header: Option<String>,
    pair: Option<String>,
    body: Option<String>,
    unit: TimeUnit,
    window_s: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPlace {
    headers: Option<Vec<String>>,
    body: Option<String>,
}

/// The schemes of a file, sorted by id.
pub(crate) fn read(text: &str) -> Result<Vec<Scheme>, String> {
    let written: Vec<WrittenScheme> =
        serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let mut schemes = written.into_iter().map(scheme).collect::<Result<Vec<_>, _>>()?;
    schemes.sort_by(|a, b| a.id.cmp(&b.id));
    match schemes.windows(2).find(|pair| pair[0].id == pair[1].id) {
        Some(pair) => Err(format!("{}: two schemes have this id", pair[0].id)),
        None => Ok(schemes),
    }
}

fn scheme(written: WrittenScheme) -> Result<Scheme, String> {
    let WrittenScheme { id, name, docs, secret, challenges, answer, .. } = written;
    let WrittenScheme { repeats, redelivers, body_max, by, fetched, .. } = written;
    let ways = by.into_iter().map(way).collect::<Result<Vec<_>, _>>();
    let ways = ways.map_err(|why| format!("{id}: {why}"))?;
    challenges.iter().try_for_each(ChallengeRule::check).map_err(|why| format!("{id}: {why}"))?;
    if ways.is_empty() == fetched.is_none() {
        return Err(format!("{id}: either `by` or `fetched` is needed"));
    }
    Ok(Scheme {
        id,
        name,
        docs,
        secret_label: secret,
        challenges,
        answer,
        repeats,
        redelivers,
        body_bytes_max: body_max.unwrap_or(BODY_BYTES_MAX),
        ways,
        fetched,
    })
}

fn way(written: WrittenWay) -> Result<Way, String> {
    let layout = match (written.prefix, written.pairs, written.version) {
        (None, None, None) => SignatureLayout::Whole,
        (Some(prefix), None, None) => SignatureLayout::Prefix(prefix),
        (None, Some(WrittenPairs { separator, signature }), None) => {
            SignatureLayout::Pairs { separator, signature }
        }
        (None, None, Some(version)) => SignatureLayout::Versions(version),
        _ => return Err("`prefix`, `pairs` and `version` exclude each other".to_owned()),
    };
    let time = written.time.map(time).transpose()?;
    let id = written.id.map(|id| place(id.headers, None, id.body)).transpose()?;
    let way = Way {
        key: written.key,
        algorithm: written.algorithm,
        signature: place(written.headers, None, written.body)?,
        layout,
        encoding: written.encoding,
        signed: SignedTemplate::parse(&written.signed)?,
        items: written.items,
        time,
        id,
    };
    check(&way)?;
    Ok(way)
}

fn time(written: WrittenTime) -> Result<Time, String> {
    let WrittenTime { header, pair, body, unit, window_s } = written;
    let place = place(header.map(|header| vec![header]), pair, body)?;
    Ok(Time { place, unit, window: SignedDuration::from_secs(window_s.into()) })
}

fn place(
    headers: Option<Vec<String>>,
    pair: Option<String>,
    body: Option<String>,
) -> Result<ValuePlace, String> {
    match (headers, pair, body) {
        (Some(names), None, None) if !names.is_empty() => {
            let names = names.iter().map(|name| HeaderName::from_str(name));
            let names = names.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
            Ok(ValuePlace::Headers(names))
        }
        (None, Some(name), None) => Ok(ValuePlace::Pair(name)),
        (None, None, Some(pointer)) if pointer.starts_with('/') => Ok(ValuePlace::Body(pointer)),
        _ => Err("name one place: headers, a pair or a pointer in the body".to_owned()),
    }
}

/// Checks that the signature covers the time and the id. A token in place of a signature
/// authenticates the whole request.
fn check(way: &Way) -> Result<(), String> {
    let is_token = way.algorithm == SignatureAlgorithm::Equal;
    if is_token != way.signed.is_empty() {
        return Err("`signed` is needed, except with `equal`".to_owned());
    }
    let covers = |place: &ValuePlace, piece: TemplatePiece| {
        let in_body = matches!(place, ValuePlace::Body(_)) && way.signed.has(&TemplatePiece::Body);
        is_token || in_body || way.signed.has(&piece)
    };
    if way.time.as_ref().is_some_and(|time| is_token || !covers(&time.place, TemplatePiece::Time)) {
        return Err("the time is not signed".to_owned());
    }
    if way.id.as_ref().is_some_and(|id| !covers(id, TemplatePiece::Id)) {
        return Err("the id is not signed".to_owned());
    }
    let unknown = |piece, given: bool| way.signed.has(&piece) && !given;
    if unknown(TemplatePiece::Time, way.time.is_some())
        || unknown(TemplatePiece::Id, way.id.is_some())
    {
        return Err("`signed` names a time or an id that has no place".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "- id: a\n  name: A\n  docs: https://a.example\n  secret: secret\n  by:\n  - headers: [X-A]\n    \
        encoding: hex\n    algorithm: hmac-sha256\n    signed: '{time}.{id}.{body}'\n    \
        time: { header: X-T, unit: seconds, window_s: 300 }\n    id: { headers: [X-I] }\n";

    #[test]
    fn a_scheme_definition_with_unsigned_or_invalid_parts_is_refused() {
        assert!(read(SOUND).is_ok());
        for (from, to, why) in [
            ("{time}.", "", "time is not signed"),
            ("{id}.", "", "id is not signed"),
            ("{time}.{id}.{body}", "{id}", "time is not signed"),
            ("id: { headers: [X-I] }", "", "no place"),
            ("time: { header: X-T, unit: seconds, window_s: 300 }", "", "no place"),
            ("header: X-T", "header: X-T, pair: t", "one place"),
            ("signed: '{time}.{id}.{body}'", "signed: ''", "`signed` is needed"),
            ("hmac-sha256", "equal", "`signed` is needed"),
            ("headers: [X-A]", "headers: []", "one place"),
            ("headers: [X-A]", "headers: [X A]", "header name"),
            ("headers: [X-A]", "headers: [X-A]\n    prefix: a\n    version: b", "exclude"),
            ("headers: [X-A]", "body: signature", "one place"),
            ("encoding: hex", "encoding: hexx", "hexx"),
            ("encoding: hex", "encoding: hex\n    colour: red", "unknown field"),
            ("name: A", "name: A\n  colour: red", "unknown field"),
            ("window_s: 300", "window_s: -1", "expected u32"),
            ("{body}", "{boddy}", "boddy"),
            ("  by:", "  challenges: [{ echo: body:/a, learn: body:/a }]\n  by:", "exclude"),
            ("  by:", "  challenges: [{ json: { a: '{mac-hex}' } }]\n  by:", "needs a `token`"),
            ("  by:", "  challenges: [{ echo: body:a }]\n  by:", "no place"),
            ("  by:", "  challenges: [{ method: 'G T' }]\n  by:", "method"),
        ] {
            let text = SOUND.replace(from, to);
            assert_ne!(text, SOUND, "{from}");
            let error = read(&text).err().unwrap_or_else(|| panic!("{to} is accepted"));
            assert!(error.contains(why), "{to}: {error}");
        }
        assert!(read(&SOUND.repeat(2)).unwrap_err().contains("two schemes"));
    }
}
