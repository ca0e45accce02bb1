//! Exports of other credential gateways: OneCLI and Infisical's Agent Vault. A secret of an export belongs to the host that
//! the export names, and is connected at a provider of that host only. No message has a value of the file.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::candidate::{ImportCandidate, SourceContent};
use super::dotenv;
use crate::cli::failure::Failure;
use crate::cli::terminal::secret::Typed;
use keyward_rules::provider::document::Document;

/// What OneCLI posts to `/v1/migrate/import`, version 1.
#[derive(Deserialize)]
struct OneCli {
    version: u32,
    #[serde(default)]
    secrets: Vec<OneCliSecret>,
    #[serde(default)]
    agents: Vec<Named>,
    #[serde(default)]
    rules: Vec<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OneCliSecret {
    name: String,
    #[serde(deserialize_with = "typed")]
    value: Typed,
    host_pattern: String,
    injection_config: Option<Injection>,
}

/// Absent members belong to other kinds of injection.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Injection {
    header_name: Option<String>,
    value_format: Option<String>,
    param_name: Option<String>,
    path_template: Option<String>,
    path_regex: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    pub(super) name: String,
}

/// What `agent-vault vault service list` prints.
#[derive(Deserialize)]
struct VaultServices {
    #[serde(default)]
    services: Vec<VaultService>,
}

#[derive(Deserialize)]
struct VaultService {
    name: String,
    host: String,
    enabled: Option<bool>,
    auth: ServiceAuth,
    #[serde(default)]
    substitutions: Vec<serde::de::IgnoredAny>,
}

/// Keys of credentials, not their values.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum ServiceAuth {
    Bearer { token: String },
    Basic { username: String, password: Option<String> },
    ApiKey { key: String, header: Option<String> },
    Custom { headers: BTreeMap<String, String> },
    Passthrough,
}

/// The answer of Agent Vault to `GET /v1/credentials?reveal=true`.
#[derive(Deserialize)]
struct Credentials {
    #[serde(default)]
    credentials: Vec<VaultCredential>,
}

#[derive(Deserialize)]
struct VaultCredential {
    key: String,
    #[serde(default)]
    r#type: String,
    #[serde(default, deserialize_with = "maybe_typed")]
    value: Option<Typed>,
}

/// The secrets of an export of OneCLI.
pub(super) fn onecli(file: &str, text: &str) -> Result<SourceContent, Failure> {
    let what = "what OneCLI posts to /v1/migrate/import";
    let export: OneCli = json(file, text, what)?;
    if export.version != 1 {
        let failure =
            Failure::usage(format!("{file} has version {} of the format", export.version));
        return Err(failure.hint("version 1 is supported"));
    }
    let mut read = SourceContent::default();
    for secret in export.secrets {
        let place = format!("{file} {}", secret.name);
        let injection = secret.injection_config.unwrap_or_default();
        if injection.path_template.is_some() || injection.path_regex.is_some() {
            let why = "it is in the path of requests: describe the service in a provider's file";
            read.unusable.push((place, why.to_owned()));
            continue;
        }
        let option = match (injection.header_name, injection.param_name) {
            (Some(name), _) if is_bearer(&name, injection.value_format.as_deref()) => None,
            (Some(name), _) => Some(format!("--header {name}")),
            (None, Some(name)) => Some(format!("--query {name}")),
            (None, None) => None,
        };
        read.add(place, &secret.host_pattern, option, |it| ImportCandidate {
            value: secret.value,
            ..it
        });
    }
    for agent in export.agents {
        let why = format!("an agent gets a token of its own: keyward agent add {}", agent.name);
        read.unusable.push((format!("{file} agent {}", agent.name), why));
    }
    for rule in export.rules {
        let why = "rules must be added again: keyward rule add".to_owned();
        read.unusable.push((format!("{file} rule {}", rule.name), why));
    }
    Ok(read)
}

fn is_bearer(header: &str, format: Option<&str>) -> bool {
    let format = format.unwrap_or("{value}");
    header.eq_ignore_ascii_case("authorization") && format.starts_with("Bearer ")
}

/// The services of Agent Vault with the credentials that they name.
pub(super) fn agent_vault(
    services_file: &str,
    services: &str,
    credentials_file: &str,
    credentials: &str,
) -> Result<SourceContent, Failure> {
    let what = "what `agent-vault vault service list` prints";
    let document = Document::parse(services_file, services).map_err(|problems| {
        no_export(services_file, problems.first().and_then(|it| it.line), what)
    })?;
    let listed = VaultServices::deserialize(document.root().clone());
    let listed = listed.map_err(|_| no_export(services_file, None, what))?;
    let (values, mut read) = values_of(credentials_file, credentials)?;
    for service in listed.services {
        let place = format!("{services_file} {}", service.name);
        if service.enabled == Some(false) {
            read.unusable.push((place, "it is disabled".to_owned()));
        } else if !service.substitutions.is_empty() {
            let why = "it substitutes parts of requests: describe the service in a provider's file";
            read.unusable.push((place, why.to_owned()));
        } else if let Err(why) = read.service(&place, &service, &values) {
            read.unusable.push((place, why));
        }
    }
    Ok(read)
}

impl SourceContent {
    /// A secret for a host.
    fn add(
        &mut self,
        place: String,
        host: &str,
        option: Option<String>,
        with: impl FnOnce(ImportCandidate) -> ImportCandidate,
    ) {
        // A path or a port narrows a service, whose provider says the rest.
        let host = host.split(['/', ':']).next().unwrap_or(host).to_ascii_lowercase();
        let group = place.clone();
        let found = with(ImportCandidate::of(place, &group, ""));
        self.candidates.push(ImportCandidate {
            host: Some(host),
            only_host: true,
            option,
            ..found
        });
    }

    fn service(
        &mut self,
        place: &str,
        service: &VaultService,
        values: &BTreeMap<String, Typed>,
    ) -> Result<(), String> {
        let value = |key: &str| match values.get(key) {
            Some(value) => Ok(value.clone()),
            None => Err(format!("its credential {key} is not in the file of credentials")),
        };
        let (secret, user, option) = match &service.auth {
            ServiceAuth::Bearer { token } => (value(token)?, None, None),
            ServiceAuth::Basic { username, password } => match password {
                Some(password) => (
                    value(password)?,
                    Some(value(username)?.text().to_owned()),
                    Some("--basic".to_owned()),
                ),
                None => (value(username)?, None, Some("--basic".to_owned())),
            },
            ServiceAuth::ApiKey { key, header } => {
                let header = header.as_deref().unwrap_or("Authorization");
                (value(key)?, None, Some(format!("--header {header}")))
            }
            ServiceAuth::Custom { headers } => {
                let one = || {
                    let (name, template) = headers.iter().next().filter(|_| headers.len() == 1)?;
                    let key = template.split_once("{{")?.1.split_once("}}")?;
                    Some((name, key.0.trim().to_owned())).filter(|_| !key.1.contains("{{"))
                };
                let why = "it has several secrets: describe the service in a provider's file";
                let (name, key) = one().ok_or(why)?;
                (value(&key)?, None, Some(format!("--header {name}")))
            }
            ServiceAuth::Passthrough => {
                return Err("it has no secret: keyward rule add, with the action pass".to_owned());
            }
        };
        self.add(place.to_owned(), &service.host, option, |it| ImportCandidate {
            value: secret,
            user,
            ..it
        });
        Ok(())
    }
}

/// The values by key: the answer of the API, or lines `KEY=VALUE`. What is issued for a while is omitted.
fn values_of(file: &str, text: &str) -> Result<(BTreeMap<String, Typed>, SourceContent), Failure> {
    let (mut values, mut read) = (BTreeMap::new(), SourceContent::default());
    if !text.trim_start().starts_with('{') {
        let lines = dotenv::lines(text).into_iter();
        let pair = |line: dotenv::DotenvLine<'_>| {
            (line.name.to_owned(), Typed::from(line.value.to_owned()))
        };
        return Ok((lines.filter(|line| !line.value.is_empty()).map(pair).collect(), read));
    }
    let what = "the answer of Agent Vault to GET /v1/credentials?reveal=true";
    let found: Credentials = json(file, text, what)?;
    for VaultCredential { key, r#type, value } in found.credentials {
        let value = value.filter(|value| !value.text().is_empty());
        match (r#type.as_str(), value) {
            ("" | "static", Some(value)) => drop(values.insert(key, value)),
            ("" | "static", None) => {
                let why = "it has no value: request them with reveal=true".to_owned();
                read.unusable.push((format!("{file} {key}"), why));
            }
            (kind, _) => {
                let why = format!("its kind is {kind}: connect the account with `keyward connect`");
                read.unusable.push((format!("{file} {key}"), why));
            }
        }
    }
    Ok((values, read))
}

fn typed<'de, D: Deserializer<'de>>(d: D) -> Result<Typed, D::Error> {
    String::deserialize(d).map(Typed::from)
}

fn maybe_typed<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Typed>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.map(Typed::from))
}

/// Errors of the parser may quote values: only their lines are shown.
fn json<'a, T: Deserialize<'a>>(file: &str, text: &'a str, what: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| no_export(file, Some(error.line()), what))
}

fn no_export(file: &str, line: Option<usize>, what: &str) -> Failure {
    let line = line.map_or_else(String::new, |line| format!("{line}:"));
    Failure::usage(format!("{file}:{line} this is not {what}"))
        .hint("see the formats in the guide about connections")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(read: &SourceContent) -> Vec<String> {
        let of = |text: &Option<String>| text.clone().unwrap_or_default();
        let each = read.candidates.iter().map(|it| {
            assert!(it.only_host);
            format!("{} | {} {} | {}", of(&it.host), of(&it.user), of(&it.option), it.value.text())
        });
        let others = read.unusable.iter().map(|(place, why)| format!("{place}: {why}"));
        each.chain(others).collect()
    }

    fn refused(read: Result<SourceContent, Failure>) -> String {
        read.map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn an_error_names_the_line_and_no_value() {
        for text in
            ["canary", "{\"version\": \"canary\"}", "{\n\"version\": 1,\n\"secrets\": \"canary\"}"]
        {
            let said = refused(onecli("e.json", text));
            assert!(said.contains("e.json:") && !said.contains("canary"), "{said}");
        }
        assert!(refused(onecli("e", "{\"version\": 2}")).contains("version 2"));
        let bad = refused(agent_vault("s", "services: canary", "c", ""));
        assert!(bad.contains("s:") && !bad.contains("canary"), "{bad}");
        let bad = refused(agent_vault("s", "services: []", "c", "{\"credentials\": \"canary\"}"));
        assert!(bad.contains("c:") && !bad.contains("canary"), "{bad}");
    }

    #[test]
    fn secrets_of_onecli_belong_to_their_hosts() {
        let text = r#"{"version":1,"secrets":[
            {"name":"a","type":"anthropic","value":"V1","hostPattern":"api.anthropic.com","pathPattern":null,"injectionConfig":null,"metadata":{"authMode":"api-key"}},
            {"name":"b","type":"generic","value":"V2","hostPattern":"API.corp.test","pathPattern":"/v1/*","injectionConfig":{"headerName":"X-Key"},"metadata":null},
            {"name":"c","type":"generic","value":"V3","hostPattern":"maps.test","pathPattern":null,"injectionConfig":{"paramName":"key"},"metadata":null},
            {"name":"d","type":"generic","value":"V4","hostPattern":"bot.test","pathPattern":null,"injectionConfig":{"pathTemplate":"/bot{value}"},"metadata":null},
            {"name":"e","type":"generic","value":"V5","hostPattern":"b.test","pathPattern":null,"injectionConfig":{"headerName":"authorization","valueFormat":"Bearer {value}"}}],
            "agents":[{"name":"ci","identifier":"ci"}],"rules":[{"name":"no-delete"}]}"#;
        assert_eq!(
            shown(&onecli("f", text).unwrap()),
            [
                "api.anthropic.com |   | V1",
                "api.corp.test |  --header X-Key | V2",
                "maps.test |  --query key | V3",
                "b.test |   | V5",
                "f d: it is in the path of requests: describe the service in a provider's file",
                "f agent ci: an agent gets a token of its own: keyward agent add ci",
                "f rule no-delete: rules must be added again: keyward rule add",
            ]
        );
    }

    #[test]
    fn services_of_agent_vault_have_the_values_of_their_credentials() {
        let services = "vault: v\nservices:\n\
            - { name: stripe, host: api.stripe.com, auth: { type: bearer, token: STRIPE } }\n\
            - { name: jira, host: 'corp.test:8443/rest/*', auth: { type: basic, username: USER, password: PASS } }\n\
            - { name: own, host: own.test, auth: { type: api-key, key: OWN, header: x-own } }\n\
            - { name: custom, host: c.test, auth: { type: custom, headers: { X-A: 'k {{ OWN }}' } } }\n\
            - { name: two, host: t.test, auth: { type: custom, headers: { X-A: '{{ A }}', X-B: '{{ B }}' } } }\n\
            - { name: off, host: o.test, enabled: false, auth: { type: bearer, token: STRIPE } }\n\
            - { name: open, host: p.test, auth: { type: passthrough } }\n\
            - { name: gone, host: g.test, auth: { type: bearer, token: NONE } }\n";
        let values = r#"{"keys":[],"credentials":[{"key":"STRIPE","type":"static","value":"V1"},
            {"key":"USER","type":"","value":"ada"},{"key":"PASS","value":"V2"},{"key":"OWN","value":"V3"},
            {"key":"LOGIN","type":"oauth","value":"V9"},{"key":"EMPTY","type":"static","value":""}]}"#;
        let expected = [
            "api.stripe.com |   | V1",
            "corp.test | ada --basic | V2",
            "own.test |  --header x-own | V3",
            "c.test |  --header X-A | V3",
            "c LOGIN: its kind is oauth: connect the account with `keyward connect`",
            "c EMPTY: it has no value: request them with reveal=true",
            "s two: it has several secrets: describe the service in a provider's file",
            "s off: it is disabled",
            "s open: it has no secret: keyward rule add, with the action pass",
            "s gone: its credential NONE is not in the file of credentials",
        ];
        let found = agent_vault("s", services, "c", values).unwrap();
        assert_eq!(shown(&found), expected);
        let lines = "STRIPE=V1\nUSER=ada\nPASS=V2\nOWN='V3'\n";
        let found = agent_vault("s", services, "c", lines).unwrap();
        assert_eq!(shown(&found)[..4], expected[..4]);
    }
}
