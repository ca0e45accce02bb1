//! `/login/oidc`: sends a browser to the identity provider, and signs it in when it comes back. `keyward_vault::oidc`
//! speaks with the provider; the console has the page of a refusal.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use keyward_base::codes::Code;
use keyward_base::host::{Scheme, Target};
use keyward_base::system_error;
use keyward_model::{Login, Record, SignInMethod};

use keyward_vault::oidc::{
    ATTEMPT_LIFE, AuthenticatedPerson, RelyingParty, ReturnedBrowser, SignInError,
};
use zeroize::Zeroizing;

pub use keyward_vault::oidc::{CALLBACK, SIGN_IN};

use super::attempt::{AuthenticatedUser, Browser, SignedIn};
use super::provisioning::{SignInRefusal, user_of};
use crate::change_record::PendingRecord;
use crate::error::ApiError;
use crate::page_request::PageRequest;
use crate::request_id::SecureRequest;
use crate::request_refusal::RequestRefusal;

/// The cookie of a sign-in that has begun. RFC 6265bis §4.1.3 for the prefix.
const SECURE_COOKIE: &str = "__Host-keyward-oidc";

/// The same over cleartext HTTP, which is served to this machine only.
const LOCAL_COOKIE: &str = "keyward-oidc";

/// Marks a browser that was sent to `public_url`, so that it is sent there once.
const MOVED: &str = "moved";

/// Whether the path is one of these pages, which need the client of the request.
pub(crate) fn is_page(path: &str) -> bool {
    [SIGN_IN, CALLBACK].contains(&path)
}

/// A path of this origin; anything else becomes `/`, so that a sign-in leads nowhere else.
pub fn own_path(text: &str) -> &str {
    let is_path = text.starts_with('/') && !text.starts_with("//");
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_path && is_plain { text } else { "/" }
}

/// What a browser gets.
pub struct SignInAnswer {
    /// Where it is redirected to.
    pub to: Result<String, NotSignedIn>,
    pub cookies: Vec<HeaderValue>,
}

/// Why a browser is not signed in.
pub enum NotSignedIn {
    /// The configuration names no identity provider.
    NoProvider,
    /// Too many sign-ins from the network of the client failed.
    TooMany,
    /// The next sign-in leads to `to`.
    Refused { status: StatusCode, why: String, remedy: String, to: String },
    /// The answer is the API's.
    Api(ApiError),
}

impl From<NotSignedIn> for SignInAnswer {
    fn from(refusal: NotSignedIn) -> Self {
        Self { to: Err(refusal), cookies: Vec::new() }
    }
}

/// A GET request over the network to a gateway with an identity provider. HEAD is refused: it must not use a sign-in up.
struct SignInRequest {
    party: Arc<RelyingParty>,
    visit: SecureRequest,
}

impl SignInRequest {
    fn of(request: &PageRequest) -> Result<Self, NotSignedIn> {
        let visit = request.parts.extensions.get::<Result<SecureRequest, RequestRefusal>>();
        let visit = *visit.ok_or(NotSignedIn::Api(ApiError::NoSuchPath))?;
        let visit = visit.map_err(|refusal| SignInRefusal::Api(refusal.into()).shown("/"))?;
        if !request.is_get() {
            return Err(NotSignedIn::Api(ApiError::Method));
        }
        let party = request.admin.deps().oidc.clone().ok_or(NotSignedIn::NoProvider)?;
        Ok(Self { party, visit })
    }
}

/// A browser that is signed in.
struct Done {
    login: Record<Login>,
    signed_in: SignedIn,
    to: String,
}

/// `?to=PATH`: where the browser goes after the sign-in.
pub async fn start(request: &PageRequest) -> SignInAnswer {
    let SignInRequest { party, visit } = match SignInRequest::of(request) {
        Ok(asked) => asked,
        Err(refusal) => return refusal.into(),
    };
    let parameter = |name: &str| {
        let mut pairs = form_urlencoded::parse(request.query().as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let to = parameter("to").unwrap_or_default();
    let to = own_path(&to);
    let public_url = &request.admin.deps().public_url;
    // The provider sends the browser to `public_url`, where the cookie of another name of this server is unknown.
    if !is_at(public_url, &request.parts.headers) && parameter(MOVED).is_none() {
        let to: String = form_urlencoded::byte_serialize(to.as_bytes()).collect();
        let to = Ok(format!("{public_url}{SIGN_IN}?{MOVED}=1&to={to}"));
        return SignInAnswer { to, cookies: Vec::new() };
    }
    match party.begin(to).await {
        Ok(sent) => {
            let cookie = cookie(&sent.cookie, visit.is_https, ATTEMPT_LIFE.as_secs());
            SignInAnswer { to: Ok(sent.url), cookies: vec![cookie] }
        }
        Err(error) => {
            log(&party, &error);
            SignInRefusal::Provider(error).shown(to).into()
        }
    }
}

/// Leaves an audit record.
pub async fn callback(request: &PageRequest) -> SignInAnswer {
    let SignInRequest { party, visit } = match SignInRequest::of(request) {
        Ok(asked) => asked,
        Err(refusal) => return refusal.into(),
    };
    let admin = &request.admin;
    let record = match PendingRecord::of_sign_in(admin, visit.client).await {
        Ok(record) => record.at(CALLBACK, party.org()),
        Err(refusal) => return SignInRefusal::Api(refusal).shown("/").into(),
    };
    let mut answer = match signed_in(request, visit, &party).await {
        Ok(Done { login, signed_in, to }) => {
            record.signed_in(&login, signed_in.view.user.as_deref().unwrap_or_default());
            SignInAnswer { to: Ok(to), cookies: vec![signed_in.cookie] }
        }
        Err(refused) if admin.sign_in_limits().failed(visit.client).is_err() => {
            record.omit();
            refused.log(&party);
            NotSignedIn::TooMany.into()
        }
        Err(refused) => {
            refused.log(&party);
            record.because(refused.reason());
            record.ended(refused.status(), Some(refused.code()));
            refused.shown("/").into()
        }
    };
    answer.cookies.push(cookie("", visit.is_https, 0));
    answer
}

async fn signed_in(
    request: &PageRequest,
    visit: SecureRequest,
    party: &RelyingParty,
) -> Result<Done, SignInRefusal> {
    let (cookies, name) = (request.cookies(), cookie_name(visit.is_https));
    let returned = ReturnedBrowser { query: request.query(), cookie: cookies.one(name) };
    let arrived = party.complete(returned).await.map_err(SignInRefusal::Provider)?;
    let browser = Browser { admin: &request.admin, visit, fields: &request.parts.headers };
    let user = user_of(&browser, party.org(), &arrived).await?;
    let AuthenticatedPerson { to, .. } = arrived;
    let (login, signed_in) =
        browser.log_in(AuthenticatedUser::new(user, SignInMethod::Oidc)).await?;
    Ok(Done { login, signed_in, to: own_path(&to).to_owned() })
}

/// Whether the browser is at `public_url`.
fn is_at(public_url: &str, fields: &HeaderMap) -> bool {
    let Some((scheme, rest)) = public_url.split_once("://") else { return true };
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let host = fields.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let public = Target::parse(scheme, rest.split('/').next().unwrap_or(rest));
    matches!((public, Target::parse(scheme, host)), (Ok(public), Ok(host)) if public == host)
}

fn cookie_name(is_https: bool) -> &'static str {
    if is_https { SECURE_COOKIE } else { LOCAL_COOKIE }
}

/// `SameSite=Lax`: the browser comes from the provider's site.
fn cookie(value: &str, is_https: bool, life_s: i64) -> HeaderValue {
    let (name, secure) = (cookie_name(is_https), if is_https { "; Secure" } else { "" });
    let text = format!("{name}={value}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Lax{secure}");
    let text = Zeroizing::new(text);
    let mut value = HeaderValue::from_str(&text).expect("the value is base64url, dots and digits");
    value.set_sensitive(true);
    value
}

fn log(party: &RelyingParty, error: &SignInError) {
    let (issuer, cause) = (party.issuer(), system_error::chain(&error));
    match error.is_of_operator() {
        true => tracing::warn!(issuer, cause, "a sign-in with the identity provider failed"),
        false => tracing::info!(issuer, cause, "a sign-in with the identity provider is refused"),
    }
}

impl SignInRefusal {
    fn log(&self, party: &RelyingParty) {
        if let Self::Provider(error) = self {
            log(party, error);
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Provider(error) => error.status(),
            Self::Paused => StatusCode::FORBIDDEN,
            Self::Api(error) => error.code().status(),
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Provider(SignInError::NotAdmitted(_)) | Self::Paused => Code::NotAllowed,
            Self::Provider(_) => Code::Unauthenticated,
            Self::Api(error) => error.code(),
        }
    }

    /// For the audit log.
    fn reason(&self) -> String {
        match self {
            Self::Provider(SignInError::NotAdmitted(why)) => format!("oidc: {}", why.as_str()),
            Self::Provider(error) => format!("oidc: {error}"),
            Self::Paused => "oidc: the user is paused".to_owned(),
            Self::Api(_) => "oidc".to_owned(),
        }
    }

    /// `to`: where the next sign-in leads to.
    fn shown(&self, to: &str) -> NotSignedIn {
        let (why, remedy) = match self {
            Self::Provider(error) => (error.to_string(), error.remedy().to_owned()),
            Self::Paused => (
                "your user is paused in Keyward".to_owned(),
                "ask an admin of your organisation".to_owned(),
            ),
            Self::Api(error) => {
                let text = error.text();
                (text.message, text.hint.unwrap_or_else(|| "try again in a moment".to_owned()))
            }
        };
        NotSignedIn::Refused { status: self.status(), why, remedy, to: to.to_owned() }
    }
}

impl From<ApiError> for SignInRefusal {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_leads_to_paths_of_this_origin_only() {
        for foreign in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a\r\nb",
            "evil",
            "/ä",
        ] {
            assert_eq!(own_path(foreign), "/", "{foreign:?}");
        }
        assert_eq!(own_path("/connections?state=broken"), "/connections?state=broken");
    }

    #[test]
    fn the_public_url_is_recognized_by_host_and_port() {
        let at = |host: &'static str| {
            HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))])
        };
        for elsewhere in ["", "127.0.0.1:8081", "localhost", "localhost:8082", "a:b:c"] {
            assert!(!is_at("http://localhost:8081", &at(elsewhere)), "{elsewhere}");
        }
        assert!(is_at("http://localhost:8081", &at("LOCALHOST:8081")));
        assert!(is_at("https://kw.example.com/keyward", &at("kw.example.com:443")));
    }
}
