//! Fills in a provider's form: inserts the variables that an owner enters into hosts, placements, OAuth endpoints,
//! actions and the hosts at which git can use the connection over HTTPS. The result is the [`Instance`] that a
//! connection uses.

use std::collections::BTreeMap;

use super::actions::{ActionRequests, NamedAction};
use super::auth_method::{AuthMethod, ScopedPlaces};
use super::host_template::HostTemplate;
use super::own_hosts::OwnHosts;
use super::variable::{FormError, Variable};
use super::{EncodedSlash, Instance, Provider};
use crate::actions::ActionScope;
use crate::inject::credential::Clears;
use crate::inject::placement::{Location, Place, Scoped};
use crate::inject::template::Encoding;
use keyward_base::pattern::HostPattern;

impl Provider {
    /// The hosts without variables.
    pub fn known_hosts(&self) -> impl Iterator<Item = HostPattern> {
        self.hosts.iter().filter_map(|host| host.usual(&self.variables))
    }

    /// Checks the variables of a connection before its consent. Variables from the provider's responses are not known then.
    ///
    /// # Errors
    /// As [`Provider::instantiate`].
    pub fn check_before_consent(
        &self,
        auth: &AuthMethod,
        variables: &BTreeMap<String, String>,
    ) -> Result<(), FormError> {
        let is_known = |it: &Variable| !it.captured || variables.contains_key(&it.name);
        match self.variables.iter().all(is_known) {
            true => self.instantiate(auth, variables).map(|_| ()),
            false => Ok(()),
        }
    }

    /// Fills in the variables.
    ///
    /// # Errors
    /// When a variable is missing, unknown or invalid.
    pub fn instantiate(
        &self,
        auth: &AuthMethod,
        variables: &BTreeMap<String, String>,
    ) -> Result<Instance, FormError> {
        let values = self.values(variables)?;
        let fill = |template: &HostTemplate| template.fill(&values, &self.variables);
        let hosts: Vec<HostPattern> = self.hosts.iter().map(fill).collect::<Result<_, _>>()?;
        let database = self.database(&hosts, &values)?;
        let hosts = if database.is_some() { Vec::new() } else { hosts };
        let scoped = |scope: &super::ScopedPlaces| {
            Ok(Scoped {
                hosts: scope.hosts.iter().map(fill).collect::<Result<_, FormError>>()?,
                paths: scope.paths.clone(),
                what: scope.places.clone(),
            })
        };
        let placements =
            auth.placements.iter().map(scoped).collect::<Result<Vec<_>, FormError>>()?;
        let mut oauth_endpoints = Vec::new();
        for (host, path) in &self.endpoints {
            oauth_endpoints.push((fill(host)?, path.clone()));
        }
        let clears: Clears = self.clears.clone();
        let shown = auth.fields.iter().filter(|field| !field.secret);
        let shown = shown.map(|field| field.name.clone()).collect();
        Ok(Instance {
            hosts,
            paths: self.paths.clone(),
            placements,
            clears,
            rate_limit: self.rate_limit.clone(),
            oauth_endpoints,
            shown,
            database,
            aws: auth.aws.clone(),
            scheme: auth.scheme.clone(),
            tls: auth.tls.clone(),
            variables: values,
            is_ssh: auth.kind == super::AuthKind::SshKey,
            signs: auth.signs(),
            has_slashes_in_segments: self.encoded_slash == Some(EncodedSlash::Segment),
        })
    }

    /// The values of a service's response that may become part of hosts: only declared variables with valid
    /// values, so that no response can direct a credential to another domain.
    pub fn captured(&self, answered: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let taken = |variable: &Variable| {
            let value = answered.get(&variable.name)?.trim_end_matches('/');
            let value = match &variable.within {
                Some((before, after)) => value.strip_prefix(before)?.strip_suffix(after)?,
                None => value,
            };
            Some((variable.name.clone(), variable.accept(value).ok()?))
        };
        self.variables.iter().filter(|variable| variable.captured).filter_map(taken).collect()
    }

    /// Captured variables whose values were invalid.
    pub fn not_captured<'a>(
        &'a self,
        answered: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a str> {
        let taken = self.captured(answered);
        let given: Vec<String> = answered.keys().cloned().collect();
        let names = self.variables.iter().filter(|variable| variable.captured);
        let names = names.map(|variable| variable.name.as_str());
        names.filter(move |name| given.iter().any(|it| it == name) && !taken.contains_key(*name))
    }

    /// The defaults of the variables that have one.
    pub fn defaults(&self) -> BTreeMap<String, String> {
        let default =
            |variable: &Variable| Some((variable.name.clone(), variable.default.clone()?));
        self.variables.iter().filter_map(default).collect()
    }

    /// The given values in canonical form, and the defaults.
    pub(super) fn values(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, FormError> {
        let mut values = BTreeMap::new();
        for (name, value) in given {
            let variable = self.variable(name).ok_or_else(|| FormError::Unknown {
                provider: self.id.to_string(),
                name: name.clone(),
            })?;
            values.insert(name.clone(), variable.accept(value)?);
        }
        for (name, default) in self.defaults() {
            values.entry(name).or_insert(default);
        }
        Ok(values)
    }
}

impl Provider {
    /// The hosts from which git clones by HTTPS with a connection of this method: those where the method writes Basic
    /// authentication.
    pub fn git_hosts(
        &self,
        auth: &AuthMethod,
        variables: &BTreeMap<String, String>,
    ) -> Vec<HostPattern> {
        let Ok(values) = self.values(variables) else { return Vec::new() };
        let hosts = self.git.iter().filter(|host| writes_basic(auth, host));
        hosts.filter_map(|host| host.fill(&values, &self.variables).ok()).collect()
    }

    /// Whether some method writes Basic authentication, which git needs, at one of the hosts of repositories.
    pub fn writes_for_git(&self) -> bool {
        let writes = |auth: &AuthMethod| self.git.iter().any(|host| writes_basic(auth, host));
        self.auth.iter().any(writes)
    }
}

/// Whether the method writes Basic authentication at the host.
fn writes_basic(auth: &AuthMethod, host: &HostTemplate) -> bool {
    let is_basic = |place: &Place| {
        place.at == Location::Header(http::header::AUTHORIZATION)
            && place.value.encoding() == Encoding::Basic
    };
    let is_for = |it: &ScopedPlaces| it.hosts.is_empty() || it.hosts.contains(host);
    auth.placements.iter().any(|it| is_for(it) && it.places.iter().any(is_basic))
}

impl Provider {
    /// Named parts of the API.
    pub fn actions(&self) -> &[NamedAction] {
        let own = OwnHosts { hosts: &self.hosts, variables: &self.variables };
        self.actions.of(&self.id, &own)
    }

    /// The requests of an action, on the hosts of a connection with these variables. `None`: there is no such action.
    ///
    /// # Errors
    /// When a variable is missing or invalid.
    pub fn action(
        &self,
        name: &str,
        variables: &BTreeMap<String, String>,
    ) -> Option<Result<Vec<ActionScope>, FormError>> {
        let action = self.actions().iter().find(|action| action.name == name)?;
        let scopes = self.values(variables).and_then(|values| {
            let fill = |host: &HostTemplate| host.fill(&values, &self.variables);
            let scope = |requests: &ActionRequests| {
                // Without hosts of its own, it has all of the provider's.
                let hosts = match requests.hosts.is_empty() {
                    true => &self.hosts,
                    false => &requests.hosts,
                };
                Ok(requests.on(hosts.iter().map(fill).collect::<Result<_, FormError>>()?))
            };
            action.requests.iter().map(scope).collect()
        });
        Some(scopes)
    }

    /// The requests of an action on hosts that the rule names. `None`: there is no such action.
    pub fn action_anywhere(&self, name: &str) -> Option<Vec<ActionScope>> {
        let action = self.actions().iter().find(|action| action.name == name)?;
        let scope = |requests: &ActionRequests| {
            let hosts = if requests.hosts.is_empty() { &self.hosts } else { &requests.hosts };
            let literal: Option<Vec<_>> = hosts.iter().map(HostTemplate::literal).collect();
            // A host with a variable is any that the rule names.
            requests.on(literal.unwrap_or_default())
        };
        Some(action.requests.iter().map(scope).collect())
    }

    /// Whether the hosts of the provider depend on the connection.
    pub fn has_host_variables(&self) -> bool {
        self.hosts.iter().any(|host| host.literal().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_captured_from_an_answer_stays_within_the_provider_s_domains() {
        let text = "id: crm\nname: CRM\nhosts: ['{pod}.my.crm.test']\nauth: [{ id: k, kind: bearer }]\n\
             variables: [{ name: pod, captured: true, within: 'https://{}.my.crm.test' }, { name: own, \
             default: x }]\n";
        let found = crate::provider::check::file("p", text, &crate::provider::Catalogue::default());
        let provider = found.unwrap().remove(0);
        let captured = |pod: &str| {
            provider.captured(&BTreeMap::from([
                ("pod".to_owned(), pod.to_owned()),
                ("own".to_owned(), "evil".to_owned()),
                ("other".to_owned(), "evil".to_owned()),
            ]))
        };
        for bad in [
            "https://evil.test",
            "https://evil.test/.my.crm.test",
            "https://evil.test?.my.crm.test",
            "https://a.b.my.crm.test",
            "http://eu1.my.crm.test",
            "eu1",
            "",
        ] {
            assert!(captured(bad).is_empty(), "{bad}");
        }
        let eu = BTreeMap::from([("pod".to_owned(), "eu1".to_owned())]);
        assert_eq!(captured("https://eu1.my.crm.test"), eu);
        assert_eq!(captured("https://eu1.my.crm.test/"), eu);
    }
}
