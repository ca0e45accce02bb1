//! [`Flow`]: one attempt to obtain a grant, as it is stored while a person consents: its connection, its
//! parameters, who started it, and its stage. Sealed at rest; `state` and start links are stored as hashes.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::grant::Grant;
use keyward_base::id::{AppId, ConnectionId, FlowId, OrgId};
use keyward_state::crypto::token::TokenHash;
use keyward_state::directory::{Account, AccountId, AccountSource, ConnectionRecord};
use keyward_state::store::Version;

/// Bytes of randomness in `state`, start links and session cookies; base64url makes 43 characters.
pub(super) const RANDOM_BYTES: u32 = 32;

/// One attempt.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Flow {
    pub(super) id: FlowId,
    pub(super) org: OrgId,
    /// Who started it.
    pub(super) person: String,
    pub(super) connection: ConnectionId,
    pub(super) app: AppId,
    /// What is asked for; empty: no `scope` at all.
    pub(super) scopes: Vec<String>,
    /// More than the connection asked for before: kept with it once they are granted.
    pub(super) stepped_up: bool,
    pub(super) created: Timestamp,
    pub(super) expires: Timestamp,
    pub(super) stage: Stage,
}

/// A flow, and the version of its row that was read. Writing it over that version detects concurrent changes.
pub(super) struct StoredFlow {
    pub(super) flow: Flow,
    pub(super) version: Version,
}

/// How far a flow came.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "stage")]
pub(super) enum Stage {
    /// The start page may be opened.
    Offered,
    /// The browser is at the provider.
    Asked(Asked),
    /// `state` was consumed; the code is being exchanged. After a crash here the next start fails the flow.
    Exchanging,
    /// Tokens came and are not in force yet. After a crash here the next start goes on.
    Received(Received),
    /// A device code is being polled for.
    Polling(Polling),
    /// Consented to, for another account than before: a person decides.
    Confirming(Confirming),
    /// The grant is in the vault.
    Connected {
        /// It will end by itself: no refresh token came.
        ends: bool,
    },
    /// Tokens came that are not wanted, and are to be revoked. Then the flow has failed.
    Abandoned(Abandoned),
    /// It gave no grant.
    Failed {
        /// Why, in our words.
        why: String,
    },
}

/// What the callback is compared with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Asked {
    /// Hash of the cookie of the browser that began.
    pub(super) session: Digest,
    /// PKCE; none where the provider fails with it.
    pub(super) verifier: Option<Hidden>,
    /// As it stood in the request.
    pub(super) redirect_uri: String,
    /// Who must answer.
    pub(super) issuer: Option<String>,
    /// Whether it announced that it says so (RFC 9207).
    pub(super) issuer_announced: bool,
}

/// A device authorization (RFC 8628) under way.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Polling {
    pub(super) device_code: Hidden,
    pub(super) user_code: Hidden,
    pub(super) verification_uri: String,
    pub(super) verification_uri_complete: Option<Hidden>,
    /// Between two polls, in milliseconds; it only grows.
    pub(super) interval_ms: u64,
}

/// Tokens of a consent, sealed with their flow.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Received {
    /// Hash of the cookie of the browser that consented; none where there was no browser.
    pub(super) session: Option<Digest>,
    /// The encoded grant, base64.
    pub(super) grant: Hidden,
    pub(super) granted: Vec<String>,
    pub(super) ends: Option<Timestamp>,
    /// Whether a refresh token came.
    pub(super) renewable: bool,
    /// Host variables that the provider's answers gave.
    #[serde(default)]
    pub(super) captured: std::collections::BTreeMap<String, String>,
    /// The connection at the time of the consent; absent in flows of earlier versions.
    #[serde(default)]
    pub(super) connection: Option<Box<ConnectionRecord>>,
    /// Whose account it is, as the answer and its ID token say.
    #[serde(default)]
    pub(super) told: Vec<Account>,
    /// A person has agreed to this account.
    #[serde(default)]
    pub(super) accepted: bool,
}

/// A grant that waits for a person's word.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Confirming {
    /// Whose account the connection was.
    pub(super) before: String,
    /// Whose it would be; empty: the provider does not say.
    pub(super) account: String,
    /// What identifies that account.
    #[serde(default)]
    pub(super) account_id: Option<AccountId>,
    #[serde(flatten)]
    pub(super) received: Received,
}

/// A grant that the provider is to take back.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Abandoned {
    /// Why it is not wanted.
    pub(super) why: String,
    /// Whose account it is, where that is known.
    pub(super) account: Option<Account>,
    #[serde(flatten)]
    pub(super) received: Received,
}

/// Text that is written only into a sealed record; wiped on drop, shown by nothing.
#[derive(Clone, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct Hidden(String);

/// SHA-256, as hex.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct Digest(String);

impl Hidden {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

impl Digest {
    pub(super) fn of(text: &str) -> Self {
        Self(TokenHash::of(text).to_hex())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// In constant time.
    pub(super) fn is_of(&self, text: &str) -> bool {
        TokenHash::from_hex(&self.0).is_some_and(|known| known.matches(&TokenHash::of(text)))
    }
}

impl Received {
    /// The grant; none where the row does not hold one.
    pub(super) fn grant(&self) -> Option<Grant> {
        let bytes = BASE64_STANDARD.decode(self.grant.text()).map(Zeroizing::new).ok()?;
        Grant::decode(&bytes).ok()
    }
}

impl Confirming {
    /// The account that waits for a person's word, where it is known.
    pub(super) fn account(&self) -> Option<Account> {
        let name = Some(self.account.clone()).filter(|name| !name.is_empty())?;
        Some(match self.account_id.clone() {
            Some(id) => Account { name, id },
            None => Account::named(name, AccountSource::Answer),
        })
    }
}

impl Flow {
    /// Whether a person can still finish it.
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        let over = matches!(
            self.stage,
            Stage::Connected { .. } | Stage::Failed { .. } | Stage::Abandoned(_)
        );
        now < self.expires && !over
    }

    /// The cookie that ties it to one browser.
    pub(super) fn cookie(&self) -> String {
        cookie_of(&self.id)
    }
}

/// The cookie of a flow: two that are open in one browser do not meet.
pub(super) fn cookie_of(flow: &FlowId) -> String {
    format!("keyward_{flow}")
}

/// 256 random bits, base64url: 43 characters.
pub(super) fn random() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; RANDOM_BYTES as usize]);
    getrandom::fill(bytes.as_mut_slice()).expect("the operating system has randomness");
    Zeroizing::new(base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(bytes.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_flow_that_could_be_used_is_shown() {
        let verifier = random();
        let stage = Stage::Asked(Asked {
            session: Digest::of("cookie"),
            verifier: Some(Hidden::new(verifier.as_str())),
            redirect_uri: "http://localhost:8081/oauth/callback/app_1".to_owned(),
            issuer: None,
            issuer_announced: false,
        });
        let shown = format!("{stage:?}");
        assert!(!shown.contains(verifier.as_str()) && !shown.contains("cookie"), "{shown}");
    }

    #[test]
    fn randomness_is_256_bits_and_differs() {
        assert_eq!(random().len(), 43);
        assert_ne!(random(), random());
        assert!(Digest::of("a").is_of("a") && !Digest::of("a").is_of("b"));
    }
}
