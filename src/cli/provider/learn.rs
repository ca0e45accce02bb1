//! `keyward provider check --learn`: proposes a provider's file from an OpenAPI document or from one captured request. The
//! result passes `provider check`. What the source does not say is a comment to fill in; values of secrets are never read.

mod openapi;
mod proposal;

use std::path::Path;

use http::Uri;
use serde_json::Value;

use self::proposal::{Proposal, WrittenParts};
use crate::cli::failure::Failure;
use crate::cli::output;
use keyward_rules::provider::document::Document;
use keyward_rules::provider::{Catalogue, check};
use proposal::{plain, quoted};

/// The longest published documents have about 15 MiB.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Prints the proposal. Notes about what is missing go to standard error.
pub(super) fn run(path: &Path) -> Result<(), Failure> {
    let name = path.display().to_string();
    let failed = |error: &std::io::Error| Failure::failed(&format!("cannot read {name}"), error);
    let size = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
    if size > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{name} is longer than 32 MiB")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    let (proposal, yaml) = learned(&name, &text)?;
    output::print(&yaml)?;
    for note in &proposal.notes {
        output::note(&format!("note: {note}"));
    }
    Ok(())
}

fn learned(name: &str, text: &str) -> Result<(Proposal, String), Failure> {
    let document = document(name, text)?;
    let mut proposal = match document.get("log") {
        Some(log) => proposal(name, log)?,
        None => openapi::proposal(name, &document)?,
    };
    if Catalogue::built_in().get(&proposal.id).is_some() {
        proposal.notes.push(format!(
            "provider `{}` is built in: see `keyward provider show {}`",
            proposal.id, proposal.id
        ));
        proposal.id += "-own";
    }
    // What the rules of providers refuse becomes a comment.
    let mut problems = Vec::new();
    for parts in [WrittenParts::All, WrittenParts::WithoutActions, WrittenParts::Required] {
        let yaml = proposal.text(parts);
        match check::file(name, &yaml, &Catalogue::built_in()) {
            Ok(_) => return Ok((proposal, yaml)),
            Err(found) => problems = found,
        }
    }
    let lines = problems
        .iter()
        .map(|problem| format!("the proposal would not pass: {}", problem.to_string().trim_end()));
    Err(Failure::several(lines.collect()))
}

/// JSON or YAML. Errors name the line and quote nothing, since a captured request has secrets.
fn document(name: &str, text: &str) -> Result<Value, Failure> {
    let found = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map_err(|error| (Some(error.line()), "JSON")),
        false => Document::parse(name, text)
            .map_err(|problems| problems.first().and_then(|problem| problem.line))
            .and_then(|document| serde_json::to_value(document.root()).map_err(|_| None))
            .map_err(|line| (line, "YAML")),
    };
    found.map_err(|(line, what)| {
        let line = line.map_or_else(String::new, |line| format!("{line}:"));
        Failure::usage(format!("{name}:{line} this is no {what} that can be read"))
            .hint("give an OpenAPI document in JSON, or YAML without aliases, or a HAR file")
    })
}

/// Parts of names of fields and parameters that have credentials.
const TELLING: &[&str] = &["key", "token", "auth", "secret", "signature"];
/// Words before a credential that are of the standards, or common.
const WORDS: &[&str] = &["token", "apikey", "api-key", "key", "bot", "klaviyo-api-key", "sso-key"];

/// # Errors
/// When it has no request to one host.
fn proposal(file: &str, log: &Value) -> Result<Proposal, Failure> {
    let entries = log.get("entries").and_then(Value::as_array);
    let requests = entries.into_iter().flatten().filter_map(|entry| entry.get("request"));
    let of = |request: &Value| -> Option<Uri> { request.get("url")?.as_str()?.parse().ok() };
    let requests: Vec<(&Value, Uri)> =
        requests.take(1_000).filter_map(|request| Some((request, of(request)?))).collect();
    let Some((first, url)) = requests.first() else {
        let failure = Failure::usage(format!("{file}: `log.entries` has no request with a URL"));
        return Err(failure.hint("save one request as HAR in the browser's network tools"));
    };
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    if requests.iter().any(|(_, other)| other.host() != url.host()) {
        let failure = Failure::usage(format!("{file} has requests to several hosts"));
        return Err(failure.hint("save the one request of the API alone"));
    }
    if url.scheme_str() != Some("https") || !host.contains('.') {
        return Err(Failure::usage(format!("{file}: the request is no https request to a name")));
    }
    let labels: Vec<&str> = host.split('.').collect();
    let mut found = Proposal::named(labels[labels.len().saturating_sub(2)]);
    let port = url.port_u16().filter(|port| *port != 443);
    found.hosts.insert(port.map_or(host.clone(), |port| format!("{host}:{port}")));
    let with = requests.iter().map(|(request, _)| *request).find(|it| has_credential(it));
    credentials(with.unwrap_or(first), &mut found);
    let method = first.get("method").and_then(Value::as_str);
    if method == Some("GET") && url.path().split('/').all(is_word) {
        let base = found.hosts.first().cloned().unwrap_or_default();
        found.test = Some(format!("https://{base}{}", url.path()));
    }
    found.notes.push("values of the captured request were not read into the proposal".to_owned());
    Ok(found)
}

/// A segment of a path that is a word, not an identifier or a key.
fn is_word(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let is_plain =
        segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
    is_plain && segment.len() <= 16 && digits <= 2
}

/// Names and values of a list of `{ name, value }`.
fn pairs<'a>(request: &'a Value, list: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let all = request.get(list).and_then(Value::as_array).into_iter().flatten().take(200);
    let text = |it: &'a Value, key: &str| it.get(key).and_then(Value::as_str);
    all.filter_map(move |it| Some((text(it, "name")?, text(it, "value").unwrap_or_default())))
}

fn has_credential(request: &Value) -> bool {
    pairs(request, "headers").any(|(name, _)| tells(name))
        || pairs(request, "queryString").any(|(name, _)| tells(name))
}

fn tells(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_name =
        name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    // A pseudo-field of HTTP/2, and the name of the host in HTTP/2.
    is_name && name != "authority" && TELLING.iter().any(|part| name.contains(part))
}

fn credentials(request: &Value, found: &mut Proposal) {
    for (name, value) in pairs(request, "headers").filter(|(name, _)| tells(name)) {
        if !name.eq_ignore_ascii_case("authorization") {
            let placement = format!("placement: {{ header: {} }}", quoted(name));
            found.key(name, "api_key", Some(placement));
            continue;
        }
        let word = value.split(' ').next().unwrap_or_default();
        match word.to_ascii_lowercase().as_str() {
            "bearer" => found.key("token", "bearer", None),
            "basic" => found.key("login", "basic", None),
            "digest" => found.key("login", "digest", None),
            known if WORDS.contains(&known) && value.contains(' ') => {
                let place = format!("{} {{api_key}}", plain(word));
                let placement =
                    format!("placement: {{ header: Authorization, value: {} }}", quoted(&place));
                found.key("key", "api_key", Some(placement));
            }
            _ => {
                let placement = "placement: { header: Authorization }    # with a word before the key, if it has one";
                found.key("key", "api_key", Some(placement.to_owned()));
            }
        }
    }
    for (name, _) in pairs(request, "queryString").filter(|(name, _)| tells(name)) {
        found.key(name, "api_key", Some(format!("placement: {{ query: {} }}", quoted(name))));
    }
    if found.auth.is_empty() {
        let note =
            "the request has no credential that is known by its name: a bearer token is proposed";
        found.notes.push(note.to_owned());
        found.key("token", "bearer", None);
    }
}

#[cfg(test)]
mod tests;
