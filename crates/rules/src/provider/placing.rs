//! Checks the placements of an auth method: place, template, hosts and paths.

use http::HeaderName;

use super::auth_method::ScopedPlaces;
use super::document::{Problems, item_of, key_of};
use super::field::Field;
use super::host_template::HostTemplate;
use super::keys::{PlaceText, ScopedText};
use super::kinds::AuthKind;
use super::methods::header_name;
use super::own_hosts::{OwnHosts, paths, subset};
use super::schema::AuthText;
use crate::inject::body::BodyPath;
use crate::inject::path_prefix::PathPrefix;
use crate::inject::placement::{Location, LoginPart, Place};
use crate::inject::sign::message::Computed;
use crate::inject::steering;
use crate::inject::template::{Encoding, ValueTemplate};

/// The name of the minted token in templates.
pub(super) const MINTED: &str = "access_token";

/// Parses the placements of one auth method.
pub(super) struct PlacementParser<'a> {
    pub(super) text: &'a AuthText,
    pub(super) fields: &'a [Field],
    pub(super) own: &'a OwnHosts<'a>,
}

impl PlacementParser<'_> {
    /// All placements of the method.
    pub(super) fn placements(&self, path: &str, problems: &mut Problems<'_>) -> Vec<ScopedPlaces> {
        let text = self.text;
        match (&text.placement, &text.place, &text.placements) {
            (Some(place), None, None) => {
                let at = key_of(path, "placement");
                everywhere(self.place(place, &at, problems).into_iter().collect())
            }
            (None, Some(places), None) => {
                everywhere(self.places(places, &key_of(path, "place"), problems))
            }
            (None, None, Some(scopes)) => self.scopes(scopes, path, problems),
            (None, None, None) => everywhere(self.usual(path, problems)),
            _ => {
                let message = "`placement`, `place` and `placements` exclude each other";
                problems.add(path, message, "keep one of them");
                Vec::new()
            }
        }
    }

    fn scopes(
        &self,
        scopes: &[ScopedText],
        path: &str,
        problems: &mut Problems<'_>,
    ) -> Vec<ScopedPlaces> {
        let mut found: Vec<ScopedPlaces> = Vec::new();
        for (index, scope) in scopes.iter().enumerate() {
            let at = item_of(&key_of(path, "placements"), index);
            let within = key_of(&at, "hosts");
            let scope_hosts = subset(&scope.hosts, &within, self.own, problems);
            if let Some(taker) = found.iter().position(|before| takes_all(before, &scope_hosts)) {
                let message = format!("this is never used: placements[{taker}] covers it");
                problems.add(&at, message, "put the one without `paths` last");
            }
            // Without places, requests to these paths are sent without the credential.
            let places = match scope.place.is_empty() && !scope.paths.is_empty() {
                true => Vec::new(),
                false => self.places(&scope.place, &key_of(&at, "place"), problems),
            };
            found.push(ScopedPlaces {
                hosts: scope_hosts,
                paths: paths(&scope.paths, &key_of(&at, "paths"), problems),
                places,
            });
        }
        found
    }

    fn places(&self, texts: &[PlaceText], path: &str, problems: &mut Problems<'_>) -> Vec<Place> {
        if texts.is_empty() {
            problems.add(path, "there is no place", "write `- { header: …, value: … }`");
        }
        let mut found: Vec<Place> = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let at = item_of(path, index);
            let Some(place) = self.place(text, &at, problems) else { continue };
            match found.iter().find(|other| other.at.collides(&place.at)) {
                Some(other) if other.at == place.at => {
                    problems.add(&at, "this place is written twice", "keep one");
                }
                Some(_) => {
                    let message = "this place and one before it cannot be in the same body";
                    problems.add(&at, message, "name two of which neither contains the other");
                }
                None => found.push(place),
            }
        }
        if !found.is_empty() && found.iter().all(|place| place.value.fields().next().is_none()) {
            problems.add(path, "no place holds a field", "write one as `{field}`");
        }
        found
    }

    /// The kind's default placement.
    fn usual(&self, path: &str, problems: &mut Problems<'_>) -> Vec<Place> {
        let text = match self.text.kind {
            AuthKind::ApiKey | AuthKind::Custom | AuthKind::Hmac => {
                let message = format!("kind `{}` needs a placement", self.text.kind.as_str());
                problems.add(path, message, "add `placement: { header: … }`");
                return Vec::new();
            }
            AuthKind::Basic => {
                PlaceText { basic: Some("{username}:{password}".into()), ..PlaceText::default() }
            }
            AuthKind::Mtls | AuthKind::SshKey | AuthKind::File => return Vec::new(),
            AuthKind::Oauth1 => PlaceText {
                header: Some("Authorization".into()),
                value: Some("{signature}".into()),
                ..PlaceText::default()
            },
            AuthKind::AwsSigv4 | AuthKind::AwsRole => return signature("{access_key_id}"),
            AuthKind::Digest => return signature("{username}"),
            _ => PlaceText {
                header: Some("Authorization".into()),
                prefix: Some("Bearer ".into()),
                ..PlaceText::default()
            },
        };
        self.place(&text, path, problems).into_iter().collect()
    }

    /// Parses one place; `None` if it is invalid.
    fn place(&self, text: &PlaceText, path: &str, problems: &mut Problems<'_>) -> Option<Place> {
        if let Some(part) = text.login {
            return self.login(text, part, path, problems);
        }
        let given = [
            ("header", &text.header),
            ("query", &text.query),
            ("cookie", &text.cookie),
            ("path", &text.path),
            ("basic", &text.basic),
            ("body", &text.body),
            ("query_string", &text.query_string),
        ];
        let mut given = given.into_iter().filter_map(|(key, name)| Some((key, name.as_deref()?)));
        let (Some((key, name)), None) = (given.next(), given.next()) else {
            let remedy = "write exactly one of header, query, cookie, path, basic, body";
            problems.add(path, "this does not name one place", remedy);
            return None;
        };
        let at = key_of(path, key);
        if matches!(key, "query" | "body") && steering::is_method_parameter(name) {
            let message = format!("`{name}` steers the request itself");
            problems.add(&at, message, "choose another name");
            return None;
        }
        let template = match key {
            "basic" if !name.contains(':') => {
                problems.add(&at, "this is not a pair of user and password", remedy(key));
                return None;
            }
            "path" | "basic" | "query_string" => name.to_owned(),
            _ => self.value(text, path, problems)?,
        };
        let encoding = if key == "basic" { Encoding::Basic } else { Encoding::Plain };
        let value = self.template(&template, encoding, &at, problems)?;
        let place = match key {
            "header" => Location::Header(header_name(name, &at, problems)?),
            "query" if sound_query(name) => Location::Query(name.into()),
            "cookie" if sound_cookie(name) => Location::Cookie(name.into()),
            "path" if sound_path(name) => {
                Location::Path(PathPrefix::of(&value, |name| self.is_secret(name)))
            }
            "basic" => Location::Header(http::header::AUTHORIZATION),
            "body" if let Some(path) = BodyPath::parse(name) => Location::Body(path),
            "query_string" => Location::QueryString,
            _ => {
                problems.add(&at, format_args!("this is not a place in a {key}"), remedy(key));
                return None;
            }
        };
        Some(Place { at: place, value })
    }

    /// A part of a database login, which is the only key beside `value`.
    fn login(
        &self,
        text: &PlaceText,
        part: LoginPart,
        path: &str,
        problems: &mut Problems<'_>,
    ) -> Option<Place> {
        let alone =
            PlaceText { login: Some(part), value: text.value.clone(), ..PlaceText::default() };
        if *text != alone {
            let remedy = "write `login` and `value`, nothing else";
            problems.add(path, "this does not name one place", remedy);
            return None;
        }
        let template = self.value(text, path, problems)?;
        let at = key_of(path, "login");
        let value = self.template(&template, Encoding::Plain, &at, problems)?;
        Some(Place { at: Location::Login(part), value })
    }

    /// The template of a place with one value.
    fn value(&self, text: &PlaceText, path: &str, problems: &mut Problems<'_>) -> Option<String> {
        match (&text.value, &text.prefix) {
            (Some(_), Some(_)) => {
                let remedy = "write the prefix in `value`";
                problems.add(path, "`value` and `prefix` exclude each other", remedy);
                None
            }
            (Some(value), None) => Some(value.clone()),
            (None, prefix) => {
                let prefix = prefix.as_deref().unwrap_or_default();
                if prefix.contains(['{', '}']) {
                    let remedy = "write a `value` template instead";
                    problems.add(&key_of(path, "prefix"), "a prefix holds no fields", remedy);
                    return None;
                }
                Some(format!("{prefix}{{{}}}", self.single(path, problems)?))
            }
        }
    }

    /// The field that a place without `value` uses.
    fn single(&self, path: &str, problems: &mut Problems<'_>) -> Option<&str> {
        if self.text.kind.mints() {
            return Some(MINTED);
        }
        match Field::only_secret(self.fields) {
            Some(only) => Some(&only.name),
            None => {
                let message = "it is not clear which field goes here";
                problems.add(path, message, "name it in a template: `value: \"{field}\"`");
                None
            }
        }
    }

    /// Whether the field is secret; a minted token always is.
    fn is_secret(&self, name: &str) -> bool {
        self.fields.iter().find(|field| field.name == name).is_none_or(|field| field.secret)
    }

    fn template(
        &self,
        text: &str,
        encoding: Encoding,
        at: &str,
        problems: &mut Problems<'_>,
    ) -> Option<ValueTemplate> {
        let template = match ValueTemplate::parse(text, encoding) {
            Ok(template) => template,
            Err(error) => {
                problems.add(at, error, "");
                return None;
            }
        };
        if !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            problems.add(at, "a template holds visible ASCII characters only", "remove the others");
            return None;
        }
        let mut names: Vec<&str> = self.fields.iter().map(|f| f.name.as_str()).collect();
        if self.text.kind.mints() && !names.contains(&MINTED) {
            names.push(MINTED);
        }
        let is_variable = |name: &str| self.own.variables.iter().any(|it| it.name == name);
        let is_computed = |name: &str| {
            self.text.kind.signs() && (Computed::named(name).is_some() || is_variable(name))
        };
        let unknown = template.fields().filter(|name| !names.contains(name));
        for name in unknown.filter(|name| !is_computed(name)) {
            let remedy = match names.is_empty() {
                true => "declare it under `fields`".to_owned(),
                false => format!("the fields are {}", names.join(", ")),
            };
            problems.add(at, format_args!("`{{{name}}}` is not a field"), remedy);
        }
        let is_alone = self.text.place.is_none() && self.text.placements.is_none();
        if is_alone && template.fields().next().is_none() {
            problems.add(at, "the template holds no field", "write one as `{field}`");
        }
        Some(template)
    }
}
/// A signature that names this field.
fn signature(field: &str) -> Vec<Place> {
    let value = ValueTemplate::parse(field, Encoding::Plain);
    value.into_iter().map(|value| Place { at: Location::Signature, value }).collect()
}

/// Whether `scope` covers every path of all `hosts` (empty means all of the provider's).
fn takes_all(scope: &ScopedPlaces, hosts: &[HostTemplate]) -> bool {
    let within = |host: &HostTemplate| scope.hosts.contains(host);
    let hosts_too = scope.hosts.is_empty() || !hosts.is_empty() && hosts.iter().all(within);
    scope.paths.is_empty() && hosts_too
}

fn everywhere(places: Vec<Place>) -> Vec<ScopedPlaces> {
    vec![ScopedPlaces { hosts: Vec::new(), paths: Vec::new(), places }]
}

fn sound_query(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(char::is_control)
}

/// Whether a cookie's name is a token (RFC 6265 §4.1.1), as header names are.
fn sound_cookie(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
}

/// Whether a template consists of whole plain segments with at least one field.
fn sound_path(template: &str) -> bool {
    template.starts_with('/')
        && (template.ends_with('/') || template.ends_with('}'))
        && !template.contains("//")
        && !template.contains("/.")
        && !template.contains(['?', '#', '%', '\\', ' '])
}

fn remedy(key: &str) -> &'static str {
    match key {
        "path" => "write whole segments, such as `/bot{api_key}/`",
        "basic" => "write `{user}:{password}`",
        "cookie" => "write the cookie's name",
        "body" => "write the member's name, or its path with dots, such as `auth.key`",
        _ => "write the parameter's name",
    }
}
