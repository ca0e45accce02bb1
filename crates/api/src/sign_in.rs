//! `/session`: a browser signs in with a link, a password or a passkey, asks who it is signed in as, and signs out. Every sign-in
//! makes a new cookie, which its answer sets; `auth/login.rs` authenticates requests by it.

mod attempt;
mod browser;
pub(super) mod cookie;
pub(super) mod limits;
mod oidc;
pub(super) mod passkey;
mod password;
mod provisioning;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};

pub(super) use self::attempt::only_browsers;
use self::attempt::{Browser, SignedIn};
pub(super) use self::limits::SignInLimits;
pub use self::oidc::own_path;
pub(super) use self::oidc::{is_page as is_sign_in_page, refusal_page, routes as pages};
use self::password::PasswordProof;
use super::auth::{Caller, SESSION};
use super::body::Body;
use super::change_record::PendingRecord;
use super::context::Context;
use super::error::ApiError;
use super::openapi::{DescribedAnswer, OperationDraft, Routes};
use super::request_id::SecureRequest;
use super::state::Admin;
use super::wire::{SignInCredentials, SignInView, UsedCredential};
use keyward_base::codes::Code;
use keyward_base::secret::Secret;
use keyward_model::{Login, ManagedBy, Record};
use keyward_state::directory::UserCredential;

/// The path of what a passkey signs.
const CHALLENGE: &str = "/api/v1/session/challenge";

pub(super) fn routes() -> Routes {
    Routes::new()
        .post("/session", ["signIn", "Sign a browser in; the answer sets its cookie"], sign_in)
        .get("/session", ["getSignIn", "Show who the caller is signed in as"], show)
        .post(
            "/session/challenge",
            ["signInChallenge", "Ask for what a browser needs to sign in with a passkey"],
            passkey::challenge,
        )
        .delete("/session", ["signOut", "Sign the browser out"], sign_out)
}

/// The answer to a sign-out.
struct SignedOut {
    is_https: bool,
}

impl IntoResponse for SignedOut {
    fn into_response(self) -> Response {
        let cookie = cookie::cleared(self.is_https);
        (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
    }
}

impl DescribedAnswer for SignedOut {
    fn describe(draft: &mut OperationDraft<'_>) {
        StatusCode::describe(draft);
    }
}

/// Whether the request is a sign-in, which needs no authentication.
pub(super) fn is_sign_in(method: &Method, path: &str) -> bool {
    *method == Method::POST && [SESSION, CHALLENGE].contains(&path)
}

/// What a browser signs in with.
enum SignInProof {
    Link(Secret),
    Password(PasswordProof),
    Passkey(UsedCredential),
}

impl TryFrom<SignInCredentials> for SignInProof {
    type Error = ApiError;

    fn try_from(ask: SignInCredentials) -> Result<Self, ApiError> {
        let SignInCredentials { link, user, password, totp, passkey } = ask;
        if let Some(passkey) = passkey {
            return match (link, user, password) {
                (None, None, None) => Ok(Self::Passkey(passkey)),
                _ => Err(ApiError::field("passkey", "must be given alone")),
            };
        }
        match (link, user, password) {
            (Some(link), None, None) if totp.is_none() => Ok(Self::Link(link.0)),
            (None, Some(user), Some(password)) => {
                let (password, code) = (password.0, totp.map(|code| code.0));
                Ok(Self::Password(PasswordProof { user, password, code }))
            }
            (None, None, None) => {
                Err(ApiError::field("link", "is missing: give a link, or a user and a password"))
            }
            (None, Some(_), None) => Err(ApiError::field("password", "is missing")),
            (None, None, Some(_)) => Err(ApiError::field("user", "is missing")),
            (Some(_), ..) => {
                Err(ApiError::field("link", "must not be given together with a user or a password"))
            }
        }
    }
}

/// Signs in. It leaves an audit record of its own, because it has no caller.
async fn sign_in(
    State(admin): State<Admin>,
    visit: Option<Extension<SecureRequest>>,
    fields: HeaderMap,
    Body(ask): Body<SignInCredentials>,
) -> Result<SignedIn, ApiError> {
    let Some(Extension(visit)) = visit else { return Err(only_browsers()) };
    let proof = SignInProof::try_from(ask)?;
    let mut record = PendingRecord::of_sign_in(&admin, visit.client).await?;
    let browser = Browser { admin: &admin, visit, fields: &fields };
    let proved = match proof {
        SignInProof::Link(link) => browser.by_link(&link).await,
        SignInProof::Password(proof) => browser.by_password(proof, &mut record).await,
        SignInProof::Passkey(given) => browser.by_passkey(given, &mut record).await,
    };
    let made = match proved {
        Ok(proved) => browser.log_in(proved).await,
        Err(refusal) => Err(refusal),
    };
    match made {
        Ok((login, signed_in)) => {
            record.signed_in(&login, signed_in.view.user.as_deref().unwrap_or_default());
            Ok(signed_in)
        }
        Err(refusal) if refusal.code() == Code::RateLimited => {
            record.omit();
            Err(refusal)
        }
        Err(refusal) => Err(record.refused(refusal)),
    }
}

async fn show(
    context: Context,
    visit: Option<Extension<SecureRequest>>,
    fields: HeaderMap,
) -> Json<SignInView> {
    let Context { caller, .. } = &context;
    let login = login_of(caller, &context);
    let is_https = visit.is_some_and(|Extension(visit)| visit.is_https);
    let token = login.as_ref().and_then(|_| cookie::token(&fields, is_https).ok().flatten());
    let user = caller.user();
    Json(SignInView {
        user: user.map(|user| user.name.clone()),
        role: user.map(|user| user.role.as_str().to_owned()),
        org: caller.org().name().to_owned(),
        login: login.as_ref().map(|login| login.id.clone()),
        method: login.as_ref().map(|login| login.method),
        csrf: token.map(cookie::csrf),
        expires: login.map(|login| login.facts.expires),
    })
}

fn login_of(caller: &Caller, context: &Context) -> Option<Record<Login>> {
    let UserCredential::Login(id) = caller.credential()? else { return None };
    context.view().one::<Login>(caller.org(), id).map(|login| Record::clone(login))
}

async fn sign_out(
    context: Context,
    visit: Option<Extension<SecureRequest>>,
) -> Result<SignedOut, ApiError> {
    let Some(login) = login_of(&context.caller, &context) else {
        return Err(ApiError::refused(
            "this request is authenticated by a token, so there is no login to end",
        )
        .hint(
            "`keyward token revoke ID` revokes a token; `keyward login revoke ID` ends a login",
        ));
    };
    let name = context.caller.user().map_or("", |user| user.name.as_str());
    context.caller.record_changed("login", &login.id, name);
    context.deps().directory.remove::<Login>(&login.org, &login.id, ManagedBy::Store).await?;
    Ok(SignedOut { is_https: visit.is_some_and(|Extension(visit)| visit.is_https) })
}
