//! Revokes a grant at the provider, by RFC 7009 or in the provider's own way. A failed revocation never keeps a
//! connection alive.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use jiff::Timestamp;
use oauth2::{
    AccessToken, RefreshToken, RequestTokenError, RevocationErrorResponseType as ErrorType,
    RevocationUrl, StandardRevocableToken as Revocable7009,
};

use super::client::ClientProof;
use super::failure::{ActingParty, TokenFailure, bad_endpoint};
use super::params::Params;
use super::request_context::RequestContext;
use super::requests::bearer;
use super::transport::{RequestedEndpoint, Transport, client, judged, text};
use keyward_base::secret::Secret;
use keyward_rules::provider::oauth::{ClientAuthText, OAuth, RevokeText};

/// The tokens to revoke. Wiped when dropped.
#[derive(Clone, Debug)]
pub struct Revocable {
    /// The refresh token.
    pub refresh: Option<Secret>,
    /// The refresh token before it, of which the server may not have ended the access.
    pub earlier: Option<Secret>,
    pub access: Option<Secret>,
    /// When the access token expires; `None`: unknown.
    pub expires: Option<Timestamp>,
}

/// The result of a revocation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RevokeResult {
    /// The provider has confirmed the revocation.
    Yes,
    /// It failed. [`TokenFailure::Temporary`] is worth a retry.
    No(TokenFailure),
    /// The provider needs a valid access token. The stored one has expired or is rejected, and the grant has a refresh
    /// token to request another one with.
    NeedsRenewal(TokenFailure),
    /// The provider needs a valid access token. The stored one has expired, and there is no refresh token.
    Expired {
        /// The page where the owner can revoke the access, if it is known.
        by_hand: Option<String>,
    },
    /// The provider does not support revocation.
    NotSupported {
        /// The page where the owner can revoke the access, if it is known.
        by_hand: Option<String>,
    },
}

/// Revokes the refresh tokens, then the access token, unless the first request revokes both.
pub async fn revoke(ask: &RequestContext<'_>, what: &Revocable) -> RevokeResult {
    let way = ask.oauth.says.revoke_via;
    let by_hand = || RevokeResult::NotSupported { by_hand: ask.oauth.says.access_page.clone() };
    if way == RevokeText::None || ask.oauth.revoke.is_none() {
        return by_hand();
    }
    let url = match ask.url(ask.oauth.revoke.as_ref(), "revoke") {
        Ok(url) => url,
        Err(failure) => return RevokeResult::No(failure),
    };
    let result = match way {
        RevokeText::None => return by_hand(),
        RevokeText::Rfc7009 => each(ask, &url, what).await,
        RevokeText::Basic => {
            let oauth = OAuth { client_auth: ClientAuthText::Basic, ..ask.oauth.clone() };
            each(&RequestContext { oauth: &oauth, ..*ask }, &url, what).await
        }
        RevokeText::Token => each_alone(ask, &url, what).await,
        RevokeText::Bearer
        | RevokeText::Query
        | RevokeText::Github
        | RevokeText::Square
        | RevokeText::Webflow => return by_access_token(ask, &url, what).await,
    };
    match result {
        Ok(()) => RevokeResult::Yes,
        Err(failure) => RevokeResult::No(failure),
    }
}

/// Sends the access token alone, which must be valid: an expired one ends no refresh token.
async fn by_access_token(ask: &RequestContext<'_>, url: &str, what: &Revocable) -> RevokeResult {
    let is_live = what.expires.is_none_or(|end| ask.now < end);
    let Some(token) = what.access.as_ref().filter(|_| is_live) else {
        return match what.refresh {
            Some(_) => RevokeResult::NeedsRenewal(expired()),
            None => RevokeResult::Expired { by_hand: ask.oauth.says.access_page.clone() },
        };
    };
    let way = ask.oauth.says.revoke_via;
    let sent = match way {
        RevokeText::Bearer => by_bearer(ask, url, token).await,
        RevokeText::Query => in_query(ask, url, token).await,
        _ => in_json(ask, way, url, token).await,
    };
    match sent {
        Ok(()) => RevokeResult::Yes,
        // Whether the grant is gone or only this token has ended, the refresh token shows.
        Err(failure) if what.refresh.is_some() && failure.may_be_of_token() => {
            RevokeResult::NeedsRenewal(failure)
        }
        Err(failure) => unless_gone(failure).map_or_else(RevokeResult::No, |()| RevokeResult::Yes),
    }
}

/// RFC 7009 §2.2: nothing is left to revoke if the token is not valid. Google says `invalid_token` where the RFC says 200.
fn unless_gone(failure: TokenFailure) -> Result<(), TokenFailure> {
    match failure.is_of_invalid_token() {
        true => Ok(()),
        false => Err(failure),
    }
}

/// The failure without a request.
fn expired() -> TokenFailure {
    let said = "the access token has expired";
    TokenFailure::ours(ActingParty::Person, "access_token_expired", said)
}

/// RFC 7009 §2.1, token by token.
async fn each(ask: &RequestContext<'_>, url: &str, what: &Revocable) -> Result<(), TokenFailure> {
    // The crate accepts no other scheme; the transport checks the real URL.
    let secure = RevocationUrl::new(url.replacen("http://", "https://", 1));
    let client = client(ask).set_revocation_url(secure.map_err(|_| bad_endpoint())?);
    let refresh = [&what.refresh, &what.earlier].into_iter().flatten();
    let refresh = refresh.map(|token| Ok(RefreshToken::new(text(token)?).into()));
    let access = what.access.iter().map(|token| Ok(AccessToken::new(text(token)?).into()));
    for token in refresh.chain(access).collect::<Result<Vec<Revocable7009>, TokenFailure>>()? {
        let is_access = matches!(token, Revocable7009::AccessToken(_));
        let transport =
            Transport::new(ask, RequestedEndpoint::Revocation, url.to_owned(), BTreeMap::default());
        let request = client.revoke_token(token).map_err(|_| bad_endpoint())?;
        match request.request_async(&transport).await {
            // RFC 7009 §2.2.1: servers may not support access tokens, which expire soon.
            Err(RequestTokenError::ServerResponse(error))
                if is_access && *error.error() == ErrorType::UnsupportedTokenType => {}
            other => other.map_err(|error| transport.failure(error)).or_else(unless_gone)?,
        }
    }
    Ok(())
}

/// Without client authentication. One token ends all access.
async fn each_alone(
    ask: &RequestContext<'_>,
    url: &str,
    what: &Revocable,
) -> Result<(), TokenFailure> {
    for token in what.refresh.as_ref().or(what.access.as_ref()).into_iter().chain(&what.earlier) {
        alone(ask, url, token).await?;
    }
    Ok(())
}

/// Sends the token without client authentication.
async fn alone(ask: &RequestContext<'_>, url: &str, token: &Secret) -> Result<(), TokenFailure> {
    let mut params = Params::default();
    params.set("token", token.clone());
    let body = Bytes::copy_from_slice(params.form().as_bytes());
    let mut request = ask.request(Method::POST, url, body)?;
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(header::CONTENT_TYPE, form);
    let answer = ask.send(ClientProof::default(), request).await?;
    judged(&ask.reading(&params, false), &answer).or_else(unless_gone)
}

/// Authenticates with the access token itself.
async fn by_bearer(
    ask: &RequestContext<'_>,
    url: &str,
    token: &Secret,
) -> Result<(), TokenFailure> {
    let mut request = ask.request(Method::POST, url, Bytes::new())?;
    request.headers_mut().insert(header::AUTHORIZATION, bearer(token)?);
    let answer = ask.send(ClientProof::default(), request).await?;
    judged(&ask.reading(&Params::default(), false), &answer)
}

/// Sends the access token in the query, without client authentication.
async fn in_query(ask: &RequestContext<'_>, url: &str, token: &Secret) -> Result<(), TokenFailure> {
    let mut params = Params::default();
    params.set("access_token", token.clone());
    let request = ask.request(Method::POST, &params.in_query(url), Bytes::new())?;
    let answer = ask.send(ClientProof::default(), request).await?;
    judged(&ask.reading(&params, false), &answer)
}

/// GitHub: <https://docs.github.com/en/rest/apps/oauth-applications#delete-an-app-authorization>.
/// Square: <https://developer.squareup.com/reference/square/o-auth-api/revoke-token>.
/// Webflow: <https://developers.webflow.com/data/reference/oauth-app>.
async fn in_json(
    ask: &RequestContext<'_>,
    way: RevokeText,
    url: &str,
    token: &Secret,
) -> Result<(), TokenFailure> {
    let mut params = Params::default();
    params.set("access_token", token.clone());
    let (method, proof) = match way {
        RevokeText::Square => {
            params.set("client_id", ask.client.id.as_str());
            (Method::POST, square(ask)?)
        }
        RevokeText::Webflow => (Method::POST, ask.prove(ClientAuthText::Body, url, &mut params)?),
        _ => (Method::DELETE, ask.prove(ClientAuthText::Basic, url, &mut params)?),
    };
    let mut request = ask.request(method, url, Bytes::copy_from_slice(&params.json()))?;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    let answer = ask.send(proof, request).await?;
    judged(&ask.reading(&params, false), &answer)
}

/// `Authorization: Client SECRET`.
fn square(ask: &RequestContext<'_>) -> Result<ClientProof, TokenFailure> {
    let secret = ask.client.secret.client_secret.as_ref().map(Secret::expose).unwrap_or_default();
    let text = zeroize::Zeroizing::new([b"Client ", secret].concat());
    let value = HeaderValue::from_bytes(&text);
    let mut value = value.map_err(|_| TokenFailure::unreadable("the secret cannot be sent"))?;
    value.set_sensitive(true);
    Ok(ClientProof { authorization: Some(value), identity: None })
}

#[cfg(test)]
mod tests;
