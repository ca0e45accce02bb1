//! `/session`: a browser signs in with a link, a password or a passkey, asks who it is signed in as, and signs out. Every sign-in
//! makes a new cookie, which its answer sets; `auth/login.rs` authenticates requests by it.

mod attempt;
pub(super) mod cookie;
pub(super) mod limits;
pub mod oidc;
pub(super) mod passkey;
mod provisioning;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};

pub(super) use self::attempt::only_browsers;
use self::attempt::{Browser, SignedIn};
pub(super) use self::oidc::is_page as is_sign_in_page;
pub use self::oidc::own_path;
use super::auth::{Caller, SESSION};
use super::body::Body;
use super::change_record::PendingRecord;
use super::context::Context;
use super::error::ApiError;
use super::openapi::{DescribedAnswer, OperationDraft, Routes};
use super::request_id::SecureRequest;
use super::state::Admin;
use super::wire::{SignInCredentials, SignInView, UsedCredential};
use crate::auth::named_org;
use crate::request_refusal::RequestRefusal;
use attempt::AuthenticatedUser;
use keyward_base::codes::Code;
use keyward_base::id::OrgId;
use keyward_base::secret::Secret;
use keyward_model::{Login, ManagedBy, Record, SignInMethod, User};
use keyward_state::directory::{TotpError, UserCredential};
use limits::{CodeTry, PasswordTry, network};

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

/// What a user gives to sign in with a password.
struct PasswordProof {
    /// `NAME`, or `ORG/NAME`: a form cannot send `Keyward-Org`, and no name has a `/`.
    user: String,
    password: Secret,
    code: Option<Secret>,
}

impl Browser<'_> {
    async fn by_password(
        &self,
        PasswordProof { user: given, password, code }: PasswordProof,
        record: &mut PendingRecord,
    ) -> Result<AuthenticatedUser, ApiError> {
        let (deps, limits) = (self.admin.deps(), self.admin.sign_in_limits());
        if !deps.sign_in.password {
            return Err(RequestRefusal::PasswordOff.into());
        }
        let (named, name) = match given.split_once('/') {
            Some((org, name)) => (OrgId::named(org).ok(), name),
            None => {
                let org = named_org(self.fields).ok();
                (org.map(|org| org.unwrap_or_else(OrgId::default_org)), given.as_str())
            }
        };
        let (view, network) = (deps.directory.view(), network(self.visit.client));
        let user = named.as_ref().and_then(|org| view.find::<User>(org, name)).cloned();
        let is_known = user.as_ref().is_some_and(|user| user.facts.networks.contains(&network));
        let org = named.as_ref().map_or("", |org| org.name());
        // A user has one budget, by name and by id.
        let tried = user.as_ref().map_or(name, |user| user.id.as_str());
        limits.try_password(PasswordTry { org, user: tried, network, is_known })?;
        let known = user.as_ref().filter(|user| user.may_sign_in());
        let known = known.and_then(|user| user.facts.password.clone());
        let is_right = limits.matches(password, known.clone()).await?;
        let Some(user) = user else { return Err(RequestRefusal::PasswordWrong.into()) };
        record.set_user(&user);
        let Some(known) = known.filter(|_| is_right) else {
            return Err(RequestRefusal::PasswordWrong.into());
        };
        let method = match user.facts.totp.is_some() {
            false => SignInMethod::Password,
            true => {
                let code = code.ok_or(RequestRefusal::CodeMissing)?;
                limits.try_code(CodeTry { user: user.id.as_str(), network, is_known })?;
                let used = deps.directory.use_totp(&user.org, &user.id, &code).await;
                used.map_err(|error| match error {
                    TotpError::NoKey | TotpError::WrongCode => RequestRefusal::CodeWrong.into(),
                    TotpError::Directory(error) => ApiError::from(error),
                })?;
                SignInMethod::PasswordTotp
            }
        };
        if !is_known {
            deps.directory.know_network(&user.org, &user.id, network, &known).await?;
        }
        Ok(AuthenticatedUser { password: Some(known), ..AuthenticatedUser::new(user, method) })
    }
}
