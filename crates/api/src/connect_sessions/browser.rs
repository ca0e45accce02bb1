//! The browser that opened a link: the mark of its page, its cookie, and the code that it takes to the return URL.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use http::HeaderValue;
use sha2::{Digest, Sha256};

use crate::state::Admin;
use crate::tokens::text_of;
use keyward_base::id::FlowId;
use keyward_base::secret::Secret;
use keyward_model::{BoundBrowser, CONNECT_SESSION_LIFE, ConnectSession, Record};
use keyward_state::crypto::token::{TokenHash, issue_connect_token};
use keyward_vault::oauth::{Cookies, FlowState};

/// A browser keeps a cookie with this prefix only if we set it over https, for this host alone
/// (<https://www.rfc-editor.org/rfc/rfc6265bis>, «Cookie Name Prefixes»).
const SECURE_COOKIE: &str = "__Host-keyward-connect";

/// Over http to this machine, where browsers refuse the prefix.
const COOKIE: &str = "keyward-connect";

/// Characters of the code: 128 bits.
const CODE_CHARS: usize = 32;

/// The connect session of the browser that sent a request.
pub(super) struct BrowserSession {
    pub(super) session: Arc<Record<ConnectSession>>,
    /// The cookie's value. A secret.
    pub(super) cookie: String,
}

/// A new cookie for a browser.
pub(super) struct NewBrowser {
    pub(super) bound: BoundBrowser,
    pub(super) set_cookie: HeaderValue,
}

/// What a page of a link has in its form, and the form brings back: a second click binds the browser again. A secret.
pub struct PageMark(String);

/// The consent of a connect session that the browser at the callback may be about to finish.
pub(crate) struct PendingConsent(Option<(Arc<Record<ConnectSession>>, FlowId)>);

pub(super) fn cookie_name(admin: &Admin) -> &'static str {
    match admin.deps().public_url.starts_with("https://") {
        true => SECURE_COOKIE,
        false => COOKIE,
    }
}

impl BrowserSession {
    /// The connect session that this browser opened.
    pub(super) fn of(admin: &Admin, cookies: &Cookies) -> Option<Self> {
        let cookie = cookies.one(cookie_name(admin))?.to_owned();
        let view = admin.deps().directory.view();
        let session = view.connect_session_of_browser(&cookie)?.clone();
        Some(Self { session, cookie })
    }

    /// The return URL; with the code, once the person has connected an account.
    pub(super) fn return_url(&self, with_code: bool) -> Option<String> {
        let session = &self.session;
        let url = session.return_url.as_deref()?;
        let mark = if url.contains('?') { '&' } else { '?' };
        let back = format!("{url}{mark}connect_session={}", session.id);
        Some(match with_code {
            true => format!("{back}&code={}", code_of(&self.cookie)),
            false => back,
        })
    }
}

impl PageMark {
    /// The name of the field in the form.
    pub const FIELD: &str = "page";

    /// For a new page.
    pub(super) fn fresh() -> Option<Self> {
        text_of(&issue_connect_token()).ok().map(Self)
    }

    /// The mark that a form brings back, if it has one.
    pub(super) fn of(form: &[u8]) -> Option<Self> {
        let mark = form_urlencoded::parse(form).find(|(name, _)| name == Self::FIELD);
        mark.map(|(_, value)| Self(value.into_owned()))
    }

    /// SHA-256 of it, hex.
    pub(super) fn hash(&self) -> String {
        TokenHash::of(&self.0).to_hex()
    }

    /// For the form alone.
    pub fn into_text(self) -> String {
        self.0
    }
}

impl NewBrowser {
    /// With a fresh cookie: one that the browser brings may have been planted. `page`: the mark of its page.
    pub(super) fn fresh(admin: &Admin, page: Option<&PageMark>) -> Option<Self> {
        let cookie = text_of(&issue_connect_token()).ok()?;
        let (name, age) = (cookie_name(admin), CONNECT_SESSION_LIFE.as_secs() * 2);
        let secure = if name == SECURE_COOKIE { "; Secure" } else { "" };
        let text =
            format!("{name}={cookie}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
        let mut set_cookie = HeaderValue::from_str(&text).ok()?;
        set_cookie.set_sensitive(true);
        let bound = BoundBrowser {
            hash: TokenHash::of(&cookie).to_hex(),
            code: TokenHash::of(&code_of(&cookie)).to_hex(),
            at: admin.deps().clock.now(),
            page: page.map(PageMark::hash),
        };
        Some(Self { bound, set_cookie })
    }
}

impl PendingConsent {
    pub(crate) fn of(admin: &Admin, cookies: &Cookies) -> Self {
        let opened = BrowserSession::of(admin, cookies);
        Self(opened.and_then(|it| Some((it.session.clone(), it.session.facts.flow.clone()?))))
    }

    /// Only if its consent is this flow.
    pub(crate) fn of_flow(self, id: &str) -> Self {
        Self(self.0.filter(|(_, flow)| flow.as_str() == id))
    }

    /// Settles the connect session if the callback has moved its consent on: then its page shows the result.
    pub(crate) async fn settle(self, admin: &Admin) -> bool {
        let Some((session, flow)) = self.0 else { return false };
        let flows = &admin.deps().flows;
        let state = flows.view(&session.org, &flow).await.map(|view| view.state);
        match state {
            Ok(FlowState::Open) | Err(_) => false,
            Ok(FlowState::Confirm { .. } | FlowState::Held { .. }) => true,
            Ok(FlowState::Connected { .. } | FlowState::Failed { .. }) => {
                if let Err(error) = flows.settle_connect_session(&session).await {
                    tracing::warn!(%error, session = %session.id, "cannot store the result of a connect session yet");
                }
                true
            }
        }
    }
}

/// The code of a browser: `hex(SHA-256("connect code" ‖ 0 ‖ cookie))`, 32 characters. Only the browser and we can make
/// it, and it tells nothing about the cookie.
fn code_of(cookie: &str) -> String {
    let digest = Sha256::new().chain_update("connect code").chain_update([0]).chain_update(cookie);
    HEXLOWER.encode(&digest.finalize())[..CODE_CHARS].to_owned()
}

/// Whether the code is that of the browser that opened the link; compared in constant time.
pub(super) fn is_code_of(session: &Record<ConnectSession>, code: &Secret) -> bool {
    let browser = session.facts.browser.as_ref();
    let known = browser.and_then(|browser| TokenHash::from_hex(&browser.code));
    known.is_some_and(|known| known.matches(&TokenHash::of_secret(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_derived_from_the_cookie_and_is_not_its_hash() {
        let (one, other) = (code_of("kwn_a"), code_of("kwn_b"));
        assert!(one.len() == 32 && one != other);
        assert!(!TokenHash::of("kwn_a").to_hex().contains(&one));
    }
}
