//! The stored resources. Each resource is declared once, in one file of this crate: its *spec*, which a person
//! gives (YAML, JSON body or flags; the reference page and the JSON Schema follow from it); its *facts*, which
//! the gateway adds; its *shown* members, which answers have; and its refusals.
//!
//! Generic types derive the rest: [`Record`] is a stored resource, [`Shown`] is its form in answers of the
//! API. The directory, the configuration, the API and the command line have generic code over [`Resource`].

mod agent;
mod app;
mod binding;
mod connect_session;
mod connection;
mod database_listener;
mod given;
mod honeytoken;
mod hook;
mod login;
mod manifest;
mod name;
mod notice_kind;
mod org;
mod own_provider;
mod patch;
mod personal_token;
mod plugin;
mod reference;
mod refusal;
mod resource;
mod rule;
mod schema;
mod secret_text;
mod session;
mod source;
mod token;
mod user;
mod webhook;

pub use agent::{
    Agent, AgentChangeOptions, AgentCreateOptions, AgentFacts, AgentShown, AgentSpec, PauseCause,
};
pub use app::{
    App, AppChangeOptions, AppCreateOptions, AppFacts, AppSettings, AppShown, AppSpec, AppUrls,
    DynamicRegistration, TokenOptions, redirect_uri,
};
pub use binding::{
    BINDINGS_MAX, BindTerms, BindingLimits, BindingPatch, BindingRecord, BindingShown, BindingSpec,
    BoundSlot, LOST_CONNECTIONS_MAX, LimitsChange, LostConnection, Placeholders,
};
pub use connect_session::{
    BoundBrowser, CONNECT_FAILURES_MAX, CONNECT_SESSION_KEPT, CONNECT_SESSION_LIFE, ConnectSession,
    ConnectSessionFacts, ConnectSessionIssued, ConnectSessionShown, ConnectSessionSpec,
    ConnectSessionState, Connected, RefusedCall, origin_of,
};
pub use connection::{
    Account, AccountId, AccountSource, BrokenReason, Connection, ConnectionChangeOptions,
    ConnectionCreateOptions, ConnectionFacts, ConnectionShown, ConnectionSpec, ConnectionState,
    Failures, FileShown, REMIND_DAYS, Reminder, Renewal, ReplacementDue, ReplacementReason,
    Rotation, RotationState, SshKeyShown, TokenStatus, Visibility,
};
pub use database_listener::{
    DatabaseListener, DatabaseListenerShown, DatabaseListenerSpec, ListenerPlace, ListenerState,
};
pub use given::{Deadline, in_days};
pub use honeytoken::{Honeytoken, HoneytokenFacts, HoneytokenShown, HoneytokenSpec};
pub use hook::{
    HOOK_BODY_BYTES_MAX, Hook, HookChangeOptions, HookCreateOptions, HookFacts, HookRefusal,
    HookShown, HookSpec,
};
pub use login::{
    LOGIN_LINKS_MAX, LOGINS_MAX, LinkMaker, Login, LoginFacts, LoginLink, LoginShown, LoginSpec,
    MakerCredential, SignInMethod,
};
pub use manifest::{Fault, Manifest, Slot, unknown_action};
pub use name::{is_label, plain as check_name};
pub use notice_kind::NoticeKind;
pub use org::{Org, OrgSpec};
pub use own_provider::{OwnProvider, OwnProviderSpec};
pub use patch::{check_fixed, merge};
pub use personal_token::{
    Area, PERSONAL_TOKENS_MAX, PersonalToken, PersonalTokenCreateOptions, PersonalTokenShown,
    PersonalTokenSpec, Scope, ScopeError,
};
pub use plugin::{
    Missing, MissingSlotView, PLUGINS_MAX, Plugin, PluginAffected, PluginChangeOptions,
    PluginFacts, PluginRemoved, PluginSpec, PluginState, PluginView, RemainingConnectionView,
    SlotConnectionView, SlotView,
};
pub use reference::Reference;
pub use refusal::Refusal;
pub use resource::{Data, Kind, ManagedBy, NoMembers, Record, RequestOptions, Resource, Shown};
pub use rule::{Rule, RuleFacts, RulePlace, RuleShown, RuleSpec, RuleStatus};
pub use schema::{Schemas, schemas};
pub use secret_text::{FieldReference, GivenFields, References, SecretFields, SecretText};
pub use session::{
    SESSION_TTL_MAX, Session, SessionCreateOptions, SessionFacts, SessionIssued, SessionShown,
    SessionSpec,
};
pub use source::{
    Condition, CredentialNames, FetchedView, LocalOrigin, Pattern, Source, SourceFacts,
    SourceFailures, SourceKind, SourceOptions, SourceSettings, SourceShown, SourceSpec,
    source_kinds,
};
pub use token::{
    AGENT_TOKENS_MAX, RevokedToken, TokenCreateOptions, TokenRecord, TokenShown, TokenSpec,
};
pub use user::{
    Identity, NewTotp, PASSKEYS_MAX, Passkey, PasskeyShown, Role, SignInMethods, Totp, User,
    UserFacts, UserShown, UserSpec,
};
pub use webhook::{
    DeliveryAttempt, Webhook, WebhookChangeOptions, WebhookCreateOptions, WebhookFacts,
    WebhookShown, WebhookSpec, WebhookState,
};
