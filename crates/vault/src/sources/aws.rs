//! AWS Secrets Manager and the Parameter Store of Systems Manager, signed by Keyward's own signer.
//!
//! <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>
//! <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html>

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderName, Request, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::error::SourceError;
use super::request::{SourceContext, SourceRequest, base};
use keyward_model::{AwsService, AwsSource};
use keyward_rules::inject::sign::aws_request::Unsigned;
use keyward_rules::inject::sign::aws_sigv4::AwsKeys;

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// AWS JSON 1.1.
const JSON: &str = "application/x-amz-json-1.1";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SecretValue {
    secret_string: Option<String>,
    secret_binary: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ParameterAnswer {
    parameter: Parameter,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    value: String,
}

#[derive(Deserialize)]
struct AwsRefusal {
    #[serde(rename = "__type")]
    kind: String,
}

pub(super) async fn value(
    source: &AwsSource,
    requests: &SourceContext<'_>,
    now: Timestamp,
    name: &str,
) -> Result<String, SourceError> {
    match source.service {
        AwsService::SecretsManager => {
            let body = json!({ "SecretId": name });
            let ask = signed(source, requests, now, "secretsmanager.GetSecretValue", &body)?;
            let answer: SecretValue = requests.send_or(ask, refusal).await?;
            match (answer.secret_string, answer.secret_binary) {
                (Some(text), _) => Ok(text),
                (None, Some(coded)) => {
                    let bytes =
                        BASE64_STANDARD.decode(coded).map_err(|_| SourceError::Malformed)?;
                    String::from_utf8(bytes).map_err(|_| SourceError::Malformed)
                }
                (None, None) => Err(SourceError::Malformed),
            }
        }
        AwsService::ParameterStore => {
            let body = json!({ "Name": name, "WithDecryption": true });
            let ask = signed(source, requests, now, "AmazonSSM.GetParameter", &body)?;
            let answer: ParameterAnswer = requests.send_or(ask, refusal).await?;
            Ok(answer.parameter.value)
        }
    }
}

fn signed(
    source: &AwsSource,
    requests: &SourceContext<'_>,
    now: Timestamp,
    action: &str,
    body: &serde_json::Value,
) -> Result<SourceRequest, SourceError> {
    let service = match source.service {
        AwsService::SecretsManager => "secretsmanager",
        AwsService::ParameterStore => "ssm",
    };
    let usual = format!("https://{service}.{}.amazonaws.com", source.region);
    let url = format!("{}/", base(source.address.as_deref(), &usual));
    let body = body.to_string().into_bytes();
    let mut ask = SourceRequest::post(&url, JSON, body.clone())?.with(TARGET, action)?;
    let keys = AwsKeys {
        access_key_id: requests.credential("access_key_id")?.clone(),
        secret_access_key: requests.credential("secret_access_key")?.clone(),
        session_token: requests.credentials.get("session_token").cloned(),
        region: Some(source.region.as_str().into()),
        service: Some(service.into()),
    };
    sign(&keys, ask.request_mut(), &body, now)?;
    Ok(ask)
}

fn sign(
    keys: &AwsKeys,
    request: &mut Request<Bytes>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), SourceError> {
    let uri = request.uri().clone();
    let authority = uri.authority().ok_or(SourceError::Malformed)?.as_str();
    let plan = keys.read(uri.host().unwrap_or_default(), request.headers(), None);
    let plan = plan.map_err(|_| SourceError::Sign)?;
    let unsigned = Unsigned {
        method: "POST",
        authority,
        path: "/",
        fields: request.headers_mut(),
        body: Some(body),
        now,
    };
    keys.sign(&plan, unsigned).map(drop).map_err(|_| SourceError::Sign)
}

/// Refusals name their kind, sometimes after a namespace and `#`.
fn refusal(status: StatusCode, body: &[u8]) -> Option<SourceError> {
    let AwsRefusal { kind } = serde_json::from_slice(body).ok()?;
    let kind = kind.rsplit('#').next().unwrap_or_default();
    Some(match kind {
        "ResourceNotFoundException" | "ParameterNotFound" | "ParameterVersionNotFound" => {
            SourceError::NotFound
        }
        kind => {
            let is_word = kind.len() <= 64 && kind.bytes().all(|b| b.is_ascii_alphanumeric());
            SourceError::Status { status, detail: is_word.then(|| kind.to_owned()) }
        }
    })
}
