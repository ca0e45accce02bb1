//! Parses hosts, paths and URLs of a provider file, and decides which URLs are on the provider's own hosts.

use super::document::{Problems, item_of};
use super::host_template::{HostTemplate, HostTemplateError};
use super::variable::Variable;
use keyward_base::host::{Scheme, Target};
use keyward_base::pattern::{HostPattern, PathPattern, PatternError};

/// The provider's own hosts.
pub(super) struct OwnHosts<'a> {
    pub(super) hosts: &'a [HostTemplate],
    pub(super) variables: &'a [Variable],
}

impl OwnHosts<'_> {
    /// Whether the host is one of the provider's.
    pub(super) fn owns(&self, host: &HostTemplate) -> bool {
        if self.hosts.contains(host) {
            return true;
        }
        let sample = host.sample(self.variables);
        let Ok(target) = Target::parse(Scheme::Https, &sample) else { return false };
        self.hosts.iter().filter_map(HostTemplate::literal).any(|own| own.matches(&target))
    }

    /// Whether some target matches the pattern and one of the hosts, for some values of its variables. A host that the
    /// owner enters whole is compared by its default.
    pub(super) fn overlap(&self, pattern: &HostPattern) -> bool {
        let is_at = |host: String| match host.contains('{') {
            true => is_filled_to(&host, pattern),
            false => HostPattern::parse(&host).is_ok_and(|host| host.overlaps(pattern)),
        };
        self.hosts.iter().flat_map(|host| host.expanded(self.variables)).any(is_at)
    }

    /// Host and path of an https URL.
    pub(super) fn url<'u>(
        &self,
        url: &'u str,
        at: &str,
        problems: &mut Problems<'_>,
    ) -> Option<(HostTemplate, &'u str)> {
        let Some((authority, path)) = split_https(url) else {
            problems.add(at, "this is not an https URL", "write `https://host/path`");
            return None;
        };
        let host = template(authority, at, self.variables, problems)?;
        Some((host, path))
    }
}

/// Whether some values of variables make the host of `pattern`: `{shop}.myshopify.com`, `acme.myshopify.com`.
fn is_filled_to(template: &str, pattern: &HostPattern) -> bool {
    let (Some((before, _)), Some((_, after))) =
        (template.split_once('{'), template.rsplit_once('}'))
    else {
        return false;
    };
    let host = pattern.to_string();
    let rest = host.strip_prefix(before).and_then(|host| host.strip_suffix(after));
    !after.is_empty() && rest.is_some_and(|value| !value.is_empty())
}

fn template(
    text: &str,
    at: &str,
    variables: &[Variable],
    problems: &mut Problems<'_>,
) -> Option<HostTemplate> {
    let checked = HostTemplate::parse(text).and_then(|host| host.check(variables).map(|()| host));
    match checked {
        Ok(host) => Some(host),
        Err(error) => {
            let remedy = match &error {
                HostTemplateError::Undeclared { template, name } => declaration(template, name),
                _ => String::new(),
            };
            problems.add(at, error, remedy);
            None
        }
    }
}

/// The remedy for an undeclared variable in a host: the line that declares it.
fn declaration(template: &str, name: &str) -> String {
    match template == format!("{{{name}}}") {
        true => format!("add `variables: [{{ name: {name}, kind: host }}]`"),
        false => format!("add `variables: [{{ name: {name} }}]`"),
    }
}

/// The host to write instead of a URL.
fn host_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // A password is not repeated.
    if host.is_empty() || host.contains('@') {
        return None;
    }
    let paths = if path.len() > 1 { "; paths are listed in `paths`" } else { "" };
    Some(format!("write `{host}`, without `{scheme}://`{paths}"))
}

/// Parses host patterns with variables; those with errors are omitted.
pub(super) fn hosts(
    texts: &[String],
    path: &str,
    variables: &[Variable],
    problems: &mut Problems<'_>,
) -> Vec<HostTemplate> {
    let mut found = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let at = item_of(path, index);
        match host_of(text) {
            Some(remedy) => {
                problems.add(&at, format_args!("`{text}` is a URL, not a host"), remedy)
            }
            None => found.extend(template(text, &at, variables, problems)),
        }
    }
    found
}

/// Parses hosts that must be the provider's own; those with errors are omitted.
pub(super) fn subset(
    texts: &[String],
    path: &str,
    own: &OwnHosts<'_>,
    problems: &mut Problems<'_>,
) -> Vec<HostTemplate> {
    let hosts = hosts(texts, path, own.variables, problems);
    for host in hosts.iter().filter(|host| !own.owns(host)) {
        let message = format!("`{host}` is not one of the provider's hosts");
        problems.add(path, message, "list it under the provider's `hosts`");
    }
    hosts
}

/// Parses path patterns; those with errors are omitted.
pub(super) fn paths(texts: &[String], path: &str, problems: &mut Problems<'_>) -> Vec<PathPattern> {
    let mut found = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match PathPattern::parse(text) {
            Ok(pattern) => found.push(pattern),
            Err(error) => problems.add(&item_of(path, index), error, ""),
        }
    }
    found
}

/// Authority and path of `https://authority/path?query`.
pub(super) fn split_https(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("https://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let path = tail.split(['?', '#']).next().unwrap_or_default();
    let sound = !authority.is_empty() && url.bytes().all(|b| b.is_ascii_graphic());
    sound.then_some((authority, if path.is_empty() { "/" } else { path }))
}

/// A pattern of a URL's path; a segment with a variable matches any one segment.
pub(super) fn path_pattern(path: &str) -> Result<PathPattern, PatternError> {
    let segments = path.split('/').map(|segment| match segment.contains('{') {
        true => "*",
        false => segment,
    });
    PathPattern::parse(&segments.collect::<Vec<_>>().join("/"))
}

/// Whether the text is a day, such as `2026-08-21`.
pub(super) fn is_day(text: &str) -> bool {
    text.parse::<jiff::civil::Date>().is_ok()
}

/// Whether the text is a valid variable name: lower-case letters, digits and `_`.
pub(super) fn is_word(text: &str) -> bool {
    text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && text.starts_with(|c: char| c.is_ascii_lowercase())
}
