//! [`Flow`]: one attempt to obtain a grant, as it is stored while a person consents: its connection, its
//! parameters, who started it, and its stage. Sealed at rest; `state` and start links are stored as hashes.
//! The other stored rows of consents follow: pointers to flows, forms of callbacks, and pending revocations.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::grant::Grant;
use crate::grants::record::GrantOrigin;
use keyward_base::id::{AppId, ConnectionId, FlowId, OrgId};
use keyward_model::Reference;
use keyward_state::crypto::token::TokenHash;
use keyward_state::directory::{Account, AccountId, AccountSource, AppRecord, ConnectionRecord};
use keyward_state::store::Version;

/// Bytes of randomness in `state`, start links and session cookies; base64url makes 43 characters.
pub(super) const RANDOM_BYTES: u32 = 32;

/// Begins the names of cookies of flows.
const COOKIE_PREFIX: &str = "keyward_";

/// Flows are kept for a day after their end, so that their result can be shown.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// One attempt to obtain a grant.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Flow {
    pub(super) id: FlowId,
    pub(super) org: OrgId,
    /// The person who started it; of a user, the id.
    pub(super) person: String,
    pub(super) connection: ConnectionId,
    /// The app of its requests, which becomes the connection's with the grant.
    pub(super) app: AppId,
    /// Requested scopes; empty: no `scope` parameter.
    pub(super) scopes: Vec<String>,
    /// Whether the scopes exceed those of the connection; they are stored with it once they are granted.
    pub(super) stepped_up: bool,
    pub(super) created: Timestamp,
    pub(super) expires: Timestamp,
    /// The name of the cookie that binds the flow to a browser; `None`: a cookie of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cookie: Option<String>,
    /// Hash of the cookie of the browser that came back from the provider. Before, its stage has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<CookieDigest>,
    /// Whether its tokens wait until the platform that requested the consent releases them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) held: bool,
    pub(super) stage: FlowStage,
}

/// A flow, and the version of its row that was read. Writing it over that version detects concurrent changes.
pub(super) struct StoredFlow {
    pub(super) flow: Flow,
    pub(super) version: Version,
}

/// The stage of a flow.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "stage")]
pub(super) enum FlowStage {
    /// The start page can be opened.
    Offered,
    /// The browser is at the provider.
    #[serde(rename = "asked")]
    AtProvider(CallbackExpectation),
    /// `state` was used; the code is being exchanged, under the flow's lease. After a crash here the flow has failed.
    Exchanging,
    /// Tokens were received and are not in force yet. After a crash here they are activated or revoked.
    Received(ReceivedTokens),
    /// A device code is being polled for.
    Polling(Polling),
    /// Tokens for another account than before, about which a person must decide; or those of a held flow.
    Confirming(Confirming),
    /// The grant is in the vault.
    Connected {
        /// Whether the grant expires: it has no refresh token.
        ends: bool,
    },
    /// Unwanted tokens that must be revoked. Then the flow has failed.
    Abandoned(Abandoned),
    /// The flow gave no grant.
    Failed {
        /// The reason, in our words.
        why: String,
    },
}

/// The expected values of the callback.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct CallbackExpectation {
    /// Hash of the cookie of the browser that started the flow.
    pub(super) session: CookieDigest,
    /// The PKCE verifier; `None` if the provider does not accept PKCE.
    pub(super) verifier: Option<SealedText>,
    /// The redirect URI of the request.
    pub(super) redirect_uri: String,
    /// The client id of the request, to which the code belongs. Absent in flows of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<String>,
    /// The expected issuer.
    pub(super) issuer: Option<String>,
    /// Whether the server announced `iss` in responses (RFC 9207).
    pub(super) issuer_announced: bool,
    /// The temporary credentials that the person authorizes, in OAuth 1.0a.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) temporary: Option<TemporaryCredentials>,
}

/// Temporary credentials of OAuth 1.0a (RFC 5849 §2.1).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct TemporaryCredentials {
    /// `oauth_token`, which the callback must name.
    pub(super) token: SealedText,
    /// `oauth_token_secret`, which signs the request for the token.
    pub(super) secret: SealedText,
}

/// A running device authorization (RFC 8628).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Polling {
    pub(super) device_code: SealedText,
    pub(super) user_code: SealedText,
    pub(super) verification_uri: String,
    pub(super) verification_uri_complete: Option<SealedText>,
    /// The interval of polls, in milliseconds; it never shrinks.
    pub(super) interval_ms: u64,
    /// The client id of the request, to which the codes belong. Absent in flows of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<String>,
}

/// Tokens of a consent, sealed with their flow.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct ReceivedTokens {
    /// Hash of the cookie of the browser that consented; `None` without a browser.
    pub(super) session: Option<CookieDigest>,
    /// The encoded grant, base64.
    pub(super) grant: SealedText,
    pub(super) granted: Vec<String>,
    pub(super) ends: Option<Timestamp>,
    /// Whether the response contained a refresh token.
    pub(super) renewable: bool,
    /// Host variables from the provider's responses.
    #[serde(default)]
    pub(super) captured: std::collections::BTreeMap<String, String>,
    /// The connection at the time of the consent; absent in flows of earlier versions.
    #[serde(default)]
    pub(super) connection: Option<Box<ConnectionRecord>>,
    /// The account in the response and its ID token.
    #[serde(rename = "told", default)]
    pub(super) reported_accounts: Vec<Account>,
    /// Whether a person has confirmed the account.
    #[serde(default)]
    pub(super) accepted: bool,
    /// The grant that was stored when the tokens were received, or when a person decided. The tokens replace no other
    /// grant. Absent in flows of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) replaces: Option<GrantOrigin>,
}

/// A grant that waits for a person's decision, or for its release.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Confirming {
    /// The previous account of the connection, if the account of the grant differs or is unknown; empty in a held flow
    /// without this conflict.
    pub(super) before: String,
    /// The account of the grant; empty: the provider does not name it.
    pub(super) account: String,
    #[serde(default)]
    pub(super) account_id: Option<AccountId>,
    #[serde(flatten)]
    pub(super) received: ReceivedTokens,
}

/// An unwanted grant that must be revoked.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Abandoned {
    /// Why it is unwanted.
    pub(super) why: String,
    /// The account, if it is known.
    pub(super) account: Option<Account>,
    #[serde(flatten)]
    pub(super) received: ReceivedTokens,
}

/// Text that is stored only in sealed records; wiped on drop, and never shown.
#[derive(Clone, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct SealedText(String);

/// SHA-256, as hex.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct CookieDigest(String);

impl SealedText {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl Drop for SealedText {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl fmt::Debug for SealedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedText(…)")
    }
}

impl CookieDigest {
    pub(super) fn of(text: &str) -> Self {
        Self(TokenHash::of(text).to_hex())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares in constant time.
    pub(super) fn is_of(&self, text: &str) -> bool {
        TokenHash::from_hex(&self.0).is_some_and(|known| known.matches(&TokenHash::of(text)))
    }
}

impl ReceivedTokens {
    /// The grant; `None` if the row is malformed.
    pub(super) fn grant(&self) -> Option<Grant> {
        let bytes = BASE64_STANDARD.decode(self.grant.text()).map(Zeroizing::new).ok()?;
        Grant::decode(&bytes).ok()
    }
}

impl Confirming {
    /// The account that waits for a decision, if it is known.
    pub(super) fn account(&self) -> Option<Account> {
        let name = Some(self.account.clone()).filter(|name| !name.is_empty())?;
        Some(match self.account_id.clone() {
            Some(id) => Account { name, id },
            None => Account::named(name, AccountSource::Answer),
        })
    }
}

impl FlowStage {
    /// Whether a gateway must continue the flow. Flows in other stages wait for a person, or have ended.
    pub(super) fn needs_work(&self) -> bool {
        match self {
            Self::Polling(_)
            | Self::Confirming(_)
            | Self::Exchanging
            | Self::Received(_)
            | Self::Abandoned(_) => true,
            Self::Offered | Self::AtProvider(_) | Self::Connected { .. } | Self::Failed { .. } => {
                false
            }
        }
    }

    /// Whether these tokens are stored here and are not in force yet.
    pub(super) fn has_received(&self, received: &ReceivedTokens) -> bool {
        matches!(self, Self::Received(kept) if kept.grant.text() == received.grant.text())
    }
}

impl Flow {
    /// The connection, with the flow's app as its app.
    pub(super) fn connection_with_app(&self, connection: &ConnectionRecord) -> ConnectionRecord {
        let mut connection = connection.clone();
        connection.app = Some(Reference::Id(self.app.clone()));
        connection
    }

    /// Whether the flow has tokens that are neither in force nor revoked.
    pub(super) fn has_tokens(&self) -> bool {
        matches!(
            self.stage,
            FlowStage::Received(_) | FlowStage::Confirming(_) | FlowStage::Abandoned(_)
        )
    }

    /// The flow is deleted after this time, unless it has tokens.
    pub(super) fn kept_until(&self) -> Timestamp {
        self.expires.saturating_add(KEPT).unwrap_or(Timestamp::MAX)
    }

    /// Whether a person can still finish the flow.
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        let over = matches!(
            self.stage,
            FlowStage::Connected { .. } | FlowStage::Failed { .. } | FlowStage::Abandoned(_)
        );
        now < self.expires && !over
    }

    /// The name of the cookie that binds the flow to a browser.
    pub(super) fn cookie(&self) -> String {
        self.cookie.clone().unwrap_or_else(|| cookie_of(&self.id))
    }

    /// Whether the value of that cookie is of the browser that consents.
    pub(super) fn is_of_browser(&self, cookie: Option<&str>) -> bool {
        let session = match &self.stage {
            FlowStage::AtProvider(asked) => Some(&asked.session),
            // Flows of earlier versions have it here alone.
            FlowStage::Confirming(waiting) => waiting.received.session.as_ref(),
            _ => self.session.as_ref(),
        };
        session.zip(cookie).is_some_and(|(session, cookie)| session.is_of(cookie))
    }
}

/// The cookie of a flow. Each flow has its own, so that several can be open in one browser.
pub(super) fn cookie_of(flow: &FlowId) -> String {
    format!("{COOKIE_PREFIX}{flow}")
}

/// The flow whose own cookie has this name.
pub(super) fn flow_of_cookie(name: &str) -> Option<FlowId> {
    FlowId::parse(name.strip_prefix(COOKIE_PREFIX)?).ok()
}

/// 256 random bits, base64url: 43 characters.
pub(crate) fn random() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; RANDOM_BYTES as usize]);
    getrandom::fill(bytes.as_mut_slice()).expect("the operating system has randomness");
    Zeroizing::new(base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(bytes.as_slice()))
}

/// Maps a secret's hash to its flow.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Pointer {
    pub(super) flow: FlowId,
    pub(super) expires: Timestamp,
    /// Whether the form for this `state` was received by POST and stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) posted: bool,
}

/// A stored form of a callback by POST.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct FormPost {
    pub(super) app: AppId,
    pub(super) form: SealedText,
    pub(super) expires: Timestamp,
}

/// A pending revocation.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct PendingRevocation {
    /// The removed record: provider, app, variables.
    pub(super) connection: ConnectionRecord,
    /// The encoded grant, base64.
    pub(super) grant: SealedText,
    /// The app at that time. Absent without an app, and in rows of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) app: Option<PendingRevocationApp>,
    pub(super) until: Timestamp,
    /// When it was planned. The connection may still exist until its removal writes the row again without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) planned: Option<Timestamp>,
    /// Whether the response to a renewal of the grant was lost: tokens in it may be valid.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) answer_lost: bool,
}

/// The client of a pending revocation.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct PendingRevocationApp {
    pub(super) record: AppRecord,
    /// The encoded secret, base64.
    pub(super) secret: SealedText,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret_of_a_flow() {
        let verifier = random();
        let stage = FlowStage::AtProvider(CallbackExpectation {
            session: CookieDigest::of("cookie"),
            verifier: Some(SealedText::new(verifier.as_str())),
            redirect_uri: "http://localhost:8081/oauth/callback/app_1".to_owned(),
            client_id: None,
            issuer: None,
            issuer_announced: false,
            temporary: Some(TemporaryCredentials {
                token: SealedText::new(verifier.as_str()),
                secret: SealedText::new(verifier.as_str()),
            }),
        });
        let shown = format!("{stage:?}");
        assert!(!shown.contains(verifier.as_str()) && !shown.contains("cookie"), "{shown}");
    }

    #[test]
    fn random_values_have_256_bits_and_differ() {
        assert_eq!(random().len(), 43);
        assert_ne!(random(), random());
        assert!(CookieDigest::of("a").is_of("a") && !CookieDigest::of("a").is_of("b"));
    }
}
