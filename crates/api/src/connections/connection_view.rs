//! What the API shows of a connection: its facts, its hosts, and what it needs from people; and [`Search`], the
//! query of a list of connections.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::file::ConnectionFile;
use crate::page::{Page, SearchText};
use crate::state::Admin;
use keyward_model::{Connection, ConnectionShown, Shown, SshKeyShown};
use keyward_rules::provider::{AuthKind, AuthMethod, Catalogue, Instance};
use keyward_state::directory::{
    ConnectionRecord, ConnectionState, Remedies, RemedyCause, ReplacementDue, ReplacementReason,
};

/// The view with data from the vault: the state of the token, scopes, references, the file, and what keys of service
/// accounts and SSH are.
pub(crate) async fn whole_view(admin: &Admin, connection: &ConnectionRecord) -> Shown<Connection> {
    let vault = &admin.deps().vault;
    let token = vault.refresh().status(connection).await;
    let mut view = view_with_warnings(admin, connection).await;
    scopes(admin, connection, &mut view.facts);
    if view.facts.remedy.is_none() && token.as_ref().is_some_and(|it| it.failing.is_some()) {
        view.facts.remedy = vault.remedy(connection, RemedyCause::Token);
    }
    view.facts.token = token;
    let references = vault.refresh().reference_status(connection).await;
    view.facts.fetched = references.fetched;
    view.facts.fetch_failing = references.failing;
    view.facts.ssh_key = ssh_key(admin, connection).await;
    view.facts.file = ConnectionFile::of(admin, connection).await.map(ConnectionFile::shown);
    if view.facts.kind == Some(AuthKind::ServiceAccount) && view.facts.account.is_none() {
        view.facts.account = vault.grants().account(connection).await;
    }
    view.facts.last_used = admin.deps().metrics.usage.last_used(&connection.id);
    view
}

/// The view after a secret was stored.
pub(crate) async fn view_with_warnings(
    admin: &Admin,
    connection: &ConnectionRecord,
) -> Shown<Connection> {
    let mut view = view(admin, connection);
    view.facts.warnings = admin.deps().vault.refresh().secret_warnings(connection).await;
    view
}

pub(crate) fn view(admin: &Admin, connection: &ConnectionRecord) -> Shown<Connection> {
    let (catalogue, directory) =
        (admin.deps().vault.catalogue(&connection.org), admin.deps().directory.view());
    let remedies = Remedies::in_view(connection, &catalogue, &directory);
    let soon = || remedies.remedy(RemedyCause::Credential).filter(|_| ends_soon(admin, connection));
    let facts = connection.facts.clone();
    connection.shown(ConnectionShown {
        held: connection.facts.held,
        state: facts.state,
        said: facts.said,
        usable_until: facts.usable_until,
        owner: facts.owner,
        visibility: facts.visibility,
        kind: auth(&catalogue, connection).map(|auth| auth.kind),
        hosts: hosts(&catalogue, connection),
        database: instance(&catalogue, connection)
            .and_then(|instance| Some(instance.database?.url())),
        git_hosts: git_hosts(&catalogue, connection),
        granted: facts.granted,
        account: facts.account.or(facts.whose),
        ends: facts.ends,
        rotated: facts.rotated,
        rotation: facts.rotation,
        due: connection.due(),
        remedy: remedies.remedy(RemedyCause::Use).or_else(soon),
        renewal: Some(remedies.renewal()),
        ..ConnectionShown::default()
    })
}

/// Whether its secret, its consent or the registration of its client expires within the time of the first
/// reminder.
fn ends_soon(admin: &Admin, connection: &ConnectionRecord) -> bool {
    let (now, directory) = (admin.deps().clock.now(), admin.deps().directory.view());
    let app = connection.app_id().and_then(|id| directory.app(&connection.org, id));
    let registered = app.and_then(|app| app.facts.registered.as_ref()?.expires);
    let consented = connection.facts.ends.into_iter().chain(registered);
    let consented = consented.map(|at| ReplacementDue { at, why: ReplacementReason::Expires });
    connection.due().into_iter().chain(consented).any(|due| due.is_near(now))
}

/// Sets the requested scopes and those that were not granted; none for kinds without scopes.
pub(crate) fn scopes(admin: &Admin, connection: &ConnectionRecord, shown: &mut ConnectionShown) {
    let (catalogue, view) =
        (admin.deps().vault.catalogue(&connection.org), admin.deps().directory.view());
    let provider = catalogue.get(&connection.provider);
    let auth = provider.and_then(|provider| provider.auth(connection.auth.as_deref()));
    let app = connection.app_id().and_then(|app| view.app(&connection.org, app));

    let oauth = auth.and_then(|auth| auth.oauth.as_deref());
    let requested = match (connection.scopes.is_empty(), oauth) {
        (false, _) => connection.scopes.clone(),
        (true, Some(oauth)) => {
            app.map_or_else(|| oauth.clone(), |app| app.override_oauth(oauth)).scopes
        }
        (true, None) => Vec::new(),
    };
    let granted = &connection.facts.granted;
    shown.missing = not_granted(&requested, granted);
    let all = requested.iter().chain(granted);
    shown.scope_words = provider.map(|provider| provider.words_for(all)).unwrap_or_default();
    shown.requested = requested;
    shown.inherited = app.map(|app| app.settings.requests.clone()).unwrap_or_default();
}

/// The scopes that were not granted; none if the provider does not report granted scopes. Answers need not list
/// `offline_access`, and those of Microsoft never do: a consent without a refresh token is reported by itself. They list
/// the permissions of `.default` instead of it
/// (<https://learn.microsoft.com/entra/identity-platform/scopes-oidc#the-default-scope>).
pub(crate) fn not_granted(requested: &[String], granted: &[String]) -> Vec<String> {
    // A scope of OpenID Connect may be listed as `https://HOST/PATH/userinfo.email`
    // (<https://developers.google.com/identity/protocols/oauth2/scopes>).
    let is_same = |it: &String, scope: &String| {
        it == scope || it.strip_suffix(&**scope).is_some_and(|it| it.ends_with("/userinfo."))
    };
    let is_listed = |scope: &String| granted.iter().any(|it| is_same(it, scope));
    let is_missing = |scope: &&String| {
        let is_unlisted = *scope == "offline_access" || scope.ends_with("/.default");
        !is_unlisted && !granted.is_empty() && !is_listed(scope)
    };
    requested.iter().filter(is_missing).cloned().collect()
}

/// The hosts that the connection owns; none when its provider left the catalogue.
pub(crate) fn hosts(catalogue: &Catalogue, connection: &ConnectionRecord) -> Vec<String> {
    let instance = instance(catalogue, connection);
    instance.into_iter().flat_map(|i| i.hosts).map(|host| host.to_string()).collect()
}

/// Its auth method; `None` when its provider left the catalogue.
fn auth<'a>(catalogue: &'a Catalogue, connection: &ConnectionRecord) -> Option<&'a AuthMethod> {
    catalogue.get(&connection.provider)?.auth(connection.auth.as_deref())
}

/// Its provider and method with its variables; `None` when its provider left the catalogue.
pub(crate) fn instance(catalogue: &Catalogue, connection: &ConnectionRecord) -> Option<Instance> {
    let provider = catalogue.get(&connection.provider)?;
    provider.instantiate(auth(catalogue, connection)?, &connection.host_variables()).ok()
}

/// Those whose repositories git reaches over HTTPS.
fn git_hosts(catalogue: &Catalogue, connection: &ConnectionRecord) -> Vec<String> {
    let provider = catalogue.get(&connection.provider);
    let auth = provider.and_then(|it| Some((it, it.auth(connection.auth.as_deref())?)));
    let found = auth.map(|(it, auth)| it.git_hosts(auth, &connection.host_variables()));
    found.unwrap_or_default().iter().map(ToString::to_string).collect()
}

/// The SSH key of a connection, if it is one that can be opened.
async fn ssh_key(admin: &Admin, connection: &ConnectionRecord) -> Option<SshKeyShown> {
    let vault = &admin.deps().vault;
    let catalogue = vault.catalogue(&connection.org);
    if auth(&catalogue, connection)?.kind != AuthKind::SshKey {
        return None;
    }
    Some(vault.refresh().known_ssh_identity(&connection.org, &connection.id).await.ok()?.shown())
}

/// The query of the list. An absent member excludes nothing.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    /// Part of a name, id, provider, account, description, purpose or tag, any case.
    q: Option<String>,
    /// A provider's id.
    provider: Option<String>,
    /// A state.
    state: Option<StateAsked>,
    /// A tag.
    tag: Option<String>,
    /// An environment; empty: none.
    environment: Option<String>,
    /// The owner's name or id.
    pub(crate) owner: Option<String>,
    /// Those whose secret has to be replaced soon.
    #[serde(default)]
    due: bool,
    #[schemars(range(min = 1, max = 1_000))]
    limit: Option<usize>,
    after: Option<String>,
}

/// A state, without its details.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum StateAsked {
    Draft,
    Testing,
    Active,
    Paused,
    Broken,
}

/// A search, prepared for many connections.
pub(crate) struct Finder<'a> {
    search: &'a Search,
    q: Option<SearchText>,
    now: Timestamp,
}

impl Search {
    /// The page that is asked for.
    pub(crate) fn page(&self) -> Page {
        Page::of(self.q.clone(), self.limit, self.after.clone())
    }

    /// What decides which connections are wanted now. The owner is given by id.
    pub(crate) fn finder(&self, now: Timestamp) -> Finder<'_> {
        Finder { search: self, q: self.q.as_deref().map(SearchText::of), now }
    }
}

impl Finder<'_> {
    pub(crate) fn wants(&self, connection: &ConnectionRecord) -> bool {
        let (search, facts) = (self.search, &connection.facts);
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        is(&search.provider, &connection.provider)
            && is(&search.environment, connection.environment.as_deref().unwrap_or_default())
            && search
                .owner
                .as_deref()
                .is_none_or(|owner| facts.owner.as_ref().is_some_and(|own| own.as_str() == owner))
            && search.tag.as_ref().is_none_or(|tag| connection.tags.contains(tag))
            && search.state.is_none_or(|state| state == StateAsked::of(&facts.state))
            && (!search.due || connection.due().is_some_and(|due| due.is_near(self.now)))
            && self.q.as_ref().is_none_or(|q| finds(q, connection))
    }
}

fn finds(q: &SearchText, connection: &ConnectionRecord) -> bool {
    let (spec, facts) = (&connection.spec, &connection.facts);
    let texts = [&spec.description, &spec.purpose, &facts.account, &facts.whose];
    let texts = texts.into_iter().flatten().chain(&spec.tags).map(String::as_str);
    let own = [connection.name.as_str(), &connection.provider, connection.id.as_str()];
    own.into_iter().chain(texts).any(|text| q.is_in(text))
}

impl StateAsked {
    fn of(state: &ConnectionState) -> Self {
        match state {
            ConnectionState::Draft { .. } => Self::Draft,
            ConnectionState::Testing => Self::Testing,
            ConnectionState::Active => Self::Active,
            ConnectionState::Paused => Self::Paused,
            ConnectionState::Broken { .. } => Self::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_that_the_answer_does_not_list_are_missing_except_those_that_answers_name_otherwise() {
        let google = "openid https://www.googleapis.com/auth/userinfo.email";
        let graph = "https://graph.microsoft.com/.default offline_access";
        let scopes = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (requested, granted, missing) in [
            ("offline_access User.Read Mail.Read", "User.Read", "Mail.Read"),
            ("offline_access User.Read", "User.Read", ""),
            ("repo", "repo gist", ""),
            ("repo", "", ""),
            ("openid email", google, ""),
            ("openid email profile", google, "profile"),
            ("openid mail userinfo.email", google, "mail userinfo.email"),
            (graph, "User.Read", ""),
            ("my.default", "User.Read", "my.default"),
        ] {
            let found = not_granted(&scopes(requested), &scopes(granted));
            assert_eq!(found, scopes(missing), "{requested} of {granted}");
        }
    }
}
