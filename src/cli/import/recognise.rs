//! [`recognise`]: finds the accounts that the found values belong to: by variables of providers' SDKs, then by key
//! prefixes, then by the host in the file.

use std::collections::{BTreeMap, BTreeSet};

use super::candidate::ImportCandidate;
use crate::cli::terminal::secret::Typed;
use keyward_api::wire::{AuthView, FieldView, ProviderView};
use keyward_base::bolt;
use keyward_rules::provider::catalogue::is_part_of;

/// A shorter beginning occurs in other texts too.
const TELLING_CHARS_MIN: usize = 4;
/// A shorter text after a beginning is not a key.
const BODY_CHARS_MIN: usize = 8;

/// An account of the found values.
#[derive(Debug)]
pub(super) struct FoundAccount {
    pub(super) provider: String,
    /// Its name, for people.
    pub(super) title: String,
    /// The auth method.
    pub(super) auth: String,
    /// The group of the values: a file, a profile.
    pub(super) group: String,
    /// The values by field.
    pub(super) fields: BTreeMap<String, FoundField>,
}

/// A value of an account.
#[derive(Debug)]
pub(super) struct FoundField {
    pub(super) value: Typed,
    pub(super) is_secret: bool,
    /// The indexes of the candidates that have it.
    pub(super) at: Vec<usize>,
}

impl FoundField {
    /// The value, if it is a secret. Others, and short ones, occur elsewhere by chance.
    pub(super) fn key(&self) -> Option<&str> {
        let value = self.value.text();
        (self.is_secret && value.chars().count() >= BODY_CHARS_MIN).then_some(value)
    }
}

impl FoundAccount {
    /// The values by field.
    pub(super) fn values(&self) -> BTreeMap<String, Typed> {
        self.fields.iter().map(|(name, field)| (name.clone(), field.value.clone())).collect()
    }

    /// The indexes of its candidates.
    pub(super) fn places(&self) -> impl Iterator<Item = usize> {
        self.fields.values().flat_map(|field| field.at.iter().copied())
    }

    /// Whether a connection of the other account would be a second one of this account.
    fn is_same(&self, other: &Self) -> bool {
        self.provider == other.provider && self.auth == other.auth && self.texts().eq(other.texts())
    }

    /// The secret field that has the value of a variable of an unknown name.
    fn field_with(&mut self, candidate: &ImportCandidate) -> Option<&mut FoundField> {
        let is_plain = candidate.variable.is_some() && candidate.host.is_none();
        let value = is_plain.then(|| candidate.value.text());
        self.fields.values_mut().find(|field| value.is_some() && field.key() == value)
    }

    fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, field)| (name.as_str(), field.value.text()))
    }
}

/// What the candidates are.
#[derive(Debug, Default)]
pub(super) struct RecognisedKeys {
    pub(super) accounts: Vec<FoundAccount>,
    /// Values that look like keys of a service that is not known: the index and what a person can do.
    pub(super) unknown: Vec<(usize, String)>,
}

/// Which accounts the candidates are. Values that are placeholders already, or are no keys, are omitted.
pub(super) fn recognise(
    candidates: &[ImportCandidate],
    providers: &[ProviderView],
) -> RecognisedKeys {
    let mut found = RecognisedKeys::default();
    let mut free: BTreeSet<usize> =
        (0..candidates.len()).filter(|at| !candidates[*at].has_placeholder()).collect();
    let groups: BTreeSet<&str> = candidates.iter().map(|it| it.group.as_str()).collect();
    for group in groups {
        let of_group = |at: &usize| candidates[*at].group == group;
        let offers =
            offers(candidates, &free.iter().copied().filter(of_group).collect(), providers);
        let is_clear: Vec<bool> = offers.iter().map(|it| !it.has_rival(&offers)).collect();
        for (offer, is_clear) in offers.into_iter().zip(is_clear) {
            let used = || offer.fields.values().map(|(at, _)| *at);
            if is_clear && used().all(|at| free.contains(&at)) {
                let used: Vec<usize> = used().collect();
                free.retain(|at| !used.contains(at));
                let AccountMatch { provider, auth, fields, .. } = offer;
                found.accounts.push(account(provider, auth, group, fields));
            }
        }
    }
    let mut unknown = Vec::new();
    for at in free {
        let candidate = &candidates[at];
        match by_shape(candidate, providers).or_else(|| by_host(candidate, providers)) {
            Some((provider, auth, fields)) => {
                let fields = fields.into_iter().map(|(name, value)| (name, (at, value))).collect();
                found.accounts.push(account(provider, auth, &candidate.group, fields));
            }
            None => unknown.push(at),
        }
    }
    found.accounts = merged(found.accounts);
    for at in unknown {
        let candidate = &candidates[at];
        match found.accounts.iter_mut().find_map(|account| account.field_with(candidate)) {
            // An imported key stays nowhere in a file.
            Some(field) => field.at.push(at),
            None => found.unknown.extend(remedy(candidate, providers).map(|text| (at, text))),
        }
    }
    found
}

/// The accounts, where those with the same values are one that was found at several places.
fn merged(accounts: Vec<FoundAccount>) -> Vec<FoundAccount> {
    let mut merged: Vec<FoundAccount> = Vec::new();
    for account in accounts {
        match merged.iter_mut().find(|it| it.is_same(&account)) {
            Some(known) => {
                for (known, field) in known.fields.values_mut().zip(account.fields.into_values()) {
                    known.at.extend(field.at);
                }
            }
            None => merged.push(account),
        }
    }
    merged
}

/// A way in which some candidates of a group are the fields of an account.
struct AccountMatch<'a> {
    provider: &'a ProviderView,
    auth: &'a AuthView,
    fields: BTreeMap<String, (usize, Typed)>,
    /// Values that begin as keys of the provider do.
    fitting: usize,
}

impl AccountMatch<'_> {
    /// Whether another provider is as likely for one of the values: a key is not sent to a service by chance.
    fn has_rival(&self, all: &[AccountMatch<'_>]) -> bool {
        let order =
            |it: &AccountMatch<'_>| (it.fitting, it.fields.len(), it.provider.mcp.is_none());
        let shares = |it: &AccountMatch<'_>| {
            let mut own = self.fields.values();
            own.any(|(at, _)| it.fields.values().any(|(other, _)| other == at))
        };
        let mut rivals = all.iter().filter(|it| it.provider.id != self.provider.id);
        rivals.any(|it| order(it) == order(self) && shares(it))
    }
}

/// The complete offers by variables, the best first.
fn offers<'a>(
    candidates: &[ImportCandidate],
    free: &BTreeSet<usize>,
    providers: &'a [ProviderView],
) -> Vec<AccountMatch<'a>> {
    let mut all = Vec::new();
    for (provider, auth) in ways(providers) {
        let (mut fields, mut fitting) = (BTreeMap::new(), 0);
        for field in &auth.fields {
            let reads = |at: &&usize| {
                let it = &candidates[**at];
                !it.only_host
                    && it.variable.as_ref().is_some_and(|name| field.env.contains(name))
                    && it.provider.is_none_or(|of| of == provider.id)
            };
            if let Some(at) = free.iter().find(reads) {
                let value = &candidates[*at].value;
                if !may_be(field, value.text()) {
                    continue;
                }
                fitting += usize::from(begins(field, value.text()).is_some());
                fields.insert(field.name.clone(), (*at, value.clone()));
            }
        }
        let is_complete = auth.fields.iter().all(|it| it.optional || fields.contains_key(&it.name));
        if is_complete && !fields.is_empty() {
            all.push(AccountMatch { provider, auth, fields, fitting });
        }
    }
    let rank = |it: &AccountMatch<'_>| {
        let order = (it.fitting, it.fields.len(), it.provider.mcp.is_none());
        (std::cmp::Reverse(order), it.provider.id.len())
    };
    all.sort_by_key(rank);
    all
}

/// The provider whose keys begin as the value does, if there is one alone.
fn by_shape<'a>(candidate: &ImportCandidate, providers: &'a [ProviderView]) -> Option<Known<'a>> {
    let value = candidate.value.text();
    let has_host = |it: &ProviderView| {
        !candidate.only_host || candidate.host.as_ref().is_some_and(|host| it.hosts.contains(host))
    };
    let named = |it: &ProviderView| candidate.provider.is_none_or(|id| id == it.id) && has_host(it);
    let mut best: Vec<(usize, &ProviderView, &AuthView, &FieldView)> = Vec::new();
    for (provider, auth) in ways(providers).filter(|(provider, _)| named(provider)) {
        let Some(field) = only_secret(auth) else { continue };
        // The source has keys of this provider only.
        let is_it = candidate.provider.is_some() && field.prefixes.is_empty();
        let length = match begins(field, value) {
            Some(prefix) if prefix.len() >= TELLING_CHARS_MIN => prefix.len(),
            _ if is_it => 0,
            _ => continue,
        };
        best.push((length, provider, auth, field));
    }
    let longest = best.iter().map(|it| it.0).max()?;
    best.retain(|it| it.0 == longest);
    // An MCP server takes the keys of its service; the service itself is meant.
    if best.iter().any(|it| it.1.mcp.is_none()) {
        best.retain(|it| it.1.mcp.is_none());
    }
    let ids: BTreeSet<_> = best.iter().map(|it| it.1.id.clone()).collect();
    best.retain(|it| !ids.iter().any(|service| is_part_of(&it.1.id, service)));
    let ids: BTreeSet<_> = best.iter().map(|it| &it.1.id).collect();
    let (_, provider, auth, field) = *best.first().filter(|_| ids.len() == 1)?;
    Some((provider, auth, vec![(field.name.clone(), candidate.value.clone())]))
}

/// The provider of the host, where one method takes a secret alone, or with a user name.
fn by_host<'a>(candidate: &ImportCandidate, providers: &'a [ProviderView]) -> Option<Known<'a>> {
    let host = candidate.host.as_ref()?;
    let mut of_host = ways(providers).filter(|(provider, _)| provider.hosts.contains(host));
    of_host.find_map(|(provider, auth)| {
        let required: Vec<_> = auth.fields.iter().filter(|field| !field.optional).collect();
        let value = candidate.value.clone();
        let fields = match (&required[..], &candidate.user) {
            ([secret], _) if may_be(secret, value.text()) => vec![(secret.name.clone(), value)],
            ([user, secret], Some(name)) if secret.secret && may_be(secret, value.text()) => {
                vec![(user.name.clone(), Typed::from(name.clone())), (secret.name.clone(), value)]
            }
            _ => return None,
        };
        Some((provider, auth, fields))
    })
}

type Known<'a> = (&'a ProviderView, &'a AuthView, Vec<(String, Typed)>);

/// The ways in which an account can be made of values alone: no consent, no app, no variable, and not a database, whose
/// programs connect to a listener.
fn ways(providers: &[ProviderView]) -> impl Iterator<Item = (&ProviderView, &AuthView)> {
    let plain = providers.iter().filter(|it| {
        it.protocol.is_none() && it.variables.iter().all(|variable| variable.default.is_some())
    });
    plain.flat_map(|it| {
        let ways = it.auth.iter().filter(|auth| !auth.consents && !auth.needs_app);
        ways.map(move |auth| (it, auth))
    })
}

/// What a person can do about a value that looks like a key.
fn remedy(candidate: &ImportCandidate, providers: &[ProviderView]) -> Option<String> {
    if let Some(host) = &candidate.host {
        if let Some(of) = providers.iter().find(|it| it.hosts.contains(host)) {
            let (name, id) = (&of.name, &of.id);
            return Some(format!("it is not a complete key of {name}: keyward connect {id}"));
        }
        let option = candidate.option.as_deref().unwrap_or("--bearer");
        return Some(format!("no provider has this host: keyward connect https://{host} {option}"));
    }
    let name = candidate.variable.as_ref()?;
    if let Some(database) = database(candidate.value.text()) {
        return Some(format!(
            "programs connect to a listener instead of a database: keyward connection add {database}"
        ));
    }
    let reads = |it: &&ProviderView| {
        let mut fields = it.auth.iter().flat_map(|auth| &auth.fields);
        let begins = |field| begins(field, candidate.value.text()).map_or(0, str::len);
        fields.any(|field| field.env.contains(name) || begins(field) >= TELLING_CHARS_MIN)
    };
    let of: Vec<_> = providers.iter().filter(reads).collect();
    match of.first() {
        Some(provider) if provider.protocol.is_some() => Some(format!(
            "programs connect to a listener instead: keyward connection add {}",
            provider.id
        )),
        Some(_) if of.len() > 1 => {
            let ids: Vec<_> = of.iter().map(|it| it.id.as_str()).collect();
            Some(format!("it may be of {}: keyward connect PROVIDER", ids.join(", ")))
        }
        Some(provider) => Some(format!(
            "it is not a complete key of {}, or more is needed: keyward connect {}",
            provider.name, provider.id
        )),
        None => {
            let upper = name.to_ascii_uppercase();
            let words = ["KEY", "TOKEN", "SECRET", "PASSWORD"];
            let is_secret = upper.split('_').any(|part| words.contains(&part));
            is_secret.then(|| "no provider matches its name or its prefix".to_owned())
        }
    }
}

/// The provider of a database whose URL has a password.
fn database(value: &str) -> Option<&'static str> {
    let (scheme, rest) = value.split_once("://")?;
    let (login, _) = rest.split_once('@')?;
    let provider = match scheme {
        "postgres" | "postgresql" => "postgres",
        "mysql" | "mariadb" => "mysql",
        "redis" | "rediss" => "redis",
        "mongodb" | "mongodb+srv" => "mongodb",
        other if bolt::names("scheme").any(|(own, _)| own == other) => {
            bolt::value("provider", "id")
        }
        _ => return None,
    };
    login.contains(':').then_some(provider)
}

fn account(
    provider: &ProviderView,
    auth: &AuthView,
    group: &str,
    fields: BTreeMap<String, (usize, Typed)>,
) -> FoundAccount {
    let is_secret = |name: &str| auth.fields.iter().any(|it| it.name == name && it.secret);
    let fields = fields.into_iter().map(|(name, (at, value))| {
        let field = FoundField { value, is_secret: is_secret(&name), at: vec![at] };
        (name, field)
    });
    FoundAccount {
        provider: provider.id.clone(),
        title: provider.name.clone(),
        auth: auth.id.clone(),
        group: group.to_owned(),
        fields: fields.collect(),
    }
}

/// The only field that must be given, if it is secret.
fn only_secret(auth: &AuthView) -> Option<&FieldView> {
    let mut required = auth.fields.iter().filter(|field| !field.optional);
    required.next().filter(|field| field.secret && required.next().is_none())
}

/// The longest known beginning of the value.
fn begins<'a>(field: &'a FieldView, value: &str) -> Option<&'a str> {
    let known = field.prefixes.iter().map(String::as_str);
    let fitting =
        known.filter(|it| value.starts_with(it) && value.len() >= it.len() + BODY_CHARS_MIN);
    fitting.max_by_key(|prefix| prefix.len())
}

/// Whether nothing is known against it. Where there is a pattern, the prefixes are examples, and the gateway checks.
fn may_be(field: &FieldView, value: &str) -> bool {
    field.prefixes.is_empty() || field.pattern.is_some() || begins(field, value).is_some()
}
