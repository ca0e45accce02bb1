//! Bitwarden Secrets Manager, by the access token of a machine account. The server has only ciphertext: the answer to the login
//! contains the organisation's key, encrypted with the key in the access token; values are encrypted with the organisation's key.
//!
//! <https://bitwarden.com/help/access-tokens/>
//! <https://bitwarden.com/help/secrets-manager-cli/#config>

use http::{HeaderName, StatusCode, header};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::bitwarden_cipher::{CipherKey, DecryptionError, TOKEN_KEY_LEN, decoded};
use super::error::SourceError;
use super::request::{SourceContext, SourceRequest, base, encoded};
use super::session::{LoginSlot, Protected, SourceLogin};
use keyward_base::secret::Secret;
use keyward_model::BitwardenSource;

const RULE: &str = "the id of a secret, such as be8e0ad8-d545-4017-a55a-b02f014d4158, or ID#MEMBER";

const DEVICE_TYPE: HeaderName = HeaderName::from_static("device-type");

/// The number of a program in the server's list of devices.
const PROGRAM: &str = "21";

/// Digits of an id between its hyphens.
const ID_PARTS: [usize; 5] = [8, 4, 4, 4, 12];

/// `0.ID.SECRET:KEY`.
struct AccessToken<'a> {
    id: &'a str,
    secret: &'a str,
    key: CipherKey,
}

#[derive(Deserialize)]
struct BitwardenLoginAnswer {
    access_token: String,
    #[serde(default)]
    expires_in: u64,
    encrypted_payload: String,
}

/// The encrypted part of the answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BitwardenPayload {
    encryption_key: String,
}

#[derive(Deserialize)]
struct BitwardenSecretAnswer {
    value: String,
}

#[derive(Deserialize)]
struct BitwardenRefusal {
    error: String,
}

/// A secret of the organisation.
struct BitwardenSecret<'a> {
    source: &'a BitwardenSource,
    requests: &'a SourceContext<'a>,
    url: String,
}

pub(super) async fn value(
    source: &BitwardenSource,
    requests: &SourceContext<'_>,
    login: &LoginSlot<'_>,
    id: &str,
) -> Result<String, SourceError> {
    if !is_id(id) {
        return Err(SourceError::Reference(RULE));
    }
    let url = format!("{}/secrets/{id}", base(Some(source.api()), ""));
    login.read(&BitwardenSecret { source, requests, url }).await
}

impl Protected for BitwardenSecret<'_> {
    type Answer = String;

    async fn log_in(&self) -> Result<SourceLogin, SourceError> {
        let token = AccessToken::parse(self.requests.credential_text("token")?)?;
        let url = format!("{}/connect/token", base(Some(self.source.identity()), ""));
        let form = format!(
            "grant_type=client_credentials&scope=api.secrets&client_id={}&client_secret={}",
            encoded(token.id),
            encoded(token.secret),
        );
        let ask =
            SourceRequest::post(&url, "application/x-www-form-urlencoded", form.into_bytes())?;
        let ask = ask.with(DEVICE_TYPE, PROGRAM)?.with(header::USER_AGENT, "Keyward")?;
        let answer: BitwardenLoginAnswer = self.requests.send_or(ask, refusal).await?;
        let key = token.organisation_key(&answer.encrypted_payload);
        let key = key.map_err(|error| SourceError::Decryption { what: "login's answer", error })?;
        let token = Secret::from(answer.access_token);
        Ok(SourceLogin { token, key: Some(key), seconds: answer.expires_in })
    }

    async fn read(&self, login: &SourceLogin) -> Result<String, SourceError> {
        let ask = SourceRequest::get(&self.url)?.bearer(&login.token)?;
        let ask = ask.with(DEVICE_TYPE, PROGRAM)?.with(header::USER_AGENT, "Keyward")?;
        let BitwardenSecretAnswer { value } = self.requests.send(ask).await?;
        let key = login.key.as_ref().ok_or(SourceError::Kind)?;
        let plain = CipherKey::new(key.expose()).and_then(|key| key.decrypt(&value));
        let plain = plain.map_err(|error| SourceError::Decryption { what: "value", error })?;
        String::from_utf8(plain.to_vec()).map_err(|_| SourceError::Malformed)
    }
}

impl<'a> AccessToken<'a> {
    fn parse(text: &'a str) -> Result<Self, SourceError> {
        let (names, key) = text.trim().split_once(':').ok_or(SourceError::AccessToken)?;
        let names: Vec<_> = names.split('.').collect();
        let ["0", id, secret] = names.as_slice() else { return Err(SourceError::AccessToken) };
        let key = decoded(key).map_err(|_| SourceError::AccessToken)?;
        let key: [u8; TOKEN_KEY_LEN] =
            key.as_slice().try_into().map_err(|_| SourceError::AccessToken)?;
        let key = CipherKey::of_access_token(&Zeroizing::new(key));
        Ok(Self { id, secret, key })
    }

    /// The organisation's key, of the answer to the login.
    fn organisation_key(&self, payload: &str) -> Result<Secret, DecryptionError> {
        let payload = self.key.decrypt(payload)?;
        let BitwardenPayload { encryption_key } =
            serde_json::from_slice(&payload).map_err(|_| DecryptionError::Form)?;
        let key = decoded(&Zeroizing::new(encryption_key))?;
        CipherKey::new(&key)?;
        Ok(Secret::new(key.to_vec()))
    }
}

fn is_id(text: &str) -> bool {
    let parts = text.split('-');
    let is_hex = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
    parts.clone().map(str::len).eq(ID_PARTS) && parts.into_iter().all(is_hex)
}

/// A token that is unknown or expired is answered with 400 and a code of OAuth.
fn refusal(status: StatusCode, body: &[u8]) -> Option<SourceError> {
    let code = serde_json::from_slice(body).ok().map(|BitwardenRefusal { error }| error);
    let is_code = |code: &String| {
        code.len() <= 64 && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    Some(SourceError::Status { status, detail: code.filter(is_code) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_access_token_is_refused_without_showing_it() {
        let id = "ec2c1d46-6a4b-4751-a310-af9601317f2d";
        for bad in [
            String::new(),
            format!("0.{id}.canary"),
            format!("1.{id}.canary:AAECAwQFBgcICQoLDA0ODw=="),
            format!("{id}.canary:AAECAwQFBgcICQoLDA0ODw=="),
            format!("0.{id}.can.ary:AAECAwQFBgcICQoLDA0ODw=="),
            format!("0.{id}.canary:AAECAwQFBgcICQoLDA0O"),
            format!("0.{id}.canary:?canary"),
        ] {
            let refused = AccessToken::parse(&bad).map(drop).unwrap_err();
            assert!(matches!(refused, SourceError::AccessToken), "{bad}: {refused}");
            assert!(!refused.to_string().contains("canary"), "{refused}");
        }
        for padding in ["==", "", "==\n"] {
            let text = format!("0.{id}.canary:AAECAwQFBgcICQoLDA0ODw{padding}");
            let token = AccessToken::parse(&text).unwrap();
            assert_eq!((token.id, token.secret), (id, "canary"));
        }
    }

    #[test]
    fn a_reference_must_be_a_uuid() {
        for bad in [
            "",
            "API_KEY",
            "be8e0ad8-d545-4017-a55a-b02f014d415",
            "be8e0ad8-d545-4017-a55a-b02f014d41588",
            "be8e0ad8d5454017a55ab02f014d4158",
            "../e0ad8-d545-4017-a55a-b02f014d4158",
            "be8e0ad8-d545-4017-a55a-b02f014d4158/",
        ] {
            assert!(!is_id(bad), "{bad}");
        }
        assert!(is_id("be8e0ad8-d545-4017-a55a-b02f014d4158"));
    }

    #[test]
    fn a_refused_login_names_the_code_and_no_other_text() {
        let told = |body: &str| {
            let refused = refusal(StatusCode::BAD_REQUEST, body.as_bytes()).unwrap();
            (refused.to_string(), refused.hint().is_some())
        };
        let (message, has_hint) = told(r#"{"error":"invalid_client","more":"canary"}"#);
        assert_eq!(message, "it answered 400 Bad Request (invalid_client)");
        assert!(has_hint);
        assert_eq!(told(r#"{"error":"a canary!"}"#).0, "it answered 400 Bad Request");
        assert_eq!(told("canary").0, "it answered 400 Bad Request");
    }
}
