//! Ids of stored resources: a type prefix and 100 random bits. An id in a log shows what it identifies and
//! cannot be guessed.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Crockford's base 32 in lower case: no `i l o u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters after the prefix: 20 × 5 bits = 100 bits.
const BODY_CHARS: usize = 20;

/// Text that is not an id of the wanted kind.
#[derive(Debug, thiserror::Error, Eq, PartialEq)]
#[error("not {article} id: expected `{prefix}` and letters or digits")]
pub struct IdError {
    prefix: &'static str,
    article: &'static str,
}

/// How many ids' worth of randomness a thread fetches at once. Each exchange needs an id, and the system call
/// costs more than the rest of making it.
const FETCHED: usize = 32;

/// Random bytes that a thread has fetched from the operating system and not used yet.
struct Fetched {
    bytes: [u8; FETCHED * BODY_CHARS],
    used: usize,
}

impl Fetched {
    const fn none() -> Self {
        let bytes = [0; FETCHED * BODY_CHARS];
        Self { used: bytes.len(), bytes }
    }

    fn next(&mut self) -> &[u8] {
        if self.used == self.bytes.len() {
            getrandom::fill(&mut self.bytes).expect("the operating system has randomness");
            self.used = 0;
        }
        let from = self.used;
        self.used += BODY_CHARS;
        &self.bytes[from..self.used]
    }
}

/// Makes an id: `prefix` and a random body.
fn random(prefix: &str) -> String {
    thread_local! {
        static FETCHED: RefCell<Fetched> = const { RefCell::new(Fetched::none()) };
    }
    let mut text = String::with_capacity(prefix.len() + BODY_CHARS);
    text.push_str(prefix);
    FETCHED.with_borrow_mut(|fetched| {
        text.extend(fetched.next().iter().map(|b| char::from(ALPHABET[usize::from(b & 31)])));
    });
    text
}

fn is_body(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !text.is_empty() && text.len() <= 40 && text.bytes().all(is_inner)
}

/// An id of one kind of resource.
pub trait Id: Clone + fmt::Debug + fmt::Display + Eq + std::hash::Hash + Ord + Send + Sync {
    /// A new random id.
    fn random() -> Self;
    /// Parses a stored id.
    ///
    /// # Errors
    /// When the prefix or the alphabet does not match this kind.
    fn parse(text: &str) -> Result<Self, IdError>;
    /// The text, prefix included.
    fn as_str(&self) -> &str;
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal, $article:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Makes a new id from the operating system's randomness.
            pub fn random() -> Self {
                Self(random($prefix).into())
            }

            /// Parses a stored id.
            ///
            /// # Errors
            /// When the prefix or the alphabet does not match this kind.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                match text.strip_prefix($prefix) {
                    Some(body) if is_body(body) => Ok(Self(text.into())),
                    _ => Err(IdError { prefix: $prefix, article: $article }),
                }
            }

            /// The text, prefix included.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Id for $name {
            fn random() -> Self {
                Self::random()
            }

            fn parse(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }

            fn as_str(&self) -> &str {
                self.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": concat!("^", $prefix, "[a-z0-9-]+$")})
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    )*

        /// Whether the text begins as ids of any kind do. Resources are found by name or id, so names must not
        /// begin like ids.
        pub fn is_like_an_id(text: &str) -> bool {
            [$($prefix),*].iter().any(|prefix| text.starts_with(prefix))
        }
    };
}

ids! {
    /// An organisation, the isolation boundary.
    OrgId = "org_", "an organisation";
    /// A person in an organisation.
    UserId = "usr_", "a user";
    /// A program's identity.
    AgentId = "agt_", "an agent";
    /// One token of an agent or of a user.
    TokenId = "tok_", "a token";
    /// An authenticated account at a provider.
    ConnectionId = "con_", "a connection";
    /// An OAuth client that is registered at a provider.
    AppId = "app_", "an app";
    /// A plugin that is installed for an agent.
    PluginId = "plg_", "a plugin";
    /// One attempt of a person to consent.
    FlowId = "flw_", "a flow";
    /// One request and its answer.
    ExchangeId = "exc_", "an exchange";
    /// An event that webhooks deliver.
    EventId = "evt_", "an event";
    /// A placeholder without a binding.
    HoneytokenId = "hny_", "a honeytoken";
    /// A provider that an organisation added.
    OwnProviderId = "prv_", "a provider";
    /// A webhook.
    WebhookId = "whk_", "a webhook";
    /// A hook: a URL to which a service posts its webhooks.
    HookId = "hok_", "a hook";
    /// A database listener, added while the gateway runs.
    DatabaseListenerId = "dbl_", "a database listener";
    /// A secret source.
    SourceId = "src_", "a source";
    /// A session: an agent's short-lived token for the connections of one end user, or for named ones.
    SessionId = "ses_", "a session";
    /// A connect session: a link by which a person connects an account for a user.
    ConnectSessionId = "cns_", "a connect session";
    /// A login: a browser in which a user is signed in.
    LoginId = "lgn_", "a login";
    /// A passkey of a user.
    PasskeyId = "pky_", "a passkey";
    /// A stored rule. [`RuleId`] is the label of what decided.
    StoredRuleId = "rul_", "a rule";
}

/// Longest name of an organisation.
const ORG_NAME_CHARS_MAX: usize = 40;

impl OrgId {
    /// The organisation of a fresh install.
    pub fn default_org() -> Self {
        Self("org_default".into())
    }

    /// The organisation with this name: 2 to 40 lower-case letters, digits and inner hyphens. The name
    /// determines the id, so that a configuration can name organisations before a store is open, and two
    /// replicas that create the same organisation give it the same id.
    ///
    /// # Errors
    /// When the name is invalid.
    pub fn named(name: &str) -> Result<Self, IdError> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_inner = !name.starts_with('-') && !name.ends_with('-');
        match name.bytes().all(is_plain)
            && is_inner
            && (2..=ORG_NAME_CHARS_MAX).contains(&name.len())
        {
            true => Ok(Self(format!("org_{name}").into())),
            false => Err(IdError { prefix: "org_", article: "an organisation" }),
        }
    }

    pub fn name(&self) -> &str {
        self.0.strip_prefix("org_").unwrap_or(&self.0)
    }
}

/// Label of the rule that decided: `file:NAME` for a rule of the configuration, `store:NAME` for a stored rule,
/// `binding:con_…` for a binding, `allow:SET` for a set of hosts, `test:con_…` for a test of a connection, `default` for
/// the default action.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RuleId(Arc<str>);

impl RuleId {
    /// Wraps a label from `rulebook` or `policy`.
    pub fn new(label: impl Into<Arc<str>>) -> Self {
        Self(label.into())
    }

    /// The label as audit events show it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let agent = AgentId::random();
        assert!(ConnectionId::parse(agent.as_str()).is_err());
        for bad in ["", "con_", "con_a/b", "con_..", "CON_abc", "con_\u{e9}"] {
            assert!(ConnectionId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_organisation_id_contains_its_name_and_invalid_names_are_refused() {
        for bad in
            ["", "0", "a", "Acme", "-a", "a-", "a/b", "org_acme", "\u{e9}\u{e9}", &"x".repeat(41)]
        {
            assert!(OrgId::named(bad).is_err(), "{bad}");
        }
        let acme = OrgId::named("acme-2").unwrap();
        assert_eq!((acme.as_str(), acme.name()), ("org_acme-2", "acme-2"));
        assert_eq!(OrgId::named("default"), Ok(OrgId::default_org()));
        assert_eq!(OrgId::parse(acme.as_str()), Ok(acme));
    }

    #[test]
    fn ids_from_batches_of_random_bytes_are_unique() {
        let made = || (0..3 * FETCHED).map(|_| ExchangeId::random().to_string());
        let other = std::thread::spawn(move || made().collect::<Vec<_>>()).join().unwrap();
        let all: std::collections::HashSet<String> = made().chain(other).collect();
        assert_eq!(all.len(), 6 * FETCHED);
    }

    #[test]
    fn ids_round_trip_and_differ() {
        let (a, b) = (ConnectionId::random(), ConnectionId::random());
        assert_ne!(a, b);
        assert_eq!(ConnectionId::parse(a.as_str()), Ok(a.clone()));
        assert_eq!(a.as_str().len(), 4 + BODY_CHARS);
    }
}
