//! Connections: authenticated accounts at providers. The vault seals their credentials, which are not part of this
//! module: everything here may be shown.

mod account;
mod secret;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use keyward_base::id::{AppId, ConnectionId, UserId};
use keyward_base::keys::section;
use keyward_base::rare::Rare;
use keyward_base::settings::Settings;
use keyward_base::time::{format_duration, parse_duration};
use keyward_rules::provider::scope_words::ScopeWords;
use keyward_rules::provider::{AuthKind, OAuth};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::app::AppUrls;
use super::given::Deadline;
use super::reference::Reference;
use super::refusal::{Refusal, failed};
use super::resource::{Kind, Record, Resource};
use super::secret_text::{GivenFields, References};
use super::source::FetchedView;
use super::{given, name};

pub use account::{Account, AccountId, AccountSource, FileShown, SshKeyShown, Visibility};
pub use secret::{
    REMIND_DAYS, Reminder, ReplacementDue, ReplacementReason, Rotation, RotationState,
};
pub use state::{BrokenReason, ConnectionState, Failures, Renewal, TokenStatus};

/// The bound of a description and of a purpose, in characters.
const TEXT_CHARS_MAX: usize = 1024;

/// Tags of one connection.
const TAGS_MAX: usize = 32;

/// Characters of a tag.
const TAG_CHARS_MAX: usize = 64;

/// The hint where a change names the state.
const PAUSED_BY: &str = "`POST /connections/{id}/pause` pauses it, and \
                         `POST /connections/{id}/resume` resumes it";

/// 1 day: a shorter interval would send reminders all the time.
const ROTATE_EVERY_MIN: Duration = Duration::from_secs(86_400);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Connection {}

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct ConnectionSpec {
        /// Unique. 1 to 64 letters, digits or `-_.`.
        #[key("text", required)]
        #[serde(default)]
        pub name: String,
        /// A provider of the catalogue or of `providers`.
        #[key("id of a [provider](providers.md)", required)]
        pub provider: String,
        /// An auth method of the provider; default: its first one.
        #[key("id of a method")]
        #[serde(default)]
        pub auth: Option<String>,
        /// Values of the provider's host variables, such as `shop` of `{shop}.myshopify.com`.
        #[key("map of text to text", "{}")]
        #[serde(default)]
        pub variables: BTreeMap<String, String>,
        /// A label. Agents of another environment cannot use it.
        #[key("text")]
        #[option("env", "ENV", "environment: agents of another one cannot bind it")]
        #[serde(default)]
        pub environment: Option<String>,
        /// The OAuth client that requests its tokens, one of `apps`.
        #[key("name of an app")]
        #[option("app", "NAME", "the app that requests its tokens: see `keyward app list`", only additions)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub app: Option<Reference<AppId>>,
        /// Scopes to request instead of those of the app or the provider.
        #[key("list of text", "[]")]
        #[option("scope", "SCOPE", "a scope to request; may be given several times", only additions)]
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub scopes: Vec<String>,
        /// Fields whose values are kept in a secret source: those of `fields` with `from` and `ref`.
        #[key("map of names to references", "{}")]
        #[serde(default, skip_serializing_if = "References::is_empty")]
        pub references: References,
        /// What it is.
        #[key("text")]
        #[option("description", "TEXT", "what it is", under "Description")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub description: Option<String>,
        /// What it is for.
        #[key("text")]
        #[option("purpose", "TEXT", "what it is for", under "Description")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub purpose: Option<String>,
        /// Labels to search by.
        #[key("list of text", "[]")]
        #[option("tag", "TAG", "to find it by; may be given several times", under "Description")]
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        pub tags: BTreeSet<String>,
        /// When its secret expires; its owner is reminded 14, 7 and 1 days before.
        #[key("day or time")]
        #[option("expires", "TIME", "when its secret ends, such as 90d or 2026-01-31: you are reminded before", under "Description")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub expires: Option<Deadline>,
        /// How long a secret may be used, 1d or more; its owner is reminded in the same way.
        #[key("time")]
        #[option("rotate-every", "TIME", "how long a secret is to be used, such as 90d: you are reminded before", under "Description")]
        #[serde(default, with = "given::days", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        pub rotate_every: Option<Duration>,
        /// How requests with its credential are sent.
        #[key(map of Settings)]
        #[serde(default, deserialize_with = "given::or_default")]
        pub settings: Rare<Settings>,
    }
}

section! {
    /// What a request that adds one gives beside the spec. `fields` are sealed at once and never shown.
    #[derive(Debug, Default, Deserialize, JsonSchema)]
    pub struct ConnectionCreateOptions {
        /// What the auth method requires. A field is text, or `{ from: SOURCE, ref: REFERENCE }` for a value of a secret
        /// source.
        #[key("map of text to text", "{}")]
        #[serde(default)]
        pub fields: GivenFields,
        /// The user that owns it; default: the caller.
        #[key("name or id of a user")]
        #[option("owner", "USER", "the owner, a user; default: the user of KEYWARD_TOKEN, else the organisation")]
        #[serde(default)]
        pub owner: Option<String>,
        /// `private`, the default if it has an owner, or `shared`.
        #[key(one of ["private", "shared"])]
        #[serde(default)]
        pub visibility: Option<Visibility>,
        /// The URL of an MCP server.
        #[key("https URL")]
        #[serde(default)]
        pub url: Option<String>,
        /// Which authorization server of the MCP server to use, if it has several.
        #[key("https URL")]
        #[option("issuer", "URL", "the authorization server to use, if an MCP server has several")]
        #[serde(default)]
        pub issuer: Option<String>,
        /// Request consent by a code on another device, if the provider offers both.
        #[key(one of ["true", "false"], "false")]
        #[serde(default)]
        pub device: bool,
        /// Test the secret at the provider first; a secret that it rejects leaves a draft.
        #[key(one of ["true", "false"], "false")]
        #[serde(default)]
        pub test: bool,
        /// Refuse secrets that look like something else, such as a key of another service or a key in quotes.
        #[key(one of ["true", "false"], "false")]
        #[serde(default)]
        pub check_format: bool,
    }
}

section! {
    /// What a request that changes one gives beside a merge patch of the spec.
    #[derive(Debug, Default, Deserialize, JsonSchema)]
    pub struct ConnectionChangeOptions {
        /// The user that owns it; `null`: the organisation.
        #[key("name or id of a user")]
        #[serde(default, deserialize_with = "given::also_null")]
        pub owner: Option<Option<String>>,
        /// Whose agents may use it.
        #[key(one of ["private", "shared"])]
        #[serde(default)]
        pub visibility: Option<Visibility>,
        /// Test the change at the provider first, and store it only if the test succeeds.
        #[key(one of ["true", "false"], "false")]
        #[serde(default)]
        pub test: bool,
    }
}

/// What the gateway adds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConnectionFacts {
    /// Whether it can be used.
    pub state: ConnectionState,
    /// What the provider says about `state`, if it is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// Until when its access token is used although it is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usable_until: Option<Timestamp>,
    /// Of the configuration file, and paused by a person. A reload of the file does not resume it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// The user that owns it; `None`: the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// Whose agents may use it.
    #[serde(default, skip_serializing_if = "Visibility::is_shared")]
    pub visibility: Visibility,
    /// Host variables from the provider's answers; `variables` take precedence.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub captured: BTreeMap<String, String>,
    /// Endpoints that its issuer named in its metadata (RFC 8414), where none was configured or consented to:
    /// with the issuer that named them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovered: Option<Box<AppUrls>>,
    /// Granted scopes, as far as the provider says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<String>,
    /// The account, as the provider names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// What identifies that account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// When its grant expires: a person has to reconnect before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
    /// When its secret was last replaced; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Timestamp>,
    /// The rotation of its secret, if one is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// The last reminder that its secret is due for rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reminded: Option<Reminder>,
    /// The account of its secret, as the provider answered a test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whose: Option<String>,
}

/// What is shown beside the spec.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ConnectionShown {
    /// `state`, and for `broken` a `reason` and a `detail`, for `draft` a `failure`.
    #[serde(flatten)]
    pub state: ConnectionState,
    /// What the provider says about it, if it is `broken`: cut, without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// Until when requests use its access token although it is `broken`; absent: they are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usable_until: Option<Timestamp>,
    /// Whether it is of the configuration file and was paused by a person, who can resume it; otherwise absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// The user that owns it; absent: the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub owner: Option<UserId>,
    /// Whose agents may use it: its owner's (`private`), or all (`shared`).
    #[serde(default)]
    pub visibility: Visibility,
    /// The kind of its auth method; absent if its provider left the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<AuthKind>,
    /// Hosts that its credential may go to.
    pub hosts: Vec<String>,
    /// The database that it logs in at, without the login; absent for services that are used over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Those whose repositories git reaches over HTTPS with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub git_hosts: Vec<String>,
    /// The SSH key with which Keyward's agent signs logins; absent as long as its source gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_key: Option<SshKeyShown>,
    /// The file that it names; absent for other kinds, and if it cannot be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileShown>,
    /// Scopes that it requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requested: Vec<String>,
    /// Granted scopes, as far as the provider says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<String>,
    /// Requested scopes that were not granted, as far as the provider says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// What these scopes allow, in words, as far as the provider has some.
    #[serde(default, skip_serializing_if = "ScopeWords::is_empty")]
    pub scope_words: ScopeWords,
    /// Settings of its app that apply if `settings` do not set them.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub inherited: Settings,
    /// The account, as the provider names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// When its grant expires: a person has to reconnect before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
    /// When its secret was last replaced; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Timestamp>,
    /// A second secret is sealed beside the one in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// When it was last used since the gateway began; absent: not since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
    /// When its secret has to be replaced, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<ReplacementDue>,
    /// What its owner has to do, if it cannot be used or expires soon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What its secret causes beside its use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How its credential is replaced: by a new `secret`, a new `consent`, or its `app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Renewal>,
    /// The values of `references`, if they were fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<FetchedView>,
    /// Failures of fetching them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch_failing: Option<Failures>,
    /// Its token, for kinds that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenStatus>,
}

impl Resource for Connection {
    type Id = ConnectionId;
    type Spec = ConnectionSpec;
    type CreateOptions = ConnectionCreateOptions;
    type ChangeOptions = ConnectionChangeOptions;
    type Facts = ConnectionFacts;
    type Shown = ConnectionShown;

    const KIND: Kind =
        Kind { one: "connection", article: "a connection", many: "connections", max: usize::MAX };

    const FIXED: &[&str] = &["provider"];

    const CHANGED_ELSEWHERE: &[(&str, &str)] = &[
        ("fields", "`POST /connections/{id}/rotate` replaces the secret"),
        ("state", PAUSED_BY),
        ("paused", PAUSED_BY),
    ];

    const DATED: bool = true;

    fn name(spec: &ConnectionSpec) -> &str {
        &spec.name
    }

    fn refusals(spec: &ConnectionSpec) -> Vec<Refusal> {
        let is_moment = !matches!(spec.expires, Some(Deadline::After(_)));
        let expires = "must be a day or a time: a time span would end later at each start";
        let is_rare = spec.rotate_every.is_none_or(|every| every >= ROTATE_EVERY_MIN);
        failed([
            name::plain(&spec.name),
            name::environment(spec.environment.as_deref()),
            text("description", spec.description.as_deref()),
            text("purpose", spec.purpose.as_deref()),
            references(&spec.references),
            tags(&spec.tags),
            Refusal::unless(is_moment, "expires", expires)
                .map_err(|refusal| refusal.hint("write 2026-01-31")),
            Refusal::unless(is_rare, "rotate_every", "must be a day or more")
                .map_err(|refusal| refusal.hint("write 90d")),
        ])
    }

    fn provider(spec: &ConnectionSpec) -> Option<&str> {
        Some(&spec.provider)
    }

    fn from_row(row: &mut Map<String, Value>) {
        for (of, _) in NESTED {
            if let Some(Value::Object(members)) = row.remove(*of) {
                row.extend(members);
            }
        }
    }

    fn to_row(row: &mut Map<String, Value>) {
        // As they were always stored: in hours, and only where there are some.
        if let Some(Value::String(every)) = row.get_mut("rotate_every")
            && let Ok(time) = parse_duration(every)
        {
            *every = format_duration(time);
        }
        if row.get("settings").and_then(Value::as_object).is_some_and(Map::is_empty) {
            row.remove("settings");
        }
        for (of, names) in NESTED {
            let members = names.iter().filter_map(|name| row.remove_entry(*name));
            let members: Map<_, _> = members.collect();
            if !members.is_empty() {
                row.insert((*of).to_owned(), Value::Object(members));
            }
        }
    }
}

/// Members that rows have inside another one.
const NESTED: &[(&str, &[&str])] = &[
    ("about", &["description", "purpose", "tags"]),
    ("secret", &["rotated", "expires", "rotate_every", "rotation", "reminded", "whose"]),
];

impl ConnectionSpec {
    /// The id of its auth method, which every record has.
    pub fn method(&self) -> &str {
        self.auth.as_deref().unwrap_or_default()
    }

    /// The app that asks for its tokens; `None`: it has no tokens, or needs no app.
    pub fn app_id(&self) -> Option<&AppId> {
        self.app.as_ref()?.id()
    }

    /// When its secret ends.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires?.at()
    }
}

fn fits(text: &str, chars_max: usize) -> bool {
    (1..=chars_max).contains(&text.chars().count()) && !text.contains(char::is_control)
}

fn text(field: &'static str, text: Option<&str>) -> Result<(), Refusal> {
    let rule = format!("must be 1 to {TEXT_CHARS_MAX} characters on one line");
    Refusal::unless(text.is_none_or(|text| fits(text, TEXT_CHARS_MAX)), field, rule)
}

fn tags(tags: &BTreeSet<String>) -> Result<(), Refusal> {
    let is_tag = |tag: &String| {
        fits(tag, TAG_CHARS_MAX) && !tag.contains(|c: char| c == ',' || c.is_whitespace())
    };
    let rule = format!(
        "must be up to {TAGS_MAX} tags of 1 to {TAG_CHARS_MAX} characters each, without commas and blanks"
    );
    Refusal::unless(tags.len() <= TAGS_MAX && tags.iter().all(is_tag), "tags", rule)
}

fn references(references: &References) -> Result<(), Refusal> {
    let rule = "must have a `ref` of up to 1024 characters on one line for each field";
    Refusal::unless(references.values().all(|it| it.is_plain()), "references", rule)
}

impl Record<Connection> {
    /// What the owner and the provider say about its hosts.
    pub fn host_variables(&self) -> BTreeMap<String, String> {
        let captured = self.facts.captured.clone();
        captured.into_iter().chain(self.spec.variables.clone()).collect()
    }

    /// When its secret is due for replacement, and why; `None`: it has neither an expiry nor a rotation interval.
    pub fn due(&self) -> Option<ReplacementDue> {
        let expires =
            self.spec.expires_at().map(|at| ReplacementDue { at, why: ReplacementReason::Expires });
        let since = self.facts.rotated.unwrap_or(self.created);
        let old = self.spec.rotate_every.map(|every| ReplacementDue {
            at: since.checked_add(every).unwrap_or(Timestamp::MAX),
            why: ReplacementReason::RotateEvery,
        });
        expires.into_iter().chain(old).min_by_key(|due| due.at)
    }

    /// The account at the provider, if it is known from a consent or from a test.
    pub fn known_account(&self) -> Option<Account> {
        match (&self.facts.account, &self.facts.account_id) {
            (Some(name), Some(id)) => Some(Account { name: name.clone(), id: id.clone() }),
            // Records of before identifiers were kept: the answer was the only source.
            (Some(name), None) => Some(Account::named(name, AccountSource::Answer)),
            (None, _) => {
                let whose = self.facts.whose.as_ref();
                whose.map(|whose| Account::named(whose, AccountSource::Test))
            }
        }
    }

    /// Completes `oauth` with the endpoints that the issuer named for this connection, where none is configured.
    pub fn complete_oauth(&self, mut oauth: OAuth, variables: &BTreeMap<String, String>) -> OAuth {
        let issuer = oauth.issuer.as_ref().and_then(|issuer| issuer.fill(variables).ok());
        if let Some(told) = self.facts.discovered.as_deref().filter(|told| told.issuer == issuer) {
            told.complete(&mut oauth);
        }
        oauth
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(more: Value) -> ConnectionSpec {
        let mut spec = json!({ "name": "work", "provider": "acme" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn an_invalid_member_of_a_connection_is_refused_by_field() {
        for (bad, field) in [
            (json!({ "description": "" }), "description"),
            (json!({ "description": "a\u{1b}[31m" }), "description"),
            (json!({ "purpose": "x".repeat(1025) }), "purpose"),
            (json!({ "tags": [""] }), "tags"),
            (json!({ "tags": ["a,b"] }), "tags"),
            (json!({ "tags": ["a b"] }), "tags"),
            (json!({ "tags": ["x".repeat(65)] }), "tags"),
            (json!({ "tags": (0..33).map(|n| n.to_string()).collect::<Vec<_>>() }), "tags"),
            (json!({ "rotate_every": "1h" }), "rotate_every"),
            (json!({ "expires": "90d" }), "expires"),
            (json!({ "environment": "" }), "environment"),
            (json!({ "name": "con_1" }), "name"),
        ] {
            let refused = Connection::check(&spec(bad.clone())).unwrap_err();
            assert_eq!(refused.field, field, "{bad}");
        }
        let good = json!({ "description": "été", "tags": ["team:crm"], "expires": "2030-01-31" });
        assert_eq!(Connection::check(&spec(good)), Ok(()));
    }

    #[test]
    fn rows_keep_the_form_of_earlier_versions_and_answers_are_flat() {
        let row = json!({
            "id": "con_0123456789abcdefghij", "org": "org_acme", "name": "work", "provider": "acme",
            "auth": "token", "variables": {}, "environment": null, "state": { "state": "active" },
            "about": { "purpose": "import" }, "secret": { "rotate_every": "2160h", "whose": "ada" },
            "managed_by": "store", "created": "2026-01-02T03:04:05Z", "updated": "2026-01-02T03:04:05Z",
        });
        let record: Record<Connection> = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(record.purpose.as_deref(), Some("import"));
        assert_eq!(record.facts.whose.as_deref(), Some("ada"));
        assert_eq!(serde_json::to_value(&record).unwrap(), row);
        let state = ConnectionState::Paused;
        let shown = record.shown(ConnectionShown { state, ..ConnectionShown::default() });
        let answer = serde_json::to_value(&shown).unwrap();
        for (member, value) in [
            ("state", json!("paused")),
            ("purpose", json!("import")),
            ("rotate_every", json!("90d")),
            ("settings", json!({})),
            ("visibility", json!("shared")),
            ("environment", Value::Null),
        ] {
            assert_eq!(answer[member], value, "{member}");
        }
    }
}
