//! Explains an SSH login, `ssh://USER@HOST[:PORT]`: which key of the agent would sign it, and why the others would not.

use http::Uri;

use super::question::{as_agent, in_session};
use super::stop;
use crate::context::Context;
use crate::error::ApiError;
use crate::resource::found;
use crate::state::Admin;
use crate::wire::{ErrorView, ExplainRequest, ExplainedConnection, Explanation};
use keyward_base::agent::Agent;
use keyward_base::codes::Code;
use keyward_base::host::{Scheme, Target};
use keyward_rules::policy::explain::ActionKind;
use keyward_rules::policy::{Account, Policy};

/// The scheme of a login.
const SCHEME: &str = "ssh://";

/// The port of a login without one.
const PORT: u16 = 22;

/// A login at a server.
struct AskedLogin {
    user: String,
    server: Target,
}

/// The explanation of a login; `None`: the question is about a request.
///
/// # Errors
/// 422 if the URL is no login, 404 for another agent or session.
pub(super) async fn explained(
    context: &Context,
    ask: &ExplainRequest,
) -> Result<Option<Explanation>, ApiError> {
    if !ask.url.starts_with(SCHEME) {
        return Ok(None);
    }
    let login = AskedLogin::parse(&ask.url)?;
    let admin = &context.admin;
    let record = found::<keyward_model::Agent>(context, &ask.agent)?;
    let agent = match &ask.session {
        None => as_agent(&record),
        Some(session) => in_session(admin, &record, session)?,
    };
    let policy = admin.deps().rulebook.current();
    let keys: Vec<Account> = policy.ssh_keys(&agent).into_iter().cloned().collect();
    let (mut used, mut refused) = (None, Vec::new());
    for key in &keys {
        match signs(admin, &policy, &agent, key, &login).await {
            Ok(rule) => {
                used = Some((key, rule));
                break;
            }
            Err(why) => refused.push(why),
        }
    }
    let inactive = admin.deps().directory.view().is_inactive(&record);
    let inactive = inactive.then(|| stop::agent_paused(&record));
    if keys.is_empty() {
        let hint = format!("`keyward connect ssh --agent {}` adds one", record.name);
        let message = "the agent may use no SSH key".to_owned();
        refused.push(stop::view(Code::ConnectionMissing, message, Some(&hint)));
    }
    let stopped_by = match inactive {
        Some(inactive) => vec![inactive],
        None if used.is_some() => Vec::new(),
        None => refused,
    };
    let AskedLogin { user, server } = &login;
    let (key, rule) = used.unzip();
    Ok(Some(Explanation {
        agent: record.name.clone(),
        method: "SIGN".to_owned(),
        target: format!("{SCHEME}{user}@{}:{}", server.host(), server.port()),
        path: String::new(),
        path_sent: None,
        allowed: stopped_by.is_empty(),
        action: if key.is_some() { ActionKind::Inject } else { ActionKind::Deny },
        rule,
        host: None,
        connection: key.map(|key| connection(context, key)),
        settings: None,
        placements: Vec::new(),
        addresses: Vec::new(),
        proxy: None,
        stopped_by,
        considered: Vec::new(),
    }))
}

/// The rule or binding by which the key signs the login.
async fn signs(
    admin: &Admin,
    policy: &Policy,
    agent: &Agent,
    key: &Account,
    AskedLogin { user, server }: &AskedLogin,
) -> Result<String, ErrorView> {
    let refused = |code: Code, why: &str, hint: Option<&str>| {
        stop::view(code, format!("key `{}`: {why}", key.name), hint)
    };
    let identity = admin.deps().vault.refresh().known_ssh_identity(&agent.org, &key.id).await;
    let shown = identity.map_err(|error| refused(Code::ConnectionBroken, &error.to_string(), None));
    let shown = shown?.shown();
    let address = format!("{}:{}", server.host(), server.port());
    if !shown.servers.contains(&address) {
        let why = format!("`known_hosts` has no host key of {address}");
        let hint = "add the line of `ssh-keyscan` to `known_hosts` of the connection";
        return Err(refused(Code::Denied, &why, Some(hint)));
    }
    if !shown.users.contains(user) {
        let why = format!("`{user}` is not one of `users`: {}", shown.users.join(", "));
        return Err(refused(
            Code::Denied,
            &why,
            Some("add the account to `users` of the connection"),
        ));
    }
    match policy.permit_ssh(agent, &key.name, &[server]) {
        Ok(permit) => Ok(permit.rule().to_string()),
        Err(reason) => {
            let text = reason.text_for(agent);
            Err(refused(text.code, &text.message, text.hint.as_deref()))
        }
    }
}

fn connection(context: &Context, key: &Account) -> ExplainedConnection {
    let view = context.view();
    let record = view.connection(context.caller.org(), &key.id);
    ExplainedConnection {
        id: key.id.clone(),
        name: key.name.to_string(),
        provider: key.provider.to_string(),
        default_over: Vec::new(),
        app: None,
        token: None,
        ends: record.and_then(|record| record.facts.ends),
    }
}

impl AskedLogin {
    fn parse(url: &str) -> Result<Self, ApiError> {
        let refused = |message: &str| ApiError::field("url", message);
        let uri: Uri = url.parse().map_err(|_| refused("is not a URL"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let form = "is not the URL of a login: write ssh://USER@HOST or ssh://USER@HOST:PORT";
        let (user, place) = authority.rsplit_once('@').ok_or_else(|| refused(form))?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if user.is_empty() || user.contains(':') || !is_bare {
            return Err(refused(form));
        }
        let has_port = uri.authority().is_some_and(|authority| authority.port().is_some());
        let place = if has_port { place.to_owned() } else { format!("{place}:{PORT}") };
        let server = Target::parse(Scheme::Https, &place);
        let server = server.map_err(|error| ApiError::field("url", error.to_string()))?;
        Ok(Self { user: user.to_owned(), server })
    }
}
