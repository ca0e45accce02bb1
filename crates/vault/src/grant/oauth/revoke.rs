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
use zeroize::Zeroizing;

use super::client::ClientProof;
use super::failure::{ActingParty, TokenFailure, bad_endpoint};
use super::params::Params;
use super::request_context::RequestContext;
use super::transport::{RequestedEndpoint, Transport, client, judged, text};
use keyward_base::secret::Secret;
use keyward_rules::provider::oauth::{
    ClientAuthText, OAuth, RevocationRequest, RevokeText, RevokedTokenPlace,
};

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
        RevokeText::Request(request) => return by_access_token(ask, request, &url, what).await,
    };
    match result {
        Ok(()) => RevokeResult::Yes,
        Err(failure) => RevokeResult::No(failure),
    }
}

/// Sends the access token alone, which must be valid: an expired one ends no refresh token.
async fn by_access_token(
    ask: &RequestContext<'_>,
    request: &RevocationRequest,
    url: &str,
    what: &Revocable,
) -> RevokeResult {
    let is_live = what.expires.is_none_or(|end| ask.now < end);
    let Some(token) = what.access.as_ref().filter(|_| is_live) else {
        return match what.refresh {
            Some(_) => RevokeResult::NeedsRenewal(expired()),
            None => RevokeResult::Expired { by_hand: ask.oauth.says.access_page.clone() },
        };
    };
    match send(ask, request, url, token).await {
        Ok(()) => RevokeResult::Yes,
        // Whether the grant is gone or only this token has ended, the refresh token shows.
        Err(failure) if what.refresh.is_some() && failure.may_be_of_token() => {
            RevokeResult::NeedsRenewal(failure)
        }
        Err(failure) => unless_gone(failure).map_or_else(RevokeResult::No, |()| RevokeResult::Yes),
    }
}

/// RFC 7009 §2.2: nothing is left to revoke if the token is not valid. Some services say `invalid_token` in place of 200.
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

/// Sends the access token as the request says.
async fn send(
    ask: &RequestContext<'_>,
    request: &RevocationRequest,
    url: &str,
    token: &Secret,
) -> Result<(), TokenFailure> {
    let mut params = Params::default();
    if request.place.is_some() {
        params.set("access_token", token.clone());
    }
    let mut proof = match request.client_auth {
        Some(method) => ask.prove(method, url, &mut params)?,
        None => ClientProof::default(),
    };
    if let Some((scheme, value)) = &request.authorization {
        let secret = match &**value {
            "client_secret" => ask.client.secret.client_secret.as_ref(),
            _ => Some(token),
        };
        proof.authorization = Some(authorization(scheme, secret)?);
    }
    let in_query = request.place == Some(RevokedTokenPlace::Query);
    let url = if in_query { params.in_query(url) } else { Zeroizing::new(url.to_owned()) };
    let method = request.method.parse().map_err(|_| bad_endpoint())?;
    let mut sent = ask.request(method, &url, Bytes::new())?;
    if request.place == Some(RevokedTokenPlace::Json) {
        let json = HeaderValue::from_static("application/json");
        sent.headers_mut().insert(header::CONTENT_TYPE, json);
        *sent.body_mut() = Bytes::copy_from_slice(&params.json());
    }
    let answer = ask.send(proof, sent).await?;
    judged(&ask.reading(&params, false), &answer)
}

/// `SCHEME VALUE`, marked sensitive.
fn authorization(scheme: &str, value: Option<&Secret>) -> Result<HeaderValue, TokenFailure> {
    let value = value.map(Secret::expose).unwrap_or_default();
    let text = Zeroizing::new([scheme.as_bytes(), b" ", value].concat());
    let value = HeaderValue::from_bytes(&text);
    let mut value = value.map_err(|_| TokenFailure::unreadable("the secret cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
