//! A browser that signs in: a user who proved who they are gets a login and its cookie. In lists of logins the
//! browser has a name such as `Firefox on Linux`, by its `User-Agent`, which it may choose freely.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use jiff::{SignedDuration, Timestamp};

use super::cookie;
use crate::error::ApiError;
use crate::openapi::{DescribedAnswer, OperationDraft};
use crate::request_id::SecureRequest;
use crate::request_refusal::RequestRefusal;
use crate::state::Admin;
use crate::wire::SignInView;
use keyward_base::secret::{PasswordHash, Secret};
use keyward_model::{Login, LoginSpec, ManagedBy, Record, Reference, SignInMethod, User};
use keyward_state::directory::{DirectoryError, LoginBounds, LoginTerms, NewLogin, UsedLink};

/// The answer to a sign-in.
pub(super) struct SignedIn {
    pub(super) view: SignInView,
    pub(super) cookie: HeaderValue,
}

impl IntoResponse for SignedIn {
    fn into_response(self) -> Response {
        ([(header::SET_COOKIE, self.cookie)], Json(self.view)).into_response()
    }
}

impl DescribedAnswer for SignedIn {
    fn describe(draft: &mut OperationDraft<'_>) {
        Json::<SignInView>::describe(draft);
    }
}

/// A user who proved who they are.
pub(super) struct AuthenticatedUser {
    pub(super) user: Arc<Record<User>>,
    pub(super) method: SignInMethod,
    pub(super) bounds: LoginBounds,
    /// The password that was proved.
    pub(super) password: Option<PasswordHash>,
}

impl AuthenticatedUser {
    /// Without bounds, and without a password.
    pub(super) fn new(user: Arc<Record<User>>, method: SignInMethod) -> Self {
        Self { user, method, bounds: LoginBounds::default(), password: None }
    }
}

/// A browser that signs in.
pub(super) struct Browser<'a> {
    pub(super) admin: &'a Admin,
    pub(super) visit: SecureRequest,
    pub(super) fields: &'a HeaderMap,
}

impl Browser<'_> {
    pub(super) async fn by_link(&self, link: &Secret) -> Result<AuthenticatedUser, ApiError> {
        match self.admin.deps().directory.use_login_link(link).await {
            Ok(UsedLink { user, bounds }) => {
                Ok(AuthenticatedUser { bounds, ..AuthenticatedUser::new(user, SignInMethod::Link) })
            }
            Err(DirectoryError::LinkUsed) => {
                self.admin.sign_in_limits().failed(self.visit.client)?;
                Err(RequestRefusal::LinkUsed.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes its login. A login that it had ends: its cookie is replaced.
    pub(super) async fn log_in(
        &self,
        AuthenticatedUser { user, method, bounds, password }: AuthenticatedUser,
    ) -> Result<(Record<Login>, SignedIn), ApiError> {
        let deps = self.admin.deps();
        self.end_former().await?;
        let now = deps.clock.now();
        let life = SignedDuration::try_from(deps.sign_in.life).map_err(ApiError::internal)?;
        let expires = bounds.until.unwrap_or(Timestamp::MAX).min(now + life);
        let spec = LoginSpec {
            user: Reference::Id(user.id.clone()),
            method,
            browser: named(self.fields),
            address: Some(self.visit.client.to_string()),
        };
        let terms = LoginTerms { expires, token_ends: bounds.token_ends, password };
        let made = deps.directory.add_login(&user.org, spec, terms).await;
        let NewLogin { login, token } = made.map_err(|error| match error {
            // The password was replaced while it was checked.
            DirectoryError::Changed { .. } => ApiError::from(RequestRefusal::PasswordWrong),
            error => error.into(),
        })?;
        let view = SignInView {
            user: Some(user.name.clone()),
            role: Some(user.role.as_str().to_owned()),
            org: user.org.name().to_owned(),
            login: Some(login.id.clone()),
            method: Some(method),
            csrf: Some(cookie::csrf_of(&token)?),
            expires: Some(expires),
        };
        let cookie = cookie::set(&token, self.visit.is_https, now, expires)?;
        Ok((Record::clone(&login), SignedIn { view, cookie }))
    }

    async fn end_former(&self) -> Result<(), ApiError> {
        let deps = self.admin.deps();
        // A cookie that is no login's has nothing to end.
        let Ok(Some(token)) = cookie::token(self.fields, self.visit.is_https) else {
            return Ok(());
        };
        let (view, now) = (deps.directory.view(), deps.clock.now());
        let Some((_, former)) = view.signed_in(token, deps.sign_in.idle, now) else {
            return Ok(());
        };
        match deps.directory.remove::<Login>(&former.org, &former.id, ManagedBy::Store).await {
            Ok(()) | Err(DirectoryError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

pub(crate) fn only_browsers() -> ApiError {
    ApiError::refused("only browsers sign in, at the admin listener")
        .hint("commands on this machine need no sign-in; `keyward login-link` prints a link")
}

/// Characters that are kept of an unknown one.
const UNKNOWN_CHARS_MAX: usize = 40;

/// Words of browsers. The order counts, because each contains the words of those it is compatible with.
const BROWSERS: &[(&str, &str)] = &[
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("HeadlessChrome/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];

/// Words of systems, likewise.
const SYSTEMS: &[(&str, &str)] = &[
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iOS"),
    ("iPad", "iPadOS"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
];

/// The name; `None` if the request does not say.
pub(super) fn named(fields: &HeaderMap) -> Option<String> {
    let text = fields.get(header::USER_AGENT)?.to_str().ok()?;
    let find = |table: &[(&str, &'static str)]| {
        table.iter().find(|(word, _)| text.contains(word)).map(|(_, name)| *name)
    };
    match (find(BROWSERS), find(SYSTEMS)) {
        (Some(browser), Some(system)) => Some(format!("{browser} on {system}")),
        (Some(browser), None) => Some(browser.to_owned()),
        (None, _) => {
            let word = text.split_ascii_whitespace().next().unwrap_or_default();
            let shown = word.chars().filter(|c| c.is_ascii_graphic()).take(UNKNOWN_CHARS_MAX);
            Some(shown.collect::<String>()).filter(|shown| !shown.is_empty())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_browser_is_named_and_an_unknown_user_agent_is_shortened() {
        let of = |text: &str| {
            let mut fields = HeaderMap::new();
            fields.insert(header::USER_AGENT, text.parse().unwrap());
            named(&fields).unwrap_or_default()
        };
        let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                      Chrome/140.0.0.0 Safari/537.36";
        for (text, name) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox on Linux",
            ),
            (chrome, "Chrome on Windows"),
            (&format!("{chrome} Edg/140.0"), "Edge on Windows"),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 Version/18.0 Safari/605.1.15",
                "Safari on macOS",
            ),
            ("curl/8.14.1", "curl/8.14.1"),
            ("", ""),
            (" \t", ""),
            (&"x".repeat(10_000), &"x".repeat(UNKNOWN_CHARS_MAX)),
        ] {
            assert_eq!(of(text), name);
        }
    }
}
