//! `keyward connection`: accounts at providers. Their secrets are stored and never shown.

mod add;
mod consents;
pub(in crate::cli) mod description;
pub(in crate::cli) mod form;
mod import;
pub(in crate::cli) mod list;
pub(super) mod options;
mod remove;
pub(in crate::cli) mod request;
pub(in crate::cli) mod rotate;
pub(in crate::cli) mod secrets;
mod set;
pub(in crate::cli) mod settings;
pub(in crate::cli) mod shape;
pub(super) mod state;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::options::Options;
use self::state::path;
use self::state::{state, state_after_is};
use super::client::Client;
use super::derive::{AddingSettings, MemberArgs};
use super::failure::Failure;
use super::ownership::{NewOwner, VisibilityArgs, owner_of};
use super::resource::Named;
use super::settings::Global;
use super::terminal::confirm::Removal;
use super::terminal::table::{fields, moment, pairs};
use super::{consent, output, plugin};
use keyward_api::wire::{self, ConnectionCreated, Failures, List, TokenStatus};
use keyward_model::{Connection, FieldReference, FileShown, Shown};
use keyward_rules::provider::scope_words::worded_scopes;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// add one; asks for what is missing, secrets without echo
    #[command(after_help = "examples:\n  keyward connection add github --name work\n  \
        keyward connection add openai --secret-stdin api_key < key.txt\n  \
        keyward connection add shopify --var shop=acme --secret-file api_key=token.txt\n  \
        keyward connection add google --app work-google\n  \
        keyward connection add https://mcp.example.com/mcp --name tools")]
    Add(Box<Add>),
    /// list them
    List(list::ConnectionSearch),
    /// show one, without its secrets
    Show(Named),
    /// change its description, and how its requests are sent
    #[command(after_help = "examples:\n  keyward connection set work --timeout 30s --retry 3\n  \
        keyward connection set work --rate-limit 100/min --concurrency 10\n  \
        keyward connection set work --header 'X-Env: prod' --clear user-agent")]
    Set(Box<set::Set>),
    /// test at the provider whether it accepts the credential
    #[command(
        after_help = "The provider's own test request is sent as agents' requests are. Only the status\n\
        of its answer is shown.\n\n\
        exit code: 0 when the provider accepts the credential, else 1"
    )]
    Test(Named),
    /// send one request with its credential, and print the answer
    #[command(
        after_help = "The request is sent as agents' requests are; rules that name no agents apply to\n\
        it.\n\n\
        examples:\n  \
        keyward connection request work /user\n  \
        keyward connection request work /repos/o/r/issues -b '{\"title\":\"x\"}'\n\n\
        exit code: 1 when the provider answers 400 or more"
    )]
    Request(Box<request::ConnectionRequest>),
    /// show its requests, the agents that sent them, and the state of its tokens
    #[command(after_help = list::USAGE_HELP)]
    Usage(Named),
    /// refuse its use with 424, and end requests in progress
    Pause(Named),
    /// end the pause
    Resume(Named),
    /// fetch a newer token now, of a connection that has one
    Refresh(Named),
    /// change its owner, or who may use it
    #[command(after_help = "examples:\n  keyward connection assign work --to ann --private\n  \
        keyward connection assign work --shared")]
    Assign {
        #[command(flatten)]
        to: NewOwner,
        #[command(flatten)]
        seen: VisibilityArgs,
    },
    /// consent again; the old access works until the new one does
    Reconnect(Box<Reconnect>),
    /// list consents that are open, or cancel one
    #[command(after_help = consents::EXAMPLES)]
    Consents(consents::Consents),
    /// replace its secret: tested first, and without a failed request
    #[command(after_help = rotate::EXAMPLES)]
    Rotate(Box<rotate::Rotate>),
    /// remove it with its secrets and bindings; open streams end
    Remove {
        #[command(flatten)]
        removal: Removal,
        /// also revoke the access at the provider
        #[arg(long)]
        revoke: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Reconnect {
    /// name or id
    name: String,
    /// request a scope in addition to the existing ones; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// register a new client first, where Keyward registered the present one
    #[arg(long)]
    register_again: bool,
    #[command(flatten)]
    how: consent::ConsentOptions,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// a provider's id, see `keyward provider list`; or the URL of an MCP server
    #[arg(required_unless_present = "resume")]
    provider: Option<String>,
    /// continue with a draft: with its secret, or another one
    #[arg(long, value_name = "NAME", conflicts_with = "provider")]
    resume: Option<String>,
    /// do not test the secret at the provider
    #[arg(long)]
    no_test: bool,
    #[command(flatten)]
    options: Options,
    /// a field whose value is kept in a secret source; may be given several times
    #[arg(long = "secret-from", value_name = "FIELD=SOURCE:REF", value_parser = secrets::reference_argument)]
    references: Vec<(String, FieldReference)>,
    /// read the tokens from a file that another tool wrote
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret_stdin", "secret_files", "secret_envs"])]
    import: Option<PathBuf>,
    #[command(flatten)]
    how: consent::ConsentOptions,
    #[command(flatten)]
    settings: MemberArgs<Connection, AddingSettings>,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = match &self {
            Self::Add(_) => Client::open_to_add(global).await?,
            _ => Client::open(global).await?,
        };
        match self {
            Self::Add(add) => Box::pin(add.run(global, &client)).await,
            Self::Set(set) => set.run(global, &client).await,
            Self::Test(Named { name }) => request::run_test(global, &client, &name).await,
            Self::Request(ask) => ask.run(global, &client).await,
            Self::Rotate(rotate) => rotate.run(global, &client).await,
            Self::Refresh(Named { name }) => rotate::refresh(global, &client, &name).await,
            Self::Usage(Named { name }) => list::show_usage(global, &client, &name).await,
            Self::Pause(Named { name }) => set_paused(global, &client, &name, "pause").await,
            Self::Resume(Named { name }) => set_paused(global, &client, &name, "resume").await,
            Self::List(search) => {
                let all = client.list("/api/v1/connections", &search.filters()).await?;
                let shown = |all: &List<_>| list::shown(global, &all.items, search.is_all());
                output::show(global.json, &all, shown)?;
                if client.is_private() && search.is_all() {
                    let names = all.items.iter().map(|known: &Shown<Connection>| &*known.name);
                    state::declared_note(global, &names.collect::<Vec<_>>())?;
                }
                Ok(())
            }
            Self::Show(Named { name }) => {
                let connection: Shown<Connection> = client.get(&path(&name)).await?;
                let proxy = global.proxy_at(&client).await.to_string();
                let owner = owner_of(&client, connection.facts.owner.as_ref()).await;
                output::show(global.json, &connection, |it| {
                    show(it, &proxy, &owner) + &hint(it, global)
                })
            }
            Self::Assign { to, seen } => {
                to.run::<Shown<Connection>>(global, &client, "connection", &seen).await.map(drop)
            }
            Self::Reconnect(reconnect) => reconnect.run(global, &client).await,
            Self::Consents(consents) => consents.run(global, &client).await,
            Self::Remove { removal, revoke } => remove::run(global, &client, removal, revoke).await,
        }
    }
}

impl Reconnect {
    async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let at = format!("{}/reconnect", path(&self.name));
        let (device, register) = (self.how.device, self.register_again);
        let ask = wire::Reconnect { device, scopes: self.scopes, register };
        let made: ConnectionCreated = client.post(&at, &ask).await?;
        let ends = consent::follow(global, client, &made, &self.how).await?;
        let now: Shown<Connection> = client.get(&path(made.connection.id.as_str())).await?;
        output::show(global.json, &now, |now| {
            format!("connection {} is connected again\n{}", now.name, connected(now, ends))
        })
    }
}

/// What a consent brought, where it is worth saying.
fn connected(now: &Shown<Connection>, ends: bool) -> String {
    let mut text = String::new();
    if let Some(account) = &now.facts.account {
        text += &format!("account: {account}\n");
    }
    if ends {
        text += "note: the provider issued no refresh token: the access will end\n";
    }
    text
}

/// `verb` is that of the API.
async fn set_paused(
    global: &Global,
    client: &Client,
    name: &str,
    verb: &str,
) -> Result<(), Failure> {
    let at = format!("{}/{verb}", path(name));
    let now: Shown<Connection> = client.post(&at, &serde_json::json!({})).await?;
    plugin::summary::note_states(client, &now.id).await?;
    output::show(global.json, &now, |now| {
        format!("connection {} is {}\n", now.name, state_after_is(&now.facts.state))
    })
}

/// The base URL that replaces the connection's host in a program that cannot use a proxy.
pub(in crate::cli) fn base_url(proxy: &str, name: &str, host: Option<&str>) -> String {
    // A listener with TLS names its scheme.
    let scheme = if proxy.starts_with("https://") { "" } else { "http://" };
    match host {
        None => format!("{scheme}{proxy}/to/{name}"),
        Some(host) => format!("{scheme}{proxy}/to/{name}@{host}"),
    }
}

/// The host that a base URL without one means.
pub(in crate::cli) fn default_host(connection: &Shown<Connection>) -> Option<&str> {
    connection.facts.hosts.iter().map(String::as_str).find(|host| !host.starts_with("*."))
}

fn show(connection: &Shown<Connection>, proxy: &str, owner: &str) -> String {
    let name = &connection.name;
    let (key, file) = (connection.facts.ssh_key.as_ref(), connection.facts.file.as_ref());
    let based = match default_host(connection) {
        _ if connection.facts.database.is_some() || key.is_some() || file.is_some() => {
            String::new()
        }
        Some(home) => format!("{} for https://{home}", base_url(proxy, name, None)),
        None => base_url(proxy, name, Some("HOST")),
    };
    let mut rows = vec![
        ("name", connection.name.clone()),
        ("id", connection.id.to_string()),
        ("provider", connection.provider.clone()),
        ("auth", connection.method().to_owned()),
        ("app", connection.app.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("state", state(&connection.facts.state)),
        ("provider says", connection.facts.said.clone().unwrap_or_default()),
        ("token used until", connection.facts.usable_until.map(moment).unwrap_or_default()),
        ("token", token(connection.facts.token.as_ref())),
        ("environment", connection.environment.clone().unwrap_or_default()),
        ("owner", owner.to_owned()),
        (
            "visibility",
            connection.facts.owner.as_ref().map_or("", |_| whose(connection)).to_owned(),
        ),
        ("variables", pairs(&connection.variables)),
        ("hosts", connection.facts.hosts.join(", ")),
        ("database", connection.facts.database.clone().unwrap_or_default()),
        ("public key", key.map(|key| key.public_key.clone()).unwrap_or_default()),
        ("accounts", key.map(|key| key.users.join(", ")).unwrap_or_default()),
        ("servers", key.map(|key| key.servers.join(", ")).unwrap_or_default()),
        ("file", file.map(|file| file.path.clone()).unwrap_or_default()),
        ("access", file.map(|file| access(file).to_owned()).unwrap_or_default()),
        ("account", connection.facts.account.clone().unwrap_or_default()),
        ("granted", worded_scopes(&connection.facts.granted, &connection.facts.scope_words)),
        ("reconnect before", connection.facts.ends.map(moment).unwrap_or_default()),
    ];
    rows.extend([("warnings", connection.facts.warnings.join("; "))]);
    rows.extend(secrets::reference_rows(connection));
    rows.extend(description::rows(connection));
    rows.extend([
        ("base URL", based),
        ("created", moment(connection.created)),
        ("updated", connection.updated.map(moment).unwrap_or_default()),
    ]);
    fields(&rows) + &settings::shown(&connection.settings)
}

/// How far programs may use a file, and what enforces it.
fn access(file: &FileShown) -> &'static str {
    match (file.read_only, file.advisory) {
        (true, true) => "read-only, advisory: the rights of the agent's user on the file decide",
        (true, false) => "read-only",
        (false, true) => "read and write, as far as the rights of the agent's user allow",
        (false, false) => "read and write",
    }
}

fn whose(connection: &Shown<Connection>) -> &'static str {
    if connection.facts.visibility.is_shared() { "shared" } else { "private" }
}

/// `good until …`, `refreshes fail since …`; nothing for what has none.
pub(in crate::cli) fn token(token: Option<&TokenStatus>) -> String {
    let Some(token) = token else { return String::new() };
    let ends = match token.expires {
        Some(ends) => format!("good until {}", moment(ends)),
        None => "good until it is rejected".to_owned(),
    };
    let ends = match token.keep_alive {
        Some(at) => format!("{ends}; refreshed by {}, used or not", moment(at)),
        None => ends,
    };
    let ends = match token.awaited {
        Some(since) => {
            format!("{ends}; the answer to a refresh is awaited since {}", moment(since))
        }
        None => ends,
    };
    let ends = match token.client_paused {
        Some(until) => {
            let until = moment(until);
            format!(
                "{ends}; the authorization server throttles the client: no refresh before {until}"
            )
        }
        None => ends,
    };
    let ends = match &token.account_host {
        Some(host) => {
            format!("{ends}; the provider names {host} for this account: set its variables")
        }
        None => ends,
    };
    let ends = match &token.asked {
        Some(asked) => format!("{ends}; the provider asks for more: {asked}"),
        None => ends,
    };
    match &token.failing {
        None => ends,
        Some(failing) => {
            let since = moment(failing.since);
            let look = if failing.alert { "; look at the authorization server" } else { "" };
            format!("{ends}; refreshes fail since {since}: {}{look}", why(failing))
        }
    }
}

/// The server's code or the cause in a word, and what happened.
pub(in crate::cli) fn why(failing: &Failures) -> String {
    let word = failing.code.as_deref().or(failing.cause.as_deref());
    let what = match (word, &failing.message) {
        (Some(word), Some(message)) if !message.contains(word) => format!("{word}: {message}"),
        (_, Some(message)) => message.clone(),
        (word, None) => word.unwrap_or("no answer").to_owned(),
    };
    what + &said(failing.said.as_deref())
}

/// What the provider says, as the end of a sentence.
pub(in crate::cli) fn said(text: Option<&str>) -> String {
    text.map(|text| format!(", and says: {text}")).unwrap_or_default()
}

/// The hint line, if an action is needed.
fn hint(connection: &Shown<Connection>, global: &Global) -> String {
    let remedy = connection.facts.remedy.as_deref().map(|text| global.remedy(text));
    let failing = connection.facts.token.as_ref().and_then(|token| token.failing.as_ref());
    let told = match failing.filter(|_| connection.facts.state.is_usable()) {
        Some(failing) => Some(refresh_remedy(failing, remedy.as_deref().unwrap_or_default())),
        None => remedy,
    };
    told.map(|text| format!("hint: {text}\n")).unwrap_or_default()
}

/// The remedy for failing refreshes: first for the cause, if it is known.
pub(in crate::cli) fn refresh_remedy(failing: &Failures, remedy: &str) -> String {
    let again = format!("it is retried automatically; {remedy}");
    match (&failing.hint, failing.alert) {
        (Some(of_cause), _) => format!("{of_cause}; {again}"),
        (None, true) => format!("look at the authorization server: this lasts too long; {again}"),
        (None, false) => again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::terminal::table::TableLayout;
    use keyward_state::directory::{BrokenReason, ConnectionState};

    fn connection() -> Shown<Connection> {
        serde_json::from_value(serde_json::json!({
            "id": "con_1", "name": "work", "provider": "github", "auth": "pat",
            "environment": null, "variables": {}, "hosts": ["api.github.com", "github.com"],
            "state": "broken", "reason": "revoked", "detail": "bad_token", "managed_by": "store",
            "created": "2025-01-02T03:04:05Z", "updated": "2025-01-02T03:04:05Z",
        }))
        .unwrap()
    }

    #[test]
    fn states_are_shown_in_the_words_of_the_api() {
        let broken = ConnectionState::Broken { reason: BrokenReason::Expired, detail: None };
        assert_eq!(state(&broken), "broken: expired");
        assert_eq!(state(&ConnectionState::Active), "active");
        assert_eq!(state(&connection().facts.state), "broken: revoked (bad_token)");
    }

    #[test]
    fn a_connection_is_shown_without_its_fields() {
        insta::assert_snapshot!(show(&connection(), "127.0.0.1:8080", ""));
    }

    #[test]
    fn a_base_url_contains_the_word_host_if_all_hosts_are_wildcards() {
        let mut many = connection();
        many.facts.hosts = vec!["*.twilio.com".to_owned()];
        let shown = show(&many, "127.0.0.1:8080", "");
        assert!(shown.contains("http://127.0.0.1:8080/to/work@HOST\n"), "{shown}");
    }

    #[test]
    fn connections_are_listed_in_a_table() {
        insta::assert_snapshot!(list::table(&[connection()], true, &TableLayout::FULL));
    }

    #[test]
    fn failing_refreshes_are_shown_in_the_list_and_in_the_details() {
        let token = serde_json::json!({
            "generation": 2, "expires": null, "refreshed": null,
            "failing": { "since": "2025-01-02T03:04:05Z", "count": 7, "code": "http_503",
                         "next_try": "2025-01-03T04:04:05Z", "alert": true },
        });
        let mut failing = connection();
        failing.facts.state = ConnectionState::Active;
        failing.facts.token = Some(serde_json::from_value(token).unwrap());
        let listed = list::table(std::slice::from_ref(&failing), true, &TableLayout::FULL);
        assert!(listed.contains("active, refreshes fail since 2025-01-02"), "{listed}");
        let shown = show(&failing, "127.0.0.1:8080", "");
        assert!(shown.contains("http_503; look at the authorization server"), "{shown}");
    }

    /// oauth 10.4
    #[test]
    fn a_pause_of_the_whole_client_is_shown_with_its_end() {
        let paused = serde_json::json!({
            "generation": 2, "expires": null, "refreshed": null, "failing": null,
            "client_paused": "2025-01-03T04:04:05Z",
        });
        let shown = token(Some(&serde_json::from_value(paused).unwrap()));
        assert!(shown.contains("throttles the client: no refresh before 2025-01-03"), "{shown}");
    }

    /// oauth 9.cause
    #[test]
    fn a_refresh_that_cannot_reach_its_server_shows_the_cause_and_one_remedy() {
        let token = serde_json::json!({
            "generation": 2, "expires": null, "refreshed": null, "failing": {
                "since": "2025-01-02T03:04:05Z", "count": 7, "code": null,
                "cause": "tls_unknown_issuer",
                "message": "the certificate of auth.acme.test is from an unknown issuer",
                "hint": "name that root certificate in `upstream.trust`",
                "next_try": "2025-01-03T04:04:05Z" },
        });
        let token = Some(serde_json::from_value(token).unwrap());
        let remedy = Some("refresh it: `keyward connection refresh work`".to_owned());
        let mut failing = connection();
        failing.facts.state = ConnectionState::Active;
        (failing.facts.token, failing.facts.remedy) = (token, remedy);
        let shown = show(&failing, "127.0.0.1:8080", "");
        assert!(shown.contains("tls_unknown_issuer: the certificate of auth.acme.test"), "{shown}");
        assert!(!shown.contains("remedy") && !shown.contains("in `upstream.trust`"), "{shown}");
        assert_eq!(
            hint(&failing, &Global::default()),
            "hint: name that root certificate in `upstream.trust`; it is retried automatically; \
             refresh it: `keyward connection refresh work`\n",
            "one remedy, with the cause first"
        );
    }

    /// It said `no answer` before the message.
    #[test]
    fn an_answer_without_a_usable_token_is_not_shown_as_no_answer() {
        let failing = |message: Option<&str>| {
            let failing = serde_json::json!({
                "since": "2025-01-02T03:04:05Z", "count": 1, "code": null, "message": message,
                "next_try": "2025-01-03T04:04:05Z",
            });
            why(&serde_json::from_value(failing).unwrap())
        };
        let unusable = "the answer holds no access token";
        assert_eq!(failing(Some(unusable)), unusable);
        assert_eq!(failing(None), "no answer");
    }

    #[test]
    fn a_secret_file_needs_a_field_and_a_path() {
        for bad in ["token", "=path", "token="] {
            assert!(secrets::file(bad).is_err(), "{bad}");
        }
    }
}
