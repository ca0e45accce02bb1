//! What the API shows of a connection: its facts, its hosts, and what it needs from people.

use super::state::Admin;
use keyward_model::{Connection, ConnectionShown, Shown, SshKeyShown};
use keyward_rules::provider::{AuthKind, AuthMethod, Catalogue, Instance};
use keyward_state::directory::{
    ConnectionRecord, Remedies, RemedyCause, ReplacementDue, ReplacementReason,
};

/// The view with data from the vault: the state of the token, scopes, references and the SSH key.
pub(super) async fn whole_view(admin: &Admin, connection: &ConnectionRecord) -> Shown<Connection> {
    let vault = &admin.deps().vault;
    let token = vault.status(connection).await;
    let mut view = view_with_warnings(admin, connection).await;
    scopes(admin, connection, &mut view.facts);
    if view.facts.remedy.is_none() && token.as_ref().is_some_and(|it| it.failing.is_some()) {
        view.facts.remedy = vault.remedy(connection, RemedyCause::Token);
    }
    view.facts.token = token;
    let references = vault.reference_status(connection).await;
    view.facts.fetched = references.fetched;
    view.facts.fetch_failing = references.failing;
    view.facts.ssh_key = ssh_key(admin, connection).await;
    view.facts.last_used = admin.deps().metrics.usage.last_used(&connection.id);
    view
}

/// The view after a secret was stored.
pub(super) async fn view_with_warnings(
    admin: &Admin,
    connection: &ConnectionRecord,
) -> Shown<Connection> {
    let mut view = view(admin, connection);
    view.facts.warnings = admin.deps().vault.secret_warnings(connection).await;
    view
}

pub(super) fn view(admin: &Admin, connection: &ConnectionRecord) -> Shown<Connection> {
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
pub(super) fn scopes(admin: &Admin, connection: &ConnectionRecord, shown: &mut ConnectionShown) {
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
pub(super) fn not_granted(requested: &[String], granted: &[String]) -> Vec<String> {
    let is_listed = |scope: &String| {
        granted.iter().any(|it| it == scope || it.strip_prefix(GOOGLE_USERINFO) == Some(scope))
    };
    let is_missing = |scope: &&String| {
        let is_unlisted = *scope == "offline_access" || scope.ends_with("/.default");
        !is_unlisted && !granted.is_empty() && !is_listed(scope)
    };
    requested.iter().filter(is_missing).cloned().collect()
}

/// The answers of Google have this before `email` and `profile`
/// (<https://developers.google.com/identity/protocols/oauth2/scopes>).
const GOOGLE_USERINFO: &str = "https://www.googleapis.com/auth/userinfo.";

/// The hosts that the connection owns; none when its provider left the catalogue.
pub(super) fn hosts(catalogue: &Catalogue, connection: &ConnectionRecord) -> Vec<String> {
    let instance = instance(catalogue, connection);
    instance.into_iter().flat_map(|i| i.hosts).map(|host| host.to_string()).collect()
}

/// Its auth method; `None` when its provider left the catalogue.
fn auth<'a>(catalogue: &'a Catalogue, connection: &ConnectionRecord) -> Option<&'a AuthMethod> {
    catalogue.get(&connection.provider)?.auth(connection.auth.as_deref())
}

/// Its provider and method with its variables; `None` when its provider left the catalogue.
pub(super) fn instance(catalogue: &Catalogue, connection: &ConnectionRecord) -> Option<Instance> {
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
    Some(vault.known_ssh_identity(&connection.org, &connection.id).await.ok()?.shown())
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
