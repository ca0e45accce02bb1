//! [`NoticeKind`]: the types of events that webhooks can receive.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $code:literal;)*) => {
        /// What can happen.
        #[derive(
            Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
        )]
        pub enum NoticeKind {
            $($(#[doc = $doc])+ #[serde(rename = $code)] $kind,)*
        }

        impl NoticeKind {
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Its stable name: the `type` of an event.
            pub fn code(self) -> &'static str {
                match self { $(Self::$kind => $code,)* }
            }

            /// When it happens, for people.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$kind => concat!($($doc),+).trim_ascii(),)* }
            }
        }
    };
}

kinds! {
    /// A connection can be used for the first time, or after its app has changed.
    ConnectionConnected = "connection.connected";
    /// A connection cannot be used until a person acts; `reason` says why.
    ConnectionBroken = "connection.broken";
    /// A broken connection can be used again.
    ConnectionReconnected = "connection.reconnected";
    /// The secret of a connection expires soon, or is older than its rotation interval.
    ConnectionExpiring = "connection.expiring";
    /// Another secret is in force; also after a rollback.
    ConnectionRotated = "connection.rotated";
    /// A connection was paused.
    ConnectionPaused = "connection.paused";
    /// The pause of a connection has ended.
    ConnectionResumed = "connection.resumed";
    /// A connection was removed. Not sent for a draft, which was never connected.
    ConnectionRemoved = "connection.removed";
    /// An agent may use a connection.
    ConnectionBound = "connection.bound";
    /// An agent may not use a connection any more.
    ConnectionUnbound = "connection.unbound";
    /// Every slot of a plugin has a connection that can be used.
    PluginReady = "plugin.ready";
    /// An optional slot of a plugin has no connection that can be used.
    PluginDegraded = "plugin.degraded";
    /// A required slot of a plugin has no connection that can be used.
    PluginBlocked = "plugin.blocked";
    /// A person has connected an account by a link.
    ConnectSessionCompleted = "connect_session.completed";
    /// An attempt to connect an account by a link has failed; `reason` says why. The person may try again.
    ConnectSessionFailed = "connect_session.failed";
    /// A stored rule was added.
    RuleAdded = "rule.added";
    /// A stored rule says something else, or has another place in the order.
    RuleChanged = "rule.changed";
    /// A stored rule was removed.
    RuleRemoved = "rule.removed";
    /// A program sent a honeytoken.
    HoneytokenUsed = "honeytoken.used";
    /// A program sent a token that was revoked, or that has expired.
    TokenRefused = "token.refused";
    /// A person tests a webhook.
    WebhookTest = "webhook.test";
}

impl NoticeKind {
    /// The kind of this name.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }

    /// The kind of thing and what happened to it.
    pub fn parts(self) -> (&'static str, &'static str) {
        self.code().split_once('.').unwrap_or((self.code(), ""))
    }
}
