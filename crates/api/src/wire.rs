//! The JSON of the API: field names that scripts rely on. Answers hold no secret. Secrets in requests become
//! [`Secret`] during deserialization.

mod audit;
mod connection;
mod explain;
mod flow;
mod hook;
mod installation;
mod plan;
mod replica;
mod rule;
mod sign_in;
mod status;
mod stream;
mod usage;

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::audit::{
    AuditBreak, AuditChain, AuditChainState, AuditCounts, AuditCountsRequest, AuditRequest,
    AuditVerified, Change, Counts, Event, Group, Grouping, Outcome,
};
pub use self::connection::{CallRequest, CallView};
pub use self::connection::{ComparedValues, Comparison, NewSecret, Rotated};
pub use self::connection::{ConnectionTested, TestOutcome, TestedDatabase};
pub use self::connection::{Failures, TokenRefreshed, TokenStatus};
pub use self::explain::{
    AddressView, ExplainRequest, ExplainedApp, ExplainedConnection, Explanation, PlacementView,
};
pub use self::flow::{
    Activation, ConnectionCreated, ConsentView, FlowDecision, OpenConsent, Reconnect,
};
pub use self::hook::AppChanged;
pub use self::hook::{EventType, WebhookCreated};
pub use self::hook::{
    HookAccepted, HookCreated, HookEventView, HookEventsRequest, HookRotation, HookScheme,
    HookSecret,
};
pub use self::hook::{SourceTest, SourceTested, TestedReference};
pub use self::installation::ApiIndex;
pub use self::installation::{BackupOptions, BackupView, ScheduledBackup};
pub use self::installation::{CaView, CertificateRole, CertificateView, RotateCa};
pub use self::installation::{KeyRotated, KeySourceKind, KeySourceView, KeyView};
pub use self::installation::{StoreCheckView, StoreFaultKind, StoreFaultView};
pub use self::plan::{ExportVariable, ExportView};
pub use self::plan::{PlanProblem, PlanRequest, PlanStep, PlanView, SecretCheck};
pub use self::replica::{ReplicaInfo, ReplicaListener, ReplicaState, ReplicaView};
pub use self::rule::RuleOrderRequest;
pub use self::rule::{PredictedDecision, RuleCase, RuleTestReport, RuleTestRequest, RuleTested};
pub use self::sign_in::{
    AuthenticatorSelection, CreatedCredential, CreatedResponse, CredentialDescriptor,
    CredentialParameter, PasskeyChallengeRequest, PasskeyChange, PasskeyCreateRequest,
    PasskeyCreation, PasskeyRequest, PasskeyUser, RelyingParty, UsedCredential, UsedResponse,
};
pub use self::sign_in::{
    LoginLinkRequest, LoginLinkView, PasswordChangeRequest, SignInCredentials, SignInView,
    TotpCode, TotpRequest, TotpView,
};
pub use self::status::{
    AgentListener, CallerView, DatabaseListenerView, FailedListenerView, FaultView, Health,
    OidcView, ReloadView, SharedStoreView, Status, TelemetryFailure, TelemetryView,
};
pub use self::stream::UpstreamView;
pub use self::stream::{HostRefusals, Rejected, RunRefusals};
pub use self::stream::{StreamKind, StreamView};
pub use self::usage::{AgentNumbers, ConnectionNumbers, PluginNumbers, ProviderCount, Summary};
pub use self::usage::{
    AgentUsageView, AgentUse, LatencyPercentiles, LimitView, OrgUsageView, Share, UsagePoint,
    UsageRequest, UsageSeries, UsageTotals, UsageView,
};
use keyward_base::database::DatabaseProtocol;
use keyward_base::id::{AppId, TokenId};
use keyward_base::names::named_enum;
use keyward_model::{AppSpec, PluginAffected};
pub use keyward_model::{SecretFields, SecretText};
pub use keyward_rules::policy::{ConsideredRule, RuleOutcome};
use keyward_rules::provider::scope_words::ScopeWords;
use keyward_rules::provider::{AuthKind, Template, VariableKind};

/// The redirect URI of an app that is registered at its provider before it is added.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RedirectView {
    /// The id to add the app with.
    pub app: AppId,
    /// What to register.
    pub redirect_uri: String,
}

/// A page of a list.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "{T}List")]
pub struct List<T> {
    /// The items, ordered by their cursor.
    pub items: Vec<T>,
    /// `after` of the next page; `null` on the last.
    pub next: Option<String>,
}

/// No items, and no further page.
impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: Vec::new(), next: None }
    }
}

impl<T> List<T> {
    /// The same page of what is shown of each: only of what is on it.
    pub(super) fn map<U>(self, shown: impl FnMut(T) -> U) -> List<U> {
        List { items: self.items.into_iter().map(shown).collect(), next: self.next }
    }
}

/// The body of every refusal.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ErrorBody {
    /// The refusal.
    pub error: ErrorView,
}

/// A refusal.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ErrorView {
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// Path of the field that is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The URL of the section about the code; absent where no gateway serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
    /// The id of the request, as in `Keyward-Request`, the log and the audit record of a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// A new token: the only answer with its text, given once.
#[derive(Deserialize, JsonSchema, Serialize)]
pub struct TokenIssued {
    /// `tok_…`
    pub id: TokenId,
    /// What it is for.
    pub label: Option<String>,
    /// When it ends; absent: never.
    pub expires: Option<Timestamp>,
    /// The text.
    pub token: String,
}

/// A new run: a program that was started with a token of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// The agent's name or id.
    pub agent: String,
    /// What the token is for, `run 4121`.
    pub label: String,
    /// The token of a run whose gateway was restarted under it.
    #[serde(default)]
    pub token: Option<SecretText>,
    /// Whether the program is only examined: its requests are answered and not sent, and further lines of the answer
    /// say what the gateway sees of it. On the socket only.
    #[serde(default)]
    pub examine: bool,
}

/// The result of removing a connection.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ConnectionRemoved {
    /// Whether the provider revoked the grant; `null`: it was not asked to, or cannot.
    pub revoked_upstream: Option<bool>,
    /// Not yet: it is tried again until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why it did not, or has not yet. Absent if there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Where a person revokes access at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<String>,
    /// The plugins that it was in, and what they are without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginAffected>,
}

/// A provider.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ProviderView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its category.
    pub category: Option<String>,
    /// The wire protocol of a database; absent for services that are used over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<DatabaseProtocol>,
    /// Hosts, with variables in braces.
    pub hosts: Vec<String>,
    /// The variables that the owner gives.
    pub variables: Vec<VariableView>,
    /// Ways to authenticate; the first is the default.
    pub auth: Vec<AuthView>,
    /// Named parts of its API, for `actions` of rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<ActionView>,
    /// Templates for new apps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<Template>,
    /// What its scopes allow, in words.
    #[serde(default, skip_serializing_if = "ScopeWords::is_empty")]
    pub scope_words: ScopeWords,
    /// How authentication works there.
    pub docs_url: Option<String>,
    /// Where the owner gets a key.
    pub key_url: Option<String>,
    /// The URL of a remote MCP server; it is connected without an app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<String>,
    /// Where its definition is; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<ProviderSource>,
    /// An own provider's definition, as under `providers:` of the configuration; lists omit it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A named part of a provider's API.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ActionView {
    /// The name, as in `actions` of rules.
    pub name: String,
    /// What it allows.
    pub label: String,
}

named_enum! {
    /// Where a provider is defined.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub enum ProviderSource by as_str {
        /// In Keyward itself.
        Catalogue = "catalogue",
        /// In the configuration file.
        File = "file",
        /// In the store.
        Store = "store",
    }
}

/// A variable of a provider's hosts.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct VariableView {
    /// Its name.
    pub name: String,
    /// `label`, `host` or `text`.
    pub kind: VariableKind,
    /// For people.
    pub label: String,
    /// For people.
    pub help: Option<String>,
    /// For people.
    pub example: Option<String>,
    /// Used when none is given.
    pub default: Option<String>,
    /// The possible values; empty: any of the kind.
    pub choices: Vec<String>,
}

/// A way to authenticate.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AuthView {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: AuthKind,
    /// For people.
    pub label: String,
    /// For people.
    pub note: Option<String>,
    /// Whether a person consents at the provider.
    #[serde(default)]
    pub consents: bool,
    /// Whether a connection needs an app.
    #[serde(default)]
    pub needs_app: bool,
    /// Whether its credentials can be tested at the provider.
    #[serde(default)]
    pub has_test: bool,
    /// Where apps are registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_url: Option<String>,
    /// What to do there; `{redirect_uri}` is replaced by the app's redirect URI.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub app_steps: Vec<String>,
    /// The provider whose apps can be used as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apps_of: Option<String>,
    /// The form.
    pub fields: Vec<FieldView>,
}

impl AuthView {
    /// Whether its apps must name it: those of OAuth 1.0a, whose keys are not the client of OAuth 2.0.
    pub fn is_named_by_apps(&self) -> bool {
        self.kind == AuthKind::Oauth1
    }

    /// Whether the app may request tokens for it, a method of `provider` that takes apps.
    pub fn fits(&self, provider: &str, app: &AppSpec) -> bool {
        let is_named = app.auth.as_ref().map_or(!self.is_named_by_apps(), |auth| *auth == self.id);
        app.provider == provider && is_named || self.apps_of.as_ref() == Some(&app.provider)
    }

    /// What the service calls the client's id and secret. Services have other words for those of OAuth 1.0a, which
    /// stand at its fields.
    pub fn client_words(&self) -> [&str; 2] {
        let label = |name: &str, else_: &'static str| {
            let own = self.fields.iter().find(|field| field.name == name);
            own.map_or(else_, |field| field.label.as_str())
        };
        match self.kind {
            AuthKind::Oauth1 => {
                [label("consumer_key", "Consumer key"), label("consumer_secret", "Consumer secret")]
            }
            _ => ["client id", "client secret"],
        }
    }

    /// Whether its own steps say what is copied from the service's page.
    pub fn says_what_to_copy(&self) -> bool {
        self.app_steps.iter().any(|step| step.to_lowercase().contains("copy "))
    }
}

/// A field of the form.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct FieldView {
    /// Its name in `fields`.
    pub name: String,
    /// For people.
    pub label: String,
    /// For people.
    pub help: Option<String>,
    /// Never shown again.
    pub secret: bool,
    /// Whether values may have several lines, such as keys and certificates in PEM.
    #[serde(default)]
    pub multiline: bool,
    /// Optional.
    pub optional: bool,
    /// Whether its value must be a reference to a secret source, because it expires.
    #[serde(default)]
    pub from_source: bool,
    /// Variables that SDKs read it from.
    pub env: Vec<String>,
    /// Known beginnings of values; services add new ones.
    #[serde(default)]
    pub prefixes: Vec<String>,
    /// How long values with the first beginning are.
    #[serde(default)]
    pub length: Option<usize>,
    /// A regular expression that values must match.
    #[serde(default)]
    pub pattern: Option<String>,
}

impl fmt::Debug for TokenIssued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssued").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_app_fits_only_the_authentication_methods_of_its_provider_and_kind() {
        let method = |id: &str, kind: AuthKind, of: Option<&str>| -> AuthView {
            let view = json!({ "id": id, "kind": kind, "label": id, "apps_of": of, "fields": [] });
            serde_json::from_value(view).unwrap()
        };
        let app = |provider: &str, auth: Option<&str>| AppSpec {
            provider: provider.to_owned(),
            auth: auth.map(str::to_owned),
            ..AppSpec::default()
        };
        let (usual, signed) =
            (method("oauth", AuthKind::Oauth2, None), method("oauth1", AuthKind::Oauth1, None));
        let shared = method("oauth", AuthKind::Oauth2, Some("google"));
        for (method, app, fits) in [
            (&usual, app("x", Some("oauth1")), false),
            (&usual, app("other", None), false),
            (&signed, app("x", None), false),
            (&shared, app("y", None), false),
            (&usual, app("x", None), true),
            (&signed, app("x", Some("oauth1")), true),
            (&shared, app("google", None), true),
        ] {
            assert_eq!(method.fits("x", &app), fits, "{method:?} {app:?}");
        }
    }
}
